"""How many good images are flagged by chance, against scipy and against drawing lots."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from blemish.trust.certificate import certify
from blemish.trust.realised import chance_of_flagged
from blemish.trust.suspects import student_tail, suspicion


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
        assert np.mean(np.array(counts) >= flagged) == pytest.approx(expected, abs=4 * np.sqrt(0.25 / 3000))


@pytest.mark.parametrize("degrees", [4, 10, 55, 400])
def test_the_tail_is_students(degrees: int) -> None:
    for t in (-3.0, 0.0, 1.0, 5.0, 20.0):
        assert student_tail(t, degrees) == pytest.approx(stats.t.sf(t, degrees), rel=1e-3)


@pytest.mark.parametrize(("draw", "most"), [("normal", 0.06), ("gumbel", 0.15)])
def test_clean_sets_are_rarely_suspected(draw: str, most: float) -> None:
    rng = np.random.default_rng(0)
    named = [(suspicion(np.exp(0.2 * getattr(rng, draw)(size=30))) <= 0.01).any() for _ in range(60)]
    assert np.mean(named) <= most + 2 * np.sqrt(most / 60)


def test_several_defective_images_do_not_hide_each_other() -> None:
    scores = np.exp(0.1 * np.random.default_rng(1).normal(size=40))
    scores[:5] = 3, 3, 4, 5, 9
    assert np.flatnonzero(suspicion(scores) <= 0.01).tolist() == [0, 1, 2, 3, 4]


def test_where_nothing_can_be_said_nothing_is() -> None:
    for scores in ([], [1.0, 1.0, 1.0, 99.0], [0.0] * 9, [2.0] * 9 + [50.0]):
        assert (suspicion(scores) == 1).all()
