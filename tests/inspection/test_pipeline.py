"""Work done ahead: bounded, in order, dropped when nobody wants it any more; and quiet from any number of threads."""

import threading
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.data.decode import SILENCE
from blemish.inspection.pipeline import Bound, work_ahead


@given(
    weights=st.lists(st.integers(0, 10), max_size=20),
    workers=st.integers(1, 4),
    things=st.integers(1, 5),
    weight=st.integers(1, 15),
)
def test_order_and_bounds(weights: list[int], workers: int, things: int, weight: int) -> None:
    drawn: list[int] = []

    def source() -> Iterator[int]:
        for place in range(len(weights)):
            drawn.append(place)
            yield place

    bound = Bound(things, weight)
    taken = 0
    for place, future in work_ahead(lambda place: -place, source(), workers, bound, lambda place: weights[place]):
        assert (place, future.result()) == (taken, -taken)
        begun = drawn[taken:-1] if len(drawn) < len(weights) else drawn[taken:]  # the last one drawn may not have begun
        held = sum(weights[one] for one in begun)
        assert len(begun) <= things + 1
        assert held <= weight + max(weights, default=0) or len(begun) <= 2
        taken += 1
    assert taken == len(weights)


def test_whoever_stops_half_way_leaves_no_thread_behind() -> None:
    done: list[int] = []
    before = threading.active_count()
    results = work_ahead(done.append, range(1000), 2, Bound(8, 100))
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert len(done) <= 8


def test_errors_stay_with_their_thing() -> None:
    found = work_ahead(lambda value: 1 / value, [1, 0, 2], 2, Bound(3, 3))
    futures = [future for _, future in found]
    assert (futures[0].result(), futures[2].result()) == (1.0, 0.5)
    with pytest.raises(ZeroDivisionError):
        futures[1].result()


def test_silence_ends_when_the_last_thread_leaves_it() -> None:
    before = list(warnings.filters)
    inside, leave = threading.Barrier(3), threading.Event()

    def first() -> None:
        with SILENCE:
            inside.wait()

    def second() -> None:
        with SILENCE:
            inside.wait()
            leave.wait()

    threads = [threading.Thread(target=target) for target in (first, second)]
    for thread in threads:
        thread.start()
    inside.wait()
    threads[0].join()
    warnings.warn_explicit("too large", Image.DecompressionBombWarning, "Image.py", 1, module="PIL.Image")
    leave.set()
    threads[1].join()
    assert warnings.filters == before
    with pytest.raises(Image.DecompressionBombWarning):
        warnings.warn_explicit("too large", Image.DecompressionBombWarning, "Image.py", 1, module="PIL.Image")
