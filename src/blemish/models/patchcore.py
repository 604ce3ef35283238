"""PatchCore: the distance of each patch to the nearest of a bank of good patches."""

from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blemish.models.detector import Batches, Detector, ImageShape, Optimise
from blemish.models.encoders import FrozenEncoder
from blemish.models.feature_maps import (
    PATCH_DEFAULTS,
    FeatureBatches,
    PatchSettings,
    as_vectors,
    concat_scales,
    map_of_patches,
)
from blemish.models.neighbours import coreset, nearest_distances


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
    defaults: ClassVar = PATCH_DEFAULTS
    bank: Tensor

    def __init__(self, settings: PatchCoreSettings, shape: ImageShape) -> None:
        super().__init__(shape, settings)
        self.settings = settings
        self.features = FrozenEncoder(settings, shape[1:])
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
