"""Several things at once, their results in order: work goes on ahead of the one asked for, within a bound."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar, final

T = TypeVar("T")
R = TypeVar("R")

MOST_WORKERS = 4
"""More would hold more pictures in memory than they would save time."""


@final
@dataclass(frozen=True)
class Bound:
    """How much may be begun and not yet asked for: so many things, and so much weight in all."""

    things: int
    weight: int


def worker_count(threads: int | None) -> int:
    """Workers beside a network that runs in `threads`; None: as many as there are cores for this process."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MOST_WORKERS, threads or cores))


def work_ahead(
    function: Callable[[T], R],
    things: Iterable[T],
    workers: int,
    bound: Bound,
    weight: Callable[[T], int] = lambda _thing: 1,
) -> Generator[tuple[T, Future[R]], None, None]:
    """Every thing with the future of `function(thing)`, in order; `things` is drawn from in the caller's thread.

    A single thing may weigh more than the bound: it is then worked on alone. What has been begun is finished, and what
    has not is dropped, when the caller stops half way. The futures hold what `function` raised.

    Close it (`contextlib.closing`), lest the collector of garbage does: that runs in any thread, also in one that is
    just being started and holds the lock which waiting for the workers takes.

    >>> [future.result() for _, future in work_ahead(abs, [-1, 2, -3], workers=2, bound=Bound(2, 10))]
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="blemish")
    waiting: deque[tuple[T, Future[R], int]] = deque()
    held = 0
    try:
        for thing in things:
            heavy = weight(thing)
            while waiting and (len(waiting) >= bound.things or held + heavy > bound.weight):
                first, future, its = waiting.popleft()
                yield first, future
                held -= its
            waiting.append((thing, pool.submit(function, thing), heavy))
            held += heavy
        while waiting:
            first, future, _ = waiting.popleft()
            yield first, future
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
