"""Cameras and video streams as sources: added, shown without their passwords, and what the database keeps of them."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, final
from urllib.parse import urlsplit

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blemish.errors import SettingsError
from blemish.station.connections import Camera
from blemish.station.database import Database
from blemish.station.products import product_of
from blemish.station.tables import Source
from blemish.station.trail import STATION, append

SCHEMES = ("rtsp", "rtsps", "http", "https")
LONGEST_ADDRESS = 900
LONGEST_WAIT_S = 86_400.0
MISSING = "cameras need OpenCV, which is not installed; install it: pip install 'blemish[camera]'"


@final
class Pace(NamedTuple):
    """Which frames become images: one in `every_s` seconds, or where that is 0 every n-th."""

    every_frames: int = 1
    every_s: float = 0.0


@final
class CameraSettings(NamedTuple):
    """A camera that is read; `shown` is its address as pages, logs and the audit trail have it."""

    source_id: int
    address: str
    shown: str
    pace: Pace

    @property
    def is_file(self) -> bool:
        """Whether it is a video file, which has an end and can wait."""
        return is_video_file(self.address)


@final
class Counted(NamedTuple):
    """What has happened since it was written down last."""

    frames: int = 0
    lost: int = 0
    breaks: int = 0


def is_video_file(address: str) -> bool:
    """Whether an address is a file of this machine, neither a device's number nor a stream.

    >>> [is_video_file(address) for address in ("0", "rtsp://camera/1", "/videos/a.avi")]
    [False, False, True]
    """
    return not address.isdigit() and "://" not in address


def shown_address(address: str) -> str:
    """An address without user, password and query, of which cameras put passwords into each.

    >>> shown_address("rtsp://admin:secret@10.0.0.7:554/live/1?token=abc")
    'rtsp://10.0.0.7:554/live/1?...'
    >>> shown_address("rtsp://10.0.0.7/user=admin_password=abc_channel=1.sdp"), shown_address("0")
    ('rtsp://10.0.0.7/...', 'device 0')
    """
    if address.isdigit():
        return f"device {address}"
    if is_video_file(address):
        return address
    parts = urlsplit(address)
    path = "/".join("..." if "=" in part else part for part in parts.path.split("/"))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}{'?...' if parts.query else ''}"


def add_camera(database: Database, actor: str, product_id: int, address: str, pace: Pace) -> int:
    """Read a camera, a stream or a video file for images of a product; returns the number of the source.

    Raises:
        SettingsError: no such address, a pace out of range, read already, or OpenCV is missing.
        DataError: there is no such product.
    """
    address = checked_camera(address, pace)
    with database.write() as session:
        product_of(session, product_id)
        if session.scalar(select(Camera.source_id).where(Camera.address == address)) is not None:
            raise SettingsError(f"{shown_address(address)}: is read already; give another camera")
        shown = _unused(session, product_id, shown_address(address))
        source = Source(product_id=product_id, kind="camera", path=shown)
        session.add(source)
        session.flush()
        session.add(Camera(source_id=source.id, address=address, **pace._asdict()))
        append(
            session, actor, "source", shown[:255], {"product_id": product_id, "source_id": source.id, **pace._asdict()}
        )
        return source.id


def checked_camera(address: str, pace: Pace) -> str:
    """The address of a camera, as it is kept.

    Raises:
        SettingsError: no such address, a pace out of range, or OpenCV is missing.
    """
    checked = _checked_address(address.strip())
    _check_pace(pace)
    if find_spec("cv2") is None:
        raise SettingsError(MISSING)
    return checked


def _checked_address(address: str) -> str:
    if address.isascii() and address.isdigit() and len(address) <= 3:
        return str(int(address))
    if len(address) > LONGEST_ADDRESS or not address.isprintable():
        raise SettingsError(
            f"camera: an address of {len(address)} characters; at most {LONGEST_ADDRESS}, all printable"
        )
    if is_video_file(address):
        path = Path(address).expanduser().resolve()
        if not address or not path.is_file():
            named = "camera" if "@" in address else f"camera '{address}'"  # perhaps a stream without its rtsp://
            raise SettingsError(f"{named}: no device number, no address of a stream, and no file here")
        return str(path)
    try:
        parts = urlsplit(address)
        is_whole = parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
        if "@" in parts.path + parts.query + parts.fragment:  # what comes before it may be of a password
            raise SettingsError("camera: write / ? # and @ of a password or a path as %2F %3F %23 and %40")
    except ValueError:
        is_whole = False
    if not is_whole:
        raise SettingsError(
            f"camera: expected an address such as rtsp://10.0.0.7/live, with one of {', '.join(SCHEMES)}"
        )
    return address


def _check_pace(pace: Pace) -> None:
    if not 1 <= pace.every_frames <= 1_000_000:
        raise SettingsError(f"every_frames: found {pace.every_frames}; it must lie between 1 and 1000000")
    if not 0.0 <= pace.every_s <= LONGEST_WAIT_S:
        raise SettingsError(f"every_s: found {pace.every_s:g}; it must lie between 0 and {LONGEST_WAIT_S:g}")
    if pace.every_s > 0.0 and pace.every_frames > 1:
        raise SettingsError("every_frames and every_s: give one of them")


def _unused(session: Session, product_id: int, shown: str) -> str:
    """Two addresses may differ in what is not shown only: then they are numbered."""
    taken = set(session.scalars(select(Source.path).where(Source.product_id == product_id, Source.kind == "camera")))
    number, name = 1, shown
    while name in taken:
        number += 1
        name = f"{shown} #{number}"
    return name


def cameras_on(database: Database) -> list[CameraSettings]:
    """The cameras that are to be read now."""
    query = select(Camera, Source.path).join(Source, Source.id == Camera.source_id).where(Source.is_on)
    with database.read() as session:
        return [
            CameraSettings(row.source_id, row.address, shown, Pace(row.every_frames, row.every_s))
            for row, shown in session.execute(query)
        ]


def count(database: Database, source_id: int, counted: Counted) -> None:
    """Write down what has happened."""
    added = {name: getattr(Camera, name) + number for name, number in counted._asdict().items() if number}
    if added:
        with database.write() as session:
            session.execute(update(Camera).where(Camera.source_id == source_id).values(**added))


def end_source(database: Database, source_id: int) -> None:
    """A video file was read to its end: it is read no more, until a person switches it on again."""
    with database.write() as session:
        source = session.get(Source, source_id)
        if source is not None and source.is_on:
            source.is_on, source.trouble = False, ""
            append(
                session,
                STATION,
                "source",
                source.path[:255],
                {"source_id": source_id, "is_on": False, "why": "its end"},
            )
