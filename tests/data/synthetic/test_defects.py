"""What holds for every defect. A new row in DEFECTS is tested here without more code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from blemish.data.synthetic.defects import DEFECTS, defect_seed
from blemish.data.synthetic.placing import Pixels
from blemish.data.synthetic.poisson import poisson_blend
from blemish.data.synthetic.shapes import extent_px
from blemish.errors import DataError

HEIGHT, WIDTH = 90, 130

every_defect = pytest.mark.parametrize("name", DEFECTS)
grey_and_colour = pytest.mark.parametrize("channels", [1, 3])


def photo(channels: int, seed: int = 0) -> Pixels:
    """Uneven light, stripes and noise: something for each defect to change, in the middle of the range."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    light = 0.5 + 0.1 * np.sin(columns / 9) * np.cos(rows / 13) + 0.08 * (columns // 4 % 2)
    noise = rng.normal(0, 0.05, (HEIGHT, WIDTH, channels))
    return np.clip(light[..., None] + noise, 0, 1).astype(np.float32)


def half() -> NDArray[np.bool_]:
    region = np.zeros((HEIGHT, WIDTH), bool)
    region[:, : WIDTH // 2] = True
    return region


@every_defect
@grey_and_colour
@pytest.mark.parametrize("size_px", [2, 5, 12, 40])
def test_defect_has_the_size_asked_for(name: str, channels: int, size_px: int) -> None:
    for seed in range(3):
        _, mask = DEFECTS[name](photo(channels), None, size_px, 0.05, np.random.default_rng(seed))
        assert mask.shape == (HEIGHT, WIDTH)
        assert mask.any()
        assert abs(extent_px(mask) - size_px) <= max(1.0, 0.05 * size_px)


@every_defect
@grey_and_colour
def test_nothing_outside_the_mask_changes_and_the_mean_change_inside_is_the_contrast(name: str, channels: int) -> None:
    good = photo(channels)
    before = good.copy()
    for contrast in (0.03, 0.1):
        image, mask = DEFECTS[name](good, None, 25, contrast, np.random.default_rng(1))
        assert image.dtype == np.float32
        assert (image[~mask] == good[~mask]).all()
        assert 0 <= image.min() <= image.max() <= 1
        assert np.abs(image - good)[mask].mean() == pytest.approx(contrast, abs=1e-4)
    assert (good == before).all()


@every_defect
def test_defect_lies_inside_the_region(name: str) -> None:
    for seed in range(5):
        _, mask = DEFECTS[name](photo(3), half(), 20, 0.05, np.random.default_rng(seed))
        assert mask.any()
        assert not mask[~half()].any()


@every_defect
def test_same_generator_gives_the_same_bytes_and_another_one_others(name: str) -> None:
    images = [DEFECTS[name](photo(3), half(), 15, 0.05, np.random.default_rng(seed))[0] for seed in (7, 7, 8)]
    assert (images[0] == images[1]).all()
    assert (images[0] != images[2]).any()


@every_defect
def test_a_region_too_small_is_refused(name: str) -> None:
    region = np.zeros((HEIGHT, WIDTH), bool)
    for inside in (region, region.copy()):
        with pytest.raises(DataError, match=r"no place for a defect of 30 px and contrast 0\.1 in the region"):
            DEFECTS[name](photo(3), inside, 30, 0.1, np.random.default_rng(0))
        region[10:14, 10:14] = True


def test_a_dark_hole_is_not_put_on_black_ground() -> None:
    good = np.zeros((60, 120, 1), np.float32)
    good[:, 60:] = 0.6
    for seed in range(5):
        _, mask = DEFECTS["hole"](good, None, 12, 0.2, np.random.default_rng(seed))
        assert mask[:, 54:].any()  # some of it lies on the grey half
    with pytest.raises(DataError, match="no place for a defect"):
        DEFECTS["hole"](np.zeros((60, 120, 1), np.float32), None, 12, 0.2, np.random.default_rng(0))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_extent_is_the_largest_distance_between_any_two_pixels(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.3
    spots = np.argwhere(mask)
    wanted = max((float(np.hypot(*(a - b))) + 1 for a in spots for b in spots), default=0.0)
    assert extent_px(mask) == pytest.approx(wanted)


@pytest.mark.parametrize("touches_the_edge", [False, True])
def test_poisson_blend_solves_the_linear_system(touches_the_edge: bool) -> None:
    rng = np.random.default_rng(0)
    image, patch = rng.random((2, 40, 52, 2)).astype(np.float32)
    mask = np.zeros((40, 52), bool)
    mask[6:33, 0 if touches_the_edge else 5 : 45] = True
    mask[15:20, 20:28] = False
    assert np.abs(poisson_blend(image, patch, mask) - solved(image, patch, mask)).max() < 0.5 / 255


def solved(image: Pixels, patch: Pixels, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The same by one sparse solve: on the mask, the Laplacian of the result is the patch's."""
    from scipy.sparse import lil_array
    from scipy.sparse.linalg import spsolve

    spots = [tuple(spot) for spot in np.argwhere(mask)]
    number = {spot: place for place, spot in enumerate(spots)}
    matrix, known = lil_array((len(spots), len(spots))), np.zeros((len(spots), image.shape[2]))
    for (row, column), place in number.items():
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if not (0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]):
                continue
            matrix[place, place] += 1
            if near in number:
                matrix[place, number[near]] = -1
            else:
                known[place] += image[near].astype(np.float64) - patch[near]
    result = image.astype(np.float64)
    shift = spsolve(matrix.tocsr(), known).reshape(known.shape)
    for spot, place in number.items():
        result[spot] = patch[spot] + shift[place]
    return result


def test_random_numbers_follow_from_the_name_and_not_from_the_place() -> None:
    assert len({defect_seed(name) for name in DEFECTS}) == len(DEFECTS)
    assert defect_seed("hole") == 1758281105


def test_a_fibre_is_a_thin_curved_thread_that_is_light_or_dark() -> None:
    good = np.full((160, 160, 1), 0.5, np.float32)
    signs, bends = set(), []
    for seed in range(8):
        image, mask = DEFECTS["fibre"](good, None, 60, 0.2, np.random.default_rng(seed))
        change = (image - good)[mask]
        assert (change > 0).all() or (change < 0).all()
        signs.add(bool(change[0] > 0))
        assert mask.sum() < 5 * 60 * 1.1  # a few pixels wide, and hardly longer than a half circle over its extent
        bends.append(
            np.linalg.svd(np.argwhere(mask) - np.argwhere(mask).mean(0), compute_uv=False)[1] / mask.sum() ** 0.5
        )
    assert signs == {True, False}
    assert np.median(bends) > 2  # far from its own longest line: a scratch of this size has less than 1.5
