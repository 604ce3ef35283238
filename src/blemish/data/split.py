"""Good images in parts: which are fitted, which are held out to calibrate on."""

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np

from blemish.data.folder import Folder, Sample
from blemish.data.groups import read_groups
from blemish.errors import DataError
from blemish.stats.conformal import smallest_rate

DEFAULT_FRACTION = 0.2
"""Of the good images, about, are held out where the settings do not say how many."""

FULL_FRACTION = 0.3
"""The same where a threshold makes full use of so many: the more, the less it depends on which, and fitting hardly
needs the others."""

MAX_COUNTED = 100_000
"""Above so many images to hold out, how many it takes in all is said without rounding."""


def split_good(
    samples: Sequence[Sample],
    calibration_fraction: float | None,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
    rate: float | None = None,
) -> tuple[list[Sample], list[Sample]]:
    """Good images to fit, and good images to calibrate on; both in the order they came, at least two to fit.

    With `groups`, one for each image, a group stays together, and the fraction is one of groups. Without a fraction
    about `FULL_FRACTION`, a number that a threshold at `rate` makes full use of (`round_count`), or `DEFAULT_FRACTION`.

    Raises:
        DataError: too few images, or groups, to leave two images to fit and one image or group to calibrate on.

    >>> from pathlib import Path
    >>> samples = [Sample(Path(f"{i}.png"), f"{i}.png") for i in range(10)]
    >>> fit, calibration = split_good(samples, 0.2, np.random.default_rng(0))
    >>> len(fit), len(calibration), set(fit) & set(calibration)
    (8, 2, set())
    """
    units = _units(samples, groups)
    held_out = _held_out(len(units), calibration_fraction, rate, 2 if groups is None else 1)
    chosen = {place for unit in rng.permutation(len(units))[:held_out].tolist() for place in units[unit]}
    return _without(samples, chosen), [samples[place] for place in sorted(chosen)]


def _held_out(units: int, fraction: float | None, rate: float | None, fewest_to_fit: int) -> int:
    count = max(1, round(units * (DEFAULT_FRACTION if fraction is None else fraction)))
    if fraction is None and rate is not None:
        count = round_count(round(units * FULL_FRACTION), rate, units // 3) or count
    return min(count, units - fewest_to_fit)


def round_count(count: int, rate: float, most: int) -> int:
    """The nearest number of images, `most` at most, that a threshold at this rate makes full use of; 0 if none is.

    The threshold that n images promise for the rate a is the k-th largest of their scores, k = floor(a (n + 1)): the
    fewest images for each k are ceil(k / a) - 1, and those above that buy nothing up to the next k.

    >>> [round_count(count, 0.05, most=60) for count in (10, 24, 36, 40, 56, 70)]
    [19, 19, 39, 39, 59, 59]
    >>> round_count(10, 0.05, most=16), round_count(25, 0.04, most=60)
    (0, 24)
    """
    rank = min(max(1, round(rate * (count + 1))), math.floor(rate * (most + 1) + 1e-9))
    return math.ceil(rank / rate - 1e-9) - 1 if rank else 0


def fewest_to_hold_out(held_out: int, calibration_fraction: float | None, rate: float | None = None) -> int:
    """How many good images, or groups, it takes for `split_good` to hold out so many of them.

    >>> fewest_to_hold_out(19, 0.2), fewest_to_hold_out(19, None, rate=0.05)
    (93, 57)
    """

    def count(units: int, rate: float | None = None) -> int:
        return _held_out(units, calibration_fraction, rate, 2)

    units = range(held_out + 2, int(held_out / (calibration_fraction or DEFAULT_FRACTION)) + 4)
    plain = units[bisect_left(units, held_out, key=count)]
    if calibration_fraction is not None or rate is None or held_out > MAX_COUNTED:
        return plain
    return next(units for units in range(held_out + 2, 2 * plain) if count(units, rate) >= held_out)


def least_rate(held_out: int, units: int) -> float:
    """The false-alarm rate that so many good images, or groups, can promise on average, where it is asked for.

    As many are then held out as that takes, at least as many as now, as far as `split_good` does so.

    >>> round(least_rate(8, 40), 4), round(least_rate(1, 5), 4)
    (0.0714, 0.5)
    """
    rates = {count: smallest_rate(count) for count in range(held_out, units // 3 + 1)}
    possible = (rate for count, rate in rates.items() if fewest_to_hold_out(count, None, rate) <= units)
    return min(possible, default=smallest_rate(held_out))


def split_folds(
    samples: Sequence[Sample], folds: int, rng: np.random.Generator, groups: Sequence[str] | None = None
) -> list[tuple[list[Sample], list[Sample]]]:
    """For each fold, the good images to fit and those left out, all folds of one size.

    What is over where the images (or groups) cannot be shared out evenly is fitted every time and never left out.

    Raises:
        DataError: fewer images, or groups, than folds, or too few to leave two images to fit.

    >>> from pathlib import Path
    >>> samples = [Sample(Path(f"{i}.png"), f"{i}.png") for i in range(10)]
    >>> [(len(fit), len(left_out)) for fit, left_out in split_folds(samples, 3, np.random.default_rng(0))]
    [(7, 3), (7, 3), (7, 3)]
    """
    units = _units(samples, groups)
    size, order = len(units) // folds, rng.permutation(len(units)).tolist()
    if not size:
        what = "good images" if groups is None else "groups of good images"
        raise DataError(f"score.folds: {folds} folds of {len(units)} {what}; take {len(units)} folds at the most")
    parts = []
    for fold in range(folds):
        chosen = {place for unit in order[fold * size : (fold + 1) * size] for place in units[unit]}
        parts.append((_without(samples, chosen), [samples[place] for place in sorted(chosen)]))
    return parts


def _units(samples: Sequence[Sample], groups: Sequence[str] | None) -> list[list[int]]:
    """The places of the images that must stay together."""
    if groups is None:
        return [[place] for place in range(len(samples))]
    units: dict[str, list[int]] = {}
    for place, group in enumerate(groups):
        units.setdefault(group, []).append(place)
    if len(units) < 2:
        raise DataError(
            f"data.groups: all {len(samples)} good images are in group '{groups[0]}'; at least 2 groups are needed, "
            "one to fit and one to calibrate on"
        )
    return list(units.values())


def _without(samples: Sequence[Sample], chosen: set[int]) -> list[Sample]:
    kept = [sample for place, sample in enumerate(samples) if place not in chosen]
    if len(kept) < 2:
        raise DataError(
            f"data.calibration_fraction: only {len(kept)} of {len(samples)} good images are left to fit, at least 2 "
            "are needed; add images, hold fewer out, or make smaller groups or more folds"
        )
    return kept


def groups_of(samples: Sequence[Sample], folder: Folder, groups: str | None) -> tuple[str, ...] | None:
    """The group of each sample, as `data.groups` has it; None where each is on its own.

    Raises:
        SettingsError, DataError: see `read_groups`.
    """
    known = [sample.name for sample in (*folder.train, *folder.test)]
    return None if groups is None else read_groups(groups, [sample.name for sample in samples], known)


def drop_copies(samples: Sequence[Sample]) -> tuple[list[Sample], dict[str, str]]:
    """The samples without copies of the same file, which must not be fitted and calibrated on; and the copies by name.

    Raises:
        DataError: a file that cannot be read.
    """
    first: dict[str, Sample] = {}
    copies: dict[str, str] = {}
    for sample in samples:
        original = first.setdefault(sample.file_id, sample)
        if original is not sample:
            copies[sample.name] = f"{sample.path}: the same file as {original.name}; each good image counts once"
    return list(first.values()), copies
