"""What a TIFF file says of its pixels, and the pixels of those float images that Pillow does not read."""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError

MAX_PAGES = 10_000
_MAX_VALUES = 1_000_000
"""Of one tag, such as the offsets of strips; more are not read."""

_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_FORMATS = {1: "unsigned integers", 2: "signed integers", 3: "floats", 5: "complex integers", 6: "complex numbers"}
_COMPRESSIONS = {1: "none", 5: "LZW", 7: "JPEG", 8: "deflate", 32773: "PackBits", 32946: "deflate", 50000: "Zstandard"}
_COLOURS = {
    3: "a palette",
    4: "a transparency mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELab",
    32803: "a raw sensor (CFA)",
    34892: "raw",
}


@final
class Tiff(NamedTuple):
    """The first page's tags, and how many pages there are."""

    order: str  # < or >, as `struct` has it
    tags: dict[int, tuple[int, ...]]
    pages: int
    is_big: bool = False

    def first(self, tag: int, default: int) -> int:
        """A tag's first value."""
        return self.tags.get(tag, (default,))[0]

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width as stored."""
        return self.first(257, 0), self.first(256, 0)

    @property
    def bits(self) -> int:
        """Of one channel."""
        return max(self.tags.get(258, (1,)))

    @property
    def is_min_white(self) -> bool:
        """Whether 0 is white."""
        return self.first(262, 1) == 0

    @property
    def is_signed(self) -> bool:
        """Whether pixels are signed integers."""
        return 2 in self.tags.get(339, ())

    @property
    def is_planar(self) -> bool:
        """Whether each channel is stored by itself."""
        return self.first(284, 1) == 2 and self.samples > 1

    @property
    def samples(self) -> int:
        """Channels."""
        return self.first(277, 1)

    def describe(self) -> str:
        """What the file is, for messages.

        >>> Tiff("<", {258: (32, 32, 32), 277: (3,), 339: (3, 3, 3), 259: (5,)}, 1).describe()
        'a TIFF of 3 channels of 32-bit floats, compression LZW'
        """
        kind = _FORMATS.get(self.first(339, 1), "numbers of an unknown kind")
        channels = f"{self.samples} channel{'s' if self.samples > 1 else ''}"
        compression = _COMPRESSIONS.get(self.first(259, 1), str(self.first(259, 1)))
        name = "a BigTIFF" if self.is_big else "a TIFF"
        more = [
            _COLOURS.get(self.first(262, 1), ""),
            "colours at a lower resolution" if self._is_coarse else "",
            "0 is white" if self.is_min_white else "",
            "channels one by one" if self.is_planar else "",
            "in tiles" if 322 in self.tags else "",
            "big-endian" if self.order == ">" else "",
        ]
        odd = "".join(f", {word}" for word in more if word)
        return f"{name} of {channels} of {self.bits}-bit {kind}, compression {compression}{odd}"

    @property
    def orientation(self) -> int:
        """As EXIF has it."""
        return self.first(274, 1)

    @property
    def _is_coarse(self) -> bool:
        """Whether it is uncompressed YCbCr with fewer pixels of colour than of brightness, as Pillow does not read."""
        return self.first(262, 1) == 6 and self.first(259, 1) == 1 and set(self.tags.get(530, (1,))) != {1}

    def unread_reason(self) -> str:
        """Why pixels that Pillow gives would not be those of the photo; nothing where they are.

        >>> Tiff("<", {254: (1,)}, 2).unread_reason()
        'its first page is a reduced image, such as a thumbnail; save the photo alone'
        """
        if self.first(254, 0) & 1 or self.first(255, 1) == 2:
            return "its first page is a reduced image, such as a thumbnail; save the photo alone"
        is_swapped = self.order == ">" and self.bits == 32 and self.first(259, 1) != 1  # by libtiff and by Pillow
        is_odd_plane = self.is_planar and (
            self.first(262, 1) == 6 or (self.bits == 16 and self.samples > 3 and self.first(338, 1) != 2)
        )
        is_odd_grey = self.samples == 2 and self.first(338, 2) == 1  # already multiplied by its opacity
        if self._is_coarse or is_swapped or is_odd_plane or is_odd_grey or (self.is_signed and self.bits == 8):
            return f"{self.describe()}, which is not read; save it as 8- or 16-bit grey or RGB"
        return ""


def read_tiff(file: BinaryIO) -> Tiff | None:
    """The tags of a TIFF or BigTIFF file; None of other files, and where they cannot be followed."""
    try:
        file.seek(0)
        start = file.read(16)
        order = {b"II": "<", b"MM": ">"}[start[:2]]
        version = struct.unpack(order + "H", start[2:4])[0]
        if version not in (42, 43):
            return None
        is_big = version == 43
        offset = struct.unpack(order + ("Q" if is_big else "I"), start[8:16] if is_big else start[4:8])[0]
        directories = list(_directories(file, order, is_big, offset))
        return Tiff(order, directories[0], len(directories), is_big) if directories and directories[0] else None
    except (KeyError, struct.error, OSError, OverflowError, ValueError):
        return None


def _directories(file: BinaryIO, order: str, is_big: bool, offset: int) -> Iterator[dict[int, tuple[int, ...]]]:
    """The tags of the first page, and empty ones of the others, of which only the number counts."""
    seen: set[int] = set()
    count_type, row, pointer = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    while offset and offset not in seen and len(seen) < MAX_PAGES:
        is_first = not seen
        seen.add(offset)
        file.seek(offset)
        count = struct.unpack(order + count_type, file.read(struct.calcsize(count_type)))[0]
        if count > 4096:
            return
        rows = file.read(row * count)
        following = file.read(struct.calcsize(pointer))
        if is_first:
            tags = (rows[place : place + row] for place in range(0, len(rows), row))
            yield dict(_tag(file, order, pointer, content) for content in tags)
        else:
            yield {}
        offset = struct.unpack(order + pointer, following)[0]


def _tag(file: BinaryIO, order: str, pointer: str, content: bytes) -> tuple[int, tuple[int, ...]]:
    number, kind = struct.unpack(order + "HH", content[:4])
    wide = struct.calcsize(pointer)
    count = struct.unpack(order + pointer, content[4 : 4 + wide])[0]
    if kind not in _TYPES or not 0 < count <= _MAX_VALUES:
        return number, (0,)
    form = f"{order}{count}{_TYPES[kind]}"
    length = struct.calcsize(form)
    values = content[4 + wide :]
    if length > wide:
        file.seek(struct.unpack(order + pointer, values)[0])
        values = file.read(length)
    return number, struct.unpack(form, values[:length])


def read_floats(tiff: Tiff, content: bytes, where: str) -> NDArray[np.float32]:
    """The pixels `(h, w)` or `(h, w, 3)` of an uncompressed float image, as stored: not turned upright.

    Raises:
        DataError: it is of another kind; `where` is what the error calls the file.
    """
    is_plain = tiff.first(259, 1) == 1 and 273 in tiff.tags and set(tiff.tags.get(339, ())) == {3}
    colours = {1: (0, 1), 3: (2,)}.get(tiff.samples, ())
    if not is_plain or tiff.bits not in (16, 32, 64) or tiff.first(262, 1) not in colours:
        raise DataError(f"{where}: {tiff.describe()}, which is not read; save it as 8- or 16-bit grey or RGB")
    strips = zip(tiff.tags[273], tiff.tags.get(279, ()), strict=False)
    stored = b"".join(content[offset : offset + length] for offset, length in strips)
    shape = (*tiff.size_px, tiff.samples)
    wanted = int(np.prod(shape)) * tiff.bits // 8
    if len(stored) < wanted:
        raise DataError(
            f"{where}: a truncated image, {len(stored)} of {wanted} bytes of pixels are there; copy it again"
        )
    flat = np.frombuffer(stored[:wanted], f"{tiff.order}f{tiff.bits // 8}").astype(np.float32)
    if tiff.is_min_white:
        flat = np.float32(1.0) - flat
    if tiff.is_planar:
        return np.ascontiguousarray(flat.reshape(shape[2], shape[0], shape[1]).transpose(1, 2, 0))
    return flat.reshape(shape) if tiff.samples == 3 else flat.reshape(shape[:2])
