"""The tables of a station, as the newest migration leaves them.

Times are text in UTC, `2026-11-26T07:05:12.123456+00:00`, so that they sort as they are and read the same in every
database; leases are seconds since 1970.
"""

from typing import ClassVar, Literal, final, get_args

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Integer, MetaData, String, Text, UniqueConstraint, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from blemish.data.product_names import LONGEST_PRODUCT

BIG = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows itself only where they are INTEGER

Role = Literal["viewer", "operator", "engineer", "administrator"]
ROLES: tuple[Role, ...] = get_args(Role)
"""The weakest first; each may do what those before it may."""

Judgement = Literal["good", "defective", "unsure"]
JUDGEMENTS: tuple[Judgement, ...] = get_args(Judgement)


VERDICTS = ("good", "anomalous", "unreadable")
"""What may be decided of an image."""

DOUBTFUL = "doubtful"
"""In place of the verdict good where people are to look at the image, as the product says."""


class Base(DeclarativeBase):
    """What all tables have in common."""

    type_annotation_map: ClassVar = {float: Double}  # every bit of a score, in every database
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


@final
class Setting(Base):
    """One value by its name; `station_id` says whose database this is."""

    __tablename__ = "settings"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


@final
class Product(Base):
    """What a line makes: one model judges it, with one threshold."""

    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(LONGEST_PRODUCT), unique=True)
    model_id: Mapped[int | None]
    """The model that is live; None: images wait."""
    threshold: Mapped[float | None]
    """Set by a person; None: the model's own."""
    audit_rate: Mapped[float] = mapped_column(default=0.02)
    """Which share of all images people judge before they see our verdict."""
    doubt_rate: Mapped[float] = mapped_column(default=0.0)
    """What passes but at most this share of good parts resembles is doubtful, and shown to people; 0: nothing."""
    stops_when_withdrawn: Mapped[bool] = mapped_column(default=False)
    """Whether images wait once drift has withdrawn the guarantee; False: they are judged without one."""
    smallest_change: Mapped[float] = mapped_column(default=0.0)
    """A change of the line up to this share does not count as drift."""
    shadow_model_id: Mapped[int | None]
    """A model that judges the same images beside the live one, and decides nothing."""
    created_at: Mapped[str] = mapped_column(String(32))


@final
class Model(Base):
    """A model file that was brought here; its header as JSON, so that pages need not open it."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("product_id", "sha256"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    sha256: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(255))
    header: Mapped[str] = mapped_column(Text)
    parity: Mapped[str] = mapped_column(Text)
    """What the check of its own fixtures on this machine said."""
    origin: Mapped[str] = mapped_column(Text, default="")
    """Where it comes from, where it was made here; "": it was brought."""
    created_at: Mapped[str] = mapped_column(String(32))
    created_by: Mapped[str] = mapped_column(String(80))


@final
class Source(Base):
    """Where images of a product come from: a watched folder, or uploads."""

    __tablename__ = "sources"
    __table_args__ = (UniqueConstraint("product_id", "kind", "path"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    kind: Mapped[str] = mapped_column(String(16))
    path: Mapped[str] = mapped_column(String(1024), default="")
    is_on: Mapped[bool] = mapped_column(default=True)
    trouble: Mapped[str] = mapped_column(Text, default="")


@final
class Image(Base):
    """An image as it came; the same name with the same content from one source is the same image."""

    __tablename__ = "images"
    __table_args__ = (
        UniqueConstraint("source_id", "name", "sha256"),
        Index("ix_images_product_id_received_at", "product_id", "received_at"),
    )
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.id"))
    name: Mapped[str] = mapped_column(String(1024))
    """Its path in the source, with forward slashes."""
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    suffix: Mapped[str] = mapped_column(String(8))
    size_bytes: Mapped[int] = mapped_column(BIG)
    changed_ns: Mapped[int | None] = mapped_column(BIG)
    """When the file in a watched folder was last changed."""
    height_px: Mapped[int | None]
    width_px: Mapped[int | None]
    received_at: Mapped[str] = mapped_column(String(32))
    is_audit: Mapped[bool] = mapped_column(default=False)
    """Drawn for the audit lane, before anything was known about it."""
    removed_at: Mapped[str | None] = mapped_column(String(32))
    """When its file was removed, as the retention says; the row stays."""


@final
class Job(Base):
    """An image that is not judged yet; leased by a worker for a while."""

    __tablename__ = "jobs"
    image_id: Mapped[int] = mapped_column(BIG, ForeignKey("images.id"), primary_key=True, autoincrement=False)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    owner: Mapped[str] = mapped_column(String(64), default="")
    leased_until: Mapped[float] = mapped_column(default=0.0, index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    trouble: Mapped[str] = mapped_column(Text, default="")


@final
class Decision(Base):
    """What was decided about an image, by which model, with which threshold; one for each image."""

    __tablename__ = "decisions"
    __table_args__ = (
        Index("ix_decisions_product_id_verdict_score", "product_id", "verdict", "score"),
        Index("ix_decisions_product_id_decided_at", "product_id", "decided_at"),
        Index(
            "ix_decisions_doubtful",
            "product_id",
            sqlite_where=text("is_doubtful IS 1"),  # as queries say it, or the index is not used
            postgresql_where=text("is_doubtful IS true"),
        ),
    )
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    image_id: Mapped[int] = mapped_column(BIG, ForeignKey("images.id"), unique=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    image_path: Mapped[str] = mapped_column(String(1024))
    image_sha256: Mapped[str] = mapped_column(String(64))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    model_sha256: Mapped[str] = mapped_column(String(64))
    score: Mapped[float | None]
    p_value: Mapped[float | None]
    threshold: Mapped[float]
    verdict: Mapped[str] = mapped_column(String(16))
    is_doubtful: Mapped[bool] = mapped_column(default=False)
    """Good by the threshold, but odd enough for a person to look at it (`Product.doubt_rate`)."""
    is_known: Mapped[bool] = mapped_column(default=False)
    """The model was fitted or calibrated on this very image, so that nothing follows from it about others."""
    message: Mapped[str] = mapped_column(Text, default="")
    regions: Mapped[str] = mapped_column(Text, default="[]")
    photo_values: Mapped[str] = mapped_column(Text, default="{}")
    """Brightness, contrast, sharpness and centroid as JSON, for the watch over the line."""
    latency_ms: Mapped[float]
    decided_at: Mapped[str] = mapped_column(String(32))
    trail_seq: Mapped[int] = mapped_column(BIG, ForeignKey("trail.seq"))

    @property
    def kind(self) -> str:
        """The verdict as pages show it: doubtful in place of good, where it is."""
        return DOUBTFUL if self.is_doubtful else self.verdict


@final
class Tally(Base):
    """How many images of a product had a verdict in an hour: what pages count with."""

    __tablename__ = "tallies"
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    hour: Mapped[str] = mapped_column(String(13), primary_key=True)
    """The beginning of a time, up to the hour: `2026-11-26T07`."""
    verdict: Mapped[str] = mapped_column(String(16), primary_key=True)
    images: Mapped[int] = mapped_column(BIG)


@final
class Watch(Base):
    """The watch over the line that a model of a product is calibrated for, up to the last decision it saw."""

    __tablename__ = "watches"
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"), primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    state: Mapped[str] = mapped_column(Text)
    """A `MonitorState` as JSON; "": nothing can be watched."""
    last_decision_id: Mapped[int] = mapped_column(BIG)
    images: Mapped[int] = mapped_column(default=0)
    """Seen so far."""
    trouble: Mapped[str] = mapped_column(Text, default="")
    """Why nothing, or not everything, can be watched."""


@final
class DriftAlarm(Base):
    """The line has changed since a model was calibrated: its guarantee is withdrawn."""

    __tablename__ = "alarms"
    __table_args__ = (Index("ix_alarms_product_id_raised_at", "product_id", "raised_at"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"))
    stream: Mapped[str] = mapped_column(String(32))
    """What has changed: the score, or one of the photo's values."""
    usual: Mapped[float]
    found: Mapped[float]
    images: Mapped[int]
    """So many images the watch had seen."""
    image: Mapped[str] = mapped_column(String(1024))
    raised_at: Mapped[str] = mapped_column(String(32))
    trail_seq: Mapped[int] = mapped_column(BIG, ForeignKey("trail.seq"))


@final
class Shadow(Base):
    """What another model than the live one says of an image; nothing follows from it."""

    __tablename__ = "shadows"
    image_id: Mapped[int] = mapped_column(BIG, ForeignKey("images.id"), primary_key=True, autoincrement=False)
    model_id: Mapped[int] = mapped_column(ForeignKey("models.id"), primary_key=True)
    score: Mapped[float | None]
    threshold: Mapped[float]
    verdict: Mapped[str] = mapped_column(String(16))


@final
class Run(Base):
    """Long work that a person began from a page, in a process of its own: a training, a challenge, a recalibration."""

    __tablename__ = "runs"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int] = mapped_column(ForeignKey("products.id"))
    kind: Mapped[str] = mapped_column(String(16))
    asked: Mapped[str] = mapped_column(Text)
    """What it is about, as JSON."""
    state: Mapped[str] = mapped_column(String(16))
    """waiting, running, done, failed or cancelled."""
    is_cancelled: Mapped[bool] = mapped_column(default=False)
    """Asked to end."""
    result: Mapped[str] = mapped_column(Text, default="")
    """What was found, as JSON; or why it failed."""
    actor: Mapped[str] = mapped_column(String(80))
    created_at: Mapped[str] = mapped_column(String(32))
    ended_at: Mapped[str | None] = mapped_column(String(32))


@final
class Verdict(Base):
    """What a person said of an image."""

    __tablename__ = "verdicts"
    __table_args__ = (Index("ix_verdicts_image_id_lane", "image_id", "lane"),)
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    image_id: Mapped[int] = mapped_column(BIG, ForeignKey("images.id"))
    user_name: Mapped[str] = mapped_column(String(80))
    lane: Mapped[str] = mapped_column(String(16))
    judgement: Mapped[str] = mapped_column(String(16))
    defect_type: Mapped[str] = mapped_column(String(80), default="")
    given_at: Mapped[str] = mapped_column(String(32), index=True)
    trail_seq: Mapped[int] = mapped_column(BIG, ForeignKey("trail.seq"))


@final
class Note(Base):
    """What a person wrote about an image; another one may follow, but none is changed or removed."""

    __tablename__ = "notes"
    id: Mapped[int] = mapped_column(BIG, primary_key=True)
    image_id: Mapped[int] = mapped_column(BIG, ForeignKey("images.id"), index=True)
    user_name: Mapped[str] = mapped_column(String(80))
    text: Mapped[str] = mapped_column(Text)
    given_at: Mapped[str] = mapped_column(String(32))
    trail_seq: Mapped[int] = mapped_column(BIG, ForeignKey("trail.seq"))


@final
class User(Base):
    """Who may log in."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    password: Mapped[str] = mapped_column(String(255))
    """Argon2id, with its salt and costs."""
    role: Mapped[str] = mapped_column(String(16))
    is_active: Mapped[bool] = mapped_column(default=True)
    created_at: Mapped[str] = mapped_column(String(32))
    last_login_at: Mapped[str | None] = mapped_column(String(32))


@final
class Session(Base):
    """A browser that is logged in; known by the hash of what its cookie holds."""

    __tablename__ = "sessions"
    token_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    csrf: Mapped[str] = mapped_column(String(64))
    created_s: Mapped[float]
    seen_s: Mapped[float]


@final
class Token(Base):
    """A program that may call the API; known by the hash of its token."""

    __tablename__ = "tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str] = mapped_column(String(80))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(String(255))
    """Names with a space between."""
    created_at: Mapped[str] = mapped_column(String(32))
    used_at: Mapped[str | None] = mapped_column(String(32))


@final
class Hook(Base):
    """A program elsewhere that is told of every decision, in order; what it was not told yet waits in `decisions`."""

    __tablename__ = "hooks"
    id: Mapped[int] = mapped_column(primary_key=True)
    product_id: Mapped[int | None] = mapped_column(ForeignKey("products.id"))
    """None: of all products."""
    url: Mapped[str] = mapped_column(String(1024), unique=True)
    secret: Mapped[str] = mapped_column(String(64))
    """What it is signed with."""
    delivered: Mapped[int] = mapped_column(BIG)
    """The last decision it was told."""
    failures: Mapped[int] = mapped_column(default=0)
    """In a row."""
    trouble: Mapped[str] = mapped_column(Text, default="")


@final
class Entry(Base):
    """One link of the audit trail: what was done, by whom, and the SHA-256 of the entry before."""

    __tablename__ = "trail"
    seq: Mapped[int] = mapped_column(BIG, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(32), index=True)
    subject: Mapped[str] = mapped_column(String(255))
    detail: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
