"""PaDiM: the distance of each patch to the Gaussian of the good patches at its place."""

from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blemish.models.detector import Batches, Detector, ImageShape, Optimise, identities
from blemish.models.encoders import FrozenEncoder
from blemish.models.feature_maps import (
    PATCH_DEFAULTS,
    FeatureBatches,
    PatchSettings,
    concat_scales,
    damp_border,
    map_of_patches,
)
from blemish.models.gaussians import mahalanobis, place_gaussians, whitening


@final
class PadimSettings(PatchSettings):
    """Settings of Padim."""

    dimensions: Annotated[int, Field(ge=1, le=4096)] = Field(
        100, description="Features kept of each place, drawn at random; all where there are fewer."
    )
    regularisation: Annotated[float, Field(gt=0.0)] = Field(
        0.01, description="Added to the variances, so that every covariance can be inverted."
    )


@final
class Padim(Detector):
    """A Gaussian of pretrained features at each place; the map is the Mahalanobis distance to it.

    `whitening` holds the inverse Cholesky factors W of the covariances: the distance is |W (x - mean)|. It takes
    `dimensions`^2 numbers a place, which makes a large file: 41 MB at 256 x 256.

    Source: Defard et al. 2021, "PaDiM: a patch distribution modeling framework for anomaly detection and
    localization", with regularisation 0.01 and sigma 4 as there, and the features of each place alone, not averaged
    over its neighbours. Two things differ: the grid is the second finest scale's, where the paper has the finest, for
    a quarter of the places and of the file; and features at the border are damped (`damp_border`).

    >>> detector = Padim(PadimSettings(dimensions=8), ImageShape(channels=3, height=32, width=48)).eval()
    >>> detector(torch.rand(2, 3, 32, 48)).shape
    torch.Size([2, 32, 48])
    """

    Settings = PadimSettings
    defaults: ClassVar = PATCH_DEFAULTS
    kept: Tensor
    mean: Tensor
    whitening: Tensor

    def __init__(self, settings: PadimSettings, shape: ImageShape) -> None:
        super().__init__(shape, settings)
        self.settings = settings
        self.features = FrozenEncoder(settings, shape[1:])
        channels = sum(self.features.channels)
        dimensions = min(settings.dimensions, channels)
        stride = self.features.patch_stride
        places = (shape.height // stride) * (shape.width // stride)
        self.register_buffer("kept", torch.randperm(channels, device="cpu")[:dimensions].sort().values)
        self.register_buffer("mean", torch.zeros(places, dimensions))
        self.register_buffer("whitening", identities(places, dimensions))

    def fit(self, batches: Batches, optimise: Optimise) -> None:  # noqa: ARG002  # solved without gradients
        """Sum up each place's Gaussian in one pass."""
        self.features.prepare()
        self.mean, covariance, count = place_gaussians(FeatureBatches(batches, self.place_features))
        self.whitening = whitening(covariance * (count / max(count - 1, 1)), self.settings.regularisation)

    def place_features(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "p d b"]:
        """The kept features of each place, images last."""
        features = concat_scales(self.features(images), damp_border).index_select(1, self.kept)  # (b, d, i, j)
        return features.flatten(2).permute(2, 1, 0)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Mahalanobis distance, brought to the pixels and smoothed."""
        distances = mahalanobis(self.place_features(images), self.mean, self.whitening).permute(1, 0)  # (b, p)
        return map_of_patches(distances, self.shape, self.features.patch_stride, self.settings.smoothing_sigma_px)
