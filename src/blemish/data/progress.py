"""Progress of long work, for whoever shows it."""

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """How far a piece of work is; `note` is a few words, such as the current loss. A `total` of 0: not known."""

    what: str
    done: int
    total: int
    note: str = ""


Report = Callable[[Progress], None]

OnStep = Callable[[int, int], None]
"""Told after each step, such as an image, how many are done, and of how many; 0: not known."""


def quiet(progress: Progress) -> None:
    """Reports nothing."""


def tell_nobody(done: int, total: int) -> None:
    """Counts steps for nobody."""
