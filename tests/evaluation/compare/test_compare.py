"""Comparisons: real runs on small data; what is finished stays, what changed runs again, what fails stays apart."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.data.files import exclusive_lock
from blemish.data.progress import Progress, quiet
from blemish.errors import DataError, SettingsError
from blemish.evaluation.compare.compare import CSV, JSON, PAGE, Plan, compare, plan_runs
from blemish.evaluation.compare.content import Content
from blemish.evaluation.compare.follow import Runner
from blemish.evaluation.compare.runs import LOCK, Compared, Outcome, execute_run, refuse_bad_files
from blemish.evaluation.compare.summary import MEASURES
from blemish.evaluation.results import EvaluateSettings
from conftest import TINY, draw_part, write_parts
from reference.command import run as run_command
from reference.command import sets
from reference.schema import misfits

pytestmark = pytest.mark.usefixtures("undrawn")

QUICK = EvaluateSettings(repeats=10, panels_per_type=0, worst=0)
HASTY = [*TINY, "train.epochs=1", "augment.images_of_one=1"]


def plan(*data: Path, detectors: str = "seed,ae_l2", seeds: int = 1, more: tuple[str, ...] = ()) -> Plan:
    return Plan(data, detectors.split(","), seeds, assignments=[*HASTY, *more], evaluate=QUICK)


def run(what: Plan, out: Path) -> tuple[Compared[Content], dict[str, str]]:
    """The comparison, and the status of each run by its folder."""
    told: dict[str, str] = {}

    def tell(outcome: Outcome) -> None:
        told[outcome.run.path.relative_to(out / "runs").as_posix()] = outcome.status

    return compare(what, out, Runner("cpu", on_run=tell)), told


def strict(path: Path) -> Any:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def done(shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Compared[Content]]:
    """Two detectors with two seeds; read only."""
    out = tmp_path_factory.mktemp("comparison")
    return out, run(plan(shared_parts, seeds=2), out)[0]


@pytest.fixture
def copy(done: tuple[Path, Compared[Content]], tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(done[0], tmp_path / "copy", copy_function=shutil.copy2))


def written(out: Path) -> dict[str, int]:
    """When each file of the runs was written."""
    return {
        path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("runs/**/*") if path.is_file()
    }


def test_every_run_has_its_files(done: tuple[Path, Compared[Content]]) -> None:
    out, found = done
    assert found.failed == 0
    for name in ("seed", "ae_l2"):
        for seed in ("seed0", "seed1"):
            names = {path.name for path in (out / "runs/parts" / name / seed).iterdir()}
            assert names == {"run.json", "model.safetensors", "results.json", "report.html", "maps.safetensors"}
    assert {path.name for path in out.iterdir()} == {"runs", JSON, CSV, PAGE}


def test_the_numbers_are_those_of_the_runs(done: tuple[Path, Compared[Content]]) -> None:
    out, found = done
    content = strict(out / JSON)
    assert content == json.loads(json.dumps(found.content))
    assert misfits(content, Content) == []
    results = [strict(out / f"runs/parts/seed/seed{seed}/results.json") for seed in (0, 1)]
    auroc = [each["image"]["auroc"] for each in results]
    summary = next(each for each in content["summary"] if each["detector"] == "seed")
    spread = summary["scopes"]["all"]["image.auroc"]
    assert spread["mean"] == pytest.approx(sum(auroc) / 2)
    assert (spread["min"], spread["max"], spread["n"]) == (min(auroc), max(auroc), 2)
    run = next(each for each in content["runs"] if each["detector"] == "seed" and each["seed"] == 1)
    assert run["scopes"]["bar"]["oracle_f1.f1"] == results[1]["by_type"]["bar"]["at_threshold"]["oracle_f1"]["f1"]
    assert run["scopes"]["all"]["artifact_bytes"] == (out / "runs/parts/seed/seed1/model.safetensors").stat().st_size


def test_own_rates_leave_the_good_images_out(done: tuple[Path, Compared[Content]]) -> None:
    out, found = done
    for run in found.content["runs"]:
        images = strict(out / f"runs/parts/{run['detector']}/seed{run['seed']}/results.json")["images"]
        counts = [each["counts"]["oracle_f1"] for each in images if each["defect_type"] == "bar"]
        hits, alarms = (sum(each[key] for each in counts) for key in ("tp", "fp"))
        assert run["scopes"]["bar"]["own.oracle_f1.precision"] == pytest.approx(hits / max(1, hits + alarms))


def test_the_seeds_tau_is_for_algorithm_1_alone(done: tuple[Path, Compared[Content]]) -> None:
    for run in done[1].content["runs"]:
        is_seed = run["detector"] == "seed"
        assert run["has_paper_tau"] is is_seed
        assert (run["scopes"]["all"]["paper_tau.f1"] is not None) is is_seed


def test_the_csv_has_a_line_for_each_run_and_scope(done: tuple[Path, Compared[Content]]) -> None:
    rows = list(csv.DictReader(io.StringIO((done[0] / CSV).read_text(encoding="utf-8"))))
    assert [(row["detector"], row["seed"], row["scope"]) for row in rows] == [
        (name, seed, scope) for seed in "01" for name in ("seed", "ae_l2") for scope in ("all", "bar")
    ]
    assert set(MEASURES) < rows[0].keys()
    assert 0.0 <= float(rows[0]["pixel.auroc"]) <= 1.0


def test_what_is_finished_is_kept(copy: Path, shared_parts: Path) -> None:
    before = written(copy)
    (copy / PAGE).unlink()
    found, told = run(plan(shared_parts, seeds=2), copy)
    assert set(told.values()) == {"kept"}
    assert written(copy) == before
    assert (copy / PAGE).is_file()
    assert found.content == strict(copy / JSON)


@pytest.mark.slow
def test_only_what_changed_runs_again(copy: Path, shared_parts: Path) -> None:
    before = written(copy)
    _, told = run(plan(shared_parts, more=("ae_l2:train.learning_rate=0.01",)), copy)
    assert told == {"parts/seed/seed0": "kept", "parts/ae_l2/seed0": "finished"}
    after = written(copy)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if "ae_l2/seed0" in name}


@pytest.mark.slow
def test_another_seed_or_detector_is_added(copy: Path, shared_parts: Path) -> None:
    found, told = run(plan(shared_parts, seeds=1, detectors="ae_ssim,seed"), copy)
    assert told == {"parts/ae_ssim/seed0": "finished", "parts/seed/seed0": "kept"}
    assert [each["detector"] for each in found.content["summary"]] == ["ae_ssim", "seed"]


def one_run(root: Path, out: Path) -> Callable[[], Outcome]:
    def once() -> Outcome:
        return execute_run(plan_runs(plan(root, detectors="ae_l2"), out)[0], "cpu", quiet)

    return once


def test_a_changed_region_of_interest_is_a_change(parts: Path, tmp_path: Path) -> None:
    roi = tmp_path / "roi.png"

    def training(level: int) -> str:
        Image.new("L", (64, 64), level).save(roi)
        return plan_runs(plan(parts, detectors="seed", more=(f"data.roi={roi}",)), tmp_path / "out")[0].training

    assert training(255) == training(255) != training(1)


@pytest.mark.slow
def test_new_test_images_are_judged_by_the_same_model(parts: Path, tmp_path: Path) -> None:
    once = one_run(parts, tmp_path / "out")
    model = once().run.model
    before = model.stat().st_mtime_ns
    mask = parts / "ground_truth/bar/000_mask.png"
    Image.fromarray(np.uint8(255 * (np.arange(64) < 20))[None].repeat(64, axis=0)).save(mask)
    assert once().status == "finished"
    assert model.stat().st_mtime_ns == before
    draw_part(np.random.default_rng(9))[0].save(parts / "train/good/000.png")
    assert once().status == "finished"
    assert model.stat().st_mtime_ns > before
    assert once().status == "kept"


def test_a_second_comparison_into_the_folder_is_refused(shared_parts: Path, tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / LOCK, "busy"), pytest.raises(DataError, match="another process is comparing into"):
        compare(plan(shared_parts), tmp_path, Runner("cpu"))


@pytest.mark.slow
def test_a_run_older_than_a_setting_is_kept(copy: Path, shared_parts: Path) -> None:
    """A hash over more settings differs; the model still says that it is of these."""
    path = copy / "runs/parts/seed/seed0/run.json"
    path.write_text(json.dumps({**strict(path), "training": "of fewer settings"}), encoding="utf-8")
    assert run(plan(shared_parts, detectors="seed"), copy)[1] == {"parts/seed/seed0": "kept"}
    path.with_name("model.safetensors").write_bytes(b"damaged")  # and now it says nothing
    assert run(plan(shared_parts, detectors="seed"), copy)[1] == {"parts/seed/seed0": "finished"}


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("{", encoding="utf-8")])
def test_a_lost_or_damaged_file_is_made_again(copy: Path, shared_parts: Path, damage: Callable[[Path], object]) -> None:
    damage(copy / "runs/parts/seed/seed0/results.json")
    model = copy / "runs/parts/seed/seed0/model.safetensors"
    before = model.stat().st_mtime_ns
    _, told = run(plan(shared_parts), copy)
    assert told == {"parts/seed/seed0": "finished", "parts/ae_l2/seed0": "kept"}
    assert model.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_crash_stays_in_its_run(copy: Path, shared_parts: Path) -> None:
    broken = plan(shared_parts, detectors="ae_l2,ae_ssim", more=("ae_ssim:data.size_px=[40, 40]",))
    found, told = run(broken, copy)
    assert told == {"parts/ae_l2/seed0": "kept", "parts/ae_ssim/seed0": "failed"}
    assert found.failed == 1
    row = strict(copy / JSON)["runs"][1]
    assert row["error"].startswith("SettingsError: data.size_px: found 40 x 40")
    assert row["scopes"] == {}
    page = (copy / PAGE).read_text(encoding="utf-8")
    assert "data.size_px: found 40 x 40" in page
    assert "1 of 2 runs finished, 1 failed" in page
    assert "40 x 40" in (copy / CSV).read_text(encoding="utf-8")
    assert "Traceback" in (copy / "runs/parts/ae_ssim/seed0/error.log").read_text(encoding="utf-8")
    _, told = run(plan(shared_parts, detectors="ae_l2,ae_ssim"), copy)
    assert told == {"parts/ae_l2/seed0": "kept", "parts/ae_ssim/seed0": "finished"}
    assert not (copy / "runs/parts/ae_ssim/seed0/error.log").exists()


def test_what_nobody_foresaw_is_caught_too(parts: Path, tmp_path: Path) -> None:
    run = plan_runs(plan(parts, detectors="ae_l2"), tmp_path)[0]
    train = run.settings.train.model_copy(update={"batch_size": 0})  # past all validation
    broken = run.settings.model_copy(update={"train": train})
    outcome = execute_run(type(run)(run.dataset, run.name, broken, run.evaluate, run.path), "cpu", quiet)
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.startswith("ValueError: ")
    assert outcome.error.endswith("(see error.log)")


@pytest.mark.slow
def test_an_interruption_leaves_what_is_finished(shared_parts: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.what == "training" and "ae_l2" in now and progress.done == 2:
            raise KeyboardInterrupt

    now: list[str] = ["seed"]

    def next_run(outcome: Outcome) -> None:
        now[:] = ["ae_l2"]

    with pytest.raises(KeyboardInterrupt):
        compare(plan(shared_parts), tmp_path, Runner("cpu", stop, next_run))
    assert len(strict(tmp_path / JSON)["runs"]) == 1
    assert "1 of 2 runs finished." in (tmp_path / PAGE).read_text(encoding="utf-8")
    assert (tmp_path / "runs/parts/ae_l2/seed0/model.safetensors.state").is_file()
    seen: list[Progress] = []
    found = compare(plan(shared_parts), tmp_path, Runner("cpu", seen.append))
    assert found.failed == 0
    trained = [each.done for each in seen if each.what == "training"]
    assert trained[0] == 3  # it went on after step 2, and the finished run was not trained at all


@pytest.mark.slow
def test_a_damaged_state_does_not_stand_in_the_way_for_ever(parts: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.what == "training":
            raise KeyboardInterrupt

    run = plan_runs(plan(parts, detectors="ae_l2"), tmp_path)[0]
    with pytest.raises(KeyboardInterrupt):
        execute_run(run, "cpu", stop)
    run.model.with_name("model.safetensors.state").write_bytes(b"damaged")
    assert execute_run(run, "cpu", quiet).status == "failed"
    assert execute_run(run, "cpu", quiet).status == "finished"


def test_without_defects_only_false_alarms_are_counted(parts: Path, tmp_path: Path) -> None:
    shutil.rmtree(parts / "test/bar")
    shutil.rmtree(parts / "ground_truth")
    found, _ = run(plan(parts, detectors="ae_l2"), tmp_path / "out")
    scopes = found.content["runs"][0]["scopes"]
    assert list(scopes) == ["all"]
    assert scopes["all"]["image.ok_rate"] is not None
    assert scopes["all"]["pixel.auroc"] is None
    assert "evaluated for false alarms only" in (tmp_path / "out" / PAGE).read_text(encoding="utf-8")


def test_two_categories_of_one_name_are_told_apart(tmp_path: Path) -> None:
    roots = [write_parts(tmp_path / name / "nut", good=5, test=1) for name in ("old", "new")]
    runs = plan_runs(plan(*roots, detectors="seed"), tmp_path / "out")
    assert [run.dataset.name for run in runs] == ["nut", "new-nut"]


@pytest.mark.parametrize(
    ("detectors", "more", "message"),
    [
        ("sead,ae_l2", (), "unknown detector or preset 'sead'; did you mean 'seed'?"),
        ("seed", ("model.latnet=3",), "seed: model.latnet: unknown setting; did you mean 'model.latent'?"),
        ("seed,vae", ("model.decoder=mirror",), "vae: model.decoder: unknown setting"),
        ("seed", ("ae_l2:model.latent=3",), "no detector 'ae_l2' is trained here; known: seed"),
        ("seed", ("sead:model.latent=3",), "unknown detector or preset 'sead'; did you mean 'seed'?"),
        ("seed", ("seed=3",), "seed: found 3 among the settings"),
        ("seed", ("detector=vae",), "detector: found 'vae' among the settings"),
        ("seed,seed", (), "each may be given once"),
    ],
)
def test_bad_plans_are_refused_before_any_work(
    shared_parts: Path, tmp_path: Path, detectors: str, more: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(message)):
        plan_runs(plan(shared_parts, detectors=detectors, more=more), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_data_are_refused_before_any_work(shared_parts: Path, parts: Path, tmp_path: Path) -> None:
    flat = shared_parts / "train/good"
    for data, message in (
        ((shared_parts, shared_parts), "given twice"),
        ((flat,), "no test images"),
        ((tmp_path / "nowhere",), "no such folder"),
    ):
        with pytest.raises(DataError, match=message):
            plan_runs(plan(*data), tmp_path / "out")
    shutil.rmtree(parts / "train")
    with pytest.raises(DataError, match="no good images to fit"):
        plan_runs(plan(parts), tmp_path / "out")


def command(*arguments: object) -> Any:
    return run_command(*arguments, *sets(HASTY))


def test_the_command_says_what_failed_and_exits_with_1(copy: Path, shared_parts: Path) -> None:
    options = ("--detectors", "seed, ae_ssim", "--seeds", 1, "--device", "cpu")
    broken = ("--set", "seed:data.size_px=[40, 40]", "--set", "ae_ssim:data.size_px=[40, 40]")
    result = command("compare", shared_parts, "-o", copy, *options, *broken)
    assert result.exit_code == 1
    assert "parts/ae_ssim/seed0: FAILED: SettingsError: data.size_px" in result.stderr
    assert re.search(r"parts\s(?s:.*)ae_ssim +0 +1 +-", result.stdout)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("train/good/000.png", "000.png: not an image"),
        ("test/bar/001.png", "001.png: not an image"),
        ("ground_truth/bar/001_mask.png", "001_mask.png: "),
    ],
)
def test_a_file_that_no_run_could_read_is_an_error_before_the_first(
    parts: Path, tmp_path: Path, name: str, message: str
) -> None:
    (parts / name).write_bytes(b"no image")
    out = tmp_path / "out"
    for asked in (
        ("compare", "--detectors", "ae_l2"),
        ("sweep", "setting", "--detector", "ae_l2", "--set", "train.batch_size=2,3"),
    ):
        said = command(*asked, parts, "-o", out)
        assert (said.exit_code, message in said.stderr) == (2, True), said.output
        assert said.stderr.rstrip().endswith("; --skip-bad leaves such files out")
    assert not (out / "runs").exists()


def test_a_bad_file_that_training_leaves_out_is_no_error(parts: Path, tmp_path: Path) -> None:
    (parts / "train/good/000.png").write_bytes(b"no image")
    refuse_bad_files(plan_runs(plan(parts, more=("data.skip_bad=true",)), tmp_path / "out"), quiet)
    with pytest.raises(DataError, match=r"000\.png: not an image"):
        refuse_bad_files(plan_runs(plan(parts), tmp_path / "out"), quiet)


def test_files_are_looked_at_with_each_runs_own_settings(parts: Path, tmp_path: Path) -> None:
    def look(*more: str) -> None:
        refuse_bad_files(plan_runs(plan(parts, more=more), tmp_path / "out"), quiet)

    for name in ("ae_l2", "seed"):
        with pytest.raises(DataError, match=r"pixels, the limit is 64; .*; --skip-bad leaves"):
            look(f"{name}:data.max_image_px=64")
    (parts / "train/good/000.png").write_bytes(b"no image")
    for name in ("ae_l2", "seed"):
        with pytest.raises(DataError, match=r"000\.png: not an image"):
            look(f"{name}:data.skip_bad=true")
    look("ae_l2:data.skip_bad=true", "seed:data.skip_bad=true")


def test_the_files_of_runs_that_are_kept_are_not_looked_at(copy: Path, shared_parts: Path) -> None:
    told: list[Progress] = []
    refuse_bad_files(plan_runs(plan(shared_parts, seeds=2), copy), told.append)
    assert not told
    refuse_bad_files(plan_runs(plan(shared_parts, seeds=3), copy), told.append)
    assert told


def test_the_command_refuses_an_unknown_detector(shared_parts: Path, tmp_path: Path) -> None:
    result = command("compare", shared_parts, "-o", tmp_path / "out", "--detectors", "ae_l3")
    assert result.exit_code == 2
    assert "did you mean 'ae_l2'?" in result.stderr
