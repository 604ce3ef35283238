"""`blemish watch`: judge images as a camera writes them, each exactly once, whatever happens in between.

For each image, in this order: its bytes are read once; they are judged; the decision is in the record, and on the disk;
then the export follows, and the file is moved, if it is to be. Where several images are ready and the model takes
several, some are read and judged ahead, and all else is done in the order in which they came.

So a watch that is killed has

- before the decision is on the disk: decided nothing, and judges the image again,
- between decision and move: decided, and only moves; what the export lacks is appended at the next start,
- after the move: nothing left to do.
"""

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, final

from PIL import Image

from blemish.data.decode import open_image, read_content
from blemish.data.files import check_writable, make_folder, remove_left_parts
from blemish.data.images import Prepared, prepare_content
from blemish.data.named_errors import DiskError
from blemish.data.outputs import refuse_good_folder, refuse_test_folder
from blemish.data.pixels import drawable
from blemish.data.readings import Readings
from blemish.errors import BlemishError, DataError, SettingsError, reason
from blemish.inference.predictor import Prediction, Predictor
from blemish.inspection.arrivals import Arrivals, Ready, Stamp, scan
from blemish.inspection.decisions import Decision, model_sha256, to_decision
from blemish.inspection.export import Export, files_to_write, is_earlier
from blemish.inspection.followed_model import FollowedModel, change_message
from blemish.inspection.moving import destination_for, file_stamp, move_away, restore_left
from blemish.inspection.pipeline import AHEAD, images_at_once, judge_ahead, picture_name, write_pictures
from blemish.inspection.record import WRITTEN_BY, Record
from blemish.inspection.reminding import Reminder
from blemish.inspection.slow_photos import SlowPhotos


@final
@dataclass(frozen=True)
class WatchSettings:
    """Where to look, where to write, and when a file is complete."""

    folder: Path
    to: Path
    """The record, .sqlite; or its export, .csv or .jsonl, and the record is beside it."""
    move_anomalous: Path | None = None
    out: Path | None = None
    """Folder for the overlay and the defect mask of each image, under its name and a piece of its SHA-256."""
    poll_s: float = 0.5
    settle_s: float = 1.0
    """An image is looked at when it has not changed for so long."""
    patience_s: float = 10.0
    """What is then no complete image is tried again, and called unreadable when it has not changed for so long."""
    retry_s: float = 2.0
    """After a disk that was full, or a file that could not be moved."""
    until_idle_s: float | None = None
    """Stop when nothing has come for so long and nothing waits. None: never."""
    doubt_rate: float | None = None
    """Whether an image is doubtful is written, at this rate; see `Prediction.is_doubtful`."""


@final
class Seen(NamedTuple):
    """What was found out about a file, when nothing has been done about it: why it is not decided about, if so."""

    content: bytes = b""
    sha256: str = ""
    known: Decision | None = None
    """What was decided about it before."""
    judged: tuple[Prepared, Image.Image, Prediction] | None = None
    took_s: float = 0.0
    why_not: str = ""
    is_complete: bool = False
    """It is of no use to wait for more of the file."""
    is_disk: bool = False
    """It was not to be had, and may be whole."""


@final
@dataclass(frozen=True)
class Callbacks:
    """Whom to tell of decisions and of trouble, and who says when to stop."""

    decision: Callable[[Decision], None]
    trouble: Callable[[str], None]
    wait: Callable[[float], bool]
    """Waits for so many seconds; True: stop."""
    begun: Callable[[], None] = lambda: None
    """Told when nothing stands in the way."""
    note: Callable[[str], None] = lambda _text: None
    """Told of photos that are slow, or perhaps not read as they were meant."""
    model: Callable[[Predictor, str], None] = lambda _predictor, _change: None
    """Told of another model that is used from now on, and what of it has changed."""


@final
@dataclass
class Watcher:
    """A watch over a folder."""

    predictor: Predictor
    settings: WatchSettings
    record: Record
    export: Export | None
    callbacks: Callbacks
    load: Callable[[], Predictor] | None = None
    """Loads the model again, where its file has changed; None: it is not looked at."""
    verdicts: Counter[str] = field(default_factory=Counter)
    """How many decisions there were, by verdict as it is shown."""

    def __post_init__(self) -> None:
        self._arrivals = Arrivals(self.settings.settle_s, max(self.settings.patience_s, self.settings.settle_s))
        self._names = self.record.paths()
        self._trouble = Reminder(self.callbacks.trouble)
        self._is_stuck = False
        self._unseen: str | None = None
        self._model = FollowedModel(self.predictor, self.load)
        self._slow = SlowPhotos()
        self._readings: Readings | None = self.predictor.header.new_readings()
        self._first_look_s = math.inf
        self._is_careful = self.record.was_left

    def run(self) -> None:
        """Watch until told to stop, or until it is idle for as long as the settings say.

        Raises:
            DataError: idle for so long because the folder cannot be read.
        """
        idle_since_s = time.monotonic()
        while True:
            started_s = time.monotonic()
            found = self._found()
            scanned_s = time.monotonic() - started_s
            if self._look(found, started_s) or self._arrivals.waiting:
                idle_since_s = time.monotonic()
            limit_s = self.settings.until_idle_s
            if limit_s is not None and not self._arrivals.waiting and time.monotonic() - idle_since_s >= limit_s:
                if self._unseen is not None:
                    raise DataError(self._unseen)
                return
            if self.callbacks.wait(max(self.settings.poll_s, scanned_s)):
                return

    def _found(self) -> dict[str, Stamp]:
        self._unseen = None
        try:
            found = scan(self.settings.folder, self._left_out)
            self._names &= found.keys()  # the record may have millions that are gone
            return found
        except OSError as error:
            self._unseen = f"{self.settings.folder}: cannot be read: {error.strerror}"
            self._trouble(f"{self._unseen}; trying again")
            return {}

    def _follow_model(self) -> None:
        """Use what is in the model file now; where it cannot be used, go on with what there was.

        Raises:
            DataError: the record cannot be written.
        """
        try:
            predictor = self._model.other()
        except DataError as error:
            self._trouble(str(error))
            return
        if predictor is None:
            return
        change = change_message(self.predictor, predictor)
        sha256, threshold = model_sha256(predictor), predictor.threshold
        self.record.add(Decision("", "", "model", threshold=threshold, message=change, model_sha256=sha256))
        self.predictor = predictor
        self._model.use(predictor)
        self._follow_record()
        self.callbacks.model(predictor, change)
        if self.settings.doubt_rate is not None:
            try:
                predictor.check_doubt_rate(self.settings.doubt_rate)
            except SettingsError as error:  # verdicts are given all the same
                self.callbacks.note(str(error))

    def _look(self, found: dict[str, Stamp], now_s: float) -> int:
        """See to the files that are ready; how many there were."""
        self._first_look_s = min(self._first_look_s, now_s)
        ready = self._arrivals.look(found, now_s)
        # After a restart all files are looked at once more, by their content; new ones need not wait for that.
        ready.sort(key=lambda one: one.name in self._names)
        self._is_stuck = False
        with closing(self._all_seen(ready)) as all_seen:
            for one, seen in all_seen:
                if self._is_stuck or self.callbacks.wait(0.0):
                    break
                may_others_wait = one.name in self._names
                try:
                    self._see_to(one, seen())
                except DataError as error:
                    self._trouble(f"{error}; trying again")
                    self._arrivals.try_again(one.name, time.monotonic() + self.settings.retry_s)
                if may_others_wait and time.monotonic() - now_s > self.settings.poll_s:
                    break
        return len(ready)

    def _all_seen(self, ready: Sequence[Ready]) -> Generator[tuple[Ready, Callable[[], Seen | None]], None, None]:
        """Each file in order, with what gives or raises what `_see` does; the model stays the same for some of them.

        Several at once, but the first ones after a watch that was killed: one of them may have ended it, and should not
        take with it what came before.
        """
        while ready:
            try:
                self._follow_model()
            except DataError as error:
                self._trouble(f"{error}; trying again")
                return
            at_once = images_at_once(self.predictor)
            some, ready = ready[: (count := AHEAD * at_once if at_once > 1 else 1)], ready[count:]
            if self._is_careful:
                at_once, self._is_careful = 1, False
            see = partial(self._see, at_once=min(at_once, len(some)))
            yield from judge_ahead(see, some, at_once, lambda one: self.settings.folder / one.name)

    def _see(self, ready: Ready, at_once: int = 1) -> Seen | None:
        """Read and judge a file, so many at once, and do nothing about it; None where it has changed meanwhile.

        Raises:
            ArtifactError: the model fails.
            DataError: the record cannot be read, which can be tried again.
        """
        path, started_s = self.settings.folder / ready.name, time.monotonic()
        try:
            content = read_content(path)
        except DataError as error:
            is_disk = isinstance(error, DiskError)
            return Seen(why_not=str(error), is_disk=is_disk) if file_stamp(path) == ready.stamp else None
        if file_stamp(path) != ready.stamp:
            return None  # the next look finds that
        sha256 = hashlib.sha256(content).hexdigest()
        if (known := self.record.find(ready.name, sha256)) is not None:
            return Seen(content, sha256, known)
        try:
            prepared, original = prepare_content(content, path, self.predictor.policy)
            prediction = self.predictor.predict_prepared(prepared, path)
        except DataError as error:
            is_complete = _is_complete(content, path, self.predictor.policy.max_image_px)
            return Seen(content, sha256, why_not=str(error), is_complete=is_complete)
        except BlemishError:  # it is the model's, and no image would fare better
            raise
        except Exception as error:  # whatever it is, the images after this one must not wait for a person
            return Seen(content, sha256, why_not=f"{path}: cannot be judged: {type(error).__name__}: {error}")
        took_s = (time.monotonic() - started_s) / at_once
        return Seen(content, sha256, None, (prepared, original, prediction), took_s)

    def _see_to(self, ready: Ready, seen: Seen | None) -> None:
        """Decide about a file and move it, unless that is done, or the file is not complete.

        Raises:
            DataError: the record cannot be written, or the file cannot be moved; both can be tried again.
        """
        if seen is None:
            return
        if seen.why_not:
            self._unreadable(ready, seen)
            return
        decision = seen.known
        if decision is None:
            decision = self._decision(ready, seen)
            self._decide(decision)
        if decision.verdict == "anomalous" and self.settings.move_anomalous is not None:
            to = destination_for(self.settings.move_anomalous / ready.name, seen.sha256)
            move_away(self.settings.folder / ready.name, ready.stamp, seen.content, to)
        self._arrivals.done(ready.name, ready.stamp)

    def _decision(self, ready: Ready, seen: Seen) -> Decision:
        """What the record will say of an image that was judged, when its pictures are drawn."""
        assert seen.judged is not None
        (prepared, original, prediction), started_s = seen.judged, time.monotonic()
        drawn_at = self._draw(original, prediction, ready.name, seen.sha256)
        came_s = ready.since_s if ready.since_s > self._first_look_s else None
        for note in self._slow.took(ready.name, came_s, seen.took_s + time.monotonic() - started_s):
            self.callbacks.note(note)
        self._note_reading(ready.name, prepared)
        found = to_decision(self.predictor, prediction, prepared, self.settings.doubt_rate)
        picture = picture_name(ready.name, seen.sha256)
        return replace(found, image_path=ready.name, image_sha256=seen.sha256, picture=picture, drawn_at=drawn_at)

    def _note_reading(self, name: str, prepared: Prepared) -> None:
        """Say once what of photos is perhaps not read as it was meant; the record says it of each."""
        if self._readings is not None:
            self._readings.add(name, prepared.reading)
            for note in self._readings.notes:
                self.callbacks.note(f"{name}: {note}; this is said once")
                self._readings = None

    def _draw(self, original: Image.Image, prediction: Prediction, name: str, sha256: str) -> float | None:
        """Write heat map and mask before the decision, and return their threshold: none in the record is without."""
        if self.settings.out is None:
            return None
        picture = drawable(original, self.predictor.policy.white_level, name)
        write_pictures(picture, prediction, self.settings.out, picture_name(name, sha256))
        return prediction.threshold

    def _unreadable(self, ready: Ready, seen: Seen) -> None:
        if self.record.find(ready.name, seen.sha256) is None:
            if not (seen.is_complete or ready.is_last_try):
                self._arrivals.try_last(ready.name)
                return
            model = model_sha256(self.predictor)
            self._decide(Decision(ready.name, seen.sha256, "unreadable", message=seen.why_not, model_sha256=model))
        if seen.is_disk and self.settings.until_idle_s is None:  # which may give it later
            self._arrivals.try_again(ready.name, time.monotonic() + self.settings.retry_s)
            return
        self._arrivals.done(ready.name, ready.stamp)

    def _decide(self, decision: Decision) -> None:
        self._is_stuck = True  # unless it is in the record: other images would fare no better
        self.record.add(decision)
        self._is_stuck = False
        self._names.add(decision.image_path)
        self.verdicts[decision.shown_verdict] += 1
        self._follow_record()
        try:
            self.callbacks.decision(decision)
        except OSError as error:
            self._trouble(f"decisions are in the record, but cannot be printed any more: {reason(error)}")

    def _follow_record(self) -> None:
        """Let the export say what the record says; where it cannot be written, the next decision tries again."""
        try:
            if self.export is not None:
                self.export.follow()
        except DataError as error:
            self._trouble(f"{error}; decisions are in the record {self.record.path}, and the export follows later")

    def _left_out(self, name: str, why: str) -> None:
        message = f"{self.settings.folder / name}: {why}"
        if name.endswith("/"):
            self._unseen = message
        self._trouble(message)


def _is_complete(content: bytes, path: Path, max_image_px: int) -> bool:
    """Whether an image has its end and can be decoded, so that waiting for more of it is of no use.

    Of other formats a file of full length may hold zeros that are not written over yet, and is decoded all the same.
    """
    try:
        return open_image(path, max_image_px, content).format in ("PNG", "JPEG", "MPO")
    except DataError:
        return False


def watch_folder(
    predictor: Predictor,
    settings: WatchSettings,
    callbacks: Callbacks,
    load: Callable[[], Predictor] | None = None,
) -> Counter[str]:
    """Watch a folder; how many decisions there were, by verdict as it is shown: doubtful ones are not counted as good.

    `load` loads the model again: it is used when the file of `predictor` has changed, as `blemish certify` changes it.

    Raises:
        DataError: no such folder, a record or a folder that cannot be written, or another watch writes that record.
        SettingsError: a record of another ending; a folder to write to inside the watched one; a rate at which nothing
            could be doubtful, or that an earlier export has no column for.
    """
    if settings.doubt_rate is not None:
        predictor.check_doubt_rate(settings.doubt_rate)
    folder = settings.folder
    if not folder.is_dir():
        what = "a file, not a folder to watch" if folder.exists() else "no such folder to watch; make it first"
        raise DataError(f"{folder}: {what}")
    for option, other in (("--move-anomalous", settings.move_anomalous), ("--out", settings.out)):
        if other is not None:
            _check_beside(folder, other, option)
    if settings.move_anomalous is not None:
        check_writable(folder / "moved.png")
    path, export = files_to_write(settings.to)
    if export is not None and settings.doubt_rate is not None and is_earlier(export):
        raise SettingsError(
            f"{export}: begun by an earlier version, without the column is_doubtful; move it away, and all of it is "
            "written again with that column"
        )
    with Record.open(path, {WRITTEN_BY: "watch"}) as record:
        written = None if export is None else Export(record, export)
        if written is not None:
            written.follow()
        restore_left(folder)
        watcher = Watcher(predictor, settings, record, written, callbacks, load)
        callbacks.begun()
        watcher.run()
        return watcher.verdicts


def _check_beside(folder: Path, other: Path, option: str) -> None:
    """Refuse a folder to write to in which images would be judged again, or taken for good ones."""
    if folder.resolve() in (other.resolve(), *other.resolve().parents):
        raise SettingsError(
            f"{option} {other}: inside the watched folder {folder}, where it would be judged again; name a folder "
            "beside it"
        )
    refuse_good_folder(other)
    if option == "--out":  # pictures; images may be moved among those of a type
        refuse_test_folder(other)
    check_writable(make_folder(other) / "moved.png")
    remove_left_parts(other, deep=True)
