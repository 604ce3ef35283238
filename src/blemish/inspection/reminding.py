"""Trouble that lasts is said once a minute, not each time that something runs into it."""

import threading
import time
from collections.abc import Callable
from typing import final

REMIND_S = 60.0


@final
class Reminder:
    """Says what was not said within the last minute; from several threads, too.

    >>> said = Reminder(print)
    >>> said("the disk is full"); said("the disk is full")
    the disk is full
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()

    def __call__(self, text: str) -> None:
        """Say it, or not."""
        now_s = time.monotonic()
        with self._lock:
            self._said = {known: at_s for known, at_s in self._said.items() if now_s - at_s < REMIND_S}
            if text in self._said:
                return
            self._said[text] = now_s
        self._say(text)
