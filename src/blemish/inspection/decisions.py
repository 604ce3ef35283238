"""What was decided about an image, the same for `watch` and `inspect`."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, final

if TYPE_CHECKING:
    from blemish.data.images import Prepared
    from blemish.inference.artifact import ArtifactHeader
    from blemish.inference.predictor import Prediction, Predictor

MAX_REGIONS = 100
"""So many regions of an image are listed, those with the highest peaks; `region_count` counts all."""

Verdict = Literal["good", "anomalous", "unreadable"]

DOUBTFUL = "doubtful"

PAGE = "page 1 of "
"""So a message begins about a file of several pages."""

Entry = Verdict | Literal["model"]
"""A verdict; or `model`, where the model file was replaced during a watch, and no image was decided."""

RegionRow = dict[str, int | float]
"""A `Region` by the names of its fields; see inference/defect_regions.py."""


def now() -> str:
    """The time in UTC, so that times sort as they are."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@final
@dataclass(frozen=True)
class Decision:
    """What was decided about one image, or why nothing could be; the columns of a record, named as in a station."""

    image_path: str
    """In the watched folder, with forward slashes; or as it was given to `inspect`."""
    image_sha256: str
    """Of its content; empty where not even that could be read."""
    verdict: Entry
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    message: str = ""
    """Why it is unreadable; how it was perhaps not read as meant; what of the model has changed."""
    model_sha256: str = ""
    """Of the model file that decided."""
    region_count: int | None = None
    regions: list[RegionRow] | None = None
    """None where the map is not at hand: in a batch (`--fdr`) without a folder for its pictures."""
    latency_ms: float = 0.0
    decided_at: str = field(default_factory=now)
    picture: str = ""
    """The name of its pictures below `overlays/` and `masks/`."""
    drawn_at: float | None = None
    """The threshold of the pictures that were written of it; None: none were."""
    is_doubtful: bool | None = None
    """See `Prediction.is_doubtful`; None: no rate was given for it."""
    id: int = 0
    """Its number in the record; 0: it is in none."""

    @property
    def shown_verdict(self) -> str:
        """The verdict as people see it: doubtful in place of good, where it is."""
        return DOUBTFUL if self.is_doubtful else self.verdict


def to_decision(
    predictor: "Predictor", prediction: "Prediction", prepared: "Prepared", doubt_rate: float | None = None
) -> Decision:
    """What a prediction decides, of an image whose content is not told yet."""
    return Decision(
        image_path=prediction.path or "",
        image_sha256="",
        verdict="anomalous" if prediction.is_anomalous else "good",
        score=prediction.score,
        p_value=prediction.p_value,
        threshold=prediction.threshold,
        message=reading_message(prepared, predictor.header),
        model_sha256=model_sha256(predictor),
        region_count=len(prediction.regions),
        regions=[region._asdict() for region in prediction.regions[:MAX_REGIONS]],
        latency_ms=prediction.latency_ms,
        is_doubtful=None if doubt_rate is None else prediction.is_doubtful(doubt_rate),
    )


def model_sha256(predictor: "Predictor") -> str:
    """Of the model file; empty where it came from none."""
    return "" if predictor.source is None else predictor.source.sha256


def reading_message(prepared: "Prepared", header: "ArtifactHeader") -> str:
    """What is said of an image that is judged, but perhaps was not read as it was meant; empty of most."""
    is_grey = prepared.reading.is_grey and prepared.policy.channels == 3
    grey = "grey, and the model was trained on colour" if is_grey else ""
    said = (
        page_message(prepared.pages),
        grey,
        prepared.reading.message(prepared.policy.white_level, header.usual_enlargement),
    )
    return "; ".join(filter(None, said))


def page_message(pages: int) -> str:
    """What is said of an image of several pages or frames.

    >>> page_message(3), page_message(1)
    ('page 1 of 3 was judged, the others were not looked at', '')
    """
    return f"page 1 of {pages} was judged, the others were not looked at" if pages > 1 else ""
