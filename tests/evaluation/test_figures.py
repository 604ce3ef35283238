"""Charts: that they hold what they were given, in any amount, and nothing that reaches outside."""

import warnings
from collections.abc import Callable
from xml.etree import ElementTree

import numpy as np
import pytest

from blemish.evaluation.report import figures
from blemish.evaluation.results import Rung

CHARTS: dict[str, Callable[[], bytes]] = {
    "loss": lambda: figures.loss_curve({"loss": [1.0, 0.5], "validation": [2.0, 0.001]}),
    "loss of one epoch": lambda: figures.loss_curve({"loss": [1.0]}),
    "no loss": lambda: figures.loss_curve({}),
    "bars": lambda: figures.f1_bars(["a", "b"], [0.5, None], "F1"),
    "many bars": lambda: figures.f1_bars([str(i) for i in range(300)], [0.5] * 300, "F1"),
    "roc": lambda: figures.roc_curves({"images": ([0, 1], [0, 1], 0.5), "pixels": ([0, 0, 1], [0, 1, 1], 1.0)}),
    "scores": lambda: figures.score_histogram(
        {"calibration": [0.1], "good": [0.1, 0.2], "defective": [0.4, 90.0]}, 0.3
    ),
    "one score": lambda: figures.score_histogram({"good": [0.5], "defective": []}, 0.5),
    "scores of zero": lambda: figures.score_histogram({"good": [0.0], "defective": [0.0]}, 0.0),
    "ladder": lambda: figures.ladder_chart(
        [
            Rung(max_false_alarm_rate=0.01, is_chosen=False, needed=None, defective=3, good=2),
            Rung(
                max_false_alarm_rate=0.05,
                is_chosen=True,
                needed=19,
                threshold=1.0,
                defective=3,
                found=2,
                interval=(0.1, 0.9),
                good=2,
                flagged=0,
            ),
        ]
    ),
    "thresholds": lambda: figures.threshold_curves(
        [0.01, 0.1, 1.0], {"precision": [0, 1, 1], "recall": [1, 1, 0], "F1": [0, 1, 0]}, {"a": 0.1, "b": None}
    ),
}


@pytest.mark.parametrize("draw", CHARTS.values(), ids=list(CHARTS))
def test_every_chart_is_well_formed_and_self_contained(draw: Callable[[], bytes]) -> None:
    svg = draw()
    ElementTree.fromstring(svg.replace(b"xlink:href", b"href"))
    assert b"http" not in svg
    assert b"currentColor" in svg


@pytest.mark.slow
@pytest.mark.parametrize("draw", CHARTS.values(), ids=list(CHARTS))
def test_the_same_chart_has_the_same_bytes(draw: Callable[[], bytes]) -> None:
    assert draw() == draw()


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a&b", "$x_1$", "$", "裂け目", "a\\$b", "\u202ename"])
def test_odd_names_are_only_names(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = figures.f1_bars([name], [1.0], "F1")
    ElementTree.fromstring(svg.replace(b"xlink:href", b"href"))
    assert b"<script>" not in svg


def test_bars_have_the_heights_of_the_values() -> None:
    """The drawn F1 axis runs from 0 to 1, so that two charts compare at a glance."""
    low, high = figures.f1_bars(["a"], [0.01], "F1"), figures.f1_bars(["a"], [0.99], "F1")
    for svg in (low, high):
        assert b">0.0<" in svg
        assert b">1.0<" in svg
    assert low != high


def test_a_threshold_that_was_not_computed_is_not_drawn() -> None:
    levels = np.array([0.1, 0.2])
    svg = figures.threshold_curves(levels, {"F1": levels}, {"calibrated": 0.15, "oracle f1": None, "afar": 3.0})
    assert b"calibrated" in svg
    assert b"oracle" not in svg
    assert b"afar" not in svg
