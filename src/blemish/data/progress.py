"""Progress of long work, for whoever shows it."""

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import NamedTuple, TypeVar

T = TypeVar("T")


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


def counted(things: Iterable[T], on_step: OnStep) -> Iterator[T]:
    """Each thing, told of when it is done with; how many a stream brings is not known.

    >>> list(counted("ab", lambda done, total: print(done, "of", total)))
    1 of 2
    2 of 2
    ['a', 'b']
    """
    total = len(things) if isinstance(things, Sized) else 0
    for done, thing in enumerate(things, start=1):
        yield thing
        on_step(done, total)
