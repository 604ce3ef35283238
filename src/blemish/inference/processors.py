"""How many processors this process may use: of the machine, or of the share that a container was given."""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def usable_cores() -> int:
    """Cores that the scheduler gives this process, and no more than its time on processors fills.

    A limit on time (Docker's `--cpus`, a limit in Kubernetes) leaves all cores in sight; more threads than it pays for
    are all stopped together when the time is used up.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    paid = time_limit()
    return seen if paid is None else max(1, min(seen, math.ceil(paid)))


def restricted_cores() -> int | None:
    """The usable ones where the machine has more; None where all are usable."""
    usable = usable_cores()
    return usable if usable < (os.cpu_count() or 1) else None


def time_limit(root: Path = Path("/")) -> float | None:
    """How many processors' time the control groups of this process allow, of Linux's first kind or second; None: all.

    >>> time_limit(Path("/no/such/root")) is None
    True
    """
    with suppress(OSError, ValueError):
        return min(_limits(root), default=None)
    return None


def _limits(root: Path) -> Iterator[float]:
    """Of the group of this process and of each around it, as far as they can be seen."""
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, group = line.split(":", 2)
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        mounts = ("cpu", controllers) if controllers else ("", "unified")
        # In a container the group may have the host's name, and is found at the top.
        around = [Path(group.strip("/")), *Path(group.strip("/")).parents]
        for folder in (root / "sys/fs/cgroup" / mount / one for mount in dict.fromkeys(mounts) for one in around):
            if (limit := _limit(folder, is_second=not controllers)) is not None:
                yield limit


def _limit(folder: Path, is_second: bool) -> float | None:
    with suppress(OSError, ValueError, ZeroDivisionError):
        if is_second:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
        if quota not in ("max", "-1"):
            return float(quota) / float(period)
    return None
