"""The regions that programs are told of are those of the map that scipy finds, in shares of the image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from blemish.inspection.answers import MOST_REGIONS, find_regions_in_shares


@given(
    st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 40), st.integers(1, 40)), st.sampled_from([0.3, 0.5, 0.9, 2.0])
)
def test_they_are_the_parts_of_the_map_in_shares(seed: int, map_px: tuple[int, int], threshold: float) -> None:
    scored = np.random.default_rng(seed).random(map_px).astype(np.float32)
    labels, count = ndimage.label(scored > threshold, structure=np.ones((3, 3)))
    height, width = map_px
    expected = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        box = rows.start / height, columns.start / width, rows.stop / height, columns.stop / width
        inside = labels == number
        expected.append((*box, float(inside.mean()), float(scored[inside].max())))
    found = find_regions_in_shares(scored, threshold)
    assert len(found) == min(count, MOST_REGIONS)
    assert found == sorted(expected, key=lambda one: -one[-1])[:MOST_REGIONS]
    assert all(type(value) is float for region in found for value in region)


def test_no_more_are_told_than_the_most() -> None:
    scored = np.zeros((41, 41), np.float32)
    scored[::2, ::2] = np.arange(1, 442).reshape(21, 21)
    found = find_regions_in_shares(scored, 0.5)
    assert len(found) == MOST_REGIONS
    assert [one.peak for one in found] == pytest.approx(range(441, 441 - MOST_REGIONS, -1))
