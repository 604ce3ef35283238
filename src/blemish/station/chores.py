"""What the worker does beside judging: removing what is kept no longer, and sending the head of the audit trail."""

import threading
import time
from collections.abc import Callable

from sqlalchemy.exc import SQLAlchemyError

from blemish.errors import BlemishError, plural
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.heads import send_daily
from blemish.station.retention import sweep

FIRST_S, SWEEP_EVERY_S, SEND_EVERY_S = 60.0, 3600.0, 600.0


def do_chores(database: Database, folder: StationFolder, say: Callable[[str], None], stop: threading.Event) -> None:
    """Do them until told to stop."""
    due = {sweep_and_say: time.monotonic() + FIRST_S, send_daily: time.monotonic() + FIRST_S}
    every = {sweep_and_say: SWEEP_EVERY_S, send_daily: SEND_EVERY_S}
    while not stop.wait(1.0):
        for chore, at in due.items():
            if time.monotonic() < at:
                continue
            try:
                chore(database, folder, say)
            except (SQLAlchemyError, BlemishError, OSError) as error:
                say(f"{str(error).partition(chr(10))[0]}; tried again later")
            due[chore] = time.monotonic() + every[chore]


def sweep_and_say(database: Database, folder: StationFolder, say: Callable[[str], None]) -> None:
    """Remove what is kept no longer."""
    removed = sweep(database, folder)
    if removed.images:
        say(f"retention: {plural(removed.images, 'image')} removed, {removed.size_bytes / 1e6:.0f} MB")
