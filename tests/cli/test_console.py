"""Ctrl-C while progress is shown."""

import signal

import pytest
import typer

from blemish.cli.console import progress
from blemish.cli.exit import INTERRUPTED, ending
from blemish.data.progress import Progress
from blemish.errors import DataError


def interrupt() -> None:
    """Ctrl-C, as the handler in force takes it."""
    handler = signal.getsignal(signal.SIGINT)
    assert callable(handler)
    handler(signal.SIGINT, None)


def test_an_interrupt_after_the_last_step_ends_the_command_before_success_is_claimed() -> None:
    before, done = signal.getsignal(signal.SIGINT), []

    def command() -> None:
        with progress() as report:
            report(Progress("judging", 1, 1))
            interrupt()
            done.append("work")
        done.append("success")

    with pytest.raises(typer.Exit) as ended:
        ending("compare", command)()
    assert ended.value.exit_code == INTERRUPTED
    assert done == ["work"]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_waits_for_the_step_that_keeps_the_work() -> None:
    done = []

    def train() -> None:
        with progress() as report:
            interrupt()
            done.append("step")
            try:
                report(Progress("training", 1, 9))
            except KeyboardInterrupt:
                done.append("state saved")
                raise

    with pytest.raises(KeyboardInterrupt):
        train()
    assert done == ["step", "state saved"]


@pytest.mark.parametrize(("at_once", "expected"), [(True, []), (False, ["after one"])])
def test_the_first_interrupt_stops_at_once_where_nothing_is_kept_and_else_the_second(
    at_once: bool, expected: list[str]
) -> None:
    done = []

    def work() -> None:
        with progress(at_once):
            interrupt()
            done.append("after one")
            interrupt()
            done.append("after two")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == expected


@pytest.mark.parametrize("error", [ImportError("half"), None])
def test_an_interrupt_that_something_swallowed_ends_the_block(error: ImportError | None) -> None:
    def work() -> None:
        with progress(at_once=True):
            try:
                interrupt()
            except KeyboardInterrupt:
                if error is not None:
                    raise error from None

    with pytest.raises(KeyboardInterrupt):
        work()


def test_errors_without_an_interrupt_pass() -> None:
    with pytest.raises(DataError, match="no images"), progress():
        raise DataError("no images")
