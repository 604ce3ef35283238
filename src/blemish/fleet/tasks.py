"""Work in many pieces, each a Ray task: so many at once, tried again where a process died, in the order they end."""

import contextlib
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, final

from blemish.errors import DataError, SettingsError

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 3
"""How often a piece is tried again whose process or machine died."""


@final
class Needs(NamedTuple):
    """What a piece of work takes of the machine it runs on."""

    threads: int = 1
    gpus: float = 0.0


@final
class Done(NamedTuple):
    """A piece that ended: its place, and what it gave, or why it has died for good."""

    place: int
    result: Any = None
    error: str = ""


def check_needs(ray: Any, needs: Needs) -> None:
    """Refuse what no machine of the cluster has: Ray would wait for such a machine for ever.

    Raises:
        SettingsError: too many threads, or GPUs.
    """
    if needs.gpus < 0 or (needs.gpus > 1 and needs.gpus != int(needs.gpus)):
        raise SettingsError(f"--gpus {needs.gpus:g}: a share of one GPU, such as 0.5, or a number of them")
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("GPU", 0.0) >= needs.gpus for node in alive):
        raise SettingsError(
            f"--gpus {needs.gpus:g}: no machine of the cluster has so many; leave it out for processors"
        )
    if not any(node.get("CPU", 0.0) >= needs.threads and node.get("GPU", 0.0) >= needs.gpus for node in alive):
        most = max((node.get("CPU", 0.0) for node in alive), default=0.0)
        raise SettingsError(f"--threads {needs.threads}: the largest machine of the cluster has {most:g} processors")


def run_tasks(
    ray: Any,
    function: Callable[[T], R],
    pieces: Sequence[T],
    needs: Needs,
    at_once: int | None = None,
    on_wait: Callable[[], None] = lambda: None,
) -> Generator[Done, None, None]:
    """What a function gives of each piece, as they end; an error that it raises is raised here.

    The function runs in the folder that this process is in, which the machines of a cluster must share. `at_once` is
    how many run at a time, None: as many as there is room for. `on_wait` is called every second. Whoever stops to
    iterate stops the work.

    Raises:
        DataError: a machine does not see the folder.
    """
    from ray.exceptions import RayError, RayTaskError

    task = ray.remote(_in_folder).options(
        num_cpus=needs.threads,
        num_gpus=needs.gpus,
        max_retries=RETRIES,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(needs.threads)}},
    )
    here, left = str(Path.cwd()), iter(enumerate(pieces))
    running: dict[Any, int] = {}
    try:
        while True:
            while at_once is None or len(running) < at_once:
                if (following := next(left, None)) is None:
                    break
                running[task.remote(function, following[1], here)] = following[0]
            if not running:
                return
            ended, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
            on_wait()
            for reference in ended:
                place = running.pop(reference)
                try:
                    yield Done(place, ray.get(reference))
                except RayTaskError as error:
                    raise error.cause from None
                except RayError as error:
                    yield Done(place, error=f"its process died, {RETRIES} more times, too: {type(error).__name__}")
    finally:
        for reference in running:
            with contextlib.suppress(RayError):
                ray.cancel(reference, force=True)


def _in_folder(function: Callable[[T], R], piece: T, folder: str) -> R:
    """The function in the folder of the command, from which relative paths are meant."""
    try:
        os.chdir(folder)
    except OSError as error:
        node = os.uname().nodename if hasattr(os, "uname") else "a machine"
        raise DataError(f"{folder}: {node} does not see it: {error.strerror}; work in a folder they share") from None
    return function(piece)
