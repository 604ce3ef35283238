"""Regions of interest and tiles: what lies outside never matters, and no seam shows."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.data.folder import read_folder
from blemish.data.images import PixelPolicy, load_image
from blemish.data.roi import encode_roi, load_roi
from blemish.data.tiles import join_tiles, tile_boxes
from blemish.errors import DataError, SettingsError
from blemish.inference.predictor import Predictor
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY

LEFT_HALF = "data.roi=[[0, 0], [0.5, 0], [0.5, 1], [0, 1]]"


def settings(*more: str):
    return make_settings("conv_autoencoder", assignments=[*TINY, *more])


def test_pixels_outside_the_region_never_matter(parts: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    header = train_model(parts, model, settings(LEFT_HALF))
    for path in (parts / "train/good").iterdir():  # spoil all that lies outside
        with Image.open(path) as picture:
            spoiled = np.array(picture)
        spoiled[:, 32:] = 255
        Image.fromarray(spoiled).save(path)
    again = train_model(parts, tmp_path / "again", settings(LEFT_HALF))
    assert again.calibration_scores == header.calibration_scores
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    predictor = Predictor.load(model)
    before = predictor.predict(image)
    image[:, 32:] = 0
    after = predictor.with_threshold(0.0).predict(image)
    assert after.score == before.score
    assert not after.defect_mask[:, 32:].any()
    assert after.defect_mask[:, :32].any()


def test_a_mask_file_is_a_region_of_interest(tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[:64] = 1
    Image.fromarray(mask).save(tmp_path / "roi.png")
    region = load_roi(str(tmp_path / "roi.png"), (32, 32), aspect=1.0)
    assert region[:16].all()
    assert not region[16:].any()
    policy = PixelPolicy(size_px=(32, 32), channels=1, roi_png=encode_roi(region))
    assert load_image(np.full((64, 64), 255, np.uint8), policy)[0].tolist() == region.astype(float).tolist()


def test_bad_regions_are_refused(tmp_path: Path) -> None:
    Image.new("L", (128, 64), 255).save(tmp_path / "wide.png")
    Image.new("L", (64, 64)).save(tmp_path / "empty.png")
    with pytest.raises(DataError, match=r"wide\.png: region of interest of 64 x 128 .* the images' aspect is 1"):
        load_roi(str(tmp_path / "wide.png"), (64, 64), aspect=1.0)
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        load_roi(str(tmp_path / "none.png"), (64, 64), aspect=1.0)
    with pytest.raises(SettingsError, match="no pixel of the 64 x 64 image lies inside"):
        load_roi(str(tmp_path / "empty.png"), (64, 64), aspect=1.0)
    with pytest.raises(SettingsError, match="found 340; a polygon has three or more corners"):
        load_roi(((0, 0), (340, 0), (1, 1)), (64, 64), aspect=1.0)
    with pytest.raises(SettingsError, match="found 2 corners"):
        load_roi(((0, 0), (1, 1)), (64, 64), aspect=1.0)


@given(st.integers(4, 60), st.integers(4, 60), st.integers(4, 20), st.integers(0, 12))
def test_joining_tiles_changes_nothing(height: int, width: int, tile: int, overlap: int) -> None:
    if tile > min(height, width) or overlap >= tile:
        with pytest.raises(SettingsError, match=r"data\.tile_"):
            tile_boxes((height, width), (tile, tile), overlap)
        return
    whole = np.random.default_rng(0).random((height, width), np.float32)
    boxes = tile_boxes((height, width), (tile, tile), overlap)
    joined = join_tiles((height, width), boxes, overlap, lambda box: whole[box[0] : box[2], box[1] : box[3]])
    np.testing.assert_allclose(joined, whole, rtol=1e-5)


def test_a_model_of_tiles_judges_images_of_their_own_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(4):
        Image.fromarray(rng.integers(0, 255, (100, 150), dtype=np.uint8)).save(tmp_path / f"{place}.png")
    tiled = [line for line in TINY if "size_px" not in line]
    run = make_settings("conv_autoencoder", assignments=[*tiled, "data.tile_px=[64, 64]", "data.tile_overlap_px=16"])
    header = train_model(tmp_path, tmp_path / "m", run)
    assert header.policy.size_px == (100, 150)
    prediction = Predictor.load(tmp_path / "m").predict(read_folder(tmp_path).train[0].path)
    assert prediction.scored_map.shape == (100, 150)
    assert prediction.score == prediction.scored_map.max()


def test_a_tile_larger_than_the_image_is_refused(parts: Path, tmp_path: Path) -> None:
    tiled = [line for line in TINY if "size_px" not in line]
    run = make_settings("conv_autoencoder", assignments=[*tiled, "data.tile_px=[128, 64]"])
    with pytest.raises(SettingsError, match="a tile's height of 128 is larger than the image's, 64"):
        train_model(parts, tmp_path / "m", run)


def test_small_defects_raise_no_alarm_where_that_is_asked(parts: Path, tmp_path: Path) -> None:
    train_model(parts, tmp_path / "m", settings("score.min_defect_px=5"))
    train_model(parts, tmp_path / "plain", settings())
    image = np.asarray(Image.open(parts / "train/good/000.png").convert("RGB")).copy()
    image[10, 10] = 255
    opened, plain = (Predictor.load(tmp_path / name).predict(image) for name in ("m", "plain"))
    assert plain.scored_map[10, 10] > opened.scored_map[10, 10]
    assert opened.score <= plain.score
