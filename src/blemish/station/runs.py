"""Long work that a person begins from a page: it runs in a process of its own, which a restart of the pages leaves be.

Its row in the store says how it stands, its folder `runs/NUMBER/` holds its log and how far it is. Whether it lives
still is told by a lock that it holds; one that was killed is called failed.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

from blemish.data.files import atomic_write, exclusive_lock, make_folder
from blemish.data.progress import Progress
from blemish.errors import BlemishError, DataError, SettingsError
from blemish.inspection.decisions import now
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.products import product_of
from blemish.station.tables import Run
from blemish.station.trail import STATION, append

OPEN = ("waiting", "running")
LOOK_EVERY_S = 0.5
START_S = 180.0
"""A process that has not begun after so long never will."""

IMAGES = "good"

LOG_BYTES = 16_000
"""So much of the end of a log is shown."""


@final
@dataclass(frozen=True)
class Doing:
    """A run, for whoever does the work of it."""

    database: Database
    folder: StationFolder
    product_id: int
    actor: str
    asked: dict[str, Any]
    out: Path
    """A folder of its own."""

    @property
    def images(self) -> Path:
        """Where images may be put together; gone when the run has ended."""
        return self.out / IMAGES

    def without_paths(self, text: str, what: str) -> str:
        """A text in which images that were put together have their names alone, and their folder is called `what`."""
        return text.replace(f"{self.images}{os.sep}", "").replace(str(self.images), what)

    def report(self, progress: Progress) -> None:
        """Say how far it is."""
        path = self.out / "progress.json"
        is_last = progress.done >= progress.total
        if is_last or not path.exists() or abs(time.time() - path.stat().st_mtime) > LOOK_EVERY_S:
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(progress._asdict()), encoding="utf-8")

    def say(self, text: str) -> None:
        """Put a line into the log."""
        with (self.out / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{text}\n")


@final
class Kind(NamedTuple):
    """A kind of run: what it does, the packages it needs that a station does not have by itself, and what refuses it
    before it begins.
    """

    work: Callable[[Doing], dict[str, Any]]
    needs: tuple[str, ...] = ()
    check: Callable[[dict[str, Any]], None] = lambda _asked: None

    @property
    def missing(self) -> list[str]:
        """Which of them are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def begin(
    database: Database, folder: StationFolder, actor: str, product_id: int, kind: str, asked: dict[str, Any]
) -> int:
    """Begin a run; one at a time in a station, for they take the processor from what is judged.

    The same that runs already, asked for by the same person, is that one: a form that was sent twice.

    Raises:
        SettingsError: another one runs, packages are missing, or it cannot do what is asked.
        DataError: there is no such product, or the folder cannot be written to.
    """
    from blemish.station.run_kinds import KINDS

    if missing := KINDS[kind].missing:
        raise SettingsError(
            f"{kind}: this station has no {missing[0]}; install it with: pip install 'blemish[station,train]'"
        )
    KINDS[kind].check(asked)
    settle(database, folder)
    with database.write() as session:
        product = product_of(session, product_id)
        what = {"product_id": product_id, "kind": kind, "asked": json.dumps(asked), "actor": actor}
        other = session.scalar(select(Run).where(Run.state.in_(OPEN)))
        if other is not None and all(getattr(other, name) == value for name, value in what.items()):
            return other.id
        if other is not None:
            raise SettingsError(f"run {other.id} is not done yet; wait for it, or cancel it")
        run = Run(**what, state="waiting")
        run.created_at = now()
        session.add(run)
        session.flush()
        (make_folder(out_of(folder, run.id)) / "log.txt").touch()  # tells how young it is
        append(session, actor, "run", product.name, {"run_id": run.id, "kind": kind, **asked})
    start(database, folder, run.id)
    return run.id


def start(database: Database, folder: StationFolder, run_id: int) -> None:
    """Start the process of a run; it belongs to nobody's session, and ends with its work."""
    command = [sys.executable, "-m", "blemish", "station", "run", str(folder.root), str(run_id)]
    # Not as an argument: everybody on the machine can read those.
    environment = {**os.environ, "BLEMISH_STATION_DATABASE": database.engine.url.render_as_string(hide_password=False)}
    with (out_of(folder, run_id) / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    threading.Thread(target=process.wait, daemon=True).start()  # no dead process is left behind


def perform(database: Database, folder: StationFolder, run_id: int) -> None:
    """Do the work of a run, in this process, which ends at once where it is cancelled.

    Raises:
        DataError: there is no such run, it was done before, or another process does it.
    """
    from blemish.station.run_kinds import KINDS

    with exclusive_lock(_lock(folder, run_id), "doing this run"):
        with database.write() as session:
            run = session.get(Run, run_id)
            if run is None or run.state != "waiting":
                raise DataError(f"run {run_id}: there is none that waits")
            run.state = "running"
        doing = Doing(database, folder, run.product_id, run.actor, json.loads(run.asked), out_of(folder, run_id))
        over = threading.Event()
        threading.Thread(target=_end_when_cancelled, args=(doing, run_id, over), daemon=True).start()
        try:
            state, result = "done", json.dumps(KINDS[run.kind].work(doing))
        except BlemishError as error:
            state, result = "failed", str(error)
        except Exception as error:
            traceback.print_exc()  # into the log
            state, result = "failed", f"{type(error).__name__}: {error}"
        finally:
            over.set()
            shutil.rmtree(doing.images, ignore_errors=True)
        finish(database, run_id, state, result)


def finish(database: Database, run_id: int, state: str, result: str = "") -> None:
    """Say how a run ended, unless it has ended before."""
    ended = update(Run).where(Run.id == run_id, Run.state.in_(OPEN))
    with database.write() as session:
        done = session.execute(ended.values(state=state, result=result, ended_at=now()))
        if done.rowcount:  # type: ignore[attr-defined]
            append(session, STATION, "run", run_id, {"run_id": run_id, "state": state})


def _end_when_cancelled(doing: Doing, run_id: int, over: threading.Event) -> None:
    while not over.wait(LOOK_EVERY_S):
        with suppress(SQLAlchemyError):  # it is asked again
            with doing.database.read() as session:
                asked = session.scalar(select(Run.is_cancelled).where(Run.id == run_id))
            if asked:
                finish(doing.database, run_id, "cancelled")
                shutil.rmtree(doing.images, ignore_errors=True)
                os._exit(0)  # whatever is written is written whole or not at all


def cancel(database: Database, folder: StationFolder, actor: str, run_id: int) -> None:
    """Ask a run to end.

    Raises:
        DataError: there is none.
    """
    with database.write() as session:
        run = session.get(Run, run_id)
        if run is None:
            raise DataError(f"run {run_id}: there is none")
        if run.state in OPEN and not run.is_cancelled:
            run.is_cancelled = True
            append(session, actor, "run", run_id, {"run_id": run_id, "cancelled": True})
    settle(database, folder)


def settle(database: Database, folder: StationFolder) -> None:
    """Call those failed whose process is gone without a word."""
    with database.read() as session:
        runs = list(session.scalars(select(Run).where(Run.state.in_(OPEN))))
    for run in runs:
        log = out_of(folder, run.id) / "log.txt"
        is_young = run.state == "waiting" and log.exists() and abs(time.time() - log.stat().st_mtime) < START_S
        if not is_young and not _is_alive(folder, run.id):
            shutil.rmtree(out_of(folder, run.id) / IMAGES, ignore_errors=True)
            text = "its process was ended: by hand, with the machine, or for want of memory; begin it again"
            finish(database, run.id, "cancelled" if run.is_cancelled else "failed", text)


def _is_alive(folder: StationFolder, run_id: int) -> bool:
    try:
        with exclusive_lock(_lock(folder, run_id), "doing this run"):
            return False
    except DataError:
        return True


def out_of(folder: StationFolder, run_id: int) -> Path:
    """The folder of a run."""
    return folder.root / "runs" / str(run_id)


def _lock(folder: StationFolder, run_id: int) -> Path:
    make_folder(out_of(folder, run_id))
    return out_of(folder, run_id) / ".lock"


def log_of(folder: StationFolder, run_id: int) -> str:
    """The end of what a run printed."""
    try:
        with (out_of(folder, run_id) / "log.txt").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def progress_of(folder: StationFolder, run_id: int) -> Progress | None:
    """How far a run is, where it has said so."""
    try:
        return Progress(**json.loads((out_of(folder, run_id) / "progress.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
