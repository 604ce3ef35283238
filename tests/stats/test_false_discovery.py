"""The Benjamini-Hochberg selection: its definition, and the rate it keeps on conformal p-values."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import DataError, SettingsError
from blemish.stats.false_discovery import benjamini_hochberg
from reference.chance import FAR
from reference.good_scores import false_discoveries, standard_error


@given(st.lists(st.floats(1e-6, 1.0), max_size=30), st.sampled_from([0.05, 0.1, 0.5]))
def test_the_same_as_scipy_adjusted_p_values(p_values: list[float], rate: float) -> None:
    selected = benjamini_hochberg(p_values, rate)
    if p_values:
        adjusted = scipy.stats.false_discovery_control(p_values)
        clear = np.abs(adjusted - rate) > 1e-9
        assert (selected == (adjusted <= rate))[clear].all()
    else:
        assert selected.shape == (0,)


def test_a_p_value_that_meets_its_limit_is_selected() -> None:
    assert benjamini_hochberg([1 / 20, 1, 1, 1, 1, 1], 0.3).sum() == 1  # 0.3 / 6 is below 0.05 in floats


@pytest.mark.parametrize("draws", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("measure", [np.array, np.round], ids=["continuous", "tied"])
def test_the_share_of_good_images_among_the_selected_is_kept(
    measure: Callable[[np.ndarray], np.ndarray], draws: int
) -> None:
    shares = false_discoveries(draws, np.random.default_rng(0), measure)
    assert shares.mean() <= 0.2 * 0.8 + FAR * standard_error(shares)
    assert shares.mean() > 0.02  # it selects at all


@pytest.mark.parametrize("strange", [3.2, -0.1, np.nan])
def test_scores_are_not_taken_for_p_values(strange: float) -> None:
    with pytest.raises(DataError, match=f"p_values: found {strange:g}; they lie between 0 and 1"):
        benjamini_hochberg([0.01, strange], 0.1)


def test_a_rate_outside_zero_and_one_is_refused() -> None:
    with pytest.raises(SettingsError, match="max_false_discovery_rate"):
        benjamini_hochberg([0.5], 1.5)
