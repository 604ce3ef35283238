"""What a shift was: counts, defect types, and, from the audit lane, escapes and false alarms with their intervals."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, final

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from blemish.errors import SettingsError
from blemish.station.reviews import HIDDEN, SHOWN, SHOWN_VERDICT, hidden_by_hour
from blemish.station.tables import Decision, DriftAlarm, Image, Note, Tally, Verdict
from blemish.stats.control_chart import ControlChart, laney_p_chart
from blemish.stats.intervals import Interval, rate_interval

DAYS = 7
"""The limits of the control chart come from so many days at least."""


@final
class Share(NamedTuple):
    """Some of many, with the Clopper-Pearson interval of the rate at 95 %."""

    hits: int
    of: int

    @property
    def interval(self) -> Interval:
        """Both ends."""
        return rate_interval(self.hits, self.of)


@final
class AuditShares(NamedTuple):
    """What the audit lane tells."""

    audited: int
    """Without those that the model was made of."""
    false_alarms: Share
    """Of the audited images that people call good: those we flagged."""
    misses: Share
    """Of the audited images that people call defective: those we let pass."""
    escapes: Share
    """Of the audited images we let pass: those that people call defective."""
    known: int
    """So many more were judged there, but count for nothing: the model was fitted or calibrated on them."""


@final
class Doubtful(NamedTuple):
    """Images that passed, but were odd enough for people to look at them; without those that wait in the audit lane."""

    images: int
    judged: int
    """So many of them people have called good or defective."""
    defective: int


@final
class Noted(NamedTuple):
    """What a person wrote about an image."""

    image_id: int
    image: str
    user_name: str
    text: str
    given_at: str


@final
class HourlyChart(NamedTuple):
    """The share of rejects hour by hour, over a week at least, with Laney's limits."""

    hours: list[str]
    """Up to the hour: `2026-11-26T07`."""
    of: list[int]
    chart: ControlChart
    first_shown: int
    """The first of the hours that belongs to the report; those before only make the limits."""


@final
class Report(NamedTuple):
    """A time from `start` up to `end`, in UTC, of one product or of all."""

    start: str
    end: str
    counts: dict[str, int]
    by_hour: list[tuple[str, dict[str, int]]]
    defect_types: list[tuple[str, int]]
    """What people called the defects, the most frequent first; "" where they gave no type."""
    judged_good: int
    judged_defective: int
    audit: AuditShares
    chart: HourlyChart | None
    """None: fewer than two hours with images."""
    alarms: list[DriftAlarm]
    """Drift that was noticed in this time."""
    doubtful: Doubtful
    notes: list[Noted]
    """On images of this time, whenever they were written."""


def utc_time(text: str | None) -> str:
    """A time of a form, in UTC where it does not say otherwise; "" where nothing is given.

    Raises:
        SettingsError: it is none.
    """
    if not text:
        return ""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        raise SettingsError(f"time '{text[:40]}': expected for example 2026-11-26T06:00") from None


def shift_report(session: Session, start: str, end: str, product_id: int | None = None) -> Report:
    """The report of the images that were decided in a time.

    Rates come from the audit lane alone, which is a random sample. Rejects that were looked through are none: nothing
    follows from them about what was let pass.
    """
    within = [Decision.decided_at >= start, Decision.decided_at < end]
    if product_id is not None:
        within.append(Decision.product_id == product_id)
    hour = func.substr(Decision.decided_at, 1, 13)
    by_hour: dict[str, dict[str, int]] = {}
    counted = select(hour, SHOWN_VERDICT, func.count()).join(Image, Image.id == Decision.image_id).where(*within)
    for at, verdict, count in session.execute(counted.group_by(hour, SHOWN_VERDICT.name).order_by(hour)):
        by_hour.setdefault(at, dict.fromkeys(SHOWN, 0))[verdict] = count
    is_doubted = and_(Decision.is_doubtful, SHOWN_VERDICT != HIDDEN)
    columns = (Verdict.lane, Verdict.defect_type, is_doubted.label("is_doubted"))
    said = _said().add_columns(*columns).join(Image, Image.id == Verdict.image_id).where(*within)
    rows = session.execute(said).all()
    last = {row.image_id: row for row in rows}
    types = Counter(row.defect_type for row in last.values() if row.judgement == "defective")
    called = Counter(row.judgement for row in last.values())
    doubted = Counter(row.judgement for row in last.values() if row.is_doubted)
    images = select(func.count()).select_from(Decision).join(Image, Image.id == Decision.image_id)
    doubtful = session.scalar(images.where(*within, Decision.is_doubtful.is_(True), SHOWN_VERDICT != HIDDEN)) or 0
    return Report(
        start=start,
        end=end,
        counts={name: sum(hour[name] for hour in by_hour.values()) for name in SHOWN},
        by_hour=list(by_hour.items()),
        defect_types=sorted(types.items(), key=lambda one: (-one[1], one[0])),
        judged_good=called["good"],
        judged_defective=called["defective"],
        audit=_audit_shares(row for row in rows if row.lane == "audit"),
        chart=hourly_chart(session, start, end, product_id),
        alarms=drift_alarms(session, start, end, product_id),
        doubtful=Doubtful(doubtful, doubted["good"] + doubted["defective"], doubted["defective"]),
        notes=_notes(session, within),
    )


def _notes(session: Session, within: Iterable[ColumnElement[bool]]) -> list[Noted]:
    query = select(Note, Decision.image_path).join(Decision, Decision.image_id == Note.image_id).where(*within)
    return [
        Noted(note.image_id, path, note.user_name, note.text, note.given_at)
        for note, path in session.execute(query.order_by(Note.id))
    ]


def hourly_chart(session: Session, start: str, end: str, product_id: int | None = None) -> HourlyChart | None:
    """The control chart of the rejects among the images that could be read, an hour a point.

    Images that wait in the audit lane, whose verdicts are hidden, are not among them yet.

    Its limits come from the week that ends with the report, or from its own time where that is longer: a shift alone
    has too few hours to tell what is usual.
    """
    try:
        week = (datetime.fromisoformat(end[:19]) - timedelta(days=DAYS)).isoformat()
    except (ValueError, OverflowError):
        raise SettingsError(f"end '{end[:40]}': expected for example 2026-11-26T06:00") from None
    query = select(Tally.hour, Tally.verdict, func.sum(Tally.images)).group_by(Tally.hour, Tally.verdict)
    first = min(start, week)[:13]
    query = query.where(Tally.hour >= first, Tally.hour <= end[:13], Tally.verdict != "unreadable")
    if product_id is not None:
        query = query.where(Tally.product_id == product_id)
    by_hour: dict[str, Counter[str]] = {}
    for hour, verdict, images in session.execute(query.order_by(Tally.hour)):
        by_hour.setdefault(hour, Counter())[verdict] = int(images)
    hidden = hidden_by_hour(session, first, product_id)
    by_hour = {hour: left for hour, counts in by_hour.items() if (left := counts - hidden.get(hour, Counter()))}
    hours, of = list(by_hour), [counts.total() for counts in by_hour.values()]
    chart = laney_p_chart([counts["anomalous"] for counts in by_hour.values()], of)
    return None if chart is None else HourlyChart(hours, of, chart, bisect_left(hours, start[:13]))


def drift_alarms(session: Session, start: str, end: str, product_id: int | None = None) -> list[DriftAlarm]:
    """The alarms that were raised in a time."""
    query = select(DriftAlarm).where(DriftAlarm.raised_at >= start, DriftAlarm.raised_at < end).order_by(DriftAlarm.id)
    return list(session.scalars(query if product_id is None else query.where(DriftAlarm.product_id == product_id)))


def summary_rows(report: Report) -> Iterator[tuple[object, ...]]:
    """The report itself as rows of a table, see `SUMMARY_FIELDS`."""
    yield from (("images", name, count, "", "", "", "", "") for name, count in report.counts.items())
    for name in ("false_alarms", "misses", "escapes"):
        share: Share = getattr(report.audit, name)
        yield "audit lane", name, share.hits, share.of, *share.interval, "", ""
    if report.doubtful.images:
        yield "doubtful", "images", report.doubtful.images, "", "", "", "", ""
        yield "doubtful", "defective", report.doubtful.defective, report.doubtful.judged, "", "", "", ""
    of = report.judged_defective
    yield from (("defect type", name, count, of, "", "", "", "") for name, count in report.defect_types)
    for alarm in report.alarms:
        yield "drift", alarm.stream, alarm.found, "", "", "", alarm.usual, alarm.raised_at
    if report.chart is not None:
        rows = list(zip(report.chart.hours, report.chart.of, report.chart.chart.points, strict=True))
        for hour, of, point in rows[report.chart.first_shown :]:
            yield "share of rejects", f"{hour}:00+00:00", point.share, of, point.low, point.high, "", ""


def audit_shares(session: Session, product_id: int | None = None) -> AuditShares:
    """What the audit lane has told of all images there ever were."""
    said = _said().where(Verdict.lane == "audit")
    if product_id is not None:
        said = said.where(Decision.product_id == product_id)
    return _audit_shares(session.execute(said))


def _said() -> Any:
    """What people said of images, in that order, and what we did."""
    query = select(Verdict.image_id, Verdict.judgement, Decision.verdict, Decision.is_known)
    return query.join(Decision, Decision.image_id == Verdict.image_id).order_by(Verdict.id)


def _audit_shares(said: Iterable[Any]) -> AuditShares:
    """From rows of `_said`; those that the model was made of do not count.

    The first verdict counts, who came later had seen ours.
    """
    first: dict[int, Any] = {}
    for row in said:
        first.setdefault(row.image_id, row)
    pairs = Counter((row.judgement, row.verdict) for row in first.values() if not row.is_known)
    return AuditShares(
        audited=pairs.total(),
        false_alarms=_share(pairs, hit=("good", "anomalous"), other=("good", "good")),
        misses=_share(pairs, hit=("defective", "good"), other=("defective", "anomalous")),
        escapes=_share(pairs, hit=("defective", "good"), other=("good", "good")),
        known=len(first) - pairs.total(),
    )


def _share(pairs: Counter[tuple[str, str]], hit: tuple[str, str], other: tuple[str, str]) -> Share:
    return Share(pairs[hit], pairs[hit] + pairs[other])


SUMMARY_FIELDS = ("part", "name", "value", "of", "low", "high", "usual", "time")
"""Of a row: what it is about, its value, of how many, both ends of its interval; of drift what was usual, and when."""
