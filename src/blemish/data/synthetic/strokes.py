"""Cracks, letters and lines as polygons, and polygons as antialiased pictures."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.data.synthetic.texture import Field, shrink

Points = NDArray[np.float64]
"""Corners of a line or of a polygon, (n, 2), x and y in units of the caller's choice."""

GLYPHS = {
    "A": "0,6 2,0 4,6;1,4 3,4",
    "E": "4,0 0,0 0,6 4,6;0,3 3,3",
    "F": "4,0 0,0 0,6;0,3 3,3",
    "H": "0,0 0,6;4,0 4,6;0,3 4,3",
    "K": "0,0 0,6;4,0 0,3 4,6",
    "L": "0,0 0,6 4,6",
    "M": "0,6 0,0 2,3 4,0 4,6",
    "N": "0,6 0,0 4,6 4,0",
    "O": "1.4,0 2.6,0 3.5,0.6 4,1.8 4,4.2 3.5,5.4 2.6,6 1.4,6 0.5,5.4 0,4.2 0,1.8 0.5,0.6 1.4,0",
    "R": "0,6 0,0 2.8,0 3.7,0.5 4,1.5 3.7,2.5 2.8,3 0,3;2,3 4,6",
    "T": "0,0 4,0;2,0 2,6",
    "V": "0,0 2,6 4,0",
    "X": "0,0 4,6;4,0 0,6",
    "Z": "0,0 4,0 0,6 4,6",
    "2": "0,1.3 0.5,0.4 1.4,0 2.6,0 3.5,0.4 4,1.3 3.8,2.2 0,6 4,6",
    "4": "3,6 3,0 0,4 4,4",
    "7": "0,0 4,0 1.5,6",
}
"""Letters and figures as strokes, on a grid 4 wide and 6 high: the same on every machine, as no font file is."""


def jagged_line(rng: np.random.Generator, length: float) -> Points:
    """A broken line of 33 points along x about the origin, by midpoint displacement (Fournier et al., 1982)."""
    sideways = np.zeros(2)
    spread = 0.16 * length
    for _ in range(5):
        middles = (sideways[1:] + sideways[:-1]) / 2 + rng.normal(0, spread, len(sideways) - 1)
        finer = np.empty(len(sideways) + len(middles))
        finer[::2], finer[1::2] = sideways, middles
        sideways, spread = finer, 0.48 * spread
    along = np.linspace(-length / 2, length / 2, len(sideways))
    along[1:-1] += rng.normal(0, 0.006 * length, len(along) - 2)
    return np.stack([along, sideways - sideways.mean()], axis=1)


def branch(rng: np.random.Generator, trunk: Points, length: float) -> Points:
    """A jagged line that leaves `trunk` in its middle third, sideways."""
    foot = trunk[int(rng.integers(len(trunk) // 3, 2 * len(trunk) // 3))]
    angle = float(rng.choice([-1, 1])) * float(rng.uniform(0.5, 1.1))
    cos, sin = np.cos(angle), np.sin(angle)
    twig = jagged_line(rng, length)
    turned: Points = foot + (twig - twig[0]) @ np.array([[cos, sin], [-sin, cos]])
    return turned


def blade(rng: np.random.Generator, line: Points, widest: float) -> Points:
    """The outline of a line that is widest half-way and runs out at its ends."""
    share = np.linspace(0, 1, len(line))
    half = 0.5 * widest * np.minimum(1, 4 * share * (1 - share) + 0.12) * rng.uniform(0.55, 1.25, len(line))
    ahead = np.gradient(line, axis=0)
    aside = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * (half / np.hypot(*ahead.T))[:, None]
    return np.concatenate([line + aside, (line - aside)[::-1]])


def bar(start: Points, end: Points, width: float) -> Points:
    """A straight line with round ends.

    >>> bar(np.array([0.0, 0.0]), np.array([4.0, 0.0]), 2.0).max(axis=0).tolist()
    [5.0, 1.0]
    """
    angle = np.arctan2(*(end - start)[::-1])
    turns = angle + np.linspace(-np.pi / 2, np.pi / 2, 7)
    circle = width / 2 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return np.concatenate([end + circle, start - circle])


def word(letters: Sequence[str], height: float, pen: float) -> list[Points]:
    """Letters of `GLYPHS` side by side about the origin, y down, drawn with a round pen as wide as `pen`.

    >>> len(word("HL", height=6.0, pen=1.0))  # three bars and two
    5
    """
    gap = 1.9
    left = -(len(letters) * (4 + gap) - gap) / 2
    polygons = []
    for number, letter in enumerate(letters):
        corner = np.array([left + number * (4 + gap), -3.0])
        for stroke in GLYPHS[letter].split(";"):
            corners = np.array([[float(c) for c in pair.split(",")] for pair in stroke.split()])
            corners = (corners + corner) * (height / 6)
            polygons += [bar(a, b, pen) for a, b in pairwise(corners)]
    return polygons


def draw_polygons(polygons: Sequence[Points], reach: float, side_px: int) -> Field:
    """The share of each pixel that the polygons cover, on a square from -reach to reach.

    >>> draw_polygons([np.array([[-1.0, -1.0], [0.0, -1.0], [0.0, 0.0], [-1.0, 0.0]])], 1.0, 4).round().tolist()
    [[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    """
    times = 3
    picture = Image.new("L", (side_px * times, side_px * times))
    draw = ImageDraw.Draw(picture)
    for polygon in polygons:
        spots = (polygon + reach) * (side_px * times / (2 * reach)) - 0.5
        draw.polygon([(float(x), float(y)) for x, y in spots], fill=255)
    return shrink(np.asarray(picture, dtype=np.float32) / 255, times)
