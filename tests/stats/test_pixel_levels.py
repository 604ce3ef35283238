import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from blemish.stats.pixel_counts import keys_of, tally, tally_by_group, threshold_key, values_of

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
values = hnp.arrays(np.float32, st.integers(1, 30), elements=floats)
keys = hnp.arrays(np.uint32, st.integers(0, 30), elements=st.integers(0, 2**32 - 1) | st.integers(0, 9))


@given(values)
def test_keys_have_the_order_of_the_values(some: np.ndarray) -> None:
    assert (np.less.outer(some, some) == np.less.outer(keys_of(some), keys_of(some))).all()


@given(values)
def test_values_come_back(some: np.ndarray) -> None:
    np.testing.assert_array_equal(values_of(keys_of(some)), some)


@given(values, st.floats(-1e30, 1e30))
def test_above_the_threshold_is_decided_in_double_precision(some: np.ndarray, threshold: float) -> None:
    expected = [float(value) > threshold for value in some]
    assert (keys_of(some) > threshold_key(threshold)).tolist() == expected


@given(keys)
def test_tally_counts_as_numpy_does(some: np.ndarray) -> None:
    distinct, times = tally(some)
    expected, expected_times = np.unique(some, return_counts=True)
    assert distinct.tolist() == expected.tolist()
    assert times.tolist() == expected_times.tolist()


@given(keys)
def test_tally_by_group_is_a_tally_of_each_group(some: np.ndarray) -> None:
    groups = np.arange(some.size) % 3
    found_groups, found_keys, times = tally_by_group(groups, some)
    for group in range(3):
        mine = found_groups == group
        expected = tally(some[groups == group])
        assert found_keys[mine].tolist() == expected[0].tolist()
        assert times[mine].tolist() == expected[1].tolist()


def test_a_bin_is_as_wide_as_promised() -> None:
    some = np.geomspace(1e-6, 1e3, 5000).astype(np.float32)
    low = values_of(keys_of(some) >> np.uint32(12) << np.uint32(12))
    assert (low <= some).all()
    assert ((some - low) / low < 2.0 ** (12 - 23)).all()
