"""`data.roi=auto`: the box around the part where the ground is plain, else the photo as it is."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy
from blemish.inference.predictor import Predictor
from blemish.training.auto_region import LEAST_SHARE
from blemish.training.policy import region_notes, resolve_policy
from blemish.training.settings import make_settings
from blemish.training.train import train_model

AUTO = make_settings("patchcore", assignments=["data.roi=auto"])


def write(folder: Path, number: int, plain: bool = True) -> list[Sample]:
    """Photos of 200 x 300 with a bright part of 60 x 80 about (90, 200), on a plain or on a noisy ground."""
    rng, samples = np.random.default_rng(0), []
    folder.mkdir(exist_ok=True)
    for place in range(number):
        high = 40 if plain else 255
        pixels = rng.integers(30, high, (200, 300, 3), dtype=np.uint8)
        row, column = rng.integers(-5, 6, 2)
        pixels[60 + row : 120 + row, 160 + column : 240 + column] = rng.integers(170, 190, (60, 80, 3), dtype=np.uint8)
        path = folder / f"{place:02}.png"
        Image.fromarray(pixels).save(path)
        samples.append(Sample(path, path.name))
    return samples


def part(policy: PixelPolicy) -> tuple[float, ...] | None:
    return policy.part_px((200, 300))


@pytest.mark.slow
def test_the_box_holds_the_part_wherever_it_was(tmp_path: Path) -> None:
    found = resolve_policy(write(tmp_path / "a", 20), AUTO)
    top, left, bottom, right = part(found) or (0, 0, 0, 0)
    assert 30 < top <= 56
    assert 100 < left <= 156
    assert 125 <= bottom < 160
    assert 245 <= right < 290
    assert "data.roi=auto: of photos of 200 x 300 px the rows" in region_notes(found, (200, 300), "auto")[0]


@pytest.mark.slow
@pytest.mark.parametrize("plain", [True, False])
def test_without_a_plain_ground_or_a_part_the_photo_is_seen_whole(tmp_path: Path, plain: bool) -> None:
    samples = write(tmp_path / "a", 20, plain)
    if plain:  # too many show no part
        for sample in samples[: round(20 * (1 - LEAST_SHARE)) + 1]:
            Image.new("RGB", (300, 200), (35, 35, 35)).save(sample.path)
    found = resolve_policy(samples, AUTO)
    assert found == resolve_policy(samples, make_settings("patchcore"))
    assert "the photos are seen whole" in region_notes(found, (200, 300), "auto")[0]
    assert region_notes(found, (200, 300), None) == []


@pytest.mark.slow
def test_a_small_defect_in_a_large_surround_is_found_with_a_region_and_missed_without(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def draw(defect: bool) -> np.ndarray:
        pixels = rng.integers(30, 40, (900, 1200, 3), dtype=np.uint8)
        grain = Image.fromarray(rng.integers(90, 210, (24, 24), dtype=np.uint8))  # as coarse as the defect is small
        pixels[200:320, 700:820] = np.asarray(grain.resize((120, 120), Image.Resampling.BICUBIC))[..., None]
        if defect:
            row, column = rng.integers(10, 100, 2)
            pixels[200 + row : 204 + row, 700 + column : 704 + column] = 40
        return pixels

    for place in range(40):
        Image.fromarray(draw(False)).save(tmp_path / f"{place:02}.png")
    defects = [draw(True) for _ in range(10)]
    found = {}
    for roi in ("None", "[700, 200, 820, 320]", "auto"):
        settings = make_settings("patchcore", assignments=[f"data.roi={roi}"])
        train_model(tmp_path, tmp_path / "m.safetensors", settings)
        predictor = Predictor.load(tmp_path / "m.safetensors")
        found[roi] = sum(predictor.predict(image).is_anomalous for image in defects)
    assert found["None"] <= 2
    assert found["[700, 200, 820, 320]"] >= 7
    assert found["auto"] >= 4  # its box is larger
