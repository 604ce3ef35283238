"""`blemish monitor`: has the line changed since the model was calibrated?"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple, final

import numpy as np

from blemish.data.files import exclusive_lock
from blemish.data.folder import file_id
from blemish.data.image_files import NOT_UTF8, photo_files, told_name
from blemish.data.images import Prepared, prepare_photo
from blemish.data.outputs import check_output
from blemish.data.photo_values import photo_values
from blemish.data.progress import OnStep, counted, tell_nobody
from blemish.errors import BadFileError, CalibrationError, DataError, join_names, none_readable, plural
from blemish.inference.monitor_state import Alarm, read_state, write_state
from blemish.inference.predictor import Predictor
from blemish.inspection.arrivals import Stamp
from blemish.inspection.monitor_bets import SCORE, Stream, Watch
from blemish.inspection.moving import file_stamp

SAVE_EVERY_S = 60.0
"""What a kill loses is watched again: the file may be of 1 MB, which is not written more often than need be."""

UNREADABLE = "!"
"""At the end of the key of a file that could not be read."""

_GONE = Stamp(-1, 0, 0, 0)
"""Of a link to nothing, or a file that is gone since: what is wrong with it is said where it is read."""

OnAlarm = Callable[[Alarm], None]


@final
@dataclass(frozen=True)
class Watched:
    """What a run of the monitor found; `images` over all runs, `new_images` in this one."""

    images: int
    new_images: int
    passed_over: int
    """Files that an earlier run had watched, or that the model was fitted or calibrated on."""
    copies: int
    """Files of the same content as images that were watched before; each image counts once."""
    skipped: dict[str, str]
    still_unreadable: tuple[str, ...]
    """Files that an earlier run could not read, and that have not changed since."""
    is_restarted: bool
    """The watch began again, because the model was calibrated again."""
    max_false_alarm_probability: float
    smallest_change: float
    log10_limit: float
    streams: dict[str, Stream]
    alarms: tuple[Alarm, ...]
    open_group: str | None
    """The group of the last image: counted when the next group begins."""
    notes: tuple[str, ...] = ()
    """On images of this run that were perhaps not read as they were meant."""


FROZEN = 20
"""So many copies in a row are told of at once: a camera that has stopped may send its last photo for ever."""


def monitor_images(
    predictor: Predictor,
    images: Iterable[Path] | Path,
    state_path: Path,
    rng: np.random.Generator,
    *,
    further: Sequence[Path] = (),
    max_false_alarm_probability: float | None = None,
    smallest_change: float | None = None,
    groups: str | None = None,
    skip_bad: bool = False,
    on_alarm: OnAlarm = lambda _alarm: None,
    on_copies: Callable[[int, str], None] = lambda _count, _name: None,
    on_image: OnStep = tell_nobody,
    is_current: Callable[[], bool] = lambda: True,
) -> Watched:
    """Watch images in the order they come, or the files of a folder in the order they were last changed.

    The files of `further` folders are taken among those of the first, such as the one rejects are moved to.
    The watch goes on from `state_path` and is kept there, also when it is interrupted. Files of a folder that an
    earlier run has seen are passed over, and so are images that the model was made of, and copies of those that
    were watched (see `REMEMBERED`); `on_copies` is told how many came in a row, `FROZEN`, and the name of the last.
    Without a probability it is the one before, or 1 %; without a smallest change likewise, or 0: every change counts.
    `is_current` is asked now and then whether the model file is still the one that is watched by.

    Raises:
        CalibrationError: the model does not know how bright or sharp good photos are; or it was calibrated again.
        DataError: an image cannot be read, unless `skip_bad`; none could ever be read; the state cannot be read or
            written, or another process keeps its watch there.
        SettingsError: another probability than before, or one outside (0, 1); groups that cannot be told; the state is
            that of another model.
    """
    check_output(state_path)
    with exclusive_lock(state_path.with_name(f".{state_path.name}.lock"), f"keeping a watch in {state_path}"):
        watch = Watch(predictor.header, read_state(state_path), max_false_alarm_probability, groups, smallest_change)
        return _Run(watch, predictor, state_path, rng, skip_bad, on_alarm, on_copies, on_image, is_current).watch_all(
            images, further
        )


class _File(NamedTuple):
    path: Path
    name: str
    """As a group is told from it: without the folder that was given."""
    folder: str | None = None
    key: str = ""


@final
@dataclass
class _Run:
    """A watch through one run, and what it has met there."""

    watch: Watch
    predictor: Predictor
    state_path: Path
    rng: np.random.Generator
    skip_bad: bool
    on_alarm: OnAlarm
    on_copies: Callable[[int, str], None]
    on_image: OnStep
    is_current: Callable[[], bool]

    def __post_init__(self) -> None:
        self._before = self.watch.images
        self._made_of = self.predictor.header.made_of()
        self._readings = self.predictor.header.new_readings()
        self._skipped = dict[str, str]()
        self._unreadable, self._still_unreadable = list[str](), list[str]()
        self._passed_over = self._copies = self._in_a_row = 0

    def watch_all(self, images: Iterable[Path] | Path, further: Sequence[Path]) -> Watched:
        """Watch images, and keep the watch now and then and at the end, where there is news."""
        saved, is_news = time.monotonic(), False
        try:
            for file in counted(self._files(images, further), self.on_image):
                raised = self._see(file)
                if raised is None:
                    continue
                is_news = self.watch.images > 0
                if raised or (is_news and time.monotonic() - saved > SAVE_EVERY_S):
                    self._save()
                    is_news, saved = False, time.monotonic()
                for alarm in raised:
                    self.on_alarm(alarm)
            if self._unreadable and not self.watch.images:
                raise DataError(none_readable(len(self._unreadable), "image", self._unreadable[0]))
        finally:
            if is_news:
                self._save()
        return self._found()

    def _files(self, images: Iterable[Path] | Path, further: Sequence[Path]) -> "Iterable[_File]":
        if not isinstance(images, Path):
            return (_File(path, path.name) for path in images)
        unnamed = list[Path]()
        files = _by_time([images, *further], self.watch.seen, unnamed if self.skip_bad else None)
        self._skipped.update((told_name(path), f"{told_name(path)}: {NOT_UTF8}") for path in unnamed)
        return files

    def _see(self, file: _File) -> list[Alarm] | None:
        """Watch a file; what that raises, and None for one that an earlier run had seen.

        Raises:
            DataError: it cannot be read, unless such files are left out.
        """
        seen = self.watch.seen.setdefault(file.folder, set()) if file.folder is not None else set()
        if file.key and file.key in seen:
            self._passed_over += 1
            return None
        if self.skip_bad and file.key and file.key + UNREADABLE in seen:
            self._still_unreadable.append(str(file.path))
            return None
        try:
            raised = self._look(file)
        except DataError as error:
            if not self.skip_bad:
                raise BadFileError(error) from None
            self._skipped[str(file.path)] = str(error)
            self._unreadable.append(str(error))
            seen.add(file.key + UNREADABLE)
            return []
        seen.add(file.key)
        return raised

    def _look(self, file: _File) -> list[Alarm]:
        """Watch an image that the model was not made of and that was not watched before."""
        identity = _id_of(file.path)
        if identity in self._made_of:
            self._passed_over += 1
            return []
        if identity in self.watch.ids:
            self._copies, self._in_a_row = self._copies + 1, self._in_a_row + 1
            if self._in_a_row == FROZEN:
                self.on_copies(self._in_a_row, file.name)
            return []
        self._in_a_row = 0
        prepared = prepare_photo(file.path, self.predictor.policy)
        raised = self.watch.look(file.name, values_of(self.predictor, prepared, file.path), self.rng)
        self._readings.add(file.name, prepared.reading)
        self.watch.remember(identity)
        return raised

    def _save(self) -> None:
        """Keep the watch, if it is still one over this model."""
        if not self.is_current():
            raise CalibrationError(
                f"the model was calibrated again while it watched, after {plural(self.watch.images, 'image')}; start "
                "the watch again"
            )
        write_state(self.state_path, self.watch.to_state())

    def _found(self) -> Watched:
        watch = self.watch
        return Watched(
            images=watch.images,
            new_images=watch.images - self._before,
            passed_over=self._passed_over,
            copies=self._copies,
            skipped=self._skipped,
            still_unreadable=tuple(self._still_unreadable),
            is_restarted=watch.is_restarted,
            max_false_alarm_probability=watch.delta,
            smallest_change=watch.smallest_change,
            log10_limit=math.log10(len(watch.martingales) / watch.delta),
            streams=watch.streams(),
            alarms=tuple(watch.alarms),
            open_group=None if watch.open_group is None else watch.open_group.group,
            notes=tuple(self._readings.notes),
        )


def _id_of(path: Path) -> str:
    try:
        return file_id(path)
    except DataError:
        return ""  # why it cannot be read is said where it is decoded


def to_json(found: Watched) -> str:
    """All that `blemish monitor` says, as JSON."""
    return json.dumps({**asdict(found), "alarms": [alarm.model_dump() for alarm in found.alarms]}, indent=2)


def values_of(predictor: Predictor, prepared: Prepared, path: Path) -> dict[str, float]:
    """What is watched of an image; `path` is for messages alone."""
    score = predictor.predict_prepared(prepared, path).score
    return {SCORE: score, **photo_values(prepared.pixels(), predictor.policy.roi)}


def _by_time(folders: Sequence[Path], seen: dict[str, set[str]], unnamed: list[Path] | None) -> list[_File]:
    """The image files of folders, the one first that was changed first; what is gone is forgotten.

    A file that was moved from one of them to another since it was seen stays one that was seen.
    """
    found = dict[str, tuple[int, _File]]()  # by their whole names: one folder may lie in another, which then has them
    for folder in sorted(folders, key=lambda folder: -len(folder.resolve().parts)):
        for changed_ns, file in _files_of(folder, unnamed):
            found.setdefault(f"{file.folder}/{file.name}", (changed_ns, file))
    if not found:
        where = "this folder" if len(folders) == 1 else "these folders"
        raise DataError(f"{join_names(list(map(str, folders)))}: no images in {where}")
    places = {folder.resolve().as_posix() for folder in folders}
    known = {key for place in places for key in seen.get(place, ())}
    for place in places:
        keys = {file.key for _, file in found.values() if file.folder == place}
        seen[place] = {key for key in known if key.removesuffix(UNREADABLE) in keys}
    return [file for _, file in sorted(found.values())]


def _files_of(folder: Path, unnamed: list[Path] | None) -> list[tuple[int, _File]]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    where = folder.resolve().as_posix()
    found = []
    for path in photo_files(folder, unnamed):
        stamp, name = file_stamp(path) or _GONE, path.relative_to(folder).as_posix()
        content = f"{name}\0{stamp.size}\0{stamp.changed_ns}"
        key = hashlib.blake2b(content.encode(), digest_size=8).hexdigest()
        found.append((stamp.changed_ns, _File(path, name, where, key)))
    return found
