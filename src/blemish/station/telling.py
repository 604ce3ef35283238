"""Every program elsewhere that is told of decisions has a thread of its own: one that is away holds up no other."""

import threading
from collections.abc import Callable

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from blemish.station.brokers import is_broker
from blemish.station.crew import Crew
from blemish.station.database import Database, reason
from blemish.station.folder import StationFolder
from blemish.station.hooks import tell_until
from blemish.station.mqtt import publish_until
from blemish.station.spool import LOOK_EVERY_S
from blemish.station.tables import Hook

Say = Callable[[str], None]
TROUBLE_S = 2.0
"""Seconds to wait after the database has failed."""


def tell_hooks(database: Database, folder: StationFolder, say: Say, stop: threading.Event) -> None:
    """Tell every hook what it was not told yet, until told to stop."""

    def tell_one(hook: tuple[int, str], end: threading.Event) -> None:
        hook_id, url = hook
        while not end.is_set():
            try:
                if is_broker(url):
                    publish_until(database, folder, hook_id, say, end)
                else:
                    tell_until(database, hook_id, say, end)
                end.wait(LOOK_EVERY_S)
            except SQLAlchemyError as error:
                say(f"the database fails: {reason(error)}")
                end.wait(TROUBLE_S)

    crew: Crew[tuple[int, str]] = Crew(tell_one)
    while not stop.is_set():
        try:
            with database.read() as session:
                crew.follow((row.id, row.url) for row in session.execute(select(Hook.id, Hook.url)))
        except SQLAlchemyError as error:
            say(f"the database fails: {reason(error)}")
        stop.wait(LOOK_EVERY_S)
    crew.end()
