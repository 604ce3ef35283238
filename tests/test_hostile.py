"""Hostile photos by kind: every command that reads a folder reads a kind alike, or leaves it out for the same reason.

How each kind is read in detail is tested beside what reads it: tests/data/test_hostile_images.py and
test_hostile_masks.py, tests/inference/test_hostile_models.py, tests/cli/test_hostile_names.py and
test_hostile_settings.py, and tests/inspection/test_out_folder.py for what is written.
"""

import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from blemish.data.folder import read_folder
from blemish.data.images import PixelPolicy
from blemish.inspection.record import read_record
from blemish.settings import DataSettings
from blemish.training.batches import GoodImages
from blemish.training.job import good_samples
from conftest import draw_part
from reference.command import run

pytestmark = pytest.mark.usefixtures("undrawn")

RGB: NDArray[np.uint8] = np.asarray(draw_part(np.random.default_rng(5))[0])
GREY = RGB[:, :, 1]
DEEP = RGB.astype(np.uint16) * 257
DEEP_GREY = GREY.astype(np.uint16) * 257
COLOUR, ONE = "colour.png", "grey.png"
"""The photo as everybody stores it, which those that are read must score like."""


class Kind(NamedTuple):
    """A hostile photo: how it is made, and what is right."""

    make: Callable[[Path], object]
    like: str | None = None
    """The plain photo that it scores like; None: it is refused."""
    said: str = ""
    """Words of why it is refused, or of its message."""


def tiff(pixels: NDArray[Any], **options: Any) -> Callable[[Path], object]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


def pillow(image: Image.Image, form: str, **options: Any) -> Callable[[Path], object]:
    return lambda path: image.save(path, form, **options)


def content(text: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(RGB)).save(path, exif=exif)


def png(width: int, height: int, data: bytes) -> bytes:
    """A PNG of that size with such a compressed content."""

    def chunk(kind: bytes, text: bytes) -> bytes:
        return len(text).to_bytes(4, "big") + kind + text + zlib.crc32(kind + text).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


PHOTO, GRAY = Image.fromarray(RGB), Image.fromarray(GREY)
SPOTTED = PHOTO.copy()
SPOTTED.putalpha(Image.fromarray(np.where(GREY > 100, 255, 128).astype(np.uint8)))
CLEAR = PHOTO.copy()
CLEAR.putalpha(0)

KINDS: dict[str, Kind] = {
    COLOUR: Kind(pillow(PHOTO, "PNG"), COLOUR),
    ONE: Kind(pillow(GRAY, "PNG"), ONE),
    "planar 16.tif": Kind(
        tiff(np.ascontiguousarray(DEEP.transpose(2, 0, 1)), photometric="rgb", planarconfig="separate"), COLOUR
    ),
    "big-endian.tif": Kind(tiff(DEEP, photometric="rgb", byteorder=">"), COLOUR),
    "bigtiff.tif": Kind(tiff(DEEP, photometric="rgb", bigtiff=True), COLOUR),
    "tiles.tif": Kind(tiff(DEEP_GREY, tile=(32, 32)), ONE),
    "predictor.tif": Kind(tiff(DEEP_GREY, compression="zlib", predictor=True), ONE),
    "white is 0.tif": Kind(tiff(65_535 - DEEP_GREY, photometric="miniswhite"), ONE),
    "floats.tif": Kind(tiff((GREY / 255).astype(np.float32)), ONE),
    "colour floats.tif": Kind(tiff((RGB / 255).astype(np.float32), photometric="rgb"), COLOUR),
    "pages.tif": Kind(tiff(np.stack([DEEP_GREY] * 3), photometric="minisblack"), ONE, "page 1 of 3"),
    "turned.webp": Kind(lambda path: turned(path.with_suffix(".png")) or path.with_suffix(".png").rename(path), COLOUR),
    "moving.png": Kind(
        pillow(PHOTO, "PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)]), COLOUR, "page 1 of 2"
    ),
    "cmyk.tif": Kind(pillow(PHOTO.convert("CMYK"), "TIFF"), COLOUR),
    "twelve bits.png": Kind(lambda path: Image.fromarray(DEEP_GREY >> 4).save(path), "", "12 bits in 16?"),
    "see-through.png": Kind(pillow(SPOTTED, "PNG"), "", "transparent in part"),
    "clear.png": Kind(pillow(CLEAR, "PNG"), None, "every pixel is transparent"),
    "one value.png": Kind(pillow(Image.new("RGB", (64, 64), (9, 9, 9)), "PNG"), None, "one value everywhere"),
    "floats to 255.tif": Kind(tiff(GREY.astype(np.float32)), None, "expected [0, 1]"),
    "signed.tif": Kind(tiff((GREY // 2).astype(np.int8)), None, "8-bit signed integers"),
    "complex.tif": Kind(tiff(GREY.astype(np.complex64)), None, "complex numbers"),
    "five channels.tif": Kind(
        tiff(np.dstack([RGB, RGB[..., :2]]), photometric="minisblack", planarconfig="contig"), None, "5 channels"
    ),
    "thumbnail first.tif": Kind(tiff(GREY, subfiletype=1), None, "a reduced image"),
    "raw sensor.tif": Kind(tiff(GREY, photometric="cfa"), None, "raw sensor"),
    "a gif.png": Kind(pillow(PHOTO, "GIF"), None, "a GIF image"),
    "a pdf.jpg": Kind(content(b"%PDF-1.7"), None, "a PDF document"),
    "a page.png": Kind(content(b"<!DOCTYPE html>"), None, "a page of HTML"),
    "lfs.png": Kind(content(b"version https://git-lfs.github.com/spec/v1\n"), None, "Git LFS"),
    "empty.png": Kind(content(b""), None, "an empty file"),
    "cut.png": Kind(lambda path: (PHOTO.save(path), path.write_bytes(path.read_bytes()[:-200])), None, "truncated"),
    "bomb.png": Kind(content(png(40_000, 40_000, zlib.compress(bytes(1000)))), None, "more than 178956970 pixels"),
    "scans.jpg": Kind(content(b"\xff\xd8" + b"\xff\xda\0\x02" * 200), None, "image"),
    "fifo.png": Kind(os.mkfifo, None, "a device or a pipe"),
    "circle.png": Kind(lambda path: path.symlink_to(path.name), None, "not an image that can be read"),
    "nowhere.png": Kind(lambda path: path.symlink_to("gone.png"), None, "no such file"),
}
REFUSED = {name: kind.said for name, kind in KINDS.items() if kind.like is None}
READ = {name: kind for name, kind in KINDS.items() if kind.like is not None}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one photo of each kind; read only."""
    folder = tmp_path_factory.mktemp("hostile")
    for name, kind in KINDS.items():
        kind.make(folder / name)
    return folder


def assert_left_out(told: dict[str, str]) -> None:
    """All that is refused, nothing else, and for the right reason; `told` by name."""
    assert told.keys() == REFUSED.keys()
    assert [(name, told[name]) for name, words in REFUSED.items() if words not in told[name]] == []


def test_training_leaves_out_what_cannot_be_read_right(hostile: Path) -> None:
    samples, skipped = good_samples(read_folder(hostile), DataSettings(skip_bad=True))
    images = GoodImages(samples, PixelPolicy(size_px=(64, 64)), skip_bad=True)
    assert_left_out({**skipped, **images.skipped})
    notes = " ".join(images.readings.notes)
    assert [name in notes for name in ("twelve bits.png", "see-through.png")] == [True, True], notes


@pytest.mark.parametrize("way", ["inspect", "watch"])
def test_a_photo_is_judged_like_the_plain_one_or_called_unreadable(
    way: str, model_file: Path, hostile: Path, tmp_path: Path
) -> None:
    if way == "inspect":
        done = run("inspect", model_file, hostile, "--skip-bad", "--format", "json")
        rows = {Path(row["path"]).name: row for row in json.loads(done.stdout)}
    else:
        times = ["--settle", 0, "--patience", 0, "--until-idle", 0]
        done = run("watch", model_file, hostile, "--to", tmp_path / "r.csv", *times)
        rows = {one.image_path: vars(one) for one in read_record(tmp_path / "r.sqlite")}
        for name in ("fifo.png", "circle.png", "nowhere.png"):  # nothing to decide about, and said all the same
            assert sum(line.startswith("trouble: ") and name in line for line in done.stderr.splitlines()) == 1
            rows[name] = {"verdict": "unreadable", "message": REFUSED[name]}
    assert done.exit_code in (0, 1, 3), done.output
    assert_left_out({name: row["message"] for name, row in rows.items() if row["verdict"] == "unreadable"})
    for name, kind in READ.items():
        assert kind.said in rows[name]["message"], name
        if kind.like:
            assert rows[name]["score"] == pytest.approx(rows[kind.like]["score"], rel=1e-4), name


@pytest.mark.slow
def test_an_evaluation_leaves_out_what_cannot_be_read_right(model_file: Path, hostile: Path, tmp_path: Path) -> None:
    done = run("evaluate", model_file, hostile, "-o", tmp_path / "out", "--skip-bad")
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert_left_out(results["data"]["skipped"])
    assert {"pages", "depth", "transparency"} <= results["notes"].keys()


def test_a_data_check_names_what_cannot_be_read_right(hostile: Path) -> None:
    done = run("data", "check", hostile, "--format", "json", "--set", "data.size_px=[64,64]")
    assert done.exit_code == 1, done.output
    findings = json.loads(done.stdout)["findings"]
    assert_left_out({one["paths"][0]: one["message"] for one in findings if one["kind"] == "unreadable"})
    told = " ".join(one["message"] for one in findings if one["kind"] == "format")
    for words in ("12 bits in 16", "transparent pixels", "pages or frames", "turned or mirrored"):
        assert words in told
