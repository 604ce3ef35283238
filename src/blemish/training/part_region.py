"""Where the part lies in a photo, told from a plain ground around it, so that defects are put on the part."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

Mask = NDArray[np.bool_]

_SIDE_PX = 256
_FRAME_SHARE = 0.03
_PLAIN = 0.12
_LEAST_CONTRAST, _TIMES_THE_FRAME = 0.1, 2.5
_LEAST_PART, _MOST_PART, _LEAST_PIECE = 0.03, 0.95, 0.01


def part_region(
    pixels: NDArray[np.float32], least_part: float = _LEAST_PART, least_piece: float = _LEAST_PIECE
) -> Mask | None:
    """The part in a photo `(h, w, c)` in [0, 1], or None where the photo's edge is not plain, or nothing stands out.

    The ground's colour is the median of the photo's outermost 3 %; three quarters of that frame must be like it. What
    differs from it clearly, holes filled and specks left out, is the part; its outermost pixels are left out, too. The
    part and its pieces have at least such shares of the photo.

    >>> photo = np.full((60, 80, 3), 0.2, np.float32); photo[20:40, 30:60] = 0.7
    >>> region = part_region(photo)
    >>> bool(region[30, 45]), bool(region[5, 5]), part_region(np.full((60, 80, 3), 0.2, np.float32)) is None
    (True, False, True)
    """
    height, width = pixels.shape[:2]
    step = max(1, -(-max(height, width) // _SIDE_PX))
    small = pixels[::step, ::step]
    frame = np.ones(small.shape[:2], np.bool_)
    reach = max(1, round(_FRAME_SHARE * max(small.shape[:2])))
    frame[reach:-reach, reach:-reach] = False
    distance = np.abs(small - np.median(small[frame], axis=0)).max(axis=2)
    usual = float(np.quantile(distance[frame], 0.75))
    if usual > _PLAIN:
        return None
    part = ndimage.binary_opening(distance > max(_LEAST_CONTRAST, _TIMES_THE_FRAME * usual))
    part = ndimage.binary_fill_holes(ndimage.binary_closing(part, iterations=2))
    pieces, _ = ndimage.label(part)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    part = ndimage.binary_erosion((sizes >= least_piece * part.size)[pieces])
    if not least_part <= part.mean() <= _MOST_PART:
        return None
    large = Image.fromarray(np.uint8(part)).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(large) > 0
