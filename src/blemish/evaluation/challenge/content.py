"""The content of `challenge.json`, typed: plain values, as the file has them."""

from typing import Any, Literal, TypedDict

from blemish.evaluation.challenge.trials import Outcome


class SizeRow(TypedDict):
    """A detectable size; `px` is None where it lies beyond the sizes tested, where it would be the model's guess."""

    px: float | None
    status: Literal["found", "below_range", "above_range", "never"]


class PodLine(TypedDict):
    """The fitted curve and its band, at sizes to draw them by."""

    intercept: float
    slope: float
    scale: Literal["log", "linear"]
    method: Literal["maximum likelihood", "firth"]
    sizes_px: list[float]
    pod: list[float]
    low: list[float]
    high: list[float]


class PowerFit(TypedDict):
    """The curve and what is read off it; None where none could be fitted, and `note` says why."""

    fit: PodLine | None
    a50: SizeRow | None
    a90: SizeRow | None
    a90_95: SizeRow | None
    note: str


class Power(PowerFit):
    """How many defects of one type and contrast were found, and from which size on."""

    defects: int
    found: int
    elsewhere: int
    alarmed_before: int
    smallest_found_px: float | None
    largest_missed_px: float | None
    interval: list[float] | None


class Curve(Power):
    """`no_place` defects could not be put on a photo."""

    defect_type: str
    contrast: float
    no_place: int


class DefectRow(TypedDict):
    """One synthetic defect, as drawn, and what became of it."""

    defect_type: str
    contrast: float
    size_px: float
    photo: str
    outcome: Outcome


class Suspicious(TypedDict):
    """A photo given as good that is flagged without any synthetic defect."""

    path: str
    score: float
    p_value: float


class ModelCard(TypedDict):
    """The model that is challenged."""

    detector: str
    size_px: list[int]


class Photos(TypedDict):
    """The photos; `skipped` has what is wrong with a file by its name."""

    root: str
    photos: int
    skipped: dict[str, str]


class Content(TypedDict):
    """The file."""

    threshold: float
    max_false_alarm_rate: float
    model: ModelCard
    has_roi: bool
    data: Photos
    photos_with_part: int
    photo_size_px: list[int]
    sizes_px: list[float]
    settings: dict[str, Any]
    suspicious: list[Suspicious]
    curves: list[Curve]
    defects: list[DefectRow]
    versions: dict[str, str]
    more_than_promised: bool
    notes: list[str]
    seconds: float
