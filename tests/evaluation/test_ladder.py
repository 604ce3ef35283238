"""The ladder of allowed false alarms, and what is advised where little is found, on a model of brightness."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import beta

from blemish.data.folder import Folder, file_id, read_folder
from blemish.data.images import PixelPolicy
from blemish.evaluation.judged import JudgedImage
from blemish.evaluation.ladder import climb
from blemish.evaluation.next_steps import Judgement, advise, threshold_without_highest
from blemish.inference.artifact import ArtifactHeader, DataCard
from blemish.inference.calibration import CalibrationCard
from blemish.inference.predictor import Predictor
from blemish.settings import RunSettings


class Brightness:
    """A runtime whose map is the brightest channel."""

    def maps(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(images.max(axis=1))

    def reconstruct(self, images: np.ndarray) -> None:
        return None


def model(scores: list[float], rate: float, card: CalibrationCard | None = None, detector: str = "padim") -> Predictor:
    header = ArtifactHeader(
        detector=detector,
        run=RunSettings(detector=detector),
        policy=PixelPolicy(size_px=(16, 16), channels=1),
        calibration_scores=tuple(sorted(scores)),
        max_false_alarm_rate=rate,
        threshold=max(scores),
        calibration=card or CalibrationCard(),
        data_card=DataCard(root="parts", fit_images=80, calibration_images=len(scores), files_sha256="0"),
    )
    return Predictor(header, Brightness())


def judged(scores: list[float], threshold: float, label: bool, peak: bool | None = None) -> list[JudgedImage]:
    return [
        JudgedImage(f"test/{place}.png", "cut" if label else "good", label, label, score, 0.5, score > threshold, peak)
        for place, score in enumerate(scores)
    ]


def test_thresholds_are_those_of_the_calibration_scores_and_test_images_are_only_counted() -> None:
    predictor = model([0.1 * place for place in range(1, 20)], 0.05)
    images = judged([0.35, 1.75, 1.85, 2.0], 1.9, label=True) + judged([0.2, 1.85], 1.9, label=False)
    rungs = climb(predictor.header, images, confidence=0.95)
    assert [rung.max_false_alarm_rate for rung in rungs] == [0.01, 0.02, 0.05, 0.1, 0.2]
    assert [rung.threshold for rung in rungs[2:]] == pytest.approx([1.9, 1.8, 1.6])
    assert [(rung.found, rung.flagged) for rung in rungs[2:]] == [(1, 0), (2, 1), (3, 1)]
    assert rungs[3].interval == pytest.approx((beta.ppf(0.025, 2, 3), beta.ppf(0.975, 3, 2)))


def test_a_rate_that_the_good_images_do_not_support_is_marked() -> None:
    images = judged([9.0], 1.9, label=True)
    rungs = climb(model([0.1 * place for place in range(1, 20)], 0.05).header, images, confidence=0.95)
    assert [(rung.needed, rung.threshold, rung.found) for rung in rungs[:2]] == [(99, None, None), (49, None, None)]
    sure = model([0.1 * place for place in range(1, 20)], 0.2, CalibrationCard(confidence=0.95))
    assert [rung.threshold is None for rung in climb(sure.header, images, 0.95)] == [True, True, True, True, False]


def odd_set(root: Path, spot: int = 240) -> tuple[Predictor, Folder]:
    """Twenty good photos, calibrated on, of which number 7 has a bright spot; the others are 100 to 119 bright."""
    scores, ids = [], []
    for place in range(20):
        pixels = np.full((16, 16), 100 + place, np.uint8)
        pixels[3, 3] = spot if place == 7 else pixels[3, 3]
        path = root / f"train/good/{place:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        scores.append(int(pixels.max()) / 255)
        ids.append(file_id(path))
    (root / "test/good").mkdir(parents=True)
    Image.fromarray(np.full((16, 16), 90, np.uint8)).save(root / "test/good/0.png")
    return model(scores, 1 / 21, CalibrationCard(image_ids=tuple(ids))), read_folder(root)


def test_the_odd_good_image_is_named_with_its_price(tmp_path: Path) -> None:
    predictor, folder = odd_set(tmp_path)
    images = judged([0.8, 0.7, 0.3], predictor.threshold, label=True)
    ladder = climb(predictor.header, images, 0.95)
    steps = advise(Judgement(predictor, images, [(16, 16)] * 3, ladder, folder))
    assert steps[0].startswith("look at train/good/07.png: it alone sets the threshold, 0.9412.")
    assert "would be 0.4667, and 2 of the defective images would be found instead of 0" in steps[0]
    assert threshold_without_highest(predictor.header) == predictor.header.calibration_scores[-2]
    assert steps[1].startswith("allow 10 % false alarms: that finds 2 of 3")


def test_a_good_image_hardly_above_the_next_is_not_called_odd(tmp_path: Path) -> None:
    predictor, folder = odd_set(tmp_path, spot=121)
    images = judged([0.47, 0.3, 0.3], predictor.threshold, label=True)  # found without it
    steps = advise(Judgement(predictor, images, [(16, 16)] * 3, climb(predictor.header, images, 0.95), folder))
    assert steps
    assert not any("sets the threshold" in step for step in steps)


def test_size_detector_region_and_more_images_are_advised_where_they_apply(tmp_path: Path) -> None:
    predictor, folder = odd_set(tmp_path)
    images = judged([0.3] * 4, predictor.threshold, label=True, peak=False)
    ladder = climb(predictor.header, images, 0.95)
    steps = "\n".join(advise(Judgement(predictor, images, [(64, 64)] * 4, ladder, folder)))
    assert "photos are 64 px long and the model sees 16 px" in steps
    assert re.search(r"--detectors padim,\S*patchcore --seeds 1", steps)
    assert "in 4 of 4 images with a known defect" in steps
    assert "20 were held out to calibrate, and 49 would promise 2 %" in steps
    small = "\n".join(advise(Judgement(predictor, judged([0.3] * 4, 0.9, True, True), [(16, 16)] * 4, ladder, folder)))
    assert "larger size" not in small
    assert "region of interest" not in small


def test_nothing_is_advised_where_half_is_found_or_nothing_is_defective(tmp_path: Path) -> None:
    predictor, folder = odd_set(tmp_path)
    for images in (judged([0.99, 0.2], predictor.threshold, label=True), judged([0.2], 0.9, label=False)):
        ladder = climb(predictor.header, images, 0.95)
        assert advise(Judgement(predictor, images, [(64, 64)], ladder, folder)) == []
