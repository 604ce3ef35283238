"""What a run is made of: the good images that can be read, which of them are fitted and which are held out."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, final

import numpy as np

from blemish.data.folder import Folder, Sample, hash_samples
from blemish.data.split import (
    drop_copies,
    fewest_to_hold_out,
    groups_of,
    least_rate,
    split_folds,
    split_good,
)
from blemish.errors import BadFileError, CalibrationError, DataError, plural
from blemish.hub.folder import EncoderCard
from blemish.inference.calibration import DEFAULT_RATE, calibrate
from blemish.settings import DataSettings, RunSettings, ScoreSettings
from blemish.stats.conformal import images_needed, rounded_up, smallest_rate
from blemish.training.batches import GoodImages

FEWEST = 3
"""Good images to train on."""


@final
class Split(NamedTuple):
    """The places of the good images to fit, and of those to score."""

    fit: tuple[int, ...]
    held_out: tuple[int, ...]


@final
@dataclass(frozen=True)
class Job:
    """A run with its images read."""

    folder: Folder
    settings: RunSettings
    images: GoodImages
    splits: tuple[Split, ...]
    """One, or one for each fold."""
    skipped: dict[str, str]
    """Images left out, by name, with the reason."""
    encoder: EncoderCard | None = None
    encoder_notes: tuple[str, ...] = ()

    @cached_property
    def groups(self) -> tuple[str, ...] | None:
        """The group of each image; None where each is on its own."""
        return groups_of(self.images.samples, self.folder, self.settings.data.groups)

    @cached_property
    def files_sha256(self) -> str:
        """A hash of the names and contents of the images."""
        return hash_samples(self.images.samples)

    @cached_property
    def groups_sha256(self) -> str:
        """A hash of which image is in which group; empty where there are no groups."""
        if self.groups is None:
            return ""
        pairs = zip((sample.name for sample in self.images.samples), self.groups, strict=True)
        return hashlib.sha256(json.dumps(sorted(pairs)).encode()).hexdigest()

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the weights: settings, setting by setting, the images, what belongs together, and the region."""
        flat = flat_settings(self.settings.model_dump(mode="json"))
        region = hashlib.sha256((self.images.policy.roi_png or "").encode()).hexdigest()
        return {**flat, "images": self.files_sha256, "groups": self.groups_sha256, "region": region}


def good_samples(folder: Folder, settings: DataSettings) -> tuple[list[Sample], dict[str, str]]:
    """The good images of a folder whose headers can be read, each file once; and those left out, with the reason.

    Raises:
        DataError: there are none; a header that cannot be read or a name that is not UTF-8, unless `data.skip_bad`.
    """
    skipped = folder.left_out("train", settings.skip_bad)
    if not folder.train:
        raise DataError(f"{folder.root}: no good images to fit; put them in train/good")
    kept: list[Sample] = []
    for sample in folder.train:
        try:
            sample.size_px(settings.max_image_px)
            kept.append(sample)
        except DataError as error:
            if not settings.skip_bad:
                raise BadFileError(error) from None
            skipped[sample.name] = str(error)
    distinct, copies = drop_copies(kept)
    return distinct, skipped | copies


def split_samples(samples: Sequence[Sample], folder: Folder, settings: RunSettings) -> tuple[Split, ...]:
    """Which of the good images are fitted and which are held out: once, or for each fold.

    Raises:
        DataError: too few images, or groups.
        CalibrationError: too few are held out for `score.max_false_alarm_rate`.
    """
    if (found := len(samples)) < FEWEST:
        left_out = ", copies and unreadable files left out" if found < len(folder.train) else ""
        raise DataError(
            f"{folder.root}: {plural(found, 'good image')} found{left_out}; at least {FEWEST} are needed: 2 to fit, 1 "
            "to calibrate on"
        )
    groups, rng = groups_of(samples, folder, settings.data.groups), np.random.default_rng(settings.seed)
    if settings.score.calibration == "cross":
        parts = split_folds(samples, settings.score.folds, rng, groups)
    else:
        parts = [split_good(samples, settings.data.calibration_fraction, rng, groups, rate_to_round_to(settings.score))]
    place = {sample: number for number, sample in enumerate(samples)}
    splits = tuple(Split(*(tuple(place[sample] for sample in part) for part in pair)) for pair in parts)
    _check_rate(splits, groups, settings)
    return splits


def images_in_all(rate: float, settings: RunSettings) -> int:
    """How many good images, or groups, it takes for so many to be held out as promise this rate."""
    score, fraction = settings.score, settings.data.calibration_fraction
    rounded_to = rate if score.confidence is None else None
    return fewest_to_hold_out(images_needed(rate, score.confidence), fraction, rounded_to)


def rate_to_round_to(score: ScoreSettings) -> float | None:
    """The rate of which `split_good` is told; None where the threshold has a confidence, which counts otherwise."""
    return (score.max_false_alarm_rate or DEFAULT_RATE) if score.confidence is None else None


def _check_rate(splits: Sequence[Split], groups: Sequence[str] | None, settings: RunSettings) -> None:
    """Refuse before the work what could only be refused after it."""
    held_out = [place for split in splits for place in split.held_out]
    folds = [fold for fold, split in enumerate(splits) for _ in split.held_out] if len(splits) > 1 else None
    their_groups = None if groups is None else [groups[place] for place in held_out]
    score, zeros = settings.score, [0.0] * len(held_out)
    try:
        calibrate(zeros, score.max_false_alarm_rate, score.confidence, their_groups, folds)
    except CalibrationError:
        if folds or score.max_false_alarm_rate is None:
            raise
        found = len(set(their_groups or held_out))
        units = len(set(groups)) if groups is not None else len(held_out) + len(splits[0].fit)
        raise CalibrationError(_too_few_held_out(found, units, groups is not None, settings)) from None


def _too_few_held_out(found: int, units: int, by_group: bool, settings: RunSettings) -> str:
    """How many good images, or groups, of `units` are held out, or could be; and what would do."""
    asked, confidence = settings.score.max_false_alarm_rate, settings.score.confidence
    assert asked is not None
    needed, fraction = images_needed(asked, confidence), settings.data.calibration_fraction
    is_rounded = fraction is None and rate_to_round_to(settings.score) is not None
    rate = least_rate(found, units) if is_rounded else smallest_rate(found, confidence)
    held_out = f"at most {max(found, units // 3)}" if is_rounded else f"{found}"
    in_all, more = images_in_all(asked, settings), ""
    if 2 * needed <= units:
        share = math.ceil(100 * needed / units) / 100
        left = units - round(share * units)
        more = f"; hold more of them out (data.calibration_fraction={share:g} leaves {left} to fit)"
    sure = "" if confidence is None else f" with confidence {confidence:.14g}"
    what = f"{'groups of ' if by_group else ''}good images"
    return (
        f"score.max_false_alarm_rate: {asked:g}{sure} needs {needed} {what} that are not fitted on; of the {units} "
        f"here, {held_out} are held out (data.calibration_fraction); add {in_all - units} or more, to {in_all} in all"
        f"{more}; or ask for {rounded_up(rate):g} or more"
    )


def flat_settings(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under names with dots."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= flat_settings(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
