"""Photos looked at for a data check, several at once: each is decoded and resized once."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.duplicates import FINE_ALIKE, FINE_SIDE, Pair, fine_correlation, fine_spectrum, fingerprint
from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy, prepare, read_photo
from blemish.data.masks import ASPECT_TOLERANCE
from blemish.data.photo_values import measure_quality, to_grey
from blemish.data.pixels import Values, as_pixels
from blemish.data.progress import Progress, Report, counted
from blemish.errors import DataError
from blemish.evaluation.data_check.findings import CheckedImage, Finding, photo_facts
from blemish.evaluation.data_check.leave_one_out import FeatureExtractor, Grids

MAX_KEPT = 256
"""Spectra of images that are kept while near duplicates are compared, 0.3 MB each."""

MAX_WORKERS, MAX_PX_AT_ONCE = 8, 48_000_000
"""So many photos, and so many pixels of them, are looked at at the same time; one photo at least always is."""


@final
class Look(NamedTuple):
    """An image that could be read; and what the encoder sees of a good one."""

    image: CheckedImage
    grids: Grids | None


def look_at_all(
    samples: Sequence[Sample], extractor: FeatureExtractor, report: Report
) -> list[tuple[Look | None, list[Finding]]]:
    """Each image and what is wrong with it, in order; as many at once as there are cores and room for."""
    largest_px = max((math.prod(sample.size_px(extractor.policy.max_image_px)) for sample in samples), default=1)
    workers = max(1, min(extractor.threads, MAX_WORKERS, MAX_PX_AT_ONCE // largest_px))
    looked = []
    pool = ThreadPoolExecutor(workers, thread_name_prefix="look")
    try:
        for one in pool.map(lambda sample: _look_at(sample, extractor), samples):
            looked.append(one)
            report(Progress("looking", len(looked), len(samples)))
    finally:
        pool.shutdown(cancel_futures=True)
    return looked


def _look_at(sample: Sample, extractor: FeatureExtractor) -> tuple[Look | None, list[Finding]]:
    try:
        looked = _check_image(sample, extractor)
    except DataError as error:
        return None, [Finding("unreadable", "look", (sample.name,), reason(error))]
    return looked, _mask_findings(sample, extractor.policy)


def _check_image(sample: Sample, extractor: FeatureExtractor) -> Look:
    """Decode and resize once."""
    policy, found, grids = extractor.policy, None, None
    values, brightest = read_photo(sample.path, policy)
    height, width = values.shape[:2]
    if policy.aspect is None or abs(height / width / policy.aspect - 1) <= ASPECT_TOLERANCE:  # as training does
        prepared = prepare(values, policy)
        found = measure_quality(to_grey(prepared.pixels()), policy.roi)
        if not sample.label:
            grids = extractor.extract(prepared)
    digest = hashlib.sha256(f"{values.shape} {values.dtype}".encode())
    digest.update(np.ascontiguousarray(values).data)
    seen = fingerprint(_mean_of_channels(values))
    return Look(CheckedImage(sample, photo_facts(sample), digest.hexdigest(), seen, found, brightest), grids)


def _mean_of_channels(values: Values) -> NDArray[np.float32]:
    """The mean of the channels `(h, w)` in [0, 1], as numpy's, which is many times slower over three of them."""
    bands = [as_pixels(band)[:, :, 0] for band in np.moveaxis(np.atleast_3d(values), 2, 0)]
    mean: NDArray[np.float32] = sum(bands[1:], start=bands[0]) / np.float32(len(bands))
    return mean


def confirm_pairs(
    pairs: Sequence[Pair], images: Sequence[CheckedImage], policy: PixelPolicy, report: Report
) -> list[Pair]:
    """Those near duplicates that share their fine structure, too; smooth parts in the same place do not."""

    @lru_cache(MAX_KEPT)
    def spectrum(place: int, side: int, turn: str) -> NDArray[np.complex64]:
        values, _ = read_photo(images[place].sample.path, policy)
        return fine_spectrum(_mean_of_channels(values), side, turn)

    def confirmed(pair: Pair) -> Iterator[Pair]:
        first, second = images[pair.first], images[pair.second]
        side = min(FINE_SIDE, *first.facts.size_px, *second.facts.size_px) // 2 * 2
        likeness = {
            turn: fine_correlation(spectrum(pair.first, side, turn), spectrum(pair.second, side, ""))
            for turn in ("", pair.turn)
        }
        turn = max(likeness, key=likeness.__getitem__)  # a symmetric part looks turned as well as not; its noise not
        if first.pixels_sha256 == second.pixels_sha256 or likeness[turn] >= FINE_ALIKE:
            yield replace(pair, turn=turn)

    told = counted(pairs, lambda done, total: report(Progress("near duplicates", done, total)))
    return [found for pair in told for found in confirmed(pair)]


def _mask_findings(sample: Sample, policy: PixelPolicy) -> list[Finding]:
    try:
        sample.load_mask(policy.window.map_px, sample.size_px(policy.max_image_px))
        return []
    except DataError as error:
        return [Finding("mask", "look", (sample.name,), str(error))]


def reason(error: DataError) -> str:
    """What an error says, without the file it names."""
    return str(error).partition(": ")[2]
