"""A submission to MVTec AD 2: where files are, of which size and type."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from blemish.errors import DataError, SettingsError
from blemish.evaluation.submission import write_map, write_submission
from blemish.inference.predictor import Predictor
from reference.command import run


@pytest.fixture
def can(tmp_path: Path, shared_parts: Path) -> Path:
    """Two splits of one object, of photos that a model knows."""
    photo = next(shared_parts.glob("test/bar/*.png"))
    for name in ("test_private/000_regular", "test_private/001_regular", "test_private_mixed/000_mixed"):
        target = tmp_path / "ad2" / "can" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(photo).save(target)
    return tmp_path / "ad2" / "can"


def test_maps_and_masks_are_those_of_the_predictor(can: Path, model_file: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model_file)
    maps, masks = write_submission(predictor, can, tmp_path / "out")
    assert (maps, masks) == tuple(
        tmp_path / "out" / part / "can" for part in ("anomaly_images", "anomaly_images_thresholded")
    )
    names = sorted(path.relative_to(maps).with_suffix("").as_posix() for path in maps.rglob("*.tiff"))
    assert names == ["test_private/000_regular", "test_private/001_regular", "test_private_mixed/000_mixed"]
    prediction = predictor.predict(can / "test_private" / "000_regular.png")
    written = tifffile.imread(maps / "test_private" / "000_regular.tiff")
    assert written.dtype == np.float16
    assert np.array_equal(written, prediction.anomaly_map.astype(np.float16))
    mask = np.asarray(Image.open(masks / "test_private" / "000_regular.png"))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, np.uint8(prediction.defect_mask) * 255)


def test_a_number_too_large_for_half_precision_is_its_largest(tmp_path: Path) -> None:
    write_map(tmp_path / "a.tiff", np.array([[1e6, 1.5]]))
    assert tifffile.imread(tmp_path / "a.tiff").tolist() == [[65504.0, 1.5]]


def test_an_object_is_written_once_and_another_beside_it(can: Path, model_file: Path, tmp_path: Path) -> None:
    arguments = ["evaluate", model_file, can, "-o", tmp_path / "out", "--benchmark", "mvtec_ad_2"]
    assert run(*arguments).exit_code == 0
    again = run(*arguments)
    assert again.exit_code == 2
    assert "found a folder with something in it" in again.output
    can.rename(can.with_name("vial"))
    arguments[2] = can.with_name("vial")
    assert run(*arguments).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "out" / "anomaly_images").iterdir()) == ["can", "vial"]


def test_what_is_no_object_or_no_benchmark_is_refused(tmp_path: Path, model_file: Path) -> None:
    predictor = Predictor.load(model_file)
    with pytest.raises(DataError, match="no images in test_private or test_private_mixed"):
        write_submission(predictor, tmp_path, tmp_path / "out")
    with pytest.raises(SettingsError, match="--benchmark mvtec: unknown"):
        write_submission(predictor, tmp_path, tmp_path / "out", "mvtec")
    assert not (tmp_path / "out").exists()


def test_a_damaged_image_leaves_nothing(can: Path, model_file: Path, tmp_path: Path) -> None:
    (can / "test_private" / "001_regular.png").write_bytes(b"damaged")
    with pytest.raises(DataError, match="001_regular"):
        write_submission(Predictor.load(model_file), can, tmp_path / "out")
    assert list((tmp_path / "out").rglob("*.*")) == []
