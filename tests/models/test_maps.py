"""Maps against scipy, scikit-image and hand calculation."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from blemish.models.maps import Reduce, gaussian_blur, max_over_channels, ssim_residual


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_max_over_channels_is_algorithm_1() -> None:
    images, reconstructions = _random(2, 3, 5, 7), _random(2, 3, 5, 7, seed=1)
    expected = np.max(np.abs(images.numpy() - reconstructions.numpy()), axis=1)
    np.testing.assert_array_equal(max_over_channels(images, reconstructions).numpy(), expected)


@pytest.mark.parametrize("sigma_px", [0.3, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (33, 20)])
def test_gaussian_blur_equals_scipy(sigma_px: float, shape: tuple[int, int]) -> None:
    maps = _random(2, *shape)
    expected = np.stack([gaussian_filter(one, sigma_px, mode="reflect") for one in maps.numpy()])
    np.testing.assert_allclose(gaussian_blur(maps, sigma_px).numpy(), expected, atol=1e-4)


def test_blur_with_sigma_zero_changes_nothing() -> None:
    maps = _random(1, 4, 5)
    assert torch.equal(gaussian_blur(maps, 0.0), maps)


def test_blur_keeps_a_constant_constant_and_the_sum_unchanged() -> None:
    torch.testing.assert_close(gaussian_blur(torch.full((1, 9, 6), 0.7), 3.0), torch.full((1, 9, 6), 0.7))
    maps = _random(1, 9, 6)
    torch.testing.assert_close(gaussian_blur(maps, 3.0).sum(), maps.sum())


@pytest.mark.parametrize("shape", [(16, 16), (20, 37)])
def test_ssim_equals_scikit_image(shape: tuple[int, int]) -> None:
    x = _random(1, 3, *shape)
    y = (0.6 * x + 0.4 * _random(1, 3, *shape, seed=1)).clip(0, 1)
    _, expected = structural_similarity(
        x[0].numpy().astype(np.float64),
        y[0].numpy().astype(np.float64),
        full=True,
        gaussian_weights=True,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=0,
    )
    np.testing.assert_allclose(1 - ssim_residual(x, y)[0].numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_ssim_residual_is_never_negative(value: float) -> None:
    flat = torch.full((1, 1, 16, 16), value)
    almost = flat + 1e-4 * _random(1, 1, 16, 16)
    assert ssim_residual(flat, almost).min() >= 0
    assert ssim_residual(almost, almost).abs().max() == 0


def test_ssim_has_finite_gradients_where_images_agree() -> None:
    x = _random(1, 1, 12, 12)
    y = x.clone().requires_grad_()
    ssim_residual(x, y).mean().backward()
    assert y.grad is not None
    assert torch.isfinite(y.grad).all()


@pytest.mark.parametrize("sizes", [((512, 70), (256, 33)), ((131, 300), (97, 100)), ((64, 64), (64, 64))])
def test_images_are_reduced_band_by_band_as_at_once(sizes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    size_px, small_px = sizes
    images = _random(2, 3, *size_px)
    expected = torch.nn.functional.interpolate(images, small_px, mode="bilinear", antialias=True)
    torch.testing.assert_close(Reduce(size_px, small_px)(images), expected, rtol=1e-4, atol=1e-5)
