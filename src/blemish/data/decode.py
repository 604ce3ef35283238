"""From a file or an array to a decoded image, upright, in a mode of its own; or an error that names it."""

import io
import logging
import struct
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from blemish.data.damage import count_scans, jpegs_of, refuse_damage
from blemish.data.deep import (
    SIXTEEN_BIT_MODES,
    Depth,
    ask_for_low_bytes,
    check_unit,
    depth_as_opened,
    is_deep,
    prepare_depth,
    rawmode,
)
from blemish.data.named_errors import named_errors
from blemish.data.parts import refuse_many_parts
from blemish.data.profiles import gamma_name, profile_name
from blemish.data.tiff import Tiff, read_floats, read_tiff
from blemish.data.unwritten import refuse_unwritten
from blemish.errors import DataError
from blemish.settings import LARGEST_IMAGE_PX, is_path, open_regular, read_regular

logging.getLogger("PIL").addHandler(logging.NullHandler())
"""What Pillow logs of an odd file is in the error that follows, and stands on standard error only where asked for."""


@final
class _Silence:
    """The first thread that comes in silences the warnings, the last one that leaves brings them back.

    `warnings.catch_warnings` alone changes the filters of all threads, and two of them that overlap would restore them
    in the wrong order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                # Odd but harmless metadata is not worth a warning for each of thousands of files.
                warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
                # Pillow warns at a fixed size; ours is a setting, and an error.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._caught.__exit__(None, None, None)


SILENCE = _Silence()
"""`with SILENCE:` around whatever makes Pillow read a file."""

MAX_FILE_BYTES = 16 * LARGEST_IMAGE_PX
"""A file that is larger is not even read."""
MAX_JPEG_SCANS = 100
"""A progressive JPEG has about ten; each costs a pass over all pixels."""
MAX_EXPANSION, MIN_EXPANDED_PX = 250, 16_000_000
"""No photo of so many pixels becomes so many times smaller when it is compressed."""

GREY_MODES = ("1", "L", "LA", "F", *SIXTEEN_BIT_MODES)
"""Pillow's modes of one channel; `F` is floats."""

PAGES = "blemish_pages"
"""Says in a decoded image's `info` how many pages or frames its file has; the first is the image."""

UNTOLD = "blemish_untold"
"""Stands in a decoded image's `info` where its EXIF data are damaged, so that how it is turned is not known."""

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP")
_ORIENTATION, _INTEROPERABILITY = 0x0112, 0xA005
_BAD_EXIF = (SyntaxError, ValueError, struct.error)
_SHORT_GREY = {"L;2": 85, "L;4": 17}
"""By how much Pillow multiplies grey of 2 and 4 bits, but not the value that a PNG calls transparent."""
_PNG_HEAD = 33
"""Bytes of a PNG's signature and of its size."""
_MAX_INFO_BYTES = 1 << 20

ImageLike = Path | str | Image.Image | NDArray[np.generic]


def read_content(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: it is missing, a folder, a device or a pipe, too long, or cannot be read.
    """
    with named_errors(path):
        return read_regular(path, MAX_FILE_BYTES)


@final
class ImageHeader(NamedTuple):
    """What an image file says of itself before it is decoded."""

    size_px: tuple[int, int]
    """Height and width after EXIF orientation."""
    mode: str
    """Pillow's."""
    orientation: int = 1
    """EXIF's: 1 is upright, from 5 on height and width change places."""
    pages: int = 1
    """Of several pages or frames the first is used."""
    image_format: str = "TIFF"
    has_alpha: bool = False
    profile: str = ""
    """The name of its colour profile, which is not applied."""
    unread_channels: int = 0
    """How many more a TIFF has than grey or colour and transparency."""

    @property
    def is_grey(self) -> bool:
        """Whether the file is stored with one channel."""
        return self.mode in GREY_MODES

    @property
    def is_turned(self) -> bool:
        """Whether the photo is not stored as it is shown."""
        return self.orientation != 1


def read_header(path: Path) -> ImageHeader:
    """The header of an image file; no pixel is decoded.

    Raises:
        DataError: missing, not an image, or damaged.
    """
    with named_errors(path), open_regular(path) as file:
        tiff = read_tiff(file)
        refuse_many_parts(file, str(path))
        try:
            with _opened(file) as handle:
                orientation = _orientation(handle, file)
                height, width = tiff.size_px if tiff else handle.size[::-1]  # Pillow's of a TIFF is turned already
                pages = tiff.pages if tiff else getattr(handle, "n_frames", 1)
                size_px = (width, height) if orientation >= 5 else (height, width)
                image_format = {"MPO": "JPEG", "DIB": "BMP"}.get(handle.format or "", handle.format or "")
                alpha = handle.has_transparency_data
                profile = (
                    profile_name(handle.info.get("icc_profile")) or gamma_name(handle.info) or _exif_profile(handle)
                )
                unread = max(0, tiff.samples - len(handle.getbands())) if tiff and handle.mode != "P" else 0
                return ImageHeader(size_px, handle.mode, orientation, pages, image_format, alpha, profile, unread)
        except UnidentifiedImageError:
            if tiff is None:
                raise
            size_px = tiff.size_px[::-1] if tiff.orientation >= 5 else tiff.size_px
            return ImageHeader(size_px, "F" if tiff.samples == 1 else "RGB", tiff.orientation, tiff.pages)


def name_of(image: ImageLike) -> str:
    """What an error calls this image: its path, or what kind of object it is."""
    if is_path(image):
        return str(Path(image))
    return "image array" if isinstance(image, np.ndarray) else "Pillow image"


def _opened(file: BinaryIO) -> ImageFile:
    with SILENCE:
        file.seek(0)
        return Image.open(file, formats=_FORMATS)


def open_image(
    image: ImageLike, max_image_px: int, content: bytes | None = None, is_drawn: bool = False
) -> Image.Image:
    """Decoded and turned upright, in a mode of its own; see `Depth` for more than 8 bits.

    A drawing, such as a mask, may be of few colours and become very small when it is compressed; a photo may not.

    Raises:
        DataError: it cannot be read, or would cost more than an image may (docs/reference/limits.md).
    """
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        check_pixels(image.size[::-1], max_image_px, "Pillow image")
        with named_errors("Pillow image"):
            depth = depth_as_opened(image)
            with suppress(*_BAD_EXIF):
                image.getexif()  # asked again, Pillow leaves out what is damaged
            upright = ImageOps.exif_transpose(image)
        if depth is not None:
            upright.info["depth"] = depth
        return upright
    if not is_path(image):
        raise DataError(f"an image of type {type(image).__name__}; expected a file, a Pillow image or a numpy array")
    path = Path(image)
    content = read_content(path) if content is None else content
    with named_errors(path, content):
        tiff = read_tiff(io.BytesIO(content))
        refuse_many_parts(io.BytesIO(content), str(path))
        if tiff is not None:
            check_pixels(tiff.size_px, max_image_px, str(path))
            if reason := tiff.unread_reason():
                raise DataError(f"{path}: {reason}")
        try:
            with SILENCE, _opened(io.BytesIO(content)) as handle:
                check_pixels(handle.size[::-1], max_image_px, str(path))
                _check_cost(handle, path, content, tiff, is_drawn)
                refuse_unwritten(handle.format, content, str(path), tiff, is_drawn)
                refuse_damage(handle.format, content, handle.size, tiff)
                loaded = _loaded(handle, tiff, content, str(path))
                if not is_drawn:
                    _refuse_short_palette(loaded, str(path))
                return loaded
        except UnidentifiedImageError:
            if tiff is None:
                raise
            refuse_unwritten("TIFF", content, str(path), tiff)
            image = _from_floats(read_floats(tiff, content, str(path)), str(path))
            image.info[PAGES] = tiff.pages
            image.getexif()[_ORIENTATION] = tiff.orientation
            return ImageOps.exif_transpose(image)


def _loaded(handle: ImageFile, tiff: Tiff | None, content: bytes, where: str) -> ImageFile:
    orientation = _orientation(handle, io.BytesIO(content))
    if handle.format == "PNG" and "transparency" in handle.info and is_deep(handle):
        raise DataError(f"{where}: a 16-bit PNG with one transparent colour; save it without transparency")

    if "transparency" in handle.info and (scale := _SHORT_GREY.get(rawmode(handle.tile[0]))) and handle.format == "PNG":
        handle.info["transparency"] *= scale

    def turn(image: ImageFile) -> ImageFile:
        if orientation != 1:
            exif = image.getexif()
            for tag in set(exif) - {_ORIENTATION}:
                del exif[tag]  # what turns a photo writes its EXIF again, and fails where a tag is odd
        image.load()
        if orientation != 1:
            ImageOps.exif_transpose(image, in_place=True)
        return image

    def read_low() -> Image.Image:
        with SILENCE, _opened(io.BytesIO(content)) as again:
            return turn(ask_for_low_bytes(again, tiff))

    depth = prepare_depth(handle, tiff, read_low)
    turn(handle)
    handle.info["depth"] = depth
    handle.info[PAGES] = tiff.pages if tiff else getattr(handle, "n_frames", 1)
    return handle


def _refuse_short_palette(image: Image.Image, where: str) -> None:
    """Refuse pixels without a colour, which Pillow shows as black."""
    if image.mode == "P" and image.palette is not None:
        colours, highest = len(image.palette.palette) // len(image.palette.mode), cast(int, image.getextrema()[1])
        if highest >= colours:
            raise DataError(f"{where}: pixels of colour {highest} in a palette of {colours}; save it again")


def _orientation(handle: Image.Image, file: BinaryIO) -> int:
    """EXIF's, or where it has none XMP's; 1 where it cannot be told, as programs that show photos take it.

    Asking a PNG for what its head does not have would decode all of it.
    """
    found: object = None
    with SILENCE:
        if handle.format == "PNG" and "exif" not in handle.info:
            handle.info |= _info_after_pixels(file)
        with suppress(*_BAD_EXIF):
            Image.Exif().load(handle.info.get("exif", b""))  # of a JPEG Pillow hides what is damaged
            found = Image.Image.getexif(handle).get(_ORIENTATION, 1)
    if found in range(9):
        return max(1, int(cast(int, found)))
    handle.info[UNTOLD] = True
    return 1


def _exif_profile(handle: Image.Image) -> str:
    """Adobe RGB, as cameras say it that write no profile (DCF 2.0)."""
    with SILENCE, suppress(*_BAD_EXIF):
        if Image.Image.getexif(handle).get_ifd(_INTEROPERABILITY).get(1) == "R03":
            return "Adobe RGB"
    return ""


def _info_after_pixels(file: BinaryIO) -> dict[str | tuple[int, int], Any]:
    """What a PNG says of itself behind its pixels, read as that of one without any; none of what is damaged."""
    file.seek(0)
    parts, at, is_behind, room = [file.read(_PNG_HEAD)], _PNG_HEAD, False, _MAX_INFO_BYTES
    while True:
        file.seek(at)
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind == b"IEND":
            break
        is_behind = is_behind or kind == b"IDAT"
        if is_behind and kind in (b"eXIf", b"iTXt", b"zTXt") and length <= room:
            parts.append(head + file.read(length + 4))
            room -= length
        at += 12 + length
    if len(parts) > 1:
        with suppress(OSError, ValueError), _opened(io.BytesIO(b"".join([*parts, bytes(4), b"IDAT"]))) as found:
            return found.info
    return {}


def _check_cost(handle: Image.Image, path: Path, content: bytes, tiff: Tiff | None, is_drawn: bool) -> None:
    """Refuse what would take far more time or memory than its file says."""
    if (scans := max(map(count_scans, jpegs_of(handle.format, content, tiff)), default=0)) > MAX_JPEG_SCANS:
        raise DataError(f"{path}: a JPEG of {scans} scans, at most {MAX_JPEG_SCANS} are read; save it again")
    pixels = handle.size[0] * handle.size[1]
    expansion = pixels * len(handle.getbands()) / max(1, len(content))
    if not is_drawn and pixels >= MIN_EXPANDED_PX and expansion > MAX_EXPANSION:
        raise DataError(
            f"{path}: {pixels} pixels in {max(1, len(content) >> 10)} KiB, {expansion:.0f} times smaller than "
            f"decoded, as no photo is (at most {MAX_EXPANSION} times); it looks like a decompression bomb"
        )


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    if np.ma.is_masked(array):
        raise DataError(
            "image array: has masked pixels, which would be judged as they are; fill them (array.filled(value)), or "
            "train with a region of interest (data.roi)"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise DataError(f"image array: shape {array.shape}; expected (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        return _from_floats(cast(NDArray[np.floating], array), "image array")
    if array.dtype == np.uint16 and array.ndim == 2:
        return Image.fromarray(array.astype(np.int32))
    if array.dtype == np.uint16:
        high, low = (Image.fromarray(np.uint8(part)) for part in np.divmod(array.astype(np.uint16), 256))
        high.info["depth"] = Depth(read_low=lambda: low)
        return high
    if array.dtype != np.uint8:
        raise DataError(f"image array: type {array.dtype}; expected uint8, uint16, bool, or floats in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(array))


def _from_floats(array: NDArray[np.floating], where: str) -> Image.Image:
    check_unit(array, where)
    if array.ndim == 2:
        return Image.fromarray(array.astype(np.float32))
    return Image.fromarray(np.uint8(array * 255.0 + 0.5))


def check_pixels(size_px: tuple[int, int], max_image_px: int, where: str) -> None:
    """Refuse an image of more pixels than that; `size_px` is height and width.

    Raises:
        DataError: it has more; `where` is what the error calls it.
    """
    height, width = size_px
    if width * height > max_image_px:
        raise DataError(
            f"{where}: {height} x {width} = {width * height} pixels, the limit is {max_image_px}; "
            "raise data.max_image_px if that is meant"
        )
