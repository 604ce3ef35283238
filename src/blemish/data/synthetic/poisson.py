"""Joining a patch to an image without a seam: Poisson image editing, in plain numpy."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]  # (h, w, c)

_COARSEST_PX = 12
_LEAST_RESIDUAL = 2e-4
"""Where the solver stops: the error left is below half a level of 8 bits."""
_MOST_STEPS = 400


def poisson_blend(image: Pixels, patch: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """The patch where the mask is, its gradients kept and its borders shifted to the image's; the image elsewhere.

    Solves Laplace's equation for the shift (Perez, Gangnet & Blake 2003, equation 4), as NSA does for its defects
    (Schlueter et al. 2022). At the image's own border the shift is level.

    >>> image, patch = np.full((5, 5, 1), 0.5, np.float32), np.full((5, 5, 1), 0.1, np.float32)
    >>> mask = np.zeros((5, 5), bool); mask[1:4, 1:4] = True
    >>> bool(np.allclose(poisson_blend(image, patch, mask), 0.5))  # a flat patch takes the colour around it
    True
    """
    shift = _harmonic(image - patch, mask)
    return np.where(mask[..., None], patch + shift, image).astype(np.float32)


def _harmonic(values: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """The values outside the mask; inside, each pixel the mean of its four neighbours. From coarse to fine."""
    if min(mask.shape) <= _COARSEST_PX:
        return _solved(values, np.zeros_like(values), mask)
    coarse = _harmonic(values[::2, ::2], mask[::2, ::2])
    start = coarse.repeat(2, axis=0).repeat(2, axis=1)[: mask.shape[0], : mask.shape[1]]
    return _solved(values, start, mask)


def _solved(values: Pixels, start: Pixels, mask: NDArray[np.bool_]) -> Pixels:
    """By conjugate gradients from a first guess (Hestenes & Stiefel 1952), all channels at once."""
    inside = mask[..., None]
    found = np.where(inside, start, values).astype(np.float32)
    residual = -_laplacian(found) * inside
    direction, power = residual, float(np.vdot(residual, residual))
    for _ in range(_MOST_STEPS):
        if np.abs(residual).max(initial=0) < _LEAST_RESIDUAL:
            break
        pushed = _laplacian(direction) * inside
        step = np.float32(power / float(np.vdot(direction, pushed)))
        found, residual = found + step * direction, residual - step * pushed
        before, power = power, float(np.vdot(residual, residual))
        direction = residual + np.float32(power / before) * direction
    return found


def _laplacian(values: Pixels) -> Pixels:
    """Each pixel's differences to its neighbours, summed; beyond the image's border there is none."""
    wide = np.pad(values, ((1, 1), (1, 1), (0, 0)), mode="edge")
    return 4 * values - wide[:-2, 1:-1] - wide[2:, 1:-1] - wide[1:-1, :-2] - wide[1:-1, 2:]
