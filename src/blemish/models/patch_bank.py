"""A bank of good patches, the metric in which it is searched, and how far a patch is from it."""

from typing import final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from blemish.models.detector import identities
from blemish.models.feature_maps import as_vectors
from blemish.models.neighbours import coreset, distances_between, nearest_of_others, relative_distances

SMALLEST = 1e-3
"""Features that hardly vary in good images, and rows of the bank that lie on each other, count for this at least."""

DIRECTIONS = 96
"""Main directions of the rows of the bank in which they are told apart: half of the channels, at half of the time. In
all others only how far patch and row lie out together counts."""

PROJECTION = 64
"""Random directions in which distances are measured while the bank is chosen."""

METRIC_ROWS = 2000
"""Patches among which the nearest of another image is sought for the metric."""


@final
class PatchBank(nn.Module):
    """Good patches that cover all of them; how far a patch is from the nearest, over the spacing of the bank there.

    The metric: a patch's residual is its difference from the nearest patch of another good image. In the directions
    and units of the residuals' principal components, each component is divided by the root of its variance plus the
    mean variance: what varies from part to part counts for less, noise is not blown up. The spacing of a row is its
    mean distance to the three nearest other rows plus the mean of that over all rows.

    The metric ends in a turn to the rows' own main directions, of which a row keeps `DIRECTIONS`; its last column is
    the sum of squares of the others (`relative_distances`). Rows in older model files are as long as patches.
    """

    centre: Tensor
    metric: Tensor
    rows: Tensor
    spacing: Tensor

    def __init__(self, channels: int, near: int = 1) -> None:
        super().__init__()
        self.near = near
        self.register_buffer("centre", torch.zeros(channels))
        self.register_buffer("metric", identities(1, channels)[0])
        self.register_buffer("rows", torch.zeros(1, channels))
        self.register_buffer("spacing", torch.ones(1))

    def forward(self, patches: Float[Tensor, "n f"]) -> Float[Tensor, " n"]:
        return self.distances(patches, self.rows, self.spacing, self.near)

    def distances(
        self, patches: Float[Tensor, "n f"], rows: Float[Tensor, "k _"], spacing: Float[Tensor, " k"], near: int
    ) -> Float[Tensor, " n"]:
        """How far patches are from these rows, or from what lies between so many of the nearest, over their spacing."""
        channels = len(self.centre)
        points = (patches - self.centre) @ self.metric.view(channels, channels)  # of a damaged file it may be no square
        short, beyond = (rows, None) if rows.shape[1] == points.shape[1] else (rows[:, :-1], rows[:, -1])
        near = min(near, len(rows) - 1)
        if near > 1:
            return distances_between(points, short, spacing, beyond, near)
        return relative_distances(points, short, spacing, beyond)

    @torch.no_grad()
    def fit(self, patches: Float[Tensor, "n f"], image: Int[Tensor, " n"], rows: int) -> Int[Tensor, " k"]:
        """Keep so many of these patches, each of the image of this number; and the number of the image of each row."""
        self.centre = patches.mean(dim=0)
        metric = residual_metric(patches - self.centre, image)
        points = (patches - self.centre) @ metric
        directions = torch.randn(points.shape[1], PROJECTION).to(points.device)
        chosen = coreset(points @ directions, min(rows, len(points)))
        kept = points[chosen]
        near = torch.cdist(kept, kept).topk(min(4, len(kept)), largest=False).values[:, 1:].mean(dim=1)
        self.spacing = near + near.mean().clamp_min(SMALLEST)
        turn = main_directions(kept)
        self.metric, self.rows = (metric @ turn).contiguous(), shorten(kept @ turn, DIRECTIONS)
        return image[chosen]

    def distances_to_others(
        self, patches: Float[Tensor, "n f"], is_other: Bool[Tensor, " k"], near: int | None = None
    ) -> Float[Tensor, " n"]:
        """The same as `forward`, to some of the rows; to all of them where none is left."""
        some = is_other if bool(is_other.any()) else torch.ones_like(is_other)
        return self.distances(patches, self.rows[some], self.spacing[some], near or self.near)


@final
class Draw:
    """Patches drawn at random from images that come batch after batch, and the number of the image of each."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.patches: list[Tensor] = []
        self.image: list[Tensor] = []

    def add(self, maps: Float[Tensor, "b f i j"], chance: Float[Tensor, " n"], first: int, images: int) -> None:
        """Keep, of about so many images, twice the count; `chance` is uniform in [0, 1), for each place or more."""
        places = maps.shape[2] * maps.shape[3]
        kept = chance[: len(maps) * places] < 2 * self.count / (images * places)
        self.patches.append(as_vectors(maps)[kept])
        self.image.append(torch.arange(first, first + len(maps), device=maps.device).repeat_interleave(places)[kept])

    def some(self) -> tuple[Float[Tensor, "n f"], Int[Tensor, " n"]]:
        """So many of them at most, in random order, and the number of the image of each."""
        taken = torch.randperm(sum(map(len, self.patches)))[: self.count].to(self.image[0].device)
        return torch.cat(self.patches)[taken], torch.cat(self.image)[taken]


def residual_metric(patches: Float[Tensor, "n f"], image: Int[Tensor, " n"]) -> Float[Tensor, "f f"]:
    """The matrix that brings patches, in random order, to the metric of `PatchBank`."""
    scale = patches.std(dim=0).clamp_min(SMALLEST)
    standard = patches / scale
    few = min(METRIC_ROWS, len(patches) // 2)
    nearest = nearest_of_others(standard[few:], image[few:], standard[:few], image[:few])
    residual = standard[few:] - standard[nearest]
    variances, directions = torch.linalg.eigh((residual.mT @ residual / len(residual)).double())
    usual = variances.mean().clamp_min(SMALLEST**2)
    gain = (1 + variances.clamp_min(0) / usual).rsqrt()
    metric: Tensor = (directions * gain).float() / scale[:, None]
    return metric.contiguous()  # as it is read back from a file: another layout would round otherwise


def main_directions(rows: Float[Tensor, "k f"]) -> Float[Tensor, "f f"]:
    """The rows' principal directions as columns, the one of most variance first.

    >>> main_directions(torch.tensor([[0.0, 1.0], [0.0, 5.0], [1.0, 3.0]])).abs()
    tensor([[0., 1.],
            [1., 0.]])
    """
    centred = (rows - rows.mean(dim=0)).double()
    directions: Tensor = torch.linalg.eigh(centred.mT @ centred)[1].flip(1)
    return directions.float()


def shorten(rows: Float[Tensor, "k f"], channels: int) -> Float[Tensor, "k _"]:
    """The first channels, and the sum of the squares of the others; the rows as they are where that is no shorter.

    >>> shorten(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), 2), shorten(torch.tensor([[1.0, 2.0, 3.0]]), 2)
    (tensor([[ 1.,  2., 25.]]), tensor([[1., 2., 3.]]))
    """
    if channels + 1 >= rows.shape[1]:
        return rows
    return torch.cat([rows[:, :channels], rows[:, channels:].square().sum(dim=1, keepdim=True)], dim=1)
