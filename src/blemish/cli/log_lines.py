"""Progress in a log: a line now and then, where there is no terminal to draw a bar on."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from blemish.data.progress import Progress

FIRST_S, EVERY_S = 10.0, 30.0
"""Work that is over sooner says nothing; between two lines there are so many seconds, and a twentieth of all that the
work has taken so far where that is more."""


@final
@dataclass
class _Work:
    began: float
    done_before: int
    last: Progress
    is_told: bool = False

    @property
    def is_around(self) -> bool:
        """Whether other work is part of it, such as a training of many runs: it is told of before its first step."""
        return self.done_before == 0 and self.last.done < self.last.total


@final
class LogLines:
    """Writes how far long work is, with the time left; in one line with the work that it is part of.

    >>> lines = LogLines(print, now=iter([0, 0, 20, 40]).__next__)
    >>> for done in (0, 50, 100):
    ...     lines.report(Progress("challenging", done, 100))
    challenging 50 of 100, about 20 s left
    challenging 100 of 100, took 40 s
    """

    def __init__(self, write: Callable[[str], None], now: Callable[[], float] = time.monotonic) -> None:
        self._write, self._now = write, now
        self._began = self._told = now()
        self._wait = FIRST_S
        self._works: dict[str, _Work] = {}

    def report(self, progress: Progress) -> None:
        """Take in how far it is, and write a line if one is due."""
        now = self._now()
        work = self._works.get(progress.what)
        if work is None or progress.done < work.last.done:  # the same work again, on other images
            work = self._works[progress.what] = _Work(now, progress.done, progress)
        work.last = progress
        is_over = bool(progress.total) and progress.done >= progress.total
        if is_over and work.is_told:
            work.is_told = False
            self._say(f"{_how_far(progress)}, took {_duration(now - work.began)}", now)
        elif not is_over and now - self._told >= self._wait:
            under_way = [one for one in self._works.values() if one is work or one.is_around]
            for one in under_way:
                one.is_told = True
            self._say("; ".join(_line(one, now) for one in under_way), now)

    def _say(self, line: str, now: float) -> None:
        self._write(line)
        self._told, self._wait = now, max(EVERY_S, (now - self._began) / 20)


def _line(work: _Work, now: float) -> str:
    last, done = work.last, work.last.done - work.done_before
    note = f", {last.note}" if last.note else ""
    is_known = done > 0 and last.total > 0
    left_s = (now - work.began) / done * (last.total - last.done) if is_known else 0.0
    left = f", about {_duration(max(1.0, left_s))} left" if is_known else ""
    return f"{_how_far(last)}{note}{left}"


def _how_far(progress: Progress) -> str:
    return f"{progress.what} {progress.done}" + (f" of {progress.total}" if progress.total else "")


def _duration(seconds: float) -> str:
    """
    >>> _duration(89.6), _duration(600), _duration(9000)
    ('90 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
