"""The tables of what a station is connected to beside folders and webhooks: cameras, and brokers of MQTT."""

from typing import final

from sqlalchemy import ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from blemish.station.tables import BIG, Base


@final
class Camera(Base):
    """What is read for a source of the kind `camera`; the source itself has the address as it may be shown."""

    __tablename__ = "cameras"
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.id"), primary_key=True, autoincrement=False)
    address: Mapped[str] = mapped_column(Text)
    """With the password, where it has one: shown nowhere."""
    every_frames: Mapped[int] = mapped_column(default=1)
    every_s: Mapped[float] = mapped_column(default=0.0)
    """One frame in so many seconds; 0: `every_frames` counts."""
    frames: Mapped[int] = mapped_column(BIG, default=0)
    """How many were read, of which every n-th became an image."""
    lost: Mapped[int] = mapped_column(BIG, default=0)
    """How many of those that should have become images did not."""
    breaks: Mapped[int] = mapped_column(default=0)
    """How often the connection was lost."""


@final
class Broker(Base):
    """How a hook whose address is `mqtt://` or `mqtts://` logs in."""

    __tablename__ = "brokers"
    hook_id: Mapped[int] = mapped_column(ForeignKey("hooks.id"), primary_key=True, autoincrement=False)
    password_name: Mapped[str] = mapped_column(String(64), default="")
    """Of a file in `secrets/`, or of a variable of the environment; "": no password."""
    authority_name: Mapped[str] = mapped_column(String(64), default="")
    """Of a file in `secrets/` with the certificate (PEM) that the broker's is signed with; "": the system's."""
    discovery: Mapped[str] = mapped_column(String(64), default="homeassistant")
    """The topic that Home Assistant learns of sensors from; "": it is told nothing."""
