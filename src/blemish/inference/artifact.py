"""One file a trained model: safetensors with a JSON header. No pickle, no torch.

The header holds everything that is not a tensor: settings, pixel policy, the raw calibration scores and the threshold,
the data card, the loss curve, versions. A SHA-256 over header and tensors shows damage and tampering; it is no
signature: someone who changes the file on purpose can also write a new one.
"""

import base64
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, final

from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy
from blemish.data.readings import Readings
from blemish.data.roi import decode_roi
from blemish.errors import ArtifactError
from blemish.hub.folder import EncoderCard
from blemish.inference.calibration import CalibrationCard, promise, score_p_value
from blemish.inference.tensor_file import Tensors, parse_tensors, write_tensors
from blemish.inference.trust import read_model_file
from blemish.settings import LARGEST_IMAGE_PX, RunSettings, Settings, first_problem
from blemish.stats.conformal import Certificate

FORMAT, OLDEST = 3, 2
"""Version of the file format, and the oldest that is read; another one is refused, with what to do.

2: PaDiM judges by the features of each place alone, so that a file of format 1 would be read with features it was not
fitted on; encoders have names. 3: the network may see a part of a photo; a file of format 2 shows it all.
"""

FIXTURE = "fixture."
"""Tensors under this prefix are good images to check an export with, not part of the detector's state."""


MAX_DETECTORS = 1000
"""Of one model, which judge together."""

MAX_TILES = 20_000
"""Of an image."""

MAX_NETWORK_PX = 1 << 24
"""Pixels that a network sees at a time."""


@final
class DataCard(Settings):
    """What the model was made from."""

    root: str
    fit_images: int
    calibration_images: int
    photo_px: tuple[int, int] | None = None
    """The height and width that most of the good images have as files; None in older models."""
    skipped: dict[str, str] = Field(default_factory=dict)
    files_sha256: str
    fit_ids: tuple[str, ...] = ()
    """The images fitted on, by their contents (`file_id` in data/folder.py): none of them may be calibrated on."""
    fit_pixel_ids: tuple[str, ...] = ()
    """The same images by their pixels (`pixels_id` in data/pixels.py), however their files were saved."""
    groups_sha256: str = ""
    fit_groups: tuple[str, ...] = ()
    """The groups of the images fitted on: none of them may be calibrated on."""
    notes: tuple[str, ...] = ()


@final
class ArtifactHeader(Settings):
    """Everything about a trained model but its tensors."""

    format: int = FORMAT
    detector: str
    run: RunSettings
    policy: PixelPolicy
    calibration_scores: tuple[float, ...]
    max_false_alarm_rate: Annotated[float, Field(gt=0.0, lt=1.0)]
    threshold: Annotated[float, Field(ge=0.0)]
    calibration: CalibrationCard = CalibrationCard()
    detectors: Annotated[int, Field(ge=1, le=MAX_DETECTORS)] = 1
    """Several judge together: the score is the smallest of theirs; see `score.calibration`."""
    data_card: DataCard
    encoder: EncoderCard | None = None
    """The pretrained encoder whose weights are in the file, with its licence; None where there is none, or no card."""
    history: dict[str, tuple[float, ...]] = Field(default_factory=dict)
    fit_seconds: float = 0.0
    parameters: int = 0
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """What is read from a file is bounded before anything is made from it."""
        policy, card, n = self.policy, self.calibration, len(self.calibration_scores)
        if math.prod(policy.network_px) > MAX_NETWORK_PX or math.prod(policy.size_px) > LARGEST_IMAGE_PX:
            raise ValueError(f"images of {policy.size_px}, seen {policy.network_px} at a time, are too large")
        if policy.tile_px is not None:
            overlap = policy.tile_overlap_px
            pairs = list(zip(policy.size_px, policy.tile_px, strict=True))
            is_odd = any(tile > side or overlap >= tile for side, tile in pairs)
            if is_odd or math.prod((side - tile) // (tile - overlap) + 1 for side, tile in pairs) > MAX_TILES:
                raise ValueError(f"tiles of {policy.tile_px} that overlap by {overlap}, of {policy.size_px}")
        for png in (policy.roi_png, policy.shown_png):
            if png is not None:
                check_roi(png, policy.size_px)
        if card.folds and len(card.folds) != n:
            raise ValueError(f"{len(card.folds)} folds of {n} calibration scores")
        return self

    @property
    def certificate(self) -> Certificate:
        """The threshold with its guarantee."""
        card, n = self.calibration, len(self.calibration_scores)
        kind: Literal["average", "confidence"] = "average" if card.confidence is None else "confidence"
        return Certificate(
            alpha=self.max_false_alarm_rate,
            confidence=card.confidence,
            threshold=self.threshold,
            n=card.images or n,
            kind="cross" if card.folds else kind,
            groups=n if card.by_group else None,
        )

    def certify(self, max_false_alarm_rate: float, confidence: float | None = None) -> Certificate:
        """The certificate for another rate or confidence, from the same scores; no data is needed.

        Raises:
            CalibrationError: they are too few.
            SettingsError: a rate or a confidence outside (0, 1), or a confidence where there are folds.
        """
        return promise(self.calibration_scores, self.calibration, max_false_alarm_rate, confidence)

    def p_value(self, score: float) -> float:
        """How unusual a score is among good ones; at most alpha exactly when it exceeds the threshold for alpha."""
        return score_p_value(self.calibration_scores, self.calibration, score)

    def new_readings(self) -> Readings:
        """Where photos that the model judges are counted."""
        return self.policy.new_readings(photo_px=self.data_card.photo_px)

    @property
    def usual_enlargement(self) -> float | None:
        """How many times larger than they are most photos of the training were seen; None in older models."""
        return self.data_card.photo_px and self.policy.enlargement(self.data_card.photo_px)

    def made_of(self) -> frozenset[str]:
        """The contents of the files that it was fitted or calibrated on, as `Sample.file_id` has them."""
        return frozenset((*self.data_card.fit_ids, *self.calibration.image_ids))

    def rate_at(self, threshold: float) -> float:
        """The false-alarm rate of a threshold: that of the header's own is promised, another's is to be expected."""
        if threshold == self.threshold:
            return self.max_false_alarm_rate
        return self.p_value(math.nextafter(threshold, math.inf))

    def least_doubt_rate(self, threshold: float) -> float:
        """The smallest rate at which something can be doubtful: the p-value of the highest score that passes.

        From it on, what is flagged or doubtful is all that has so small a p-value.
        """
        return self.p_value(threshold)


def check_roi(roi_png: str, size_px: tuple[int, int]) -> None:
    """Refuse a region of interest that is no picture of that size (height, width), before it is decoded.

    Raises:
        ValueError: it is another.
    """
    content = base64.b64decode(roi_png, validate=True)
    width, height = (int.from_bytes(content[place : place + 4], "big") for place in (16, 20))  # of a PNG's header
    if content[:8] != b"\x89PNG\r\n\x1a\n" or (height, width) != size_px:
        raise ValueError("the region of interest is no PNG of the size of the images")
    if decode_roi(roi_png).shape != size_px:
        raise ValueError("the region of interest is not of the size of the images")


def write_artifact(path: Path, header: ArtifactHeader, tensors: Tensors) -> None:
    """Write a model file, completely or not at all.

    Raises:
        DataError: it cannot be written there.
    """
    write_tensors(path, "artifact", header.model_dump(mode="json"), tensors)


def read_artifact(path: Path) -> tuple[ArtifactHeader, dict[str, NDArray[Any]]]:
    """Header and tensors of a model file.

    Raises:
        ArtifactError: missing, foreign, truncated, tampered with, or of a newer format; with the file's name.
    """
    return parse_artifact(read_model_file(path), path)


def parse_artifact(file: bytes, path: Path) -> tuple[ArtifactHeader, dict[str, NDArray[Any]]]:
    """Header and tensors of a model file whose bytes have been read; `path` is for messages.

    Raises:
        ArtifactError: as `read_artifact`.
    """
    content, tensors = parse_tensors(file, path, "artifact")
    found = content.get("format")
    if not (isinstance(found, int) and OLDEST <= found <= FORMAT):
        advice = "upgrade blemish" if isinstance(found, int) and found > FORMAT else "train it again"
        raise ArtifactError(f"{path}: model file of format {found}, this version reads format {FORMAT}; {advice}")
    try:
        return ArtifactHeader.model_validate_json(json.dumps(content)), tensors
    except ValidationError as error:
        raise ArtifactError(f"{path}: its header does not fit this version ({first_problem(error)})") from None


def split_fixtures(tensors: Tensors) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """The detector's state, and the images (by name) that travel with it to check an export with.

    >>> import numpy as np
    >>> state, fixtures = split_fixtures({"weight": np.zeros(1), "fixture.good/1.png": np.ones(1)})
    >>> list(state), list(fixtures)
    (['weight'], ['good/1.png'])
    """
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith(FIXTURE)}
    return state, {name.removeprefix(FIXTURE): tensor for name, tensor in tensors.items() if name not in state}


def join_folds(states: Sequence[Tensors]) -> dict[str, NDArray[Any]]:
    """The tensors of one detector, or of several under names of their own.

    >>> import numpy as np
    >>> list(join_folds([{"weight": np.zeros(1)}, {"weight": np.ones(1)}]))
    ['fold0.weight', 'fold1.weight']
    """
    if len(states) == 1:
        return dict(states[0])
    return {f"fold{fold}.{name}": tensor for fold, state in enumerate(states) for name, tensor in state.items()}


def separate_folds(state: Tensors, detectors: int) -> list[dict[str, NDArray[Any]]]:
    """What `join_folds` joined.

    Raises:
        ArtifactError: there are fewer tensors than detectors.
    """
    if detectors > len(state):
        raise ArtifactError(f"{detectors} detectors in {len(state)} tensors")
    if detectors == 1:
        return [dict(state)]
    heads = [f"fold{fold}." for fold in range(detectors)]
    return [{name[len(head) :]: tensor for name, tensor in state.items() if name.startswith(head)} for head in heads]


def made_with(
    header: ArtifactHeader, samples: Mapping[str, Sample], pixel_ids: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Which of the samples the model was "fitted" or "calibrated" on, by their files and, where told, by their pixels.

    `pixel_ids` are those of data/pixels.py, by the samples' names.
    """
    known = dict.fromkeys(header.calibration.known_ids, "calibrated")
    known |= dict.fromkeys((*header.data_card.fit_ids, *header.data_card.fit_pixel_ids), "fitted")
    ids = {name: (sample.file_id, (pixel_ids or {}).get(name, "")) for name, sample in samples.items()}
    return {name: known[one] for name, both in ids.items() for one in both if one in known}
