"""Near duplicates: small pictures of images, compared where they differ from what all images share.

A perceptual hash of 64 bits (Zauner 2010) cannot tell photos of aligned parts apart: two different toothbrushes often
have the same one. So the fingerprint keeps its grey levels, loses its coarse structure and the mean of all images, and
is compared by correlation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.synthetic.texture import blur

SIDE = 64
ALIKE = 0.93
"""Correlation from which two images are near duplicates. Measured on three sets of photos: copies saved as JPEG of
quality 40, halved, or brightened and noisy have 0.95 and more, two photos of different parts 0.80 and less."""

FRAMES_ALIKE = 0.90
"""Correlation from which two images look like frames of one part. Noisy, slightly shifted frames mostly have more; in
six sets of photos of different parts one image in eight, at most, has another that is so like it."""

SAME_PART = 0.80
"""Correlation from which images that look like frames are counted as one part; two different parts have less."""

ONE_PART = 0.99
"""Median correlation, the shared structure counted in, from which images look like frames of a single part. Noisy ones
of a part that lies still have .99 to .999, different parts in six sets of photos at most .93."""

FINE_ALIKE = 0.16
"""Correlation of fine structure from which near duplicates are believed. Copies saved as JPEG of quality 85, moved by 2
pixels and 5 % brighter have 0.19 and more, smooth parts of which each has its own noise mostly less than 0.12."""

FINE_SIDE, FINE_REACH = 256, 4
"""Side of the picture that fine structure is seen in, and by how many of its pixels the images may be moved."""

_FEW = 8
_ALIKE_OF_FEW = 0.95
_STANDS_OUT = 2.0
_FAINT, _FAINTEST = 0.03, 0.0005
_BLOCK = 512

Fingerprint = NDArray[np.float32]  # (SIDE, SIDE)

TURNS = ("", "turned by 90", "turned by 180", "turned by 270")
"""Degrees, against the clock."""

_BACK = {TURNS[1]: TURNS[3], TURNS[3]: TURNS[1]}
"""What undoes a turn; every other one undoes itself."""


@final
@dataclass(frozen=True)
class Pair:
    """Two images, by their places, first < second; `turn` says what must be done to the first to get the second."""

    first: int
    second: int
    correlation: float
    turn: str


def fingerprint(grey: NDArray[np.float32]) -> Fingerprint:
    """What is fine in an image `(h, w)`, squeezed to a small square; strong edges weigh no more than clear texture.

    >>> fingerprint(np.zeros((10, 20), np.float32)).shape
    (64, 64)
    """
    small = np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
    fine = small - blur(small, 2.0)
    even = fine / np.sqrt(blur(fine * fine, 3.0) + np.float32(_FAINT**2))
    return np.asarray(even - even.mean(), np.float32)


def near_duplicates(fingerprints: NDArray[np.float32]) -> list[Pair]:
    """Pairs among fingerprints `(n, SIDE, SIDE)` that are alike, as they are, turned by quarters or mirrored.

    Where many of the images resemble each other anyway, as smooth parts in slightly different places do, a pair must
    stand out: by twice what nine in ten pairs have, on the scale of artanh (Fisher 1915).

    A pair must be alike whichever of the two is turned: the mean of all images is right for one of the two ways only,
    and in the other all turned images look alike.

    >>> prints = np.random.default_rng(0).normal(size=(20, SIDE, SIDE)).astype(np.float32)
    >>> prints[9] = 1.1 * prints[3] + 0.05 * prints[0]
    >>> prints[12] = prints[5, ::-1]
    >>> [(pair.first, pair.second, pair.turn) for pair in near_duplicates(prints)]
    [(3, 9, ''), (5, 12, 'mirrored, turned by 180')]
    """
    few = len(fingerprints) < _FEW
    # From few images the mean says little of what they share, and takes away what they do not.
    shared = np.zeros_like(fingerprints[:1]) if few else fingerprints.mean(axis=0, keepdims=True)
    flat = _unit(fingerprints - shared)
    least = _ALIKE_OF_FEW if few else _limit(flat)
    found: dict[tuple[int, int, str], float] = {}
    for turn, turned in _turned(fingerprints):
        for first, second, correlation in _alike(_unit(turned - shared), flat, least):
            found[first, second, turn] = correlation
    best: dict[tuple[int, int], Pair] = {}
    for (first, second, turn), correlation in found.items():
        lower = min(correlation, found.get((second, first, _BACK.get(turn, turn)), 0.0))
        known = best.get((first, second))
        if first < second and lower > (known.correlation if known else 0.0):
            best[first, second] = Pair(first, second, lower, turn)
    return [best[key] for key in sorted(best)]


def fine_spectrum(grey: NDArray[np.float32], side: int, turn: str = "") -> NDArray[np.complex64]:
    """The spectrum `(side, side // 2 + 1)` of what is finest in an image `(h, w)`, turned; its picture has length 1.

    A grain of noise in a smooth part counts as much as an edge.
    """
    small = np.asarray(Image.fromarray(grey).resize((side, side), Image.Resampling.BICUBIC), np.float32)
    fine = small - blur(small, 1.0)
    even = fine / np.sqrt(blur(fine * fine, 4.0) + np.float32(_FAINTEST**2))
    turned = dict(_turned(_unit((even - even.mean())[None]).reshape(1, side, side)))[turn]
    return np.fft.rfft2(turned[0]).astype(np.complex64)


def fine_correlation(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> float:
    """How alike the fine structure of two images is, by their spectra, where they lie best on each other.

    What lies in the same place on different parts, such as the rim of a disc, hardly counts: it is a small share of the
    picture. The noise of a photo is in every copy of it, and in no other photo.

    >>> noise = np.random.default_rng(0).random((2, 64, 64), np.float32)
    >>> one, moved, other = (fine_spectrum(each, 64) for each in (noise[0], np.roll(noise[0], 2), noise[1]))
    >>> fine_correlation(one, moved) > 0.9 and fine_correlation(one, other) < 0.1
    True
    """
    correlation = np.fft.irfft2(first * np.conj(second))
    near = np.arange(-FINE_REACH, FINE_REACH + 1)
    return float(correlation[np.ix_(near, near)].max())


def alike_as_they_are(fingerprints: NDArray[np.float32], groups: Sequence[str] | None = None) -> NDArray[np.float32]:
    """Correlations `(n, n)` of fingerprints as they are, neither turned nor mirrored; -1 within a group, and of one
    with itself.

    The mean of all is taken away first, from 8 images on: aligned parts share it.
    """
    shared = fingerprints.mean(axis=0, keepdims=True) if len(fingerprints) >= _FEW else np.float32(0)
    flat = _unit(fingerprints - shared)
    correlation = flat @ flat.T
    names = np.arange(len(fingerprints)) if groups is None else np.asarray(groups)
    correlation[names[:, None] == names[None, :]] = -1.0
    return correlation


def median_likeness(fingerprints: NDArray[np.float32], groups: Sequence[str] | None = None) -> float:
    """The median correlation of fingerprints, of different groups, with what they share; 0 of fewer than two.

    Of many it is that of some, evenly among them.

    Where all show the same part, that is what they share, and without it nothing but noise is left to compare.

    >>> one = np.random.default_rng(0).normal(size=(1, SIDE, SIDE)).astype(np.float32)
    >>> round(median_likeness(np.concatenate([one, one, one])), 3)
    1.0
    """
    step = max(1, len(fingerprints) // _BLOCK)
    flat = _unit(fingerprints[::step])
    names = np.arange(len(flat)) if groups is None else np.asarray(groups)[::step]
    differ = names[:, None] != names[None, :]
    return float(np.median((flat @ flat.T)[differ])) if differ.any() else 0.0


def count_parts(correlation: NDArray[np.float32]) -> tuple[int, int]:
    """How many images have a near duplicate, and how many parts they are at most, of `alike_as_they_are`.

    Frames that are moved or turned against each other count as parts of their own, so there may be fewer.

    >>> count_parts(np.float32([[-1, 0.95, 0], [0.95, -1, 0.1], [0, 0.1, -1]]))
    (2, 2)
    """
    same = correlation >= SAME_PART
    left, parts = np.ones(len(same), bool), 0
    while left.any():
        reached = np.arange(len(same)) == left.argmax()
        while reached.any():
            left &= ~reached
            reached = same[reached].any(axis=0) & left
        parts += 1
    return int((correlation >= FRAMES_ALIKE).any(axis=1).sum()), parts


def clusters(count: int, pairs: Sequence[Pair]) -> list[int]:
    """A group number for each of `count` images: the same for those that pairs lead from one to the other.

    >>> clusters(4, [Pair(0, 2, 1.0, ""), Pair(2, 3, 1.0, "")])
    [0, 1, 0, 0]
    """
    group = list(range(count))
    for pair in pairs:
        new, old = sorted((group[pair.first], group[pair.second]))
        if new != old:  # of many pairs most are in one group already
            group = [new if each == old else each for each in group]
    return group


def _turned(fingerprints: NDArray[np.float32]) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for mirrored, pictures in (("", fingerprints), ("mirrored", fingerprints[:, :, ::-1])):
        for quarters, turn in enumerate(TURNS):
            yield ", ".join(word for word in (mirrored, turn) if word), np.rot90(pictures, quarters, axes=(1, 2))


def _unit(fingerprints: NDArray[np.float32]) -> NDArray[np.float32]:
    """As rows of length one; an image without any structure is like no other."""
    rows = fingerprints.reshape(len(fingerprints), -1)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.where(lengths > 1e-4, rows / np.maximum(lengths, 1e-4), 0), np.float32)


def _limit(flat: NDArray[np.float32]) -> float:
    some = flat[:: max(1, len(flat) // _BLOCK)]
    pairs = (some @ some.T)[np.triu_indices(len(some), 1)]
    usual = float(np.quantile(np.arctanh(np.clip(pairs, 0.0, 0.9999)), 0.9))
    return max(ALIKE, float(np.tanh(_STANDS_OUT * usual)))


def _alike(turned: NDArray[np.float32], flat: NDArray[np.float32], least: float) -> Iterator[tuple[int, int, float]]:
    for start in range(0, len(flat), _BLOCK):
        correlation = turned[start : start + _BLOCK] @ flat.T
        for row, column in np.argwhere(correlation >= least):
            if start + row != column:
                yield start + int(row), int(column), float(correlation[row, column])
