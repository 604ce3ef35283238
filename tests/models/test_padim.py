"""PaDiM against Gaussians by brute force."""

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.models.detector import ImageShape
from blemish.models.encoders import ENCODERS
from blemish.models.feature_maps import concat_scales, damp_border
from blemish.models.maps import upsample_and_blur
from blemish.models.padim import Padim, PadimSettings
from reference.blocks_encoder import BlocksEncoder
from reference.brute_force import mahalanobis
from reference.plain_loop import ListOfBatches, PlainLoop

SHAPE = ImageShape(channels=3, height=32, width=48)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def fitted(**settings: object) -> Padim:
    detector = Padim(PadimSettings.model_validate({"dimensions": 12, **settings}), SHAPE)
    detector.fit(ListOfBatches([images(5), images(2, seed=1), images(3, seed=2)]), PlainLoop(detector, steps=0))
    return detector.eval()


def by_place(detector: Padim, batch: Tensor) -> np.ndarray:
    maps = concat_scales(detector.features(batch), damp_border)[:, detector.kept]
    return maps.flatten(2).permute(0, 2, 1).double().numpy()  # (b, p, d)


def test_map_is_the_mahalanobis_distance() -> None:
    detector, test = fitted(smoothing_sigma_px=2.0), images(3, seed=3)
    train = torch.cat([images(5), images(2, seed=1), images(3, seed=2)])
    expected = mahalanobis(by_place(detector, train), by_place(detector, test), regularisation=0.01)
    grid = torch.from_numpy(expected).float().reshape(3, 4, 6)
    torch.testing.assert_close(detector(test), upsample_and_blur(grid, 32, 48, 2.0), rtol=1e-3, atol=1e-3)


def test_features_are_those_of_the_place_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bright pixel block changes its own features and not those of the neighbouring places, as in the paper."""
    monkeypatch.setitem(ENCODERS, "blocks", BlocksEncoder)
    detector = Padim(PadimSettings(encoder="blocks", dimensions=6), SHAPE).eval()
    plain = torch.full((1, *SHAPE), 0.5)
    bright = plain.clone()
    bright[:, :, 8:12, 20:24] = 1.0  # one place of the grid of stride 4
    changed = (detector.place_features(bright) != detector.place_features(plain)).any(dim=1).flatten()
    assert changed.nonzero().flatten().tolist() == [2 * 12 + 5]


def test_batches_do_not_matter() -> None:
    torch.manual_seed(0)
    one, many = (Padim(PadimSettings(dimensions=12), SHAPE).eval() for _ in range(2))
    many.kept.copy_(one.kept)
    batch = images(6)
    one.fit(ListOfBatches([batch]), PlainLoop(one, steps=0))
    many.fit(ListOfBatches(list(batch.split(2))), PlainLoop(many, steps=0))
    torch.testing.assert_close(one.whitening, many.whitening, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(one.mean, many.mean)


def test_all_features_are_kept_where_there_are_fewer() -> None:
    assert Padim(PadimSettings(dimensions=4096), ImageShape(1, 16, 16)).kept.tolist() == list(range(176))
