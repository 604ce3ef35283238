"""The content of `results.json`, typed; what it is made with (`EvaluateSettings`) is part of it."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, final

from pydantic import ConfigDict, Field, JsonValue

from blemish.settings import DataSettings, MaskValue, MaskValues, Settings
from blemish.stats import Counts

Range = tuple[float, float]
Values = dict[str, float | None]
"""Measures by name; None: it cannot be computed, and `notes` says why."""


@final
class EvaluateSettings(Settings):
    """How a model is judged."""

    paper_tau: Annotated[float, Field(ge=0.0)] = Field(0.2, description="The threshold of the paper.")
    paper_tau_by_type: dict[str, Annotated[float, Field(ge=0.0)]] = Field(
        {"hole": 0.25}, description="Defect types for which the paper takes another one."
    )
    aupro_limit: Annotated[float, Field(ge=1e-6, le=1.0)] = Field(
        0.3, description="AUPRO is the area up to this false-positive rate of the pixels."
    )
    repeats: Annotated[int, Field(ge=10, le=100_000)] = Field(
        1000, description="Bootstrap samples an interval is made from."
    )
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.95, description="How sure the intervals are.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Makes the intervals repeatable.")
    mask_value: MaskValue = Field(
        None,
        description="What marks a defective pixel in the masks, as data.mask_value. None: as the model was trained.",
    )
    full_size: bool = Field(
        True,
        description="Compare maps with masks in full resolution, at each photo's own size. False: at the model's, the "
        "masks reduced to it, which takes less time and memory on photos of many megapixels.",
    )
    ignore_value: MaskValue = Field(
        None,
        description="What marks a pixel that is not judged in the masks, as data.ignore_value. None: as the model was "
        "trained.",
    )
    conditions: Annotated[str, Field(max_length=4096)] | None = Field(
        None,
        description="CSV file with a column image and one for each condition (light, day, camera): false alarms and "
        "defects found are then told for each of its values.",
    )
    skip_bad: bool = Field(
        False,
        description="Leave out unreadable images, and list them, instead of stopping; an image whose "
        "mask cannot be used counts by its score alone.",
    )
    panels_per_type: Annotated[int, Field(ge=0, le=20)] = Field(2, description="Panels a defect type in the report.")
    worst: Annotated[int, Field(ge=0, le=50)] = Field(6, description="Misses and false alarms in the report.")

    def mask_values(self, data: DataSettings) -> MaskValues:
        """Those asked for, else those of training."""
        return {
            "mask_value": data.mask_value if self.mask_value is None else self.mask_value,
            "ignore_value": data.ignore_value if self.ignore_value is None else self.ignore_value,
        }

    def tau(self, defect_type: str) -> float:
        """The paper's threshold for a defect type (sections 5.3 to 5.6).

        >>> EvaluateSettings().tau("hole"), EvaluateSettings().tau("crack")
        (0.25, 0.2)
        """
        return self.paper_tau_by_type.get(defect_type, self.paper_tau)


@final
class ImageCount(Settings):
    """How many images there are, and how many of them are flagged."""

    images: int
    good: int
    defective: int
    with_mask: int
    flagged_good: int
    flagged_defective: int


@final
class AtThreshold(Settings):
    """Pixels counted at one threshold, and equations 1 to 4 of the paper."""

    threshold: float | None
    counts: Counts | None = None
    precision: float | None = None
    recall: float | None = None
    accuracy: float | None = None
    f1: float | None = None


class Section(Settings):
    """All measures of some of the images. `intervals` has [low, high] under the names of `image` and `pixel`."""

    count: ImageCount
    image: Values
    pixel: Values
    at_threshold: dict[str, AtThreshold]
    intervals: dict[str, dict[str, Range | None]]


@final
class ImageRow(Settings):
    """One test image; `counts` and `f1` by the thresholds of `at_threshold`."""

    path: str
    defect_type: str
    score: float
    p_value: float
    is_anomalous: bool
    counts: dict[str, Counts | None]
    f1: Values


@final
class FalseAlarms(Settings):
    """The false-alarm rate among good test images beside the promised one; see `realised_rate`."""

    rate: float | None
    interval: Range | None
    flagged: int
    good_images: int
    groups: int | None
    promised: float
    chance: float | None
    verdict: Literal["kept", "open", "broken"]


@final
class ConditionRow(Settings):
    """The images under one value of a condition.

    `relative_drop` is the share by which their AUROC lies below all images'. The promise is one over all good images
    alike; false alarms of a single condition may lie above it.
    """

    value: str
    false_alarms: FalseAlarms
    defective: int
    found: int
    interval: Range | None
    auroc: float | None
    relative_drop: float | None


@final
class SizeRow(Settings):
    """Defect regions of about one size: the root of their area over the image's shorter side, from to below.

    `found` have a pixel above the model's threshold; `covered` is the mean share of their pixels above it.
    """

    at_least: float
    below: float
    regions: int
    found: int
    interval: Range | None
    covered: float


@final
class Rung(Settings):
    """One false-alarm rate that may be allowed, and what is found at the threshold it asks for.

    `is_chosen`: it is the rate of the model file. `needed` calibration images, or groups, promise the rate (None: not
    known, with folds). Where there are fewer, `threshold`,
    `found` and `flagged` are None.
    """

    max_false_alarm_rate: float
    is_chosen: bool
    needed: int | None
    threshold: float | None = None
    defective: int
    found: int | None = None
    interval: Range | None = None
    good: int
    flagged: int | None = None


@final
class PromiseCard(Settings):
    """What the threshold stands for."""

    max_false_alarm_rate: float
    confidence: float | None
    kind: str
    sentence: str
    calibration_images: int
    calibration_groups: int | None
    calibrated_threshold: float


@final
class TestData(Settings):
    """The images judged; `fitted` and `calibrated` names those that the model was made with."""

    __test__ = False  # not a test of pytest's

    root: str
    skipped: dict[str, str]
    bad_masks: dict[str, str] = Field(default_factory=dict)
    """By image, why its mask cannot be used; such an image counts by its score alone."""
    fitted: list[str]
    calibrated: list[str]
    roi_share: float
    compared_px: tuple[int, int] | None = None
    """Height and width at which most maps are compared with masks; None: with no mask."""
    of_other_sizes: int = 0
    """How many maps are compared with masks at another height and width."""
    photo_px: tuple[int, int] | None = None
    """Height and width of most photos."""
    outside_roi: dict[str, float] = Field(default_factory=dict)
    """By image, the share of its marked pixels that lie outside the region of interest, where they are not counted."""


@final
class ModelFacts(Settings):
    """What is repeated of the model's header; more of it than is named here."""

    model_config = ConfigDict(extra="allow")

    detector: str
    parameters: int
    fit_seconds: float
    policy: dict[str, JsonValue]


@final
class Results(Section):
    """The content of `results.json`; `docs/reference/results.md` says what each part is."""

    by_type: dict[str, Section]
    images: list[ImageRow]
    notes: dict[str, str]
    threshold: float
    has_paper_tau: bool
    promise: PromiseCard
    realised_false_alarm_rate: FalseAlarms
    by_condition: dict[str, list[ConditionRow]] = Field(default_factory=dict)
    by_size: list[SizeRow] = Field(default_factory=list)
    ladder: list[Rung]
    next_steps: list[str]
    data: TestData
    latency_ms: float
    settings: EvaluateSettings
    model: ModelFacts
    data_card: dict[str, JsonValue]
    versions: dict[str, str]
    seconds: float


AS_READ = ("pages", "turned", "lossy_masks", "outlines", "profiles", "depth", "transparency", "exif", "coarse")
"""The notes on photos and masks that are read, but perhaps not as they were meant."""


def missing_notes(overall: Section, by_type: Mapping[str, Section]) -> dict[str, str]:
    """A sentence for each None among the measures, by its dotted name."""
    notes = {"images": "f1 is null for images without a known defective pixel, good images among them"}
    for prefix, section in {"": overall, **{f"by_type.{name}.": part for name, part in by_type.items()}}.items():
        lacks = _lacks(section.count)
        for group, values in section.model_dump(exclude={"count"}).items():
            reasons = [reason for what, reason in lacks.items() if (what, group) != ("masks", "image")]
            reason = "; ".join(reasons) or "too few images, or too few pixels, for this measure"
            notes.update({f"{prefix}{path}": reason for path in _nulls(values, group)})
    return notes


def _lacks(total: ImageCount) -> dict[str, str]:
    lacks = {}
    if not total.good:
        lacks["good"] = "there are no good test images"
    if not total.defective:
        lacks["defective"] = "there are no defective test images: evaluated for false alarms only"
    elif not total.with_mask:
        lacks["masks"] = "no defective image has a mask: evaluated by image only"
    return lacks


def _nulls(value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield path
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _nulls(inner, f"{path}.{name}")
