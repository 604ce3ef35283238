"""Progress in a log: seldom enough to read, often enough to know that it goes on."""

import numpy as np
import pytest

from blemish.cli import log_lines
from blemish.cli.console import progress
from blemish.cli.log_lines import EVERY_S, FIRST_S, LogLines
from blemish.data.progress import Progress


class Log:
    """Lines with the second they came at, by a clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s, self.lines = 0.0, list[tuple[float, str]]()
        self.report = LogLines(lambda line: self.lines.append((self.now_s, line)), lambda: self.now_s).report

    def work(self, what: str, total: int, step_s: float, note: str = "") -> None:
        for done in range(1, total + 1):
            self.now_s += step_s
            self.report(Progress(what, done, total, note))


def test_short_work_says_nothing() -> None:
    log = Log()
    log.work("looking", 90, FIRST_S / 91)
    assert log.lines == []


def test_long_work_says_how_far_it_is_and_how_long_it_will_take() -> None:
    log = Log()
    log.work("challenging", 100, 1.0, "holes")
    assert log.lines == [
        (10.0, "challenging 10 of 100, holes, about 90 s left"),
        (40.0, "challenging 40 of 100, holes, about 60 s left"),
        (70.0, "challenging 70 of 100, holes, about 30 s left"),
        (100.0, "challenging 100 of 100, took 99 s"),
    ]


def test_hours_of_work_do_not_fill_the_log() -> None:
    log = Log()
    log.work("training", 36_000, 1.0)
    times = [at for at, _ in log.lines]
    assert len(times) < 120
    assert min(np.diff(times[:-1])) >= EVERY_S


def test_all_that_is_under_way_is_in_one_line_and_what_is_over_is_not() -> None:
    log = Log()
    log.report(Progress("runs", 0, 4, "hazelnut"))
    log.report(Progress("fitting", 2, 3))  # a pass that is broken off
    log.work("reading images", 5, 1.0)
    log.work("training", 8, 1.0)
    assert log.lines[0] == (10.0, "runs 0 of 4, hazelnut; training 5 of 8, about 3 s left")


def test_the_same_work_on_other_images_begins_with_a_new_clock() -> None:
    log = Log()
    log.work("evaluating", 9, 1.0)
    log.work("evaluating", 50, 2.0)
    assert log.lines[0] == (11.0, "evaluating 1 of 50")
    assert log.lines[1] == (41.0, "evaluating 16 of 50, about 68 s left")


def test_where_nobody_knows_how_much_there_is_it_says_how_much_is_done() -> None:
    log = Log()
    for done in range(1, 13):
        log.now_s += 1.0
        log.report(Progress("watching", done, 0))
    assert log.lines == [(10.0, "watching 10")]


def test_a_log_gets_lines_where_a_terminal_has_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_lines, "FIRST_S", 0.0)
    with progress() as report:
        report(Progress("judging", 1, 3))
        report(Progress("judging", 2, 3))
        report(Progress("judging", 3, 3))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0] == "progress: judging 1 of 3"
    assert err.splitlines()[1].startswith("progress: judging 3 of 3, took ")
