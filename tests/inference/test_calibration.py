"""Threshold, p-value and selection from the scores that a model keeps: held out, by group, and by fold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blemish.errors import CalibrationError, SettingsError
from blemish.inference.calibration import (
    BatchPart,
    CalibrationCard,
    batch_threshold,
    batch_thresholds,
    calibrate,
    fewest_selected,
    promise,
    score_p_value,
)
from blemish.stats.false_discovery import benjamini_hochberg

SCORES = st.lists(st.integers(0, 12).map(float), min_size=12, max_size=12)
CARDS = {
    "held out": CalibrationCard(),
    "with confidence": CalibrationCard(confidence=0.6),
    "by group": CalibrationCard(by_group=True, images=30),
    "folds": CalibrationCard(folds=tuple(range(12))),
    "large folds": CalibrationCard(folds=tuple(place % 4 for place in range(12))),
    "uneven folds": CalibrationCard(folds=(0, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 4)),
}


@pytest.mark.parametrize("kind", CARDS)
@given(scores=SCORES, score=st.integers(0, 13).map(float), alpha=st.floats(0.01, 0.95))
def test_flagged_is_the_same_as_a_small_p_value(kind: str, scores: list[float], score: float, alpha: float) -> None:
    card = CARDS[kind]
    try:
        threshold = promise(scores, card, alpha).threshold
    except CalibrationError:
        assert score_p_value(scores, card, max(scores) + 1) > alpha
        return
    assert (score > threshold) == (score_p_value(scores, card, score) <= alpha)


@pytest.mark.parametrize("kind", CARDS)
@given(scores=SCORES, batch=st.lists(st.integers(0, 14).map(float), min_size=1, max_size=9), rate=st.floats(0.05, 0.9))
def test_the_threshold_of_a_batch_selects_as_the_p_values_do(
    kind: str, scores: list[float], batch: list[float], rate: float
) -> None:
    card = CARDS[kind]
    p_values = [score_p_value(scores, card, score) for score in batch]
    share = rate / sum(1 / k for k in range(1, len(batch) + 1)) if card.by_group or card.folds else rate
    if fewest_selected(scores, card, len(batch), rate) > len(batch):
        with pytest.raises(CalibrationError, match="nothing could ever be selected"):
            batch_threshold(scores, card, batch, rate)
        assert not benjamini_hochberg([score_p_value(scores, card, np.inf)] * len(batch), share).any()
        return
    selected = np.array(batch) > batch_threshold(scores, card, batch, rate)
    assert selected.tolist() == benjamini_hochberg(p_values, share).tolist()


def test_so_many_must_stand_out_for_any_to_be_selected() -> None:
    """Nine good images: no p-value below 0.1, so at 0.2 it takes five of ten to be singled out."""
    good, card = [float(score) for score in range(9)], CalibrationCard()
    for rate, fewest in ((0.2, 5), (0.5, 2), (0.9, 2)):
        assert fewest_selected(good, card, 10, rate) == fewest
        for defective in range(11):
            batch = [99.0] * defective + [0.0] * (10 - defective)
            selected = np.array(batch) > batch_threshold(good, card, batch, rate)
            assert selected.sum() == (defective if defective >= fewest else 0)


def test_groups_and_folds_together() -> None:
    """Three groups in three folds: each group has its largest score, and its fold."""
    found = calibrate([0.1, 0.5, 0.2, 0.9, 0.3], None, groups=list("ccabb"), folds=[2, 2, 0, 1, 1])
    assert found.calibration_scores == (0.2, 0.5, 0.9)
    assert found.calibration.folds == (0, 2, 1)
    assert found.max_false_alarm_rate == 0.25
    assert promise(found.calibration_scores, found.calibration, 0.25).promise == (
        "On average at most 25 % of new groups of good images have an image flagged (from 5 good images in 3 groups)."
    )


def test_without_a_rate_5_percent_is_promised_or_the_smallest_there_is() -> None:
    assert calibrate(range(9), None).max_false_alarm_rate == 0.1
    assert calibrate(range(99), None).max_false_alarm_rate == 0.05
    assert calibrate(range(40), None, 0.95).max_false_alarm_rate == pytest.approx(1 - 0.05 ** (1 / 40))
    assert calibrate(range(80), None, 0.95).max_false_alarm_rate == 0.05
    assert calibrate(range(20), None, folds=[place % 4 for place in range(20)]).max_false_alarm_rate == 0.2


def test_folds_promise_nothing_with_confidence() -> None:
    with pytest.raises(SettingsError, match=r"score\.confidence: found 0\.95 with folds"):
        calibrate(range(20), 0.5, 0.95, folds=range(20))
    with pytest.raises(SettingsError, match=r"score\.confidence: found 0\.95 with folds"):
        calibrate(range(20), None, 0.95, folds=range(20))


def test_a_rate_of_false_discoveries_outside_0_and_1_is_refused() -> None:
    for card in (CalibrationCard(), CalibrationCard(by_group=True)):
        for rate in (0.0, 1.0, 1.5, -0.1):
            with pytest.raises(SettingsError, match="max_false_discovery_rate: found"):
                batch_threshold([1.0, 2.0], card, [1.0, 2.0], rate)


def test_models_that_judge_one_batch_share_the_most_cautious_rate() -> None:
    """Of one of them the images are bound together by groups: what holds for independent p-values alone is too much."""
    good = [float(score) for score in range(99)]
    alone = BatchPart(good, CalibrationCard(), {0.04: 1}, highest=95.5)
    bound = BatchPart(good, CalibrationCard(by_group=True), {0.08: 1}, highest=91.5)
    assert batch_thresholds([alone, bound._replace(card=CalibrationCard())], 0.1) == [91.0, 91.0]
    assert batch_thresholds([alone, bound], 0.1) == [98.0, 98.0]  # nothing, and no good image either
