"""Crack, cut, hole and print: the four defects of the paper's hazelnuts, with exact masks.

Each function draws one defect on the surface of a nut and photographs it. A pixel belongs to the mask when the
defect covers at least `LEAST_COVER` of it, as the lens sees it, and changed its bytes. Everywhere else the image
*is* the photograph of the same nut without the defect, byte for byte: the mask is neither a guess nor a margin.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.hazelnut import OVERSAMPLING, Hazelnut, dot, lens_blur_px, photograph, roughened
from blemish.data.synthetic.shell import linear
from blemish.data.synthetic.strokes import GLYPHS, Points, blade, branch, draw_polygons, jagged_line, word
from blemish.data.synthetic.texture import Field, blur, fractal_noise, lerp, sample, shrink, smoothstep, unit

LEAST_COVER = 0.2

Defective = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""An image (s, s, 3) and its mask (s, s)."""


@final
@dataclass(frozen=True)
class _Spot:
    """A place on the surface, and where each pixel lies as seen from it, in nut radii."""

    s: Field  # along the surface, one way
    t: Field  # the other way
    rise: Field  # over the tangent plane: below zero all around
    outward: Field  # (3,) normal of the surface at the place
    seen: Field  # 0 on the far side


def crack(nut: Hazelnut, rng: np.random.Generator) -> Defective:
    """A jagged split of the shell: dark inside, with broken, paler edges.

    >>> from blemish.data.synthetic.hazelnut import hazelnut
    >>> image, mask = crack(hazelnut(np.random.default_rng(0), 64), np.random.default_rng(1))
    >>> image.shape, mask.shape, bool(mask.any())
    ((64, 64, 3), (64, 64), True)
    """
    spot = _spot(nut, rng, steepest=0.8)
    trunk = jagged_line(rng, float(rng.uniform(0.75, 1.25)))
    widest = max(float(rng.uniform(0.025, 0.055)), 3.6 * nut.step)
    outlines = [blade(rng, trunk, widest)]
    if rng.random() < 0.55:
        outlines.append(blade(rng, branch(rng, trunk, float(rng.uniform(0.25, 0.45))), 0.6 * widest))
    gap, near = _stamped(nut, spot, outlines, softness=max(0.016, 0.8 * nut.step))
    crumbs = _noise(nut, rng, 40, 80)
    edge = smoothstep(0.12, 0.4, near * (1 + 0.45 * crumbs)) * (1 - gap)
    albedo = lerp(nut.albedo, linear(184, 138, 92), 0.75 * edge)
    albedo = lerp(albedo, linear(34, 20, 13) * np.maximum(0, 1 + 0.25 * crumbs), gap)
    changed = replace(
        nut,
        albedo=albedo,
        normal=roughened(nut.normal, -0.05 * near, nut.step),
        gloss=nut.gloss * (1 - np.maximum(gap, 0.8 * edge)),
        shade=nut.shade * (1 - 0.6 * gap),
    )
    return _compared(nut, changed, np.maximum(gap, edge))


def cut(nut: Hazelnut, rng: np.random.Generator) -> Defective:
    """What a knife leaves: one to three straight gashes down to the pale flesh, or a slice taken off the shell.

    >>> from blemish.data.synthetic.hazelnut import hazelnut
    >>> image, mask = cut(hazelnut(np.random.default_rng(0), 64), np.random.default_rng(1))
    >>> image.dtype, mask.dtype
    (dtype('uint8'), dtype('bool'))
    """
    return _cut_slice(nut, rng) if rng.random() < 0.4 else _cut_gash(nut, rng)


def _cut_gash(nut: Hazelnut, rng: np.random.Generator) -> Defective:
    spot = _spot(nut, rng, steepest=0.8)
    fray, fibres = _noise(nut, rng, 30, 60), _fibres(rng, spot)
    cover, lean, deep = (np.zeros_like(spot.s) for _ in range(3))
    count, distance = int(rng.integers(1, 4)), float(rng.uniform(0.13, 0.24))
    for number in range(count):
        inside, across = _gash(rng, spot, nut.step, fray, (number - (count - 1) / 2) * distance)
        cover = np.maximum(cover, inside)
        lean += inside * across
        deep = np.maximum(deep, inside * smoothstep(0.5, 0.0, np.abs(across + 0.25)))
    flesh = linear(226, 192, 146) * (1 + 0.1 * fibres + 0.05 * fray)
    albedo = lerp(lerp(nut.albedo, flesh, cover), linear(140, 96, 62), 0.6 * deep)
    return _compared(nut, _bared(nut, albedo, _leant(nut, spot, -0.55 * lean), cover, 0.35 * deep), cover)


def _gash(rng: np.random.Generator, spot: _Spot, step: float, fray: Field, offset: float) -> tuple[Field, Field]:
    """Where one gash is, and how far each pixel lies across it, -1 to 1."""
    half_length = float(rng.uniform(0.25, 0.5))
    half_width = max(float(rng.uniform(0.018, 0.042)), 2.2 * step)
    slip, slant, bow = (float(value) for value in rng.normal(0, (0.06, 0.08, 0.03)))
    s = (spot.s - slip) / half_length
    t = spot.t - offset - slant * spot.s - bow * s * s
    half = half_width * np.sqrt(np.maximum(0, 1 - s * s)) * (1 + 0.14 * fray)
    inside = smoothstep(step, -step, np.abs(t) - half) * (np.abs(s) < 1) * spot.seen
    return inside, np.clip(t / np.maximum(half, 1e-4), -1, 1)


def _cut_slice(nut: Hazelnut, rng: np.random.Generator) -> Defective:
    spot = _spot(nut, rng, steepest=0.75)
    depth, narrowing = float(rng.uniform(0.025, 0.07)), float(rng.uniform(0.08, 0.2))
    rough, fibres = _noise(nut, rng, 7, 14, 28, 56), _fibres(rng, spot)
    above = spot.rise + depth - narrowing * spot.t**2 + 0.008 * rough  # over the plane of the knife
    cover = smoothstep(-0.004, 0.004, above) * spot.seen
    rim = np.exp(-((above * (1 / 0.009)) ** 2)) * cover
    flesh = lerp(linear(176, 128, 84), linear(216, 178, 130), np.clip(0.3 * rough + 20 * above, 0, 1)) * (
        1 + 0.12 * fibres
    )
    albedo = lerp(lerp(nut.albedo, flesh, cover), linear(120, 78, 48), 0.5 * rim)
    flat = unit(lerp(nut.normal, spot.outward[:, None, None], 0.75 * cover))
    normal = roughened(flat, (0.0025 * fibres + 0.004 * rough) * cover, nut.step)
    return _compared(nut, _bared(nut, albedo, normal, cover, 0.2 * rim), cover)


def hole(nut: Hazelnut, rng: np.random.Generator) -> Defective:
    """A round bore hole, as a weevil leaves it, with a gnawed rim and sometimes some dust.

    >>> from blemish.data.synthetic.hazelnut import hazelnut
    >>> image, mask = hole(hazelnut(np.random.default_rng(0), 64), np.random.default_rng(1))
    >>> 5 < int(mask.sum()) < 400
    True
    """
    spot = _spot(nut, rng, steepest=0.72)
    radius = max(float(rng.uniform(0.075, 0.15)), 4 * nut.step)
    oval, rough = float(rng.uniform(0.85, 1.15)), _noise(nut, rng, 12, 36, 72)
    far = np.sqrt((spot.s * oval) ** 2 + (spot.t / oval) ** 2) * (1 + 0.03 * rough) / np.float32(radius)
    blunt = nut.step / radius  # one pixel
    pit = smoothstep(1 + blunt, 1 - blunt, far) * spot.seen
    rim = smoothstep(1.34, 1.12, far + 0.08 * rough) * spot.seen * (1 - pit)
    dust = _dust(nut, rng, spot, far)
    cover = np.maximum(pit, rim)
    wall = smoothstep(0.45, 1.0, far) * smoothstep(0.2, -0.9, _towards_lamp(nut, pit) / radius)
    albedo = lerp(nut.albedo, linear(206, 170, 124), 0.8 * dust)
    albedo = lerp(albedo, linear(184, 138, 94) * (1 + 0.2 * rough), 0.65 * rim)
    albedo = lerp(albedo, lerp(linear(22, 14, 10), linear(128, 84, 54), 0.8 * wall), pit)
    sunk = roughened(nut.normal, 0.35 * radius * smoothstep(0.6, 1.45, far), nut.step)
    normal = unit(lerp(nut.normal, sunk, cover))
    return _compared(nut, _bared(nut, albedo, normal, cover, 0.5 * pit), np.maximum(cover, dust))


def _towards_lamp(nut: Hazelnut, weight: Field) -> Field:
    """How far each pixel lies towards the lamp, from the middle of what has weight, in nut radii."""
    x, y, _ = nut.light.key
    towards = dot(nut.place, (x, y, 0.0)) / np.float32(np.hypot(x, y))
    middle: np.float32 = (towards * weight).sum() / weight.sum()
    return towards - middle


def _dust(nut: Hazelnut, rng: np.random.Generator, spot: _Spot, far: Field) -> Field:
    """Crumbs round a hole, more of them on one side; none in about half of the cases."""
    amount, side = float(rng.uniform(-1.0, 0.9)), float(rng.uniform(0, 2 * np.pi))
    specks = _noise(nut, rng, 130, 65)
    if amount < 0:
        return np.zeros_like(far)
    aside = (spot.s * float(np.cos(side)) + spot.t * float(np.sin(side))) * 3
    near = smoothstep(2.9, 1.1, far - aside)
    return smoothstep(1.75, 2.1, specks + (0.4 + amount) * near) * (near > 0) * spot.seen


def print_letters(nut: Hazelnut, rng: np.random.Generator) -> Defective:
    """Letters stamped on the shell in light ink, worn.

    >>> from blemish.data.synthetic.hazelnut import hazelnut
    >>> image, mask = print_letters(hazelnut(np.random.default_rng(0), 64), np.random.default_rng(1))
    >>> bool(mask.any())
    True
    """
    spot = _spot(nut, rng, steepest=0.86)
    height = float(rng.uniform(0.26, 0.42))
    pen = max(height * float(rng.uniform(0.13, 0.19)), 2.6 * nut.step)
    letters = rng.choice(list(GLYPHS), int(rng.integers(2, 5))).tolist()
    _, stamp = _stamped(nut, spot, word(letters, height, pen), softness=max(0.006, 0.5 * nut.step))
    wear = _noise(nut, rng, 9, 30, 90) + _noise(nut, rng, 150)
    density, missing = float(rng.uniform(0.62, 0.88)), float(rng.uniform(0.0, 0.8))
    ink = smoothstep(0.25, 0.75, stamp * (1.05 - 0.12 * np.maximum(wear, 0)))
    ink *= np.clip(density - 0.2 * np.maximum(wear - missing, 0), 0, 1)
    colour = lerp(linear(222, 219, 206), linear(190, 206, 216), float(rng.uniform(0, 1)))
    changed = replace(nut, albedo=lerp(nut.albedo, colour, ink), gloss=nut.gloss * (1 - 0.6 * ink))
    return _compared(nut, changed, ink)


HAZELNUT_DEFECTS: dict[str, Callable[[Hazelnut, np.random.Generator], Defective]] = {
    "crack": crack,
    "cut": cut,
    "hole": hole,
    "print": print_letters,
}
"""Defect type -> how it is drawn."""


def _compared(nut: Hazelnut, changed: Hazelnut, cover: Field) -> Defective:
    good, bad = photograph(nut), photograph(changed)
    covered, outline = shrink(np.stack([cover * nut.cover, nut.cover]), OVERSAMPLING)
    seen = blur(covered, lens_blur_px(nut.size_px)) >= LEAST_COVER
    row, column = nut.corner_px
    mask = np.zeros(good.shape[:2], np.bool_)
    mask[row : row + seen.shape[0], column : column + seen.shape[1]] = seen & (outline > 0.5)
    mask &= (good != bad).any(axis=-1)
    assert mask.any(), "a defect that nobody can see"
    return np.where(mask[..., None], bad, good), mask


def _spot(nut: Hazelnut, rng: np.random.Generator, steepest: float) -> _Spot:
    """A spot that faces the camera well enough; on the hilum only where hardly any shell does."""
    outward = unit(nut.place)
    facing = (outward[2] > steepest) & (nut.cover == 1)
    shell = facing & (nut.hilum < 0.05)
    pool = np.flatnonzero(shell if shell.sum() > 0.15 * facing.sum() else facing)
    tries = pool[(rng.random(2) * len(pool)).astype(np.int64)]
    away = dot(outward.reshape(3, -1)[:, tries], (outward * (nut.hilum * nut.cover)).sum(axis=(1, 2)))
    chosen = tries[np.argmin(away)]  # the one farther from the hilum
    middle, normal = (field.reshape(3, -1)[:, chosen] for field in (nut.place, outward))
    angle = rng.uniform(0, 2 * np.pi)
    first = np.cross(normal, (np.sin(angle), np.cos(angle), 0.0))
    first /= np.linalg.norm(first)
    axes = np.stack([first, np.cross(normal, first), normal]).astype(np.float32)
    s, t, rise = (dot(nut.place, axis) - axis @ middle for axis in axes)
    return _Spot(s, t, rise, normal, smoothstep(0.2, 0.35, dot(outward, normal)))


def _stamped(nut: Hazelnut, spot: _Spot, polygons: list[Points], softness: float) -> tuple[Field, Field]:
    """Polygons laid on the surface, sharp and blurred by `softness`; all lengths in nut radii."""
    reach = 1.0
    side = 2 * round(reach / nut.step)
    sharp = draw_polygons(polygons, reach, side)
    rows, columns = (
        np.clip((part + reach) * np.float32(side / (2 * reach)) - np.float32(0.5), 0, side - 1)
        for part in (spot.t, spot.s)
    )
    at, near = sample([sharp, blur(sharp, softness / nut.step)], rows, columns)
    return at * spot.seen, near * spot.seen


def _noise(nut: Hazelnut, rng: np.random.Generator, *cells: int) -> Field:
    return fractal_noise(rng, nut.cover.shape[0], cells)


def _fibres(rng: np.random.Generator, spot: _Spot) -> Field:
    """Marks that a blade draws along the spot's first direction."""
    rows = rng.standard_normal((160, 6), dtype=np.float32)
    [fibres] = sample([rows], (spot.t + 1.3) * 60, spot.s * 1.5)
    return fibres


def _leant(nut: Hazelnut, spot: _Spot, lean: Field) -> Field:
    """Normals leant along the spot's second direction."""
    down, right = np.gradient(spot.t)
    slope = np.stack([right, down, np.zeros_like(right)]) / np.float32(nut.step)
    return unit(nut.normal + slope * lean)


def _bared(nut: Hazelnut, albedo: Field, normal: Field, cover: Field, dark: Field) -> Hazelnut:
    """The nut with its shell gone where `cover` is: dull there, and without its furrows."""
    shade = nut.shade + (1 - nut.shade) * cover
    return replace(nut, albedo=albedo, normal=normal, gloss=nut.gloss * (1 - 0.9 * cover), shade=shade * (1 - dark))
