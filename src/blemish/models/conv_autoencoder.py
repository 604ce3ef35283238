"""ConvAutoencoder: what a convolutional auto-encoder cannot reproduce of an image."""

from typing import Annotated, Any, ClassVar, Literal, final

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from blemish.models.blocks import Finish, Row, decoder, encoder, grid_of
from blemish.models.detector import Batches, Detector, ImageShape, Optimise
from blemish.models.maps import (
    SigmaPx,
    gaussian_blur,
    max_over_channels,
    mean_l2_norm,
    mean_squared_error,
    mean_ssim_residual,
    ssim_residual,
)
from blemish.settings import Settings

PAPER_ENCODER = (
    (3, 4, 2),
    (32, 4, 2),
    (32, 4, 2),
    (32, 3, 1),
    (64, 4, 2),
    (64, 3, 1),
    (128, 4, 2),
    (64, 3, 1),
    (32, 3, 1),
)
"""Table 1 of the paper, less its last row: the latent's, with a kernel as large as the grid."""

_OPENING = ((32, 8, 1), (64, 3, 1), (128, 3, 1), (64, 4, 2), (64, 3, 1), (32, 4, 2))
_SURPLUS = ((128, 4, 2), (64, 3, 1), (32, 4, 2))
_CLOSING = ((32, 3, 1), (32, 4, 2), (3, 4, 2), (3, 4, 2))

PAPER_DECODER = _OPENING + _CLOSING
"""Table 2 without its rows 7 to 9: the mirror of Table 1."""

PRINTED_DECODER = _OPENING + _SURPLUS + _CLOSING
"""All thirteen rows of Table 2; row 7 takes the 32 channels that row 6 gives, where 64 are printed."""

LOSSES = {"l2": mean_l2_norm, "mse": mean_squared_error, "ssim": mean_ssim_residual}


def _present_name(architecture: object) -> object:
    """Earlier model files call the paper's layers `seed`."""
    return "paper" if architecture == "seed" else architecture


@final
class ConvAutoencoderSettings(Settings):
    """Settings of ConvAutoencoder."""

    latent: Annotated[int, Field(ge=1, le=8192)] = Field(
        500, description="Numbers an image is kept in. Too few lose detail, too many let defects through."
    )
    architecture: Annotated[Literal["paper", "bergmann"], BeforeValidator(_present_name)] = Field(
        "paper", description="Layers: the paper's Tables 1 and 2, or those of Bergmann et al. 2018."
    )
    decoder: Literal["mirror", "as_printed"] = Field(
        "mirror", description="as_printed: all rows of Table 2; the reconstruction has four times the side."
    )
    loss: Literal["l2", "mse", "ssim"] = Field(
        "l2", description="Mean L2 norm (the paper's equation 5), mean squared error, or 1 - structural similarity."
    )
    smoothing_sigma_px: SigmaPx = 0.0


@final
class ConvAutoencoder(Detector):
    """The convolutional auto-encoder of the paper, and that of Bergmann et al. 2018.

    The paper's: Tables 1 and 2, BatchNorm and LeakyReLU(0.01) between the layers, a sigmoid at the end. Tables 1 and 2
    are for 3 x 256 x 256; at another size the kernel of the latent's two layers, 8 x 8 there, is (height / 32,
    width / 32), so that the latent stays 1 x 1. With one channel, only the first input and the last
    output have one; the 3 channels next to them stay.

    Bergmann: the same tables less the layer next to the image, LeakyReLU(0.2), no BatchNorm, no sigmoid. The
    latent's kernel is (height / 16, width / 16), 8 x 8 at their 128 x 128.

    The map follows the loss: Algorithm 1 for l2, the squared error for mse, 1 - structural similarity for ssim,
    both as the mean over channels.

    Sources: Fadaeinejad, "Anomaly Detection in Images using Deep Encoder-Decoder Models"; Bergmann et al. 2018,
    "Improving unsupervised defect segmentation by applying structural similarity to autoencoders".

    >>> import torch
    >>> settings = ConvAutoencoderSettings(latent=8)
    >>> detector = ConvAutoencoder(settings, ImageShape(channels=1, height=32, width=64)).eval()
    >>> detector.encoder(torch.rand(2, 1, 32, 64)).shape
    torch.Size([2, 8, 1, 1])
    >>> detector.reconstruct(torch.rand(2, 1, 32, 64)).shape
    torch.Size([2, 1, 32, 64])
    """

    Settings = ConvAutoencoderSettings
    side_multiple: ClassVar[int] = 32

    def __init__(self, settings: ConvAutoencoderSettings, shape: ImageShape) -> None:
        super().__init__(shape)
        self.settings = settings
        papers = settings.architecture == "paper"
        finish = Finish(batch_norm=papers, slope=0.01 if papers else 0.2)
        encoding = PAPER_ENCODER if papers else PAPER_ENCODER[1:]
        decoding: tuple[Row, ...] = PAPER_DECODER if settings.decoder == "mirror" else PRINTED_DECODER
        decoding = (*decoding[: -1 if papers else -2], (shape.channels, 4, 2))
        grid = grid_of(shape, encoding)
        self.encoder = encoder(shape.channels, encoding, settings.latent, grid, finish)
        self.decoder = decoder(settings.latent, decoding, grid, finish, nn.Sigmoid() if papers else nn.Identity())
        if settings.loss == "ssim" and not papers:
            start_grey(self.decoder)

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Bring down the loss."""
        optimise(batches, self.loss)

    def loss(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
        """Between the images and what the decoder gives.

        With `decoder="as_printed"` the target is the image enlarged to four times its side (bilinear).
        """
        decoded = self.decoder(self.encoder(images))
        if decoded.shape != images.shape:
            images = F.interpolate(images, decoded.shape[2:], mode="bilinear")
        return LOSSES[self.settings.loss](images, decoded)

    def reconstruct(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """How the images would look if they were good.

        With `decoder="as_printed"` each pixel is the mean of the 4 x 4 that the decoder gives for it.
        """
        decoded: Tensor = self.decoder(self.encoder(images))
        return decoded if self.settings.decoder == "mirror" else F.avg_pool2d(decoded, 4)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """The difference of the images to their reconstructions."""
        maps = residual(images, self.reconstruct(images), self.settings.loss)
        return gaussian_blur(maps, self.settings.smoothing_sigma_px)


def start_grey(decoder: nn.Module) -> None:
    """Let a decoder without a sigmoid begin with images around 0.5, as one with a sigmoid does.

    Around 0 the structural similarity has hardly a gradient; some runs never got away from there.
    """
    last = [layer for layer in decoder.modules() if isinstance(layer, nn.ConvTranspose2d)][-1]
    assert last.bias is not None
    nn.init.constant_(last.bias, 0.5)


def residual(
    images: Float[Tensor, "b c h w"],
    reconstructions: Float[Tensor, "b c h w"],
    loss: Literal["l2", "mse", "ssim"],
) -> Float[Tensor, "b h w"]:
    """The difference of a pixel to its reconstruction, as the loss counts it.

    >>> import torch
    >>> black, dim = torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.5)
    >>> residual(black, dim, "l2"), residual(black, dim, "mse")
    (tensor([[[0.5000]]]), tensor([[[0.2500]]]))
    """
    if loss == "l2":
        return max_over_channels(images, reconstructions)
    if loss == "mse":
        return (images - reconstructions).square().mean(dim=1)
    # In 64 bits: the variances are small differences of large numbers, and every machine must get the same.
    return ssim_residual(images.double(), reconstructions.double()).mean(dim=1).float()


PAPER_PRESET: dict[str, Any] = {
    "detector": "conv_autoencoder",
    "model": {"architecture": "paper", "decoder": "mirror", "latent": 500, "loss": "l2"},
}
"""The auto-encoder of the paper."""

_BERGMANN: dict[str, Any] = {
    "detector": "conv_autoencoder",
    "data": {"side_px": 128},
    "train": {"epochs": 200, "max_steps": 800, "learning_rate": 5e-4, "schedule": "one_cycle", "weight_decay": 1e-5},
}
AE_L2_PRESET = {**_BERGMANN, "model": {"architecture": "bergmann", "latent": 100, "loss": "mse"}}
AE_SSIM_PRESET = {**_BERGMANN, "model": {"architecture": "bergmann", "latent": 100, "loss": "ssim"}}
"""The two auto-encoders of Bergmann et al. 2018, with their size, latent, epochs and weight decay.

Not theirs, so that a processor without GPU gets there: at most 800 steps of 16 whole images instead of some 16,000 of
128 patches, and therefore a learning rate that rises to 5e-4 and falls to nothing instead of a constant 2e-4, with
which so few steps leave both far from done.
"""
