"""The runs of `blemish compare` and `sweep`, each a Ray task."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace

from blemish.data.progress import Progress, Report, quiet
from blemish.evaluation.compare.runs import MapRuns, Outcome, Run, execute_run
from blemish.fleet.cluster import connected
from blemish.fleet.tasks import Needs, check_needs, run_tasks


@contextmanager
def ray_runs(address: str | None = None, gpus: float = 0.0) -> Iterator[MapRuns]:
    """What does runs with Ray, as many at once as there are processors: the same outcomes, in the same order.

    Each has one thread; its figures are those of `OMP_NUM_THREADS=1 blemish compare`, to the bit.

    Raises:
        SettingsError: Ray is missing or not at the address; no machine has so many GPUs.
    """
    needs = Needs(threads=1, gpus=gpus)
    with connected(address) as ray:
        check_needs(ray, needs)

        def map_runs(runs: Sequence[Run], device: str, report: Report) -> Iterator[Outcome]:
            ended: dict[int, Outcome] = {}

            def on_wait() -> None:
                report(Progress("with Ray", len(ended), len(runs)))

            work = functools.partial(execute_run, device=device, report=quiet)
            with closing(run_tasks(ray, work, runs, needs, on_wait=on_wait)) as tasks:
                for place, run in enumerate(runs):
                    while place not in ended:
                        done = next(tasks)
                        ended[done.place] = done.result or Outcome(run, "failed", error=done.error)
                    yield replace(ended.pop(place), run=run)

        yield map_runs
