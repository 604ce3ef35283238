"""AnoGan: what a generator of good images cannot draw of an image, however its latent is chosen."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, NamedTuple, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blemish.models.detector import Batches, Detector, ImageShape, Optimise
from blemish.models.maps import SigmaPx, gaussian_blur, max_over_channels
from blemish.settings import Settings

STARTS = 64
"""Latents that are tried before the search; also the generated images whose diversity is measured."""

LOWEST_DIVERSITY = 0.5
"""Below this share of the good images' own diversity, the generator is said to have collapsed."""


@final
class AnoGanSettings(Settings):
    """Settings of AnoGan."""

    latent: Annotated[int, Field(ge=1, le=1024)] = Field(64, description="Numbers an image is generated from.")
    width: Annotated[int, Field(ge=4, le=256)] = Field(
        32, description="Channels of the layers next to the image; each layer inwards has twice as many."
    )
    search_steps: Annotated[int, Field(ge=1, le=5000)] = Field(
        150, description="Gradient steps in the latent space for each image that is scored."
    )
    search_rate: Annotated[float, Field(gt=0.0)] = Field(0.05, description="Learning rate of that search.")
    feature_weight: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.1, description="Share of the discriminator's features in the search; the rest is the residual's."
    )
    smoothing_sigma_px: SigmaPx = 0.0


@final
class Found(NamedTuple):
    """What the search came to, an image each: the latent, the residual loss and the feature loss."""

    latents: Tensor  # (b, latent, 1, 1)
    residual_losses: Tensor  # (b,)
    feature_losses: Tensor  # (b,)


@final
class AnoGan(Detector):
    """A generative adversarial network of good images, searched for the one nearest to the image at hand.

    Training: the DCGAN of Radford et al. 2016, with four doublings, so that sides are multiples of 16. Scoring:
    for each image a latent is sought that brings down (1 - w) |x - G(z)| + w |f(x) - f(G(z))|, both summed, with
    f the features below the discriminator's decision and w = 0.1. The map is Algorithm 1 on x and G(z).

    Other than in the paper, the search starts from the nearest of 64 fixed latents instead of a random one:
    repeatable, and in fewer steps as near.

    `notes` tell how near the search comes to good images, by both losses, and when the generator draws nearly the
    same image whatever its latent is (mode collapse).

    Source: Schlegl et al. 2017, "Unsupervised anomaly detection with generative adversarial networks to guide
    marker discovery".

    >>> settings = AnoGanSettings(latent=8, width=4, search_steps=2)
    >>> detector = AnoGan(settings, ImageShape(channels=1, height=16, width=48)).eval()
    >>> detector.search(torch.rand(2, 1, 16, 48)).residual_losses.shape
    torch.Size([2])
    """

    Settings = AnoGanSettings
    side_multiple: ClassVar[int] = 16
    defaults: ClassVar[Mapping[str, Any]] = {
        "data": {"side_px": 64},
        "train": {"learning_rate": 2e-4, "betas": (0.5, 0.999), "epochs": 200, "max_steps": 3000},
    }
    why_not_exported = "it scores an image by a search with gradients, which ONNX has none of"
    starts: Tensor
    diversity: Tensor
    search_losses: Tensor

    def __init__(self, settings: AnoGanSettings, shape: ImageShape) -> None:
        super().__init__(shape)
        self.settings = settings
        self.generator = generator(settings.latent, settings.width, shape)
        self.discriminator = discriminator(settings.width, shape)
        fixed = torch.Generator().manual_seed(0)  # scores must not depend on when an image is scored
        self.register_buffer("starts", torch.randn(STARTS, settings.latent, 1, 1, generator=fixed, device="cpu"))
        self.register_buffer("diversity", torch.tensor(torch.nan))
        self.register_buffer("search_losses", torch.full((2,), torch.nan))

    @property
    def notes(self) -> list[str]:
        """What whoever trained should know."""
        if self.diversity.isnan():
            return []
        residual, feature = self.search_losses.tolist()
        searched = f"search for good images: residual loss {residual:.4g}, feature loss {feature:.4g} an image"
        share = self.diversity.item()
        if share >= LOWEST_DIVERSITY:
            return [searched]
        return [
            searched,
            f"mode collapse: generated images differ from each other {share:.2f} times as much as good ones do; "
            "train longer, with another seed, or with more images",
        ]

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Train discriminator and generator in turn, then see what the generator can draw."""
        modules = (self.discriminator, self.generator)
        optimise(batches, self.discriminator_loss, self.generator_loss, modules=modules)
        self._measure_search(next(iter(batches)))

    def discriminator_loss(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Cross-entropy of telling good images from generated ones."""
        with torch.no_grad():
            generated = self._generate(images)
        real, fake = self.discriminator(images).float(), self.discriminator(generated).float()
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator_loss(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Cross-entropy of passing for good (the form that does not saturate, Goodfellow et al. 2014)."""
        return F.softplus(-self.discriminator(self._generate(images)).float()).mean()

    def search(self, images: Float[Tensor, "b c h w"]) -> Found:
        """The latent whose generated image comes nearest to each image, and how near."""
        weight = self.settings.feature_weight
        features = self.discriminator[0](images)
        latents = self._nearest_starts(images).requires_grad_()
        optimizer = torch.optim.Adam([latents], lr=self.settings.search_rate)
        for _ in range(self.settings.search_steps):
            with torch.enable_grad():
                residuals, differences = self._losses(latents, images, features)
                total = ((1 - weight) * residuals + weight * differences).sum()
                (latents.grad,) = torch.autograd.grad(total, latents)
            optimizer.step()
        latents = latents.detach()
        return Found(latents, *self._losses(latents, images, features))

    def reconstruct(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """The generated image nearest to each image."""
        generated: Tensor = self.generator(self.search(images).latents)
        return generated

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """The difference of the images to the nearest that the generator can draw."""
        maps = max_over_channels(images, self.reconstruct(images))
        return gaussian_blur(maps, self.settings.smoothing_sigma_px)

    def _generate(self, images: Tensor) -> Tensor:
        latents = torch.randn(len(images), self.settings.latent, 1, 1, device=images.device)
        generated: Tensor = self.generator(latents)
        return generated

    def _nearest_starts(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            candidates = self.generator(self.starts)
            distances = [(image - candidates).abs().flatten(1).sum(dim=1).argmin() for image in images]
        return self.starts[torch.stack(distances)]

    def _losses(self, latents: Tensor, images: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        generated = self.generator(latents)
        residuals = (images - generated).abs().flatten(1).sum(dim=1)
        return residuals, (features - self.discriminator[0](generated)).abs().flatten(1).sum(dim=1)

    @torch.no_grad()
    def _measure_search(self, images: Tensor) -> None:
        """Measure how much generated images differ, and how near the search comes to good ones."""
        was_training = self.training
        self.eval()
        generated = self.generator(self.starts[: len(images)].to(images.device))
        self.diversity.copy_(mean_distance(generated) / mean_distance(images))
        found = self.search(images)
        self.search_losses.copy_(torch.stack([found.residual_losses.mean(), found.feature_losses.mean()]))
        self.train(was_training)


def mean_distance(images: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Mean L2 distance of an image to another.

    >>> mean_distance(torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1))  # (1 + 2 + 1) / 3
    tensor(1.3333)
    """
    return torch.pdist(images.float().flatten(1)).mean()


def generator(latent: int, width: int, shape: ImageShape) -> nn.Sequential:
    """Latents `(b, latent, 1, 1)` -> images: transposed convolutions, BatchNorm, ReLU; a sigmoid at the end.

    >>> generator(8, 4, ImageShape(channels=3, height=32, width=16))(torch.zeros(2, 8, 1, 1)).shape
    torch.Size([2, 3, 32, 16])
    """
    channels = 8 * width
    layers: list[nn.Module] = [
        nn.ConvTranspose2d(latent, channels, (shape.height // 16, shape.width // 16), bias=False)
    ]
    for _ in range(3):
        layers += [nn.BatchNorm2d(channels), nn.ReLU()]
        layers += [nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False)]
        channels //= 2
    layers += [nn.BatchNorm2d(channels), nn.ReLU()]
    layers += [nn.ConvTranspose2d(channels, shape.channels, 4, stride=2, padding=1), nn.Sigmoid()]
    return _with_small_weights(nn.Sequential(*layers))


def discriminator(width: int, shape: ImageShape) -> nn.Sequential:
    """Images -> features `(b, 8 width, h / 16, w / 16)` -> one number, positive for good.

    >>> features, decision = discriminator(4, ImageShape(channels=3, height=32, width=16))
    >>> features(torch.zeros(2, 3, 32, 16)).shape
    torch.Size([2, 32, 2, 1])
    """
    layers: list[nn.Module] = [nn.Conv2d(shape.channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for _ in range(3):
        layers += [nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(2 * width), nn.LeakyReLU(0.2)]
        width *= 2
    decision = nn.Conv2d(width, 1, (shape.height // 16, shape.width // 16))
    return _with_small_weights(nn.Sequential(nn.Sequential(*layers), decision))


def _with_small_weights(stack: nn.Sequential) -> nn.Sequential:
    for weight in stack.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=0.02)  # Radford et al. 2016, section 4
    return stack
