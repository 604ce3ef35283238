"""Changes that keep a good image good: rotation, flips and noise (section 3.2 of the paper)."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from blemish.settings import AugmentSettings


def augment(images: Tensor, settings: AugmentSettings, rng: torch.Generator) -> Tensor:
    """Each image turned by an angle of its own, perhaps mirrored, with noise added; shape kept, values in [0, 1].

    `images` is `(b, c, h, w)` in [0, 1]. What a rotation brings in from outside is the image mirrored at its border.

    >>> images = torch.rand(2, 3, 8, 12)
    >>> still = AugmentSettings(rotation_degrees=0, flip_horizontal=False, flip_vertical=False, noise_std=0)
    >>> bool((augment(images, still, torch.Generator()) == images).all())
    True
    """
    images = _flip(images, settings, rng)
    if settings.rotation_degrees > 0.0:
        angles = (torch.rand(len(images), generator=rng) * 2.0 - 1.0) * settings.rotation_degrees
        images = rotate(images, angles)
    if settings.noise_std > 0.0:
        images = (images + settings.noise_std * torch.randn(images.shape, generator=rng)).clamp_(0.0, 1.0)
    return images


def _flip(images: Tensor, settings: AugmentSettings, rng: torch.Generator) -> Tensor:
    for wanted, side in ((settings.flip_horizontal, -1), (settings.flip_vertical, -2)):
        if wanted:
            chosen = torch.rand(len(images), 1, 1, 1, generator=rng) < 0.5
            images = torch.where(chosen, images.flip(side), images)
    return images


def rotate(images: Tensor, degrees: Tensor) -> Tensor:
    """Images `(b, c, h, w)` turned about their centres by `degrees` `(b,)`, in pixels, so that aspect is kept.

    >>> import torch
    >>> image = torch.arange(9.0).reshape(1, 1, 3, 3)
    >>> rotate(image, torch.tensor([90.0])).round().int()[0, 0].tolist()
    [[2, 5, 8], [1, 4, 7], [0, 3, 6]]
    """
    height, width = images.shape[-2:]
    radians = degrees * (math.pi / 180.0)
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # affine_grid works in units of half a side: the off-diagonals need the aspect.
    rows = [[cos, -sin * height / width, zero], [sin * width / height, cos, zero]]
    theta = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)  # (b, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
