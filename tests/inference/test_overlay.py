"""Anomaly maps made visible: what may be painted over, and what must be left alone."""

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.inference.overlay import as_rgb, draw_contour, encode, overlay

GREY = np.full((40, 60, 3), 128, np.uint8)


def test_leaves_an_image_alone_where_nothing_is_near_the_threshold() -> None:
    quiet = np.full((40, 60), 0.099, np.float32)
    assert np.array_equal(overlay(GREY, quiet, threshold=0.2), GREY)


def test_a_red_part_does_not_look_like_heat() -> None:
    red = np.zeros((40, 60, 3), np.uint8) + np.array((250, 20, 20), np.uint8)
    cold = overlay(red, np.zeros((40, 60), np.float32), threshold=0.2)[0, 0]
    hot = overlay(red, np.full((40, 60), 0.35, np.float32), threshold=0.2)[0, 0]
    assert cold.min() == cold.max()
    assert hot[0] > int(hot[2]) + 50


def test_draws_the_line_around_a_defect_and_not_on_it() -> None:
    anomaly_map = np.zeros((40, 60), np.float32)
    anomaly_map[10:20, 10:20] = 0.21
    drawn = overlay(GREY, anomaly_map, threshold=0.2)
    line = (drawn == (0, 229, 255)).all(axis=2)
    assert not line[10:20, 10:20].any()
    assert line[9, 9:21].all()
    assert line.sum() == 4 * 11


def test_a_map_equal_to_the_threshold_is_no_defect() -> None:
    anomaly_map = np.full((40, 60), 0.25, np.float32)
    anomaly_map[0, 0] = 0.0
    assert not (overlay(GREY, anomaly_map, threshold=0.25) == (0, 229, 255)).all(axis=2).any()


@pytest.mark.parametrize("threshold", [0.0, 1e-30, 1e30])
def test_any_threshold_gives_an_image(threshold: float) -> None:
    anomaly_map = np.linspace(0, 5, 2400, dtype=np.float32).reshape(40, 60)
    drawn = overlay(GREY, anomaly_map, threshold)
    assert drawn.shape == GREY.shape
    assert drawn.dtype == np.uint8


def test_an_all_zero_map_at_threshold_zero_changes_nothing() -> None:
    assert np.array_equal(overlay(GREY, np.zeros((40, 60), np.float32), 0.0), GREY)


def test_a_map_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="same size"):
        overlay(GREY, np.zeros((60, 40), np.float32), 0.2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 700))
def test_the_line_is_the_grown_mask_less_the_mask(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) > 0.9
    black = np.zeros((height, width, 3), np.uint8)
    line = draw_contour(black, mask).any(axis=2)
    by_px = max(1, round(max(height, width) / 300))
    padded = np.pad(mask, by_px)
    side = 2 * by_px + 1
    grown = np.lib.stride_tricks.sliding_window_view(padded, (side, side)).any(axis=(2, 3))
    assert np.array_equal(line, grown & ~mask)


def test_grey_and_colour_images_become_rgb() -> None:
    colour = np.stack([np.full((2, 3), level, np.float32) for level in (0.0, 0.2, 1.0)])
    assert as_rgb(colour)[0, 0].tolist() == [0, 51, 255]
    assert as_rgb(colour[1:2])[0, 0].tolist() == [51, 51, 51]


def test_encoded_images_read_back() -> None:
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode(GREY, "PNG")))), GREY)
    assert Image.open(io.BytesIO(encode(GREY, "JPEG"))).size == (60, 40)


@pytest.mark.slow
def test_drawing_on_an_image_needs_numpy_and_pillow_alone() -> None:
    program = (
        "import sys, blemish.inference.overlay; print(*{'torch', 'matplotlib', 'jinja2', 'scipy'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""
