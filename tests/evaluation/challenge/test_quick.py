"""The few synthetic defects of the ladder."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from blemish.data.synthetic.defects import DEFECTS
from blemish.evaluation.challenge import quick
from blemish.evaluation.challenge.quick import EACH, MIN_DEFECTS, quick_peaks, share_found
from blemish.evaluation.challenge.trials import beside
from blemish.inference.predictor import Predictor

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def predictor(model_file: Path) -> Predictor:
    return Predictor.load(model_file, device="cpu")


def photos(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted((folder / "test/good").iterdir())]


class Difference:
    """A runtime whose map is the difference to one good image."""

    def __init__(self, good: np.ndarray) -> None:
        self.good = (good.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)

    def maps(self, images: np.ndarray) -> np.ndarray:
        return np.abs(images - self.good).max(axis=1)

    def reconstruct(self, images: np.ndarray) -> None:
        """None."""


def test_every_defect_is_judged_where_it_is(predictor: Predictor, shared_parts: Path) -> None:
    (good,) = photos(shared_parts)[:1]
    peaks = quick_peaks(Predictor(predictor.header, Difference(good)), [good], max_photo_s=math.inf)
    assert EACH * len(DEFECTS) / 2 < len(peaks) <= EACH * len(DEFECTS)
    assert all(peak.before == 0 for peak in peaks)
    assert share_found(peaks, 0.05) == 1.0
    assert share_found(peaks, 1.0) == 0.0


@pytest.mark.slow
def test_a_lower_threshold_finds_no_fewer_of_the_same_defects(predictor: Predictor, shared_parts: Path) -> None:
    peaks = quick_peaks(predictor, photos(shared_parts)[:2], max_photo_s=math.inf)
    top = max(peak.before for peak in peaks)
    shares = [share_found(peaks, top * factor) for factor in (1.0, 1.2, 1.5)]
    assert shares == sorted(shares, reverse=True)
    assert share_found(peaks, 0.0) is None  # the good images are above it everywhere


@pytest.mark.parametrize(("photo_s", "expected"), [(0.9, None), (1.1, 1)])
def test_all_defects_are_judged_or_after_one_slow_photo_none(
    photo_s: float, expected: int | None, predictor: Predictor, shared_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    monkeypatch.setattr(quick, "time", SimpleNamespace(monotonic=lambda: photo_s * asked))

    class Slow(Difference):
        def maps(self, images: np.ndarray) -> np.ndarray:
            nonlocal asked
            asked += 1
            return super().maps(images)

    (good,) = photos(shared_parts)[:1]
    told: list[tuple[int, int]] = []
    model = Predictor(predictor.header, Slow(good))
    peaks = quick_peaks(model, [good], 1.0, lambda *step: told.append(step))
    if expected is not None:
        assert (peaks, asked, told) == ([], expected, [])
    else:
        assert len(peaks) == asked - 1 > MIN_DEFECTS
        assert told[-1] == (EACH * len(DEFECTS), EACH * len(DEFECTS))


def test_what_lies_beside_a_defect_is_found_as_by_pillow() -> None:
    mask = np.random.default_rng(0).random((40, 90)) > 0.995
    grown = Image.fromarray(np.uint8(mask)).filter(ImageFilter.MaxFilter(2 * 2 + 1))
    assert (beside(mask) == np.asarray(grown)).all()
