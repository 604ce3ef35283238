"""The process that judges: it takes images in from folders and cameras, and decides what stands in the queue.

Killed at any moment it loses nothing and decides nothing twice: an image is in the queue from the transaction that
made it known to the one that holds its decision.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import final

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError, DataError
from blemish.inspection.reminding import Reminder
from blemish.station.cameras import CameraSettings, cameras_on
from blemish.station.capture import CameraReader
from blemish.station.chores import do_chores
from blemish.station.crew import Crew
from blemish.station.database import Database, reason
from blemish.station.drift import LineWatch
from blemish.station.folder import StationFolder
from blemish.station.intake import Inbox, WatchedFolder, note_trouble
from blemish.station.judge import Judge, Judged, commit, keep_map
from blemish.station.opcua import serve_opcua
from blemish.station.queue import Task, give_back, give_back_all, put_back, release_all, take
from blemish.station.room import NO_ROOM, DiskFullError, is_short
from blemish.station.shadow import ShadowJudge
from blemish.station.tables import Source
from blemish.station.telling import tell_hooks

POLL_S = 0.2
"""Seconds between two looks at watched folders."""

QUEUE_POLL_S = 0.05
"""Seconds between two looks at an empty queue: a program that waits for its verdict waits for these, too."""

TROUBLE_S = 2.0
"""Seconds to wait after the database has failed."""

PARENT = "BLEMISH_STATION_PARENT"
"""A variable with the process that has begun the worker, which ends with it; it may be gone before the worker looks."""

Say = Callable[[str], None]


@final
class Worker:
    """Judges until `stop` is set. One a station: the lock of the folder sees to it."""

    def __init__(
        self,
        database: Database,
        folder: StationFolder,
        say: Say,
        threads: int | None = None,
        settle_s: float = 1.0,
        opcua: str | None = None,
    ) -> None:
        self._opcua, self._failure, self._is_begun = opcua, "", False
        self._has_looked = threading.Event()  # at watched folders and cameras, for the first time
        self._database, self._folder, self._settle_s = database, folder, settle_s
        self._say = Reminder(say)
        self._judge = Judge(folder, threads)
        self._line = LineWatch(database, folder, self._say)
        self._shadow = ShadowJudge(database, folder, self._judge, self._say)
        self._owner = f"{socket.gethostname()}/{folder.id}"[:64]

    def run(self, stop: threading.Event, until_idle_s: float | None = None) -> bool:
        """Judge until told to stop, or until nothing has come for so many seconds; whether it was the latter.

        A database that fails is tried again, and where it fails for so many seconds, too, it is an error.

        Raises:
            DataError: another worker works for this station; or the database fails.
        """
        with self._folder.lock("worker", "judging for this station"):
            self._show_life()
            beside = [
                _beside(stop, self._take_in, stop),
                _beside(stop, tell_hooks, self._database, self._folder, self._say, stop),
                _beside(stop, do_chores, self._database, self._folder, self._say, stop),
            ]
            if self._opcua is not None:
                beside.append(_beside(stop, serve_opcua, self._database, self._opcua, self._say, stop))
            is_idle = self._work_until(stop, until_idle_s)
            stop.set()
            with suppress(SQLAlchemyError):  # what was not kept is looked at again
                self._line.save()
            for thread in beside:
                thread.join()
            self._folder.heartbeat.unlink(missing_ok=True)
        if is_idle and self._failure:
            raise DataError(
                f"{self._folder.root}: the database fails: {self._failure}; whether all images are judged is not known"
            )
        return is_idle

    def _work_until(self, stop: threading.Event, until_idle_s: float | None) -> bool:
        """Judge until told to stop; True where nothing has come for so many seconds."""
        parent, idle_since = int(os.environ.get(PARENT, os.getppid())), time.monotonic()
        while not stop.is_set() and os.getppid() == parent:  # not left behind by a station that was killed
            self._show_life()
            if self._work() or not self._has_looked.is_set():
                idle_since = time.monotonic()
            elif until_idle_s is not None and time.monotonic() - idle_since > until_idle_s:
                return True
            else:
                stop.wait(TROUBLE_S if self._failure else QUEUE_POLL_S)
        return False

    def _show_life(self) -> None:
        with suppress(OSError):  # a full disk is told by what fails next
            self._folder.heartbeat.touch()

    def _work(self) -> bool:
        """Judge some images; whether there were any."""
        try:
            if not self._is_begun:
                release_all(self._database, self._owner)
                self._is_begun = True
            if self._failure:
                give_back_all(self._database, self._owner)
            tasks = take(self._database, self._owner)
            stopped = self._line.look()
            with closing(self._judge.judge_all(tasks)) as all_judged:
                for task, judge in all_judged:
                    if task.product_id in stopped:
                        put_back(self._database, self._owner, task)
                        continue
                    self._decide(task, judge)
                    stopped |= self._line.look()
            self._failure = ""
            return bool(tasks) or self._shadow.step()
        except SQLAlchemyError as error:
            self._failure = reason(error)
            self._say(f"the database fails: {self._failure}")
            return False

    def _decide(self, task: Task, judge: Callable[[], Judged]) -> None:
        try:
            judged = judge()
        except BlemishError as error:
            self._say(str(error))
            give_back(self._database, self._owner, task, str(error))
            return
        decided = commit(self._database, self._owner, task, judged)
        is_kept = judged.prediction is not None and not is_short(self._folder.root)  # a map can be computed again
        if decided is not None and judged.prediction is not None and is_kept:
            try:
                keep_map(self._folder, task.image_id, judged.prediction.scored_map)
            except BlemishError as error:  # the page computes the map again where it is missing
                self._say(str(error))

    def _take_in(self, stop: threading.Event) -> None:
        inbox = Inbox(self._database, self._folder)
        watched: dict[int, WatchedFolder] = {}
        cameras: Crew[CameraSettings] = Crew(
            lambda one, end: CameraReader(inbox, one, self._say, end).run(), needs=lambda one: one.address
        )
        while not stop.is_set():
            try:
                cameras.follow(cameras_on(self._database))
                for source_id, path in watched_sources(self._database).items():
                    if source_id not in watched or watched[source_id].path != path:
                        watched[source_id] = WatchedFolder(inbox, source_id, path, self._settle_s, note=self._say)
                    self._look(watched[source_id], source_id)
            except SQLAlchemyError as error:
                self._say(f"the database fails: {reason(error)}")
                self._has_looked.set()
                stop.wait(TROUBLE_S)
            self._has_looked.set()
            stop.wait(POLL_S)
        cameras.end()

    def _look(self, folder: WatchedFolder, source_id: int) -> None:
        trouble = ""
        try:
            folder.look()
        except OSError as error:
            trouble = f"{folder.path}: {error.strerror}"
        except DiskFullError:
            trouble = f"{folder.path}: {NO_ROOM}"
        except BlemishError as error:
            trouble = str(error)
        note_trouble(self._database, source_id, trouble, self._say)


def _beside(stop: threading.Event, run: Callable[..., None], *arguments: object) -> threading.Thread:
    """A thread, begun; what nobody has thought of ends the worker, which is begun again, and not its thread alone."""

    def work() -> None:
        try:
            run(*arguments)
        except BaseException:
            stop.set()
            raise

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def watched_sources(database: Database) -> dict[int, Path]:
    """The folders that are watched, by the number of their source."""
    with database.read() as session:
        rows = session.execute(select(Source.id, Source.path).where(Source.kind == "folder", Source.is_on))
        return {row.id: Path(row.path) for row in rows}
