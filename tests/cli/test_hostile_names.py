"""File names that nobody means: shown without effect, written safely, and no reason to stop."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from blemish.cli import app
from blemish.cli.console import emit, log_console, out_console, print_table, say
from blemish.data.csv_cells import csv_line, escape_cell, unescape_cell
from blemish.errors import printable
from conftest import draw_part

pytestmark = pytest.mark.usefixtures("undrawn")

SPOOF = "a\x1b[2J[bold]:smile:\u202egnp\rDataError: b\x07.png"
"""Clears the screen, is markup and an emoji, reads backwards, begins a line of its own and rings the bell."""
LONG = "ü" * 122 + ".png"
"""248 bytes in 126 characters; most folders take 255."""


def run(*arguments: object, charset: str = "utf-8") -> Result:
    return CliRunner(charset=charset).invoke(app, [str(argument) for argument in arguments])


def photos(shared_parts: Path, folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_bytes((shared_parts / "test/good/000.png").read_bytes())
    return folder


def is_plain(text: str) -> bool:
    return not any(ord(each) < 32 and each != "\n" for each in text) and "\u202e" not in text


def test_names_have_no_effect_on_a_terminal(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    folder = photos(shared_parts, tmp_path / "in", SPOOF)
    shown = r"a\x1b[2J[bold]:smile:\u202egnp\rDataError: b\x07.png"
    inspected = run("inspect", model_file, folder)
    assert inspected.exit_code in (0, 1)
    watched = run("watch", model_file, folder, "--until-idle", "0", "--settle", "0", "--to", tmp_path / "record.csv")
    assert watched.exit_code == 0
    (folder / SPOOF).write_bytes(b"no image")
    refused = run("inspect", model_file, folder)
    assert refused.exit_code == 2
    skipped = run("inspect", model_file, folder, "--skip-bad")
    photos(shared_parts, tmp_path / "set", "a.png", "b.png", "c.png")
    (folder / SPOOF).rename(tmp_path / "set" / SPOOF)
    checked = run("data", "check", tmp_path / "set")
    for result in (inspected, watched, refused, skipped, checked):
        assert shown in result.output
        assert is_plain(result.output)


def test_what_is_printed_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    for console in (out_console, log_console):
        console.print(f"[red]{SPOOF}[/red]")
    print_table(f"[red]{SPOOF}", {SPOOF: "[/]"})
    out, err = capsys.readouterr()
    for text in (out, err):
        assert "[red]a" in text
        assert ":smile:" in text
        assert is_plain(text)


def test_a_terminal_gets_escapes_and_a_file_the_bytes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    emit(SPOOF)
    assert capsys.readouterr().out == SPOOF
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    emit(f"{SPOOF}\n")
    assert capsys.readouterr().out == f"{printable(SPOOF)}\n"


def test_what_the_console_cannot_print_is_printed_as_escapes(
    model_file: Path, shared_parts: Path, tmp_path: Path
) -> None:
    folder = photos(shared_parts, tmp_path / "in", "漢ü.png", "a.png")
    for command in (
        ["inspect", model_file, folder],
        ["watch", model_file, folder, "--until-idle", "0", "--settle", "0"],
        ["inspect", model_file, folder, "--format", "csv"],
    ):
        result = run(*command, charset="ascii")
        assert result.exit_code in (0, 1), result.output
        assert r"\u6f22\xfc.png" in result.output
        assert "a.png" in result.output


@pytest.mark.parametrize("name", ["=1+2.png", "+a.png", "-a.png", "@a.png", "'=a.png", "''-.png", "'a.png", "=\n,.png"])
def test_no_cell_is_a_formula(model_file: Path, shared_parts: Path, tmp_path: Path, name: str) -> None:
    assert unescape_cell(str(escape_cell(name))) == name
    (cell, number), *_ = csv.reader(io.StringIO(csv_line([name, -1.5]), newline=""))
    assert cell.lstrip("'")[0] not in "=+-@" or cell.startswith("'")
    assert number == "-1.5"
    folder, record = photos(shared_parts, tmp_path / "in", name), tmp_path / "record.csv"
    for _ in range(2):
        command = ["watch", model_file, folder, "--until-idle", "0", "--settle", "0", "--to", record]
        assert run(*command).exit_code == 0
    with record.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [unescape_cell(row["file"]) for row in rows] == [name]  # decided once: it is known again after a restart
    assert not rows[0]["file"].startswith(("=", "+", "-", "@"))


def test_long_names_are_inspected(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    folder = photos(
        shared_parts, tmp_path / "in", LONG, "ü" * 121 + ".jpeg.png", "x" * 251 + ".png", "x" * 250 + ".jpeg"
    )
    names = sorted(path.name for path in folder.iterdir())
    result = run("inspect", model_file, folder, "-o", tmp_path / "out", "--format", "json")
    assert result.exit_code in (0, 1), result.output
    assert sorted(Path(row["path"]).name for row in json.loads(result.stdout)) == names
    for kind in ("overlays", "masks"):
        written = list((tmp_path / "out" / kind).iterdir())
        assert len(written) == len(names)
        assert all(len(os.fsencode(path.name)) <= 255 for path in written)


def test_long_names_are_watched_and_moved(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    folder = photos(shared_parts, tmp_path / "in", LONG, "x" * 251 + ".png")
    names = {path.name for path in folder.iterdir()}
    record, moved = tmp_path / "record.jsonl", tmp_path / "moved"
    command = ["watch", model_file, folder, "--to", record, "--move-anomalous", moved, "--threshold", "0"]
    result = run(*command, "--until-idle", "0", "--settle", "0", "--patience", "0")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    assert {(row["file"], row["verdict"]) for row in rows} == {(name, "anomalous") for name in names}
    assert {path.name for path in moved.iterdir()} == names  # moved under their own names
    assert not list(folder.iterdir())


def test_a_model_whose_files_beside_it_would_have_no_names_is_refused(shared_parts: Path, tmp_path: Path) -> None:
    result = run("train", shared_parts, "-o", tmp_path / ("m" * 250))
    assert result.exit_code == 2
    assert result.stderr.startswith("DataError: ")
    assert "too long" in result.stderr
    assert not list(tmp_path.iterdir())


PROGRAM = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupt(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), signal.SIGINT)
        return None

import blemish.__main__
sys.argv = ["blemish", "detectors"]
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupt())
blemish.__main__.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["typer", "rich.console", "blemish.cli.watch", "torch", "torch.nn", "blemish.models"])
def test_an_interruption_while_something_is_imported_is_one_line(name: str) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM.format(name=name)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 130, ran.stderr
    assert ran.stderr.startswith("interrupted")
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stdout == ""


class Full(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_what_cannot_be_said_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    log_console.print("a note")
    say("note", "another")
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(OSError, match="No space left"):
        out_console.print("a result")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk as Linux has it")
@pytest.mark.parametrize("arguments", [["inspect", "no.onnx", "no.png"], ["--nothing"]])
def test_a_full_standard_error_changes_no_exit_code(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run([sys.executable, "-m", "blemish", *arguments], stderr=full, timeout=120, check=False)
    assert ran.returncode == 2


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk as Linux has it")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["detectors"]])
def test_a_full_standard_output_is_said_in_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "blemish", *arguments]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=120, check=False)
    assert (ran.returncode, ran.stderr) == (2, b"standard output: no space left on the disk; free some\n")


def closed(number: int, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    program = f"import os, sys; os.close({number}); os.execv(sys.executable, [sys.executable, '-m', *sys.argv[1:]])"
    return subprocess.run([sys.executable, "-c", program, "blemish", *arguments], capture_output=True, timeout=300)


@pytest.mark.slow
def test_closed_standard_output_is_an_error_and_closed_standard_error_is_none() -> None:
    ran = closed(1, "--version")
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"standard output: closed; ")
    ran = closed(2, "--version")
    assert (ran.returncode, ran.stdout[:1].isdigit()) == (0, True)
    assert closed(2, "nothing").returncode == 2
    assert closed(0, "--version").returncode == 0


SMALL = "--set data.size_px=[64,64] --set model.latent=8 --set train.epochs=1 --set score.max_false_alarm_rate=0.5"
NOT_UTF8 = {
    "inspect": "inspect {model} {data}/test --threshold 1e9",
    "evaluate": "evaluate {model} {data} -o {out}",
    "challenge": "challenge {model} {data} -o {out} --defects 10 --types hole --contrasts 0.5",
    "certify": "certify {model} --good {data}/test/good --dry-run --max-false-alarm-rate 0.5",
    "monitor": "monitor {model} {data}/test/good --state {out}.json",
    "train": f"train {{data}} -o {{out}} --detector conv_autoencoder {SMALL}",
    "compare": f"compare {{data}} -o {{out}} --detectors conv_autoencoder --seeds 1 {SMALL}",
    "sweep": f"sweep setting {{data}} -o {{out}} --detector conv_autoencoder {SMALL} --set train.epochs=1,2",
}
"""Every command that takes folders and --skip-bad."""


@pytest.mark.skipif(sys.platform != "linux", reason="such names are refused by other systems")
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("inspect", "evaluate", "certify", "monitor") else pytest.param(name, marks=pytest.mark.slow)
        for name in NOT_UTF8
    ],
)
def test_names_that_are_not_utf8_are_refused_or_left_out(
    name: str, model_file: Path, parts: Path, tmp_path: Path
) -> None:
    for odd in ("train/good", "test/good", "test/bar", "ground_truth/bar"):
        some = sorted((parts / odd).iterdir())[0]
        some.rename(some.with_name(os.fsdecode(b"\xff" + some.name.encode())))
        (parts / odd / "photo.heic").touch()
    for place in range(4, 8):  # enough to challenge
        draw_part(np.random.default_rng(place))[0].save(parts / f"test/good/{place:03}.png")
    words = NOT_UTF8[name].format(model=model_file, data=parts, out=tmp_path / "out").split()
    refused = run(*words)
    assert refused.exit_code == 2
    assert "a file name that is not UTF-8; rename it" in refused.stderr
    assert not (tmp_path / "out").exists()
    done = run(*words, "--skip-bad")
    assert done.exit_code == (3 if name in ("inspect", "monitor") else 0), done.output
    said = " ".join(done.stderr.split())
    assert "not read, as only PNG" in said
    assert "\\udcff000.png: a file name that is not UTF-8; rename it" in said


@pytest.mark.skipif(sys.platform != "linux", reason="such names are refused by other systems")
def test_a_data_check_names_what_has_no_utf8_name(parts: Path, tmp_path: Path) -> None:
    for odd in ("train/good/000.png", "test/bar/000.png", "ground_truth/bar/000_mask.png"):
        (parts / odd).rename((parts / odd).with_name(os.fsdecode(b"\xff.png")))
    (parts / os.fsdecode(b"notes\xff.xyz")).touch()
    checked = run("data", "check", parts, "-o", tmp_path / "out", "--set", "data.size_px=[64,64]")
    assert checked.exit_code == 1, checked.output
    for folder in ("train/good", "test/bar", "ground_truth/bar"):
        assert f"LOOK  unreadable  {folder}/\\udcff.png: a file name that is not UTF-8; rename it" in checked.stdout
    assert "note  odd file  notes\\udcff.xyz" in checked.stdout
