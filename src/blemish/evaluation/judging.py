"""Test images judged one by one: what is kept of each once its map is gone."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.data.folder import Sample
from blemish.data.images import prepare_photo
from blemish.data.pixels import pixels_id
from blemish.data.progress import OnStep
from blemish.data.readings import Readings
from blemish.errors import BadFileError, DataError, none_readable
from blemish.evaluation.by_size import judge_regions
from blemish.evaluation.compared import masks_of_some, valid_px
from blemish.evaluation.judged import JudgedImage, plain_name
from blemish.evaluation.results import EvaluateSettings
from blemish.inference.artifact import made_with
from blemish.inference.predictor import Predictor
from blemish.stats import PixelScores


@final
@dataclass(frozen=True)
class TestScores:
    """What is kept of the test images once their maps are gone; samples and reasons by the images' plain names."""

    __test__ = False  # not a test of pytest's
    pixels: PixelScores
    readings: Readings
    images: list[JudgedImage] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)
    sizes_px: list[tuple[int, int]] = field(default_factory=list)
    compared_px: list[tuple[int, int]] = field(default_factory=list)  # of those whose pixels count
    skipped: dict[str, str] = field(default_factory=dict)
    bad_masks: dict[str, str] = field(default_factory=dict)  # of images that count by their scores alone
    unseen: dict[str, str] = field(default_factory=dict)  # defective images none of whose marked pixels is seen
    outside: dict[str, float] = field(default_factory=dict)  # share of its marked pixels outside the region
    known: dict[str, str] = field(default_factory=dict)  # images that were "fitted" or "calibrated" on
    pixel_ids: dict[str, str] = field(default_factory=dict)


def judge_images(
    predictor: Predictor, samples: Sequence[Sample], settings: EvaluateSettings, on_image: OnStep
) -> TestScores:
    """Judge test images one by one.

    Raises:
        DataError: one, or a mask, cannot be read (unless `skip_bad`), or none can.
    """
    levels = {predictor.threshold, settings.paper_tau, *settings.paper_tau_by_type.values()}
    judged = TestScores(PixelScores(sorted(levels)), predictor.header.new_readings())
    for done, sample in enumerate(samples, start=1):
        try:
            _judge_one(predictor, sample, judged, samples, settings)
        except DataError as error:
            if not settings.skip_bad:
                raise BadFileError(error) from None
            judged.skipped[plain_name(sample.name)] = plain_name(str(error))
        on_image(done, len(samples))
    judged.known.update(made_with(predictor.header, judged.samples, judged.pixel_ids))
    if not judged.images:
        raise DataError(none_readable(len(samples), "test image", next(iter(judged.skipped.values()))))
    return judged


def _judge_one(
    predictor: Predictor, sample: Sample, judged: TestScores, samples: Sequence[Sample], settings: EvaluateSettings
) -> None:
    started = time.perf_counter()
    predictor.warn_if_withdrawn()
    prepared = prepare_photo(sample.path, predictor.policy)
    prediction = predictor.predict_prepared(prepared, sample.path, started)
    name = plain_name(sample.name)
    judged.readings.add(name, prepared.reading)
    compared = prediction.anomaly_map if settings.full_size else prediction.scored_map
    size_px = (compared.shape[0], compared.shape[1])
    valid = valid_px(predictor.policy, size_px)
    try:
        mask = sample.load_mask(size_px, prediction.image_size_px)
        ignored = sample.load_ignored(size_px)
    except DataError as error:
        if not settings.skip_bad:
            raise
        judged.bad_masks[name] = plain_name(str(error))
        sample, mask, ignored = replace(sample, mask_paths=()), None, None
    if mask is not None:
        if not judged.pixels.others:
            judged.pixels.others = masks_of_some(samples, size_px)
        mask = _seen_of(mask, valid, name, judged)
    if mask is not None or not sample.label:
        if mask is not None and ignored is not None:
            valid = ~ignored if valid is None else valid & ~ignored
        judged.pixels.add(name, compared, mask, valid=valid)
        judged.compared_px.append(size_px)
    judged.images.append(
        JudgedImage(
            name=name,
            defect_type=sample.defect_type,
            label=sample.label,
            has_mask=mask is not None and name not in judged.unseen,
            score=prediction.score,
            p_value=prediction.p_value,
            is_anomalous=prediction.is_anomalous,
            peak_on_defect=None if mask is None else peak_is_near(compared, mask),
            regions=() if mask is None else judge_regions(mask, compared, predictor.threshold),
        )
    )
    judged.samples[name] = sample
    judged.pixel_ids[name] = pixels_id(prepared.pixels())
    judged.latencies_ms.append(prediction.latency_ms)
    judged.sizes_px.append(prediction.image_size_px)


def _seen_of(
    mask: NDArray[np.bool_], valid: NDArray[np.bool_] | None, name: str, judged: TestScores
) -> NDArray[np.bool_] | None:
    """The mask, None where nothing of it is left at this size; what of it the model does not see is noted."""
    marked = int(np.count_nonzero(mask))
    inside = marked if valid is None else int(np.count_nonzero(mask & valid))
    if inside < marked:
        judged.outside[name] = (marked - inside) / marked
    if not inside:
        judged.unseen[name] = "roi" if marked else "size"
    return mask if marked else None


def peak_is_near(anomaly_map: NDArray[np.floating], mask: NDArray[np.bool_]) -> bool:
    """Whether the highest pixel is in the mask or within 2 % of the map's longer side of it.

    >>> mask = np.zeros((9, 9), bool); mask[4, 4] = True
    >>> peak_is_near(np.eye(9)[::-1] * np.arange(9), mask), peak_is_near(mask.astype(float), mask)
    (False, True)
    """
    row, column = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    reach = max(2, round(0.02 * max(mask.shape)))
    return bool(mask[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1].any())
