"""The surface of a hazelnut: its colours, its relief, and how it shines."""

from dataclasses import dataclass
from typing import final

import numpy as np

from blemish.data.synthetic.texture import Field, fractal_noise, lerp, sample, smoothstep, value_noise


@final
@dataclass(frozen=True)
class Shell:
    """Fields over the picture of a nut, (n, n); colours (3, n, n)."""

    hilum: Field  # 1 on the pale cap, 0 on the shell
    albedo: Field  # the share of light sent back, linear
    gloss: Field
    shade: Field  # 1 in the open, less in furrows
    relief: Field  # height over the smooth solid, in nut radii


@final
@dataclass(frozen=True)
class _Marks:
    tone: Field  # light and dark streaks
    furrow: Field
    line: Field  # thin dark ones
    flame: Field  # pale ones that start at the hilum
    edge: Field  # of the hilum, an angle
    grains: Field
    blotch: Field
    speckle: Field


def linear(*srgb: float) -> Field:
    """A colour of 0 to 255 as linear light, (3, 1, 1), by the plain power 2.2.

    >>> linear(0, 255, 255).ravel().tolist()
    [0.0, 1.0, 1.0]
    """
    return ((np.array(srgb, np.float32) / 255) ** np.float32(2.2))[:, None, None]


def grow_shell(rng: np.random.Generator, polar: Field, turn: Field, around_px: int) -> Shell:
    """A shell at random.

    Args:
        rng: Where it comes from.
        polar: The angle from the hilum's middle, 0 to pi at the tip, at each pixel of a square picture.
        turn: The angle about the axis.
        around_px: The circumference of the nut, in pixels of that picture.
    """
    marks = _marks(rng, polar, turn, around_px)
    cap = float(rng.uniform(0.70, 0.92))
    beyond = polar - np.float32(cap) - marks.edge - 0.02 * marks.blotch
    hilum = smoothstep(0.025, -0.025, beyond)
    rim = np.exp(-(((beyond - np.float32(0.01)) / np.float32(0.035)) ** 2))
    fuzz = np.clip(
        (0.4 + 0.22 * marks.speckle + 0.4 * marks.tone + 0.2 * marks.blotch) * smoothstep(1.7, 3.1, polar), 0, 1
    )
    line = marks.line * smoothstep(0.0, 0.5, beyond) * (1 - hilum)
    albedo = lerp(_shell_colour(rng, marks, beyond, line, fuzz), _cap_colour(rng, marks, polar / cap), hilum)
    albedo *= 1 - 0.25 * rim
    gloss = (1 - 0.93 * hilum) * (1 - 0.6 * fuzz) * np.clip(0.8 + 0.2 * marks.tone + 0.2 * marks.blotch, 0.15, 1.5)
    shade = 1 - 0.22 * rim - 0.3 * line + 0.10 * hilum * np.clip(marks.grains, -1.5, 0)
    return Shell(hilum, albedo, gloss, shade, _relief(marks, polar, beyond, line, hilum, rim, cap))


def _marks(rng: np.random.Generator, polar: Field, turn: Field, around_px: int) -> _Marks:
    rows, columns = 48, max(64, around_px)

    def streaks(around: int, along: int) -> Field:
        return value_noise(rng, (rows, columns), (along, around), wrap=True)

    broad, medium, thin, hair = streaks(13, 3), streaks(44, 4), streaks(120, 6), streaks(300, 8)
    peaks = np.maximum(0, streaks(80, 4) - 1.15) + 0.7 * np.maximum(0, streaks(170, 5) - 1.2)
    flames = np.maximum(0, streaks(60, 2)) + 0.6 * np.maximum(0, streaks(170, 3))
    edge = 0.045 * streaks(7, 2) + 0.022 * streaks(24, 2) + 0.018 * streaks(70, 2) + 0.015 * streaks(180, 3)
    textures = [
        0.45 * broad + 0.4 * medium + 0.5 * thin + 0.4 * hair,
        0.7 * medium + 0.6 * thin + 0.3 * hair,
        np.minimum(peaks, 1.2),
        flames,
        edge,
    ]
    at = sample(textures, polar * np.float32(rows / np.pi), turn * np.float32(columns / (2 * np.pi)))
    side = polar.shape[0]
    noises = (fractal_noise(rng, side, cells) for cells in ((25, 50, 100), (4, 9), (85, 170)))
    return _Marks(*at, *noises)


def _shell_colour(rng: np.random.Generator, marks: _Marks, beyond: Field, line: Field, fuzz: Field) -> Field:
    red = float(rng.uniform(0, 1))
    dark, mid = lerp(linear(66, 37, 22), linear(72, 34, 20), red), lerp(linear(140, 90, 56), linear(146, 84, 49), red)
    mix = 0.56 + 0.16 * marks.tone + 0.11 * marks.blotch + 0.05 * marks.speckle
    colour = lerp(dark, mid, np.clip(mix, 0, 1.35))
    pale = marks.flame * smoothstep(0.9, 0.0, beyond) * 0.34 + np.maximum(marks.tone - 0.7, 0) * 0.12
    colour = lerp(colour, linear(190, 142, 95), np.clip(pale, 0, 0.7))
    colour = lerp(colour, 0.8 * dark, 0.55 * np.minimum(line, 1))
    colour = lerp(colour, linear(178, 150, 124), 0.5 * fuzz)
    return colour * np.float32(rng.uniform(0.8, 1.2))


def _cap_colour(rng: np.random.Generator, marks: _Marks, outwards: Field) -> Field:
    mix = 0.66 + 0.15 * marks.grains + 0.12 * marks.blotch + 0.10 * marks.speckle
    mix -= 0.25 * smoothstep(0.5, 1.0, outwards)
    colour = lerp(linear(140, 104, 76), linear(205, 172, 138), np.clip(mix, -0.15, 1.2))
    return colour * np.float32(rng.uniform(0.8, 1.05))


def _relief(marks: _Marks, polar: Field, beyond: Field, line: Field, hilum: Field, rim: Field, cap: float) -> Field:
    flat = np.maximum(0, np.cos(polar) - np.float32(np.cos(cap)))
    relief = -0.35 * flat * smoothstep(0.0, -0.3, beyond) + 0.008 * marks.grains * hilum
    relief += (1 - hilum) * (0.006 * marks.furrow - 0.010 * line + 0.012 * marks.blotch) * np.sin(polar)
    relief += 0.0008 * marks.speckle * (1 + 2 * hilum) - 0.010 * rim
    return relief
