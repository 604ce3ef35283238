"""Runs of a comparison or a sweep as they come, with their progress."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

from blemish.data.progress import Progress, Report, quiet
from blemish.evaluation.compare.runs import MapRuns, OnRun, Outcome, Run, run_each


@final
@dataclass(frozen=True)
class Runner:
    """What does the runs of a comparison or a sweep, and who is told of them.

    `map_runs` may have them done elsewhere, such as on other machines that share the images and the output folder.
    """

    device: str = "auto"
    report: Report = quiet
    on_run: OnRun = lambda _: None
    map_runs: MapRuns = run_each

    def follow(self, runs: Sequence[Run], title: Callable[[int], str]) -> Iterator[tuple[Outcome, bool]]:
        """What came of each run in order, and whether files have to be written after it.

        Not after one that was kept, unless it is the last. `title` says what the run at a place is, for the progress.
        """
        outcomes = self.map_runs(runs, self.device, self.report)
        for place, run in enumerate(runs):
            self.report(Progress("runs", place, len(runs), title(place)))
            outcome = next(outcomes)
            self.on_run(outcome)
            yield outcome, outcome.status != "kept" or run is runs[-1]
        self.report(Progress("runs", len(runs), len(runs), ""))


HERE = Runner()
"""One run after the other in this process, and nobody is told."""
