"""Good images as batches for training."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, final

import torch
from torch import Tensor
from torch.utils.data import Dataset

from blemish.data.duplicates import Fingerprint, fingerprint
from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy, Prepared, prepare, prepare_photo
from blemish.data.photo_values import photo_values
from blemish.data.pixels import pixels_id
from blemish.data.progress import Progress, Report, quiet
from blemish.errors import BadFileError, DataError
from blemish.settings import AugmentSettings
from blemish.training.augment import augment

CACHE_BYTES = 1 << 30
"""Decoded images are kept in memory up to this much; beyond it they are decoded again each time."""


@final
class ImageLook(NamedTuple):
    """What is kept of an image's pixels."""

    photo_values: dict[str, float]
    pixels_id: str
    fingerprint: Fingerprint


@final
class GoodImages(Dataset[Tensor]):
    """Images `(c, h, w)`, float32 in [0, 1], all decoded once at the start, so that a bad file shows before any work.

    With `skip_bad`, files that cannot be read are left out and listed in `skipped` with the reason. `readings`
    has what is to be said of how they were read, `looks` what is kept of the pixels of each.

    Raises:
        DataError: a file that cannot be read, unless `skip_bad`.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        policy: PixelPolicy,
        skip_bad: bool = False,
        report: Report = quiet,
    ) -> None:
        self.policy = policy
        self.samples: list[Sample] = []
        self.skipped: dict[str, str] = {}
        self.readings = policy.new_readings(is_training=True)
        self.looks: list[ImageLook] = []
        self._kept: dict[int, Prepared] = {}
        left = CACHE_BYTES
        pool = ThreadPoolExecutor(2)  # decoding leaves Python's lock alone
        try:
            loaded = pool.map(lambda sample: _try_load(sample, policy), samples)
            for done, (sample, prepared) in enumerate(zip(samples, loaded, strict=True), start=1):
                if isinstance(prepared, DataError):
                    if not skip_bad:
                        raise BadFileError(prepared)
                    self.skipped[sample.name] = str(prepared)
                else:
                    left -= prepared.values.nbytes
                    if left >= 0:
                        self._kept[len(self.samples)] = prepared
                    self.readings.add(sample.name, prepared.reading)
                    self.looks.append(_look_at(prepared))
                    self.samples.append(sample)
                report(Progress("reading images", done, len(samples)))
        finally:
            pool.shutdown(cancel_futures=True)  # a bad file, or whoever interrupts, need not wait for all others

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.prepared(index).pixels())

    def prepared(self, index: int) -> Prepared:
        """One image, decoded."""
        return self._kept.get(index) or prepare(self.samples[index].path, self.policy)


def _look_at(prepared: Prepared) -> ImageLook:
    image = prepared.pixels()
    return ImageLook(photo_values(image, prepared.policy.roi), pixels_id(image), fingerprint(image.mean(axis=0)))


@final
class Tiles(Dataset[Tensor]):
    """The tiles `(c, h, w)` of images, as if each were an image, without those outside the region of interest.

    Raises:
        SettingsError: a tile larger than the image, or an overlap that leaves no way forward.
    """

    def __init__(self, images: GoodImages) -> None:
        assert images.policy.tiles is not None
        self.images, self.boxes = images, images.policy.tiles

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


def _try_load(sample: Sample, policy: PixelPolicy) -> Prepared | DataError:
    try:
        return prepare_photo(sample.path, policy)
    except DataError as error:
        return error


@final
class ImageBatches:
    """Shuffled batches `(b, c, h, w)` of good images and their augmentations; see `Batches` in models/detector.py.

    An epoch holds every image `images_of_one` times: once as it is, the other times augmented, each differently.
    Order and augmentation follow from `seed` and `epoch` alone. No batch has one image: a last one joins the batch
    before it, because batch normalisation cannot use it (a 1 x 1 latent has no other values to average over).
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

    @property
    def sizes(self) -> list[int]:
        """How many images each batch has."""
        return [stop - start for start, stop in self._bounds()]

    def _bounds(self) -> list[tuple[int, int]]:
        total = self.count * self.settings.images_of_one
        starts = list(range(0, total, self.batch_size))
        if total % self.batch_size == 1 and len(starts) > 1:
            starts.pop()
        return list(zip(starts, [*starts[1:], total], strict=True))
