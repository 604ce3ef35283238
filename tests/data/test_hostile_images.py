"""Images as cameras, tools and attackers write them: read right, or refused by name, in bounded time and memory."""

import errno
import io
import os
import re
import runpy
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.PngImagePlugin import PngInfo

from blemish.cli.console import say_unread
from blemish.data.decode import MAX_JPEG_SCANS, read_content, read_header
from blemish.data.folder import Sample, read_folder
from blemish.data.groups import read_groups
from blemish.data.image_files import image_files, photo_files, photos_and_masks, unread_images
from blemish.data.images import PixelPolicy, load_image, prepare, prepare_content, read_original
from blemish.data.named_errors import named_errors
from blemish.data.notes import photo_notes
from blemish.data.profiles import profile_name
from blemish.data.readings import Reading, Readings
from blemish.data.tiff import read_tiff
from blemish.errors import BlemishError, DataError, SettingsError
from blemish.evaluation.data_check.findings import photo_facts
from blemish.settings import read_toml
from blemish.training.batches import GoodImages

SIDE = 24
RGB = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
GREY = RGB[:, :, 0]
COLOUR = PixelPolicy(size_px=(SIDE, SIDE), channels=3)
ONE = PixelPolicy(size_px=(SIDE, SIDE), channels=1)
DEEP = np.random.default_rng(1).integers(0, 65_536, (SIDE, SIDE, 3), np.uint16)
"""Higher and lower bytes differ, so that mixing them up shows."""


def tiff(path: Path, pixels: NDArray[np.generic], **options: object) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


Chunk = tuple[bytes, bytes]


def png16(path: Path, pixels: NDArray[np.uint16], before: Chunk | None = None, after: Chunk | None = None) -> Path:
    """A 16-bit RGB PNG, which Pillow does not write, with a chunk before or after its pixels."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n"
    for chunk in (header, before, (b"IDAT", zlib.compress(rows)), after, (b"IEND", b"")):
        if chunk is None:
            continue
        kind, data = chunk
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)
    return path


def planes(pixels: NDArray[np.generic]) -> NDArray[np.generic]:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


WAYS: dict[str, Callable[[Path], Path]] = {
    "interleaved": lambda path: tiff(path, DEEP, photometric="rgb"),
    "big-endian": lambda path: tiff(path, DEEP, photometric="rgb", byteorder=">"),
    "deflate": lambda path: tiff(path, DEEP, photometric="rgb", compression="zlib", predictor=True),
    "planar": lambda path: tiff(path, planes(DEEP), photometric="rgb", planarconfig="separate"),
    "planar, big-endian": lambda path: tiff(
        path, planes(DEEP), photometric="rgb", planarconfig="separate", byteorder=">"
    ),
    "planar, deflate": lambda path: tiff(
        path, planes(DEEP), photometric="rgb", planarconfig="separate", compression="zlib"
    ),
    "planar, tiled": lambda path: tiff(path, planes(DEEP), photometric="rgb", planarconfig="separate", tile=(16, 16)),
    "big": lambda path: tiff(path, DEEP, photometric="rgb", bigtiff=True),
    "png": lambda path: png16(path.with_suffix(".png"), DEEP),
}


@pytest.mark.parametrize("way", WAYS)
def test_sixteen_bit_colour_is_read_right_however_it_is_stored(way: str, tmp_path: Path) -> None:
    path = WAYS[way](tmp_path / "a.tif")
    high = load_image(path, COLOUR)
    np.testing.assert_allclose(high, (DEEP >> 8).transpose(2, 0, 1) / 255, atol=1e-6)
    if way == "planar, deflate":  # of which Pillow gives the higher bytes alone
        with pytest.raises(DataError, match=r"a\.tif: 16-bit RGB of a kind for which data\.white_level cannot"):
            load_image(path, COLOUR.model_copy(update={"white_level": 60_000}))
        return
    full = load_image(path, COLOUR.model_copy(update={"white_level": 60_000}))
    np.testing.assert_allclose(full, np.minimum(DEEP / 60_000, 1).transpose(2, 0, 1), atol=1e-6)
    grey = load_image(path, ONE.model_copy(update={"white_level": 65_535}))
    np.testing.assert_allclose(grey[0], DEEP @ [0.299, 0.587, 0.114] / 65_535, atol=1e-6)


def test_planar_eight_bit_colour_is_read_right(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", planes(RGB), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(load_image(path, COLOUR), load_image(RGB, COLOUR))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_where_zero_is_white_the_image_is_inverted(tmp_path: Path, bits: int, compression: str | None) -> None:
    stored = (255 - GREY).astype(np.uint8) if bits == 8 else (65_535 - GREY.astype(np.int64) * 257).astype(np.uint16)
    path = tiff(tmp_path / "a.tif", stored, photometric="miniswhite", compression=compression)
    np.testing.assert_allclose(load_image(path, ONE), load_image(GREY, ONE), atol=1e-6)
    with Image.open(path) as opened:
        np.testing.assert_array_equal(load_image(opened, ONE), load_image(path, ONE))


def test_white_is_what_the_bits_of_the_file_say(tmp_path: Path) -> None:
    signed = tiff(tmp_path / "signed.tif", GREY.astype(np.int16) * 128)
    np.testing.assert_allclose(load_image(signed, ONE)[0], GREY.astype(int) * 128 / 32_767, atol=1e-6)
    with Image.open(signed) as opened:
        np.testing.assert_array_equal(load_image(opened, ONE), load_image(signed, ONE))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_float_tiffs_are_turned_and_inverted_as_they_say(tmp_path: Path, kind: type) -> None:
    turned = [(274, "H", 1, 8, True)]
    stored = np.rot90(1 - GREY[:, :20] / 255, -1).astype(kind)
    path = tiff(tmp_path / "a.tif", stored, photometric="miniswhite", extratags=turned)
    header, policy = read_header(path), ONE.model_copy(update={"size_px": (SIDE, 20)})
    assert (header.size_px, header.orientation) == ((SIDE, 20), 8)
    np.testing.assert_allclose(load_image(path, policy)[0], GREY[:, :20] / 255, atol=2e-3)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_a_header_has_the_size_of_the_image_upright(kind: str, orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    Image.fromarray(RGB[:, :20]).save(path, exif=exif)
    assert read_header(path).size_px == read_original(path).size[::-1]


def exif_data(kind: int, value: bytes, head: bytes = b"II*\0") -> bytes:
    """With an orientation of that type and value, one of it."""
    tag = struct.pack("<HHHL", 1, 0x0112, kind, 1) + value
    return b"Exif\0\0" + head + struct.pack("<L", 8) + tag + bytes(4)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(exif_data(3, b"\6\0\0\0", head=b"XX*\0"), id="no head"),
        pytest.param(exif_data(3, b"\6\0\0\0")[:10], id="cut"),
        pytest.param(exif_data(11, struct.pack("<f", np.nan)), id="no number"),
        pytest.param(exif_data(2, b"6\0\0\0"), id="text"),
        pytest.param(exif_data(7, b"\6\0\0\0"), id="bytes"),
        pytest.param(exif_data(3, b"\x4d\0\0\0"), id="out of range"),
    ],
)
def test_a_photo_with_damaged_exif_is_taken_as_not_turned_and_says_so(kind: str, exif: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    Image.fromarray(RGB[:, :20]).save(path, exif=exif)
    assert (read_header(path).orientation, read_header(path).size_px) == (1, (SIDE, 20))
    prepared, original = prepare_content(path.read_bytes(), path, COLOUR)
    assert (original.size, prepared.reading.message(None)) == ((20, SIDE), "damaged EXIF data, taken as not turned")
    with Image.open(path) as image:
        assert prepare(image, COLOUR).image_size_px == (SIDE, 20)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_a_photo_is_turned_though_another_tag_is_odd(kind: str, tmp_path: Path) -> None:
    tags = struct.pack("<HHHLHxxHHL4s", 2, 0x0112, 3, 1, 6, 0x0128, 2, 3, b"1/2\0")  # a unit of resolution as text
    path = tmp_path / f"a.{kind}"
    Image.fromarray(RGB[:, :20]).save(path, exif=b"Exif\0\0II*\0" + struct.pack("<L", 8) + tags + bytes(4))
    assert (read_header(path).size_px, read_original(path).size) == ((20, SIDE), (SIDE, 20))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (struct.error("odd"), r"a damaged or truncated image \(odd\)"),
        (AssertionError(), r"a damaged or truncated image \(AssertionError\)"),
        (OSError(errno.EIO, "Input/output error"), "cannot be read: Input/output error"),
        (OSError(errno.EINVAL, "Invalid argument"), r"a damaged image \(it points to .* no file has\)"),
    ],
)
def test_whatever_goes_wrong_with_a_file_is_said_with_its_name(error: Exception, said: str) -> None:
    with pytest.raises(DataError, match=rf"^a\.png: {said}$"), named_errors("a.png"):
        raise error


class _Failing(io.BytesIO):
    """A file of which the disk gives the beginning alone, or which is asked for what it has not."""

    def __init__(self, content: bytes, number: int) -> None:
        super().__init__(content)
        self.number = number

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset:
            raise OSError(self.number, os.strerror(self.number))
        return super().seek(offset, whence)


def test_a_tiff_that_the_disk_does_not_give_is_not_called_damaged() -> None:
    content = io.BytesIO()
    Image.fromarray(RGB).save(content, format="TIFF")
    with pytest.raises(OSError, match="Input/output error"):
        read_tiff(_Failing(content.getvalue(), errno.EIO))
    with pytest.raises(ValueError, match="tags cannot be read"):
        read_tiff(_Failing(content.getvalue(), errno.EINVAL))


def test_an_orientation_of_zero_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, exif=exif_data(3, bytes(4)))
    assert prepare(path, COLOUR).reading == Reading()


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
def test_an_orientation_of_xmp_counts_where_exif_has_none(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    plain = Image.fromarray(RGB[:, :20])
    if kind == "png":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", XMP.decode())
        plain.save(path, pnginfo=text)
    else:
        plain.save(path, **{"tif": {"tiffinfo": {700: XMP}}}.get(kind, {"xmp": XMP}))
    assert (read_header(path).orientation, read_header(path).size_px) == (6, (20, SIDE))
    assert read_original(path).size == (SIDE, 20)


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("kind", ["eXIf", "iTXt", "zTXt"])
def test_an_orientation_counts_wherever_it_stands_in_a_png(kind: str, place: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    plain = exif.tobytes()
    profile = f"\nexif\n{len(plain):8}\n{plain.hex()}\n".encode()
    content = {
        "eXIf": plain.removeprefix(b"Exif\0\0"),
        "iTXt": b"XML:com.adobe.xmp" + bytes(5) + XMP.replace(b"6", b"3"),
        "zTXt": b"Raw profile type exif\0\0" + zlib.compress(profile),  # ImageMagick
    }[kind]
    path = png16(tmp_path / "a.png", DEEP, **{place: (kind.encode(), content)})
    assert read_header(path).orientation == 3
    np.testing.assert_allclose(load_image(path, COLOUR), (DEEP[::-1, ::-1] >> 8).transpose(2, 0, 1) / 255, atol=1e-6)


def test_what_a_png_says_behind_its_pixels_and_is_damaged_does_not_count(tmp_path: Path) -> None:
    path = png16(tmp_path / "a.png", DEEP, after=(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + XMP))
    path.write_bytes(path.read_bytes().replace(b'Orientation="6"', b'Orientation="8"'))
    assert read_header(path).orientation == 1


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", ["grey", "rgb", "planar"])
def test_float_tiffs_are_read(tmp_path: Path, kind: type, layout: str) -> None:
    unit = (RGB / 255).astype(kind)
    options = {"photometric": "minisblack"} if layout == "grey" else {"photometric": "rgb"}
    if layout == "planar":
        options["planarconfig"] = "separate"
    pixels = {"grey": unit[:, :, 0], "rgb": unit, "planar": planes(unit)}[layout]
    path = tiff(tmp_path / "a.tif", pixels, **options)
    policy, wanted = (ONE, GREY[None] / 255) if layout == "grey" else (COLOUR, RGB.transpose(2, 0, 1) / 255)
    np.testing.assert_allclose(load_image(path, policy), wanted, atol=2e-3 if kind is np.float16 else 1e-3)
    assert read_header(path).size_px == (SIDE, SIDE)


BIG = [(compression, tile) for compression in (None, "zlib") for tile in (None, (16, 16))]


@pytest.mark.parametrize(("compression", "tile"), BIG)
@pytest.mark.parametrize("kind", ["grey", "rgb", "deep grey", "deep", "floats", "float colours"])
def test_a_big_endian_bigtiff_is_read_right_or_refused_by_name(
    kind: str, compression: str | None, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    deep = RGB.astype(np.uint16) * 257
    unit = np.float32(RGB / 255)
    pixels = {"grey": GREY, "rgb": RGB, "deep grey": deep[..., 0], "deep": deep, "floats": unit[..., 0]}.get(kind, unit)
    colour = "minisblack" if pixels.ndim == 2 else "rgb"
    options = {"compression": compression, "tile": tile, "photometric": colour, "bigtiff": True, "byteorder": ">"}
    path = tiff(tmp_path / "a.tif", pixels, **options)
    try:
        found = load_image(path, ONE if pixels.ndim == 2 else COLOUR)
    except DataError as error:
        assert str(error).startswith(f"{path}: a BigTIFF of ")  # noqa: PT017  # read or refused, both are right
    else:
        wanted = GREY[None] if pixels.ndim == 2 else RGB.transpose(2, 0, 1)
        np.testing.assert_allclose(found, wanted / 255, atol=1e-3)


CMYK = np.asarray(Image.fromarray(RGB).convert("CMYK"))
LAB = np.asarray(Image.fromarray(RGB).convert("LAB"))

COLOURS: dict[str, Callable[[Path], Path]] = {
    "CMYK": lambda path: tiff(path, CMYK, photometric="separated"),
    "CMYK, planar": lambda path: tiff(path, planes(CMYK), photometric="separated", planarconfig="separate"),
    "CMYK, 16 bits": lambda path: tiff(path, CMYK.astype(np.uint16) * 257, photometric="separated"),
    "CMYK, JPEG (inverted by Adobe)": lambda path: _stored(path, Image.fromarray(CMYK, "CMYK"), "JPEG", quality=100),
    "YCbCr": lambda path: tiff(
        path, np.asarray(Image.fromarray(RGB).convert("YCbCr")), photometric="ycbcr", subsampling=(1, 1)
    ),
    "CIELab": lambda path: tiff(path, LAB, photometric="cielab"),
    "16 bits with alpha": lambda path: _png16_alpha(path),
    "a gamma that is not applied": lambda path: png16(
        path, RGB.astype(np.uint16) * 257, before=(b"gAMA", struct.pack(">I", 100_000))
    ),
    "an animated PNG": lambda path: _stored(path, Image.fromarray(RGB), "PNG", more=True),
    "an animated WebP": lambda path: _stored(path, Image.fromarray(RGB), "WEBP", lossless=True, more=True),
}


def _stored(path: Path, image: Image.Image, form: str, more: bool = False, **options: object) -> Path:
    others = [image.transpose(turn) for turn in (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180)]
    image.save(path, form, **options, **({"save_all": True, "append_images": others} if more else {}))
    return path


def _png16_alpha(path: Path) -> Path:
    deep = np.dstack([RGB.astype(">u2") * 257, np.full((SIDE, SIDE), 65_535, ">u2")])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 6, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", COLOURS)
def test_colours_of_other_kinds_are_read_right(kind: str, tmp_path: Path) -> None:
    path = COLOURS[kind](tmp_path / "a.tif")
    if kind == "CIELab":  # as far as rounding to 8 bits of Lab goes, but where it lies outside sRGB
        assert np.abs(load_image(path, COLOUR) - RGB.transpose(2, 0, 1) / 255).mean() < 0.03
    else:
        atol = 0.05 if "JPEG" in kind else 0.02
        np.testing.assert_allclose(load_image(path, COLOUR), RGB.transpose(2, 0, 1) / 255, atol=atol)
    assert read_header(path).pages == (3 if "animated" in kind else 1)


BEGINNINGS = {
    "a GIF image": b"GIF89a",
    "a HEIC image": b"\0\0\0\x18ftypheic\0\0\0\0",
    "an AVIF image": b"\0\0\0\x18ftypavif",
    "a JPEG XL image": b"\xff\x0a",
    "a JPEG 2000 image": b"\0\0\0\x0cjP  \r\n",
    "a Canon raw image": b"\0\0\0\x18ftypcrx ",
    "a Fujifilm raw image": b"FUJIFILMCCD-RAW",
    "an OpenEXR image": b"v/1\x01",
    "a Photoshop file": b"8BPS",
    "a DICOM image": bytes(128) + b"DICM",
    "a FITS image": b"SIMPLE  =                    T",
    "a compressed file": b"\x1f\x8b\x08",
    "a file of zeros, as a copy leaves it that has not been written": bytes(132),
    "a PDF document": b"%PDF-1.7",
    "a damaged JPEG, or one of 12 bits or without loss": b"\xff\xd8\xff\xdb",
    "a damaged PNG": b"\x89PNG\r\n\x1a\n",
    "a film": b"\0\0\0\x18ftypisom",
    "a page of HTML or a drawing in SVG": b"\n<svg xmlns='x'>",
    "a pointer to a file that Git LFS has not fetched": b"version https://git-lfs.github.com/spec/v1",
    "an empty file": b"",
    "not an image that can be read": b"anything else",
}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_files_of_other_kinds_are_called_what_they_are(kind: str, tmp_path: Path) -> None:
    path, sent = tmp_path / "a.png", tmp_path / "other" / "a.png"
    content = BEGINNINGS[kind] + bytes(40 if BEGINNINGS[kind] else 0)
    path.write_bytes(content)
    sent.parent.mkdir()
    sent.write_bytes(b"PK\x03\x04")  # a ZIP archive: what a sender's name leads to here
    for read in (
        lambda: load_image(path, COLOUR),
        lambda: read_header(path),
        lambda: prepare_content(content, sent, COLOUR),
    ):
        with pytest.raises(DataError, match=rf"a\.png: {kind}.*PNG, JPEG, BMP, TIFF (and|or) WebP"):
            read()


CUTS = [("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("BMP", {}), ("TIFF", {}), ("WEBP", {})]


@pytest.mark.parametrize(("form", "options"), [*CUTS, ("TIFF", {"compression": "tiff_lzw"})])
def test_a_cut_file_is_refused_or_has_all_its_pixels(form: str, options: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, form, **options)
    content, pixels = path.read_bytes(), load_image(path, COLOUR)
    refused = 0
    for length in [*range(len(content) - 12, len(content)), *range(0, len(content) - 12, len(content) // 12)]:
        path.write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(load_image(path, COLOUR), pixels)
        except DataError as error:
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            refused += 1
    assert refused >= 12


def icc_profile(name: str, is_new: bool) -> bytes:
    """As much of a profile as says its name, in version 2 or 4."""
    text = name.encode("utf-16-be" if is_new else "ascii") + (b"" if is_new else b"\0")
    if is_new:
        data = b"mluc" + struct.pack(">III", 0, 1, 12) + b"enUS" + struct.pack(">II", len(text), 28) + text
    else:
        data = b"desc" + struct.pack(">II", 0, len(text)) + text
    return bytes(128) + struct.pack(">I", 1) + struct.pack(">4sII", b"desc", 144, len(data)) + data


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("is_new", [False, True])
def test_a_colour_profile_is_not_applied_and_said(kind: str, is_new: bool, tmp_path: Path) -> None:
    image = Image.fromarray(RGB)
    for name, profile in (("p3", "Display P3"), ("srgb", "sRGB IEC61966-2.1"), ("none", "")):
        image.save(tmp_path / f"{name}.{kind}", icc_profile=icc_profile(profile, is_new) if profile else None)
    samples = [Sample(path, path.name) for path in image_files(tmp_path)]
    assert [sample.header.profile for sample in samples] == ["", "Display P3", "sRGB IEC61966-2.1"]
    np.testing.assert_array_equal(load_image(samples[0].path, COLOUR), load_image(samples[1].path, COLOUR))
    [note] = photo_notes(samples, COLOUR, Readings(None))
    assert note.startswith(f"1 of 3 photos, among them p3.{kind}, with the colour profile 'Display P3': values are ")
    assert photo_facts(samples[1]).oddities == ("the colour profile 'Display P3', which is not applied",)


@pytest.mark.parametrize(("gamma", "name"), [(100_000, "gamma 1"), (55_556, "gamma 1.8"), (45_455, ""), (0, "")])
def test_the_gamma_of_a_png_is_not_applied_and_said(gamma: int, name: str, tmp_path: Path) -> None:
    path = png16(tmp_path / "a.png", DEEP, before=(b"gAMA", struct.pack(">I", gamma)))
    assert read_header(path).profile == name
    np.testing.assert_array_equal(load_image(path, COLOUR), load_image(png16(tmp_path / "b.png", DEEP), COLOUR))


def test_primary_colours_are_not_applied_and_said(tmp_path: Path) -> None:
    adobe = struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)
    assert read_header(png16(tmp_path / "a.png", DEEP, before=(b"cHRM", adobe))).profile == "other primary colours"
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    Image.fromarray(RGB).save(tmp_path / "a.jpg", exif=exif)
    assert read_header(tmp_path / "a.jpg").profile == "Adobe RGB"


@pytest.mark.parametrize(("beside", "colours"), [(RGB, "rgb"), (GREY, "minisblack")])
def test_channels_that_are_not_read_are_said(beside: NDArray[np.uint8], colours: str, tmp_path: Path) -> None:
    options = {"photometric": colours, "planarconfig": "contig", "extrasamples": ["unspecified"]}
    tiff(tmp_path / "a.tif", np.dstack([beside, GREY]), **options)
    _saved(tmp_path / "b.png", RGB)
    samples = read_folder(tmp_path).train
    [note] = [note for note in photo_notes(samples, COLOUR, Readings(None)) if "channel" in note]
    assert note.startswith("1 of 2 photos, among them a.tif: 1 channel more than grey or colour in a file")
    assert photo_facts(samples[0]).oddities == ("1 channel more than grey or colour, not read",)


def with_alpha(image: Image.Image, alpha: int) -> Image.Image:
    image = image.copy()
    image.putalpha(Image.new("L", image.size, alpha))
    return image


SEE_THROUGH: dict[str, Callable[[Path], object]] = {
    "RGBA": lambda path: with_alpha(Image.fromarray(RGB), 128).save(path),
    "grey and alpha": lambda path: with_alpha(Image.fromarray(GREY), 200).save(path),
    "a colour of a palette": lambda path: Image.fromarray(RGB).quantize(8).save(path, transparency=3),
    "one colour": lambda path: Image.fromarray(RGB).save(path, transparency=tuple(RGB[0, 0].tolist())),
    "one grey": lambda path: Image.fromarray(GREY).save(path, transparency=int(GREY[0, 0])),
}


@pytest.mark.parametrize("kind", SEE_THROUGH)
def test_photos_that_are_transparent_in_part_are_said(kind: str, tmp_path: Path) -> None:
    SEE_THROUGH[kind](tmp_path / "a.png")
    with_alpha(Image.fromarray(GREY if "grey" in kind else RGB), 255).save(tmp_path / "opaque.png")
    folder = read_folder(tmp_path)
    [note] = photo_notes(folder.train, COLOUR, GoodImages(folder.train, COLOUR).readings)
    assert note.startswith("1 of 2 photos, a.png: transparent in part, and laid over black")


def test_colours_of_fewer_pixels_are_refused_for_the_right_reason(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb", extratags=[(530, 3, 2, (2, 2), True)])
    content = bytearray(path.read_bytes())
    at = content.index(struct.pack("<HHI", 262, 3, 1)) + 8
    content[at : at + 2] = struct.pack("<H", 6)
    path.write_bytes(content)
    with pytest.raises(DataError, match="colours at a lower resolution, which is not read; save it as 8- or 16-bit"):
        load_image(path, COLOUR)


def test_twelve_bits_that_the_file_tells_of_are_no_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    pairs = GREY.reshape(SIDE, -1, 2).astype(np.uint32) * 16
    packed = pairs[..., 0] << 12 | pairs[..., 1]  # two values in three bytes
    stored = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], -1).astype(np.uint8).reshape(SIDE, -1)
    path = tiff(tmp_path / "a.tif", stored, photometric="minisblack")
    content = bytearray(path.read_bytes())
    for tag, value in ((256, SIDE), (258, 12)):
        at = re.search(struct.pack("<H", tag) + b"[\x03\x04]\0\x01\0\0\0", content)
        assert at is not None
        content[at.end() : at.end() + 2] = struct.pack("<H", value)
    path.write_bytes(content)
    prepared = prepare(path, ONE)
    np.testing.assert_allclose(prepared.pixels()[0], GREY.astype(int) * 16 / 4095, atol=1e-6)
    assert prepared.reading.message(None) == ""


@pytest.mark.parametrize("content", [bytes(10), bytes(128) + b"\xff" * 60, icc_profile("x", True)[:150]])
def test_a_broken_profile_is_only_unnamed(content: bytes) -> None:
    assert profile_name(content) == "unnamed"


REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "floats of 0 to 255": (lambda path: tiff(path, GREY.astype(np.float32)), "floats from"),
    "compressed floats": (
        lambda path: tiff(path, (RGB / 255).astype(np.float32), photometric="rgb", compression="zlib"),
        "3 channels of 32-bit floats, compression deflate",
    ),
    "complex": (lambda path: tiff(path, GREY.astype(np.complex64)), "complex numbers"),
    "signed bytes": (lambda path: tiff(path, (GREY // 2).astype(np.int8)), "8-bit signed integers"),
    "32 bits": (lambda path: tiff(path, GREY.astype(np.uint32) * 65_536), "integer values from"),
    "two channels": (
        lambda path: tiff(path, np.stack([GREY, GREY]), photometric="minisblack", planarconfig="separate"),
        "2 channels",
    ),
    "transparent everywhere": (
        lambda path: _saved(path, np.dstack([RGB, np.zeros_like(GREY)])),
        "every pixel is transparent",
    ),
    "nearly transparent": (lambda path: _saved(path, np.dstack([RGB, np.ones_like(GREY)])), "every pixel is transp"),
    "constant": (lambda path: _saved(path, np.full_like(RGB, 7)), "has one value everywhere, "),
    "a thumbnail first": (
        lambda path: tiff(path, RGB, photometric="rgb", subfiletype=1),
        "its first page is a reduced",
    ),
    "big-endian floats, compressed": (  # Pillow and libtiff both turn the bytes: ones become zeros
        lambda path: tiff(path, np.float32(GREY > 99), photometric="minisblack", byteorder=">", compression="zlib"),
        "32-bit floats, compression deflate, big-endian",
    ),
    "floats in tiles": (lambda path: tiff(path, np.float64(GREY / 255), tile=(16, 16)), "64-bit floats.* in tiles"),
    "floats of no colour": (
        lambda path: tiff(path, np.float32(RGB / 255), photometric="minisblack", planarconfig="contig"),
        "3 channels of 32-bit floats",
    ),
    "a raw sensor": (lambda path: tiff(path, DEEP[..., 0], photometric="cfa"), r"a raw sensor \(CFA\), which is not"),
    "a fourth plane of no meaning": (
        lambda path: tiff(
            path,
            planes(np.dstack([DEEP, DEEP[..., :1]])),
            photometric="rgb",
            planarconfig="separate",
            extrasamples=["unspecified"],
        ),
        "4 channels of 16-bit unsigned integers, compression none, channels one by one",
    ),
    "planes of CMYK in 16 bits": (
        lambda path: tiff(path, planes(CMYK.astype(np.uint16) * 257), photometric="separated", planarconfig="separate"),
        "4 channels of 16-bit unsigned integers, compression none, CMYK, channels one by one",
    ),
    "planes of YCbCr": (
        lambda path: tiff(path, planes(RGB), photometric="ycbcr", planarconfig="separate", subsampling=(1, 1)),
        "YCbCr, channels one by one",
    ),
    "compressed YCbCr, of which damage would not be noticed": (
        lambda path: tiff(path, RGB, photometric="ycbcr", subsampling=(1, 1), compression="zlib"),
        "compression deflate, YCbCr",
    ),
    "brightness in the range of video": (
        lambda path: tiff(path, RGB, photometric="ycbcr", extratags=[_ratios(532, 16, 235, 128, 240, 128, 240)]),
        "YCbCr, black at 16 and white at 235",
    ),
    "colours of high-definition video": (
        lambda path: tiff(path, RGB, photometric="ycbcr", extratags=[_ratios(529, 0.2126, 0.7152, 0.0722)]),
        "YCbCr, colours as in high-definition video",
    ),
    "ink the other way round": (
        lambda path: tiff(path, CMYK, photometric="separated", extratags=[(336, 1, 2, (255, 0), True)]),
        "CMYK, no ink as the highest value",
    ),
    "other inks": (
        lambda path: tiff(path, CMYK, photometric="separated", extratags=[(332, 3, 1, 2, True)]),
        "CMYK, other inks",
    ),
    "planes of CIELab": (
        lambda path: tiff(path, planes(LAB), photometric="cielab", planarconfig="separate"),
        "CIELab, channels one by one",
    ),
    "no word of what 0 is": (lambda path: _without_colour(tiff(path, GREY)), "does not say whether 0 is black or whi"),
    "grey multiplied by its opacity": (
        lambda path: tiff(path, np.dstack([GREY, GREY]), photometric="minisblack", extrasamples=["assocalpha"]),
        "2 channels of 8-bit",
    ),
    "16 bits of CIELab": (lambda path: tiff(path, DEEP, photometric="cielab"), "CIELab"),
    "signed 16-bit colour": (lambda path: tiff(path, (DEEP >> 1).astype(np.int16), photometric="rgb"), "signed integ"),
    "sixteen bits and one colour transparent": (
        lambda path: png16(path.with_suffix(".png"), DEEP, before=(b"tRNS", bytes(6))),
        "a 16-bit PNG with one transparent colour",
    ),
    "a strip that is not there": (
        lambda path: _with_tag(tiff(path, GREY, rowsperstrip=8), 273, lambda at: (*at[:-1], 0)),
        "strips or tiles of its pixels are not there",
    ),
    "tiles that are not there": (
        lambda path: _with_tag(tiff(path, GREY, tile=(16, 16)), 324, lambda at: (*at[:-1], 0)),
        "strips or tiles of its pixels are not there",
    ),
    "fewer strips than rows": (
        lambda path: _with_tag(tiff(path, GREY), 278, lambda _: 8),
        "strips or tiles of its pixels are not there",
    ),
    "a palette of fewer colours": (
        lambda path: _with_colours(path, 5),
        "pixels of colour 7 in a palette of 5",
    ),
    "a cut float": (
        lambda path: _cut(tiff(path, (RGB / 255).astype(np.float32), photometric="rgb")),
        "truncated|not an",
    ),
}


def _ratios(tag: int, *values: float) -> tuple[int, int, int, tuple[int, ...], bool]:
    """A row of a TIFF in ten thousandths, as `tifffile` takes it."""
    return tag, 5, len(values), tuple(part for value in values for part in (round(value * 10_000), 10_000)), True


@pytest.mark.parametrize(
    "row", [_ratios(532, 0, 255, 128, 255, 128, 255), _ratios(529, 0.299, 0.587, 0.114), (336, 1, 2, (0, 255), True)]
)
def test_ranges_and_colours_that_are_usual_are_read_as_without_them(row: object, tmp_path: Path) -> None:
    with_row = tiff(tmp_path / "a.tif", RGB, photometric="ycbcr", extratags=[row])
    without = tiff(tmp_path / "b.tif", RGB, photometric="ycbcr")
    np.testing.assert_array_equal(load_image(with_row, COLOUR), load_image(without, COLOUR))


def test_pillow_images_are_refused_for_the_same_ranges(tmp_path: Path) -> None:
    for name in ("brightness in the range of video", "ink the other way round"):
        make, reason = REFUSED[name]
        with Image.open(make(tmp_path / "a.tif")) as image, pytest.raises(DataError, match=reason):
            prepare(image, COLOUR)


def _saved(path: Path, pixels: NDArray[np.uint8]) -> Path:
    path = path.with_suffix(".png")
    Image.fromarray(pixels).save(path)
    return path


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-500])
    return path


def _with_tag(path: Path, tag: int, change: Callable[[Any], Any]) -> Path:
    with tifffile.TiffFile(path, mode="r+b") as file:
        found = file.pages[0].tags[tag]
        found.overwrite(change(found.value))
    return path


def _with_colours(path: Path, count: int) -> Path:
    path = path.with_suffix(".bmp")
    image = Image.frombytes("P", (SIDE, SIDE), (GREY % 8).tobytes())
    image.putpalette(RGB.tobytes()[:24])
    image.save(path)
    content = bytearray(path.read_bytes())
    start = 54 + 4 * count
    path.write_bytes(
        content[:10] + struct.pack("<I", start) + content[14:46] + struct.pack("<I", count) + content[50:start]
        + content[-SIDE * SIDE :]
    )  # fmt: skip
    return path


def _without_colour(path: Path) -> Path:
    path.write_bytes(path.read_bytes().replace(struct.pack("<HH", 262, 3), struct.pack("<HH", 260, 3)))
    return path


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_read_right_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    make, reason = REFUSED[kind]
    path = make(tmp_path / "a.tif")
    with pytest.raises(DataError, match=rf"a\.(tif|png|bmp): .*({reason})"):
        prepare_content(path.read_bytes(), path, COLOUR)


def test_an_array_has_red_first(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    bgr = RGB[:, :, ::-1]  # as cv2.imread gives it
    np.testing.assert_array_equal(load_image(bgr[:, :, ::-1], COLOUR), load_image(tmp_path / "a.png", COLOUR))
    assert (load_image(bgr, COLOUR) != load_image(tmp_path / "a.png", COLOUR)).any()


def test_sixteen_bit_arrays_are_read_as_files_are(tmp_path: Path) -> None:
    policy = COLOUR.model_copy(update={"white_level": 40_000})
    path = tiff(tmp_path / "a.tif", DEEP, photometric="rgb")
    np.testing.assert_array_equal(load_image(DEEP, policy), load_image(path, policy))


def test_what_pillow_has_opened_is_as_deep_as_its_file(tmp_path: Path) -> None:
    twelve = ONE.model_copy(update={"white_level": 4095})
    for path in (tiff(tmp_path / "a.tif", DEEP, photometric="rgb"), png16(tmp_path / "a.png", DEEP)):
        with (
            Image.open(path) as opened,
            pytest.raises(DataError, match=r"Pillow image: 16-bit RGB of a kind for which"),
        ):
            load_image(opened, twelve)
        with Image.open(path) as opened:
            assert prepare(opened, COLOUR).reading.brightest == int(DEEP.max()) | 255
    mixed = tiff(tmp_path / "b.tif", planes(DEEP), photometric="rgb", planarconfig="separate")
    signed = tiff(tmp_path / "c.tif", (GREY // 2).astype(np.int8))
    for path, reason in ((mixed, "which Pillow reads as other pixels"), (signed, "which is not read")):
        with Image.open(path) as opened, pytest.raises(DataError, match=rf"Pillow image: a TIFF of .*{reason}.* path"):
            load_image(opened, COLOUR)


@pytest.mark.parametrize("top", [31, 3])
def test_a_bitmap_of_five_and_six_bits_is_not_deep(top: int, tmp_path: Path) -> None:
    values = (GREY % (top + 1)).astype("<u2")
    head = struct.pack("<2sIHHI", b"BM", 66 + 2 * SIDE * SIDE, 0, 0, 66)
    head += struct.pack("<IiiHHIIiiII3I", 40, SIDE, -SIDE, 1, 16, 3, 0, 0, 0, 0, 0, 0xF800, 0x7E0, 0x1F)
    (tmp_path / "a.bmp").write_bytes(head + (values << 11 | values << 6 | values).tobytes())
    found = prepare(tmp_path / "a.bmp", COLOUR.model_copy(update={"white_level": 4095}))
    np.testing.assert_allclose(found.pixels()[0], values / 31, atol=0.01)
    assert found.reading.brightest is None


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_few_bits_in_sixteen_are_said_with_the_brightest_value(tmp_path: Path, bits: int, colour: bool) -> None:
    deep = (RGB if colour else GREY).astype(np.uint16) * (1 << (bits - 8))
    for place in range(2):
        tiff(tmp_path / f"{place}.tif", deep, photometric="rgb" if colour else "minisblack")
    folder = read_folder(tmp_path)

    def notes(policy: PixelPolicy) -> list[str]:
        return photo_notes(folder.train, policy, GoodImages(folder.train, policy).readings)

    policy = COLOUR if colour else ONE
    assert notes(policy) == [
        f"the brightest value in the 16-bit photos is {deep.max()} of 65535: {bits} bits in 16? "
        f"If so, train with data.white_level={(1 << bits) - 1}; or, where they are only dark, with "
        "data.white_level=65535"
    ]
    told = policy.model_copy(update={"white_level": (1 << bits) - 1})
    assert notes(told) == []
    scaled = (deep.transpose(2, 0, 1) if colour else deep[None]) / ((1 << bits) - 1)
    np.testing.assert_allclose(load_image(tmp_path / "0.tif", told), scaled, atol=1e-6)
    [cut] = notes(policy.model_copy(update={"white_level": 255}))
    assert f"is {deep.max()}, above data.white_level=255" in cut


def test_all_sixteen_bits_are_not_talked_about(tmp_path: Path) -> None:
    tiff(tmp_path / "0.tif", DEEP, photometric="rgb")
    folder = read_folder(tmp_path)
    assert photo_notes(folder.train, COLOUR, GoodImages(folder.train, COLOUR).readings) == []


def test_the_first_of_several_pages_is_used_and_said(tmp_path: Path) -> None:
    path = tiff(tmp_path / "0.tif", np.stack([GREY, GREY // 2, GREY // 4]), photometric="minisblack")
    np.testing.assert_array_equal(load_image(path, ONE), load_image(GREY, ONE))
    assert read_header(path).pages == 3
    assert photo_notes([Sample(path, "0.tif")], ONE, Readings(None)) == [
        "0.tif: up to 3 pages or frames in a file; the first page is used"
    ]


def test_a_directory_of_pages_that_leads_in_a_circle_ends(tmp_path: Path) -> None:
    path = tiff(tmp_path / "0.tif", GREY, photometric="minisblack")
    content = bytearray(path.read_bytes())
    start = struct.unpack("<I", content[4:8])[0]
    count = struct.unpack("<H", content[start : start + 2])[0]
    content[start + 2 + 12 * count : start + 6 + 12 * count] = struct.pack("<I", start)
    path.write_bytes(content)
    assert read_header(path).pages == 1


def odd_files(folder: Path) -> dict[str, Path]:
    found = {name: folder / f"{name}.png" for name in ("pipe", "device", "circle", "nothing")}
    os.mkfifo(found["pipe"])
    found["device"].symlink_to("/dev/zero")
    found["circle"].symlink_to(found["circle"])
    found["nothing"].symlink_to(folder / "gone.png")
    return found


@pytest.mark.parametrize("kind", ["pipe", "device", "circle", "nothing"])
def test_what_is_no_file_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = odd_files(tmp_path)[kind]
    reading: list[Callable[[], object]] = [
        lambda: read_content(path),
        lambda: read_header(path),
        lambda: Sample(path, "x").sha256,
        lambda: load_image(path, COLOUR),
    ]
    for read in reading:
        with pytest.raises(DataError, match=rf"{kind}\.png: "):
            read()


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_settings_and_groups_are_not_read_from_pipes_and_devices(kind: str, tmp_path: Path) -> None:
    path = odd_files(tmp_path)[kind].rename(tmp_path / "a.csv")
    with pytest.raises(SettingsError, match=r"a\.csv: cannot read the settings file: a device or a pipe"):
        read_toml(path)
    with pytest.raises(BlemishError, match=r"a\.csv: cannot read the groups: a device or a pipe"):
        read_groups(str(path), ["a.png"])


def test_a_settings_file_of_any_length_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.toml").open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(SettingsError, match=r"a\.toml: cannot read the settings file: larger than 10 MB"):
        read_toml(tmp_path / "a.toml")


@pytest.mark.slow
def test_an_odd_file_is_told_of_by_the_error_alone(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    content = path.read_bytes()
    at = content.index(struct.pack("<HHI", 277, 3, 1)) + 8
    path.write_bytes(content[:at] + struct.pack("<H", 65_535) + content[at + 2 :])
    script = f"from blemish.data.images import *; load_image({str(path)!r}, PixelPolicy(size_px=(8, 8)))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stderr
    assert "65535 channels" in said.splitlines()[-1]
    assert "More samples per pixel" not in said


@pytest.mark.parametrize("place", ["train", "train/good", "test", "test/cut"])
def test_links_in_the_place_of_a_data_sets_own_folders_are_followed_and_not_talked_about(
    place: str, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    for name in ("train/good/a.png", "test/good/b.png", "test/cut/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(RGB).save(root / name)
    before = read_folder(root)
    (root / place).rename(tmp_path / "elsewhere")
    (root / place).symlink_to(tmp_path / "elsewhere")
    assert read_folder(root) == before
    assert unread_images(root) == []
    assert photo_files(root) == sorted(sample.path for sample in (*before.train, *before.test))
    (root / "train/good/more").symlink_to(tmp_path)
    assert [path.name for path in unread_images(root)] == ["more"]


def test_a_data_sets_photos_and_masks_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("test/cut/a.png", "ground_truth/cut/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(RGB).save(tmp_path / name)
    listed: list[Path] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(Path(folder)) or real(folder))
    assert photos_and_masks(tmp_path) == ([tmp_path / "test/cut/a.png"], [tmp_path / "ground_truth/cut/a.png"])
    assert listed.count(tmp_path / "ground_truth/cut") == 1


def test_no_image_in_a_folder_is_silently_left_out(tmp_path: Path) -> None:
    odd = odd_files(tmp_path)
    below = tmp_path / "below"
    below.mkdir()
    Image.fromarray(RGB).save(below / "a.png")
    (tmp_path / "linked").symlink_to(below)
    (tmp_path / "again").symlink_to(tmp_path)
    assert image_files(tmp_path) == sorted([below / "a.png", *odd.values()])
    assert unread_images(tmp_path) == [tmp_path / "again", tmp_path / "linked"]


@pytest.mark.parametrize("closed", ["closed", "train", "train/good/closed"])
def test_a_folder_that_cannot_be_listed_is_an_error(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train/good/closed").mkdir(parents=True)
    (tmp_path / "closed").mkdir()
    real = os.scandir, os.listdir

    def refusing(listing: Callable[[str], object]) -> Callable[[str], object]:  # root may list any folder
        def listed(folder: str) -> object:
            if Path(folder) == tmp_path / closed:
                raise PermissionError(errno.EACCES, "Permission denied")
            return listing(folder)

        return listed

    monkeypatch.setattr(os, "scandir", refusing(real[0]))
    monkeypatch.setattr(os, "listdir", refusing(real[1]))
    with pytest.raises(DataError, match=rf"{closed}: cannot be listed: Permission denied"):
        read_folder(tmp_path) if closed.startswith("train") else image_files(tmp_path)
    if closed == "closed":  # beside what is read: said, and no reason to lose what was trained on the rest
        (tmp_path / "train/good/a.png").touch()
        assert "closed: cannot be listed: Permission denied" in read_folder(tmp_path).unread_note
        say_unread([tmp_path])


def progressive(scans: int) -> bytes:
    """A valid JPEG of 64 x 64 pixels that refines the same coefficients again and again."""

    def segment(marker: int, data: bytes) -> bytes:
        return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data

    head = segment(0xDB, b"\0" + bytes([1] * 64)) + segment(0xC2, struct.pack(">BHHB", 8, 64, 64, 1) + b"\x01\x11\x00")
    head += segment(0xC4, b"\x00" + bytes([1] + [0] * 15) + b"\x00")
    head += segment(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\x50")
    first = segment(0xDA, b"\x01\x01\x00\x00\x00\x00") + bytes(8)
    again = segment(0xDA, b"\x01\x01\x00\x01\x3f\x00") + b"\x40\x0f"
    return b"\xff\xd8" + head + first + again * scans + b"\xff\xd9"


def test_a_jpeg_of_very_many_scans_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(progressive(MAX_JPEG_SCANS))
    at = progressive(0).index(b"\xff\xd9")
    comment = b"\xff\xfe\x00\x04\xff\xd9"  # which ends no JPEG
    (tmp_path / "c.jpg").write_bytes(progressive(0)[:at] + comment + progressive(MAX_JPEG_SCANS)[at:])
    for name in ("a", "c"):
        message = rf"{name}\.jpg: a JPEG of {MAX_JPEG_SCANS + 1} scans, at most {MAX_JPEG_SCANS}"
        with pytest.raises(DataError, match=message):
            load_image(tmp_path / f"{name}.jpg", COLOUR)
    Image.fromarray(RGB).save(tmp_path / "b.jpg", progressive=True)
    assert load_image(tmp_path / "b.jpg", COLOUR).shape == (3, SIDE, SIDE)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_pixels_that_no_photo_has_in_so_few_bytes_are_refused_before_they_are_decoded(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new(mode, (4200, 4200), 200).save(tmp_path / "a.png")

    def decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    with pytest.raises(DataError, match=r"a\.png: 17640000 pixels in \d+ KiB, .* decompression bomb"):
        load_image(tmp_path / "a.png", COLOUR)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_one_image_takes_at_most_twelve_times_its_decoded_size(mode: str, tmp_path: Path) -> None:
    benchmark = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks/decode_memory.py"))
    side = 3000
    assert benchmark["decode_peak"](tmp_path, mode, side) < 12 * side * side * benchmark["KINDS"][mode]


def test_a_photo_of_one_colour_in_its_region_of_interest_is_refused(tmp_path: Path) -> None:
    from blemish.data.roi import encode_roi

    picture = RGB.copy()
    picture[:, SIDE // 2 :] = 30
    Image.fromarray(picture).save(tmp_path / "a.png")
    region = np.zeros((SIDE, SIDE), bool)
    region[:, SIDE // 2 :] = True
    sample = Sample(tmp_path / "a.png", "a.png")
    assert len(GoodImages([sample], COLOUR)) == 1
    with pytest.raises(DataError, match=r"a\.png: the photo has one value everywhere"):
        GoodImages([sample], PixelPolicy(size_px=(SIDE, SIDE), roi_png=encode_roi(region)))
