"""Long strips in tiles, from training to the exported file's verdicts."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blemish.data.folder import read_folder
from blemish.evaluation.evaluate import measure_folder
from blemish.evaluation.results import EvaluateSettings
from blemish.inference.predictor import Predictor
from blemish.training.export import ExportSettings, export_model
from blemish.training.settings import make_settings
from blemish.training.train import train_model

HEIGHT, WIDTH = 96, 1536


def strip(number: int) -> NDArray[np.uint8]:
    """A woven band: two waves across, a little noise, never in the same phase."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    weave = np.sin(columns / 6 + rng.uniform(0, 6)) + np.sin(rows / 5 + rng.uniform(0, 6))
    level = 120 + 20 * weave + rng.normal(0, 3, (HEIGHT, WIDTH))
    return np.clip(level[..., None] * [1.0, 0.95, 0.85], 0, 255).astype(np.uint8)


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.mark.slow
def test_strips_in_tiles_from_training_to_the_exported_file(tmp_path: Path) -> None:
    data = tmp_path / "band"
    for number in range(30):
        save(data / f"train/good/{number:02d}.png", strip(number))
    for number in range(4):
        save(data / f"test/good/{number}.png", strip(100 + number))
        spoilt, mask = strip(200 + number), np.zeros((HEIGHT, WIDTH), np.uint8)
        place = np.s_[40:52, 300 + 290 * number : 324 + 290 * number]  # in another tile each
        spoilt[place], mask[place] = 235, 255
        save(data / f"test/knot/{number}.png", spoilt)
        save(data / f"ground_truth/knot/{number}_mask.png", mask)
    assignments = ["detector=patchcore", f"data.size_px=[{HEIGHT},{WIDTH}]", "data.tile_px=[96,384]", "seed=0"]
    model, exported = tmp_path / "band.safetensors", tmp_path / "band.onnx"
    train_model(data, model, make_settings(assignments=assignments))
    predictor = Predictor.load(model, device="cpu")
    results, _ = measure_folder(predictor, read_folder(data), EvaluateSettings(repeats=10))
    assert results.image["auroc"] == 1.0
    assert results.image["defect_rate"] == 1.0
    assert results.pixel["aupro"] is not None
    assert results.pixel["aupro"] > 0.9
    export_model(model, exported, ExportSettings())
    there = Predictor.load(exported)
    for image in sorted(data.glob("test/*/*.png")):
        here, again = predictor.predict(image), there.predict(image)
        assert again.is_anomalous == here.is_anomalous == ("knot" in str(image))
        assert again.score == pytest.approx(here.score, rel=1e-3)
        assert again.anomaly_map.shape == (HEIGHT, WIDTH)
