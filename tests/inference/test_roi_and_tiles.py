"""Regions of interest and tiles: what lies outside never matters, and no seam shows."""

from pathlib import Path
from typing import Any, final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from blemish.data.folder import read_folder
from blemish.data.images import PixelPolicy, prepare
from blemish.data.progress import quiet
from blemish.data.roi import encode_roi
from blemish.data.tiles import join_tiles, tile_boxes
from blemish.errors import SettingsError
from blemish.inference.predictor import Predictor, scored_map
from blemish.models import DETECTORS
from blemish.models.detector import Detector, ImageShape
from blemish.settings import ScoreSettings, Settings
from blemish.training.batches import GoodImages
from blemish.training.checkpoint import Checkpoint
from blemish.training.fit import fit_and_score
from blemish.training.job import Split, good_samples
from blemish.training.policy import resolve_policy
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY

LEFT = "data.roi=[0, 0, 0.25, 1]"
"""With its margin, the network sees 20 of 64 columns, and 12 more as it sees at least 32."""


def settings(*more: str):
    return make_settings("conv_autoencoder", assignments=[*TINY, *more])


@pytest.mark.slow
def test_pixels_farther_outside_than_the_margin_never_matter(parts: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    header = train_model(parts, model, settings(LEFT))
    assert (header.policy.map_px, header.policy.at_px) == ((64, 128), (0, 0))
    for path in (parts / "train/good").iterdir():  # spoil all that lies farther out
        with Image.open(path) as picture:
            spoiled = np.array(picture)
        spoiled[:, 21:] = 255
        Image.fromarray(spoiled).save(path)
    again = train_model(parts, tmp_path / "again", settings(LEFT))
    assert again.calibration_scores == header.calibration_scores
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    predictor = Predictor.load(model)
    before = predictor.predict(image)
    image[:, 21:] = 0
    after = predictor.with_threshold(0.0).predict(image)
    assert after.score == before.score
    assert not after.defect_mask[:, 16:].any()
    assert after.defect_mask[:, :16].any()
    assert max(region.left + region.width for region in after.regions) <= 16


@final
class Told(Detector):
    """Learns nothing, and keeps what it is told before it is fitted."""

    Settings = Settings

    def __init__(self, _settings: Settings, shape: ImageShape) -> None:
        super().__init__(shape)
        self.seen = [torch.zeros(0, dtype=torch.bool)]

    def look_only_at(self, judged: Tensor) -> None:
        self.seen.append(judged)

    def fit(self, batches: Any, optimise: Any) -> None:
        """What was told last becomes part of the state."""
        self.register_buffer("judged", self.seen[-1])

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=1)


@pytest.mark.parametrize(
    ("area", "is_told"),
    [
        ([], False),
        (["data.ignore=[0, 0, 0.5, 1]"], True),
        (["data.roi=[0, 0, 0.5, 1]", "data.tile_px=[32, 32]", "data.tile_overlap_px=8"], False),
    ],
)
def test_a_detector_is_told_what_is_judged_where_that_is_the_same_in_every_pass(
    area: list[str], is_told: bool, shared_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DETECTORS, "told", Told)
    size = [] if "tile" in str(area) else ["data.size_px=[32, 64]"]
    run = make_settings("told", assignments=[*size, *area])
    samples, _ = good_samples(read_folder(shared_parts), run.data)
    images = GoodImages(samples[:4], resolve_policy(samples, run))
    checkpoint = Checkpoint(tmp_path / "state", {}, 1e9, resume=False)
    found = fit_and_score(images, Split((0, 1), (2, 3)), run, checkpoint, "cpu", quiet).state["judged"]
    if not is_told:
        assert found.size == 0
        return
    assert found[:, 32:].all()
    assert not found[:, :32].any()


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


class Brightness:
    """Maps that are the first channel; counts the images."""

    def __init__(self) -> None:
        self.seen = 0

    def maps(self, images: np.ndarray) -> np.ndarray:
        self.seen += len(images)
        return np.ascontiguousarray(images[:, 0])

    def reconstruct(self, images: np.ndarray) -> None:
        """Nothing."""


def test_tiles_in_which_nothing_is_judged_are_not_looked_at_and_change_nothing() -> None:
    roi = np.zeros((64, 96), np.bool_)
    roi[:20, :30] = roi[50:, 60:] = True
    policy = PixelPolicy(size_px=roi.shape, tile_px=(32, 32), tile_overlap_px=8, roi_png=encode_roi(roi))
    prepared = prepare(np.random.default_rng(0).integers(0, 256, (*roi.shape, 3), dtype=np.uint8), policy)
    boxes, runtime = tile_boxes(roi.shape, (32, 32), 8), Brightness()
    whole = join_tiles(roi.shape, boxes, 8, lambda box: prepared.pixels(box)[0]) * roi
    assert np.array_equal(scored_map(runtime, prepared, ScoreSettings()), whole)
    assert (runtime.seen, len(boxes)) == (6, 12)


@pytest.mark.slow
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
    with pytest.raises(SettingsError, match="a tile's height of 128 is larger than the image's, 64; give smaller ones"):
        train_model(parts, tmp_path / "m", run)


@pytest.mark.slow
def test_small_defects_raise_no_alarm_where_that_is_asked(parts: Path, tmp_path: Path) -> None:
    train_model(parts, tmp_path / "m", settings("score.min_defect_px=5"))
    train_model(parts, tmp_path / "plain", settings())
    image = np.asarray(Image.open(parts / "train/good/000.png").convert("RGB")).copy()
    image[10, 10] = 255
    opened, plain = (Predictor.load(tmp_path / name).predict(image) for name in ("m", "plain"))
    assert plain.scored_map[10, 10] > opened.scored_map[10, 10]
    assert opened.score <= plain.score
