"""The auto-encoders: layers as printed, losses by hand, and goldens that a refactor must not move."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.models.conv_autoencoder import ConvAutoencoder, ConvAutoencoderSettings
from blemish.models.detector import ImageShape
from blemish.models.maps import gaussian_blur, ssim_residual

PAPER = ImageShape(channels=3, height=256, width=256)


def build(shape: ImageShape, **settings: object) -> ConvAutoencoder:
    return ConvAutoencoder(ConvAutoencoderSettings.model_validate(settings), shape)


def fill_by_formula(module: nn.Module) -> None:
    """Weights without a random generator: a cosine over the weight's place, scaled to its fan-in; no bias."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
            elif weight.ndim > 1:
                place = torch.arange(weight.numel(), dtype=torch.float64)
                fan_in = weight[0].numel()
                weight.copy_((torch.cos(0.7 * place + 0.3) * math.sqrt(2 / fan_in)).reshape(weight.shape))


def images_by_formula(count: int, channels: int, side: int) -> Tensor:
    place = torch.arange(count * channels * side * side, dtype=torch.float64)
    return (0.5 + 0.4 * torch.sin(0.05 * place)).float().reshape(count, channels, side, side)


def table_of(stack: nn.Sequential) -> list[tuple[int, int, int, int]]:
    """(in, out, kernel, stride) of each convolution, as the paper prints them."""
    return [
        (layer.in_channels, layer.out_channels, layer.kernel_size[0], layer.stride[0])
        for layer in stack
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    ]


def test_encoder_is_table_1() -> None:
    assert table_of(build(PAPER).encoder) == [
        (3, 3, 4, 2),
        (3, 32, 4, 2),
        (32, 32, 4, 2),
        (32, 32, 3, 1),
        (32, 64, 4, 2),
        (64, 64, 3, 1),
        (64, 128, 4, 2),
        (128, 64, 3, 1),
        (64, 32, 3, 1),
        (32, 500, 8, 1),
    ]


PRINTED = [
    (500, 32, 8, 1),
    (32, 64, 3, 1),
    (64, 128, 3, 1),
    (128, 64, 4, 2),
    (64, 64, 3, 1),
    (64, 32, 4, 2),
    (64, 128, 4, 2),
    (128, 64, 3, 1),
    (64, 32, 4, 2),
    (32, 32, 3, 1),
    (32, 32, 4, 2),
    (32, 3, 4, 2),
    (3, 3, 4, 2),
]
"""Table 2, its misfit in the seventh row included."""


def test_decoder_is_table_2_without_its_surplus_rows() -> None:
    assert table_of(build(PAPER).decoder) == PRINTED[:6] + PRINTED[9:]


def test_printed_decoder_is_table_2_with_one_channel_repaired() -> None:
    repaired = [*PRINTED[:6], (32, 128, 4, 2), *PRINTED[7:]]
    assert table_of(build(PAPER, decoder="as_printed").decoder) == repaired


def test_norms_and_activations_are_those_of_section_4() -> None:
    detector = build(PAPER)
    layers = [type(layer).__name__ for layer in detector.encoder]
    assert layers == ["Conv2d", "BatchNorm2d", "LeakyReLU"] * 9 + ["Conv2d", "BatchNorm2d"]
    layers = [type(layer).__name__ for layer in detector.decoder]
    assert layers == ["TransposedConv2d", "BatchNorm2d", "LeakyReLU"] * 9 + ["TransposedConv2d", "Sigmoid"]
    norms = [layer for layer in detector.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.1, 1e-6)}
    assert {layer.negative_slope for layer in detector.modules() if isinstance(layer, nn.LeakyReLU)} == {0.01}


def test_bergmann_has_one_layer_less_no_norms_and_no_sigmoid() -> None:
    detector = build(ImageShape(3, 128, 128), architecture="bergmann", latent=100)
    assert table_of(detector.encoder)[0] == (3, 32, 4, 2)
    assert table_of(detector.encoder)[-1] == (32, 100, 8, 1)
    assert table_of(detector.decoder)[-1] == (32, 3, 4, 2)
    kinds = {type(layer).__name__ for layer in (*detector.encoder, *detector.decoder)}
    assert kinds == {"Conv2d", "TransposedConv2d", "LeakyReLU", "Identity"}


@pytest.mark.parametrize(("loss", "grey", "bound"), [("mse", 0.0, 48**-0.5), ("ssim", 0.5, 0.0)])
def test_where_similarity_is_learnt_it_begins_with_grey_images(loss: str, grey: float, bound: float) -> None:
    """By what does not depend on the last layer's random weights; torch draws its bias within 1 / sqrt(3 x 4 x 4)."""
    detector = build(ImageShape(3, 64, 64), architecture="bergmann", latent=4, loss=loss).eval()
    last = [layer for layer in detector.decoder.modules() if isinstance(layer, nn.ConvTranspose2d)][-1]
    nn.init.zeros_(last.weight)
    decoded = detector.reconstruct(torch.rand(2, 3, 64, 64))
    assert (decoded - grey).abs().max() <= bound


@pytest.mark.parametrize("architecture", ["paper", "bergmann"])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 160), (256, 128)])
def test_latent_is_one_pixel_at_any_size(architecture: str, height: int, width: int) -> None:
    detector = build(ImageShape(1, height, width), architecture=architecture, latent=8).eval()
    images = torch.rand(2, 1, height, width)
    assert detector.encoder(images).shape == (2, 8, 1, 1)
    assert detector.reconstruct(images).shape == images.shape


def test_printed_decoder_gives_four_times_the_side() -> None:
    detector = build(ImageShape(3, 32, 64), decoder="as_printed", latent=8).eval()
    images = torch.rand(2, 3, 32, 64)
    decoded = detector.decoder(detector.encoder(images))
    assert decoded.shape == (2, 3, 128, 256)
    target = F.interpolate(images, (128, 256), mode="bilinear")
    torch.testing.assert_close(detector.loss(images), (target - decoded).flatten(1).norm(dim=1).mean())
    torch.testing.assert_close(detector.reconstruct(images)[:, :, 0, 0], decoded[:, :, :4, :4].mean((2, 3)))


@pytest.mark.parametrize("loss", ["l2", "mse", "ssim"])
def test_map_follows_the_loss(loss: str) -> None:
    detector = build(ImageShape(3, 32, 32), latent=8, loss=loss, smoothing_sigma_px=1.5).eval()
    images = torch.rand(2, 3, 32, 32)
    difference = images - detector.reconstruct(images)
    unsmoothed = {
        "l2": difference.abs().amax(1),
        "mse": difference.square().mean(1),
        "ssim": ssim_residual(images, detector.reconstruct(images)).mean(1),
    }[loss]
    torch.testing.assert_close(detector(images), gaussian_blur(unsmoothed, 1.5), rtol=1e-4, atol=1e-5)


GOLDEN_PARAMETERS = [
    ({}, 2_692_497),
    ({"decoder": "as_printed"}, 2_865_201),
    ({"architecture": "bergmann"}, 8_833_399),
]


@pytest.mark.parametrize(("settings", "count"), GOLDEN_PARAMETERS)
def test_golden_parameter_count(settings: dict[str, object], count: int) -> None:
    assert sum(weight.numel() for weight in build(PAPER, **settings).parameters()) == count


GOLDEN_LOSSES = [
    ({"loss": "l2"}, [15.9093, 16.0379, 15.7144, 15.6909]),
    ({"loss": "l2", "decoder": "as_printed"}, [52.0257, 51.6871, 51.5314, 51.5025]),
    ({"architecture": "bergmann", "loss": "mse"}, [0.330547, 0.329083, 0.32739, 0.325241]),
    ({"architecture": "bergmann", "loss": "ssim"}, [0.999995, 0.999927, 0.999847, 0.999743]),
]


@pytest.mark.parametrize(("settings", "expected"), GOLDEN_LOSSES)
def test_golden_loss_of_four_steps(settings: dict[str, object], expected: list[float]) -> None:
    detector = build(ImageShape(3, 32, 32), latent=8, **settings)
    fill_by_formula(detector)
    images = images_by_formula(4, 3, 32)
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = detector.loss(images)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-4)
