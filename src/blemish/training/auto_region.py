"""`data.roi=auto`: the box that holds the part in every good image, where the part lies on a plain ground."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy, load_image
from blemish.data.roi import AreaOfPhoto
from blemish.errors import DataError
from blemish.training.part_region import part_region

AUTO = "auto"
"""The value of `data.roi` that asks for it."""

MOST_IMAGES = 64
"""So many good images, evenly among them, are looked at."""

LEAST_SHARE = 0.95
"""Of the images looked at must show a part on a plain ground."""

LEAST_PART = 0.002
"""Of the photo's area; what is smaller is taken for dust."""

MARGIN = 0.03
"""How far the box reaches beyond all parts seen, as a share of the photo: the next part may lie farther out."""

MOST_OF_PHOTO = 0.8
"""A box of a larger share of the photo's area gains nothing."""

_SIDE_PX = 256


def find_part(samples: Sequence[Sample], policy: PixelPolicy) -> AreaOfPhoto | None:
    """The box around the parts in good images, see `part_region`; None where they lie on no plain ground, or fill it.

    The policy says how images are decoded; what cannot be read is passed over.
    """
    small = policy.model_copy(update={"size_px": (_SIDE_PX, _SIDE_PX), "aspect": None})
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MOST_IMAGES)).astype(int))
    parts, seen = np.zeros((_SIDE_PX, _SIDE_PX), np.bool_), []
    for place in chosen:
        with suppress(DataError):
            part = part_region(load_image(samples[place].path, small).transpose(1, 2, 0), LEAST_PART, LEAST_PART)
            seen.append(part is not None)
            parts |= False if part is None else part
    if not seen or np.mean(seen) < LEAST_SHARE:
        return None
    found = AreaOfPhoto(mask=parts).box()
    if found is None:
        return None
    left, top, right, bottom = (
        min(1.0, max(0.0, edge + sign * MARGIN)) for edge, sign in zip(found, (-1, -1, 1, 1), strict=True)
    )
    if (right - left) * (bottom - top) > MOST_OF_PHOTO:
        return None
    return AreaOfPhoto((((left, top), (right, top), (right, bottom), (left, bottom)),))
