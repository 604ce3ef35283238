"""Sweeps of a setting: one real run a value, errors on good and defective pixels, and what section 7.2 claims."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from blemish.cli import app
from blemish.data.folder import read_folder
from blemish.data.masks import load_mask
from blemish.data.split import split_good
from blemish.errors import SettingsError
from blemish.evaluation.compare.runs import Outcome
from blemish.evaluation.compare.seed_paper import claims
from blemish.evaluation.compare.sweep_setting import (
    CSV,
    JSON,
    PAGE,
    SettingSweep,
    Sweep,
    map_means,
    plan_runs,
    split_values,
    sweep_setting,
)
from blemish.evaluation.measures import EvaluateSettings
from blemish.inference.predictor import Predictor
from conftest import TINY

QUICK = EvaluateSettings(repeats=10, panels_per_type=1, worst=1)
HASTY = [one for one in TINY if "latent" not in one] + ["train.epochs=1", "augment.images_of_one=1"]


def plan(data: Path, *assignments: str, seeds: int = 1) -> SettingSweep:
    return SettingSweep(data, "seed", [*HASTY, *assignments], seeds, evaluate=QUICK)


@pytest.fixture(scope="module")
def done(shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sweep]:
    out = tmp_path_factory.mktemp("sweep")
    return out, sweep_setting(plan(shared_parts, "model.latent=2,4,8"), out, "cpu")


def test_each_value_is_a_run_of_its_own(done: tuple[Path, Sweep]) -> None:
    out, found = done
    assert {path.name for path in (out / "cells").iterdir()} == {f"model.latent={size}" for size in (2, 4, 8)}
    assert [point["settings"]["model"]["latent"] for point in found.content["points"]] == [2, 4, 8]
    assert [each["value"] for each in found.content["summary"]] == [2, 4, 8]
    assert json.loads((out / JSON).read_text(encoding="utf-8")) == json.loads(json.dumps(found.content))
    assert len(list(csv.reader(io.StringIO((out / CSV).read_text(encoding="utf-8"))))) == 4


def test_errors_are_means_over_pixels(done: tuple[Path, Sweep], shared_parts: Path) -> None:
    out, found = done
    predictor, folder = (
        Predictor.load(out / "cells/model.latent=4/seed0/model.safetensors", "cpu"),
        read_folder(shared_parts),
    )
    good, defective = [], []
    for sample in folder.test:
        scored = predictor.predict(sample.path).scored_map
        mask = load_mask(sample.mask_path, (64, 64)) if sample.mask_path else np.zeros((64, 64), bool)
        good.append(scored[~mask])
        defective.append(scored[mask])
    held_out = split_good(folder.train, 0.2, np.random.default_rng(0))[1]
    assert len(held_out) == predictor.header.data_card.calibration_images
    scores = [predictor.predict(sample.path).score for sample in held_out]
    assert sorted(scores) == list(predictor.header.calibration_scores)  # these are the held-out ones
    maps = np.stack([predictor.predict(sample.path).scored_map for sample in held_out])
    means = found.content["points"][1]["map_means"]
    assert means["good_test"] == pytest.approx(np.concatenate(good).mean(dtype=float))
    assert means["defective_test"] == pytest.approx(np.concatenate(defective).mean(dtype=float))
    assert means["good_held_out"] == pytest.approx(maps.mean(dtype=float))


def test_images_that_do_not_score_as_calibrated_are_not_taken_as_held_out(
    done: tuple[Path, Sweep], shared_parts: Path, tmp_path: Path
) -> None:
    cell = plan_runs(plan(shared_parts, "model.latent=2,4"), tmp_path)[2][0]
    predictor = Predictor.load(done[0] / "cells/model.latent=2/seed0/model.safetensors", "cpu")
    other = replace(cell, settings=cell.settings.model_copy(update={"seed": 1}))
    assert map_means(predictor, cell) == done[1].content["points"][0]["map_means"]
    assert map_means(predictor, other)["good_held_out"] is None


def test_the_page_has_curves_claims_and_pictures(done: tuple[Path, Sweep]) -> None:
    page = (done[0] / PAGE).read_text(encoding="utf-8")
    assert page.count("<svg") == 3
    assert page.count('<tr><th scope="row">holds') + page.count("does not hold<") + page.count("cannot be told<") == 3
    assert "One seed: small differences may be chance." in page
    assert (
        len(re.findall(r'<img src="data:image/jpeg', page)) == 2 * 4
    )  # a defective and a good image; truth and values
    assert not re.search(r"https?:|[^\w+/]//[a-z]|@import|url\((?!#)", page)


def test_more_values_later_run_alone(done: tuple[Path, Sweep], shared_parts: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done[0], tmp_path / "copy", copy_function=shutil.copy2))
    told: list[Outcome] = []
    found = sweep_setting(plan(shared_parts, "model.latent=8,3,4"), out, "cpu", on_cell=told.append)
    assert [outcome.status for outcome in told] == ["kept", "finished", "kept"]
    assert found.content["values"] == ["8", "3", "4"]
    assert found.content["points"][2]["map_means"] == done[1].content["points"][1]["map_means"]


def test_a_value_that_fails_is_shown(shared_parts: Path, tmp_path: Path) -> None:
    found = sweep_setting(plan(shared_parts, "model.latent=2", "data.size_px=[40, 40],[32, 32]"), tmp_path, "cpu")
    assert found.failed == 1
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "found 40 x 40" in page
    assert [each["seeds"] for each in found.content["summary"]] == [0, 1]
    assert found.content["claims"] == []


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["model.latent=8"], "one setting needs several values, e.g. model.latent=8,32,100; none has"),
        (["model.latent=8,9", "train.batch_size=4,8"], "model.latent and train.batch_size have"),
        (["model.latent=8,8"], "a value is given twice"),
        (["model.latnet=8,9"], "seed: model.latnet: unknown setting; did you mean 'latent'?"),
        (["model.latent=8,many"], "model.latent"),
        (["seed=0,1"], "there is an option for it"),
    ],
)
def test_bad_sweeps_are_refused_before_any_work(
    shared_parts: Path, tmp_path: Path, assignments: list[str], message: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        sweep_setting(plan(shared_parts, *assignments), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("8", ["8"]),
        ("8,32", ["8", "32"]),
        ("[64, 64]", ["[64, 64]"]),
        ("[[0, 0], [1, 1]],none", ["[[0, 0], [1, 1]]", "none"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("", [""]),
    ],
)
def test_values_are_split_at_commas_of_their_own(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def point(value: float, good: float, defective: float, f1: float, std: float | None = None) -> dict[str, object]:
    def part(mean: float) -> dict[str, float | None]:
        return {"mean": mean, "std": std}

    return {
        "value": value,
        "label": f"{value:g}",
        "seeds": 1 if std is None else 2,
        "map_means": {"good_held_out": part(good), "good_test": part(good), "defective_test": part(defective)},
        "measures": {"pixel.oracle_f1": part(f1)},
    }


def test_the_paper_is_right_where_it_is() -> None:
    found = claims([point(500, 0.1, 0.2, 0.3, 0.01), point(8, 0.3, 0.4, 0.2, 0.01), point(100, 0.2, 0.4, 0.5, 0.01)])
    assert [claim["holds"] for claim in found] == [True, True, True]
    assert found[0]["evidence"] == "Mean error on good pixels: 0.3 at 8, 0.1 at 500."
    assert found[2]["evidence"] == "F1 0.2 at 8, 0.5 at 100, 0.3 at 500."


def test_the_paper_is_wrong_where_it_is() -> None:
    found = claims([point(8, 0.1, 0.2, 0.6), point(100, 0.2, 0.3, 0.5), point(500, 0.3, 0.4, 0.4)])
    assert [claim["holds"] for claim in found] == [False, False, False]


def test_differences_within_the_spread_tell_nothing() -> None:
    found = claims([point(size, 0.1 + size / 1e4, 0.3, 0.5, 0.1) for size in (8, 100, 500)])
    assert [claim["holds"] for claim in found] == [None, None, None]


def test_two_values_have_nothing_in_between() -> None:
    assert claims([point(8, 0.1, 0.2, 0.6), point(100, 0.2, 0.3, 0.5)]) == []


def test_the_command_sweeps_a_setting(shared_parts: Path, tmp_path: Path) -> None:
    sets = [word for one in [*HASTY, "model.latent=2,4"] for word in ("--set", one)]
    result = CliRunner().invoke(app, ["sweep", "setting", str(shared_parts), "-o", str(tmp_path), *sets])
    assert result.exit_code == 0
    assert (tmp_path / PAGE).is_file()
    result = CliRunner().invoke(app, ["sweep", "setting", str(shared_parts), "-o", str(tmp_path), "--set", "a=1"])
    assert result.exit_code == 2
    assert "one setting needs several values" in result.stderr
