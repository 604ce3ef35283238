"""Benchmarks use what the package has."""

import ast
import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from conftest import TINY

ROOT = Path(__file__).parents[1]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("*.py"))
pytestmark = pytest.mark.slow


def names_of(path: Path) -> list[tuple[str, str]]:
    """What a benchmark imports of the package, also in programs that it has as text."""
    trees = [ast.parse(path.read_text(encoding="utf-8"))]
    texts = [
        node.value for node in ast.walk(trees[0]) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    trees += [ast.parse(text) for text in texts if "\nfrom blemish" in text and not text.startswith('"""')]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return [
        (node.module, one.name) for node in nodes if (node.module or "").startswith("blemish") for one in node.names
    ]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_what_it_imports_is_there(path: Path) -> None:
    for module, name in names_of(path):
        assert hasattr(import_module(module), name) or find_spec(f"{module}.{name}"), f"{module}.{name}"


def test_programs_given_as_text_are_looked_at() -> None:
    assert ("blemish.models.encoders", "FrozenEncoder") in names_of(ROOT / "benchmarks" / "fit_speed.py")


@pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="needs Linux: the cases are forked, and /proc is asked"
)
def test_hostile_cases_of_every_kind_end_well(tmp_path: Path) -> None:
    out = tmp_path / "hostile.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "hostile.py"), "--count", "9", "--seed", "1", "--workers", "1"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ended = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, timeout=600, env=environment, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    assert list(tmp_path.glob("hostile-*")) == []
    kinds = ("image", "mask", "name", "setting", "option", "model", "place", "stop", "stream")
    assert json.loads(out.read_text(encoding="utf-8"))["kinds"] == dict.fromkeys(kinds, 1)


def test_runs_side_by_side_give_the_rows_of_runs_in_turn(
    shared_parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from default_detector import Part, Work, run_sets

    part, rows = Part("as they are", ("conv_autoencoder",), tuple(TINY)), []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        run_sets([shared_parts], Work(2, part.detectors, out, [part], "cpu", workers), "rows.json")
        (row,) = json.loads((out / "rows.json").read_text(encoding="utf-8"))["rows"]
        assert row["seeds"] == 2
        rows.append([one["image AUROC"] for one in row["each"]])
    assert rows[0] == rows[1]
    assert "seed 1: kept" in capsys.readouterr().out
