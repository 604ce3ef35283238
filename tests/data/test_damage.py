"""Files whose middle is damaged: Pillow decodes what is left, without a word."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.data.damage import refuse_damage
from blemish.data.decode import open_image
from blemish.data.masks import load_mask
from blemish.data.tiff import read_tiff
from blemish.errors import DataError

NOISE = np.random.default_rng(0).normal(0, 4, (192, 192, 3))
PHOTO = Image.fromarray(np.uint8(np.clip(NOISE + np.linspace(60, 190, 192)[:, None, None], 0, 255)))
SECTOR = 512
FORMS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "baseline": ("RGB", "JPEG", {}),
    "grey": ("L", "JPEG", {}),
    "CMYK": ("CMYK", "JPEG", {}),
    "stored as RGB": ("RGB", "JPEG", {"keep_rgb": True}),
    "progressive": ("RGB", "JPEG", {"progressive": True}),
    "restart marks": ("RGB", "JPEG", {"restart_marker_rows": 1}),
    "several photos": ("RGB", "MPO", {"save_all": True, "append_images": [PHOTO]}),
    "PNG": ("RGB", "PNG", {}),
    "JPEG in TIFF": ("RGB", "TIFF", {"compression": "jpeg"}),
    "deflate in TIFF": ("RGB", "TIFF", {"compression": "tiff_adobe_deflate"}),
}


def _encode(kind: str) -> bytes:
    mode, form, options = FORMS[kind]
    stream = io.BytesIO()
    PHOTO.convert(mode).save(stream, form, **options)
    return stream.getvalue()


def _open(content: bytes) -> Image.Image:
    return open_image("a.jpg", 1 << 20, content)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("way", ["zeros", "lost", "foreign"])
def test_a_sector_that_is_not_the_files_own_is_noticed(kind: str, way: str) -> None:
    content = _encode(kind)
    assert _open(content).size == PHOTO.size
    at = (len(content) // (4 if kind == "several photos" else 2)) // SECTOR * SECTOR
    foreign = np.random.default_rng(1).bytes(SECTOR)
    instead = {"zeros": bytes(SECTOR), "lost": b"", "foreign": foreign}[way]
    with pytest.raises(DataError, match=r"a\.jpg: a damaged or truncated image|a\.jpg: a truncated|tags"):
        _open(content[:at] + instead + content[at + SECTOR :])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_progressive_photo_without_its_last_scans_is_refused(mode: str) -> None:
    """Each scan is whole, and so is the end: what came through is a blurred photo."""
    stream = io.BytesIO()
    PHOTO.convert(mode).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    assert _open(content).size == PHOTO.size
    scans = [at for at in range(len(content)) if content[at : at + 2] == b"\xff\xda"]
    for at in scans[1:]:
        with pytest.raises(DataError, match=r"damaged or truncated image \(some of its scans are not there\)"):
            _open(content[:at] + b"\xff\xd9")


def _pad_pixels(content: bytes) -> bytes:
    return content[:-2] + b"\0\xaa" + content[-2:]


def _fill_up(content: bytes) -> bytes:
    return content[:-2] + bytes(SECTOR) + content[-2:]


def _pad_at_restart_marks(content: bytes) -> bytes:
    return content.replace(b"\xff\xd3", b"\x55\x55\x55\xff\xd3")


def _without_tables(content: bytes) -> bytes:
    while (at := content.find(b"\xff\xc4")) >= 0:
        content = content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]
    return content


def _odd_scan(content: bytes) -> bytes:
    at = content.index(b"\xff\xda")
    at += int.from_bytes(content[at + 2 : at + 4], "big")
    return content[: at - 1] + b"\0\0\0" + content[at + 2 :]


def _other_jfif(content: bytes) -> bytes:
    at = content.index(b"JFIF") + 5
    return content[:at] + b"\x02" + content[at + 1 :]


def _bytes_between(content: bytes) -> bytes:
    at = content.index(b"\xff\xdb")
    return content[:at] + bytes(30) + content[at:]


HARMLESS = {
    "bytes after the pixels": ("baseline", _pad_pixels),
    "a whole block filled up": ("baseline", _fill_up),
    "bytes before restart marks": ("restart marks", _pad_at_restart_marks),
    "what a camera appends": ("baseline", lambda content: content + b"trailer\xff\xd8\xff"),
    "a film behind it": ("baseline", lambda content: content + b"\xff\xd9\xff\xda" * 200 + bytes(16)),
    "a trailer and no end": ("baseline", lambda content: content[:-2] + b"trailer of the camera" * 9),
    "usual tables left out": ("baseline", _without_tables),
    "odd numbers of the scan": ("baseline", _odd_scan),
    "a version of JFIF": ("baseline", _other_jfif),
    "bytes between segments": ("baseline", _bytes_between),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_cameras_write_and_changes_no_pixel_is_read(kind: str) -> None:
    form, change = HARMLESS[kind]
    content = _encode(form)
    changed = change(content)
    assert changed != content
    np.testing.assert_array_equal(_open(changed), _open(content))


@pytest.mark.parametrize("kind", ["odd numbers of the scan", "a version of JFIF", "bytes between segments"])
def test_what_is_harmless_hides_no_damage(kind: str) -> None:
    content = _encode("baseline")
    at = len(content) // 2
    with pytest.raises(DataError, match="damaged or truncated image"):
        _open(HARMLESS[kind][1](content[:at] + bytes(SECTOR) + content[at + SECTOR :]))


def test_a_damaged_mask_is_refused_likewise(tmp_path: Path) -> None:
    content = _encode("grey")
    at = len(content) // 2
    (tmp_path / "a_mask.jpg").write_bytes(content[:at] + bytes(SECTOR) + content[at + SECTOR :])
    with pytest.raises(DataError, match=r"a_mask\.jpg: a damaged or truncated image"):
        load_mask(tmp_path / "a_mask.jpg", (192, 192))


def test_pixels_like_scans_of_a_jpeg_and_a_jpeg_for_each_strip_are_read() -> None:
    stream, pixels = io.BytesIO(), np.full((160, 200), 0xDAFF, np.uint16)
    Image.fromarray(pixels).save(stream, "TIFF")
    np.testing.assert_array_equal(_open(stream.getvalue()), pixels)
    strips = io.BytesIO()
    PHOTO.convert("L").resize((16, 1760)).save(strips, "TIFF", compression="jpeg", tiffinfo={278: 16})
    tiff = read_tiff(strips)
    assert tiff is not None
    assert tiff.parts == 110
    assert _open(strips.getvalue()).size == (16, 1760)


def test_tiles_of_deflate_are_looked_at() -> None:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.asarray(PHOTO), photometric="rgb", tile=(64, 64), compression="zlib")
    content = stream.getvalue()
    assert _open(content).size == PHOTO.size
    at = len(content) // 2
    with pytest.raises(DataError, match="damaged or truncated image"):
        _open(content[:at] + bytes(16) + content[at + 16 :])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_deflate_is_followed_with_its_bits_in_either_order(mode: str) -> None:
    stream = io.BytesIO()
    PHOTO.convert(mode).save(stream, "TIFF", compression="tiff_adobe_deflate", tiffinfo={266: 2})
    content = stream.getvalue()
    np.testing.assert_array_equal(_open(content), PHOTO.convert(mode))
    at = len(content) // 2
    with pytest.raises(DataError, match="damaged or truncated image"):
        _open(content[:at] + bytes(SECTOR) + content[at + SECTOR :])


def test_a_strip_that_is_no_part_of_the_image_is_not_looked_at() -> None:
    stream = io.BytesIO()
    PHOTO.save(stream, "TIFF", compression="tiff_adobe_deflate", tiffinfo={278: 96})
    tiff = read_tiff(stream)
    assert tiff is not None
    assert tiff.parts == 2
    content = stream.getvalue() + b"foreign"
    tiff.tags[273] += (len(content) - 7,)
    tiff.tags[279] += (7,)
    refuse_damage("TIFF", content, PHOTO.size, tiff)


def test_no_part_of_a_tiff_costs_more_than_the_image() -> None:
    """Its JPEGs say how large they are themselves."""
    content = bytearray(_encode("JPEG in TIFF"))
    at = content.index(b"\xff\xc0")
    content[at + 5 : at + 9] = b"\xff\xdc\xff\xdc"
    tiff = read_tiff(io.BytesIO(content))
    assert tiff is not None
    refuse_damage("TIFF", bytes(content), PHOTO.size, tiff)
    with pytest.raises(DataError):
        _open(bytes(content))
