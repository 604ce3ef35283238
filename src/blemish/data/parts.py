"""Images of very many parts: segments of a JPEG and chunks of a PNG take time each, however few the pixels are."""

from collections.abc import Iterator
from typing import BinaryIO

from blemish.errors import DataError

MAX_PARTS, MIN_PART_BYTES = 1000, 256
"""A photo has a few dozen parts; a large PNG has one more for every few thousand bytes of its pixels."""
MAX_STRAY_BYTES, MAX_EXIF_BYTES = 1 << 16, 1 << 22
"""Of a JPEG: between its segments, where some programs fill the room up to a round address; and in those of EXIF."""
_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)


def refuse_many_parts(file: BinaryIO, where: str) -> None:
    """Refuse a JPEG or PNG of more parts than `MAX_PARTS` and, of a PNG, one for each `MIN_PART_BYTES` of it.

    Raises:
        DataError: it has more; `where` is what the error calls the file.
    """
    file.seek(0)
    begin = file.read(len(_PNG))
    parts = _chunks(file) if begin == _PNG else _segments(file) if begin.startswith(_JPEG) else iter(())
    for count, allowed in enumerate(parts, start=1):
        if count > allowed:
            raise DataError(f"{where}: an image of too many parts (segments or chunks); save it again")


def _chunks(file: BinaryIO) -> Iterator[int]:
    """For each chunk of a PNG, how many there may be up to it."""
    at = len(_PNG)
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return
        at += 12 + int.from_bytes(head[:4], "big")
        yield MAX_PARTS + at // MIN_PART_BYTES


def _segments(file: BinaryIO) -> Iterator[int]:
    """For each segment of a JPEG before its pixels, how many there may be: none where other bytes are too many."""
    at, stray, exif = len(_JPEG), 0, 0
    while stray <= MAX_STRAY_BYTES and exif <= MAX_EXIF_BYTES:
        file.seek(at)
        head = file.read(10)
        if len(head) < 4 or head[:2] == b"\xff\xda":
            return
        if head[0] != 0xFF or head[1] in _WITHOUT_LENGTH:
            at, stray = at + 1, stray + 1
            continue
        length = int.from_bytes(head[2:4], "big")
        at, exif = at + 2 + max(2, length), exif + length * (head[4:] == b"Exif\0\0")
        yield MAX_PARTS
    yield 0
