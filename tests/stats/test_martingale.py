"""The bets are fair, the state survives a restart, and the capital grows only when something changes."""

import json
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from blemish.errors import CalibrationError, SettingsError
from blemish.stats.martingale import Martingale, Tolerance, _in_hand, _log_bets, drifted, observe, start_martingale
from reference.chance import FAR, most_of
from reference.streams import images_until_alarm, watch, watch_against_calibration_only


@pytest.mark.parametrize("bet", range(4))
def test_every_bet_is_fair(bet: int) -> None:
    """Its mean over a uniform p-value is 1; p = u^2 takes away the singularity."""

    def integrand(u: float) -> float:
        low = u * u if bet != 3 else 1 - u * u
        high = 1 - low if bet != 3 else u * u
        return math.exp(_log_bets(low, high)[bet]) * 2 * u

    assert scipy.integrate.quad(integrand, 1e-12, 1 - 1e-12)[0] == pytest.approx(1, abs=1e-9)


@settings(max_examples=50)
@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=30), seed=st.integers(0, 99))
def test_the_state_holds_what_a_plain_recount_gives(scores: list[int], seed: int) -> None:
    """The capital as its definition: a mixture over the bet and over the image it begins with."""
    rng = np.random.default_rng(seed)
    martingale, p_values = start_martingale([0.0, 2.0, 2.0]), []
    for score in scores:
        martingale = observe(martingale, score, rng)
        p_values.append(martingale.p_value)
    bets = np.exp([_log_bets(p, 1 - p) for p in p_values])  # (t, 4)
    capital = _in_hand(len(scores))
    for start in range(len(scores)):
        capital += (_in_hand(start) - _in_hand(start + 1)) * np.prod(bets[start:], axis=0).mean()
    assert math.exp(martingale.log_capital) == pytest.approx(capital)
    assert martingale.observed == len(scores)
    assert np.repeat(martingale.values, martingale.counts).tolist() == sorted([0, 2, 2, *scores])


def test_the_p_value_lies_between_its_bounds_and_is_uniform_between_them() -> None:
    rng = np.random.default_rng(0)
    start = start_martingale([1.0, 2.0, 2.0, 3.0])
    p_values = np.array([observe(start, 2.0, rng).p_value for _ in range(2000)])
    assert scipy.stats.kstest(p_values, scipy.stats.uniform(1 / 5, 3 / 5).cdf).pvalue > 1e-6


def _two_p_values(rank_among_calibration_only: bool, pairs: int, rng: np.random.Generator) -> np.ndarray:
    follow = watch_against_calibration_only if rank_among_calibration_only else watch
    values = np.empty((pairs, 2))
    for pair in values:
        scores = rng.normal(size=7)
        first = follow(start_martingale(scores[:5]), scores[5:6], rng)
        pair[:] = first.p_value, follow(first, scores[6:], rng).p_value
    return values


def test_p_values_are_independent_only_when_ranked_among_all_scores_so_far() -> None:
    rng = np.random.default_rng(0)
    apart = scipy.stats.pearsonr(*_two_p_values(False, 1500, rng).T)
    together = scipy.stats.pearsonr(*_two_p_values(True, 1500, rng).T)
    assert abs(apart.statistic) < FAR / math.sqrt(1500)
    assert together.statistic > FAR / math.sqrt(1500)


def test_false_alarms_are_no_more_than_promised() -> None:
    rng = np.random.default_rng(0)
    peaks = [watch(start_martingale(rng.normal(size=20)), rng.normal(size=100), rng).log_peak for _ in range(60)]
    alarms = np.mean(np.array(peaks) >= math.log(1 / 0.2))
    assert alarms <= most_of(60, 0.2)


@pytest.mark.parametrize(
    ("before", "shift", "at_most"),
    [(0, 2.0, 20), (0, -2.0, 20), (0, 4.0, 10), (500, 1.0, 100), (500, 2.0, 30), (500, 4.0, 15)],
)
def test_a_change_raises_the_alarm_within_so_many_images(before: int, shift: float, at_most: int) -> None:
    """In standard deviations of a normal score, after 100 good images, limit 1 / 0.01; 5 streams of 5."""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        calm = watch(start_martingale(rng.normal(size=100)), rng.normal(size=before), rng)
        delay = images_until_alarm(calm, rng.normal(size=at_most) + shift, math.log(100), rng)
        assert delay is not None


def test_the_capital_never_falls_below_what_is_in_hand() -> None:
    rng = np.random.default_rng(0)
    martingale = start_martingale(rng.normal(size=50))
    for _ in range(300):
        martingale = observe(martingale, rng.normal(), rng)
        assert math.exp(martingale.log_capital) >= _in_hand(martingale.observed)


@given(
    calibration=st.lists(st.floats(-100, 100), max_size=10),
    scores=st.lists(st.floats(-100, 100), max_size=10),
    digits=st.sampled_from([None, 2]),
)
def test_a_restart_changes_nothing(calibration: list[float], scores: list[float], digits: int | None) -> None:
    straight = watch(start_martingale(calibration, digits=digits), scores, np.random.default_rng(0))
    rng = np.random.default_rng(0)
    restarted = start_martingale(calibration, digits=digits)
    for score in scores:
        written = json.dumps(restarted.to_dict(), allow_nan=False)
        restarted = observe(Martingale.from_dict(json.loads(written)), score, rng)
    assert restarted.to_dict() == straight.to_dict()


def test_the_state_is_never_changed_in_place() -> None:
    rng = np.random.default_rng(0)
    start = start_martingale([1.0, 2.0])
    before = start.to_dict()
    observe(start, 2.0, rng)
    observe(start, 3.0, rng)
    assert start.to_dict() == before


def test_rounding_bounds_the_memory() -> None:
    rng = np.random.default_rng(0)
    martingale = watch(start_martingale(rng.uniform(1, 10, 200), digits=2), rng.uniform(1, 10, 2000), rng)
    assert martingale.values.size <= 91
    assert martingale.counts.sum() == 2200


def test_streams_share_the_probability_of_a_false_alarm() -> None:
    streams = {
        "score": Martingale.from_dict(start_martingale([1.0]).to_dict() | {"log_peak": math.log(250)}),
        "brightness": Martingale.from_dict(start_martingale([1.0]).to_dict() | {"log_peak": math.log(150)}),
    }
    assert drifted(streams, 0.01) == ["score"]
    assert drifted(streams, 0.02) == ["score", "brightness"]
    assert drifted({"brightness": streams["brightness"]}, 0.01) == ["brightness"]
    with pytest.raises(SettingsError, match="max_false_alarm_probability"):
        drifted(streams, 1.0)


def test_a_score_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(CalibrationError, match="not a number"):
        observe(start_martingale([1.0]), math.nan, np.random.default_rng(0))


@pytest.mark.parametrize("digits", [None, 2, 4])
@given(seed=st.integers(0, 2**32 - 1), reach=st.floats(0.01, 3.0), sign=st.sampled_from([1.0, -1.0]))
def test_within_the_tolerance_no_bet_gains_more_than_without_a_change(
    seed: int, reach: float, sign: float, digits: int | None
) -> None:
    """Image by image, whatever the change does within it: constant, slow or to and fro. So the bound is kept.

    The stakes alone would not tell: what was lost to the tolerance before may hide a p-value that is too small.
    """
    draw = np.random.default_rng(seed)
    calibration = np.sort(sign * draw.normal(10.0, 1.0, int(draw.integers(1, 40))))
    calm = changed = start_martingale(calibration, digits=digits)
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    shapes = [
        np.full(40, 1.0),
        np.full(40, -1.0),
        np.linspace(-1, 1, 40),
        np.linspace(1, -1, 40),
        draw.uniform(-1, 1, 40),
    ]
    change = reach * shapes[int(draw.integers(5))]
    for good, shift in zip(sign * draw.normal(10.0, 1.0, 40), change, strict=True):
        calm = observe(calm, good, first)
        changed = observe(changed, good + shift, second, Tolerance(reach, calibration))
        assert changed.p_value is not None
        assert calm.p_value is not None
        assert changed.p_value >= calm.p_value - 1e-12
        assert all(ours <= theirs + 1e-12 for ours, theirs in zip(changed.log_stakes, calm.log_stakes, strict=True))
    assert changed.log_peak <= calm.log_peak + 1e-12


def test_the_tolerance_makes_up_for_what_rounding_hides() -> None:
    """19.6 and 20.4 are equal to two digits; off by a half each, this way and that, they are 19 and 21."""
    reach, calibration = 0.5, np.ones(9)
    calm = changed = start_martingale(calibration, digits=2)
    first, second = np.random.default_rng(1), np.random.default_rng(1)
    for good, shift in ((19.6, -reach), (20.4, reach)):
        calm = observe(calm, good, first)
        changed = observe(changed, good + shift, second, Tolerance(reach, calibration))
    assert changed.p_value is not None
    assert calm.p_value is not None
    assert changed.p_value >= calm.p_value


def test_beyond_the_tolerance_a_change_is_noticed_and_within_it_is_not() -> None:
    draw = np.random.default_rng(0)
    calibration = np.sort(draw.normal(10.0, 0.05, 100))
    alarms = {}
    for shift, reach in ((0.2, 0.0), (0.2, 0.3), (1.0, 0.3), (-1.0, 0.3)):
        martingale = start_martingale(calibration, digits=4)
        for good in draw.normal(10.0, 0.05, 60):
            martingale = observe(martingale, good + shift, draw, Tolerance(reach, calibration))
        alarms[shift, reach] = bool(drifted({"brightness": martingale}, 0.01 / 6))
    assert alarms == {(0.2, 0.0): True, (0.2, 0.3): False, (1.0, 0.3): True, (-1.0, 0.3): True}
