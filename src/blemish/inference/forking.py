"""While the process forks no other thread is inside a network: the child would wait for ever for a lock it holds."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 10.0
"""So long a fork waits for networks that other threads run, and for such threads to end."""

_inside: set[int] = set()
"""Threads that run a network."""

_ran: set[int] = set()
"""The system's numbers of threads that have run one: while it ends them they hold locks as well."""

_gate = threading.Lock()
"""Held while the process forks, by the thread that forks; to enter a network a thread takes it for a moment."""


@contextmanager
def not_forked() -> Iterator[None]:
    """No other thread forks the process inside the block.

    >>> with not_forked():
    ...     threading.get_ident() in _inside
    True
    """
    me = threading.get_ident()
    is_outer = me not in _inside
    if is_outer:
        remember_thread()
        with _gate:
            _inside.add(me)
    try:
        yield
    finally:
        if is_outer:
            _inside.discard(me)


def remember_thread() -> None:
    """A fork waits until this thread is gone, from when it ends; no longer than any wait."""
    if number := threading.current_thread().native_id:
        _ran.add(number)


def _are_ending() -> bool:
    """Whether threads that have run a network are no longer Python's, and still the system's (on Linux)."""
    try:
        _ran.intersection_update(map(int, os.listdir("/proc/self/task")))  # noqa: PTH208  # within microseconds
    except OSError:
        _ran.clear()
    return not _ran <= {thread.native_id for thread in threading.enumerate()}


def _before() -> None:
    _gate.acquire()
    until_s = time.monotonic() + LONGEST_S
    while (_inside - {threading.get_ident()} or _are_ending()) and time.monotonic() < until_s:
        time.sleep(0.001)


def _in_child() -> None:
    _inside.intersection_update({threading.get_ident()})
    _gate.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_gate.release, after_in_child=_in_child)
