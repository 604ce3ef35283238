"""FeatureAutoencoder: what an encoder-decoder cannot reproduce of a pretrained network's features."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blemish.models.detector import Batches, Detector, ImageShape, Optimise, identities
from blemish.models.encoders import EncoderSettings, FrozenEncoder
from blemish.models.feature_maps import FeatureBatches, local_mean
from blemish.models.gaussians import (
    RIDGE,
    cell_sides,
    in_cells,
    mahalanobis,
    most_gaussians,
    out_of_cells,
    place_gaussians,
    shrink_gaussians,
    whitening,
)
from blemish.models.maps import SigmaPx, upsample_and_blur

SMALLEST_STD = 1e-3
"""Channels that hardly vary in good images are not blown up by more than this allows."""

MAX_GAUSSIANS = 512
"""Larger images have larger cells, where their sides allow it: a Gaussian of 112 channels takes 49 KiB of the file."""


@final
class FeatureAutoencoderSettings(EncoderSettings):
    """Settings of FeatureAutoencoder."""

    latent: Annotated[int, Field(ge=1, le=1024)] = Field(64, description="Channels of the bottleneck.")
    width: Annotated[int, Field(ge=8, le=1024)] = Field(128, description="Channels of the layers around it.")
    bottleneck: Annotated[int, Field(ge=0, le=2)] = Field(
        1, description="Stride-2 steps from the coarsest features down to the bottleneck."
    )
    by_place: bool = Field(
        True, description="A Gaussian for each place of the image. false: one for all of them, as for rolls of cloth."
    )
    smoothing_sigma_px: SigmaPx = Field(
        2.5, description="Blur each term of the anomaly map by this much. 0: not at all."
    )


@final
class FeatureAutoencoder(Detector):
    """A convolutional encoder-decoder that reproduces the features of a pretrained network, on good images only.

    The frozen encoder's maps (strides 4, 8 and 16) are standardised and laid side by side on the coarsest grid:
    each 16 x 16 pixels are 16 x 24 + 4 x 40 + 112 numbers. Encoder and decoder pass them through one bottleneck
    and give back the finer scales; the loss is the mean over these scales of the mean squared error.

    The map is the geometric mean of one term a scale, each blurred; a defect raises them together, the texture of
    a good part now one and now another. For every finer scale: the root mean square residual, channels in units of
    their own; what does not follow from its surroundings. For the coarsest scale, averaged over 3 x 3 places: the
    Mahalanobis distance to a Gaussian of the good images, over the root of the channels; what is unusual in itself.
    That Gaussian belongs to a cell of the bottleneck's grid, drawn towards the whole image's (`shrink_gaussians`, as
    many observations as there are channels), so that it serves parts that lie where they always lie as well as
    textures.

    Sources: the features' encoder-decoder from Shi et al. 2021 (DFR, arXiv 2012.07122), the one bottleneck for
    all scales from Deng & Li 2022 (reverse distillation), Gaussians at places from Defard et al. 2021 (PaDiM).

    >>> settings = FeatureAutoencoderSettings(latent=4, width=8)
    >>> detector = FeatureAutoencoder(settings, ImageShape(channels=3, height=64, width=96)).eval()
    >>> detector.pack_scales(torch.rand(2, 3, 64, 96)).shape
    torch.Size([2, 656, 4, 6])
    """

    Settings = FeatureAutoencoderSettings
    defaults: ClassVar[Mapping[str, Any]] = {
        "augment": {"images_of_one": 1},
        "data": {"side": "shorter"},
        "train": {
            "epochs": 1000,
            "max_steps": 400,
            "batch_size": 8,
            "learning_rate": 2e-3,
            "weight_decay": 1e-4,
            "schedule": "one_cycle",
        },
    }
    mean: Tensor
    std: Tensor
    residual_std: Tensor
    usual: Tensor
    whitening: Tensor

    def __init__(self, settings: FeatureAutoencoderSettings, shape: ImageShape) -> None:
        super().__init__(shape, settings)
        self.settings = settings
        self.features = FrozenEncoder(settings, shape[1:])
        self.features.check_several("feature_autoencoder")
        coarsest = max(self.features.strides)
        self.ratios = [coarsest // stride for stride in self.features.strides]
        self.sizes = [c * r * r for c, r in zip(self.features.channels, self.ratios, strict=True)]
        self.finer = sum(self.sizes[:-1])
        self.autoencoder = autoencoder(sum(self.sizes), self.finer, settings)
        self.grid = (shape.height // coarsest, shape.width // coarsest)
        most = most_gaussians(self.features.channels[-1], MAX_GAUSSIANS)
        self.cell = cell_sides(self.grid, most, 1 << settings.bottleneck) if settings.by_place else self.grid
        cells = (self.grid[0] // self.cell[0]) * (self.grid[1] // self.cell[1])
        self.register_buffer("mean", torch.zeros(sum(self.sizes), 1, 1))
        self.register_buffer("std", torch.ones(sum(self.sizes), 1, 1))
        self.register_buffer("residual_std", torch.ones(self.finer, 1, 1))
        self.register_buffer("usual", torch.zeros(cells, self.sizes[-1]))
        self.register_buffer("whitening", identities(cells, self.sizes[-1]))

    @classmethod
    def multiple_of_sides(cls, settings: FeatureAutoencoderSettings) -> int:
        """What the encoder needs, and further steps down to the bottleneck."""
        return settings.side_multiple << settings.bottleneck

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Standardise the features, train the encoder-decoder on them, measure what is left over."""
        self.features.prepare()
        features = FeatureBatches(batches, self.pack_scales)
        features.keep()
        self.mean, self.std = moments(features)
        optimise(features, self.feature_loss)
        self.autoencoder.eval()
        features.epoch = 0
        self.residual_std = root_mean_square(self.residual(self.standard(batch)) for batch in features)
        places = place_gaussians(self.coarse(self.standard(batch)) for batch in features)
        self.usual, covariance, _ = shrink_gaussians(places, weight=self.sizes[-1])
        self.whitening = whitening(covariance, RIDGE)
        self.autoencoder.train(self.training)

    def feature_loss(self, features: Float[Tensor, "b c i j"]) -> Float[Tensor, ""]:
        """Mean over the scales of the mean squared error of standardised features."""
        standard = self.standard(features)
        squared = (self.autoencoder(standard).float() - standard[:, : self.finer]).square()
        return torch.stack([part.mean() for part in torch.split(squared, self.sizes[:-1], dim=1)]).mean()

    def pack_scales(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f i j"]:
        """All scales on the coarsest grid; finer ones put the places of a cell into channels."""
        maps = self.features(images)
        return torch.cat([F.pixel_unshuffle(x, r) for x, r in zip(maps, self.ratios, strict=True)], dim=1)

    def standard(self, features: Float[Tensor, "b f i j"]) -> Float[Tensor, "b f i j"]:
        """Features in units of their deviation on the good images."""
        return (features - self.mean) / self.std

    def residual(self, standard: Float[Tensor, "b f i j"]) -> Float[Tensor, "b r i j"]:
        """What the encoder-decoder leaves of the finer scales."""
        left: Tensor = standard[:, : self.finer] - self.autoencoder(standard)
        return left

    def coarse(self, standard: Float[Tensor, "b f i j"]) -> Float[Tensor, "p d n"]:
        """The coarsest scale, averaged over neighbourhoods, cell by cell."""
        return in_cells(local_mean(standard[:, self.finer :]), self.cell)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Geometric mean of the finer scales' residuals and of the distance from usual features."""
        return self.terms(images).prod(dim=0).pow(1 / len(self.sizes))

    def terms(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "t b h w"]:
        """What the map is the mean of, finest scale first, at the size of the images and blurred."""
        standard = self.standard(self.pack_scales(images))
        residuals = torch.split(self.residual(standard) / self.residual_std, self.sizes[:-1], dim=1)
        terms = [
            F.pixel_shuffle(part, ratio).square().mean(dim=1).sqrt()
            for part, ratio in zip(residuals, self.ratios[:-1], strict=True)
        ]
        distances = mahalanobis(self.coarse(standard), self.usual, self.whitening) / math.sqrt(self.sizes[-1])
        terms.append(out_of_cells(distances, self.cell, self.grid))
        size = (self.shape.height, self.shape.width)
        return torch.stack([upsample_and_blur(term, *size, self.settings.smoothing_sigma_px) for term in terms])


def autoencoder(channels: int, out_channels: int, settings: FeatureAutoencoderSettings) -> nn.Sequential:
    """Down to `latent` channels on a grid halved `bottleneck` times, and back."""
    width = settings.width
    down = [layer for _ in range(settings.bottleneck) for layer in block(width, width, stride=2)]
    up = [
        layer
        for _ in range(settings.bottleneck)
        for layer in (nn.Upsample(scale_factor=2, mode="bilinear"), *block(width, width))
    ]
    return nn.Sequential(
        *block(channels, width, kernel=1),
        *block(width, width),
        *down,
        nn.Conv2d(width, settings.latent, 1),
        *block(settings.latent, width),
        *up,
        *block(width, width),
        nn.Conv2d(width, out_channels, 1),
    )


def block(channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution, BatchNorm and GELU."""
    convolution = nn.Conv2d(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.GELU()]


@torch.no_grad()
def moments(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, `(c, 1, 1)`, over all images and places; the latter never tiny.

    >>> mean, std = moments([torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)])
    >>> mean.item(), std.item()
    (2.0, 1.0)
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        values = batch.double()
        count += values[:, 0].numel()
        total = total + values.sum(dim=(0, 2, 3))
        squares = squares + values.square().sum(dim=(0, 2, 3))
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(SMALLEST_STD**2).sqrt()
    return mean.float()[:, None, None], std.float()[:, None, None]


@torch.no_grad()
def root_mean_square(batches: Iterable[Tensor]) -> Tensor:
    """Root mean square of each channel, `(c, 1, 1)`, over all images and places; never tiny.

    >>> root_mean_square([torch.tensor([3.0, 4.0]).reshape(2, 1, 1, 1)]).item()
    3.5355...
    """
    means = [(batch.double().square().mean(dim=(0, 2, 3)), len(batch)) for batch in batches]
    images = sum(count for _, count in means)
    mean = torch.stack([mean * count for mean, count in means]).sum(dim=0) / images
    return mean.sqrt().clamp_min(SMALLEST_STD).float()[:, None, None]
