"""Gaussians of good features, one a place or a cell: measured in one pass, drawn towards each other, inverted."""

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blemish.models.detector import identities
from blemish.models.patch_bank import SMALLEST

GAUSSIAN_BYTES = 32 << 20
"""All covariances of one scale, which grow with the square of an encoder's channels, take about so much at most."""

RIDGE = 0.01
"""Added to the variances of standardised features, so that every covariance can be inverted."""


@final
class Gaussians(NamedTuple):
    """Means `(p, d)` and covariances `(p, d, d)` at p places, each from so many observations (and divided by that)."""

    mean: Tensor
    covariance: Tensor
    observations: int


@final
class GaussianSums:
    """Sums over the observations of each place, from which its Gaussian follows.

    They are taken relative to the first batch's mean: differences of large numbers would cost digits.
    """

    def __init__(self) -> None:
        self.count = 0
        self.origin = self.total = self.products = torch.zeros(())

    @torch.no_grad()
    def add(self, features: Float[Tensor, "p d n"]) -> None:
        """Take in n more observations of each place."""
        if self.count == 0:
            self.origin = features.mean(dim=2, keepdim=True)
        shifted = features - self.origin
        self.total = self.total + shifted.sum(dim=2)
        self.products = self.products + shifted @ shifted.mT
        self.count += features.shape[2]

    def gaussians(self) -> Gaussians:
        """The Gaussian of all observations so far."""
        offset = self.total / self.count
        covariance = self.products / self.count - outer(offset)
        return Gaussians(self.origin[:, :, 0] + offset, covariance, self.count)


def place_gaussians(batches: Iterable[Float[Tensor, "p d _"]]) -> Gaussians:
    """The Gaussian of each place's features, over the observations of all batches.

    >>> found = place_gaussians([torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[5.0, 7.0]]])])
    >>> found.mean.item(), found.covariance.item(), found.observations
    (4.0, 5.0, 4)
    """
    sums = GaussianSums()
    for features in batches:
        sums.add(features)
    return sums.gaussians()


def join_gaussians(parts: Sequence[Gaussians]) -> Gaussians:
    """The Gaussians of all observations of several parts of them.

    >>> one, other = (Gaussians(torch.tensor([[mean]]), torch.ones(1, 1, 1), observations=2) for mean in (0.0, 4.0))
    >>> join_gaussians([one, other])
    Gaussians(mean=tensor([[2.]]), covariance=tensor([[[5.]]]), observations=4)
    """
    count = sum(part.observations for part in parts)
    mean = torch.stack([part.mean * (part.observations / count) for part in parts]).sum(dim=0)
    scatter = [(part.covariance + outer(part.mean - mean)) * (part.observations / count) for part in parts]
    return Gaussians(mean, torch.stack(scatter).sum(dim=0), count)


@torch.no_grad()
def shrink_gaussians(places: Gaussians, weight: int) -> Gaussians:
    """Each place's Gaussian drawn towards the whole image's, as if by `weight` more observations there.

    mean' = (n mean + w mean_all) / (n + w), and likewise covariance' = (n S + w S_all) / (n + w), with S the place's
    mean scatter about mean' and S_all the scatter of all places about mean_all: few images say little about one place
    and much about all places. Shrinkage in the manner of Ledoit & Wolf 2004, towards the data's own pooled covariance.

    >>> places = Gaussians(torch.tensor([[0.0], [2.0]]), torch.ones(2, 1, 1), observations=3)
    >>> shrink_gaussians(places, weight=3).mean.flatten(), shrink_gaussians(places, weight=3).covariance.flatten()
    (tensor([0.5000, 1.5000]), tensor([1.6250, 1.6250]))
    """
    overall, everywhere = pooled(places)
    share = weight / (places.observations + weight)
    mean = (1 - share) * places.mean + share * overall
    own = places.covariance + outer(places.mean - mean)
    return Gaussians(mean, (1 - share) * own + share * everywhere, places.observations)


def pooled(places: Gaussians) -> tuple[Float[Tensor, " d"], Float[Tensor, "d d"]]:
    """Mean and covariance over all observations of all places."""
    overall = places.mean.mean(dim=0)  # (d,)
    apart = places.mean - overall
    return overall, places.covariance.mean(dim=0) + apart.mT @ apart / len(apart)


def outer(vectors: Float[Tensor, "p d"]) -> Float[Tensor, "p d d"]:
    """Each vector times its own transpose."""
    return vectors[:, :, None] * vectors[:, None, :]


@torch.no_grad()
def whitening(covariance: Float[Tensor, "p d d"], ridge: float) -> Float[Tensor, "p d d"]:
    """Inverse Cholesky factors W of `covariance + ridge * identity`: |W (x - mean)| is the Mahalanobis distance.

    >>> whitening(torch.tensor([[[4.0]]]), ridge=0.0).item()
    0.5
    """
    factors = torch.empty_like(covariance)
    identity = torch.eye(covariance.shape[1], dtype=covariance.dtype, device=covariance.device)
    for place, matrix in enumerate(covariance):  # one by one: many identities would be as large as the covariances
        lower = torch.linalg.cholesky(matrix + ridge * identity)
        factors[place] = torch.linalg.solve_triangular(lower, identity, upper=False)
    return factors


def mahalanobis(
    features: Float[Tensor, "p d n"], mean: Float[Tensor, "p d"], factors: Float[Tensor, "p d d"]
) -> Float[Tensor, "p n"]:
    """Mahalanobis distance of each observation to its place's Gaussian."""
    return (factors @ (features - mean[:, :, None])).square().sum(dim=1).sqrt()


def most_gaussians(channels: int, most: int) -> int:
    """How many Gaussians of so many channels there may be: `most`, or fewer that take `GAUSSIAN_BYTES` of a file.

    >>> most_gaussians(112, 512), most_gaussians(768, 512), most_gaussians(8192, 16)
    (512, 14, 1)
    """
    return max(1, min(most, GAUSSIAN_BYTES // (4 * channels**2)))


def cell_sides(grid: tuple[int, int], most: int, smallest: int = 2) -> tuple[int, int]:
    """Places a side of a cell, for at most so many cells: doubled from the smallest while there are more.

    There are more where a side cannot be halved any further. A side that `smallest` does not divide begins with the
    next divisor above it.

    >>> cell_sides((16, 16), 512), cell_sides((64, 64), 512), cell_sides((62, 64), 512), cell_sides((8, 9), 16)
    ((2, 2), (4, 4), (2, 4), (2, 3))
    """
    height, width = (next(d for d in range(min(smallest, side), side + 1) if side % d == 0) for side in grid)
    while (grid[0] // height) * (grid[1] // width) > most:
        taller, wider = grid[0] % (2 * height) == 0, grid[1] % (2 * width) == 0
        if not (taller or wider):
            break
        height, width = height << taller, width << wider
    return height, width


def in_cells(maps: Float[Tensor, "b d i j"], cell: tuple[int, int]) -> Float[Tensor, "p d n"]:
    """Cells of so many places down and across in a row, each with its places of all images.

    >>> in_cells(torch.arange(8.0).reshape(1, 1, 2, 4), cell=(2, 2))
    tensor([[[0., 1., 4., 5.]],
            [[2., 3., 6., 7.]]])
    """
    _, depth, height, width = maps.shape
    down, across = cell
    split = maps.reshape(
        -1, depth, height // down, down, width // across, across
    )  # (b, d, rows, down, columns, across)
    return split.permute(2, 4, 1, 0, 3, 5).flatten(3).flatten(0, 1)


def out_of_cells(values: Float[Tensor, "p n"], cell: tuple[int, int], grid: tuple[int, int]) -> Float[Tensor, "b i j"]:
    """The way back from `in_cells`, for one number a place.

    >>> maps = torch.rand(3, 1, 4, 6)
    >>> torch.equal(out_of_cells(in_cells(maps, (2, 3))[:, 0], (2, 3), grid=(4, 6)), maps[:, 0])
    True
    """
    rows, columns = grid[0] // cell[0], grid[1] // cell[1]
    split = values.reshape(rows, columns, -1, *cell)  # (rows, columns, b, down, across)
    return split.permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)


@final
class CellGaussians(nn.Module):
    """A Gaussian of features for each cell of a grid, drawn towards that of the whole grid; how far features are off.

    The Mahalanobis distance over the root of the number of channels; `whitening` takes features as they are.
    """

    usual: Tensor
    whitening: Tensor

    def __init__(self, channels: int, grid: tuple[int, int], most: int) -> None:
        super().__init__()
        self.grid, self.cell = grid, cell_sides(grid, most)
        count = math.prod(grid) // math.prod(self.cell)
        self.register_buffer("usual", torch.zeros(count, channels))
        self.register_buffer("whitening", identities(count, channels))

    def observations(self, maps: Float[Tensor, "b c i j"]) -> Float[Tensor, "p c n"]:
        """The features of each cell."""
        return in_cells(maps, self.cell)

    @torch.no_grad()
    def take(self, places: Gaussians, alike: float = 0.0) -> None:
        """Take over the Gaussians that were measured in the cells, at least this share of each the whole grid's."""
        weight = max(self.usual.shape[1], round(places.observations * alike / (1 - alike)))
        mean, covariance, _ = shrink_gaussians(places, weight)
        std = pooled(places)[1].diagonal().clamp_min(SMALLEST**2).sqrt()
        self.usual = mean
        self.whitening = whitening(covariance / (std[:, None] * std), RIDGE) / std

    def drawn(self, places: Gaussians, alike: float) -> "CellGaussians":
        """Others of the same cells, which have taken over these Gaussians."""
        cells = deepcopy(self)
        cells.take(places, alike)
        return cells

    def forward(self, maps: Float[Tensor, "b c i j"]) -> Float[Tensor, "b i j"]:
        distances = mahalanobis(self.observations(maps), self.usual, self.whitening) / math.sqrt(maps.shape[1])
        return out_of_cells(distances, self.cell, self.grid)
