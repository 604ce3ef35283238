"""The one pixel policy of the project: from a file to numbers in [0, 1]. Pillow and numpy only.

What happens to an image, in this order:

1. The header is read; an image of more than `max_image_px` pixels is refused before it is decoded.
2. It is decoded, and turned as its EXIF orientation says. Of several frames or pages the first is taken.
3. It becomes grey (1 channel, ITU-R 601 luma) or RGB (3 channels). Palettes are looked up, CMYK is converted, and
   transparent pixels are laid over black. 16-bit grey keeps its 16 bits.
4. 16-bit values are divided by the value of white (`white_level`, or 65535); values above white are white.
5. It is resized to `size_px` with Pillow's bilinear filter, whose support grows with the reduction, so that nothing
   aliases: 8-bit images in 8 bits, the others in 32-bit floats. An image that has this size already is left alone.
6. 8-bit values are divided by 255.
7. Pixels outside the region of interest, where there is one, become 0, so that nothing there can matter.
"""

import base64
import io
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, cast, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageOps, UnidentifiedImageError
from pydantic import Field

from blemish.data.silence import SILENCE
from blemish.errors import DataError, SettingsError
from blemish.settings import LARGEST_IMAGE_PX, Settings, Side

MOST_FILE_BYTES = 16 * LARGEST_IMAGE_PX
"""A file that is larger is not even read."""

ASPECT_TOLERANCE = 0.05
"""How far an image's aspect may be from the wanted one, as a share of it, before that is an error."""

_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "WEBP")

_GREY = ("1", "L", "LA", "F", *_SIXTEEN_BIT)

Values = NDArray[np.uint8] | NDArray[np.float32]
"""An image at its own size, `(h, w)` or `(h, w, 3)`, as `read_values` gives it."""

ImageLike = Path | str | Image.Image | NDArray[np.generic]


class PixelPolicy(Settings):
    """How an image becomes what the network sees. Stored in the artifact, honoured wherever it is used."""

    size_px: tuple[Side, Side] = Field(description="Height and width the network sees.")
    channels: Literal[1, 3] = 3
    white_level: Annotated[int, Field(ge=1, le=65_535)] | None = None
    max_image_px: Annotated[int, Field(ge=64, le=LARGEST_IMAGE_PX)] = 100_000_000
    aspect: float | None = Field(
        None, description="Height / width an image must have, within 5 %. None: any, it is resized to size_px as it is."
    )
    roi_png: str | None = Field(None, description="The region of interest at size_px, a PNG in base64. None: all.")
    tile_px: tuple[Side, Side] | None = Field(None, description="Height and width of the tiles. None: in one piece.")
    tile_overlap_px: Annotated[int, Field(ge=0)] = Field(0, description="How far neighbouring tiles overlap.")

    @cached_property
    def roi(self) -> NDArray[np.bool_] | None:
        """The region of interest `(h, w)`, True inside; None where it is the whole image."""
        return None if self.roi_png is None else decode_roi(self.roi_png)

    @property
    def network_px(self) -> tuple[int, int]:
        """Height and width of what the network sees in one pass: the tile, or the image."""
        return self.tile_px or self.size_px


def load_image(image: ImageLike, policy: PixelPolicy) -> NDArray[np.float32]:
    """The image as the network sees it: float32 `(c, h, w)` in [0, 1].

    `image` is a file, a Pillow image, or an array `(h, w)`, `(h, w, 1)`, `(h, w, 3)` or `(h, w, 4)` of uint8,
    uint16, bool, or floats in [0, 1].

    Raises:
        DataError: missing, not an image, truncated, too large, of the wrong aspect, or of a kind not understood; with
            the file's name.

    >>> policy = PixelPolicy(size_px=(8, 8), channels=1)
    >>> load_image(np.full((16, 16), 51, np.uint8), policy)[0, 0, :2]
    array([0.2, 0.2], dtype=float32)
    """
    return prepare(image, policy).pixels()


@final
@dataclass(frozen=True)
class Prepared:
    """An image decoded and resized, which gives its pixels whole or tile by tile."""

    picture: Image.Image
    policy: PixelPolicy
    image_size_px: tuple[int, int]
    """Height and width of the image's own, upright."""
    is_grey: bool = False
    """Whether it is stored with one channel, whatever the network sees."""

    def pixels(self, box: tuple[int, int, int, int] | None = None) -> NDArray[np.float32]:
        """What the network sees, float32 `(c, h, w)` in [0, 1]; of a box (top, left, bottom, right), or of all."""
        top, left, bottom, right = box or (0, 0, *self.policy.size_px)
        cut = self.picture if box is None else self.picture.crop((left, top, right, bottom))
        pixels = np.asarray(cut, dtype=np.float32)  # (h, w) or (h, w, 3)
        if self.picture.mode != "F":
            pixels = pixels / np.float32(255.0)
        channels_last = pixels[:, :, None] if pixels.ndim == 2 else pixels  # (h, w, c)
        if channels_last.shape[2] != self.policy.channels:
            channels_last = np.repeat(channels_last, self.policy.channels, axis=2)
        image = np.array(channels_last.transpose(2, 0, 1), order="C")  # a copy: Pillow's own memory is read-only
        if self.policy.roi is not None:
            image *= self.policy.roi[top:bottom, left:right]
        return image


def prepare(image: ImageLike, policy: PixelPolicy) -> Prepared:
    """The image decoded, turned, converted and resized; what is left is cheap.

    Raises:
        DataError: as `load_image`.
    """
    return _prepared(_open(image, policy.max_image_px), policy, name_of(image))


def prepare_content(content: bytes, path: Path, policy: PixelPolicy) -> tuple[Prepared, Image.Image]:
    """As `prepare`, of a file whose bytes have been read; and the image upright at its own size, for `drawable`.

    It is decoded once for both. `path` is for messages alone.

    Raises:
        DataError: as `load_image`.
    """
    upright = _open(path, policy.max_image_px, content)
    return _prepared(upright, policy, str(path)), upright


def read_content(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        DataError: it is missing, a folder, or cannot be read.
    """
    with _named_errors(path):
        if path.stat().st_size > MOST_FILE_BYTES:
            raise DataError(f"{path}: {path.stat().st_size >> 20} MiB, more than any image that can be read")
        return path.read_bytes()


def _prepared(original: Image.Image, policy: PixelPolicy, where: str) -> Prepared:
    _check_aspect(original.size, policy, where)
    height, width = policy.size_px
    with _named_errors(where):
        deep = _unit_floats(original, policy.white_level, where)
        prepared = _eight_bit(original, policy.channels) if deep is None else deep
        if prepared.size != (width, height):
            prepared = prepared.resize((width, height), Image.Resampling.BILINEAR)
    return Prepared(prepared, policy, (original.height, original.width), original.mode in _GREY)


def read_original(image: ImageLike, max_image_px: int = 100_000_000, white_level: int | None = None) -> Image.Image:
    """The image at its own size in 8-bit RGB, to draw on.

    Raises:
        DataError: as `load_image`.
    """
    return drawable(_open(image, max_image_px), white_level, name_of(image))


def drawable(original: Image.Image, white_level: int | None, where: str) -> Image.Image:
    """A decoded image in 8-bit RGB, to draw on.

    Raises:
        DataError: 16-bit or float values out of their range; `where` is what the error calls the image.
    """
    with _named_errors(where):
        deep = _unit_floats(original, white_level, where)
        if deep is not None:
            original = Image.fromarray(np.uint8(np.asarray(deep) * 255.0 + 0.5))
        return _eight_bit(original, 3)


def read_values(image: ImageLike, policy: PixelPolicy) -> Values:
    """The image at its own size as an array `(h, w)` or `(h, w, 3)`; `load_image` makes the same of either.

    8 bits; 16-bit grey as floats in [0, 1].

    Raises:
        DataError: as `load_image`.

    >>> read_values(np.full((8, 8), 51, np.uint8), PixelPolicy(size_px=(8, 8), channels=3)).shape
    (8, 8, 3)
    """
    original = _open(image, policy.max_image_px)
    with _named_errors(name_of(image)):
        deep = _unit_floats(original, policy.white_level, name_of(image))
        return np.array(_eight_bit(original, policy.channels) if deep is None else deep)


def as_pixels(values: Values) -> NDArray[np.float32]:
    """The image as float32 `(h, w, c)` in [0, 1].

    >>> as_pixels(np.full((2, 3), 255, np.uint8)).shape
    (2, 3, 1)
    """
    scale = np.float32(255 if values.dtype == np.uint8 else 1)
    pixels = np.asarray(values, np.float32) / scale
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def image_size(image: ImageLike, max_image_px: int = 100_000_000) -> tuple[int, int]:
    """Height and width in pixels after EXIF orientation; only the header of a file is read.

    Raises:
        DataError: missing, not an image, or too large.
    """
    if isinstance(image, str | Path):
        with _named_errors(Path(image)), _opened(Path(image)) as handle:
            _check_pixels(handle.size, max_image_px, str(image))
            # Asking a PNG for the orientation it does not have would decode all of it.
            turned = (handle.format != "PNG" or "exif" in handle.info) and handle.getexif().get(0x0112, 1) >= 5
            width, height = handle.size
        return (width, height) if turned else (height, width)
    width, height = _open(image, max_image_px).size
    return height, width


def is_grey(image: ImageLike, max_image_px: int = 100_000_000) -> bool:
    """Whether the file or array is stored with one channel."""
    if isinstance(image, str | Path):
        with _named_errors(Path(image)), _opened(Path(image)) as handle:
            _check_pixels(handle.size, max_image_px, str(image))
            return handle.mode in _GREY
    return _open(image, max_image_px).mode in _GREY


def load_mask(path: Path, size_px: tuple[int, int], image_size_px: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """A ground-truth mask `(h, w)`, True where defective (any value above 0), resized by nearest neighbour.

    Raises:
        DataError: unreadable, of another size than its image (`image_size_px`, height and width), or without a single
            defective pixel although it stands under a defect type.
    """
    original = _open(path, LARGEST_IMAGE_PX)
    width, height = original.size
    if image_size_px is not None and (height, width) != image_size_px:
        raise DataError(
            f"{path}: mask of {height} x {width}, its image is {image_size_px[0]} x {image_size_px[1]} "
            "(height x width); a mask must have its image's size"
        )
    if original.mode not in ("1", "L", *_SIXTEEN_BIT, "F"):
        original = original.convert("RGB")
    full = np.asarray(original)
    full = full.max(axis=2) > 0 if full.ndim == 3 else full > 0
    if not full.any():
        raise DataError(
            f"{path}: an empty mask under a defect type; mark its defective pixels or move the image to good"
        )
    resized = Image.fromarray(np.uint8(full) * 255).resize((size_px[1], size_px[0]), Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


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
            mask = _open(Path(roi), LARGEST_IMAGE_PX)
        except DataError as error:
            raise DataError(f"data.roi: {error}") from None
        if aspect is not None and abs(mask.height / mask.width / aspect - 1.0) > ASPECT_TOLERANCE:
            raise DataError(
                f"{roi}: region of interest of {mask.height} x {mask.width} (height x width), the images' aspect is "
                f"{aspect:.3g}; draw it on one of the images"
            )
        inside = np.asarray(mask if mask.mode in ("1", "L", *_SIXTEEN_BIT, "F") else mask.convert("L")) > 0
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


def name_of(image: ImageLike) -> str:
    """What an error calls this image: its path, or what kind of object it is."""
    if isinstance(image, str | Path):
        return str(image)
    return "image array" if isinstance(image, np.ndarray) else "Pillow image"


class _named_errors:  # noqa: N801  # reads as a statement: with _named_errors(path)
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


def _open(image: ImageLike, max_image_px: int, content: bytes | None = None) -> Image.Image:
    """Decoded and turned upright, in a mode of its own."""
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, Image.Image):
        _check_pixels(image.size, max_image_px, "Pillow image")
        return ImageOps.exif_transpose(image)
    if not isinstance(image, str | os.PathLike):
        raise DataError(f"an image of type {type(image).__name__}; expected a file, a Pillow image or a numpy array")
    path = Path(image)
    content = read_content(path) if content is None else content
    with _named_errors(path), SILENCE, _opened(io.BytesIO(content)) as handle:
        _check_pixels(handle.size, max_image_px, str(path))
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


def _check_pixels(size: tuple[int, int], max_image_px: int, where: str) -> None:
    width, height = size
    if width * height > max_image_px:
        raise DataError(
            f"{where}: {height} x {width} = {width * height} pixels, the limit is {max_image_px}; "
            "raise data.max_image_px if that is meant"
        )


def _check_aspect(size: tuple[int, int], policy: PixelPolicy, where: str) -> None:
    if policy.aspect is None:
        return
    width, height = size
    if abs(height / width / policy.aspect - 1.0) > ASPECT_TOLERANCE:
        raise DataError(
            f"{where}: {height} x {width} (height x width), an aspect of {height / width:.3g}; the model is for "
            f"{policy.aspect:.3g}, within {ASPECT_TOLERANCE:.0%}. Crop it, or train with data.size_px set "
            "to resize every image to one size whatever its aspect"
        )


def _unit_floats(image: Image.Image, white_level: int | None, where: str) -> Image.Image | None:
    """A 16-bit or float image as floats in [0, 1]; None for 8-bit ones."""
    if image.mode != "F" and image.mode not in _SIXTEEN_BIT:
        return None
    values = np.asarray(image, dtype=np.float32)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        if not (low >= 0.0 and high <= 1.0):  # also true for NaN
            raise DataError(f"{where}: float values from {low:g} to {high:g}; expected [0, 1], without NaN")
        return image
    if low < 0 or high > 65_535:
        raise DataError(f"{where}: integer values from {low:g} to {high:g}; expected 16 bits, 0 to 65535")
    return Image.fromarray(np.minimum(values / np.float32(white_level or 65_535), np.float32(1.0)))


def _eight_bit(image: Image.Image, channels: int) -> Image.Image:
    """8-bit grey or RGB. Transparency is laid over black."""
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        black = Image.new("RGBA", with_alpha.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, with_alpha)
    wanted = "L" if channels == 1 else "RGB"
    if image.mode == "LAB":  # which becomes grey in two steps only
        image = image.convert("RGB")
    return image if image.mode == wanted else image.convert(wanted)
