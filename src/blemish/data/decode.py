"""From a file or an array to a decoded image, upright, in a mode of its own; or an error that names it."""

import io
import os
import threading
import warnings
from pathlib import Path
from typing import NamedTuple, cast, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from blemish.errors import DataError
from blemish.settings import LARGEST_IMAGE_PX


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

SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")
GREY_MODES = ("1", "L", "LA", "F", *SIXTEEN_BIT_MODES)
"""Pillow's modes of one channel; `F` is floats."""

_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP")

ImageLike = Path | str | Image.Image | NDArray[np.generic]


def read_content(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: it is missing, a folder, or cannot be read.
    """
    with named_errors(path):
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: {path.stat().st_size >> 20} MiB, more than any image that can be read")
        return path.read_bytes()


@final
class ImageHeader(NamedTuple):
    """What an image file says of itself before it is decoded."""

    size_px: tuple[int, int]
    """Height and width after EXIF orientation."""
    mode: str
    """Pillow's."""

    @property
    def is_grey(self) -> bool:
        """Whether the file is stored with one channel."""
        return self.mode in GREY_MODES


def read_header(path: Path) -> ImageHeader:
    """The header of an image file; no pixel is decoded.

    Raises:
        DataError: missing, not an image, or damaged.
    """
    with named_errors(path), _opened(path) as handle:
        # Asking a PNG for the orientation it does not have would decode all of it.
        is_turned = (handle.format != "PNG" or "exif" in handle.info) and handle.getexif().get(0x0112, 1) >= 5
        width, height = handle.size
        return ImageHeader((width, height) if is_turned else (height, width), handle.mode)


def name_of(image: ImageLike) -> str:
    """What an error calls this image: its path, or what kind of object it is."""
    if isinstance(image, str | Path):
        return str(image)
    return "image array" if isinstance(image, np.ndarray) else "Pillow image"


class named_errors:  # noqa: N801  # reads as a statement: with named_errors(path)
    """Turns Pillow's and the system's errors into a DataError with the file's name."""

    def __init__(self, path: Path | str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, DataError) or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{self.path}: no such file") from None
        if isinstance(error, IsADirectoryError):
            raise DataError(f"{self.path}: a folder, not an image") from None
        if isinstance(error, PermissionError):
            raise DataError(f"{self.path}: no permission to read it") from None
        if isinstance(error, UnidentifiedImageError):
            raise DataError(f"{self.path}: not an image that can be read (PNG, JPEG, BMP, TIFF or WebP)") from None
        if isinstance(error, Image.DecompressionBombError):
            raise DataError(f"{self.path}: more than {LARGEST_IMAGE_PX} pixels; crop or reduce it first") from None
        if isinstance(error, MemoryError):
            raise DataError(f"{self.path}: more than this machine's memory holds") from None
        if isinstance(error, OSError | SyntaxError | ValueError | EOFError | IndexError | TypeError):
            raise DataError(f"{self.path}: a damaged or truncated image ({error})") from None


def _opened(file: Path | io.BytesIO) -> Image.Image:
    with SILENCE:
        return Image.open(file, formats=_FORMATS)


def open_image(image: ImageLike, max_image_px: int, content: bytes | None = None) -> Image.Image:
    """Decoded and turned upright, in a mode of its own."""
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        check_pixels(image.size[::-1], max_image_px, "Pillow image")
        return ImageOps.exif_transpose(image)
    if not isinstance(image, str | os.PathLike):
        raise DataError(f"an image of type {type(image).__name__}; expected a file, a Pillow image or a numpy array")
    path = Path(image)
    content = read_content(path) if content is None else content
    with named_errors(path), SILENCE, _opened(io.BytesIO(content)) as handle:
        check_pixels(handle.size[::-1], max_image_px, str(path))
        _check_end(handle.format, path, content)
        handle.load()
        return ImageOps.exif_transpose(handle)


def _check_end(image_format: str | None, path: Path, content: bytes) -> None:
    """Refuse a PNG or JPEG whose end is not written yet: Pillow decodes zeros in its place without a word.

    So it is with a copy that is under way into a file that was given its full length beforehand.
    """
    is_whole = True
    if image_format == "PNG":
        is_whole = b"IEND" in content
    elif image_format == "JPEG":  # zeros at the end, and no end-of-image marker after the last start of a scan
        is_whole = not content.endswith(bytes(16)) or content.rfind(b"\xff\xd9") > content.rfind(b"\xff\xda")
    if not is_whole:
        raise DataError(f"{path}: a truncated image, its end is missing; copy it again")


def _from_array(array: NDArray[np.generic]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise DataError(f"image array: shape {array.shape}; expected (h, w), (h, w, 1), (h, w, 3) or (h, w, 4)")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        return _from_floats(cast(NDArray[np.floating], array))
    if array.dtype == np.uint16 and array.ndim == 2:
        return Image.fromarray(array.astype(np.int32))
    if array.dtype != np.uint8:
        raise DataError(f"image array: type {array.dtype}; expected uint8, uint16 (grey), bool, or floats in [0, 1]")
    return Image.fromarray(np.ascontiguousarray(array))


def _from_floats(array: NDArray[np.floating]) -> Image.Image:
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):  # also false for NaN
        raise DataError(f"image array: floats from {low:g} to {high:g}; expected [0, 1], without NaN")
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
