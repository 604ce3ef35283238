"""Noise, blur and sampling of pictures in plain numpy and Pillow, for drawing synthetic images."""

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Field = NDArray[np.floating[Any]]
"""Numbers on a grid (h, w), or colours and vectors on one (3, h, w); always float32, which is twice as fast."""


def smoothstep(start: float, end: float, x: Field) -> Field:
    """0 before `start`, 1 after `end`, and a smooth cubic between; `start` may lie after `end`.

    >>> smoothstep(1.0, 3.0, np.array([0.0, 2.0, 9.0], np.float32)).tolist()
    [0.0, 0.5, 1.0]
    """
    t: Field = np.clip((x - np.float32(start)) * np.float32(1 / (end - start)), 0, 1)
    eased: Field = t * t * (3 - 2 * t)
    return eased


def lerp(a: Field, b: Field, share: Field | float) -> Field:
    """From `a` at share 0 to `b` at share 1.

    >>> lerp(np.zeros(2, np.float32), np.ones(2, np.float32), 0.25).tolist()
    [0.25, 0.25]
    """
    return a + (b - a) * np.float32(share)


def unit(vectors: Field) -> Field:
    """Vectors (3, ...) made 1 long.

    >>> unit(np.float32([3, 0, 4])).tolist()
    [0.6..., 0.0, 0.8...]
    """
    x, y, z = vectors
    made: Field = vectors / np.sqrt(x * x + y * y + z * z)
    return made


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int], wrap: bool = False) -> Field:
    """Smooth noise of mean 0 and deviation about 1: normal numbers on a grid of `cells`, interpolated to `shape`.

    Cells finer than a pixel are averaged. With `wrap` the right edge continues on the left one, as a texture
    around an axis must. How many numbers are drawn depends on `cells` only.

    >>> rings = value_noise(np.random.default_rng(0), (4, 400), (2, 8), wrap=True)
    >>> bool(np.abs(rings[:, 0] - rings[:, -1]).max() < 0.1)
    True
    """
    margin = 3  # bicubic interpolation looks two cells further
    rows, columns = cells
    grid = rng.standard_normal((rows + 2 * margin, columns + (0 if wrap else 2 * margin)), dtype=np.float32)
    if wrap:
        grid = np.concatenate([grid[:, -margin:], grid, grid[:, :margin]], axis=1)
    box = (margin, margin, margin + columns, margin + rows)
    picture = Image.fromarray(grid).resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=box)
    return np.asarray(picture) * np.float32(1.35)  # interpolating averages: this restores the deviation


def fractal_noise(rng: np.random.Generator, side: int, cells: Sequence[int]) -> Field:
    """Octaves of smooth noise on a square, each half as strong as the one before."""
    total = np.zeros((side, side), np.float32)
    for octave, count in enumerate(cells):
        total += value_noise(rng, (side, side), (count, count)) * np.float32(0.5**octave)
    return total


def sample(textures: Sequence[Field], rows: Field, columns: Field) -> list[Field]:
    """Each texture at fractional positions in pixels, bilinear; columns wrap, rows stop at the edge.

    >>> [at] = sample([np.float32([[0, 1], [0, 1]])], np.float32([0]), np.float32([0.25]))
    >>> at.tolist()
    [0.25]
    """
    height, width = textures[0].shape
    rows = np.clip(rows, 0, np.float32(height - 1.001))
    top, left = rows.astype(np.int32), np.floor(columns).astype(np.int32)
    down, across = rows - np.floor(rows), columns - np.floor(columns)
    left %= width
    here = top * width + left
    right = top * width + (left + 1) % width
    found = []
    for texture in textures:
        flat = texture.ravel()
        upper, lower = flat.take(here), flat.take(here + width)
        upper += (flat.take(right) - upper) * across
        lower += (flat.take(right + width) - lower) * across
        found.append(upper + (lower - upper) * down)
    return found


def blur(field: Field, sigma_px: float) -> Field:
    """Gaussian blur along the last two axes; the edges repeat.

    >>> blur(np.eye(3, dtype=np.float32), 0.01).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    reach = max(1, int(2.5 * sigma_px + 0.5))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)
    height, width = field.shape[-2:]
    edges = [(0, 0)] * (field.ndim - 2) + [(reach, reach)] * 2
    padded = np.pad(field, edges, mode="edge")
    rows = _total(padded[..., i : i + height, :] * tap for i, tap in enumerate(taps))
    return _total(rows[..., i : i + width] * tap for i, tap in enumerate(taps))


def shrink(field: Field, times: int) -> Field:
    """The mean of each `times` x `times` block of the last two axes: antialiased downsampling.

    >>> shrink(np.float32([[0, 2], [4, 6]]), 2).tolist()
    [[3.0]]
    """
    parts = (field[..., i::times, j::times] for i in range(times) for j in range(times))
    return _total(parts) / np.float32(times * times)


def _total(parts: Iterable[Field]) -> Field:
    return reduce(np.add, parts)
