"""Settings that nobody means: each is refused in one line that begins with its name, or trains."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel

from blemish.data.archives import check_archive
from blemish.data.outputs import check_model_name, refuse_foreign
from blemish.errors import DataError, SettingsError
from blemish.evaluation.compare.sweep_threshold import sweep_threshold
from blemish.inference.monitor_state import read_state
from blemish.inference.predictor import Predictor
from blemish.models import DETECTORS
from blemish.settings import LARGEST, MAX_TEXT_BYTES, RunSettings, parse_assignment, read_toml
from blemish.stats.conformal import certify, images_needed, smallest_rate
from blemish.training.settings import make_settings
from conftest import TINY
from reference.command import run, sets

HOSTILE = (
    *("1e-320", "1e-100", "1e308", "1e400", "inf", "-inf", "nan", "-1", "-0.0", "0", "true", "false", "None", "''"),
    *("9" * 30, "9" * 6000, "[" * 5000, "[1]", "{}", '{"a": 1}', '"\\u0000"', "x" * 5000, "0x10", "2020-01-01"),
    *("[[1, 2], [3, 4]]", "[1e400, 1]", "\x1b[31m", "é", "\ud800"),
)

HASTY = [*TINY, "train.epochs=1", "augment.images_of_one=1"]


def names(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from names(field.annotation, f"{prefix}{name}.")
        elif name != "model":
            yield prefix + name


def refusal(detector: str, assignment: str) -> str | None:
    try:
        make_settings(detector, None, [assignment])
    except SettingsError as error:
        return str(error)
    return None


@pytest.mark.parametrize("detector", DETECTORS)
def test_each_setting_takes_a_value_or_is_named(detector: str) -> None:
    general = ["train", "data", "model", "nope", "train.nope", "train.epochs.x", "\x1b[31mred"]
    own = list(names(DETECTORS[detector].Settings, "model."))
    for name in [*own, *(names(RunSettings) if detector == "feature_autoencoder" else ()), *general]:
        for value in HOSTILE:
            said, owner = refusal(detector, f"{name}={value}"), name.removesuffix(".x")
            assert said is None or said.startswith((owner, f"--set {owner}")), (name, value[:20])
            assert len(said or "") < 500, (name, value[:20])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.epochs=true", "train.epochs: should be a whole number; found 'true'"),
        ("data.size_px=[true, 64]", "data.size_px.0: should be a whole number"),
        ("train.learning_rate=1e-320", "train.learning_rate: should be 0, or between 1e-12 and 1e+12 in size; found"),
        ("train.max_steps=" + "9" * 30, "train.max_steps: should be 0, or between 1e-12 and 1e+12 in size"),
        ("train.epochs=" + "9" * 6000, "--set train.epochs: a number of thousands of digits"),
        ("train.epochs=" + "[" * 5000, "--set train.epochs: a number of thousands of digits, or brackets"),
        ("train.learning_rate=inf", "train.learning_rate: should be"),
        ("data.size_px=[16384, 16384]", "data.size_px: 16384 x 16384 in one piece takes more memory"),
        ("data.side_px=16384", "data.side_px: 16384 x 16384 in one piece takes more memory"),
        ("data.roi=[[nan, 0], [1, 1], [0, 1]]", "data.roi"),
        ("model.encoder_layers=[2, 1]", "model.encoder_layers: should be at least one layer, in rising order, e.g. [2"),
    ],
)
def test_what_is_refused_is_said(assignment: str, message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        make_settings("feature_autoencoder", None, [assignment])
    assert str(refused.value).startswith(message)


def test_numbers_of_ordinary_size_are_taken() -> None:
    run = make_settings("feature_autoencoder", None, [f"train.max_steps={int(LARGEST)}", "train.weight_decay=1e-12"])
    assert (run.train.max_steps, run.train.weight_decay) == (10**12, 1e-12)


@pytest.mark.parametrize(
    "assignments",
    [
        pytest.param(["data.calibration_fraction=0.001"], marks=pytest.mark.slow),
        ["data.calibration_fraction=0.999"],
        ["score.calibration=cross", "score.folds=1000000000000"],
        pytest.param(["score.max_false_alarm_rate=1e-12"], marks=pytest.mark.slow),
        pytest.param(["score.max_false_alarm_rate=0.999999999999"], marks=pytest.mark.slow),
        pytest.param(["score.confidence=1e-6"], marks=pytest.mark.slow),
        pytest.param(["score.confidence=0.999999"], marks=pytest.mark.slow),
        ["train.batch_size=1000000000000"],
        pytest.param(["train.learning_rate=1e12"], marks=pytest.mark.slow),
        pytest.param(["train.weight_decay=1e12"], marks=pytest.mark.slow),
        pytest.param(["data.tile_px=[8, 8]", "data.tile_overlap_px=1000000000000"], marks=pytest.mark.slow),
        pytest.param(["model.smoothing_sigma_px=1e-12"], marks=pytest.mark.slow),
        pytest.param(["model.smoothing_sigma_px=1e12"], marks=pytest.mark.slow),
        ["model.latent=1000000000000"],
        pytest.param(["data.max_image_px=64"], marks=pytest.mark.slow),
        pytest.param(["data.groups=("], marks=pytest.mark.slow),
        ["data.groups=(.*)*x"],
        pytest.param(["data.roi=nowhere.png"], marks=pytest.mark.slow),
        ["data.roi=[[0, 0], [0, 0], [0, 0]]"],
        pytest.param(["augment.rotation_degrees=1e-12", "augment.noise_std=1"], marks=pytest.mark.slow),
    ],
)
def test_at_the_edge_a_run_ends_well_or_in_one_line(shared_parts: Path, tmp_path: Path, assignments: list[str]) -> None:
    options = ["--detector", "conv_autoencoder", *sets([*HASTY, *assignments])]
    result = run("train", shared_parts, "-o", tmp_path / "m.safetensors", *options)
    assert result.exit_code in (0, 2), result.output
    if result.exit_code == 2:
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "Error: " in result.stderr
        assert not list(tmp_path.iterdir())


def test_a_settings_file_of_any_kind_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.toml"
    os.mkfifo(pipe)
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "digits.toml").write_text("seed = " + "9" * 6000)
    (tmp_path / "deep.toml").write_text("seed = " + "[" * 5000)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\nseed = 1")
    (tmp_path / "zeros.toml").write_bytes(bytes(64))
    (tmp_path / "large.toml").write_text("#" * (MAX_TEXT_BYTES + 1))
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    for path in [Path("/dev/zero"), Path("/dev/stdin"), *tmp_path.iterdir()]:
        with pytest.raises(SettingsError) as refused:
            read_toml(path)
        assert str(refused.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["pipe", "/dev/zero", "folder"])
def test_groups_are_read_from_files_alone(shared_parts: Path, tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    path = tmp_path / name
    result = run("train", shared_parts, "-o", tmp_path / "m", "--set", f"data.groups={path}")
    assert result.exit_code == 2
    assert result.stderr.startswith(("DataError: ", "SettingsError: "))
    assert str(path) in result.stderr


@pytest.mark.parametrize("number", ["1e-320", "1e-13", "0", "1", "nan", "inf", "-1", "1e400"])
def test_a_rate_that_is_none_is_refused_on_the_command_line(model_file: Path, shared_parts: Path, number: str) -> None:
    photo = shared_parts / "test/good/000.png"
    for command in (
        ["inspect", model_file, photo, "--max-false-alarm-rate", number],
        ["inspect", model_file, photo, "--fdr", number],
        ["certify", model_file, "--dry-run", "--max-false-alarm-rate", number],
        ["certify", model_file, "--dry-run", "--max-false-alarm-rate", "0.5", "--confidence", number],
    ):
        result = run(*command)
        assert result.exit_code == 2, (command, result.output)
        assert isinstance(result.exception, SystemExit)
        assert result.stderr.startswith(("SettingsError: ", "CalibrationError: ")), (command, result.stderr)


def test_the_smallest_rates_have_numbers() -> None:
    assert images_needed(1e-12) == 10**12 - 1
    assert smallest_rate(5, confidence=1e-6) > 0
    with pytest.raises(SettingsError, match="max_false_alarm_rate"):
        certify(np.zeros(3), 1e-320)
    with pytest.raises(SettingsError, match="confidence"):
        certify(np.zeros(3), 0.5, confidence=1e-320)


def test_a_threshold_must_be_a_number(model_file: Path) -> None:
    for threshold in (float("nan"), float("inf"), -1.0):
        with pytest.raises(SettingsError, match=r"^threshold: "):
            Predictor.load(model_file).with_threshold(threshold)


@pytest.mark.parametrize("text", ["", "=", "=1", ".=1", "a..b=1", "seed"])
def test_an_assignment_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="write it as name=value"):
        parse_assignment(text)


READERS: dict[str, Callable[[Path], object]] = {
    "the watch of a monitor": read_state,
    "a model's name": lambda path: check_model_name(path, []),
    "a file to be replaced": refuse_foreign,
    "the results of an evaluation": lambda path: sweep_threshold(path.parent, path.parent / "out", []),
    "an archive": lambda path: check_archive(path, ""),
}


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_in_the_place_of_a_file_is_an_error_and_not_waited_for(reader: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"results\.json: .*a device or a pipe"):
        READERS[reader](path)


def test_a_setting_of_several_lines_sets_nothing_else() -> None:
    assert parse_assignment("seed=1\nx=2") == {"seed": "1\nx=2"}
    assert parse_assignment("data.size_px=[64,\n64]") == {"data": {"size_px": [64, 64]}}


def test_so_many_threads_are_refused_as_an_option(model_file: Path, shared_parts: Path) -> None:
    result = run("inspect", model_file, shared_parts, "--threads", "9" * 30)
    assert (result.exit_code, "Invalid value for '--threads'" in result.stderr) == (2, True)


@pytest.mark.parametrize("option", ["--settle", "--patience", "--until-idle", "--poll"])
@pytest.mark.parametrize("seconds", ["inf", "nan", "-1"])
def test_a_watch_waits_for_a_time_that_ends(option: str, seconds: str, model_file: Path, tmp_path: Path) -> None:
    result = run("watch", model_file, tmp_path, option, seconds)
    assert (result.exit_code, f"Invalid value for '{option}'" in result.stderr) == (2, True)
