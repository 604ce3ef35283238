"""Files of full length whose end is still zeros."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blemish.data.decode import open_image
from blemish.data.images import PixelPolicy, load_image
from blemish.data.masks import load_mask
from blemish.data.tiff import Tiff
from blemish.data.unwritten import PAGE_BYTES, refuse_unwritten
from blemish.errors import DataError

PHOTO = np.random.default_rng(0).integers(60, 200, (96, 131, 3), np.uint8)
SMALL = PixelPolicy(size_px=(8, 8))


def _write_half(path: Path, pixels: NDArray[np.generic], form: str = "BMP", **options: Any) -> None:
    """An image that is read, then the same with zeros from the second page of its file on."""
    Image.fromarray(pixels).save(path, format=form, **options)
    content = path.read_bytes()
    assert len(content) > 2 * PAGE_BYTES
    open_image(path, 1 << 20, is_drawn=True)
    path.write_bytes(content[:PAGE_BYTES] + bytes(len(content) - PAGE_BYTES))


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_whose_end_is_still_zeros_is_refused(tmp_path: Path, form: str, share: float) -> None:
    path = tmp_path / f"a.{form.lower()}"
    noise = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    Image.fromarray(noise).save(path, format=form)
    whole = path.read_bytes()
    cut = int(share * len(whole))
    path.write_bytes(whole[:cut] + bytes(len(whole) - cut))
    with pytest.raises(DataError, match=r"a\.(png|jpeg): a (truncated image, its end is missing|damaged)"):
        load_image(path, SMALL)
    path.write_bytes(whole + b"what a camera appends")
    assert load_image(path, SMALL).shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("form", "mode"),
    [("BMP", "L"), ("BMP", "RGB"), ("TIFF", "L"), ("TIFF", "RGB"), ("TIFF", "I;16"), ("TIFF", "F"), ("WEBP", "RGB")],
)
def test_kinds_without_a_mark_at_their_end_are_refused_too(tmp_path: Path, form: str, mode: str) -> None:
    path = tmp_path / "a.image"
    photo = PHOTO[:, :, 0]
    pictures = {"L": photo, "RGB": PHOTO, "I;16": photo.astype(np.uint16) * 257, "F": (photo / 255).astype(np.float32)}
    options = {"lossless": True} if form == "WEBP" else {}
    _write_half(path, pictures[mode], form, **options)
    with pytest.raises(DataError, match="a truncated image, its end is missing; copy it again"):
        open_image(path, 1 << 20)


def test_black_that_begins_with_a_row_is_of_the_photo() -> None:
    """Also where rows end with pages of the file, as those of cameras that align their pixels do."""
    tiff = Tiff("<", {256: (1024,), 257: (64,), 258: (8,), 259: (1,), 273: (PAGE_BYTES,)}, 1)
    content = bytes([200]) * (5 * PAGE_BYTES) + bytes(12 * PAGE_BYTES)
    refuse_unwritten("TIFF", content, "a.tif", tiff)
    with pytest.raises(DataError, match=r"a\.tif: a truncated image"):
        refuse_unwritten("TIFF", content, "a.tif", tiff._replace(tags=tiff.tags | {273: (PAGE_BYTES - 8,)}))


@pytest.mark.parametrize("image_format", ["MPO", "DIB", "TIFF", None])
def test_of_other_kinds_nothing_is_guessed(image_format: str | None) -> None:
    content = bytes([200]) * PAGE_BYTES + bytes(2 * PAGE_BYTES)
    refuse_unwritten(image_format, content, "a")
    with pytest.raises(DataError, match="a: a truncated image"):
        refuse_unwritten("WEBP", content, "a")


def test_a_photo_that_fades_into_black_within_a_row_is_read(tmp_path: Path) -> None:
    _write_half(tmp_path / "a.bmp", np.full((96, 101), 12, np.uint8))
    assert open_image(tmp_path / "a.bmp", 1 << 20).size == (101, 96)


def test_a_mask_may_end_in_black_anywhere(tmp_path: Path) -> None:
    _write_half(tmp_path / "a.bmp", np.full((96, 101), 255, np.uint8))
    assert load_mask(tmp_path / "a.bmp", (96, 101)).any()


def test_a_tiff_whose_tags_are_zeros_is_called_truncated(tmp_path: Path) -> None:
    _write_half(tmp_path / "a.tif", PHOTO, "TIFF", compression="tiff_deflate")
    with pytest.raises(DataError, match=r"a damaged or truncated image \(a TIFF whose tags cannot be read"):
        open_image(tmp_path / "a.tif", 1 << 20)
