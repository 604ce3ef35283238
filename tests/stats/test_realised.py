"""How many good images are flagged by chance, against scipy and against drawing lots."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from blemish.stats.conformal import certify
from blemish.stats.intervals import chance_of_flagged
from blemish.stats.outliers import suspicion
from reference.chance import FAR


@given(n=st.integers(1, 300), n_new=st.integers(0, 200), data=st.data())
def test_it_is_the_beta_binomial_law(n: int, n_new: int, data: st.DataObject) -> None:
    above, flagged = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n_new))
    expected = stats.betabinom(n_new, above + 1, n - above).sf(flagged - 1)
    assert chance_of_flagged(flagged, n_new, above, n) == pytest.approx(expected, abs=1e-9)


def test_it_is_how_often_a_certificate_flags_so_many() -> None:
    rng, counts = np.random.default_rng(0), []
    for _ in range(3000):
        scores = rng.lognormal(size=60)
        counts.append(int((scores[39:] > certify(scores[:39], 0.1).threshold).sum()))
    for flagged in (1, 3, 6):
        expected = chance_of_flagged(flagged, 21, above=3, n=39)
        assert np.mean(np.array(counts) >= flagged) == pytest.approx(expected, abs=FAR * np.sqrt(0.25 / 3000))


@pytest.mark.parametrize("draw", ["normal", "gumbel"])
def test_clean_sets_are_rarely_suspected(draw: str) -> None:
    rng = np.random.default_rng(0)
    named = [(suspicion(5 + getattr(rng, draw)(size=30)) <= 0.01).any() for _ in range(300)]
    assert np.mean(named) <= 0.07


def test_several_defective_images_do_not_hide_each_other() -> None:
    scores = np.exp(0.1 * np.random.default_rng(1).normal(size=40))
    scores[:5] = 3, 3, 4, 5, 9
    assert np.flatnonzero(suspicion(scores) <= 0.01).tolist() == [0, 1, 2, 3, 4]


def test_where_nothing_can_be_said_nothing_is() -> None:
    for scores in ([], [1.0, 1.1, 1.2, 99.0], [0.0] * 9, [2.0] * 9 + [50.0]):
        assert (suspicion(scores) == 1).all()
