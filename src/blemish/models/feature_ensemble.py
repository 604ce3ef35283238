"""FeatureEnsemble: distances to the nearest good patch and to what is usual at a place, taken together."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from blemish.errors import plural
from blemish.models.alignment import explained_by_place, how_aligned, narrowness
from blemish.models.background import Background
from blemish.models.detector import Batches, Detector, ImageShape, Optimise, nearest_multiple
from blemish.models.encoders import FrozenEncoder
from blemish.models.excess import IMAGES, Excess
from blemish.models.feature_ensemble_settings import FeatureEnsembleSettings, check_combination
from blemish.models.feature_maps import as_vectors, concat_scales, local_mean
from blemish.models.gaussians import CellGaussians, Gaussians, GaussianSums, join_gaussians, most_gaussians
from blemish.models.maps import Enlarge, Reduce
from blemish.models.patch_bank import METRIC_ROWS, SMALLEST, Draw, PatchBank

WHOLE_SIDE_PX = 256
"""The shorter side, at most, of the image that the coarsest features see: a wrong whole does not show in its detail."""

MADE_SMALL = 1.5
"""So many times smaller, at least, the image must be made for its excess to count: otherwise it shows what the patches
show."""

MAX_PRODUCTS = 6_291_456
"""Places times rows of the bank, at most, which bounds the time of an inspection: 1,024 rows at 512 x 768 pixels."""

MAX_FINE_WEIGHT = 8.0
"""Of the fine Gaussians, where places explain much: as much as the nearest neighbour has by default."""

ALIKE = 0.8
"""The share of the whole image in each fine Gaussian where parts lie anywhere: a place that saw the background in the
fitted images has a narrow Gaussian, to which a good part is a defect."""

IMAGE_LEVEL = 0.25
"""So much of an image's own level is taken off where `level_at` is image: the exponent of the geometric mean of its
nearest distances. Good images differ in how far all of their patches are from the bank."""

PLACE_LEVEL, AROUND = 0.5, 6.0
"""So much of the level around each place is taken off otherwise, the mean over a Gaussian window of so many places:
parts of an image differ as images do, and what is odd all around is seldom a defect."""

WHITE, DARKEST = 0.75, 0.1
"""Photos are brightened until the brightest hundredth of the good ones is this bright, at most from `DARKEST`: the
encoder learned from photos of usual light, and tells little apart in the dark."""

IMAGES_TO_EXPLAIN = 40
"""Good images, at most, from which the light, and what places explain, are measured: half explain the other half."""

KEPT_BYTES = 1 << 28
"""Of features of these images, at most; beyond it they are taken again."""

MAX_COARSE_CELLS = 16
"""Gaussians of the coarse scale, at most: one takes 400 KiB of the file."""

FLOOR = 0.01
"""No term counts for less: a hundredth of what is usual, which only images that were fitted come below."""


class Seen(NamedTuple):
    """Features of images: patches on their grid; the last two scales of the images made small."""

    patches: Float[Tensor, "b f i j"]
    middle: Float[Tensor, "b c k l"]
    whole: Float[Tensor, "b d m n"]


class Again(NamedTuple):
    """Logarithms of the terms of good images compared with others; how narrow Gaussians of places are there.

    `to_row` is the distance to the nearest row, from which follows what places explain.
    """

    nearest: Float[Tensor, "n i j"]
    to_row: Float[Tensor, "n i j"]
    own: Float[Tensor, "n i j"]
    alike: Float[Tensor, "n i j"]
    coarse: Float[Tensor, "n i j"]
    narrow: float


@final
class FeatureEnsemble(Detector):
    """Geometric mean of the distance to the nearest good patch and of distances to Gaussians of places.

    Three terms, weighted 8 : w : 1, on the grid of patches; their mean is enlarged and blurred. Places get the more
    weight w, and the more of their own in their Gaussians, the better the place alone explains how far good patches are
    from their nearest neighbours in other good images (`explained_by_place`), unless their Gaussians take good images
    that they have not seen for odd (`narrowness`): 1 for parts that lie anywhere, up to 8 for parts that lie where they
    always lie.

    1. Nearest neighbour (`PatchBank`): patches of strides 4, 8 and 16 on the grid of stride 8, in the metric in which
       good patches differ from their nearest neighbours in other good images, over the spacing of the bank there.
    2. Fine Gaussians (`CellGaussians`): stride 8, one a cell of at least 2 x 2 places (`fine_cells`).
    3. Coarse Gaussians: the same of stride 32, of the image made so small that its shorter side has 256 pixels.

    Where the image made small is odder than good images ever are, the map is lifted (`Excess`): nearest neighbours at
    stride 16 of it, where it is made smaller by `MADE_SMALL`. The map is relative to the level around each place
    (`PLACE_LEVEL`), its background is drawn towards the usual one (`Background`), and dark photos are brightened
    (`brightening`).

    Sources: the bank of patches and its coreset from Roth et al. 2022 (PatchCore), Gaussians at places from Defard et
    al. 2021 (PaDiM). The metric, the spacing, the cells drawn together and the mean are this project's; why these and
    not others is in docs/decisions.

    >>> detector = FeatureEnsemble(FeatureEnsembleSettings(), ImageShape(channels=3, height=64, width=96)).eval()
    >>> detector(torch.rand(2, 3, 64, 96)).shape
    torch.Size([2, 64, 96])
    """

    Settings = FeatureEnsembleSettings
    defaults: ClassVar = {
        "augment": {"images_of_one": 1},
        "data": {"side": "shorter", "speed": "thorough"},
        "model": {
            "mean_at": "places",
            "level_at": "places",
            "fine_cells": 1024,
            "excess": 1.0,
            "background": 0.5,
            "background_of": "region",
        },
    }
    defaults_in_tiles: ClassVar = {"model": {"background": 0.0}}  # or each tile would be drawn by a power of its own
    shares: Tensor
    gain: Tensor

    def __init__(self, settings: FeatureEnsembleSettings, shape: ImageShape) -> None:
        super().__init__(shape, settings)
        check_combination(settings)
        self.settings = settings
        self.features = FrozenEncoder(settings, shape[1:])
        self.features.check_several("feature_ensemble")
        channels, strides = self.features.channels, self.features.strides
        self.patch_channels = channels[: max(2, len(channels) - 1)]
        self.grid = grid_of((shape.height, shape.width), self.features.patch_stride)
        self.small_px = small_size(shape, strides[-1])
        self.features.fix_sizes(self.small_px)
        small_grid = grid_of(self.small_px, strides[-1])
        self.reduce = Reduce((shape.height, shape.width), self.small_px)
        self.register_buffer("shares", normalise(settings.weights))
        self.register_buffer("gain", torch.ones(()))
        self.bank = PatchBank(sum(self.patch_channels), settings.near)
        self.fine = CellGaussians(channels[1], self.grid, most_gaussians(channels[1], settings.fine_cells))
        self.coarse = CellGaussians(channels[-1], small_grid, most_gaussians(channels[-1], MAX_COARSE_CELLS))
        size_px, sigma_px = (shape.height, shape.width), settings.smoothing_sigma_px
        coarse_px = sigma_px * min(size_px) / min(self.small_px)
        self.enlarge = Enlarge(self.grid, size_px, sigma_px)
        self.enlarge_coarse = (
            Enlarge(small_grid, size_px, coarse_px)
            if settings.mean_at == "pixels"
            else Enlarge(small_grid, self.grid, coarse_px / self.features.patch_stride)
        )
        self.middle, self.compared = max(1, len(strides) - 2), 0
        self.excess: Excess | None = None
        self.around = Enlarge(self.grid, self.grid, AROUND) if settings.level_at == "places" else None
        self.background: Background | None = None
        if settings.background:
            self.background = Background(settings.background, settings.background_of == "region")
        if settings.excess and min(size_px) >= MADE_SMALL * min(self.small_px):
            middle_grid, sigma = grid_of(self.small_px, strides[self.middle]), coarse_px / self.features.patch_stride
            self.excess = Excess(channels[self.middle], middle_grid, self.grid, sigma, settings.excess)

    def look_only_at(self, judged: Bool[Tensor, "h w"]) -> None:
        """The background is that of the pixels that are judged."""
        if self.background is not None:
            self.background.look_only_at(judged, self.grid)

    @torch.no_grad()
    def fit(self, batches: Batches, optimise: Optimise) -> None:  # noqa: ARG002  # solved without gradients
        """One pass over the images, which keeps sums and a draw of patches; closed forms; a few images once more."""
        self.features.prepare()
        self.gain = brightening(batches)
        fine, coarse = (GaussianSums(), GaussianSums()), GaussianSums()
        drawn, drawn_small = (Draw(self.settings.candidates + METRIC_ROWS) for _ in range(2))
        some: list[Tensor] = []
        kept: dict[int, Seen] = {}  # of the first batches, for `look_again`
        seen, places = 0, math.prod(self.grid)
        for number, images in enumerate(batches):
            patches, middle, whole = found = self.look(images)
            if seen < IMAGES_TO_EXPLAIN and _bytes([*kept.values(), found]) <= KEPT_BYTES:
                kept[number] = found
            for half, sums in enumerate(fine):  # of every other image
                if len(maps := self.fine_of(patches)[(half + seen) % 2 :: 2]):
                    sums.add(self.fine.observations(maps))
            coarse.add(self.coarse.observations(whole))
            chance, about = torch.rand(len(images) * places).to(images.device), len(batches) * len(images)
            drawn.add(patches, chance, seen, about)
            if self.excess is not None:
                drawn_small.add(middle, chance, seen, about)
                some.extend(middle[: IMAGES - len(some)].unsqueeze(1))
            seen += len(images)
        self.coarse.take(coarse.gaussians())
        image_of_row = self.bank.fit(*drawn.some(), min(self.settings.rows, MAX_PRODUCTS // places))
        if self.excess is not None:
            self.excess.fit(drawn_small, some)
        first, least, last = self.settings.weights
        halves = [sums.gaussians() for sums in fine if sums.count]
        again = self.look_again(batches, kept, image_of_row, halves)
        self.compared = len(again.nearest)
        aligned = how_aligned(explained_by_place(again.to_row.flatten(1)), again.narrow)
        self.fine.take(join_gaussians(halves), ALIKE * (1 - aligned))
        weight = least + aligned * max(0.0, MAX_FINE_WEIGHT - least)
        self.shares = normalise((first, weight, last)).to(self.shares.device)
        if self.excess is not None or self.background is not None:
            fine_again = aligned * again.own + (1 - aligned) * again.alike
            mean = self.mean(torch.stack([again.nearest.clamp_min(math.log(FLOOR)), fine_again, again.coarse]))
            if self.excess is not None:
                self.excess.take_end(mean.amax(dim=(1, 2)))
            if self.background is not None:
                self.background.fit(mean)

    def look_again(
        self, batches: Batches, kept: Mapping[int, Seen], image_of_row: Int[Tensor, " k"], halves: Sequence[Gaussians]
    ) -> Again:
        """The terms of some good images, none of which is compared with rows of its own or Gaussians of its half.

        `kept` has features of batches by their place; those of others are taken again.
        """
        own, alike = ([self.fine.drawn(half, share) for half in halves] for share in (0.0, ALIKE))
        found: list[tuple[Tensor, ...]] = []
        for place, images in enumerate(batches):
            seen, left = kept.get(place) or self.look(images), IMAGES_TO_EXPLAIN - len(found)
            for patches, whole in zip(seen.patches[:left, None], seen.whole[:left, None], strict=True):
                number, other = len(found), (len(found) + 1) % len(halves)
                others = as_vectors(patches), image_of_row != number
                near = self.bank.distances_to_others(*others)
                to_row = near if self.bank.near == 1 else self.bank.distances_to_others(*others, near=1)
                fine = [cells[other](self.fine_of(patches)).clamp_min(FLOOR) for cells in (own, alike)]
                coarse = self.enlarge_coarse(self.coarse(whole))
                found.append((near[None], to_row[None], *fine, coarse, narrowness(*fine)[None]))
            if len(found) == IMAGES_TO_EXPLAIN:
                break
        near, to_row, *terms, narrow = [torch.cat(several) for several in zip(*found, strict=True)]
        near, to_row = (each.clamp_min(SMALLEST).log().reshape(-1, *self.grid) for each in (near, to_row))
        fine_own, fine_alike, coarse = (term.clamp_min(FLOOR).log() for term in terms)
        return Again(near, to_row, fine_own, fine_alike, coarse, float(narrow.mean()))

    @property
    def notes(self) -> list[str]:
        """How much places count, where it is more than at least."""
        first, least, _ = self.settings.weights
        weight = first * float(self.shares[1] / self.shares[0])
        if weight < least + 0.5:
            return []
        return [
            f"as far as {plural(self.compared, 'good image')} tell, parts always lie in the same place: what is odd at "
            f"its place counts {weight / least:.1f} times as much"
        ]

    def look(self, images: Float[Tensor, "b c h w"]) -> Seen:
        """What the terms are taken from; all of it brightened."""
        images, count = images * self.gain, len(self.patch_channels)
        if self.small_px == (self.shape.height, self.shape.width):
            small = self.features(images)
            patches = concat_scales(small[:count])
        else:
            small = self.features(self.reduce(images))
            patches = concat_scales(self.features(images, scales=count))
        return Seen(patches, local_mean(small[self.middle]), small[-1])

    def fine_of(self, patches: Float[Tensor, "b f i j"]) -> Float[Tensor, "b c i j"]:
        """The second finest scale's part of the patches' features."""
        first, second = self.patch_channels[:2]
        return patches[:, first : first + second]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Weighted geometric mean of the terms over the level; lifted by the excess; its background drawn towards the
        usual one."""
        seen = self.look(images)
        logs = torch.stack([term.clamp_min(FLOOR).log() for term in self.terms(seen)])  # (3, b, *, *)
        mean = self.mean(logs)
        lifted = mean if self.excess is None else self.excess(seen.middle, mean)
        maps: Tensor = lifted.exp() if self.settings.mean_at == "pixels" else self.enlarge(lifted.exp())
        return maps if self.background is None else self.background(maps, self.background.power(mean, lifted))

    def mean(self, logs: Float[Tensor, "3 b i j"]) -> Float[Tensor, "b i j"]:
        """Weighted mean of the terms' logarithms, less a part of the level of the image or around each place."""
        nearest = logs[0]
        level = (
            IMAGE_LEVEL * nearest.mean(dim=(1, 2), keepdim=True)
            if self.around is None
            else PLACE_LEVEL * self.around(nearest)
        )
        return (self.shares[:, None, None, None] * logs).sum(dim=0) - level

    def terms(self, seen: Seen) -> list[Float[Tensor, "b _ _"]]:
        """What the map is the mean of: nearest neighbour, fine and coarse Gaussians; on the grid of patches, or at
        pixels and blurred (`mean_at`)."""
        nearest = self.bank(as_vectors(seen.patches)).reshape(-1, *self.grid)
        fine, coarse = self.fine(self.fine_of(seen.patches)), self.enlarge_coarse(self.coarse(seen.whole))
        if self.settings.mean_at == "pixels":
            return [self.enlarge(nearest), self.enlarge(fine), coarse]
        return [nearest, fine, coarse]


def _bytes(several: Sequence[Seen]) -> int:
    return sum(part.nbytes for seen in several for part in seen)


def grid_of(size_px: tuple[int, int], stride: int) -> tuple[int, int]:
    """Places along either side, one every `stride` pixels."""
    return size_px[0] // stride, size_px[1] // stride


def normalise(weights: tuple[float, ...]) -> Float[Tensor, " t"]:
    """Weights as shares of their sum.

    >>> normalise((8.0, 1.0, 1.0))
    tensor([0.8000, 0.1000, 0.1000])
    """
    shares = torch.tensor(weights, device="cpu")
    return shares / shares.sum()


def brightening(batches: Batches) -> Float[Tensor, ""]:
    """What dark photos are multiplied by; 1 where the brightest hundredth of the good images is `WHITE` or brighter."""
    found: list[Tensor] = []
    for images in batches:
        found += [image[:, ::4, ::4].flatten().quantile(0.99) for image in images[: IMAGES_TO_EXPLAIN - len(found)]]
        if len(found) == IMAGES_TO_EXPLAIN:
            break
    return (WHITE / torch.stack(found).mean().clamp_min(DARKEST)).clamp_min(1.0)


def small_size(shape: ImageShape, multiple: int) -> tuple[int, int]:
    """Height and width of the image made small: the shorter side `WHOLE_SIDE_PX` at most, both multiples.

    >>> small_size(ImageShape(3, 512, 768), 32), small_size(ImageShape(3, 96, 128), 32)
    ((256, 384), (96, 128))
    """
    factor = min(1.0, WHOLE_SIDE_PX / min(shape.height, shape.width))
    return nearest_multiple(shape.height * factor, multiple), nearest_multiple(shape.width * factor, multiple)
