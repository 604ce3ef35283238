"""Threads that follow what there is."""

import threading

import pytest

from blemish.station import crew
from blemish.station.crew import Crew
from station.waiting import wait_until


def test_threads_begin_and_end_with_their_things() -> None:
    running = set[str]()

    def run(thing: str, stop: threading.Event) -> None:
        running.add(thing)
        stop.wait()
        running.remove(thing)

    made = Crew(run)
    for wanted in ({"a", "b"}, {"b", "c"}, {"b", "c"}, {"c"}):
        assert wait_until(lambda wanted=wanted: made.follow(wanted) or running == wanted)  # type: ignore[misc]
    made.end()
    assert running == set()


def test_a_thread_that_is_slow_to_end_holds_up_nobody_but_who_needs_the_same() -> None:
    may_end, begun = threading.Event(), list[str]()

    def run(thing: str, _stop: threading.Event) -> None:
        begun.append(thing)
        may_end.wait()

    made = Crew(run, needs=lambda thing: thing[0])
    made.follow(["a1"])
    for _ in range(3):
        made.follow(["a2", "b1"])
    assert begun == ["a1", "b1"]
    may_end.set()
    assert wait_until(lambda: made.follow(["a2", "b1"]) or len(begun) > 2)  # type: ignore[func-returns-value]
    made.end()
    assert begun == ["a1", "b1", "a2"]


def test_one_that_ended_although_its_thing_is_there_is_begun_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun = list[str]()
    made = Crew(lambda thing, _: begun.append(thing))
    monkeypatch.setattr(crew, "RESTART_S", 1e9)
    made.follow(["a"])
    assert wait_until(lambda: begun)
    for _ in range(3):
        made.follow(["a"])
    assert begun == ["a"]
    monkeypatch.setattr(crew, "RESTART_S", 0.0)
    assert wait_until(lambda: made.follow(["a"]) or len(begun) > 2)  # type: ignore[func-returns-value]
    made.end()
