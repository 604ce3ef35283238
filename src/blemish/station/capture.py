"""Frames of a camera, a stream or a video file become images: read in one thread, kept in another, so that a slow disk
does not hold the camera up.

Frames are lost where a live camera gives them faster than they can be kept, or where keeping them fails; each is
counted. A video file waits instead.
"""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, final

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError, DataError, SettingsError, plural
from blemish.station.cameras import MISSING, CameraSettings, Counted, count, end_source
from blemish.station.database import Database, reason
from blemish.station.intake import Inbox, note_trouble
from blemish.station.queue import waiting
from blemish.station.room import NO_ROOM, DiskFullError
from blemish.station.tables import Image

if TYPE_CHECKING:
    import cv2
    from cv2.typing import MatLike

ANSWER_MS = 5000
"""A stream that says nothing for so long is lost."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
HELD = 8
"""Frames held between camera and disk."""
WRITE_EVERY_S = 2.0
RETRY_S = 1.0
MOST_WAITING = 100
"""A video file is read no further while so many images wait to be judged."""

Say = Callable[[str], None]


@final
class Frame(NamedTuple):
    """A frame that becomes an image of that name."""

    name: str
    pixels: "MatLike"


@final
class Due:
    """Which frames become images, and under which names."""

    def __init__(self, camera: CameraSettings, frames_a_second: float) -> None:
        self._every_frames, every_s = camera.pace
        self._stem = Path(camera.address).stem if camera.is_file else ""
        self._every_s = 0.0
        if every_s > 0.0 and camera.is_file:
            if not frames_a_second > 0.0:
                raise DataError(f"{camera.shown}: says nothing of its frames a second; choose every n-th frame instead")
            self._every_frames = max(1, round(every_s * frames_a_second))
        else:
            self._every_s = every_s
        self._frame, self._next_s = -1, 0.0

    def name(self, at_s: float) -> str | None:
        """The name of the frame that comes next, at a time of the steady clock; None where it becomes no image."""
        self._frame += 1
        if self._every_s > 0.0:
            if at_s < self._next_s:
                return None
            steady_s = self._next_s + self._every_s
            self._next_s = steady_s if steady_s > at_s else at_s + self._every_s
        elif self._frame % self._every_frames:
            return None
        if self._stem:
            return f"{self._stem}-{self._frame:07}.png"
        return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}Z.png"


@contextmanager
def open_capture(camera: CameraSettings) -> Iterator["cv2.VideoCapture"]:
    """A camera that is open until the block ends.

    Raises:
        SettingsError: OpenCV is missing.
        DataError: it cannot be opened.
    """
    # What OpenCV and FFmpeg print has addresses with passwords in it.
    os.environ["OPENCV_LOG_LEVEL"], os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "SILENT", "-8"
    try:
        import cv2
    except ImportError:
        raise SettingsError(MISSING) from None
    if camera.address.isdigit():
        capture = cv2.VideoCapture(int(camera.address))
    else:
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, ANSWER_MS, cv2.CAP_PROP_READ_TIMEOUT_MSEC, ANSWER_MS]
        capture = cv2.VideoCapture(camera.address, cv2.CAP_FFMPEG, [] if camera.is_file else limits)
    try:
        if not capture.isOpened():
            raise DataError(f"{camera.shown}: cannot be opened; check that it is there, its address and its password")
        yield capture
    finally:
        capture.release()


@final
class FrameCount:
    """Frames read and lost, and connections lost, since they were put into the database last."""

    def __init__(self, database: Database, source_id: int) -> None:
        self._database, self._source_id = database, source_id
        self._counted, self._lock = Counted(), threading.Lock()

    def add(self, frames: int = 0, lost: int = 0, breaks: int = 0) -> None:
        """Count."""
        with self._lock:
            before = self._counted
            self._counted = Counted(before.frames + frames, before.lost + lost, before.breaks + breaks)

    def write(self) -> int:
        """Put the counts into the database; returns how many frames were lost since the last time."""
        with self._lock:
            counted, self._counted = self._counted, Counted()
        try:
            count(self._database, self._source_id, counted)
        except SQLAlchemyError:
            self.add(*counted)
            return 0
        return counted.lost


@final
class CameraReader:
    """Reads one camera until told to stop; a connection that is lost is tried again, with longer and longer pauses."""

    def __init__(self, inbox: Inbox, camera: CameraSettings, say: Say, stop: threading.Event) -> None:
        self._inbox, self._camera, self._say, self._stop = inbox, camera, say, stop
        self._held: queue.Queue[Frame | None] = queue.Queue(HELD)
        self._counts = FrameCount(inbox.database, camera.source_id)
        self._pause_s, self._is_failing = FIRST_PAUSE_S, False

    def run(self) -> None:
        """Read until told to stop, or to the end of a video file."""
        keeper = threading.Thread(target=self._keep_all, daemon=True)
        keeper.start()
        has_ended = False
        while not self._stop.is_set() and not has_ended:
            try:
                with open_capture(self._camera) as capture:
                    self._note("")
                    self._read(capture)
                has_ended = self._camera.is_file
                trouble = f"{self._camera.shown}: the connection is lost; it is tried again"
                self._counts.add(breaks=0 if has_ended else 1)
            except (BlemishError, SQLAlchemyError) as error:
                trouble = reason(error)
            except Exception as error:  # whatever it is, the camera is tried again; it may tell the password
                trouble = f"{self._camera.shown}: the camera fails ({type(error).__name__})"
            if not has_ended and not self._stop.is_set():
                self._note(trouble)
                self._stop.wait(self._pause_s)
                self._pause_s = min(2.0 * self._pause_s, LONGEST_PAUSE_S)
        self._held.put(None)
        keeper.join()
        if has_ended and not self._stop.is_set():
            with suppress(SQLAlchemyError):  # read again then, and known
                end_source(self._inbox.database, self._camera.source_id)

    def _read(self, capture: "cv2.VideoCapture") -> None:
        """Read until it ends, or is lost."""
        import cv2

        due = Due(self._camera, capture.get(cv2.CAP_PROP_FPS))
        known = self._known() if self._camera.is_file else set()
        while not self._stop.is_set() and capture.grab():
            self._pause_s = FIRST_PAUSE_S
            self._counts.add(frames=1)
            name = due.name(time.monotonic())
            if name is None or name in known:
                continue
            is_whole, pixels = capture.retrieve()
            if not is_whole or not self._hold(Frame(name, pixels)):
                self._counts.add(lost=1)

    def _known(self) -> set[str]:
        """Frames of a video file that were taken in before."""
        with self._inbox.database.read() as session:
            return set(session.scalars(select(Image.name).where(Image.source_id == self._camera.source_id)))

    def _hold(self, frame: Frame) -> bool:
        """Hand a frame to the other thread; False where a live camera cannot wait for it."""
        while not self._stop.is_set():
            try:
                self._held.put(frame, timeout=0.2)
                return True
            except queue.Full:
                if not self._camera.is_file:
                    return False
        return True

    def _keep_all(self) -> None:
        written_s, has_lost = time.monotonic(), False
        while True:
            try:
                frame = self._held.get(timeout=0.2)
                if frame is None:
                    break
                self._keep(frame)
            except queue.Empty:
                pass
            if time.monotonic() - written_s > WRITE_EVERY_S:
                lost, written_s = self._counts.write(), time.monotonic()
                if lost and not has_lost:
                    self._say(f"{self._camera.shown}: {plural(lost, 'frame')} lost; the page Products counts them")
                has_lost = lost > 0
        self._counts.write()

    def _keep(self, frame: Frame) -> None:
        """Make an image of a frame; one of a live camera is lost where that fails, a file's is tried again."""
        content = _as_png(frame)
        if content is None:
            self._counts.add(lost=1)
            return
        while True:
            try:
                self._inbox.receive(self._camera.source_id, frame.name, content)
                if self._is_failing:
                    self._note("")
                self._is_failing = False
                while self._camera.is_file and waiting(self._inbox.database) > MOST_WAITING:
                    if self._stop.wait(0.2):
                        break
                return
            except Exception as error:  # whatever it is, the frames after this one are kept where they can be
                self._is_failing = True
                why = NO_ROOM if isinstance(error, DiskFullError) else f"frames cannot be kept: {reason(error)}"
                self._note(f"{self._camera.shown}: {why}")
            if not self._camera.is_file:
                self._counts.add(lost=1)
                return
            if self._stop.wait(RETRY_S):
                return

    def _note(self, trouble: str) -> None:
        with suppress(SQLAlchemyError):  # said by whoever else needs the database
            note_trouble(self._inbox.database, self._camera.source_id, trouble, self._say)


def _as_png(frame: Frame) -> bytes | None:
    """None for a frame that OpenCV cannot write, as of two channels."""
    import cv2

    try:
        _, encoded = cv2.imencode(".png", frame.pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    except cv2.error:
        return None
    return encoded.tobytes()
