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
        made.follow(wanted)
        assert wait_until(lambda wanted=wanted: running == wanted)  # type: ignore[misc]
    made.end()
    assert running == set()


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
