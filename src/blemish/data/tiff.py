"""What a TIFF file says of its pixels, and the pixels of those float images that Pillow does not read."""

import errno
import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from numbers import Rational
from typing import BinaryIO, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import DataError

MAX_PAGES = 10_000
_MAX_TAGS = 4096
_MAX_VALUES, _MAX_FEW = 1_000_000, 64
"""Of one tag: of the offsets and lengths of strips, and of others; more are not read."""
_MAX_OFFSET = 1 << 40
NOWHERE = (errno.EINVAL, errno.EOVERFLOW)
"""What the system answers where a damaged file sends the reader to a place that no file has."""
_WIDTH, _STRIPS, _TABLES = 256, (273, 279, 324, 325), 347
"""Where strips and tiles lie and how long they are; what the JPEGs in them have in common."""
_USED = frozenset(
    {*range(254, 260), 262, 266, *_STRIPS, 274, 277, 278, 284, 322, 323, 332, 336, 338, 339, _TABLES, 529, 530, 532}
)
"""The tags that say what is stored. Others are passed over, however many values they claim to have."""

_TYPES = {1: "B", 3: "H", 4: "I", 5: "I", 7: "B", 16: "Q"}
_BYTES, _RATIO, _RATIOS = 7, 5, (529, 532)
"""The kind of number that is stored, and kept, as two: what is divided, and by what; and the tags that have it."""
_LUMA_601 = (0.299, 0.587, 0.114)
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
            self._range,
            "channels one by one" if self.is_planar else "",
            "in tiles" if 322 in self.tags else "",
            "big-endian" if self.order == ">" else "",
        ]
        odd = "".join(f", {word}" for word in more if word)
        return f"{name} of {channels} of {self.bits}-bit {kind}, compression {compression}{odd}"

    @property
    def orientation(self) -> int:
        """As EXIF has it; 1 where it is none of those."""
        found = self.first(274, 1)
        return found if found in range(1, 9) else 1

    def _ratios(self, tag: int) -> tuple[float, ...]:
        found = self.tags.get(tag, ())
        return tuple(above / (below or 1) for above, below in zip(found[::2], found[1::2], strict=False))

    @property
    def _range(self) -> str:
        """What is said of brightness or ink in another range than the whole, or of other colours; else nothing."""
        black, white = (*self._ratios(532)[:2], 0, 0)[:2] if len(self._ratios(532)) > 1 else (0, 255)
        if black != 0 or white not in (255, (1 << self.bits) - 1):
            return f"black at {black:g} and white at {white:g}"
        off = (abs(found - usual) for found, usual in zip(self._ratios(529), _LUMA_601, strict=False))
        if self.first(262, 1) == 6 and max(off, default=0) > 0.01:
            return "colours as in high-definition video"
        ink = self.tags.get(336, ())
        if self.first(262, 1) == 5 and (ink[:1] > ink[1:2] or self.first(332, 1) != 1):
            return "no ink as the highest value" if self.first(332, 1) == 1 else "other inks"
        return ""

    @property
    def _is_coarse(self) -> bool:
        """Whether it is uncompressed YCbCr with fewer pixels of colour than of brightness, as Pillow does not read."""
        return self.first(262, 1) == 6 and self.first(259, 1) == 1 and set(self.tags.get(530, (1,))) != {1}

    @property
    def parts(self) -> int:
        """How many strips or tiles its pixels are in."""
        height, width = self.size_px
        rows, columns = self.first(323 if 322 in self.tags else 278, height), self.first(322, width)
        parts = -(-height // (rows or height or 1)) * -(-width // (columns or width or 1))
        return parts * (self.samples if self.is_planar else 1)

    @property
    def _lacks_pixels(self) -> bool:
        """Whether strips or tiles are not there, as in sparse files: their pixels would be black, or other bytes."""
        wanted = self.parts
        offsets = self.tags.get(324 if 322 in self.tags and 324 in self.tags else 273, ())
        return bool(offsets) and (len(offsets) < wanted or 0 in offsets[:wanted])

    def unread_reason(self) -> str:
        """Why pixels that Pillow gives would not be those of the photo; nothing where they are.

        >>> Tiff("<", {254: (1,)}, 2).unread_reason()
        'its first page is a reduced image, such as a thumbnail; save the photo alone'
        """
        if self.first(254, 0) & 1 or self.first(255, 1) == 2:
            return "its first page is a reduced image, such as a thumbnail; save the photo alone"
        if self._lacks_pixels:
            return "strips or tiles of its pixels are not there, as in a sparse or truncated file; save it again"
        if 262 not in self.tags:
            return f"{self.describe()}, which does not say whether 0 is black or white; save it again"
        is_swapped = self.order == ">" and self.bits == 32 and self.first(259, 1) != 1  # by libtiff and by Pillow
        is_odd_plane = self.is_planar and (
            self.first(262, 1) in (6, 8) or (self.bits == 16 and self.samples > 3 and self.first(338, 1) != 2)
        )
        # libtiff turns them into RGB itself, and gives black where they are damaged or cut off.
        is_unchecked = self.first(262, 1) == 6 and self.first(259, 1) not in (1, 6, 7)
        is_odd_grey = self.samples == 2 and self.first(338, 2) == 1  # already multiplied by its opacity
        is_odd = bool(self._range) or is_swapped or is_odd_plane or is_unchecked or is_odd_grey
        if self._is_coarse or is_odd or (self.is_signed and self.bits == 8):
            return f"{self.describe()}, which is not read; save it as 8- or 16-bit grey or RGB"
        return ""


def read_tiff(file: BinaryIO) -> Tiff | None:
    """The tags of a TIFF or BigTIFF file that say what its pixels are; None of other files.

    Raises:
        ValueError: they cannot be followed; without them other pixels might be read than are stored.
        OSError: the disk does not give them.
    """
    file.seek(0)
    start = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    version = int.from_bytes(start[2:4], "little" if order == "<" else "big")
    if order is None or version not in (42, 43):
        return None
    is_big = version == 43
    try:
        offset = struct.unpack(order + ("Q" if is_big else "I"), start[8:16] if is_big else start[4:8])[0]
        pages = _directories(file, order, is_big, offset)
        first = next(pages, {})
        pointer = "Q" if is_big else "I"
        tags = {number: _values(file, order, pointer, first[number]) for number in first.keys() & _USED}
    except (struct.error, OverflowError):
        tags = {}
    except OSError as error:
        if error.errno not in NOWHERE:
            raise
        tags = {}
    if not tags:
        raise ValueError(f"a TIFF whose tags cannot be read, or of more than {_MAX_TAGS}")
    return Tiff(order, tags, 1 + sum(1 for _ in pages), is_big)


def tiff_of(prefix: bytes, tags: Mapping[int, object]) -> Tiff:
    """The same from what Pillow has read of a file."""
    values = {
        tag: value if isinstance(value, tuple | bytes) else (value,) for tag, value in tags.items() if tag in _USED
    }
    numbers = {tag: tuple(chain(*map(_whole_numbers, value))) for tag, value in values.items()}
    return Tiff("<" if prefix == b"II" else ">", {tag: value for tag, value in numbers.items() if value}, 1)


def _whole_numbers(value: object) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,)
    return (int(value.numerator), int(value.denominator)) if isinstance(value, Rational) else ()


def _directories(file: BinaryIO, order: str, is_big: bool, offset: int) -> Iterator[dict[int, bytes]]:
    """The rows of each page by their tags; a pointer to what is no page ends them."""
    seen: set[int] = set()
    count_type, row, pointer = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    while 0 < offset <= _MAX_OFFSET and offset not in seen and len(seen) < MAX_PAGES:
        file.seek(offset)
        head = file.read(struct.calcsize(count_type)).ljust(struct.calcsize(count_type), b"\0")
        count = struct.unpack(order + count_type, head)[0]
        rows = file.read(row * count) if count <= _MAX_TAGS else b""
        tags = {
            struct.unpack(order + "H", rows[place : place + 2])[0]: rows[place : place + row]
            for place in reversed(range(0, len(rows), row))  # the first counts of a tag that is there twice
        }
        if _WIDTH not in tags or len(rows) < row * count:
            return
        seen.add(offset)
        following = file.read(struct.calcsize(pointer)).ljust(struct.calcsize(pointer), b"\0")
        yield tags
        offset = struct.unpack(order + pointer, following)[0]


def _values(file: BinaryIO, order: str, pointer: str, row: bytes) -> tuple[int, ...]:
    """A tag's values, (0,) of a kind that is none of a number; of all but the places of strips only the first."""
    number, kind = struct.unpack(order + "HH", row[:4])
    wide = struct.calcsize(pointer)
    count = struct.unpack(order + pointer, row[4 : 4 + wide])[0]
    is_other = (kind == _RATIO) != (number in _RATIOS) or (kind == _BYTES and number != _TABLES)
    if kind not in _TYPES or is_other or not 0 < count <= _MAX_VALUES:
        return (0,)
    count *= 2 if kind == _RATIO else 1
    size = struct.calcsize(order + _TYPES[kind])
    wanted = count if number in (*_STRIPS, _TABLES) else min(count, _MAX_FEW)
    values = row[4 + wide :]
    if count * size > wide:
        file.seek(struct.unpack(order + pointer, values)[0])
        values = file.read(wanted * size)
    return struct.unpack(f"{order}{wanted}{_TYPES[kind]}", values[: wanted * size])


def _up_to(length: int, parts: Iterable[bytes]) -> Iterator[bytes]:
    """Parts, the last one cut off, until they have that length together: strips may lie on one another."""
    for part in parts:
        yield part[:length]
        length -= len(part)
        if length <= 0:
            return


def read_floats(tiff: Tiff, content: bytes, where: str) -> NDArray[np.float32]:
    """The pixels `(h, w)` or `(h, w, 3)` of an uncompressed float image, as stored: not turned upright.

    Raises:
        DataError: it is of another kind; `where` is what the error calls the file.
    """
    is_plain = tiff.first(259, 1) == 1 and 273 in tiff.tags and set(tiff.tags.get(339, ())) == {3}
    colours = {1: (0, 1), 3: (2,)}.get(tiff.samples, ())
    if not is_plain or tiff.bits not in (16, 32, 64) or tiff.first(262, 1) not in colours:
        raise DataError(f"{where}: {tiff.describe()}, which is not read; save it as 8- or 16-bit grey or RGB")
    shape = (*tiff.size_px, tiff.samples)
    wanted = math.prod(shape) * tiff.bits // 8
    stored = b""
    if wanted <= len(content):
        strips = zip(tiff.tags[273], tiff.tags.get(279, ()), strict=False)
        stored = b"".join(_up_to(wanted, (content[offset : offset + length] for offset, length in strips)))
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
