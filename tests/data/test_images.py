"""The pixel policy: every kind of file gives the numbers it should, and bad ones are named."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.data.decode import read_header
from blemish.data.images import PixelPolicy, load_image, read_original
from blemish.data.masks import load_mask
from blemish.errors import DataError

GREY = PixelPolicy(size_px=(16, 16), channels=1)
COLOUR = PixelPolicy(size_px=(16, 16), channels=3)


def a_picture(side: int = 16) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
def test_lossless_formats_keep_every_value(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    a_picture().save(path, **({"lossless": True} if suffix == "webp" else {}))
    wanted = np.asarray(a_picture(), np.float32).transpose(2, 0, 1) / np.float32(255)
    np.testing.assert_array_equal(load_image(path, COLOUR), wanted)


def test_jpeg_is_read_nearly_as_it_was(tmp_path: Path) -> None:
    smooth = Image.linear_gradient("L").resize((16, 16)).convert("RGB")
    smooth.save(tmp_path / "a.jpg", quality=95)
    assert np.abs(load_image(tmp_path / "a.jpg", COLOUR) - load_image(smooth, COLOUR)).max() < 0.03


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "I;16", "F"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_what_the_policy_says(mode: str, channels: int) -> None:
    policy = PixelPolicy(size_px=(8, 12), channels=channels)
    image = load_image(Image.new(mode, (24, 16), {"LA": (0, 255), "RGBA": (0, 0, 0, 255)}.get(mode, 0)), policy)
    assert image.shape == (channels, 8, 12)
    assert image.dtype == np.float32
    assert 0.0 <= image.min() <= image.max() <= 1.0


@pytest.mark.parametrize("kind", ["u2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)])
def test_arrays_of_any_byte_order_are_the_same(kind: str, shape: tuple[int, ...]) -> None:
    """As readers of big-endian TIFF and FITS files give them."""
    values = np.random.default_rng(0).random(shape) if kind[0] == "f" else np.arange(np.prod(shape)).reshape(shape)
    little, big = (load_image(values.astype(f"{order}{kind}"), COLOUR) for order in "<>")
    np.testing.assert_array_equal(little, big)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_sixteen_bits_are_not_cut_to_eight(tmp_path: Path, name: str) -> None:
    values = (np.arange(256, dtype=np.uint16) * 257 + 3).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / name)
    np.testing.assert_allclose(load_image(tmp_path / name, GREY)[0], values / 65_535, atol=1e-7)
    assert read_header(tmp_path / name).is_grey


def test_white_level_scales_twelve_bit_cameras() -> None:
    policy = GREY.model_copy(update={"white_level": 4095})
    image = np.full((16, 16), 4095, np.uint16)
    image[0] = 60_000
    assert load_image(image, policy).min() == 1.0 == load_image(image, policy).max()
    assert load_image(image // 2, policy)[0, 5, 5] == pytest.approx(2047 / 4095)


def test_a_palette_is_looked_up_and_transparency_lies_over_black() -> None:
    red = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    red.putpixel((0, 0), (255, 0, 0, 255))
    assert load_image(red, COLOUR).sum() == 1.0
    palette = Image.new("RGB", (16, 16), (0, 255, 0)).convert("P")
    assert load_image(palette, COLOUR)[:, 0, 0].tolist() == [0.0, 1.0, 0.0]


def test_exif_orientation_is_followed(tmp_path: Path) -> None:
    wide = Image.new("RGB", (32, 16))
    wide.paste((255, 255, 255), (0, 0, 16, 16))  # left half white
    exif = wide.getexif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to look at it
    wide.save(tmp_path / "a.png", exif=exif)
    assert read_header(tmp_path / "a.png").size_px == (32, 16)
    image = load_image(tmp_path / "a.png", PixelPolicy(size_px=(32, 16), channels=1))
    assert image[0, :16].min() == 1.0
    assert image[0, 16:].max() == 0.0


@pytest.mark.parametrize("at_px", [None, (40, 10)])
def test_columns_are_resized_before_rows_whatever_pillow_would_do(at_px: tuple[int, int] | None) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (332, 120, 3), np.uint8))
    part: Any = {} if at_px is None else {"map_px": (249, 240), "at_px": at_px}
    policy = PixelPolicy(size_px=(188, 210), **part)
    top, left, bottom, right = policy.part_px((332, 120)) or (0, 0, 332, 120)
    how = Image.Resampling.BILINEAR
    expected = photo.resize((210, 332), how, (left, 0, right, 332)).resize((210, 188), how, (0, top, 210, bottom))
    np.testing.assert_array_equal(load_image(photo, policy).transpose(1, 2, 0), np.float32(expected) / np.float32(255))


def test_resizing_does_not_alias() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    image = load_image(stripes, PixelPolicy(size_px=(16, 16), channels=1))
    assert np.abs(image[0, :, 1:-1] - 0.5).max() < 0.01  # a border sees half of its surroundings


@given(st.integers(8, 40), st.integers(8, 40), st.integers(0, 255))
def test_a_flat_image_stays_flat_at_any_size(height: int, width: int, value: int) -> None:
    image = load_image(np.full((21, 13), value, np.uint8), PixelPolicy(size_px=(height, width), channels=1))
    assert image.shape == (1, height, width)
    np.testing.assert_allclose(image, value / 255, atol=1e-6)


def test_arrays_and_files_give_the_same(tmp_path: Path) -> None:
    a_picture(40).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png", COLOUR), load_image(np.asarray(a_picture(40)), COLOUR))
    np.testing.assert_array_equal(load_image(str(tmp_path / "a.png"), COLOUR), load_image(a_picture(40), COLOUR))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4, 2), np.uint8), "shape"),
        (np.zeros((0, 4), np.uint8), "shape"),
        (np.zeros((4, 4), np.int64), "type int64"),
        (np.full((4, 4), 1.5), "floats from 1.5"),
        (np.full((4, 4), np.nan), "without NaN"),
        (np.ma.masked_less(np.eye(4), 0.5), "masked pixels, which would be judged as they are; fill them"),
    ],
)
def test_odd_arrays_are_refused(array: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_image(array, GREY)


def test_bad_files_are_named(tmp_path: Path) -> None:
    a_picture(64).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.png").mkdir()
    expected = {"cut.png": "truncated", "text.png": "not an image", "empty.jpg": "an empty file"}
    expected |= {"folder.png": "a folder", "missing.png": "no such file"}
    for name, reason in expected.items():
        with pytest.raises(DataError, match=rf"{name}: .*{reason}"):
            load_image(tmp_path / name, COLOUR)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (9000, 9000)).save(tmp_path / "big.png")
    policy = COLOUR.model_copy(update={"max_image_px": 1_000_000})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=r"big\.png: 9000 x 9000 = 81000000 pixels, the limit is 1000000"):
            load_image(tmp_path / "big.png", policy)


def test_another_aspect_is_refused_where_the_policy_keeps_it() -> None:
    square = PixelPolicy(size_px=(16, 16), aspect=1.0)
    assert load_image(np.zeros((52, 51), np.uint8), square).shape == (3, 16, 16)
    with pytest.raises(DataError, match=r"64 x 32 .* aspect of 2; the model is for 1"):
        load_image(np.zeros((64, 32), np.uint8), square)


def test_originals_are_shown_at_their_own_size(tmp_path: Path) -> None:
    Image.fromarray(np.full((20, 30), 65_535, np.uint16)).save(tmp_path / "deep.png")
    shown = read_original(tmp_path / "deep.png")
    assert shown.mode == "RGB"
    assert shown.size == (30, 20)
    assert np.asarray(shown).min() == 255


def test_masks_are_resized_by_nearest_neighbour(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 4:6] = 1  # any value above 0 counts
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert load_mask(tmp_path / "m.png", (4, 4), (8, 8)).tolist() == (mask[1::2, 1::2] > 0).tolist()


def test_bad_masks_are_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "empty.png")
    Image.new("L", (9, 8), 255).save(tmp_path / "other.png")
    with pytest.raises(DataError, match=r"empty\.png: an empty mask"):
        load_mask(tmp_path / "empty.png", (8, 8))
    with pytest.raises(DataError, match=r"other\.png: mask of 8 x 9, its image is 8 x 8"):
        load_mask(tmp_path / "other.png", (8, 8), (8, 8))


@pytest.mark.parametrize("channels", [1, 3])
def test_lab_images_are_read(tmp_path: Path, channels: int) -> None:
    lab = Image.merge("LAB", [Image.new("L", (8, 8), value) for value in (140, 128, 128)])
    lab.putpixel((0, 0), (0, 128, 128))
    lab.save(tmp_path / "a.tif")
    pixels = load_image(tmp_path / "a.tif", PixelPolicy(size_px=(8, 8), channels=channels))
    assert pixels.shape == (channels, 8, 8)
    assert 0.3 < pixels.mean() < 0.7


def test_a_file_too_large_to_be_an_image_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    with pytest.raises(DataError, match=r"a\.png: 1048576 MiB, at most 2730 MiB are read"):
        load_image(tmp_path / "a.png", PixelPolicy(size_px=(8, 8)))
