"""Noise, blur and sampling against SciPy and against their own promises."""

import numpy as np
import pytest
from scipy import ndimage

from blemish.data.synthetic.strokes import bar, draw_polygons, jagged_line, word
from blemish.data.synthetic.texture import blur, fractal_noise, sample, shrink, unit, value_noise


def field(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("sigma_px", [0.4, 1.0, 3.3])
def test_blur_is_a_gaussian(sigma_px: float) -> None:
    image = field(3, 24, 31)
    reach = max(1, int(2.5 * sigma_px + 0.5))
    expected = [ndimage.gaussian_filter(part, sigma_px, mode="nearest", radius=reach) for part in image]
    np.testing.assert_allclose(blur(image, sigma_px), expected, atol=2e-6)


def test_sample_is_bilinear_and_wraps_around() -> None:
    texture = field(9, 16)
    rows, columns = 8 * field(200), 40 * field(200)[::-1] - 20
    [found] = sample([texture], rows, columns)
    padded = np.concatenate([texture, texture[:, :1]], axis=1)
    expected = ndimage.map_coordinates(padded, [np.minimum(rows, 7.999), columns % 16], order=1)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_shrink_is_the_mean_of_blocks() -> None:
    image = field(3, 12, 18)
    expected = image.reshape(3, 4, 3, 6, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(shrink(image, 3), expected, rtol=1e-5)


def test_noise_has_the_promised_spread_and_wraps() -> None:
    noise = value_noise(np.random.default_rng(0), (300, 600), (40, 60), wrap=True)
    assert abs(float(noise.mean())) < 0.05
    assert 0.8 < float(noise.std()) < 1.2
    steps = np.abs(np.diff(noise, axis=1)).max()
    assert np.abs(noise[:, 0] - noise[:, -1]).max() <= steps


def test_noise_draws_as_much_for_a_small_picture_as_for_a_large_one() -> None:
    small, large = np.random.default_rng(0), np.random.default_rng(0)
    coarse, fine = fractal_noise(small, 40, (4, 9)), fractal_noise(large, 160, (4, 9))
    assert small.random() == large.random()
    np.testing.assert_allclose(coarse, shrink(fine, 4), atol=0.12)


def test_unit_vectors_are_1_long() -> None:
    np.testing.assert_allclose(np.linalg.norm(unit(field(3, 5, 7) - 0.5), axis=0), 1, rtol=1e-5)


def test_a_bar_covers_its_area() -> None:
    picture = draw_polygons([bar(np.array([-0.5, 0.0]), np.array([0.5, 0.0]), 0.2)], 1.0, 200)
    assert float(picture.sum()) * 0.01**2 == pytest.approx(1.0 * 0.2 + np.pi * 0.1**2, rel=0.06)


def test_a_word_is_as_high_as_asked_and_in_the_middle() -> None:
    corners = np.concatenate(word(["H", "O", "7"], height=0.6, pen=0.1))
    np.testing.assert_allclose(corners.min(axis=0) + corners.max(axis=0), 0, atol=1e-9)
    assert np.ptp(corners[:, 1]) == pytest.approx(0.7)


def test_a_jagged_line_has_its_length_along_x_and_lies_about_the_origin() -> None:
    line = jagged_line(np.random.default_rng(0), 2.0)
    assert line[[0, -1], 0].tolist() == [-1.0, 1.0]
    assert line[:, 1].mean() == pytest.approx(0, abs=1e-12)
    assert np.abs(np.diff(line[:, 1])).min() > 0
