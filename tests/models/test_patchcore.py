"""PatchCore against coreset and neighbours by brute force."""

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.models.detector import ImageShape
from blemish.models.maps import upsample_and_blur
from blemish.models.neighbours import coreset, nearest_distances
from blemish.models.patchcore import PatchCore, PatchCoreSettings
from reference.brute_force import greedy_coreset, mean_nearest
from reference.plain_loop import ListOfBatches, PlainLoop

SHAPE = ImageShape(channels=3, height=32, width=48)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def fitted(**settings: object) -> PatchCore:
    detector = PatchCore(PatchCoreSettings.model_validate(settings), SHAPE)
    detector.fit(ListOfBatches([images(3), images(2, seed=1)]), PlainLoop(detector, steps=0))
    return detector.eval()


@pytest.mark.parametrize("seed", range(3))
def test_coreset_is_farthest_first(seed: int) -> None:
    points = torch.randn(60, 5, generator=torch.Generator().manual_seed(seed))
    assert coreset(points, 12).tolist() == greedy_coreset(points.double().numpy(), 12)


def test_no_point_is_chosen_twice() -> None:
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    assert sorted(coreset(points, 40).tolist()) == list(range(40))


def test_nearest_distance_equals_all_distances() -> None:
    queries, bank = torch.randn(50, 7), torch.randn(20, 7)
    expected = mean_nearest(queries.double().numpy(), bank.double().numpy(), nearest=1)
    np.testing.assert_allclose(nearest_distances(queries, bank).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_map_is_the_distance_to_the_nearest_of_the_bank() -> None:
    detector, test = fitted(coreset_share=0.2, smoothing_sigma_px=2.0), images(2, seed=5)
    expected = mean_nearest(detector.patches(test).double().numpy(), detector.bank.double().numpy(), nearest=1)
    grid = torch.from_numpy(expected).float().reshape(2, 4, 6)
    torch.testing.assert_close(detector(test), upsample_and_blur(grid, 32, 48, 2.0), rtol=1e-3, atol=1e-3)


def test_a_whole_bank_leaves_nothing_of_the_good_images() -> None:
    detector = fitted(coreset_share=1.0, smoothing_sigma_px=0.0)
    assert len(detector.bank) == 5 * 4 * 6
    assert detector(images(3)).max() < 0.02 * detector(images(3, seed=9)).max()


def test_the_bank_has_the_share_it_should() -> None:
    assert len(fitted(coreset_share=0.1).bank) == 12
    assert len(fitted(coreset_share=0.1, candidates=30).bank) == 12
