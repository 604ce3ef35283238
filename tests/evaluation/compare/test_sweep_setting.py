"""Sweeps of a setting: one real run a value of its own, kept when it is finished."""

import csv
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from blemish.errors import SettingsError
from blemish.evaluation.compare.compare import COMPARED
from blemish.evaluation.compare.content import SweepContent
from blemish.evaluation.compare.follow import Runner
from blemish.evaluation.compare.runs import RECORD, Compared, Outcome
from blemish.evaluation.compare.sweep_setting import (
    CSV,
    JSON,
    PAGE,
    SettingSweep,
    plan_runs,
    split_values,
    sweep_setting,
)
from blemish.evaluation.results import EvaluateSettings
from blemish.settings import RunSettings
from conftest import TINY
from reference.command import run, sets
from reference.schema import misfits

pytestmark = pytest.mark.usefixtures("undrawn")

HASTY = [one for one in TINY if "latent" not in one] + ["train.epochs=1", "augment.images_of_one=1"]
QUICK = EvaluateSettings(repeats=10, panels_per_type=0, worst=0)


def plan(data: Path, *assignments: str, seeds: int = 1) -> SettingSweep:
    return SettingSweep(data, [*HASTY, *assignments], ["seed"], seeds, evaluate=QUICK)


@pytest.fixture(scope="module")
def done(shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Compared[SweepContent]]:
    out = tmp_path_factory.mktemp("sweep")
    return out, sweep_setting(plan(shared_parts, "model.latent=2,4,8"), out, Runner("cpu"))


@pytest.mark.slow
def test_each_value_is_a_run_of_its_own(done: tuple[Path, Compared[SweepContent]]) -> None:
    out, found = done
    assert {path.name for path in (out / "runs/seed").iterdir()} == {f"model.latent={size}" for size in (2, 4, 8)}
    assert [point["settings"]["model"]["latent"] for point in found.content["points"]] == [2, 4, 8]
    assert [each["value"] for each in found.content["summary"]] == [2, 4, 8]
    content = json.loads((out / JSON).read_text(encoding="utf-8"))
    assert content == json.loads(json.dumps(found.content))
    assert misfits(content, SweepContent) == []
    assert len(list(csv.reader(io.StringIO((out / CSV).read_text(encoding="utf-8"))))) == 4


@pytest.mark.slow
def test_the_page_has_curves_and_pictures(done: tuple[Path, Compared[SweepContent]]) -> None:
    page = (done[0] / PAGE).read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert (
        len(re.findall(r'<img src="data:image/jpeg', page)) == 2 * 4
    )  # a defective and a good image; truth and values
    assert not re.search(r"https?:|[^\w+/]//[a-z]|@import|url\((?!#)", page)


@pytest.mark.slow
def test_more_values_later_run_alone(
    done: tuple[Path, Compared[SweepContent]], shared_parts: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done[0], tmp_path / "copy", copy_function=shutil.copy2))
    told: list[Outcome] = []
    found = sweep_setting(plan(shared_parts, "model.latent=8,3,4"), out, Runner("cpu", on_run=told.append))
    assert [outcome.status for outcome in told] == ["kept", "finished", "kept"]
    assert found.content["values"] == ["8", "3", "4"]
    assert found.content["points"][2]["scopes"] == done[1].content["points"][1]["scopes"]


@pytest.mark.slow
def test_a_value_that_fails_is_shown(shared_parts: Path, tmp_path: Path) -> None:
    found = sweep_setting(
        plan(shared_parts, "model.latent=2", "data.size_px=[40, 40],[32, 32]"), tmp_path, Runner("cpu")
    )
    assert found.failed == 1
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    assert "found 40 x 40" in page
    assert [each["seeds"] for each in found.content["summary"]] == [0, 1]


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["model.latent=8"], "one setting needs several values, e.g. model.latent=8,32,100; none has"),
        (["model.latent=8,9", "train.batch_size=4,8"], "model.latent and train.batch_size have"),
        (["model.latent=8,8"], "a value is given twice"),
        (["model.latnet=8,9"], "seed: model.latnet: unknown setting; did you mean 'model.latent'?"),
        (["model.latent=8,many"], "model.latent"),
        (["seed=0,1"], "seed: found 0 among the settings; give it by --seeds"),
    ],
)
def test_bad_sweeps_are_refused_before_any_work(
    shared_parts: Path, tmp_path: Path, assignments: list[str], message: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        sweep_setting(plan(shared_parts, *assignments), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--detectors", ","), "--detectors: none given"),
        (("--detectors", "seed,seed"), "--detectors seed,seed: each may be given once"),
        (("--seeds", "0"), "--seeds 0: how many runs of each; give 1 to 1000"),
        (("--seeds", "20261128"), "--seeds 20261128: how many runs of each; give 1 to 1000"),
    ],
)
def test_a_sweep_of_nothing_twice_the_same_or_no_end_is_refused(
    shared_parts: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    said = run("sweep", "setting", shared_parts, "-o", tmp_path, *options, "--set", "model.latent=2,3")
    assert (said.exit_code, message in said.stderr) == (2, True)


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


def test_the_command_sweeps_a_setting(
    done: tuple[Path, Compared[SweepContent]], shared_parts: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(done[0], tmp_path / "copy", copy_function=shutil.copy2))
    (out / PAGE).unlink()
    for each in plan_runs(replace(plan(shared_parts, "model.latent=2,4"), evaluate=EvaluateSettings()), out)[2]:
        record = json.loads((each.path / RECORD).read_text(encoding="utf-8"))
        (each.path / RECORD).write_text(json.dumps({**record, "judging": each.judging}), encoding="utf-8")
    command = ["sweep", "setting", shared_parts, "-o", out, "--detector", "seed", "--device", "cpu"]
    result = run(*command, *sets([*HASTY, "model.latent=2,4"]))
    assert result.exit_code == 0
    assert result.stderr.count("finished before, kept") == 2
    assert (out / PAGE).is_file()
    result = run(*command, "--set", "a=1")
    assert result.exit_code == 2
    assert "one setting needs several values" in result.stderr


def test_the_defaults_have_the_default_detector_and_patchcore(shared_parts: Path, tmp_path: Path) -> None:
    wanted = {RunSettings().detector, "patchcore"}
    assert wanted <= set(COMPARED)
    sweep = SettingSweep(shared_parts, ["data.side_px=64,128"])
    assert {each.name for each in plan_runs(sweep, tmp_path)[2]} == wanted
    assert len({each.path for each in plan_runs(sweep, tmp_path)[2]}) == 2 * len(wanted)
