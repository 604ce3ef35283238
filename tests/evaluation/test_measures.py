"""The table of measures: a row is in the results, on the page, in the terminal and in the reference page."""

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import fbeta_score

from blemish.data.folder import read_folder
from blemish.evaluation.compared import describe_sizes
from blemish.evaluation.evaluate import measure_folder
from blemish.evaluation.measures import MEASURES, ImageSet, PixelSet, f2
from blemish.evaluation.results import EvaluateSettings, Results
from blemish.inference.predictor import Predictor
from blemish.stats import Counts, PixelScores, count, f1
from blemish.stats.pixel_levels import Levels
from reference.brightness import brightness_model
from reference.command import run, sets

pytestmark = pytest.mark.usefixtures("undrawn")

REFERENCE = Path(__file__).parents[2] / "docs/reference/results.md"


@pytest.fixture(scope="module")
def evaluated(
    model_file: Path, shared_parts: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Results, str]:
    """What the command leaves and prints, AUPRO up to 0.05."""
    out = tmp_path_factory.mktemp("evaluated")
    options = sets(["aupro_limit=0.05", "repeats=10", "worst=0"])
    result = run("evaluate", model_file, shared_parts, "-o", out, *options)
    assert result.exit_code == 0, result.stderr
    return out, Results.model_validate_json((out / "results.json").read_text(encoding="utf-8")), result.stdout


def test_the_results_have_the_rows_of_the_table_and_no_others(evaluated: tuple[Path, Results, str]) -> None:
    _, results, _ = evaluated
    for section in (results, *results.by_type.values()):
        for group in ("image", "pixel"):
            names = [measure.name for measure in MEASURES.values() if measure.group == group]
            assert list(getattr(section, group)) == list(section.intervals[group]) == names


def test_every_row_is_on_the_page_in_the_terminal_and_in_the_reference(evaluated: tuple[Path, Results, str]) -> None:
    out, results, printed = evaluated
    page, reference = html.unescape((out / "report.html").read_text(encoding="utf-8")), REFERENCE.read_text("utf-8")
    for key, measure in MEASURES.items():
        title = measure.titled(results.settings)
        assert title in page
        assert re.search(rf"^{re.escape(title)} +[-\d]", printed, re.MULTILINE)
        assert f"| `{key}` | {measure.titled(EvaluateSettings())} | {measure.explanation} |" in reference


def test_the_label_and_the_number_follow_the_setting(evaluated: tuple[Path, Results, str]) -> None:
    out, results, printed = evaluated
    assert results.settings.aupro_limit == 0.05
    assert "AUPRO up to 0.05" in printed
    assert "0.3" not in re.findall("AUPRO up to (.*?)[ <]", (out / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("aupro=0.05", "aupro: unknown setting"),
        ("aupro_limit=2", "aupro_limit: should be"),
        ("confidence=1", "confidence: should be"),
        ("aupro_limit", "write it as name=value"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_work(
    model_file: Path, shared_parts: Path, tmp_path: Path, setting: str, message: str
) -> None:
    result = run("evaluate", model_file, shared_parts, "-o", tmp_path / "out", "--set", setting)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "out").exists()


def test_every_measure_lies_between_0_and_1_or_says_that_it_means_nothing() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        amounts = [rng.integers(0, 4, 30).astype(float) for _ in range(5)]
        images = ImageSet(amounts[0], amounts[1], Counts(*rng.integers(0, 3, 4).tolist()))
        pixels = PixelSet(Levels(*amounts), Counts(*rng.integers(0, 3, 4).tolist()), 0.3)
        for measure in MEASURES.values():
            value = measure.function(images if measure.group == "image" else pixels)
            least = -1.0 if measure.name in ("threshold_gap", "localisation_gain") else 0.0
            assert np.isnan(value) or least <= value <= 1.0, measure.key


def test_a_results_file_can_be_read_back(evaluated: tuple[Path, Results, str]) -> None:
    out, results, _ = evaluated
    assert json.loads((out / "results.json").read_text(encoding="utf-8")) == results.model_dump(mode="json")


def test_f2_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    truth, called = rng.random(500) < 0.3, rng.random(500) < 0.4
    assert f2(count(called, truth)) == pytest.approx(fbeta_score(truth, called, beta=2))
    assert np.isnan(f2(Counts(0, 0, 9, 0)))


@pytest.mark.slow
def test_the_command_takes_a_threshold_or_a_rate_and_prints_the_ladder(
    model_file: Path, shared_parts: Path, tmp_path: Path
) -> None:
    def evaluate(*options: str) -> Any:
        quick = sets(["repeats=10", "worst=0", "panels_per_type=0"])
        return run("evaluate", model_file, shared_parts, "-o", tmp_path, *options, *quick)

    assert evaluate("--threshold", "0.25").exit_code == 0
    assert Results.model_validate_json((tmp_path / "results.json").read_text("utf-8")).threshold == 0.25
    loose = evaluate("--max-false-alarm-rate", "0.7")
    wanted = Predictor.load(model_file, "cpu").with_false_alarm_rate(0.7).threshold
    assert Results.model_validate_json((tmp_path / "results.json").read_text("utf-8")).threshold == wanted
    assert re.search(r"false alarms +threshold +found", loose.stdout)
    assert re.search(r"^5 % .*needs 19 held out", loose.stdout, re.MULTILINE)
    assert "give one of them" in evaluate("--threshold", "1", "--max-false-alarm-rate", "0.5").stderr
    assert evaluate("--threshold", "-1").exit_code == 2


def test_aupro_to_a_twentieth_is_stricter_and_that_of_the_pixels() -> None:
    rng = np.random.default_rng(0)
    scores = PixelScores()
    mask = np.zeros((32, 32), np.bool_)
    mask[4:8, 4:8] = True
    scores.add("good/0.png", rng.random((32, 32)))
    scores.add("cut/0.png", rng.random((32, 32)) + mask * 0.5, mask)
    pixels = PixelSet(scores.levels, scores.counts_at(0.5), 0.3)
    assert MEASURES["pixel.aupro_05"].function(pixels) == scores.aupro(0.05)
    assert scores.aupro(0.05) < scores.aupro(0.3)


def test_the_best_image_f1_is_that_of_the_best_of_all_thresholds() -> None:
    good, defective = np.array([3, 1, 1, 0]), np.array([0, 1, 2, 1])
    counts = Counts(tp=1, fp=0, tn=5, fn=3)
    images = ImageSet(good, defective, counts)
    tried = [
        f1(Counts(int(defective[k:].sum()), int(good[k:].sum()), int(good[:k].sum()), int(defective[:k].sum())))
        for k in range(4)
    ]
    assert MEASURES["image.oracle_f1"].function(images) == max(tried)
    assert MEASURES["image.f1"].function(images) == f1(counts) == 0.4
    assert math.isnan(MEASURES["image.f1"].function(ImageSet(good, defective * 0, Counts(0, 1, 4, 0))))


def test_the_threshold_gap_is_what_f1_lacks_to_the_best(evaluated: tuple[Path, Results, str]) -> None:
    _, results, _ = evaluated
    for group in ("image", "pixel"):
        values = getattr(results, group)
        assert values["threshold_gap"] == pytest.approx(values["oracle_f1"] - values["f1"])
        assert values["threshold_gap"] >= 0


def test_page_and_terminal_say_at_which_size_pixels_are_compared(evaluated: tuple[Path, Results, str]) -> None:
    out, results, printed = evaluated
    said = describe_sizes(results)
    assert said.startswith("pixels are compared ")
    assert " ".join(said.split()) in " ".join(printed.split())
    assert said in html.unescape((out / "report.html").read_text(encoding="utf-8"))


def test_maps_are_compared_in_full_resolution_unless_the_models_size_is_asked_for(tmp_path: Path) -> None:
    """Photos of twice the model's side, with a defect of one pixel: at the model's size it may vanish."""
    for kind in ("good", "spot"):
        for place in range(3):
            pixels = np.full((64, 64, 3), 60, np.uint8)
            pixels[:2, :2, 0] = 59  # a photo of one value is refused
            mask = np.zeros((64, 64), np.uint8)
            if kind == "spot":
                pixels[21:23, 11 + 2 * place] = mask[21:23, 11 + 2 * place] = 255
                (tmp_path / "ground_truth/spot").mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(tmp_path / f"ground_truth/spot/{place}_mask.png")
            (tmp_path / f"test/{kind}").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / f"test/{kind}/{place}.png")
    folder, model = read_folder(tmp_path), brightness_model()
    small, _ = measure_folder(model, folder, EvaluateSettings(repeats=10, full_size=False))
    full, judged = measure_folder(model, folder, EvaluateSettings(repeats=10))
    assert (small.data.compared_px, full.data.compared_px) == ((32, 32), (64, 64))
    assert (small.data.photo_px, full.data.photo_px) == ((64, 64), (64, 64))
    assert sum(vars(judged.pixels.counts_at(0.5)).values()) == 6 * 64 * 64
    with Image.open(tmp_path / "test/good/0.png") as photo:
        photo.resize((96, 96)).save(tmp_path / "test/good/0.png")
    mixed, _ = measure_folder(model, folder, EvaluateSettings(repeats=10))
    assert (full.data.of_other_sizes, mixed.data.of_other_sizes) == (0, 1)
    assert full.at_threshold["calibrated"].counts.tp + full.at_threshold["calibrated"].counts.fn == 6
    assert full.count.with_mask == 3
