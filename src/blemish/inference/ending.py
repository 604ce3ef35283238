"""While Python ends no thread is left inside a network or a training: coming back would abort the process (SIGABRT)."""

import atexit
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 30.0
"""So long the end of Python waits for networks and trainings that still run in daemon threads."""

_inside: set[int] = set()
"""Threads that run a network. No lock: a forked child could inherit it locked, and each change is one step."""

_is_ending = False


@contextmanager
def held_up(is_asked: bool = False) -> Iterator[None]:
    """Python does not end inside the block. A daemon thread that comes to it once Python ends goes no further.

    Unless another thread has asked for it, and waits.

    >>> with held_up():
    ...     threading.get_ident() in _inside
    True
    """
    me = threading.get_ident()
    is_outer = me not in _inside
    _inside.add(me)
    try:
        if not is_asked:
            stop_at_end()
        yield
    finally:
        if not is_asked:
            stop_at_end()  # also with an error, as of libraries that have gone already
        if is_outer:
            _inside.discard(me)


def stop_at_end() -> None:
    """Long work inside `held_up` calls it between two steps: once Python ends, a daemon thread goes no further."""
    if _is_ending and threading.current_thread() is not threading.main_thread():
        leave_behind(threading.current_thread())
        threading.Event().wait()


def leave_behind(thread: threading.Thread) -> None:
    """Let Python end without waiting for that thread any more."""
    _inside.discard(thread.ident or 0)


def _wait_for_networks() -> None:
    global _is_ending
    _is_ending, until_s = True, time.monotonic() + LONGEST_S
    while time.monotonic() < until_s and _inside & {thread.ident for thread in threading.enumerate()}:
        time.sleep(0.005)


atexit.register(_wait_for_networks)
