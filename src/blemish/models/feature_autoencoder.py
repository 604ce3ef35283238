"""FeatureAutoencoder: how would this image's features look if it were good? Decode them from a bottleneck."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blemish.models.detector import Batches, Detector, ImageShape, Optimise, check_sides
from blemish.models.encoders import Frozen
from blemish.models.feature_maps import FeatureBatches, as_vectors, neighbourhood
from blemish.scoring.maps import gaussian_blur
from blemish.settings import Settings

SMALLEST_STD = 1e-3
"""Channels that hardly vary in good images are not blown up by more than this allows."""

SHRINKAGE = 0.01
"""How far a covariance is drawn towards a multiple of the identity."""


@final
class FeatureAutoencoderSettings(Settings):
    """Settings of FeatureAutoencoder."""

    latent: Annotated[int, Field(ge=1, le=1024)] = Field(64, description="Channels of the bottleneck.")
    width: Annotated[int, Field(ge=8, le=1024)] = Field(128, description="Channels of the layers around it.")
    bottleneck: Annotated[int, Field(ge=0, le=2)] = Field(
        1, description="Stride-2 steps from the coarsest features down to the bottleneck."
    )
    smoothing_sigma_px: Annotated[float, Field(ge=0.0, le=64.0)] = Field(
        4.0, description="Blur the anomaly map by this much. 0: not at all."
    )


@final
class FeatureAutoencoder(Detector):
    """A convolutional encoder-decoder that reproduces the features of a pretrained network, on good images only.

    The frozen encoder's maps (strides 4, 8 and 16) are standardised channel by channel and laid side by side on
    the coarsest grid: each 16 x 16 pixels are 16 x 24 + 4 x 40 + 112 numbers. Encoder and decoder pass them
    through one bottleneck; the loss is the mean over the scales of the mean squared error.

    The map is a sum of four terms, each with a mean square of 1 on the good images: for each scale the root mean
    square residual (channels in units of their own root mean square residual), for what does not follow from its
    surroundings; and the Mahalanobis distance of the coarsest features, averaged over 3 x 3 places, to those of
    good images, for what is unusual in itself. The latter carries textures, whose details nothing can predict.
    Smoothing takes zeros beyond the border, where the features are least certain.

    Sources: the features' encoder-decoder from Shi et al. 2021 (DFR, arXiv 2012.07122), the one bottleneck for
    all scales from Deng & Li 2022 (reverse distillation).

    >>> settings = FeatureAutoencoderSettings(latent=4, width=8)
    >>> detector = FeatureAutoencoder(settings, ImageShape(channels=3, height=64, width=96)).eval()
    >>> detector.packed(torch.rand(2, 3, 64, 96)).shape
    torch.Size([2, 656, 4, 6])
    """

    Settings = FeatureAutoencoderSettings
    side_multiple: ClassVar[int] = 32
    defaults: ClassVar[Mapping[str, Any]] = {
        "augment": {"images_of_one": 1},
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

    def __init__(
        self, settings: FeatureAutoencoderSettings, shape: ImageShape, encoder: nn.Module | None = None
    ) -> None:
        super().__init__(shape)
        self.settings = settings
        self.features = Frozen(encoder)
        coarsest = max(self.features.strides)
        check_sides(shape, coarsest << settings.bottleneck)
        self.ratios = [coarsest // stride for stride in self.features.strides]
        self.sizes = [c * r * r for c, r in zip(self.features.channels, self.ratios, strict=True)]
        self.autoencoder = autoencoder(sum(self.sizes), settings)
        for name, value in (("mean", 0.0), ("std", 1.0), ("residual_std", 1.0)):
            self.register_buffer(name, torch.full((sum(self.sizes), 1, 1), value))
        self.register_buffer("usual", torch.zeros(self.sizes[-1], 1, 1))
        self.register_buffer("whitening", torch.eye(self.sizes[-1]))

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Standardise the features, train the encoder-decoder on them, measure what is left over."""
        self.features.prepare()
        features = FeatureBatches(batches, self.packed)
        features.keep()
        self.mean, self.std = moments(features)
        optimise(features, self.feature_loss)
        self.autoencoder.eval()
        features.epoch = 0
        self.residual_std = root_mean_square(self.residual(self.standard(batch)) for batch in features)
        self.usual, self.whitening = whitener(self.coarse(self.standard(batch)) for batch in features)
        self.autoencoder.train(self.training)

    def feature_loss(self, features: Float[Tensor, "b c i j"]) -> Float[Tensor, ""]:
        """Mean over the scales of the mean squared error of standardised features."""
        standard = self.standard(features)
        squared = (self.autoencoder(standard).float() - standard).square()
        return torch.stack([part.mean() for part in torch.split(squared, self.sizes, dim=1)]).mean()

    def packed(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f i j"]:
        """All scales on the coarsest grid; finer ones put the places of a cell into channels."""
        maps = self.features(images)
        return torch.cat([F.pixel_unshuffle(x, r) for x, r in zip(maps, self.ratios, strict=True)], dim=1)

    def standard(self, features: Float[Tensor, "b f i j"]) -> Float[Tensor, "b f i j"]:
        """Features in units of their deviation on the good images."""
        return (features - self.mean) / self.std

    def residual(self, standard: Float[Tensor, "b f i j"]) -> Float[Tensor, "b f i j"]:
        """What the encoder-decoder leaves of standardised features."""
        left: Tensor = standard - self.autoencoder(standard)
        return left

    def coarse(self, standard: Float[Tensor, "b f i j"]) -> Float[Tensor, "b k i j"]:
        """The coarsest scale, averaged over neighbourhoods."""
        return neighbourhood(standard[:, -self.sizes[-1] :])

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Residuals of all scales and the distance from usual features, smoothed."""
        standard = self.standard(self.packed(images))
        residuals = torch.split(self.residual(standard) / self.residual_std, self.sizes, dim=1)
        terms = [F.pixel_shuffle(part, ratio) for part, ratio in zip(residuals, self.ratios, strict=True)]
        terms.append(F.conv2d(self.coarse(standard) - self.usual, self.whitening[:, :, None, None]))
        size = (self.shape.height, self.shape.width)
        errors = [term.square().mean(dim=1, keepdim=True).sqrt() for term in terms]  # (b, 1, i, j)
        pixels = [F.interpolate(error, size=size, mode="bilinear") for error in errors]
        return blur_over_zeros(torch.stack(pixels).sum(dim=0)[:, 0], self.settings.smoothing_sigma_px)


def autoencoder(channels: int, settings: FeatureAutoencoderSettings) -> nn.Sequential:
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
        nn.Conv2d(width, channels, 1),
    )


def block(channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution, BatchNorm and GELU."""
    convolution = nn.Conv2d(channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.GELU()]


def blur_over_zeros(maps: Float[Tensor, "b h w"], sigma_px: float) -> Float[Tensor, "b h w"]:
    """A Gaussian blur that takes everything beyond the border as zero: border pixels keep about half.

    >>> blurred = blur_over_zeros(torch.ones(1, 65, 65), sigma_px=2.0)
    >>> bool(blurred[0, 0, 32] < 0.65), round(blurred[0, 32, 32].item(), 3)
    (True, 1.0)
    """
    reach = math.ceil(4 * sigma_px)
    padded = F.pad(maps, (reach, reach, reach, reach))
    return gaussian_blur(padded, sigma_px)[:, reach : reach + maps.shape[1], reach : reach + maps.shape[2]]


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


@torch.no_grad()
def whitener(batches: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean `(c, 1, 1)` and inverse Cholesky factor `(c, c)` of the channels' covariance over all images and places.

    The covariance is drawn towards a multiple of the identity by a hundredth, so that it can be inverted.

    >>> points = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> whitener([points.reshape(4, 2, 1, 1)])[1].diagonal()  # 1 / std, nearly
    tensor([0.4725, 1.3868])
    """
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        rows = as_vectors(batch).double()
        count += len(rows)
        total = total + rows.sum(dim=0)
        products = products + rows.mT @ rows
    mean = total / count
    covariance = products / count - mean.outer(mean)
    identity = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    level = covariance.diagonal().mean().clamp_min(SMALLEST_STD**2)
    lower = torch.linalg.cholesky((1 - SHRINKAGE) * covariance + SHRINKAGE * level * identity)
    whitening = torch.linalg.solve_triangular(lower, identity, upper=False)
    return mean.float()[:, None, None], whitening.float()
