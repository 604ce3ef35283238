"""The dictionary against scikit-learn and brute force."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from blemish.models.detector import ImageShape
from blemish.models.feature_dictionary import (
    FeatureDictionary,
    FeatureDictionarySettings,
    cluster_centres,
    mean_nearest_distance,
    principal_components,
)
from blemish.models.maps import upsample_and_blur
from reference.brute_force import mean_nearest
from reference.plain_loop import ListOfBatches, PlainLoop

SHAPE = ImageShape(channels=3, height=32, width=48)


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def correlated(count: int, channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, channels, generator=generator) @ torch.randn(channels, channels, generator=generator) + 3


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_components_span_what_scikit_learn_finds(share: float) -> None:
    points = correlated(300, 12)
    mean, components = principal_components(points, share)
    ours = ((points - mean) @ components).double().numpy()
    standard = ((points - mean) / points.std(dim=0, correction=0)).double().numpy()
    theirs = PCA(n_components=share, svd_solver="full").fit(standard)
    assert components.shape[1] == theirs.n_components_
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs.transform(standard)), rtol=1e-3, atol=1e-3)


def test_all_of_the_variance_keeps_all_distances() -> None:
    points = correlated(100, 6)
    mean, components = principal_components(points, 1.0)
    standard = (points - mean) / points.std(dim=0, correction=0)
    torch.testing.assert_close(
        torch.cdist((points - mean) @ components, standard[:1] * 0).squeeze(), standard.norm(dim=1)
    )


def test_distance_is_the_mean_over_the_nearest() -> None:
    queries, atoms = torch.randn(30, 6), torch.randn(15, 6)
    expected = mean_nearest(queries.double().numpy(), atoms.double().numpy(), nearest=4)
    np.testing.assert_allclose(mean_nearest_distance(queries, atoms, 4).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_two_clouds_get_two_centres() -> None:
    cloud = torch.randn(50, 2, generator=torch.Generator().manual_seed(0)) * 0.01
    centres = cluster_centres(torch.cat([cloud, cloud + 5]), 2)
    torch.testing.assert_close(centres.sort(dim=0).values, torch.tensor([[0.0, 0.0], [5.0, 5.0]]), atol=0.02, rtol=0)


def test_map_is_the_distance_in_the_reduced_space() -> None:
    detector = FeatureDictionary(FeatureDictionarySettings(atoms=10, nearest=3, smoothing_sigma_px=2.0), SHAPE)
    detector.fit(ListOfBatches([images(4), images(2, seed=1)]), PlainLoop(detector, steps=0))
    test = images(2, seed=3)
    reduced = ((detector.patches(test) - detector.mean) @ detector.components).double().numpy()
    expected = mean_nearest(reduced, detector.atoms.double().numpy(), nearest=3)
    grid = torch.from_numpy(expected).float().reshape(2, 4, 6)
    torch.testing.assert_close(detector(test), upsample_and_blur(grid, 32, 48, 2.0), rtol=1e-3, atol=1e-3)
    assert len(detector.atoms) == 10
