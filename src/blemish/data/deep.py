"""Images of more than 8 bits a channel: the value of white, and the lower bytes of colour that Pillow leaves out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile

from blemish.data.photo_values import LUMA
from blemish.data.tiff import Tiff, tiff_of
from blemish.errors import DataError

SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
MIN_ALPHA = 16
"""Of 255; an image that is nowhere more opaque shows nothing."""

_OTHER_ORDER = {"L": "B", "B": "L", "N": "B"}


@final
@dataclass(frozen=True)
class Depth:
    """How an image of more than 8 bits is to be read; hangs on it as `image.info["depth"]`."""

    white: int = 65_535
    """The value of white where nothing else is said."""
    is_min_white: bool = False
    """Whether 0 is white, and `white` black."""
    read_low: Callable[[], Image.Image] | None = None
    """Of 16-bit colour, whose image has the higher bytes: the image of the lower ones."""


def depth_of(image: Image.Image) -> Depth | None:
    """None of an image of 8 bits."""
    found = image.info.get("depth")
    if isinstance(found, Depth):
        return found
    return Depth() if image.mode in ("F", *SIXTEEN_BIT_MODES) else None


def depth_as_opened(image: Image.Image) -> Depth | None:
    """What is known of an image of more than 8 bits that Pillow has opened but, best of all, not decoded yet.

    Raises:
        DataError: a TIFF of which Pillow gives other pixels.
    """
    tags = getattr(image, "tag_v2", None)
    tiff = tiff_of(tags.prefix, tags) if tags else None
    if tiff is not None:
        is_mixed = tiff.is_planar and tiff.bits == 16 and tiff.first(259, 1) == 1
        reason = f"{tiff.describe()}, which Pillow reads as other pixels" if is_mixed else tiff.unread_reason()
        if reason:
            raise DataError(f"Pillow image: {reason}; give the file's path")
    if image.mode in ("F", *SIXTEEN_BIT_MODES):
        bits = 16 if tiff is None else min(16, tiff.bits - tiff.is_signed)
        return Depth(1 if image.mode == "F" else (1 << bits) - 1, tiff is not None and tiff.is_min_white)
    is_colour = image.mode in ("RGB", "RGBA") and tiff is not None and tiff.bits == 16
    return Depth() if is_colour or (isinstance(image, ImageFile) and is_deep(image)) else None


def unit_bands(image: Image.Image, white_level: int | None, channels: int, where: str) -> list[Image.Image] | None:
    """One or three channels of floats in [0, 1] of an image of more than 8 bits; None where 8 bits are all that counts.

    Raises:
        DataError: values out of range, or a kind of 16-bit colour whose lower bytes are not to be had.
    """
    depth = depth_of(image)
    is_grey = image.mode in ("F", *SIXTEEN_BIT_MODES)
    if depth is None or (not is_grey and white_level is None):
        return None
    if not is_grey and depth.read_low is None:
        raise DataError(
            f"{where}: 16-bit {image.mode} of a kind for which data.white_level cannot be honoured; save it "
            "uncompressed, as grey or RGB"
        )
    if image.mode == "F":
        planes = [np.array(image, np.float32)]
        check_unit(planes[0], where)
    else:
        planes = _sixteen_bits(image, depth, where)
    alpha = None
    if image.mode == "RGBA":
        check_alpha(image, where)
        alpha = np.asarray(image.getchannel("A"), np.float32) / np.float32(255.0)
    for plane in planes:  # in place: large photos are many bytes
        if image.mode != "F":
            plane /= np.float32(white_level or depth.white)
            np.minimum(plane, np.float32(1.0), out=plane)
        if depth.is_min_white:
            np.subtract(np.float32(1.0), plane, out=plane)
        if alpha is not None:
            plane *= alpha
    if len(planes) == 3 and channels == 1:
        planes = [LUMA[0] * planes[0] + LUMA[1] * planes[1] + LUMA[2] * planes[2]]
    return [Image.fromarray(plane) for plane in planes]


def check_unit(values: NDArray[np.floating], where: str) -> None:
    """Refuse floats that are not all in [0, 1].

    Raises:
        DataError: one is not, or is NaN; `where` is what the error calls the image.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= 0.0 and high <= 1.0):  # also true for NaN
        raise DataError(f"{where}: floats from {low:.9g} to {high:.9g}; expected [0, 1], without NaN")


def _sixteen_bits(image: Image.Image, depth: Depth, where: str) -> list[NDArray[np.float32]]:
    """The values as stored, 0 to 65535, one array `(h, w)` for each channel of colour."""
    if depth.read_low is not None:
        low, planes = depth.read_low(), []
        for channel in range(3):
            plane = np.asarray(image.getchannel(channel)).astype(np.float32)
            plane *= np.float32(256)
            plane += np.asarray(low.getchannel(channel))
            planes.append(plane)
        return planes
    values = np.asarray(image).astype(np.float32)
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0 or highest > 65_535:
        raise DataError(f"{where}: integer values from {lowest:g} to {highest:g}; expected 16 bits, 0 to 65535")
    return [values]


def brightest_value(image: Image.Image) -> int | None:
    """The highest value in an image of 16-bit integers, roughly where above 14 bits; None of other images."""
    depth = depth_of(image)
    if depth is None or image.mode == "F" or depth.white < 32_767:  # of fewer bits, as the file says
        return None
    if image.mode in SIXTEEN_BIT_MODES:
        return int(np.asarray(image).max())
    high = max(int(np.asarray(band).max()) for band in image.split()[:3])
    if depth.read_low is None or high >= 64:
        return high * 256 + 255
    return max(int(plane.max()) for plane in _sixteen_bits(image, depth, ""))


def check_alpha(image: Image.Image, where: str) -> None:
    """Refuse an image, RGBA, that is transparent everywhere.

    Raises:
        DataError: it is; `where` is what the error calls it.
    """
    highest = int(np.asarray(image.getchannel("A")).max())
    if highest < MIN_ALPHA:
        raise DataError(
            f"{where}: every pixel is transparent (alpha at most {highest} of 255), so the image would be black; "
            "save it without transparency"
        )


def is_transparent(image: Image.Image) -> bool:
    """Whether a pixel of an image is transparent, wholly or in part."""
    if not image.has_transparency_data:
        return False
    with_alpha = image if image.mode in ("RGBA", "LA") else image.convert("RGBA")
    return int(np.asarray(with_alpha.getchannel("A")).min()) < 255


def prepare_depth(handle: ImageFile, tiff: Tiff | None, read_low: Callable[[], Image.Image]) -> Depth | None:
    """The depth of a file that is not decoded yet, which is then decoded right; None of 8 bits."""
    is_min_white = tiff is not None and tiff.is_min_white
    if handle.mode == "F":
        return Depth(1, is_min_white)
    if handle.mode in SIXTEEN_BIT_MODES:
        bits = 16 if tiff is None else min(16, tiff.bits - tiff.is_signed)
        return Depth((1 << bits) - 1, is_min_white)
    if _tell_planes(handle, tiff) or is_deep(handle):
        # Of planes that libtiff unpacks, Pillow always gives the higher bytes.
        is_packed = tiff is not None and tiff.is_planar and any(tile[0] != "raw" for tile in handle.tile)
        return Depth(read_low=read_low if handle.mode in ("RGB", "RGBA") and not is_packed else None)
    return None


def is_deep(handle: ImageFile) -> bool:
    """Whether the pixels of a file, not decoded yet, are stored in 16 bits."""
    modes = [rawmode(tile) for tile in handle.tile]
    return any(";16" in mode and not mode.startswith("BGR") for mode in modes)  # BGR;16 is 5, 6 and 5 bits of a BMP


def ask_for_low_bytes(handle: ImageFile, tiff: Tiff | None) -> ImageFile:
    """Make Pillow decode the lower bytes of 16-bit colour: it keeps the higher ones of the byte order it is told."""
    _tell_planes(handle, tiff)
    modes = [rawmode(tile) for tile in handle.tile]
    handle.tile = [
        _with_rawmode(tile, mode[:-1] + _OTHER_ORDER[mode[-1]]) for tile, mode in zip(handle.tile, modes, strict=True)
    ]
    return handle


def _tell_planes(handle: ImageFile, tiff: Tiff | None) -> bool:
    """Whether the channels of 16 bits lie one by one, uncompressed; Pillow, which takes them for 8 bits, is told."""
    is_planar = tiff is not None and tiff.is_planar and tiff.bits == 16
    if tiff is None or not is_planar or any(tile[0] != "raw" for tile in handle.tile):
        return False
    ending = ";16L" if tiff.order == "<" else ";16B"
    handle.tile = [_with_rawmode(tile, rawmode(tile).partition(";")[0] + ending) for tile in handle.tile]
    return True


def rawmode(tile: Any) -> str:
    """How the pixels of a part of a file are stored, in Pillow's words."""
    found = tile.args if isinstance(tile.args, str) else (tile.args or ("",))[0]
    return found if isinstance(found, str) else ""


def _with_rawmode(tile: Any, mode: str) -> Any:
    return tile._replace(args=mode if isinstance(tile.args, str) else (mode, *tile.args[1:]))
