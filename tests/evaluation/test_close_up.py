"""Pictures of a defect: cut from the photo at its own size, outlined, and never an empty map."""

import numpy as np
import pytest

from blemish.evaluation.report.close_up import (
    CALLED_COLOUR,
    TRUE_COLOUR,
    box_around,
    brighten,
    cut_close_up,
    outlines,
    own_scale,
)
from blemish.inference.overlay import overlay


def photo_with_defect(level: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A photo of 400 x 600 with a defect of 20 x 10 px, its mask, and a map of 40 x 60 that hardly shows it."""
    photo = np.full((400, 600, 3), level, np.uint8)
    mask = np.zeros((400, 600), bool)
    mask[100:110, 300:320] = True
    photo[mask] = level + 40
    anomaly_map = np.full((40, 60), 0.1, np.float32)
    anomaly_map[10, 30:32] = 0.3
    return photo, mask, anomaly_map


def test_the_close_up_is_the_photo_around_the_true_defect() -> None:
    photo, mask, anomaly_map = photo_with_defect()
    cut = cut_close_up(photo, anomaly_map, mask, threshold=1.0)
    top, left, bottom, right = cut.box
    assert 0 < top * 400 <= 100
    assert 110 <= bottom * 400 < 200
    assert left * 600 <= 300
    assert right * 600 >= 320
    assert cut.image.shape[:2] == cut.anomaly_map.shape == (420, 420)
    assert cut.mask is not None
    assert cut.mask.mean() == pytest.approx(10 * 20 / ((bottom - top) * 400 * (right - left) * 600), rel=0.15)


def test_without_a_mask_it_is_around_what_is_called_or_the_highest_pixel() -> None:
    photo, _, anomaly_map = photo_with_defect()
    for threshold in (0.2, 1.0):
        top, left, bottom, right = cut_close_up(photo, anomaly_map, None, threshold).box
        assert top < 105 / 400 < bottom
        assert left < 310 / 600 < right


def test_dark_photos_are_brightened_and_say_so() -> None:
    photo, mask, anomaly_map = photo_with_defect(level=20)
    cut = cut_close_up(photo, anomaly_map, mask, 1.0)
    assert cut.is_brightened
    assert cut.image.max() > 200
    assert brighten(np.full((4, 4, 3), 180, np.uint8))[1] is False


def test_a_missed_defect_has_an_empty_heat_map_but_not_on_its_own_scale() -> None:
    photo, _, anomaly_map = photo_with_defect()
    small = photo[::10, ::10]
    grey = np.ptp(overlay(small, anomaly_map, 1.0).astype(int), axis=2)
    assert grey.max() == 0
    shown = own_scale(small, anomaly_map).astype(int)
    assert np.ptp(shown[10, 30:32], axis=1).min() > 50
    assert (shown == 255).all(axis=2).any()  # the ring around the highest pixel


def test_both_outlines_stand_on_one_photo() -> None:
    called, mask = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    called[10:20, 10:20] = True
    mask[30:40, 30:40] = True
    drawn = outlines(np.full((60, 60, 3), 99, np.uint8), called, mask)
    for colour, where in ((CALLED_COLOUR, called), (TRUE_COLOUR, mask)):
        line = (drawn == colour).all(axis=2)
        assert line.any()
        assert not (line & where).any()
    assert (outlines(drawn, called, None) == drawn).all()


def test_a_box_never_leaves_the_image() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        mask = np.zeros(tuple(rng.integers(1, 60, 2)), bool)
        mask[rng.integers(mask.shape[0]), rng.integers(mask.shape[1])] = True
        top, left, bottom, right = box_around(mask)
        assert 0 <= top < bottom <= mask.shape[0]
        assert 0 <= left < right <= mask.shape[1]
        assert mask[top:bottom, left:right].any()
