"""The flagship: what its map is made of, what it learns, and what it leaves alone."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.errors import SettingsError
from blemish.models.detector import ImageShape
from blemish.models.feature_autoencoder import (
    FeatureAutoencoder,
    FeatureAutoencoderSettings,
    blur_over_zeros,
    moments,
    whitener,
)
from blemish.models.feature_maps import FeatureBatches, neighbourhood
from blemish.scoring.maps import gaussian_blur
from reference.plain_loop import ListOfBatches, PlainLoop

SHAPE = ImageShape(channels=3, height=64, width=96)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def build(encoder: nn.Module | None = None, **settings: Any) -> FeatureAutoencoder:
    small = FeatureAutoencoderSettings.model_validate({"latent": 4, "width": 8, **settings})
    return FeatureAutoencoder(small, SHAPE, encoder)


def fitted(steps: int = 3, **settings: Any) -> tuple[FeatureAutoencoder, PlainLoop]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build(**settings)
        loop = PlainLoop(detector, steps)
        detector.fit(ListOfBatches([images(4), images(3, seed=1)]), loop)
    return detector.eval(), loop


def test_packing_loses_nothing() -> None:
    detector = build()
    maps = detector.features(images(2))
    packed = torch.split(detector.packed(images(2)), detector.sizes, dim=1)
    for part, ratio, expected in zip(packed, detector.ratios, maps, strict=True):
        assert torch.equal(F.pixel_shuffle(part, ratio), expected)


def test_map_is_the_sum_of_its_four_terms() -> None:
    detector, _ = fitted()
    batch = images(2, seed=5)
    standard = (detector.packed(batch) - detector.mean) / detector.std
    left = (standard - detector.autoencoder(standard)) / detector.residual_std
    total = torch.zeros(2, 1, 64, 96)
    for start, end, ratio in ((0, 384, 4), (384, 544, 2), (544, 656, 1)):
        root = F.pixel_shuffle(left[:, start:end].square(), ratio).mean(dim=1, keepdim=True).sqrt()
        total += F.interpolate(root, size=(64, 96), mode="bilinear")
    coarse = neighbourhood(standard[:, 544:]) - detector.usual
    precision = detector.whitening.mT @ detector.whitening
    squared = torch.einsum("bcij,cd,bdij->bij", coarse, precision, coarse) / 112
    total += F.interpolate(squared.sqrt()[:, None], size=(64, 96), mode="bilinear")
    torch.testing.assert_close(detector(batch), blur_over_zeros(total[:, 0], 4.0), rtol=1e-3, atol=1e-4)


def test_loss_is_the_mean_over_scales() -> None:
    detector, _ = fitted()
    features = detector.packed(images(2, seed=5))
    standard = (features - detector.mean) / detector.std
    error = (detector.autoencoder(standard) - standard) ** 2
    expected = (error[:, :384].mean() + error[:, 384:544].mean() + error[:, 544:].mean()) / 3
    torch.testing.assert_close(detector.feature_loss(features), expected)


def test_terms_have_mean_square_one_on_the_good_images() -> None:
    detector, _ = fitted(steps=20)
    good = torch.cat([images(4), images(3, seed=1)])
    with torch.no_grad():
        standard = detector.standard(detector.packed(good))
        residual = detector.residual(standard) / detector.residual_std
    for part in torch.split(residual, detector.sizes, dim=1):
        assert part.square().mean().item() == pytest.approx(1.0, rel=0.02)  # features were kept in half precision


def test_the_encoder_stays_as_it_was() -> None:
    detector, _ = fitted()
    fresh = build()
    fresh.features.prepare()
    for key, value in fresh.features.state_dict().items():
        assert torch.equal(value, detector.features.state_dict()[key])


class Blocks(nn.Module):
    """An encoder of two scales: the means of blocks of pixels."""

    channels = (3, 3)
    strides = (2, 4)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(pixels, 2), F.avg_pool2d(pixels, 4)]


def test_an_encoder_of_ones_own_will_do() -> None:
    detector = build(Blocks(), bottleneck=2).eval()
    assert detector.packed(images(1)).shape == (1, 3 * 4 + 3, 16, 24)
    assert detector(images(2)).shape == (2, 64, 96)


def test_sides_must_fit_the_bottleneck() -> None:
    shape = ImageShape(3, 96, 64)
    build_for = FeatureAutoencoderSettings(latent=4, width=8, bottleneck=2)
    with pytest.raises(SettingsError, match="both must be multiples of 64, the nearest is 128 x 64"):
        FeatureAutoencoder(build_for, shape)
    FeatureAutoencoder(build_for.model_copy(update={"bottleneck": 1}), shape)


def test_blur_over_zeros_is_the_blur_of_a_larger_map() -> None:
    maps = torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(0))
    larger = torch.zeros(2, 120, 130)
    larger[:, 50:70, 50:80] = maps
    torch.testing.assert_close(blur_over_zeros(maps, 3.0), gaussian_blur(larger, 3.0)[:, 50:70, 50:80])
    assert torch.equal(blur_over_zeros(maps, 0.0), maps)


def test_moments_and_whitening_do_not_depend_on_batches() -> None:
    features = torch.randn(10, 5, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 7
    for measure in (moments, whitener):
        for one, many in zip(measure([features]), measure(features.split(3)), strict=True):
            torch.testing.assert_close(one, many)
    mean, std = moments([features])
    torch.testing.assert_close(mean.flatten(), features.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(std.flatten(), features.std(dim=(0, 2, 3), correction=0))


def test_whitened_features_are_uncorrelated_and_of_variance_near_one() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(4000, 6, generator=generator) @ torch.randn(6, 6, generator=generator)
    mean, whitening = whitener([rows[:, :, None, None]])
    covariance = torch.cov(whitening @ (rows - mean.flatten()).mT)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 0.2
    assert covariance.diagonal().min() > 0.3
    assert covariance.diagonal().max() < 1.02


@pytest.mark.parametrize("kept_bytes", [0, 1 << 20])
def test_feature_batches_bring_every_image_once_an_epoch(kept_bytes: int) -> None:
    numbers = torch.arange(7.0).reshape(7, 1, 1, 1)
    batches = FeatureBatches(ListOfBatches(list(numbers.split(3))), lambda batch: batch * 2, kept_bytes)
    batches.keep()
    for epoch in (0, 1):
        batches.epoch = epoch
        assert sorted(torch.cat(list(batches)).flatten().tolist()) == [0, 2, 4, 6, 8, 10, 12]
        assert torch.equal(torch.cat(list(batches)), torch.cat(list(batches)))


def test_kept_features_come_in_another_order_each_epoch_and_are_computed_once() -> None:
    calls: list[int] = []

    def compute(batch: Tensor) -> Tensor:
        calls.append(len(batch))
        return batch

    batches = FeatureBatches(ListOfBatches([torch.arange(40.0).reshape(40, 1, 1, 1)]), compute)
    batches.keep()
    first = torch.cat(list(batches))
    batches.epoch = 1
    assert not torch.equal(first, torch.cat(list(batches)))
    assert calls == [40]
