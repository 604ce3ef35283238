"""Regions of a map are those that scipy finds in the defect mask at the photo's size."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from blemish.inference.defect_regions import find_regions
from blemish.inference.score import resize_map


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([0.3, 0.5, 0.7]),
)
def test_they_are_those_of_the_mask_at_the_photos_size(
    seed: int, map_px: tuple[int, int], size_px: tuple[int, int], threshold: float
) -> None:
    scored = np.random.default_rng(seed).random(map_px).astype(np.float32)
    full = resize_map(scored, size_px)
    labels, count = ndimage.label(full > threshold, structure=np.ones((3, 3)))
    expected = set()
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        ys, xs = np.nonzero(labels == number)
        box = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        expected.add((*box, len(ys), round(xs.mean(), 2), round(ys.mean(), 2), full[labels == number].max()))
    found = find_regions(scored, threshold, size_px)
    assert len(found) == count
    rounded = {(*one[:5], round(one.centroid_x, 2), round(one.centroid_y, 2), np.float32(one.peak)) for one in found}
    for ours, theirs in zip(sorted(rounded), sorted(expected), strict=True):
        assert ours == pytest.approx(theirs, abs=0.011)
    for one in found:
        assert full[one.peak_y, one.peak_x] == np.float32(one.peak)
        assert labels[one.peak_y, one.peak_x] > 0
    assert [one.peak for one in found] == sorted((one.peak for one in found), reverse=True)


def test_a_spiral_is_one_region() -> None:
    spiral = np.zeros((101, 101), np.float32)
    for ring in range(0, 50, 2):
        spiral[ring, max(0, ring - 1) : 101 - ring] = spiral[ring : 101 - ring, 100 - ring] = 1
        spiral[100 - ring, ring : 101 - ring] = spiral[ring + 2 : 101 - ring, ring] = 1
    assert ndimage.label(spiral, structure=np.ones((3, 3)))[1] == 1
    (region,) = find_regions(spiral, 0.5, (101, 101))
    assert region.area_px == spiral.sum()


def test_noise_of_a_large_map_takes_no_longer_than_drawing_it() -> None:
    noise = np.random.default_rng(0).random((1500, 2000)).astype(np.float32)
    assert len(find_regions(noise, 0.99, (1500, 2000))) > 1000
