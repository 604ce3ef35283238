"""VariationalAutoencoder: how improbable each pixel is to a variational auto-encoder."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blemish.models.blocks import Finish, convolutions, decoder, grid_of
from blemish.models.detector import Batches, Detector, ImageShape, Optimise
from blemish.models.maps import SigmaPx, gaussian_blur
from blemish.settings import Settings

ENCODER = ((32, 4, 2), (32, 4, 2), (64, 4, 2), (64, 4, 2), (128, 4, 2))
DECODER = ((128, 8, 1), (64, 4, 2), (64, 4, 2), (32, 4, 2), (32, 4, 2))

START_LOG_RATIO = 2.0
"""An untrained decoder should claim little: at 0 the first errors count a hundredfold and swamp all else."""


@final
class VaeSettings(Settings):
    """Settings of VariationalAutoencoder."""

    latent: Annotated[int, Field(ge=1, le=8192)] = Field(128, description="Numbers an image is kept in.")
    beta: Annotated[float, Field(ge=0.0)] = Field(
        1.0, description="Weight of the divergence to the prior; 1 is the evidence lower bound itself."
    )
    min_std: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.02, description="Smallest standard deviation of a grey value the decoder may claim; 1 is the full range."
    )
    samples: Annotated[int, Field(ge=1, le=256)] = Field(
        4, description="Latents drawn for each image that is scored; the time grows with it."
    )
    smoothing_sigma_px: SigmaPx = 0.0


@final
class Gaussians(NamedTuple):
    """Independent normal distributions, by their means and the logarithms of their standard deviations."""

    mean: Tensor
    log_std: Tensor


@final
class VariationalAutoencoder(Detector):
    """A convolutional variational auto-encoder that scores by reconstruction probability.

    The decoder gives each value of each pixel a mean and a standard deviation, as An & Cho do: a Gaussian, because
    grey values are measured amounts, and because it lets the decoder say where good images vary anyway. A
    Bernoulli (the usual choice for binary digits) cannot say that, and is least certain at mid-grey.

    The map is the negative log probability of a pixel, all its channels together, as the mean over samples of the
    latent. The standard deviation never falls below `min_std`, and the constant -log(min_std sqrt(2 pi)) a
    channel is left out: what remains, error^2 / (2 std^2) + log(std / min_std), is never negative.

    Sources: Kingma & Welling 2014, "Auto-encoding variational Bayes"; An & Cho 2015, "Variational autoencoder
    based anomaly detection using reconstruction probability".

    >>> settings = VaeSettings(latent=8)
    >>> detector = VariationalAutoencoder(settings, ImageShape(channels=3, height=64, width=32)).eval()
    >>> detector.encode(torch.rand(2, 3, 64, 32)).mean.shape
    torch.Size([2, 8, 1, 1])
    """

    Settings = VaeSettings
    side_multiple: ClassVar[int] = 32
    defaults: ClassVar[Mapping[str, Any]] = {"data": {"side_px": 128}}
    noise: Tensor

    def __init__(self, settings: VaeSettings, shape: ImageShape) -> None:
        super().__init__(shape)
        self.settings = settings
        finish, grid = Finish(batch_norm=True, slope=0.01), grid_of(shape, ENCODER)
        head = nn.Conv2d(ENCODER[-1][0], 2 * settings.latent, grid)
        self.encoder = nn.Sequential(*convolutions(shape.channels, ENCODER, finish), head)
        rows = (*DECODER, (2 * shape.channels, 4, 2))
        self.decoder = decoder(settings.latent, rows, grid, finish, nn.Identity())
        fixed = torch.Generator().manual_seed(0)  # scores must not depend on when or beside what an image is scored
        noise = torch.randn(settings.samples, settings.latent, 1, 1, generator=fixed, device="cpu")
        self.register_buffer("noise", noise)

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Raise the evidence lower bound."""
        optimise(batches, self.negative_elbo)

    def negative_elbo(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Mean over images, in nats a grey value: -log p(image | one sampled latent) + beta KL(latent || prior).

        The reconstruction term lacks the same constant as the map.
        """
        latents = self.encode(images)
        sample = latents.mean + latents.log_std.exp() * torch.randn_like(latents.mean)
        reconstruction = self._surprise(images, self.decode(sample)).mean()
        divergence = kl_to_prior(latents).mean() / images[0].numel()
        return reconstruction + self.settings.beta * divergence

    def encode(self, images: Float[Tensor, "b c h w"]) -> Gaussians:
        """What the image says about its latent, `(b, latent, 1, 1)`."""
        mean, log_std = self.encoder(images).float().chunk(2, dim=1)
        return Gaussians(mean, log_std)

    def decode(self, latents: Float[Tensor, "b latent 1 1"]) -> Gaussians:
        """What the latent says about the image, `(b, c, h, w)`; the deviations are relative to `min_std`."""
        mean, log_ratio = self.decoder(latents).float().chunk(2, dim=1)
        return Gaussians(torch.sigmoid(mean), F.softplus(log_ratio + START_LOG_RATIO))

    def reconstruct(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The mean image of the mean latent."""
        return self.decode(self.encode(images).mean).mean

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Negative log reconstruction probability of each pixel, up to the constant above."""
        latents = self.encode(images)
        maps = torch.zeros_like(images[:, 0])  # (b, h, w)
        for noise in self.noise:  # one at a time: all at once would take `samples` times the memory
            decoded = self.decode(latents.mean + latents.log_std.exp() * noise)
            maps = maps + self._surprise(images, decoded).sum(dim=1)
        return gaussian_blur(maps / len(self.noise), self.settings.smoothing_sigma_px)

    def _surprise(self, images: Tensor, decoded: Gaussians) -> Tensor:
        relative_error = (images - decoded.mean) / self.settings.min_std
        return 0.5 * (relative_error * (-decoded.log_std).exp()) ** 2 + decoded.log_std


def kl_to_prior(latents: Gaussians) -> Float[Tensor, " b"]:
    """Kullback-Leibler divergence to the standard normal distribution, summed over each image's latent.

    Source: Kingma & Welling 2014, appendix B.

    >>> kl_to_prior(Gaussians(mean=torch.tensor([[2.0]]), log_std=torch.tensor([[0.0]])))  # 2^2 / 2
    tensor([2.])
    """
    mean, log_std = latents
    return (0.5 * (mean**2 + (2 * log_std).exp() - 1) - log_std).flatten(1).sum(dim=1)
