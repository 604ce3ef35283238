"""The numbers of results.json, pinned: a change of how they are computed or stored must not move one of them.

The golden file was written from 24 noisy images and a model whose map is their brightness.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import read_folder
from blemish.evaluation.evaluate import measure_folder
from blemish.evaluation.results import EvaluateSettings
from reference.brightness import SIDE, brightness_model

GOLDEN = Path(__file__).with_name("golden_results.json")
PINNED = ("count", "image", "pixel", "at_threshold", "intervals", "by_type", "images", "realised_false_alarm_rate")


def write_noise(root: Path) -> Path:
    """Eight noisy images each: good ones, cuts (a brighter bar) and holes (a square, half of them hardly brighter)."""
    rng = np.random.default_rng(7)
    for kind, rows, columns in (("good", 0, 0), ("cut", 3, 20), ("hole", 7, 7)):
        for place in range(8):
            pixels = rng.normal(0.25, 0.06, (SIDE, SIDE))
            mask = np.zeros((SIDE, SIDE), bool)
            top, left = rng.integers(1, SIDE - 21, 2)
            mask[top : top + rows, left : left + columns] = True
            pixels[mask] += 0.3 if place % 2 else 0.12
            path = root / f"test/{kind}/{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.uint8(255 * pixels.clip(0, 1))).convert("RGB").save(path)
            if kind != "good":
                truth = root / f"ground_truth/{kind}/{place}_mask.png"
                truth.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.uint8(255 * mask)).save(truth)
    return root


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in inner:
            yield from leaves(part, f"{path}.{name}" if path else str(name))
    else:
        yield path, value


def test_every_number_is_what_it_was(tmp_path: Path) -> None:
    found, _ = measure_folder(brightness_model(), read_folder(write_noise(tmp_path)), EvaluateSettings(repeats=50))
    results = found.model_dump(mode="json")
    values = dict(leaves({name: results[name] for name in PINNED}))
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    wanted = {
        name: pytest.approx(value, rel=1e-9) if isinstance(value, float) else value for name, value in golden.items()
    }
    assert {name: values[name] for name in golden} == wanted
