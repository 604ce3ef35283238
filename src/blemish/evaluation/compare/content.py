"""The content of `comparison.json`, typed: plain values, as the file has them."""

from typing import Any, Literal, TypedDict

from blemish.evaluation.results import Values


class Spread(TypedDict):
    """A measure over seeds: mean, standard deviation (None of one value), smallest, largest and number of values."""

    mean: float
    std: float | None
    min: float
    max: float
    n: int


Spreads = dict[str, Spread | None]
"""By measure; None: no seed has it."""


class RunRow(TypedDict):
    """One run. `scopes` has its measures by scope and name; it is empty where the run failed."""

    dataset: str
    detector: str
    seed: int
    status: Literal["finished", "failed"]
    error: str | None
    has_paper_tau: bool
    scopes: dict[str, Values]
    count: dict[str, dict[str, int]]
    notes: dict[str, str]
    false_alarms: dict[str, Any] | None
    settings: dict[str, Any]


class Summary(TypedDict):
    """One dataset and detector: the spread of every measure over the seeds that finished, by scope."""

    dataset: str
    detector: str
    seeds: int
    failed: int
    scopes: dict[str, Spreads]


class PlanCard(TypedDict):
    """What was to be compared; `runs` is their number."""

    datasets: list[str]
    detectors: list[str]
    seeds: int
    runs: int
    assignments: list[str]
    evaluate: dict[str, Any]


class Content(TypedDict):
    """The file."""

    plan: PlanCard
    summary: list[Summary]
    runs: list[RunRow]
    published_caveats: list[str]
    versions: dict[str, str]
