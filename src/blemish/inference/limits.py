"""Limits on the first run of a network from a file: on time, and on memory where a process can limit its own."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TypeVar

from blemish.errors import ArtifactError
from blemish.inference.ending import held_up, leave_behind
from blemish.inference.forking import remember_thread

T = TypeVar("T")

MAX_FIRST_RUN_S = 60.0
"""To load a graph and judge one image. The thread of a graph that takes longer is left behind."""

MAX_FIRST_TORCH_S = 120.0
"""For the first image that a model in torch judges; what it does is as much for every image."""

MAX_MEMORY_BYTES = 6 << 30
"""Address space that this may take; half of the machine's memory, where that is less."""

_ONE_AT_A_TIME = threading.Lock()


def run_bounded(function: Callable[[], T], is_on_cpu: bool, max_s: float = MAX_FIRST_RUN_S) -> T:
    """What the function gives, or an error where it takes too long or too much memory.

    Memory is limited for the process while the function runs, so only where it `is_on_cpu`: GPU libraries reserve any
    amount of addresses.

    Raises:
        ArtifactError: it takes too long.
        Exception: what the function raises.

    >>> run_bounded(lambda: 2 + 2, is_on_cpu=True)
    4
    """
    found: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        remember_thread()
        try:
            with held_up(is_asked=True):  # whoever waits for it may be interrupted
                found.append(function())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True, name="blemish-first-run")
    with _limited_memory() if is_on_cpu else nullcontext():
        thread.start()
        thread.join(max_s)
    if thread.is_alive():
        leave_behind(thread)
        raise ArtifactError(f"it takes more than {max_s:g} s to judge one image")
    if raised:
        raise raised[0]
    return found[0]


@contextmanager
def _limited_memory() -> Iterator[None]:
    """One thread at a time, as the limit is the process's."""
    with _ONE_AT_A_TIME:
        limit = None
        with suppress(ModuleNotFoundError, OSError, ValueError):  # not Linux
            import resource

            before = resource.getrlimit(resource.RLIMIT_AS)
            page = os.sysconf("SC_PAGE_SIZE")
            with open("/proc/self/statm", "rb") as file:  # noqa: PTH123  # a file of the system
                now = int(file.read().split()[0]) * page
            allowed = now + min(MAX_MEMORY_BYTES, os.sysconf("SC_PHYS_PAGES") * page // 2)
            limit = None if 0 <= before[0] <= allowed else (allowed, before[1])
        if limit is None:
            yield
            return
        resource.setrlimit(resource.RLIMIT_AS, limit)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
