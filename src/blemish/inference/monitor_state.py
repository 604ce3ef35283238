"""What a watch over a line keeps from one run to the next: a JSON file, beside the model unless told otherwise.

A certificate is withdrawn when the watch over its own good images has raised an alarm. The file says whose watch it is,
so that calibrating again lifts the withdrawal, and nothing has to be deleted.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, final

from pydantic import Field, ValidationError

from blemish.data.files import atomic_write
from blemish.errors import DataError, plural
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.score import score_text
from blemish.settings import Settings, read_regular
from blemish.stats.martingale import Martingale

FORMAT = 2
"""Version of the file; another one is refused."""
MAX_STATE_BYTES = 1 << 28


@final
class Bets(Settings):
    """A `Martingale` as plain numbers; see stats/martingale.py."""

    values: tuple[float, ...]
    counts: tuple[int, ...]
    digits: int | None
    observed: int
    log_stakes: tuple[float, ...]
    log_peak: float
    p_value: float | None

    @classmethod
    def of(cls, martingale: Martingale) -> "Bets":
        """To be written."""
        return cls.model_validate(martingale.to_dict())

    def martingale(self) -> Martingale:
        """To go on with."""
        return Martingale.from_dict(self.model_dump())


@final
class Alarm(Settings):
    """That something has changed, and when it was noticed."""

    stream: str
    """score, or one of PHOTO_VALUES in data/photo_values.py."""
    images: int
    """How many images had been watched."""
    image: str
    """The last one of them."""
    usual: float
    """Median of the good images that were calibrated on."""
    now: float
    """Median of the last images before the alarm."""


@final
class OpenGroup(Settings):
    """A group whose last image may be still to come."""

    group: str
    values: tuple[dict[str, float], ...]


@final
class MonitorState(Settings):
    """A watch: the bets, the alarms, and where it stopped."""

    format: int = FORMAT
    model_id: str
    calibration_id: str
    max_false_alarm_probability: float = Field(gt=0.0, lt=1.0)
    smallest_change: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """See `Watch`."""
    images: int = 0
    streams: dict[str, Bets]
    recent: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    seen: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """By folder: which of its files have been watched, by name, size and time of the last change; with a mark at the
    end: which could not be read."""
    recent_ids: tuple[str, ...] = ()
    """The last images that were watched, by `file_id` in data/folder.py: a copy of one is no other image."""
    open_group: OpenGroup | None = None
    closed_groups: tuple[str, ...] = ()
    """The last ones, none of which may come back."""


def default_state_path(model: Path) -> Path:
    """Where a model's watch is kept, unless told otherwise."""
    return model.with_name(model.name + ".monitor.json")


def calibration_id(header: ArtifactHeader) -> str:
    """Tells the good images a model was calibrated on from others.

    Neither another threshold changes it, nor an export, nor calibrating on the same images again.
    """
    card = header.calibration
    content: list[Any] = sorted(card.image_ids) or [header.calibration_scores, sorted(card.photo_values.items())]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def model_id(header: ArtifactHeader) -> str:
    """Tells a model from others, however it is calibrated, trained or exported."""
    content = [header.data_card.files_sha256, header.run.model_dump_json()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def read_state(path: Path) -> MonitorState | None:
    """The watch in a file; None where there is no such file.

    Raises:
        DataError: it cannot be read, is something else, or of another format.
    """
    try:
        content: Any = json.loads(read_regular(path, MAX_STATE_BYTES).decode("utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        content = None
    found = content.get("format") if isinstance(content, dict) else None
    if found is not None and found != FORMAT:
        raise DataError(
            f"{path}: a watch of format {found}, this version reads format {FORMAT}; delete it to start over"
        )
    try:
        if content.pop("sha256") != _checksum(content):
            raise ValueError
        return MonitorState.model_validate(content)
    except (ValidationError, ValueError, AttributeError, KeyError, TypeError):
        raise DataError(
            f"{path}: not what `blemish monitor` wrote, or damaged; delete it to start the watch over"
        ) from None


def write_state(path: Path, state: MonitorState) -> None:
    """Write the watch, completely or not at all.

    Raises:
        DataError: it cannot be written there.
    """
    content = state.model_dump(mode="json")
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({**content, "sha256": _checksum(content)}) + "\n", encoding="utf-8")


def _checksum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def withdrawal(model: Path, header: ArtifactHeader, state: Path | None = None) -> Alarm | None:
    """The first alarm of the watch over a model's certificate; None while it stands.

    Raises:
        DataError: the file of the watch cannot be read.
    """
    watch = read_state(state or default_state_path(model))
    if watch is None or not watch.alarms or watch.calibration_id != calibration_id(header):
        return None
    if watch.model_id != model_id(header):
        return None
    return watch.alarms[0]


@final
class WithdrawalCheck:
    """Whether a model's certificate is withdrawn; the file of the watch is read only when it has changed."""

    def __init__(self, header: ArtifactHeader, state: Path) -> None:
        self._header, self._state = header, state
        self._stamp: tuple[int, int, int] | None = None
        self._alarm: Alarm | None = None

    def alarm(self) -> Alarm | None:
        """The first alarm of the watch; None while the certificate stands.

        Raises:
            DataError: the file of the watch cannot be read.
        """
        try:
            status = self._state.stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError:
            stamp = None
        if stamp != self._stamp:
            self._alarm = None if stamp is None else withdrawal(self._state, self._header, self._state)
            self._stamp = stamp
        return self._alarm


def withdrawn_message(alarm: Alarm) -> str:
    """What is said of a withdrawn certificate.

    >>> alarm = Alarm(stream="brightness", images=40, image="d.png", usual=0.5, now=0.4)
    >>> withdrawn_message(alarm)
    'the certificate is withdrawn: brightness has changed (0.5000 when calibrated, 0.4000 at the alarm, after 40
    images, at d.png); calibrate again with: blemish certify MODEL --good FOLDER'
    """
    return (
        f"the certificate is withdrawn: {alarm.stream} has changed ({score_text(alarm.usual)} when calibrated, "
        f"{score_text(alarm.now)} at the alarm, after {plural(alarm.images, 'image')}, at {alarm.image}); calibrate "
        "again with: blemish certify MODEL --good FOLDER"
    )
