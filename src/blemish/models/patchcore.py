"""PatchCore: the distance of each patch to the nearest of a bank of good patches."""

from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from blemish.models.detector import Batches, Detector, ImageShape, Optimise, check_sides
from blemish.models.encoders import FrozenEncoder
from blemish.models.feature_maps import (
    PATCH_DEFAULTS,
    FeatureBatches,
    PatchSettings,
    as_vectors,
    concat_scales,
    map_of_patches,
)

ROWS_AT_ONCE = 512
"""Patches are compared with so many rows of the bank at a time, which bounds memory for large images.

The bank is cut and not the patches: its size is known when the detector becomes a graph, that of a batch is not.
"""


@final
class PatchCoreSettings(PatchSettings):
    """Settings of PatchCore."""

    coreset_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.01, description="Share of the good patches that the bank keeps."
    )
    candidates: Annotated[int, Field(ge=1, le=10_000_000)] = Field(
        65_536, description="The bank is chosen among so many patches, drawn at random where there are more."
    )
    projection: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="Random directions in which distances are measured while the bank is chosen."
    )


@final
class PatchCore(Detector):
    """A bank of good patches that covers all of them; the map is the distance to the nearest.

    The score of an image is the maximum of the smoothed map, as of all detectors; the paper reweights the
    largest distance before smoothing.

    Source: Roth et al. 2022, "Towards total recall in industrial anomaly detection", Algorithm 1.

    >>> detector = PatchCore(PatchCoreSettings(), ImageShape(channels=3, height=32, width=48)).eval()
    >>> detector(torch.rand(2, 3, 32, 48)).shape
    torch.Size([2, 32, 48])
    """

    Settings = PatchCoreSettings
    side_multiple: ClassVar[int] = 16
    defaults: ClassVar = PATCH_DEFAULTS
    bank: Tensor

    def __init__(self, settings: PatchCoreSettings, shape: ImageShape) -> None:
        super().__init__(shape)
        self.settings = settings
        self.features = FrozenEncoder(settings.encoder)
        check_sides(shape, max(self.features.strides))
        self.register_buffer("bank", torch.zeros(1, sum(self.features.channels)))

    def fit(self, batches: Batches, optimise: Optimise) -> None:  # noqa: ARG002  # solved without gradients
        """Collect the patches, then keep a coreset of them."""
        self.features.prepare()
        patches = torch.cat(list(FeatureBatches(batches, self.patches)))  # (n, c)
        wanted = max(1, round(self.settings.coreset_share * len(patches)))
        if len(patches) > self.settings.candidates:
            drawn = torch.randperm(len(patches))[: max(self.settings.candidates, wanted)]
            patches = patches[drawn.to(patches.device)]
        directions = torch.randn(patches.shape[1], self.settings.projection, device=patches.device)
        self.bank = patches[coreset(patches @ directions / self.settings.projection**0.5, wanted)]

    def patches(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "n f"]:
        """The features of every place of every image."""
        return as_vectors(concat_scales(self.features(images)))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Distance to the nearest good patch, brought to the pixels and smoothed."""
        distances = nearest_distances(self.patches(images), self.bank)
        return map_of_patches(distances, self.shape, self.features.patch_stride, self.settings.smoothing_sigma_px)


@torch.no_grad()
def coreset(points: Float[Tensor, "n d"], count: int) -> Int[Tensor, " count"]:
    """Greedy k-centre: starting from the first point, each next one is the farthest from those chosen.

    Costs n x d for each point chosen, in one matrix-vector product.

    >>> coreset(torch.tensor([[0.0], [1.0], [10.0], [6.0]]), 3)
    tensor([0, 2, 3])
    """
    squares = points.square().sum(dim=1)
    chosen = torch.zeros(count, dtype=torch.long, device=points.device)
    farness = torch.full_like(squares, torch.inf)
    for place in range(1, count):
        last = points[chosen[place - 1]]
        distance = torch.addmv(squares, points, last, alpha=-2).add_(last.dot(last))
        farness = torch.minimum(farness, distance, out=farness)
        chosen[place] = farness.argmax()
    return chosen


def nearest_distances(queries: Float[Tensor, "n c"], bank: Float[Tensor, "k c"]) -> Float[Tensor, " n"]:
    """Euclidean distance of each query to the nearest row of the bank.

    The nearest row is found by |x - b|^2 = |x|^2 - 2 x b + |b|^2, which is one matrix product; the distance to it is
    then taken again from x - b, because what little is left of large squares would be mostly rounding.

    >>> nearest_distances(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [30.0, 0.0]]))
    tensor([5.])
    """
    squares = bank.square().sum(dim=1)
    best = torch.full_like(queries[:, 0], torch.inf)
    nearest = torch.zeros_like(queries)
    for rows, row_squares in zip(torch.split(bank, ROWS_AT_ONCE), torch.split(squares, ROWS_AT_ONCE), strict=True):
        found = torch.addmm(row_squares, queries, rows.mT, alpha=-2).min(dim=1)
        nearest = torch.where((found.values < best)[:, None], rows[found.indices], nearest)
        best = torch.minimum(best, found.values)
    distances: Tensor = torch.linalg.vector_norm(queries - nearest, dim=1)
    return distances
