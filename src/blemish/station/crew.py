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
    """One thread for each thing; `run` works until the event that it is given is set."""

    def __init__(self, run: Callable[[T, threading.Event], None]) -> None:
        self._run = run
        self._members: dict[T, _Member] = {}
        self._ending = list[threading.Thread]()

    def follow(self, wanted: Iterable[T]) -> None:
        """Let threads end for what is not there any more; once they have, begin those for what is new or has changed.

        It waits for none: one that hangs on its camera holds up no other work. Two would want the same camera.
        """
        wanted = set(wanted)
        self._let_end([thing for thing in self._members if thing not in wanted])
        self._ending = [thread for thread in self._ending if thread.is_alive()]
        for thing in () if self._ending else wanted:
            member = self._members.get(thing)
            if member is None or (not member.thread.is_alive() and time.monotonic() - member.since_s > RESTART_S):
                stop = threading.Event()
                thread = threading.Thread(target=self._run, args=(thing, stop), daemon=True)
                thread.start()
                self._members[thing] = _Member(thread, stop, time.monotonic())

    def end(self) -> None:
        """End all threads, and wait for them."""
        self._let_end(list(self._members))
        for thread in self._ending:
            thread.join()

    def _let_end(self, things: list[T]) -> None:
        for thing in things:
            member = self._members.pop(thing)
            member.stop.set()
            self._ending.append(member.thread)
