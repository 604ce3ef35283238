"""Images damaged in their middle, which Pillow decodes without a word into shifted, grey or foreign content."""

import math
import re
import zlib
from collections.abc import Iterator

import simplejpeg

from blemish.data.tiff import Tiff

MAX_PADDING_BYTES = 10
"""Some cameras fill up the pixels of a JPEG, or those between two restart markers, with so many bytes."""
_SOI, _EOI, _SOS, _ADOBE = 0xD8, b"\xff\xd9", 0xDA, 0xEE
_SEQUENTIAL = (0xC0, 0xC1)
_FRAMES = (*_SEQUENTIAL, 0xC2)
_METADATA = ({*range(0xE0, 0xF0)} - {_ADOBE}) | {0xFE}
_WITHOUT_LENGTH = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)
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
    if image_format in ("JPEG", "MPO"):
        _refuse_jpeg(content, math.prod(size_px))
    compression = tiff.first(259, 1) if tiff is not None and image_format == "TIFF" else 0
    if tiff is not None and compression == _JPEG:
        tables = bytes(tiff.tags.get(347, ()))[2:-2]  # between marks of their own
        room = _room(tiff)
        for strip in _strips(tiff, content):
            room -= _refuse_jpeg(strip[:2] + tables + strip[2:], room)
    elif tiff is not None and compression in _DEFLATE:
        _refuse_deflate(tiff, content)


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
    has_end = bare.rfind(_EOI) > bare.rfind(b"\xff\xda")
    try:  # at an eighth of its size, where decoding is cheap and looks at all bytes nevertheless
        simplejpeg.decode_jpeg(bare if has_end else bare + _EOI, "GRAY", min_height=1, min_width=1)
    except ValueError as error:
        stray = _STRAY.search(str(error))
        if "Corrupt JPEG data" in str(error) and not (
            stray and _is_padding(bare, has_end, int(stray[1]), stray[2])
        ):  # other kinds of doubt change no pixel
            raise
    if _lacks_scans(bare):
        raise ValueError("some of its scans are not there")
    return pixels


def _is_padding(bare: bytes, has_end: bool, stray_bytes: int, marker: str) -> bool:
    """Whether bytes before a marker are none of pixels; before the end they may be many, all alike."""
    end = bare.rfind(_EOI)
    is_filled = marker == "9" and len(set(bare[max(0, end - stray_bytes) : end])) == 1
    return stray_bytes <= MAX_PADDING_BYTES or is_filled or (marker == "9" and not has_end)


def _without_metadata(content: bytes) -> bytes:
    """A JPEG without what libjpeg would first doubt: metadata, bytes between segments, odd numbers of a scan."""
    parts, at, is_sequential = [content[:2]], 2, False
    while at + 4 <= len(content):
        marker = content[at + 1]
        if content[at] != 0xFF or marker in _WITHOUT_LENGTH:
            at += 1
            continue
        end = at + 2 + max(2, int.from_bytes(content[at + 2 : at + 4], "big"))
        if marker == _SOS and is_sequential:
            return b"".join((*parts, content[at : end - 3], b"\0\x3f\0", content[end:]))
        if marker == _SOS:
            return b"".join((*parts, content[at:]))
        if marker not in _METADATA:
            parts.append(content[at:end])
        is_sequential |= marker in _SEQUENTIAL
        at = end
    return content


def _lacks_scans(bare: bytes) -> bool:
    """Whether no scan has all of a component, as in a progressive JPEG that was cut off between two: it is blurred."""
    missing: dict[int, set[int]] = {}  # of each component, the coefficients that are not there to their last bit
    at, is_progressive = 2, False
    while at + 4 < len(bare) and bare[at + 1] != _SOS:
        if bare[at + 1] in _FRAMES:
            is_progressive = bare[at + 1] not in _SEQUENTIAL
            components = bare[at + 10 : at + 10 + 3 * bare[at + 9] : 3]
            missing = {component: set(range(64)) for component in components}
        at += 2 + int.from_bytes(bare[at + 2 : at + 4], "big")
    end = bare.find(_EOI, at)  # further photos may follow
    while 0 <= at < len(bare) - 8:
        of_numbers = at + 5 + 2 * bare[at + 4]
        if of_numbers + 3 > len(bare):
            break
        first, last, bits = bare[of_numbers : of_numbers + 3] if is_progressive else (0, 63, 0)
        if not bits & 15:
            for component in bare[at + 5 : of_numbers : 2]:
                missing.get(component, set()).difference_update(range(first, last + 1))
        at = bare.find(b"\xff\xda", at + 2, None if end < 0 else end)
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
