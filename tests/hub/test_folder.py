"""What a folder with an encoder says of its pixels."""

import json
from pathlib import Path
from typing import Any

import pytest

from blemish.errors import SettingsError
from blemish.hub.folder import CONFIG, IMAGENET_MEAN, IMAGENET_STD, PREPROCESSOR, read_pixels

THREE = [1.0, 1.0, 1.0]
TOLD: dict[str, tuple[dict[str, Any], float]] = {
    "as most": ({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}, (0.2 - 0.5) / 0.25),
    "from -1 to 1": ({"rescale_factor": 1 / 127.5, "image_mean": THREE, "image_std": THREE}, 0.4 - 1.0),
    "up to 255": (
        {"do_rescale": False, "rescale_factor": 1 / 255, "image_mean": [100.0] * 3, "image_std": [50.0] * 3},
        (51 - 100) / 50,
    ),
    "as they are": ({"do_rescale": False, "do_normalize": False}, 51.0),
    "in [0, 1]": ({"do_normalize": False, "image_mean": [0.5] * 3}, 0.2),
}


@pytest.mark.parametrize("case", TOLD)
def test_pixels_are_what_the_preprocessor_of_transformers_makes_of_them(case: str, tmp_path: Path) -> None:
    """Of a grey value of 51, which is 0.2 here."""
    told, wanted = TOLD[case]
    (tmp_path / PREPROCESSOR).write_text(json.dumps(told))
    found = read_pixels(tmp_path, "an encoder")
    assert found.is_told
    assert [(0.2 - mean) / std for mean, std in zip(found.mean, found.std, strict=True)] == pytest.approx([wanted] * 3)


def test_pixels_of_an_encoder_of_timm_are_scaled_as_its_configuration_says(tmp_path: Path) -> None:
    told = {"architecture": "resnet18", "pretrained_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.1]}}
    (tmp_path / CONFIG).write_text(json.dumps(told))
    assert read_pixels(tmp_path, "an encoder") == ((0.5, 0.4, 0.3), (0.5, 0.25, 0.1), True)


def test_pixels_of_which_nothing_is_said_are_imagenets(tmp_path: Path) -> None:
    assert read_pixels(tmp_path, "an encoder") == (IMAGENET_MEAN, IMAGENET_STD, False)


@pytest.mark.parametrize("told", [{"rescale_factor": "much"}, {"rescale_factor": 0}, {"image_std": [0, 1, 1]}])
def test_pixels_that_cannot_be_scaled_so_are_refused(told: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / PREPROCESSOR).write_text(json.dumps(told))
    with pytest.raises(SettingsError, match="an encoder: mean and deviation of its pixels: expected three numbers"):
        read_pixels(tmp_path, "an encoder")
