"""The contents of `comparison.json`, `sweep.json` and `threshold.json`, typed: plain values, as the files have them."""

from typing import Any, Literal, NotRequired, TypedDict

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


class DetectorRank(TypedDict):
    """A detector over all data sets: the mean of a measure, its mean rank (1 is best), and the chance of each pair."""

    detector: str
    mean: float
    mean_rank: float
    chance_better_than: dict[str, float]


class Ranking(TypedDict):
    """One measure over data sets, best detector first; see `blemish.stats.comparing`."""

    measure: str
    datasets: list[str]
    critical_difference: float | None
    detectors: list[DetectorRank]


class Content(TypedDict):
    """`comparison.json`."""

    plan: PlanCard
    summary: list[Summary]
    rankings: list[Ranking]
    runs: list[RunRow]
    published_caveats: list[str]
    versions: dict[str, str]


class Point(TypedDict):
    """One run of a sweep; `scopes` as in `RunRow`."""

    detector: str
    value: str
    seed: int
    error: str | None
    scopes: dict[str, Values]
    settings: dict[str, Any]


class ValueSummary(TypedDict):
    """One detector at one value, over the seeds that finished; `label` is the value as it was given."""

    detector: str
    value: Any
    label: str
    seeds: int
    failed: int
    measures: Spreads


class SweepContent(TypedDict):
    """`sweep.json`: one setting at several values."""

    setting: str
    values: list[str]
    detectors: list[str]
    dataset: str
    seeds: int
    runs: int
    summary: list[ValueSummary]
    points: list[Point]
    versions: dict[str, str]


class Rates(TypedDict):
    """None: no pixel is known to be defective, or none is called so."""

    precision: float | None
    recall: float | None
    f1: float | None


class RatesAt(Rates):
    """`counted_at` is the threshold that the pixels were counted at, the nearest to the asked one."""

    threshold: float
    counted_at: float


class ImageRates(TypedDict):
    """Of one image at one threshold; without a mask there are no rates."""

    threshold: float
    precision: NotRequired[float | None]
    recall: NotRequired[float | None]
    f1: NotRequired[float | None]


class ShownImage(TypedDict):
    """The image that is shown at each threshold."""

    name: str
    defect_type: str
    at: list[ImageRates]
    scored_again: bool


class ThresholdCurve(TypedDict):
    """The rates over the threshold."""

    threshold: list[float]
    precision: list[float | None]
    recall: list[float | None]
    f1: list[float | None]


class ThresholdContent(TypedDict):
    """`threshold.json`; `at`, `at_marks` and `curves` by scope."""

    detector: str
    data: str
    images: int
    taus: list[float]
    at: dict[str, list[RatesAt]]
    at_marks: dict[str, dict[str, RatesAt]]
    curves: dict[str, ThresholdCurve]
    image: ShownImage
    versions: dict[str, str]
