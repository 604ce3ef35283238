"""How a command ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from blemish.cli import ladder
from blemish.cli.exit import ERROR, INTERRUPTED, ending
from conftest import TINY, write_parts
from reference.command import run, sets


@pytest.mark.parametrize(("command", "extra"), [("train", "train"), ("station serve", "station")])
def test_a_missing_package_names_what_brings_it(command: str, extra: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise ModuleNotFoundError(name="pwdlib")

    with pytest.raises(typer.Exit) as ended:
        ending(command, run)()
    assert ended.value.exit_code == ERROR
    assert "needs the package 'pwdlib'; install what" in (said := " ".join(capsys.readouterr().err.split()))
    assert said.endswith(f"pip install 'blemish[{extra}]'")


def test_a_package_that_cannot_be_loaded_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> None:
        raise ImportError("libjpeg.so: cannot open shared object file")

    with pytest.raises(typer.Exit) as ended:
        ending("inspect", run)()
    assert ended.value.exit_code == ERROR
    said = "blemish inspect: a package cannot be loaded (libjpeg.so: cannot open shared object file); install"
    assert " ".join(capsys.readouterr().err.split()).startswith(said)


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("inspect MODEL PHOTOS --max-false-alarm-rate 0.01", "CalibrationError: --max-false-alarm-rate: 0.01 needs 99"),
        ("watch MODEL PHOTOS --max-false-alarm-rate 2", "SettingsError: --max-false-alarm-rate: 2.0 is not"),
        ("evaluate MODEL PHOTOS -o OUT --threshold nan", "SettingsError: --threshold: nan is not"),
        ("certify MODEL --confidence 0.95", "CalibrationError: --max-false-alarm-rate: 0.333333 with"),
        ("challenge MODEL PHOTOS -o OUT --contrasts 0.1,3", "SettingsError: --contrasts: should be less than or equal"),
        (
            "data convert PHOTOS -o OUT --mask-value x",
            "SettingsError: --mask-value: should be a whole number or 3 numb",
        ),
        ("data synth hazelnuts OUT --size 3", "SettingsError: --size: found 3; give a whole number, 64 to 1024"),
        ("station add OUT --product x --camera 0 --every-s 5 --every-frames 3", "--every-frames and --every-s: give"),
        ("train PHOTOS -o OUT --seed -1", "SettingsError: --seed: should be greater than or equal to 0"),
        ("train PHOTOS -o OUT --set seed=-1", "SettingsError: seed: should be greater than or equal to 0"),
        ("train PHOTOS -o OUT --detector padim --set model.encoder=x", "SettingsError: model.encoder: "),
    ],
)
def test_an_error_names_the_option_or_the_setting_that_was_typed(
    command: str, named: str, model_file: Path, shared_parts: Path, tmp_path: Path
) -> None:
    paths: dict[str, object] = {"MODEL": model_file, "PHOTOS": shared_parts, "OUT": tmp_path / "out"}
    result = run(*(paths.get(word, word) for word in command.split()))
    assert (result.exit_code, named in " ".join(result.stderr.split())) == (ERROR, True), result.stderr


LATE = """
import os, signal, sys
from blemish.__main__ import main

class Late:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGINT):
        kill(process, number)

late = Late()
sys.argv = ["blemish", "detectors"]
main()
"""
"""Ctrl-C where Python takes its modules down and has given up its handlers."""


HALF_WAY = """
import os, signal, sys
import blemish.cli
from blemish.__main__ import main

class HalfWay:
    def __del__(self, abort=os.abort):
        abort()

def app():
    print("so far")
    raise SystemExit(130)

half_way, blemish.cli.app = HalfWay(), app
main()
"""
"""An interruption that leaves a library which aborts the process where Python is taken down."""


@pytest.mark.slow
def test_an_interruption_half_way_through_a_library_ends_with_its_own_exit_code() -> None:
    ended = subprocess.run([sys.executable, "-c", HALF_WAY], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (INTERRUPTED, "so far\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends a process there")
def test_ctrl_c_after_a_command_has_ended_changes_no_exit_code() -> None:
    ended = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "padim" in ended.stdout


@pytest.mark.slow
def test_ctrl_c_after_the_model_was_written_says_that_it_is_there(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ladder, "find_peaks", interrupted)
    model = tmp_path / "m.safetensors"
    command = ["train", parts, "-o", model, "--detector", "conv_autoencoder", *sets(TINY)]
    said = run(*command)
    assert said.exit_code == INTERRUPTED
    assert f"interrupted; the model is written and complete: {model}; the same command with --resume" in said.stderr
    monkeypatch.undo()
    before = model.stat().st_mtime_ns
    again = run(*command, "--resume")
    assert (again.exit_code, "false-alarm rates" in again.stdout) == (0, True)
    assert model.stat().st_mtime_ns == before


@pytest.mark.slow
def test_a_working_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    (gone := tmp_path / "gone").mkdir()
    command = f"cd {gone}; rmdir {gone}; exec {sys.executable} -m blemish detectors"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ran.stderr.startswith("warning: the working directory is gone")


MIDWAY = {
    "challenge": ("challenge", "{onnx}", "{photos}", "-o", "{out}", "--types", "scratch"),
    "evaluate": ("evaluate", "{onnx}", "{parts}", "-o", "{out}"),
    "compare": ("compare", "{parts}", "-o", "{out}", "--detectors", "ae_l2"),
    "sweep setting": ("sweep", "setting", "{parts}", "-o", "{out}", "--detector", "ae_l2", "--set", "model.latent=4,8"),
    "data convert": ("data", "convert", "{parts}", "-o", "{out}/below"),
    "data synth": ("data", "synth", "hazelnuts", "{out}/below"),
    "train": ("train", "{parts}", "-o", "{home}/m.safetensors"),
    "export": ("export", "{model}", "-o", "{home}/m.onnx"),
}
PLACES = {
    "challenge": "evaluation.challenge.challenge._run",
    "evaluate": "evaluation.evaluate.judge_images",
    "compare": "evaluation.compare.compare.refuse_bad_files",
    "sweep setting": "evaluation.compare.sweep_setting.refuse_bad_files",
    "data convert": "data.convert._copy",
    "data synth": "data.synthetic.dataset._save",
    "train": "training.train.fit_splits",
    "export": "training.export.to_graph",
}
"""A function that each of them calls when it has begun and nothing worth keeping is there."""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends a process there")
@pytest.mark.parametrize(
    ("command", "name"), [*((one, "SIGTERM") for one in MIDWAY), ("data synth", "SIGINT"), ("data synth", "SIGHUP")]
)
def test_a_signal_in_the_middle_leaves_nothing(
    command: str,
    name: str,
    shared_parts: Path,
    onnx_file: Path,
    model_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(*_: object, **__: object) -> None:
        for _ in range(2):  # the second one stops at once
            os.kill(os.getpid(), getattr(signal, name))
        raise AssertionError

    monkeypatch.setattr(f"blemish.{PLACES[command]}", killed)
    before = signal.signal(getattr(signal, name), signal.SIG_DFL)  # under nohup SIGHUP is ignored
    (home := tmp_path / "home").mkdir()
    unseen = write_parts(tmp_path / "unseen", good=1, test=5, seed=1)
    places = {"onnx": onnx_file, "model": model_file, "parts": shared_parts, "photos": unseen}
    try:
        said = run(*(one.format(**places, home=home, out=home / "new/out") for one in MIDWAY[command]))
    finally:
        signal.signal(getattr(signal, name), before)
    assert (said.exit_code, "interrupted; " in said.stderr) == (INTERRUPTED, True), said.output
    assert list(home.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
