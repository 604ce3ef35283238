"""How strange each image is among the others: each is judged by what the images of all other groups teach."""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.images import PixelPolicy, Prepared
from blemish.data.progress import OnStep, tell_nobody
from blemish.data.tiles import join_tiles
from blemish.inference.score import resize_map
from blemish.inference.torch_runtime import THREADS
from blemish.models.detector import ImageShape, check_sides
from blemish.models.encoders import EncoderSettings, FrozenEncoder

Features = NDArray[np.floating]  # (n, p, d): images, places, numbers
Maps = NDArray[np.float64]  # (n, p)

SHRINKAGE = 0.05
"""How far the covariance is drawn towards a multiple of the unit matrix (Ledoit & Wolf 2004), for few images."""

PRIOR_IMAGES = 50
"""So many images' weight has the covariance of all places beside that of each place's own images."""

FOLDS = 10
"""In so many parts the groups are left out and judged; up to so many groups, one by one."""

_DEVIATIONS = 10
_TINY = 1e-12
_CHUNK = 64  # places looked at together


def leave_one_out_distances(features: Features, groups: Sequence[int], on_fold: OnStep = tell_nobody) -> Maps:
    """Squared Mahalanobis distance of each image at each place to what images of other groups have there.

    As PaDiM has it (Defard et al. 2021), but each image is judged by those of the other folds alone, and each place's
    covariance is drawn towards that of all places (Murphy 2012, section 4.6), which few images suffice for.

    Not `shrink_gaussians` of `models.gaussians`: that one draws the means of places together as well, and counts how
    places differ among each other. Here a place keeps its mean, so that an edge is no stranger than a surface.

    `groups` has a number for each image; images of one group never judge each other. At least two groups.

    >>> features = np.random.default_rng(0).normal(size=(6, 40, 2)); features[4, 7] += 9
    >>> leave_one_out_distances(features, range(6)).max(axis=1).argmax()
    np.int64(4)
    """
    members = [np.flatnonzero(np.asarray(groups) == group) for group in dict.fromkeys(groups)]
    distances = np.empty(features.shape[:2])
    folds = min(FOLDS, len(members))
    with THREADS.limited_to(1):  # several share each small matrix: no faster, and ten times slower on a busy machine
        for start in range(folds):
            own = np.concatenate(members[start::FOLDS])
            rest = np.setdiff1d(np.arange(len(features)), own)
            mean = features[rest].mean(axis=0, dtype=np.float64)
            dtype = np.promote_types(features.dtype, np.float32)
            differences = torch.from_numpy(features - mean.astype(dtype))  # (n, p, d)
            root = _root_of_inverse(differences[rest]).to(differences.dtype)
            for some in (slice(place, place + _CHUNK) for place in range(0, features.shape[1], _CHUNK)):
                at_places = (differences[:, some] @ root).transpose(0, 1)  # (c, n, d)
                distances[own, some] = _distances(at_places[:, own], at_places[:, rest]).T.numpy()
            on_fold(start + 1, folds)
    return distances


def _root_of_inverse(differences: Tensor) -> Tensor:
    """What turns differences to the mean into units of the covariance of all places: a Cholesky factor `(d, d)`."""
    flat = differences.flatten(0, 1)
    covariance = (flat.T @ flat).double() / len(flat)
    root: Tensor = torch.linalg.cholesky(torch.linalg.inv(_shrunk(covariance)))
    return root


def _distances(own: Tensor, rest: Tensor) -> Tensor:
    """Of the rows `(c, k, d)` at c places to the Gaussians of the rest `(c, m, d)`; the prior's covariance is 1."""
    prior = PRIOR_IMAGES * torch.eye(rest.shape[2], dtype=rest.dtype)
    root = torch.linalg.cholesky(prior + rest.mT @ rest)  # (c, d, d)
    apart = torch.linalg.solve_triangular(root, own.mT, upper=False)  # (c, d, k)
    distances: Tensor = (rest.shape[1] + PRIOR_IMAGES) * apart.square().sum(dim=1)  # (c, k)
    return distances


def in_units_of_usual(maps: Maps, groups: Sequence[int], inside: NDArray[np.bool_]) -> Maps:
    """Maps `(n, p)`, smoothed over 3 x 3 places, by what is high there: ten deviations above the other groups' mean.

    Mean and deviation are those of the logarithms, outliers cut, so that one very strange image does not hide another.
    A place that often looks odd, like the edge of a part, counts less. No place counts as quieter than the median one:
    where nothing ever happens, a grain of dust would else be the strangest of all.

    `inside` `(tiles, h, w)` says where the p places lie in one or more grids.

    >>> maps = np.ones((4, 2)); maps[:, 1] = [2, 1, 2, 64]
    >>> in_units_of_usual(maps, range(4), np.ones((2, 1, 1), bool)).round(2)[:, 1]
    array([0.  , 0.  , 0.  , 1.54])
    """
    numbers = np.asarray(groups)
    logs = _without_outliers(np.log(np.maximum(maps, _TINY)))
    sums = np.stack([logs.sum(axis=0), np.square(logs).sum(axis=0)])
    scaled = np.empty_like(maps)
    for image, group in enumerate(numbers):
        own = logs[numbers == group]
        left = (sums - [own.sum(axis=0), np.square(own).sum(axis=0)]) / (len(maps) - len(own))
        mean, square = (_smoothed(one, inside) for one in left)
        high = np.exp(mean + _DEVIATIONS * np.sqrt(np.maximum(square - mean * mean, 0)))
        scaled[image] = _smoothed(maps[image], inside) / np.maximum(high, np.median(high))
    return scaled


def _without_outliers(logs: Maps) -> Maps:
    """At each place, what lies far above nine in ten images is brought down; far is meant over all places."""
    low, high = np.quantile(logs, (0.25, 0.75))
    return np.asarray(np.minimum(logs, np.quantile(logs, 0.9, axis=0) + (high - low)), np.float64)


def _shrunk(covariance: Tensor) -> Tensor:
    level = max(float(covariance.trace()) / len(covariance), _TINY)
    return (1 - SHRINKAGE) * covariance + SHRINKAGE * level * torch.eye(len(covariance), dtype=covariance.dtype)


def _smoothed(values: NDArray[np.float64], inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean over 3 x 3 places of each grid, of those inside."""
    grid = np.zeros(inside.shape)
    grid[inside] = values
    smooth: NDArray[np.float64] = (_summed(grid) / np.maximum(_summed(inside.astype(np.float64)), 1))[inside]
    return smooth


def _summed(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    wide = np.pad(grid, ((0, 0), (1, 1), (1, 1)))
    height, width = grid.shape[1:]
    return sum((wide[:, i : i + height, j : j + width] for i in range(3) for j in range(3)), start=np.zeros_like(grid))


Grids = NDArray[np.float16]  # (tiles, h, w, d)


@final
class FeatureExtractor:
    """The pretrained encoder, over images in one piece or tile by tile.

    Raises:
        SettingsError: sides (of the tiles, where there are any) that are no multiples of the encoder's stride, 16 by
            default; an encoder that cannot be had.
    """

    def __init__(self, policy: PixelPolicy, encoder: EncoderSettings | None = None) -> None:
        self._encoder = FrozenEncoder(encoder or EncoderSettings(), policy.network_px)
        check_sides(ImageShape(policy.channels, *policy.network_px), max(self._encoder.strides))
        self.stride = self._encoder.strides[-1]
        self.policy = policy
        self.threads = torch.get_num_threads()
        """So many images may be looked at at once."""
        self._encoder.prepare()
        self.boxes = policy.tiles or [(0, 0, *policy.size_px)]

    @torch.no_grad()
    def extract(self, prepared: Prepared) -> Grids:
        """The deepest features of an image: what is finer tells textures apart more than parts from defects.

        In one thread: several images at once gain more than several threads for one, which also wait for each other
        where the machine has other work.
        """
        with THREADS.limited_to(1):
            return np.stack([self._features(prepared.pixels(box)) for box in self.boxes])

    def inside(self) -> NDArray[np.bool_]:
        """Which places `(tiles, h, w)` have their centre in the region of interest."""
        half = self.stride // 2
        height, width = (side // self.stride for side in self.policy.network_px)
        if self.policy.roi is None:
            return np.ones((len(self.boxes), height, width), bool)
        roi = self.policy.roi
        return np.stack(
            [
                roi[top:bottom, left:right][half :: self.stride, half :: self.stride]
                for top, left, bottom, right in self.boxes
            ]
        )

    def to_map(self, places: NDArray[np.float64]) -> NDArray[np.float32]:
        """A value for each place inside as a map `(h, w)` at the size the network sees."""
        inside = self.inside()
        grids = np.zeros(inside.shape, np.float32)
        grids[inside] = places
        pieces = {box: resize_map(grid, self.policy.network_px) for box, grid in zip(self.boxes, grids, strict=True)}
        if self.policy.tile_px is None:
            return pieces[self.boxes[0]]
        return join_tiles(self.policy.size_px, self.boxes, self.policy.tile_overlap_px, pieces.__getitem__)

    def _features(self, pixels: NDArray[np.float32]) -> Grids:
        deepest: Tensor = self._encoder(torch.from_numpy(pixels)[None])[-1]  # (1, d, h, w)
        smooth = F.avg_pool2d(deepest, 3, stride=1, padding=1, count_include_pad=False)  # as Roth et al. 2022
        return smooth[0].permute(1, 2, 0).contiguous().numpy().astype(np.float16)


def leave_one_out(
    extractor: FeatureExtractor, grids: Sequence[Grids], groups: Sequence[int], on_fold: OnStep = tell_nobody
) -> Maps:
    """How strange each image is at each place inside, from what `extractor` saw; 1 is far above what is usual there.

    Images of one group never judge each other.
    """
    inside = extractor.inside()
    features = np.stack([grid[inside] for grid in grids])  # (n, p, d)
    return in_units_of_usual(leave_one_out_distances(features, groups, on_fold), groups, inside)
