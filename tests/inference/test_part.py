"""A model that sees a part of a photo: the same verdict from torch and ONNX, everything in the photo's own pixels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import read_folder
from blemish.data.images import prepare
from blemish.errors import ArtifactError
from blemish.evaluation.challenge.trials import own_region
from blemish.evaluation.evaluate import evaluate_model
from blemish.inference.artifact import FORMAT, read_artifact, write_artifact
from blemish.inference.onnx_file import plain_metadata
from blemish.inference.predictor import Predictor
from blemish.training.export import export_model
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY
from reference.command import run

SIZE = [line for line in TINY if "size_px" not in line]
PART = ["data.side_px=64", "data.roi=[120, 60, 160, 100]", "data.ignore=[[120, 60], [130, 60], [120, 70]]"]
TILES = ["data.tile_px=[32, 32]", "data.tile_overlap_px=8"]


def photo(rng: np.random.Generator) -> np.ndarray:
    """A photo of 150 x 200 whose ground is all noise, and a plate of little noise at (60, 120) to (100, 160)."""
    pixels = rng.integers(0, 255, (150, 200), dtype=np.uint8)
    pixels[50:110, 110:170] = rng.integers(118, 138, (60, 60), dtype=np.uint8)
    return pixels


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("plates"), np.random.default_rng(0)
    for folder in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (root / folder).mkdir(parents=True)
    for place in range(12):
        Image.fromarray(photo(rng)).save(root / f"train/good/{place:02}.png")
    for place in range(3):
        Image.fromarray(photo(rng)).save(root / f"test/good/{place}.png")
        pixels, mask = photo(rng), np.zeros((150, 200), np.uint8)
        pixels[80:86, 140:146] = 255
        mask[80:86, 140:146] = 255
        mask[10:13, 10:13] = 255 if place == 0 else 0  # something that nobody is asked to find
        Image.fromarray(pixels).save(root / f"test/spot/{place}.png")
        Image.fromarray(mask).save(root / f"ground_truth/spot/{place}.png")
    return root


@pytest.fixture(scope="module", params=[(), pytest.param(TILES, marks=pytest.mark.slow)], ids=["whole", "tiles"])
def model(request: pytest.FixtureRequest, plates: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("part") / "m.safetensors"
    train_model(plates, path, make_settings("conv_autoencoder", assignments=[*SIZE, *PART, *request.param]))
    return path


@pytest.mark.slow
def test_torch_and_onnx_say_the_same_in_the_photos_pixels(model: Path, plates: Path, tmp_path: Path) -> None:
    export_model(model, tmp_path / "m.onnx", good=plates / "test/good")
    trained, exported = Predictor.load(model), Predictor.load(tmp_path / "m.onnx")
    assert trained.policy.map_px is not None
    assert plain_metadata(exported.header)["blemish.fit"] == "part"  # programs that know no parts refuse it
    for path in sorted((plates / "test/spot").iterdir()):
        ours, theirs = trained.with_threshold(0.0).predict(path), exported.with_threshold(0.0).predict(path)
        assert ours.score == pytest.approx(theirs.score, rel=1e-3)
        assert ours.anomaly_map.shape == (150, 200)
        np.testing.assert_allclose(ours.anomaly_map, theirs.anomaly_map, atol=1e-3 * ours.score)
        inside = np.zeros((150, 200), bool)
        inside[59:101, 119:161] = True  # a pixel of the map may lie across the border
        assert not ours.defect_mask[~inside].any()
        assert not ours.defect_mask[61:64, 121:124].any()  # ignored
        assert ours.defect_mask[70:98, 135:158].all()
        assert all(region.left >= 119 and region.left + region.width <= 161 for region in ours.regions)
        assert ours.score == ours.anomaly_map.max()


def test_pixels_outside_the_margin_are_not_seen(model: Path) -> None:
    predictor, rng = Predictor.load(model), np.random.default_rng(1)
    image = photo(rng)
    before = predictor.predict(image).score
    image[:50] = 0
    image[:, :100] = 255
    assert predictor.predict(image).score == before
    half = np.asarray(Image.fromarray(photo(rng)).resize((100, 75)))  # another size: the region lies at the same shares
    top, left, bottom, right = predictor.policy.part_px(half.shape) or (0, 0, 0, 0)
    assert (top, left, bottom, right) == pytest.approx((28.5, 58.5, 51.5, 81.5), abs=5)
    assert prepare(half, predictor.policy).values.shape == predictor.policy.size_px


@pytest.mark.slow
def test_evaluate_counts_what_is_marked_inside_and_says_what_is_not(model: Path, plates: Path, tmp_path: Path) -> None:
    results = evaluate_model(Predictor.load(model), read_folder(plates), tmp_path / "out").results
    assert list(results.data.outside_roi) == ["test/spot/0.png"]
    assert results.data.outside_roi["test/spot/0.png"] == pytest.approx(9 / 45, abs=0.15)
    assert "test/spot/0.png" in results.notes["outside_roi"]
    assert results.data.roi_share == pytest.approx((1600 - 50) / (150 * 200), rel=0.1)
    assert results.count.with_mask == 3
    assert results.pixel["auroc"] is not None
    assert "shown_png" not in results.model.model_dump()["policy"]


def test_synthetic_defects_are_put_inside_the_part(model: Path) -> None:
    values = np.asarray(photo(np.random.default_rng(2)))
    region = own_region(Predictor.load(model).policy, values)
    assert region is not None
    rows, columns = np.flatnonzero(region.any(axis=1)), np.flatnonzero(region.any(axis=0))
    assert (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1) == pytest.approx((60, 100, 120, 160), abs=2)


def test_the_command_line_draws_where_the_photo_shows_it(model: Path, plates: Path, tmp_path: Path) -> None:
    ran = run("inspect", model, plates / "test/spot", "-o", tmp_path / "out", "--threshold", "0")
    assert ran.exit_code == 1
    mask = np.asarray(Image.open(next((tmp_path / "out/masks").iterdir())))
    assert mask.shape == (150, 200)
    assert mask[80, 143] == 255
    assert mask[10, 10] == 0


@pytest.mark.slow
def test_the_file_holds_the_region_and_no_path(plates: Path, tmp_path: Path) -> None:
    drawn = np.zeros((150, 200), np.uint8)
    drawn[60:100, 120:160] = 255
    (tmp_path / "secret").mkdir()
    Image.fromarray(drawn).save(tmp_path / "secret/plate.png")
    assignments = [*SIZE, "data.side_px=64", f"data.roi={tmp_path / 'secret/plate.png'}", "train.epochs=1"]
    settings = make_settings("conv_autoencoder", assignments=assignments)
    first = train_model(plates, tmp_path / "m", settings)
    assert b"secret" not in (tmp_path / "m").read_bytes()
    assert first.run.data.roi == "plate.png"
    assert any("rows 5" in note and "nothing outside can be found" in note for note in first.data_card.notes)
    assert train_model(plates, tmp_path / "m", settings, resume=True) == first
    drawn[:] = 255  # the same name, another region
    Image.fromarray(drawn).save(tmp_path / "secret/plate.png")
    assert train_model(plates, tmp_path / "m", settings, resume=True).policy.map_px is None


def test_files_of_the_format_before_are_read_and_odd_parts_refused(model: Path, tmp_path: Path) -> None:
    header, tensors = read_artifact(model)
    old = header.policy.model_copy(update={"map_px": None, "at_px": (0, 0), "shown_png": None})
    write_artifact(tmp_path / "old", header.model_copy(update={"format": FORMAT - 1, "policy": old}), tensors)
    assert Predictor.load(tmp_path / "old").policy.part_px((150, 200)) is None
    for more in ({"at_px": (9999, 0)}, {"map_px": (8, 8)}, {"shown_png": "AAAA"}):
        odd = header.model_copy(update={"policy": header.policy.model_copy(update=more)})
        write_artifact(tmp_path / "odd", odd, tensors)
        with pytest.raises(ArtifactError, match="its header does not fit this version"):
            Predictor.load(tmp_path / "odd")
