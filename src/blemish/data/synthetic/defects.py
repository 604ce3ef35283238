"""Synthetic defects put on photographs of good parts, with exact masks.

Each of `DEFECTS` takes an image, float32 `(h, w, c)` in [0, 1] at its own size, and gives it back with one defect:

- *size_px* is what a ruler would say: the largest distance between two pixels of the defect (`extent_px`).
- *contrast* is the mean change of the defect's pixels, over all channels; 1 is the full range from black to white.
- The mask is exact: every pixel outside it is bit for bit the image's, and it lies wholly inside the region.
- Where the image cannot show the defect (a dark hole on black ground), another place is tried.

Ideas: pieces of the image put elsewhere, CutPaste (Li et al. 2021); shapes from thresholded noise, DRAEM (Zavrtanik
et al. 2021); joining without a seam, Poisson editing (Perez et al. 2003) as NSA uses it (Schlueter et al. 2022).

>>> good = np.full((64, 64, 1), 0.5, np.float32)
>>> image, mask = DEFECTS["scratch"](good, None, size_px=20, contrast=0.1, rng=np.random.default_rng(0))
>>> round(float(np.abs(image - good)[mask].mean()), 3), bool((image == good)[~mask].all())
(0.1, True)
"""

import zlib
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.synthetic.placing import Corner, Defect, Pixels, crop_under
from blemish.data.synthetic.poisson import poisson_blend
from blemish.data.synthetic.shapes import Stamp, draw_turned, keep_middle_piece, resize_to_extent
from blemish.data.synthetic.strokes import GLYPHS, Points, bar, blade, branch, jagged_line, word
from blemish.data.synthetic.texture import Field, fractal_noise, smoothstep, value_noise

_BLOB_CELLS = 48


def scratch_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A thin line, hardly bent, that runs out at both ends."""
    bow, angle = float(rng.normal(0, 0.05)), float(rng.uniform(0, 2 * np.pi))

    def outlines(length: float, again: np.random.Generator) -> list[Points]:
        along = np.linspace(-0.5, 0.5, 17)
        line = np.stack([along, bow * (1 - 4 * along * along)], axis=1) * length
        return [blade(again, line, max(1.8, 0.03 * length))]

    return resize_to_extent(partial(draw_turned, outlines, angle, _seed(rng)), size_px)


def crack_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A jagged line, often with a branch (midpoint displacement, Fournier et al. 1982)."""
    angle, is_branched = float(rng.uniform(0, 2 * np.pi)), bool(rng.random() < 0.5)

    def outlines(length: float, again: np.random.Generator) -> list[Points]:
        trunk = jagged_line(again, length)
        widest = max(2.0, 0.05 * length)
        twig = [blade(again, branch(again, trunk, 0.35 * length), 0.7 * widest)] if is_branched else []
        return [blade(again, trunk, widest), *twig]

    return resize_to_extent(partial(draw_turned, outlines, angle, _seed(rng)), size_px)


def hole_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A disc, a little flattened and uneven."""
    flat, angle = float(rng.uniform(0.75, 1.0)), float(rng.uniform(0, 2 * np.pi))
    waves = rng.normal(0, 0.03, (2, 3))

    def outlines(diameter: float, _again: np.random.Generator) -> list[Points]:
        turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
        radius = 1.0 + sum(a * np.cos(n * turn) + b * np.sin(n * turn) for n, (a, b) in enumerate(waves.T, 2))
        return [0.5 * diameter * np.stack([radius * np.cos(turn), flat * radius * np.sin(turn)], axis=1)]

    return resize_to_extent(partial(draw_turned, outlines, angle, _seed(rng)), size_px)


def print_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """One to three letters."""
    letters = [str(letter) for letter in rng.choice(sorted(GLYPHS), int(rng.integers(1, 4)))]
    angle = float(rng.uniform(0, 2 * np.pi))

    def outlines(length: float, _again: np.random.Generator) -> list[Points]:
        height = length / max(1.25, len(letters))
        return word(letters, height, pen=max(1.2, height / 6))

    return resize_to_extent(partial(draw_turned, outlines, angle, _seed(rng)), size_px)


def shard_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A polygon of five to eight corners, as of something broken off."""
    corners = int(rng.integers(5, 9))
    turn = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
    radius = rng.uniform(0.32, 0.5, corners)
    shape = np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)
    angle = float(rng.uniform(0, 2 * np.pi))
    return resize_to_extent(partial(draw_turned, lambda size, _: [size * shape], angle, 0), size_px)


def blob_stamp(size_px: float, rng: np.random.Generator, softness: float) -> Stamp:
    """A patch of noise above a level, in one piece (after DRAEM's Perlin masks, Zavrtanik et al. 2021).

    `softness` is the share of the way to its middle over which it becomes opaque.
    """
    axis = np.linspace(-1, 1, _BLOB_CELLS, dtype=np.float32)
    noise = np.clip(fractal_noise(rng, _BLOB_CELLS, (4, 8, 16)), -1.6, 1.6)
    height = 1 - 2.4 * np.hypot(axis[:, None], axis[None, :]) + np.float32(0.5) * noise
    height = np.where(keep_middle_piece(height > 0), height, np.minimum(height, -0.05)).astype(np.float32)

    def draw(nominal: float) -> Field:
        side = max(3, round(1.6 * nominal))
        grown = np.asarray(Image.fromarray(height).resize((side, side), Image.Resampling.BICUBIC))
        return np.asarray(np.where(grown > 0, smoothstep(-softness / 4, softness, grown), 0), np.float32)

    return resize_to_extent(draw, size_px)


def fibre_stamp(size_px: float, rng: np.random.Generator) -> Stamp:
    """A thread of even width, bent like a hair: its direction turns smoothly along its length."""
    turns = rng.normal(0, (1.2, 0.8, 0.5))  # an arc, an S and a wave
    angle = float(rng.uniform(0, 2 * np.pi))

    def outlines(length: float, _again: np.random.Generator) -> list[Points]:
        along = np.linspace(-1, 1, 49)
        heading = turns[0] * along + turns[1] * along**2 + turns[2] * np.sin(3 * along)
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length / 2 * (along[1] - along[0]))
        line = np.cumsum(steps, axis=0)
        pen = max(1.4, 0.02 * length)
        return [bar(start, end, pen) for start, end in pairwise(line - line.mean(axis=0))]

    return resize_to_extent(partial(draw_turned, outlines, angle, 0), size_px)


def darken(image: Pixels, corner: Corner, opacity: Stamp, _rng: np.random.Generator) -> Pixels:
    """To black."""
    return _towards(image, corner, opacity, np.float32(0))


def whiten_or_blacken(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
    """To black or to white."""
    return _towards(image, corner, opacity, np.float32(rng.integers(2)))


def darken_lopsided(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
    """To black, deepest at one side."""
    angle = rng.uniform(0, 2 * np.pi)
    down, across = (np.linspace(-1, 1, side, dtype=np.float32) for side in opacity.shape)
    lit = 0.8 + 0.2 * (np.cos(angle) * down[:, None] + np.sin(angle) * across[None, :])
    return _towards(image, corner, np.asarray(opacity * lit, np.float32), np.float32(0))


def lie_on_top(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
    """A thing of one grey, dark or light, that covers the surface and hides its texture."""
    return _towards(image, corner, opacity, np.float32(rng.choice([0.05, 0.95])))


def tint(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
    """Another tint, cloudy and translucent."""
    tint = np.asarray(rng.uniform(0.2, 0.9, image.shape[2]), np.float32)
    clouds = np.clip(0.75 + 0.2 * value_noise(rng, opacity.shape, (5, 5)), 0.3, 1.0)
    under = crop_under(image, corner, opacity)
    tinted = under * tint if rng.random() < 0.5 else 1 - (1 - under) * tint
    return np.asarray((tinted - under) * (opacity * clouds)[..., None], np.float32)


def ink(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
    """Ink of any colour."""
    return _towards(image, corner, opacity, rng.integers(0, 2, image.shape[2]).astype(np.float32))


def break_out(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
    """The ground or the dark, whichever differs more; the ground has the median colour of the image's frame."""
    frame = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])  # (n, c)
    ground = np.median(frame, axis=0).astype(np.float32)
    changes = [_towards(image, corner, opacity, colour) for colour in (ground, np.zeros_like(ground))]
    change = max(changes, key=lambda one: float(np.abs(one).mean()))
    grain = rng.normal(0, 0.01, change.shape).astype(np.float32)  # no camera gives a perfectly flat colour
    return np.asarray(change + grain * opacity[..., None], np.float32)


def paste_elsewhere(image: Pixels, corner: Corner, opacity: Stamp, rng: np.random.Generator) -> Pixels:
    """Another part of the image, turned and scaled, joined without a seam."""
    mask = opacity > 0
    frame = np.pad(mask, 1)  # the border of the patch has to meet the image
    top, left = corner[0] - 1, corner[1] - 1
    rows = np.clip(np.arange(top, top + frame.shape[0]), 0, image.shape[0] - 1)
    columns = np.clip(np.arange(left, left + frame.shape[1]), 0, image.shape[1] - 1)
    under = image[np.ix_(rows, columns)]
    blended = poisson_blend(under, _piece_of(image, frame.shape, rng), frame)
    return np.asarray((blended - under)[1:-1, 1:-1] * mask[..., None], np.float32)


def _towards(image: Pixels, corner: Corner, opacity: Stamp, colour: NDArray[np.float32] | np.float32) -> Pixels:
    return np.asarray((colour - crop_under(image, corner, opacity)) * opacity[..., None], np.float32)


def _piece_of(image: Pixels, shape: tuple[int, ...], rng: np.random.Generator) -> Pixels:
    """Any part of the image, turned by a quarter or half and scaled, as large as asked for."""
    turns, zoom = int(rng.integers(4)), float(rng.choice([0.4, 0.6, 1.6, 2.5]))
    height, width = shape[:2] if turns % 2 == 0 else shape[1::-1]
    rows, columns = (
        max(2, min(limit, round(side * zoom))) for side, limit in zip((height, width), image.shape[:2], strict=True)
    )
    top, left = (
        int(rng.integers(limit - side + 1)) for side, limit in zip((rows, columns), image.shape[:2], strict=True)
    )
    piece = image[top : top + rows, left : left + columns]
    scaled = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(piece[..., c])).resize((width, height), Image.Resampling.BICUBIC)
        )
        for c in range(image.shape[2])
    ]
    return np.asarray(np.clip(np.rot90(np.stack(scaled, axis=-1), turns), 0, 1), np.float32)


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**62))


DEFECTS = {
    "scratch": Defect(scratch_stamp, whiten_or_blacken),
    "crack": Defect(crack_stamp, darken),
    "hole": Defect(hole_stamp, darken_lopsided),
    "stain": Defect(partial(blob_stamp, softness=0.5), tint),
    "print": Defect(print_stamp, ink),
    "missing_piece": Defect(shard_stamp, break_out),
    "texture_patch": Defect(partial(blob_stamp, softness=0.01), paste_elsewhere),
    "fibre": Defect(fibre_stamp, lie_on_top),
}
"""Adding one is a row here, and a function where its shape or its effect is new; the contract tests then cover it."""


def defect_seed(name: str) -> int:
    """A number for the random generator that follows from the defect's name alone.

    >>> defect_seed("scratch")
    2420464247
    """
    return zlib.crc32(name.encode())
