"""The flagship: what its map is made of, what it learns, and what it leaves alone."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import SettingsError
from blemish.models.detector import ImageShape
from blemish.models.encoders import ENCODERS
from blemish.models.feature_autoencoder import (
    FeatureAutoencoder,
    FeatureAutoencoderSettings,
    moments,
    root_mean_square,
)
from blemish.models.feature_maps import FeatureBatches, local_mean
from blemish.models.gaussians import in_cells, out_of_cells
from blemish.models.maps import gaussian_blur
from reference.blocks_encoder import BlocksEncoder
from reference.brute_force import shrink_gaussians
from reference.plain_loop import ListOfBatches, PlainLoop

SHAPE = ImageShape(channels=3, height=64, width=96)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def build(**settings: Any) -> FeatureAutoencoder:
    small = FeatureAutoencoderSettings.model_validate({"latent": 4, "width": 8, **settings})
    return FeatureAutoencoder(small, SHAPE)


def fitted(steps: int = 3, **settings: Any) -> tuple[FeatureAutoencoder, PlainLoop]:
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(0)
        detector = build(**settings)
        loop = PlainLoop(detector, steps)
        detector.fit(ListOfBatches([images(4), images(3, seed=1)]), loop)
    return detector.eval(), loop


def test_packing_loses_nothing() -> None:
    detector = build()
    maps = detector.features(images(2))
    packed = torch.split(detector.pack_scales(images(2)), detector.sizes, dim=1)
    for part, ratio, expected in zip(packed, detector.ratios, maps, strict=True):
        assert torch.equal(F.pixel_shuffle(part, ratio), expected)


@torch.no_grad()
def test_map_is_the_geometric_mean_of_three_terms() -> None:
    detector, _ = fitted()
    batch = images(2, seed=5)
    standard = (detector.pack_scales(batch) - detector.mean) / detector.std
    left = (standard[:, :544] - detector.autoencoder(standard)) / detector.residual_std
    product = torch.ones(2, 64, 96)
    for start, end, ratio in ((0, 384, 4), (384, 544, 2)):
        root = F.pixel_shuffle(left[:, start:end].square(), ratio).mean(dim=1, keepdim=True).sqrt()
        product *= gaussian_blur(F.interpolate(root, size=(64, 96), mode="bilinear")[:, 0], 2.5)
    coarse = local_mean(standard[:, 544:])
    distance = torch.zeros(2, 1, 4, 6)
    for cell, (top, across) in enumerate((top, across) for top in (0, 2) for across in (0, 2, 4)):
        inside = (slice(None), slice(None), slice(top, top + 2), slice(across, across + 2))
        precision = detector.whitening[cell].mT @ detector.whitening[cell]
        apart = coarse[inside] - detector.usual[cell][:, None, None]
        distance[inside] = (torch.einsum("bcij,cd,bdij->bij", apart, precision, apart) / 112).sqrt()[:, None]
    product *= gaussian_blur(F.interpolate(distance, size=(64, 96), mode="bilinear")[:, 0], 2.5)
    torch.testing.assert_close(detector(batch), product ** (1 / 3), rtol=1e-3, atol=1e-4)


def test_loss_is_the_mean_over_the_finer_scales() -> None:
    detector, _ = fitted()
    features = detector.pack_scales(images(2, seed=5))
    standard = (features - detector.mean) / detector.std
    error = (detector.autoencoder(standard) - standard[:, :544]) ** 2
    torch.testing.assert_close(detector.feature_loss(features), (error[:, :384].mean() + error[:, 384:].mean()) / 2)


@torch.no_grad()
@pytest.mark.parametrize("by_place", [True, False])
def test_gaussians_are_those_of_the_good_images_drawn_together(by_place: bool) -> None:
    detector, _ = fitted(by_place=by_place)
    good = torch.cat([images(4), images(3, seed=1)])
    coarse = local_mean(detector.standard(detector.pack_scales(good).half().float())[:, 544:])  # kept in half precision
    places = in_cells(coarse, (2, 2) if by_place else (4, 6)).permute(0, 2, 1).double().numpy()
    means, covariances = shrink_gaussians(places, weight=112)
    torch.testing.assert_close(detector.usual.double(), torch.from_numpy(means), rtol=1e-3, atol=1e-3)
    for factor, covariance in zip(detector.whitening.double(), covariances, strict=True):
        whitened = factor @ torch.from_numpy(covariance + 0.01 * np.eye(112)) @ factor.mT
        torch.testing.assert_close(whitened, torch.eye(112, dtype=torch.float64), rtol=0, atol=5e-2)


@torch.no_grad()
def test_residuals_have_mean_square_one_on_the_good_images() -> None:
    detector, _ = fitted(steps=20)
    good = torch.cat([images(4), images(3, seed=1)])
    residual = detector.residual(detector.standard(detector.pack_scales(good))) / detector.residual_std
    for part in torch.split(residual, detector.sizes[:-1], dim=1):
        assert part.square().mean().item() == pytest.approx(1.0, rel=0.02)  # features were kept in half precision


def test_larger_images_have_larger_cells() -> None:
    shape = ImageShape(3, 1024, 1024)
    detector = FeatureAutoencoder(FeatureAutoencoderSettings(latent=4, width=8), shape)
    assert len(detector.usual) == 256
    assert FeatureAutoencoder(FeatureAutoencoderSettings(by_place=False), shape).usual.shape == (1, 112)


def test_the_encoder_stays_as_it_was() -> None:
    detector, _ = fitted()
    fresh = build()
    fresh.features.prepare()
    for key, value in fresh.features.state_dict().items():
        assert torch.equal(value, detector.features.state_dict()[key])


def test_an_encoder_of_two_scales_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "blocks", BlocksEncoder)
    detector = build(encoder="blocks", bottleneck=2).eval()
    assert detector.pack_scales(images(1)).shape == (1, 3 * 4 + 3, 16, 24)
    assert detector(images(2)).shape == (2, 64, 96)


def test_sides_must_fit_the_bottleneck() -> None:
    shape = ImageShape(3, 96, 64)
    build_for = FeatureAutoencoderSettings(latent=4, width=8, bottleneck=2)
    with pytest.raises(SettingsError, match="both must be multiples of 64, the nearest is 128 x 64"):
        FeatureAutoencoder(build_for, shape)
    FeatureAutoencoder(build_for.model_copy(update={"bottleneck": 1}), shape)


def test_what_is_measured_does_not_depend_on_batches() -> None:
    features = torch.randn(10, 5, 4, 4, generator=torch.Generator().manual_seed(0)) * 3 + 7
    for one, many in zip(moments([features]), moments(features.split(3)), strict=True):
        torch.testing.assert_close(one, many)
    torch.testing.assert_close(root_mean_square([features]), root_mean_square(features.split(3)))
    mean, std = moments([features])
    torch.testing.assert_close(mean.flatten(), features.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(std.flatten(), features.std(dim=(0, 2, 3), correction=0))


def test_cells_keep_images_and_places_apart() -> None:
    maps = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    cells = in_cells(maps, (2, 3))
    assert cells.shape == (4, 3, 12)
    assert torch.equal(cells[1, :, 6:].reshape(3, 2, 3), maps[1, :, :2, 3:])
    assert torch.equal(out_of_cells(cells[:, 1], (2, 3), (4, 6)), maps[:, 1])


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
