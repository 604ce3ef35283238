"""Gaussians of places against the plainest code."""

import numpy as np
import torch
from torch import Tensor

from blemish.models import gaussians
from reference.brute_force import mahalanobis, shrink_gaussians


def observations() -> Tensor:
    """(places, channels, observations), far from zero."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, 8, generator=generator) * torch.tensor([1.0, 2.0, 0.5])[:, None] + 1000


def test_batches_do_not_matter() -> None:
    together = gaussians.place_gaussians([observations()])
    apart = gaussians.place_gaussians(observations().split(3, dim=2))
    assert together.observations == apart.observations == 8
    torch.testing.assert_close(together.mean, apart.mean)
    torch.testing.assert_close(together.covariance, apart.covariance, rtol=1e-4, atol=1e-4)


def test_covariances_are_those_of_numpy() -> None:
    found = gaussians.place_gaussians(observations().split(3, dim=2))
    for place, rows in enumerate(observations().double().numpy()):
        np.testing.assert_allclose(found.covariance[place], np.cov(rows, bias=True), rtol=1e-3, atol=1e-3)


def test_places_are_drawn_towards_all_of_them() -> None:
    found = gaussians.shrink_gaussians(gaussians.place_gaussians([observations()]), weight=6)
    means, covariances = shrink_gaussians(observations().permute(0, 2, 1).double().numpy(), weight=6)
    np.testing.assert_allclose(found.mean, means, rtol=1e-6)
    np.testing.assert_allclose(found.covariance, covariances, rtol=1e-3, atol=1e-3)


def test_distance_is_mahalanobis() -> None:
    rows = observations()
    found = gaussians.place_gaussians([rows])
    factors = gaussians.whitening(found.covariance * (8 / 7), ridge=0.1)
    by_image = rows.permute(2, 0, 1).double().numpy()  # (n, p, d)
    expected = mahalanobis(by_image, by_image, regularisation=0.1)
    np.testing.assert_allclose(gaussians.mahalanobis(rows, found.mean, factors).T, expected, rtol=2e-3)
