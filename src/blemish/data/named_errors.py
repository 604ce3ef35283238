"""Errors of reading an image file, with its name and what it is instead of an image."""

import errno
import io
import re
from contextlib import suppress
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from blemish.data.tiff import NOWHERE, read_tiff
from blemish.errors import BlemishError, DataError
from blemish.settings import LARGEST_IMAGE_PX, open_regular


class DiskError(DataError):
    """A file is not given by the disk or the share that it lies on, or not now; it may be whole."""


class named_errors:  # noqa: N801  # reads as a statement: with named_errors(path)
    """Turns Pillow's and the system's errors into a DataError with the file's name.

    What comes with its `content` is told by that: its name may be a sender's, and no file of this machine's.
    """

    def __init__(self, path: Path | str, content: bytes | None = None) -> None:
        self.path, self.content = path, content

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, BlemishError | Warning) or not isinstance(error, Exception):
            return
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{self.path}: no such file") from None
        if isinstance(error, IsADirectoryError):
            raise DataError(f"{self.path}: a folder, not an image") from None
        if isinstance(error, OSError) and error.errno in (errno.ENODEV, errno.ENXIO):
            raise DataError(f"{self.path}: a device or a pipe, not an image file") from None
        if isinstance(error, OSError) and error.errno in (errno.EFBIG, errno.ELOOP):
            raise DataError(f"{self.path}: {error.strerror}; not an image that can be read") from None
        if isinstance(error, PermissionError):
            raise DataError(f"{self.path}: no permission to read it") from None
        if isinstance(error, UnidentifiedImageError):
            raise DataError(f"{self.path}: {_describe_unread(Path(self.path), self.content)}") from None
        if isinstance(error, Image.DecompressionBombError):
            raise DataError(f"{self.path}: more than {LARGEST_IMAGE_PX} pixels; crop or reduce it first") from None
        if isinstance(error, MemoryError):
            raise DataError(f"{self.path}: more than this machine's memory holds") from None
        if isinstance(error, OSError) and error.errno in NOWHERE:
            raise DataError(f"{self.path}: a damaged image (it points to a place that no file has)") from None
        if isinstance(error, OSError) and error.errno is not None:
            raise DiskError(f"{self.path}: cannot be read: {error.strerror}") from None
        if "MAX_TEXT" in str(error):  # Pillow's limits
            what = "more than 1 MiB in one of its texts or its colour profile, or 64 MiB in all"
            raise DataError(f"{self.path}: a PNG with {what}; save it without metadata") from None
        # Of an odd file Pillow may raise anything, and one file must not end a watch or an archive.
        raise DataError(f"{self.path}: a damaged or truncated image ({str(error) or type(error).__name__})") from None


_UNREAD = {
    "a GIF image": rb"GIF8",
    "a HEIC image": rb"....ftyp(hei|hev|mif1|msf1)",
    "an AVIF image": rb"....ftypavi",
    "a Canon raw image": rb"....ftypcrx|(II|MM)..........?CR",
    "a film": rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ",
    "a JPEG XL image": rb"\xff\x0a|\0\0\0\x0cJXL ",
    "a JPEG 2000 image": rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51",
    "a Fujifilm raw image": rb"FUJIFILM",
    "an OpenEXR image": rb"v/1\x01",
    "a Radiance image": rb"#\?RADIANCE",
    "a Photoshop file": rb"8BPS",
    "a PNM image": rb"P[1-7fF]\s",
    "an array of numpy's, which the library takes": rb"\x93NUMPY",
    "a damaged JPEG, or one of 12 bits or without loss": rb"\xff\xd8\xff",
    "a damaged PNG": rb"\x89PNG",
    "a PDF document": rb"%PDF",
    "a ZIP archive": rb"PK\x03\x04",
    "a page of HTML or a drawing in SVG": rb"\s*<(!DOCTYPE|html|svg|\?xml)",
    "a pointer to a file that Git LFS has not fetched": rb"version https://git-lfs",
    "a damaged or truncated TIFF": rb"II[*+]\0|MM\0[*+]",
    "a DICOM image": rb".{128}DICM",
    "a FITS image": rb"SIMPLE  =",
    "a compressed file": rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf",
    "a file of zeros, as a copy leaves it that has not been written": rb"\0{132}",
    "an empty file": rb"\Z",
}
"""What is given as an image and is none that is read, by how it begins."""


def _describe_unread(path: Path, content: bytes | None) -> str:
    """What a file is that is no image that can be read."""
    begin = b""
    with suppress(OSError, ValueError), open_regular(path) if content is None else io.BytesIO(content) as file:
        begin = file.read(132)
        if tiff := read_tiff(file):
            return f"{tiff.describe()}, which is not read; save it as 8- or 16-bit grey or RGB"
    found = next((name for name, form in _UNREAD.items() if re.match(form, begin, re.DOTALL | re.IGNORECASE)), "")
    if not found:
        return "not an image that can be read (PNG, JPEG, BMP, TIFF or WebP)"
    return f"{found}; the images that are read are PNG, JPEG, BMP, TIFF and WebP"
