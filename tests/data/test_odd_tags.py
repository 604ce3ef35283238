"""Image files whose tags, segments or chunks are damaged, unknown or very many."""

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish.data.decode import read_header
from blemish.data.images import PixelPolicy, load_image
from blemish.data.parts import MAX_PARTS
from blemish.errors import DataError

DEEP = np.random.default_rng(1).integers(0, 65_536, (24, 20, 3), np.uint16)
COLOUR = PixelPolicy(size_px=(24, 20), channels=3)
ONE = PixelPolicy(size_px=(24, 20), channels=1)
NOWHERE = 10**7


def planar(path: Path, *more: bytes, following: bytes = bytes(4)) -> Path:
    """A planar 16-bit TIFF, which Pillow alone reads as other pixels, with more rows of tags."""
    stored = io.BytesIO()
    tifffile.imwrite(stored, DEEP.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", metadata=None)
    content = bytearray(stored.getvalue())
    start = struct.unpack("<I", content[4:8])[0]
    count = struct.unpack("<H", content[start : start + 2])[0]
    rows = content[start + 2 : start + 2 + 12 * count]
    content[4:8] = struct.pack("<I", len(content))
    path.write_bytes(content + struct.pack("<H", count + len(more)) + rows + b"".join(more) + following)
    return path


def row(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack("<HHII", tag, kind, count, value)


DAMAGED = {
    "a tag of a maker that lies nowhere": {"more": [row(65_000, 3, 100, NOWHERE)]},
    "a tag of a maker that is very long": {"more": [row(65_000, 3, 999_999, 8)]},
    "a tag twice, of which the first counts": {"more": [row(284, 3, 1, 1)]},
    "no pointer to another page": {"more": [], "following": b""},
    "a pointer to nothing": {"more": [], "following": struct.pack("<I", NOWHERE)},
    "a pointer to what is no page": {"more": [], "following": struct.pack("<I", 9)},
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_tag_or_page_does_not_hide_what_the_others_say(kind: str, tmp_path: Path) -> None:
    more = DAMAGED[kind]
    path = planar(tmp_path / "a.tif", *more["more"], following=more.get("following", bytes(4)))
    assert read_header(path).pages == 1
    np.testing.assert_allclose(load_image(path, COLOUR), (DEEP >> 8).transpose(2, 0, 1) / 255, atol=1e-6)


def test_tags_that_cannot_be_followed_are_refused(tmp_path: Path) -> None:
    lost = planar(tmp_path / "lost.tif")
    content = lost.read_bytes().replace(struct.pack("<HHI", 258, 3, 3), struct.pack("<HHI", 258, 3, 9_000_000))
    lost.write_bytes(content[:4] + struct.pack("<I", len(content)) + content[8:])
    many = planar(tmp_path / "many.tif", *(row(40_000 + number, 1, 1, 0) for number in range(4200)))
    for path in (lost, many):
        for read in (read_header, lambda path: load_image(path, COLOUR)):
            with pytest.raises(DataError, match=rf"{path.name}: .*a TIFF whose tags cannot be read, or of more than 4"):
                read(path)


def test_tags_that_show_the_same_bytes_again_and_again_take_no_memory(tmp_path: Path) -> None:
    path = planar(tmp_path / "a.tif", *(row(40_000 + number, 1, 900_000, 8) for number in range(20)))
    path.write_bytes(path.read_bytes() + bytes(1_000_000))
    tracemalloc.start()
    try:
        read_header(path)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_floats_of_more_pixels_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.float16(DEEP[..., 0] / 65_535)
    tifffile.imwrite(path, pixels, photometric="minisblack", rowsperstrip=1, metadata=None)
    np.testing.assert_allclose(load_image(path, ONE)[0], pixels, atol=1e-3)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tag = file.pages[0].tags[257]
        content[tag.valueoffset : tag.valueoffset + 4] = struct.pack("<I", 5_000_000)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: strips or tiles of its pixels are not there"):
        load_image(path, ONE)


def test_reading_an_image_asks_for_the_memory_of_its_bytes(tmp_path: Path) -> None:
    Image.fromarray(np.uint8(DEEP >> 8)).save(tmp_path / "a.png")
    tracemalloc.start()
    try:
        load_image(tmp_path / "a.png", COLOUR)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def segment(marker: int, data: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


MANY = {
    "segments of EXIF": ("JPEG", 2, segment(0xE1, b"Exif\0\0MM\0*"), MAX_PARTS),
    "long segments of EXIF": ("JPEG", 2, segment(0xE1, b"Exif\0\0MM\0*" + bytes(60_000)), 80),
    "comments": ("JPEG", 2, segment(0xFE, b""), MAX_PARTS),
    "bytes between segments": ("JPEG", 2, b"\xff", 70_000),
    "chunks of text": ("PNG", 33, chunk(b"tEXt", b"a\0b"), 2 * MAX_PARTS),
    "chunks without pixels": ("PNG", 33, chunk(b"IDAT", b""), 2 * MAX_PARTS),
    "chunks behind the pixels": ("PNG", -12, chunk(b"abCd", b""), 2 * MAX_PARTS),
}


@pytest.mark.parametrize("kind", MANY)
def test_images_of_very_many_parts_are_refused(kind: str, tmp_path: Path) -> None:
    form, place, part, count = MANY[kind]
    stored = io.BytesIO()
    Image.fromarray(np.uint8(DEEP >> 8)).save(stored, form)
    content = stored.getvalue()
    path = tmp_path / "a.png"
    path.write_bytes(content[:place] + part * count + content[place:])
    for read in (read_header, lambda path: load_image(path, COLOUR)):
        with pytest.raises(DataError, match=r"a\.png: an image of too many parts \(segments or chunks\)"):
            read(path)
    path.write_bytes(content[:place] + part * (count // 4) + content[place:])
    assert load_image(path, COLOUR).shape == (3, 24, 20)


@pytest.mark.parametrize(
    "value",
    [(3, 1, b"\x09"), (3, 1, b"\xff\xff"), (1, 1, b"\x06"), (2, 2, b"6\0"), (7, 1, b"\x06"), (9, 1, b"\xff" * 4)],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_an_orientation_that_is_none_turns_nothing(form: str, value: tuple[int, int, bytes], tmp_path: Path) -> None:
    kind, count, given = value
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<HHHI4s", 1, 0x0112, kind, count, given) + bytes(4)
    path = tmp_path / "a.png"
    Image.fromarray(np.uint8(DEEP >> 8)).save(path, form, exif=exif)
    header = read_header(path)
    assert (header.size_px, header.orientation, header.is_turned) == ((24, 20), 1, False)
    assert load_image(path, COLOUR).shape == (3, 24, 20)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt"])
def test_a_png_with_very_long_metadata_is_not_called_damaged(kind: bytes, tmp_path: Path) -> None:
    stored = io.BytesIO()
    Image.fromarray(np.uint8(DEEP >> 8)).save(stored, "PNG")
    long = chunk(kind, b"a\0\0" + zlib.compress(bytes(3_000_000)))
    (tmp_path / "a.png").write_bytes(stored.getvalue()[:33] + long + stored.getvalue()[33:])
    for read in (read_header, lambda path: load_image(path, COLOUR)):
        with pytest.raises(DataError, match=r"a\.png: a PNG with more than 1 MiB in .* save it without metadata"):
            read(tmp_path / "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_grey_that_a_png_calls_transparent_is_of_its_own_bits(bits: int, tmp_path: Path) -> None:
    highest = (1 << bits) - 1
    values = (DEEP[..., 0] % (highest + 1)).astype(np.uint8)
    packed = np.packbits(np.unpackbits(values[..., None], axis=2)[..., 8 - bits :].reshape(24, -1), axis=1)
    size = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 24, bits, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line.tobytes() for line in packed)))
    for transparent in (0, 1):
        clear = chunk(b"tRNS", struct.pack(">H", transparent))
        path = tmp_path / "a.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + size + clear + pixels + chunk(b"IEND", b""))
        wanted = np.where(values == transparent, 0, values / highest)
        np.testing.assert_allclose(load_image(path, ONE)[0], wanted, atol=1e-6)
