"""The ladder of false-alarm rates says what `certify` would."""

from pathlib import Path

import pytest

from blemish.errors import CalibrationError
from blemish.inference.artifact import ArtifactHeader, read_artifact
from blemish.inference.calibration import DEFAULT_RATE, CalibrationCard, calibrate
from blemish.inference.ladder import RATES, threshold_ladder


@pytest.fixture
def header(model_file: Path) -> ArtifactHeader:
    return read_artifact(model_file)[0]


@pytest.mark.parametrize("count", [1, 4, 18, 19, 40, 120])
def test_each_rung_is_what_certify_gives(header: ArtifactHeader, count: int) -> None:
    found = calibrate([float(score) for score in range(count)], None)
    header = header.model_copy(update=found._asdict())
    rungs = threshold_ladder(header)
    assert {rung.rate for rung in rungs} == {*RATES, header.max_false_alarm_rate}
    assert [rung.rate for rung in rungs if rung.is_chosen] == [header.max_false_alarm_rate]
    for rung in rungs:
        assert (rung.threshold is None) == (rung.images_needed > count)
        if rung.threshold is None:
            with pytest.raises(CalibrationError):
                header.certify(rung.rate)
        else:
            assert rung.threshold == header.certify(rung.rate).threshold
    thresholds = [rung.threshold for rung in rungs if rung.threshold is not None]
    assert thresholds == sorted(thresholds, reverse=True)


@pytest.mark.parametrize(("count", "rate"), [(4, 0.2), (18, 1 / 19), (19, DEFAULT_RATE), (500, DEFAULT_RATE)])
def test_the_default_rate_is_5_percent_or_the_smallest_there_is(count: int, rate: float) -> None:
    assert calibrate([0.0] * count, None).max_false_alarm_rate == pytest.approx(rate)


def test_one_odd_image_of_many_does_not_set_the_default_threshold() -> None:
    scores = [*(float(score) for score in range(99)), 1e6]
    assert calibrate(scores, None).threshold == 95.0


def test_folds_have_rungs_without_a_number_of_images(header: ArtifactHeader) -> None:
    card = CalibrationCard(folds=(0, 0, 1, 1, 2, 2), images=6)
    header = header.model_copy(
        update={"calibration": card, "calibration_scores": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0), "max_false_alarm_rate": 0.25}
    )
    assert all(rung.images_needed is None for rung in threshold_ladder(header))


def test_the_rate_of_a_threshold_counts_what_lies_above_it(header: ArtifactHeader) -> None:
    """An image is flagged above the threshold, so that a calibration score of the same height speaks for no rate."""
    header = header.model_copy(update={"calibration_scores": (1.0, 2.0, 3.0, 4.0), "threshold": 4.0})
    assert header.rate_at(4.0) == header.max_false_alarm_rate
    assert [header.rate_at(threshold) for threshold in (2.9, 3.0, 3.1, 5.0)] == [0.6, 0.4, 0.4, 0.2]
