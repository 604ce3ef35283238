"""Photos that hold a watch up: one that takes far longer than the others, or photos that come faster than they go."""

from collections import deque
from statistics import median
from typing import final

AT_LEAST_S, TIMES, OTHERS = 1.0, 10.0, 5
"""A photo is slow from so many seconds on, if that is so many times what at least so many others took."""

ARRIVALS, SPAN_S = 20, 10.0
"""So many photos, over so long, say how fast they come."""


@final
class SlowPhotos:
    """What photos took, by a monotonic clock; either thing is said once."""

    def __init__(self) -> None:
        self._others: deque[float] = deque(maxlen=50)
        self._is_slow_said = self._is_late_said = False
        self._begin: float | None = None
        self._count, self._total_s = 0, 0.0

    def took(self, name: str, came_s: float | None, took_s: float) -> list[str]:
        """What is to be said of a photo that came at that time (None: it was there from the start) and took so long.

        >>> slow = SlowPhotos()
        >>> [slow.took(f"{place}.png", None, 0.2) for place in range(5)][-1], slow.took("big.tif", None, 12.0)[0][:37]
        ([], 'big.tif: took 12 s, the others 0.2 s;')
        """
        said = [*self._slow(name, took_s)] + ([] if came_s is None else [*self._late(name, came_s, took_s)])
        self._others.append(took_s)
        return said

    def _slow(self, name: str, took_s: float) -> list[str]:
        usual_s = median(self._others) if len(self._others) >= OTHERS else took_s
        if self._is_slow_said or took_s < max(AT_LEAST_S, TIMES * usual_s):
            return []
        self._is_slow_said = True
        return [
            f"{name}: took {took_s:.2g} s, the others {usual_s:.2g} s; see whether it has far more pixels or another "
            "format than they have, and let the camera write all alike; this is said once"
        ]

    def _late(self, name: str, came_s: float, took_s: float) -> list[str]:
        if self._begin is None:
            self._begin = came_s
            return []
        self._count, self._total_s = self._count + 1, self._total_s + took_s
        span_s = came_s - self._begin
        if self._count < ARRIVALS or span_s < SPAN_S:
            return []
        every_s, each_s = span_s / self._count, self._total_s / self._count
        self._begin, self._count, self._total_s = came_s, 0, 0.0
        if self._is_late_said or each_s <= every_s:
            return []
        self._is_late_said = True
        return [
            f"{name}: photos come every {every_s:.2g} s and take {each_s:.2g} s each, so that they wait longer and "
            "longer; train with data.speed=fast or a smaller data.side_px, export the model to ONNX, or give it more "
            "--threads; this is said once"
        ]
