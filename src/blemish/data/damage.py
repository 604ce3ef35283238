"""Images damaged in their middle, which Pillow decodes without a word into shifted, grey or foreign content."""

import math
import re
import zlib
from collections.abc import Iterator

import simplejpeg

from blemish.data.tiff import Tiff

MAX_PADDING_BYTES = 10
"""Some cameras fill up the pixels of a JPEG, or those between two restart markers, with so many bytes."""
_EOI, _SOS, _ADOBE = 0xD9, 0xDA, 0xEE
_SEQUENTIAL = (0xC0, 0xC1)
_FRAMES = (*_SEQUENTIAL, 0xC2)
_METADATA = ({*range(0xE0, 0xF0)} - {_ADOBE}) | {0xFE}
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
"""Of a segment with a length, or of the end."""
_STRAY = re.compile(r": (\d+) extraneous bytes before marker 0xd([0-79])")
_DEFLATE, _JPEG = (8, 32946), 7
_PIECE = 1 << 20
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def refuse_damage(image_format: str | None, content: bytes, size_px: tuple[int, int], tiff: Tiff | None = None) -> None:
    """Refuse a JPEG that libjpeg cannot follow without making up pixels or that lacks scans, and a TIFF of JPEG or
    deflate likewise.

    A PNG has check sums, which Pillow asks for. Other kinds have none: what is damaged in them is not noticed.

    Raises:
        ValueError: it is damaged; without the file's name.
    """
    room = math.prod(size_px) if tiff is None else _room(tiff)
    for jpeg in jpegs_of(image_format, content, tiff):
        room -= _refuse_jpeg(jpeg, room)
    if tiff is not None and image_format == "TIFF" and tiff.first(259, 1) in _DEFLATE:
        _refuse_deflate(tiff, content)


def jpegs_of(image_format: str | None, content: bytes, tiff: Tiff | None) -> Iterator[bytes]:
    """Each JPEG that an image's pixels are in: the file, or the strips and tiles of a TIFF with what they share."""
    if image_format in ("JPEG", "MPO"):
        yield content
    elif tiff is not None and image_format == "TIFF" and tiff.first(259, 1) == _JPEG:
        tables = bytes(tiff.tags.get(347, ()))[2:-2]  # between marks of their own
        for strip in _strips(tiff, content):
            yield strip[:2] + tables + strip[2:]


def count_scans(jpeg: bytes) -> int:
    """How many scans a JPEG has; of several one behind the other, and of what else follows, the first counts."""
    return sum(marker == _SOS for marker, _, _ in _segments(jpeg))


def end_of(jpeg: bytes) -> int:
    """Where the mark at the end of a JPEG is; -1 where it has none."""
    return next((start for marker, start, _ in _segments(jpeg) if marker == _EOI), -1)


def _segments(jpeg: bytes) -> Iterator[tuple[int, int, int]]:
    """The marker of each segment up to the end of the image, and from where to where it goes."""
    at = 2
    while found := _MARKER.search(jpeg, at):
        marker, start = found[1][0], found.start()
        if marker == _EOI:
            yield marker, start, start + 2
            return
        at = start + 2 + max(2, int.from_bytes(jpeg[start + 2 : start + 4], "big"))
        yield marker, start, at


def _strips(tiff: Tiff, content: bytes) -> Iterator[bytes]:
    """The strips or tiles that a TIFF's pixels are in, up to the file's length in all: they may lie on one another."""
    offsets, lengths = (324, 325) if 324 in tiff.tags else (273, 279)
    left = len(content)
    for offset, length in zip(tiff.tags.get(offsets, ())[: tiff.parts], tiff.tags.get(lengths, ()), strict=False):
        left -= length
        if left < 0:
            return
        yield content[offset : offset + length]


def _room(tiff: Tiff) -> int:
    """Of how many pixels strips and tiles may be in all: those at the edges reach beyond the image."""
    return 4 * math.prod(tiff.size_px) + _PIECE


def _refuse_jpeg(content: bytes, most_px: int) -> int:
    """How many pixels it has; one that has more than allowed is not looked at: it is no part of the image."""
    bare = _without_metadata(content)
    try:
        pixels = int(math.prod(simplejpeg.decode_jpeg_header(bare, strict=False)[:2]))
    except ValueError:
        return 0
    if pixels > most_px:
        return 0
    end = end_of(bare)
    try:  # at an eighth of its size, where decoding is cheap and looks at all bytes nevertheless
        whole = bare + bytes((0xFF, _EOI)) if end < 0 else bare[: end + 2]
        simplejpeg.decode_jpeg(whole, "GRAY", min_height=1, min_width=1)
    except ValueError as error:
        stray = _STRAY.search(str(error))
        if "Corrupt JPEG data" in str(error) and not (
            stray and _is_padding(bare, end, int(stray[1]), stray[2])
        ):  # other kinds of doubt change no pixel
            raise
    if _lacks_scans(bare):
        raise ValueError("some of its scans are not there")
    return pixels


def _is_padding(bare: bytes, end: int, stray_bytes: int, marker: str) -> bool:
    """Whether bytes before a marker are none of pixels; before the end they may be many, all alike."""
    is_filled = end < 0 or len(set(bare[max(0, end - stray_bytes) : end])) == 1
    return stray_bytes <= MAX_PADDING_BYTES or (marker == "9" and is_filled)


def _without_metadata(content: bytes) -> bytes:
    """A JPEG without what libjpeg would first doubt: metadata, bytes between segments, odd numbers of a scan."""
    parts, is_sequential = [content[:2]], False
    for marker, start, end in _segments(content):
        if marker == _SOS and is_sequential:
            return b"".join((*parts, content[start : end - 3], b"\0\x3f\0", content[end:]))
        if marker == _SOS:
            return b"".join((*parts, content[start:]))
        if marker not in _METADATA:
            parts.append(content[start:end])
        is_sequential |= marker in _SEQUENTIAL
    return content


def _lacks_scans(bare: bytes) -> bool:
    """Whether no scan has all of a component, as in a progressive JPEG that was cut off between two: it is blurred."""
    missing: dict[int, set[int]] = {}  # of each component, the coefficients that are not there to their last bit
    is_progressive = False
    for marker, start, end in _segments(bare):
        part = bare[start + 4 : end]
        if marker in _FRAMES:
            is_progressive = marker not in _SEQUENTIAL
            missing = {component: set(range(64)) for component in part[6 : 6 + 3 * part[5] : 3]}
        elif marker == _SOS and len(numbers := part[1 + 2 * int.from_bytes(part[:1]) :]) == 3:
            first, last, bits = numbers if is_progressive else (0, 63, 0)
            if not bits & 15:
                for component in part[1:-3:2]:
                    missing.get(component, set()).difference_update(range(first, last + 1))
    return any(missing.values())


def _refuse_deflate(tiff: Tiff, content: bytes) -> None:
    """libtiff stops at the last pixel of a strip, before its check sum."""
    room = _room(tiff) * tiff.samples * tiff.bits // 8
    for strip in _strips(tiff, content):
        stream, rest = zlib.decompressobj(), strip.translate(_REVERSED) if tiff.first(266, 1) == 2 else strip
        while rest and not stream.eof and room > 0:
            try:
                room -= len(stream.decompress(rest, _PIECE))
            except zlib.error as error:
                raise ValueError(str(error)) from None
            rest = stream.unconsumed_tail
