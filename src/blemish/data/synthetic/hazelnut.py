"""Hazelnuts, drawn: a solid with a textured shell, lit and photographed on a dark plate."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from blemish.data.synthetic.shell import grow_shell, linear
from blemish.data.synthetic.texture import Field, blur, fractal_noise, shrink, smoothstep, unit

OVERSAMPLING = 2
REACH = 1.22
"""Half the side of the square that is drawn finely, in nut radii; no nut is larger."""


@final
@dataclass(frozen=True)
class Solid:
    """Where a nut lies and how it is shaped. Lengths are in nut radii, angles in radians."""

    centre: tuple[float, float]  # x, y from the middle of the image, in image sides
    radius: float  # in image sides
    turn: float  # of the axis from hilum to tip, in the image plane
    tilt: float  # of the hilum towards the camera
    roll: float  # about the axis
    length: float
    width: float
    thickness: float
    taper: float
    bluntness: float
    nipple: float
    wobble: tuple[float, ...]  # asymmetry of the outline


@final
@dataclass(frozen=True)
class Light:
    """A soft lamp above, a weaker one elsewhere, and ambient light."""

    key: tuple[float, float, float]  # unit vector to the lamp: x right, y down, z to the camera
    fill: tuple[float, float, float]
    key_strength: float
    fill_strength: float
    ambient: float
    softness: float
    lamp_size: float
    tint: tuple[float, float, float]


@final
@dataclass(frozen=True)
class Hazelnut:
    """A nut ready to be photographed. Fields of the nut are ([3,] n, n), oversampled; of the plate (3, s, s)."""

    solid: Solid
    light: Light
    size_px: int
    corner_px: tuple[int, int]  # where the fields of the nut begin in the image: row, column
    place: Field  # x right, y down, z to the camera, in nut radii from the nut's centre
    cover: Field  # 1 inside the outline
    hilum: Field  # 1 on the pale cap
    normal: Field
    albedo: Field  # linear light
    gloss: Field
    shade: Field  # 1 in the open, less in furrows
    plate: Field  # linear light, with the shadow of the nut
    grain: Field  # noise of the camera

    @property
    def step(self) -> float:
        """The width of an oversampled pixel, in nut radii."""
        return 1 / (self.solid.radius * self.size_px * OVERSAMPLING)


def draw_solid(rng: np.random.Generator) -> Solid:
    """A shape and a place, at random."""
    tilt = float(np.clip(rng.normal(0.1, 0.45), -1.0, 1.15))
    facing = np.cos(tilt) ** 2
    length, width = rng.uniform(1.0, 1.12), rng.uniform(0.9, 1.0)
    return Solid(
        centre=(float(rng.uniform(-0.035, 0.035)), float(rng.uniform(-0.035, 0.035))),
        radius=float(rng.uniform(0.30, 0.355)),
        turn=float(rng.uniform(0, 2 * np.pi)),
        tilt=tilt,
        roll=float(rng.uniform(0, 2 * np.pi)),
        length=float(np.sqrt(facing * length**2 + (1 - facing) * width**2)),
        width=float(width),
        thickness=float(rng.uniform(0.86, 0.98)),
        taper=float(rng.uniform(0.30, 0.55) * facing),
        bluntness=float(2.0 + rng.uniform(0.5, 1.3) * facing),
        nipple=float(rng.uniform(0.004, 0.013) * facing**2),
        wobble=tuple(rng.normal(0, (0.03, 0.02, 0.02, 0.012, 0.012, 0.03)).tolist()),
    )


def draw_light(rng: np.random.Generator) -> Light:
    """Lamps, at random: the key one high, somewhere up and left or right."""
    azimuth, height = rng.uniform(-2.5, -0.6), rng.uniform(0.8, 1.15)
    warmth = rng.normal(0, 0.02)
    return Light(
        key=_direction(azimuth, height),
        fill=_direction(azimuth + rng.uniform(1.8, 4.2), rng.uniform(0.5, 1.0)),
        key_strength=float(rng.uniform(1.1, 1.4)),
        fill_strength=float(rng.uniform(0.08, 0.25)),
        ambient=float(rng.uniform(0.16, 0.28)),
        softness=float(rng.uniform(0.1, 0.3)),
        lamp_size=float(rng.uniform(0.12, 0.3)),
        tint=(float(1.02 + warmth), 1.0, float(0.97 - warmth)),
    )


def _direction(azimuth: float, height: float) -> tuple[float, float, float]:
    flat = np.cos(height)
    return float(np.cos(azimuth) * flat), float(np.sin(azimuth) * flat), float(np.sin(height))


def squared_height(solid: Solid, x: Field, y: Field) -> tuple[Field, Field, Field]:
    """The square of the nut's height over its middle plane, negative outside; and `x`, `y` along and across its axis.

    The square is smooth across the outline, where the height itself has an infinite slope.
    """
    cos, sin = np.float32(np.cos(solid.turn)), np.float32(np.sin(solid.turn))
    a, b, c, d, e, bend = solid.wobble
    along, across = x * cos + y * sin, y * cos - x * sin
    u = along / np.float32(solid.length)
    uu = u * u
    v = across - np.float32(bend) * uu
    vv = v * v
    base, tip = np.maximum(-u, 0), np.clip(u, 0, 1)
    profile = (1 - np.where(u > 0, uu, base ** np.float32(solid.bluntness))) * (1 - solid.taper * tip**3)
    profile += solid.nipple * np.exp(-(((u - 1) * np.float32(1 / 0.075)) ** 2))
    waves = a * (uu - vv) + 2 * b * u * v + c * v + d * u * (uu - 3 * vv) + e * v * (3 * uu - vv)
    waves *= (1 - tip**4) / (0.7 + 0.3 * (uu + vv) ** 2)  # calm at the tip and far outside
    squared = np.float32(solid.width**2) * profile - vv + waves
    return squared * np.float32(solid.thickness**2), along, across


def hazelnut(rng: np.random.Generator, size_px: int) -> Hazelnut:
    """A nut on its plate, not yet photographed; everything that varies comes from `rng`."""
    solid, light = draw_solid(rng), draw_light(rng)
    half_px = round(REACH * solid.radius * size_px)
    row, column = (round((0.5 + c) * size_px) - half_px for c in solid.centre[::-1])
    fine_px = size_px * OVERSAMPLING
    side = 2 * half_px * OVERSAMPLING
    x, y = _plane(solid, fine_px, (row * OVERSAMPLING, column * OVERSAMPLING), side)
    step = 1 / (solid.radius * fine_px)  # width of a pixel, in nut radii
    squared, along, across = squared_height(solid, x, y)
    down, right = _slopes(squared, step)
    cover = np.clip(0.5 + squared / (np.sqrt(down * down + right * right) * step + 1e-6), 0, 1)
    z = np.sqrt(np.maximum(squared, 1e-5))
    polar, turn = _angles(solid, along, across, z)
    shell = grow_shell(rng, polar, turn, round(2 * np.pi / step))
    tip = float(0.1 * np.abs(np.sin(solid.tilt))) * np.exp(-(((polar - float(np.pi)) * (1 / 0.13)) ** 2))
    normal = roughened(unit(np.stack([-0.5 * right, -0.5 * down, z])), shell.relief + tip, step)
    return Hazelnut(
        solid=solid,
        light=light,
        size_px=size_px,
        corner_px=(row, column),
        place=np.stack([x, y, z]),
        cover=cover,
        hilum=shell.hilum,
        normal=normal,
        albedo=shell.albedo,
        gloss=shell.gloss,
        shade=shell.shade,
        plate=_plate(rng, solid, light, size_px),
        grain=_grain(rng, size_px),
    )


def _plane(solid: Solid, size_px: int, corner: tuple[int, int], side: int) -> tuple[Field, Field]:
    steps = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(size_px)
    y, x = (
        (steps + np.float32(start / size_px - 0.5 - middle)) / np.float32(solid.radius)
        for start, middle in zip(corner, solid.centre[::-1], strict=True)
    )
    return np.tile(x, (side, 1)), np.tile(y[:, None], (1, side))


def _slopes(field: Field, step: float) -> tuple[Field, Field]:
    down, right = (np.asarray(slope) for slope in np.gradient(field))
    return down * np.float32(1 / step), right * np.float32(1 / step)


def _angles(solid: Solid, along: Field, across: Field, z: Field) -> tuple[Field, Field]:
    cos, sin = np.float32(np.cos(solid.tilt)), np.float32(np.sin(solid.tilt))
    rise = z * np.float32(1 / solid.thickness)
    pole, side = along * cos - rise * sin, along * sin + rise * cos
    far = np.sqrt(pole * pole + side * side + across * across)
    return np.arccos(np.clip(-pole / far, -1, 1)), np.arctan2(side, across) + np.float32(solid.roll)


def roughened(normal: Field, relief: Field, step: float) -> Field:
    """Normals after raising the surface by `relief`, in nut radii; `step` is the width of a pixel."""
    down, right = _slopes(relief, step)
    facing = normal[2]
    return unit(np.stack([normal[0] - right * facing, normal[1] - down * facing, facing]))


def _plate(rng: np.random.Generator, solid: Solid, light: Light, size_px: int) -> Field:
    x, y = _plane(solid, size_px, (0, 0), size_px)
    level = linear(*(rng.uniform(36, 50) * np.array([1.0, 1.0, 1.03])))
    lean_x, lean_y = rng.normal(0, 0.05, 2) + 0.1 * np.array(light.key[:2])
    cloud, weave = fractal_noise(rng, size_px, (2, 5)), fractal_noise(rng, size_px, (70, 140))
    weave = 0.5 * weave + 0.35 * rng.standard_normal(x.shape, dtype=np.float32)
    fall = 1.1 - 0.1 * (x * x + y * y) + x * np.float32(lean_x) + y * np.float32(lean_y)
    fall *= _shadow(solid, light, x, y)
    plate: Field = level * np.maximum(0.15, (1 + 0.16 * weave + 0.07 * cloud) * fall)
    return plate


def _shadow(solid: Solid, light: Light, x: Field, y: Field) -> Field:
    drop = 0.75 / light.key[2]
    cast, _, _ = squared_height(solid, x + np.float32(drop * light.key[0]), y + np.float32(drop * light.key[1]))
    touch, _, _ = squared_height(solid, x * np.float32(0.93), y * np.float32(0.93))
    return (1 - 0.62 * smoothstep(-0.45, 0.5, cast)) * (1 - 0.55 * smoothstep(-0.6, 0.35, touch))


def _grain(rng: np.random.Generator, size_px: int) -> Field:
    # as a camera leaves it: colours are softer than brightness, both a little correlated
    colour = blur(rng.standard_normal((3, size_px, size_px), dtype=np.float32), 0.8)
    grey = blur(rng.standard_normal((1, size_px, size_px), dtype=np.float32), 0.45)
    return 0.9 * colour + grey


def photograph(nut: Hazelnut) -> NDArray[np.uint8]:
    """The picture of a nut, sRGB, (size_px, size_px, 3)."""
    scene = nut.plate.copy()
    cover = shrink(nut.cover, OVERSAMPLING)
    side = cover.shape[0]
    row, column = nut.corner_px
    window = scene[:, row : row + side, column : column + side]
    window *= 1 - cover
    window += shrink(lit(nut) * nut.cover, OVERSAMPLING)
    scene = blur(scene, lens_blur_px(nut.size_px))
    tone = scene * (1 + scene / 6) / (1 + 0.4 * scene)  # highlights roll off
    noise = (0.005 + 0.009 * np.sqrt(tone)) * nut.grain
    display = np.clip(tone ** np.float32(1 / 2.2) + noise, 0, 1)
    return (display * 255 + np.float32(0.5)).astype(np.uint8).transpose(1, 2, 0).copy()


def lens_blur_px(size_px: int) -> float:
    """Standard deviation of the camera's own blur: a larger image resolves more, but not all."""
    return 0.55 * math.sqrt(max(1.0, size_px / 256))


def lit(nut: Hazelnut) -> Field:
    """The light that the surface sends to the camera: diffuse, and a soft reflection of the lamps."""
    light, normal, up = nut.light, nut.normal, nut.normal[2]
    soft = light.softness
    key = np.maximum(0, (dot(normal, light.key) + soft) / (1 + soft)) * light.key_strength
    fill = np.maximum(0, (dot(normal, light.fill) + 0.3) / 1.3) * light.fill_strength
    open_sky = smoothstep(-0.15, 0.6, up + 0.25 * (nut.place[2] - 0.3))
    diffuse = (key + fill) * (0.4 + 0.6 * open_sky) + light.ambient * open_sky * (0.25 + 0.75 * up)
    shine = 0.22 * _reflection(normal, light.key, light.lamp_size) + 0.05 * _lobe(normal, light.key, 8)
    shine += 0.25 * light.fill_strength * _lobe(normal, light.fill, 40)
    tint = np.array(light.tint, np.float32)[:, None, None]
    sent: Field = (nut.albedo * diffuse + nut.gloss * shine) * nut.shade * tint
    return sent


def dot(field: Field, vector: Iterable[float]) -> Field:
    """The scalar product of a vector with each of a field's, (3, n, n) -> (n, n)."""
    x, y, z = (np.float32(v) for v in vector)
    product: Field = field[0] * x + field[1] * y + field[2] * z
    return product


def _lobe(normal: Field, lamp: tuple[float, float, float], sharpness: float) -> Field:
    half = np.array(lamp) + np.array([0.0, 0.0, 1.0])
    x, y, z = half / np.linalg.norm(half)
    lobe: Field = np.maximum(0, dot(normal, (x, y, z))) ** np.float32(sharpness)
    return lobe


def _reflection(normal: Field, lamp: tuple[float, float, float], size: float) -> Field:
    """A square lamp with soft edges, mirrored: 1 where the mirrored line of sight meets it."""
    twice = 2 * normal[2]
    mirrored: Field = np.stack([normal[0] * twice, normal[1] * twice, normal[2] * twice - 1])
    x, y, z = lamp
    flat = float(np.hypot(x, y))
    sideways, upwards = (y / flat, -x / flat, 0.0), (x * z / flat, y * z / flat, -flat)
    inside = smoothstep(size + 0.35, size * 0.4, np.abs(dot(mirrored, sideways)))
    inside *= smoothstep(size + 0.35, size * 0.4, np.abs(dot(mirrored, upwards)))
    inside[dot(mirrored, lamp) < 0] = 0
    return inside
