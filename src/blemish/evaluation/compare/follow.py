"""Runs of a comparison or a sweep as they come, with their progress."""

from collections.abc import Callable, Iterator, Sequence

from blemish.data.progress import Progress, Report
from blemish.evaluation.compare.runs import OnRun, Outcome, Run


def follow(
    runs: Sequence[Run], outcomes: Iterator[Outcome], report: Report, on_run: OnRun, title: Callable[[int], str]
) -> Iterator[tuple[Outcome, bool]]:
    """What came of each run in order, and whether files have to be written after it.

    Not after one that was kept, unless it is the last. `title` says what the run at a place is, for the progress.
    """
    for place, run in enumerate(runs):
        report(Progress("runs", place, len(runs), title(place)))
        outcome = next(outcomes)
        on_run(outcome)
        yield outcome, outcome.status != "kept" or run is runs[-1]
    report(Progress("runs", len(runs), len(runs), ""))
