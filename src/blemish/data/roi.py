"""The region of interest: where in a photo defects are looked for."""

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.data.decode import open_image
from blemish.data.deep import SIXTEEN_BIT_MODES
from blemish.data.masks import ASPECT_TOLERANCE
from blemish.errors import DataError, SettingsError
from blemish.settings import LARGEST_IMAGE_PX


def encode_roi(roi: NDArray[np.bool_]) -> str:
    """A region of interest as text.

    >>> decode_roi(encode_roi(np.eye(2, dtype=bool))).tolist()
    [[True, False], [False, True]]
    """
    buffer = io.BytesIO()
    Image.fromarray(roi).save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def decode_roi(text: str) -> NDArray[np.bool_]:
    """What `encode_roi` wrote."""
    with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as image:
        return np.array(image, dtype=np.bool_)


def load_roi(
    roi: str | tuple[tuple[float, float], ...], size_px: tuple[int, int], aspect: float | None
) -> NDArray[np.bool_]:
    """The region of interest `(h, w)` from a mask file (inside where above 0) or a polygon.

    A polygon's corners are (x, y) in shares of width and height, from 0 to 1, x to the right and y down.
    `aspect` is the height / width of the images; None where they are resized whatever theirs is.

    Raises:
        DataError: the file cannot be read, or its aspect is more than 5 % off the images'.
        SettingsError: the polygon has fewer than three corners or leaves [0, 1]; no pixel is inside.

    >>> load_roi(((0, 0), (0.5, 0), (0.5, 1), (0, 1)), (2, 4), None).tolist()
    [[True, True, False, False], [True, True, False, False]]
    """
    height, width = size_px
    if isinstance(roi, str):
        if not roi or roi.startswith("["):
            raise SettingsError(f"data.roi: found '{roi}'; expected a mask image, or corners [[x, y], [x, y], [x, y]]")
        try:
            mask = open_image(Path(roi), LARGEST_IMAGE_PX, is_drawn=True)
        except DataError as error:
            raise DataError(f"data.roi: {error}") from None
        if aspect is not None and abs(mask.height / mask.width / aspect - 1.0) > ASPECT_TOLERANCE:
            raise DataError(
                f"{roi}: region of interest of {mask.height} x {mask.width} (height x width), the images' aspect is "
                f"{aspect:.3g}; draw it on one of the images"
            )
        inside = np.asarray(mask if mask.mode in ("1", "L", *SIXTEEN_BIT_MODES, "F") else mask.convert("L")) > 0
    else:
        found = [value for corner in roi for value in corner if not 0.0 <= value <= 1.0]
        if len(roi) < 3 or found:
            what = f"found {found[0]:g}" if found else f"found {len(roi)} corners"
            raise SettingsError(
                f"data.roi: {what}; a polygon has three or more corners [x, y] in shares of width and height, 0 to 1"
            )
        scale = 4  # drawn finer than needed, so that pixel centres decide
        canvas = Image.new("1", (width * scale, height * scale))
        corners = [(x * width * scale - 0.5, y * height * scale - 0.5) for x, y in roi]
        ImageDraw.Draw(canvas).polygon(corners, fill=1)
        inside = np.asarray(canvas)
    resized = Image.fromarray(np.uint8(inside) * 255).resize((width, height), Image.Resampling.NEAREST)
    region = np.asarray(resized) > 0
    if not region.any():
        raise SettingsError(f"data.roi: no pixel of the {height} x {width} image lies inside it")
    return region
