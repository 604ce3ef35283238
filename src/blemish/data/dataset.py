"""Good images as batches for training, and their split into a part to fit and a part to calibrate on."""

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from blemish.data.augment import augment
from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy, load_image
from blemish.errors import DataError
from blemish.scoring.tiles import tile_boxes
from blemish.settings import AugmentSettings
from blemish.words import many

CACHE_BYTES = 1 << 30
"""Decoded images are kept in memory up to this much; beyond it they are decoded anew in each epoch."""


@final
class GoodImages(Dataset[Tensor]):
    """Images `(c, h, w)`, float32 in [0, 1], all decoded once at the start, so that a bad file shows before any work.

    With `skip_bad`, files that cannot be read are left out and listed in `skipped` with the reason.

    `on_image` is told how many are done.

    Raises:
        DataError: a file that cannot be read, unless `skip_bad`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        policy: PixelPolicy,
        skip_bad: bool = False,
        on_image: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.policy = policy
        self.samples: list[Sample] = []
        self.skipped: dict[str, str] = {}
        self._kept: dict[int, NDArray[np.float32]] = {}
        room = CACHE_BYTES // (4 * policy.channels * math.prod(policy.size_px))
        with ThreadPoolExecutor(2) as pool:  # decoding leaves Python's lock alone
            loaded = pool.map(lambda sample: _try_load(sample, policy), samples)
            for done, (sample, image) in enumerate(zip(samples, loaded, strict=True), start=1):
                if isinstance(image, DataError):
                    if not skip_bad:
                        pool.shutdown(cancel_futures=True)
                        raise image
                    self.skipped[sample.name] = str(image)
                else:
                    if len(self.samples) < room:
                        self._kept[len(self.samples)] = image
                    self.samples.append(sample)
                on_image(done)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tensor:
        image = self._kept.get(index)
        return torch.from_numpy(load_image(self.samples[index].path, self.policy) if image is None else image)


@final
class Tiles(Dataset[Tensor]):
    """The tiles `(c, h, w)` of images, as if each were an image; those wholly outside the region of interest left out.

    Raises:
        SettingsError: a tile larger than the image, or an overlap that leaves no way forward.
    """

    def __init__(self, images: GoodImages) -> None:
        policy = images.policy
        assert policy.tile_px is not None
        boxes = tile_boxes(policy.size_px, policy.tile_px, policy.tile_overlap_px)
        self.boxes = [box for box in boxes if policy.roi is None or policy.roi[box[0] : box[2], box[1] : box[3]].any()]
        self.images = images

    def of(self, places: Sequence[int]) -> list[int]:
        """The places of the tiles of some of the images."""
        count = len(self.boxes)
        return [image * count + tile for image in places for tile in range(count)]

    def __len__(self) -> int:
        return len(self.images) * len(self.boxes)

    def __getitem__(self, index: int) -> Tensor:
        image, tile = divmod(index, len(self.boxes))
        top, left, bottom, right = self.boxes[tile]
        return self.images[image][:, top:bottom, left:right]


def _try_load(sample: Sample, policy: PixelPolicy) -> NDArray[np.float32] | DataError:
    try:
        return load_image(sample.path, policy)
    except DataError as error:
        return error


@final
class ImageBatches:
    """Shuffled batches `(b, c, h, w)` of good images and their augmentations; see `Batches` in models/detector.py.

    An epoch holds every image `images_of_one` times: once as it is, the other times augmented anew. Order and
    augmentation follow from `seed` and `epoch` alone. No batch has one image: a last one joins the batch before it,
    because batch normalisation cannot use it (a 1 x 1 latent has no other values to average over).
    """

    def __init__(
        self, images: Dataset[Tensor], count: int, settings: AugmentSettings, batch_size: int, seed: int
    ) -> None:
        self.images, self.count, self.settings = images, count, settings
        self.batch_size, self.seed = batch_size, seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._bounds())

    def __iter__(self) -> Iterator[Tensor]:
        rng = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        total = self.count * self.settings.images_of_one
        order = torch.randperm(total, generator=rng)
        for start, stop in self._bounds():
            places = order[start:stop]
            batch = torch.stack([self.images[int(place) % self.count] for place in places])  # (b, c, h, w)
            changed = places >= self.count
            if changed.any():
                batch[changed] = augment(batch[changed], self.settings, rng)
            yield batch

    def _bounds(self) -> list[tuple[int, int]]:
        total = self.count * self.settings.images_of_one
        starts = list(range(0, total, self.batch_size))
        if total % self.batch_size == 1 and len(starts) > 1:
            starts.pop()
        return list(zip(starts, [*starts[1:], total], strict=True))


def split_good(
    samples: Sequence[Sample],
    calibration_fraction: float,
    rng: np.random.Generator,
    groups: Sequence[str] | None = None,
) -> tuple[list[Sample], list[Sample]]:
    """Good images to fit, and good images to calibrate on; both in the order they came, at least two to fit.

    With `groups`, one for each image, a group stays together, and the fraction is one of groups.

    Raises:
        DataError: too few images, or groups, to leave two images to fit and one image or group to calibrate on.

    >>> from pathlib import Path
    >>> samples = [Sample(Path(f"{i}.png"), f"{i}.png") for i in range(10)]
    >>> fit, calibration = split_good(samples, 0.2, np.random.default_rng(0))
    >>> len(fit), len(calibration), set(fit) & set(calibration)
    (8, 2, set())
    """
    units = _units(samples, groups)
    held_out = _held_out(len(units), calibration_fraction, 2 if groups is None else 1)
    chosen = {place for unit in rng.permutation(len(units))[:held_out].tolist() for place in units[unit]}
    return _without(samples, chosen), [samples[place] for place in sorted(chosen)]


def _held_out(units: int, calibration_fraction: float, fewest_to_fit: int) -> int:
    return min(max(1, round(units * calibration_fraction)), units - fewest_to_fit)


def fewest_to_hold_out(held_out: int, calibration_fraction: float) -> int:
    """How many good images, or groups, it takes for `split_good` to hold out so many of them.

    >>> fewest_to_hold_out(19, 0.2)
    93
    """
    units = held_out + 2
    while _held_out(units, calibration_fraction, 2) < held_out:
        units += 1
    return units


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
    if len(samples) < 3:
        raise DataError(f"{many(len(samples), 'good image')} found; at least 3 are needed: 2 to fit, 1 to calibrate on")
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
            f"only {len(kept)} of {len(samples)} good images are left to fit, at least 2 are needed; add images, hold "
            "fewer out (data.calibration_fraction), or make smaller groups or more folds"
        )
    return kept
