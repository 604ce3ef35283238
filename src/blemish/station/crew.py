"""Threads that each look after one thing, a camera or a program elsewhere, as long as there is that thing."""

import threading
import time
from collections.abc import Callable, Hashable, Iterable
from typing import Generic, NamedTuple, TypeVar, final

RESTART_S = 5.0
"""A thread that ended although its thing is still there is begun again after so long."""

T = TypeVar("T", bound=Hashable)


@final
class _Member(NamedTuple):
    thread: threading.Thread
    stop: threading.Event
    since_s: float


@final
class Crew(Generic[T]):
    """One thread for each thing; `run` works until the event that it is given is set.

    No two work at once on things of which `needs` is the same, such as the camera that both would open.
    """

    def __init__(
        self, run: Callable[[T, threading.Event], None], needs: Callable[[T], Hashable] = lambda thing: thing
    ) -> None:
        self._run, self._needs = run, needs
        self._members: dict[T, _Member] = {}
        self._ending = list[tuple[Hashable, threading.Thread]]()

    def follow(self, wanted: Iterable[T]) -> None:
        """Let threads end for what is not there any more, and begin those for what is new or has changed.

        It waits for none: one that hangs on its camera holds up no other work.
        """
        wanted = set(wanted)
        self._let_end([thing for thing in self._members if thing not in wanted])
        self._ending = [one for one in self._ending if one[1].is_alive()]
        taken = {needed for needed, _ in self._ending}
        for thing in (one for one in wanted if self._needs(one) not in taken):
            member = self._members.get(thing)
            if member is None or (not member.thread.is_alive() and time.monotonic() - member.since_s > RESTART_S):
                stop = threading.Event()
                thread = threading.Thread(target=self._run, args=(thing, stop), daemon=True)
                thread.start()
                self._members[thing] = _Member(thread, stop, time.monotonic())

    def end(self) -> None:
        """End all threads, and wait for them."""
        self._let_end(list(self._members))
        for _, thread in self._ending:
            thread.join()

    def _let_end(self, things: list[T]) -> None:
        for thing in things:
            member = self._members.pop(thing)
            member.stop.set()
            self._ending.append((self._needs(thing), member.thread))
