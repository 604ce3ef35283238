"""Sweeps of the threshold: the numbers of the maps themselves, without the model and without the images."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import read_folder
from blemish.data.masks import load_mask
from blemish.errors import ArtifactError, DataError, SettingsError
from blemish.evaluation.compare.content import ThresholdContent
from blemish.evaluation.compare.sweep_threshold import CSV, JSON, PAGE, Source, sweep_threshold
from blemish.evaluation.evaluate import evaluate_model
from blemish.evaluation.results import EvaluateSettings
from blemish.evaluation.threshold_counts import MAPS, read_threshold_counts
from blemish.inference.predictor import Predictor
from blemish.stats import Counts, PixelScores, count, f1
from reference.command import run
from reference.schema import misfits

pytestmark = pytest.mark.usefixtures("undrawn")

QUICK = EvaluateSettings(repeats=10, panels_per_type=2, worst=0)


@pytest.fixture(scope="module")
def evaluation(model_file: Path, shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    evaluate_model(Predictor.load(model_file, "cpu"), read_folder(shared_parts), out, QUICK)
    return out


@pytest.fixture(scope="module")
def pixels(model_file: Path, shared_parts: Path) -> PixelScores:
    """What the evaluation saw, once more."""
    predictor, scores = Predictor.load(model_file, "cpu"), PixelScores()
    for sample in read_folder(shared_parts).test:
        mask = sample.load_mask((64, 64))
        scores.add(sample.name, predictor.predict(sample.path).scored_map, mask)
    return scores


def test_counts_are_those_of_the_maps(evaluation: Path, pixels: PixelScores) -> None:
    swept = read_threshold_counts(evaluation / MAPS)
    assert list(swept.counts) == ["all", "bar"]
    assert len(swept.thresholds) > 1000
    for place in range(0, len(swept.thresholds), 97):
        counts = pixels.counts_at(float(swept.thresholds[place]))
        assert Counts(*swept.counts["all"][place].tolist()) == counts
        assert np.array_equal(swept.counts["bar"][place], swept.counts["all"][place])


def test_thresholds_in_use_are_counted_exactly(evaluation: Path, pixels: PixelScores, tmp_path: Path) -> None:
    content = sweep_threshold(evaluation, tmp_path)
    results = json.loads((evaluation / "results.json").read_text(encoding="utf-8"))
    for name, part in results["at_threshold"].items():
        row = content["at_marks"]["all"][name]
        assert row["counted_at"] == row["threshold"] == part["threshold"]
        assert {key: row[key] for key in ("precision", "recall", "f1")}.items() <= part.items()
    assert [row["counted_at"] for row in content["at"]["all"]] == [0.7, 0.2, 0.1]
    above_all = sweep_threshold(evaluation, tmp_path, [1e9])["at"]["all"][0]
    assert (above_all["precision"], above_all["recall"], above_all["f1"]) == (None, 0.0, 0.0)
    odd = sweep_threshold(evaluation, tmp_path, [0.123456])["at"]["all"][0]
    assert odd["counted_at"] == pytest.approx(0.123456, rel=0.01)
    assert odd["f1"] == pytest.approx(f1(pixels.counts_at(odd["counted_at"])))


def test_files_say_the_same(evaluation: Path, tmp_path: Path) -> None:
    content = sweep_threshold(evaluation, tmp_path, [0.2])
    assert json.loads((tmp_path / JSON).read_text(encoding="utf-8")) == json.loads(json.dumps(content))
    assert misfits(content, ThresholdContent) == []
    rows = list(csv.DictReader(io.StringIO((tmp_path / CSV).read_text(encoding="utf-8"))))
    at = [float(row["f1"]) for row in rows if row["scope"] == "bar" and float(row["threshold"]) == 0.2]
    assert at == [content["at"]["bar"][0]["f1"]]
    curve = content["curves"]["all"]
    assert [float(row["recall"]) for row in rows if row["scope"] == "all"] == curve["recall"]


def test_neither_model_nor_images_are_needed(evaluation: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(evaluation, tmp_path / "elsewhere"))
    content = sweep_threshold(elsewhere, tmp_path / "out")
    assert not content["image"]["scored_again"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {JSON, CSV, PAGE}


def test_on_a_map_of_another_scale_than_the_papers_its_thresholds_are_not_shown(
    evaluation: Path, tmp_path: Path
) -> None:
    elsewhere = Path(shutil.copytree(evaluation, tmp_path / "elsewhere"))
    results = json.loads((elsewhere / "results.json").read_text(encoding="utf-8"))
    assert results["has_paper_tau"]
    (elsewhere / "results.json").write_text(json.dumps({**results, "has_paper_tau": False}), encoding="utf-8")
    content, usual = sweep_threshold(elsewhere, tmp_path / "out"), results["threshold"]
    assert content["taus"] == [2 * usual, usual, usual / 2]
    assert content["at_marks"]["all"].keys() == content["at_marks"]["bar"].keys() == {"calibrated", "oracle_f1"}


def test_one_image_at_three_thresholds(model_file: Path, shared_parts: Path, evaluation: Path, tmp_path: Path) -> None:
    name = read_threshold_counts(evaluation / MAPS).examples[-1].name
    content = sweep_threshold(evaluation, tmp_path, [0.1, 0.7, 0.2], name)
    assert content["image"]["name"] == name
    mask = load_mask(shared_parts / "ground_truth/bar" / f"{Path(name).stem}_mask.png", (64, 64))
    scored = Predictor.load(model_file, "cpu").predict(shared_parts / name).scored_map
    for row, tau in zip(content["image"]["at"], (0.7, 0.2, 0.1), strict=True):
        assert row["threshold"] == tau
        assert row["f1"] == pytest.approx(f1(count(scored > tau, mask)))
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    captions = re.findall(r"<span>(.*?)</span></div>", page)
    assert [caption.partition(",")[0] for caption in captions] == [
        "test image", "threshold 0.7", "threshold 0.2", "threshold 0.1"
    ]  # fmt: skip
    assert not re.search(r"https?:|[^\w+/]//[a-z]|@import|url\((?!#)", page)
    assert "nothing was scored again" in page


def test_another_image_is_scored_alone_and_said_so(
    model_file: Path, shared_parts: Path, evaluation: Path, tmp_path: Path
) -> None:
    kept = {example.name for example in read_threshold_counts(evaluation / MAPS).examples}
    other = next(sample.name for sample in read_folder(shared_parts).test if sample.name not in kept and sample.label)
    with pytest.raises(DataError, match=r"did not keep its map.*--model and --data"):
        sweep_threshold(evaluation, tmp_path, image=other)
    content = sweep_threshold(evaluation, tmp_path, image=other, source=Source(model_file, shared_parts, "cpu"))
    assert content["image"]["scored_again"]
    assert f"only {other} was scored again" in (tmp_path / PAGE).read_text(encoding="utf-8")
    others = tmp_path / "others"
    shutil.copytree(shared_parts, others)
    with Image.open(others / other) as photo:
        photo.point(lambda value: value // 2).save(others / other)
    with pytest.raises(DataError, match="the model and the data that the evaluation was made with"):
        sweep_threshold(evaluation, tmp_path, image=other, source=Source(model_file, others, "cpu"))
    with pytest.raises(ArtifactError):
        sweep_threshold(evaluation, tmp_path, image=min(kept), source=Source(others / "none", others, "cpu"))
    with pytest.raises(DataError, match="no test image"):
        sweep_threshold(
            evaluation, tmp_path, image=other, source=Source(model_file, shared_parts / "train/good", "cpu")
        )


def test_names_may_be_short_but_not_doubtful(evaluation: Path, tmp_path: Path) -> None:
    name = read_threshold_counts(evaluation / MAPS).examples[0].name
    assert sweep_threshold(evaluation, tmp_path, image=name.removeprefix("test/"))["image"]["name"] == name
    with pytest.raises(DataError, match="more than one such test image"):
        sweep_threshold(evaluation, tmp_path, image="000.png")
    with pytest.raises(DataError, match=r"did you mean 'test/bar/00\d\.png'"):
        sweep_threshold(evaluation, tmp_path, image="test/baz/001.png")


def test_bad_input_is_named(evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json: cannot be read"):
        sweep_threshold(tmp_path, tmp_path / "out")
    with pytest.raises(SettingsError, match="--tau -1"):
        sweep_threshold(evaluation, tmp_path / "out", [-1.0])
    damaged = Path(shutil.copytree(evaluation, tmp_path / "damaged"))
    (damaged / MAPS).write_bytes((evaluation / MAPS).read_bytes()[:-9])
    with pytest.raises(ArtifactError, match=f"{MAPS}: not the maps of an evaluation, or a truncated one .*evaluate ag"):
        sweep_threshold(damaged, tmp_path / "out")
    (damaged / MAPS).unlink()
    with pytest.raises(ArtifactError, match=f"{MAPS}: no such file; evaluate again"):
        sweep_threshold(damaged, tmp_path / "out")
    (damaged / "results.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="not the results of an evaluation"):
        sweep_threshold(damaged, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_defects_there_is_nothing_to_sweep(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    good = read_folder(shared_parts / "train/good")
    evaluate_model(Predictor.load(model_file, "cpu"), good, tmp_path / "good", QUICK)
    with pytest.raises(DataError, match="no defective pixel is known"):
        sweep_threshold(tmp_path / "good", tmp_path / "out")


def test_the_command_prints_the_table(evaluation: Path, tmp_path: Path) -> None:
    arguments = ["sweep", "threshold", evaluation, "-o", tmp_path, "--tau", "0.3,0.15"]
    result = run(*arguments)
    assert result.exit_code == 0
    assert re.search(r"^ +0\.3 ", result.stdout, re.MULTILINE)
    assert "oracle" in result.stdout
    result = run(*arguments[:-1], "high")
    assert result.exit_code == 2
    assert "expected numbers with commas between" in result.stderr
    assert run(*arguments, "--model", "m").exit_code == 2
