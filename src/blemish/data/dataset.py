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
    samples: Sequence[Sample], calibration_fraction: float, rng: np.random.Generator
) -> tuple[list[Sample], list[Sample]]:
    """Good images to fit, and good images to calibrate on; both in the order they came, at least two to fit.

    Raises:
        DataError: fewer than three images, which leave two to fit and one to calibrate on.

    >>> from pathlib import Path
    >>> samples = [Sample(Path(f"{i}.png"), f"{i}.png") for i in range(10)]
    >>> fit, calibration = split_good(samples, 0.2, np.random.default_rng(0))
    >>> len(fit), len(calibration), set(fit) & set(calibration)
    (8, 2, set())
    """
    if len(samples) < 3:
        raise DataError(f"{len(samples)} good images found; at least 3 are needed: 2 to fit, 1 to calibrate on")
    held_out = min(max(1, round(len(samples) * calibration_fraction)), len(samples) - 2)
    chosen = set(rng.permutation(len(samples))[:held_out].tolist())
    fit = [sample for place, sample in enumerate(samples) if place not in chosen]
    return fit, [sample for place, sample in enumerate(samples) if place in chosen]
