"""Every table of docs/results.md has a command that makes it again; figures of pages are those of their JSON."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import typer

from blemish.cli import app
from blemish.data.folder import read_folder

ROOT = Path(__file__).parents[1]
RESULTS = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in re.split(r"(?m)^## ", RESULTS)[1:]}


@pytest.fixture
def reproduce(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import reproduce

    return reproduce


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import figures

    return figures


def ask(reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["reproduce.py", *words])
    return int(reproduce.main())


def test_the_list_covers_every_table_of_the_results(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(reproduce, monkeypatch, "--list") == 0
    listed = capsys.readouterr().out
    with_table = [heading for heading, text in SECTIONS.items() if "|---" in text or "| --- |" in text]
    assert len(with_table) > 8
    assert [heading for heading in with_table if f"{heading}: about " not in listed] == []


def test_every_command_stands_beside_its_table(reproduce: ModuleType) -> None:
    beside = {name: f"reproduce.py {name}" in SECTIONS[table.heading] for name, table in reproduce.TABLES.items()}
    assert [name for name, stands in beside.items() if not stands] == []


def test_commands_run_what_exists(reproduce: ModuleType) -> None:
    known = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    for name in reproduce.TABLES:
        for command in reproduce.commands_of(name, Path("sets"), Path("out")):
            assert "{" not in " ".join(command)
            if command[1:3] == ["-m", "blemish"]:
                assert command[3] in known
            else:
                assert Path(command[1]).is_file()


def test_a_small_run_of_every_table_is_smaller(reproduce: ModuleType) -> None:
    assert list(reproduce.SMALL) == list(reproduce.TABLES)
    for name, changes in reproduce.SMALL.items():
        assert [full for full in changes if not any(full in one for one in reproduce.TABLES[name].commands)] == []
        full, small = (list(reproduce.commands_of(name, Path("sets"), Path("out"), small)) for small in (False, True))
        assert (small != full) == bool(changes or any("{sets}" in one for one in reproduce.TABLES[name].commands))
        assert [command for command in small if sum(word.startswith("sets/") for word in command) > 2] == []


@pytest.mark.slow
def test_a_small_run_of_the_quickest_ends_with_its_table(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "reproduce.py"), "train-speed", "--small", "-o", "out"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
    assert ran.stdout.startswith("a small run: its figures say nothing")
    assert "ms an image" in (tmp_path / "out" / "train-speed-small" / "table.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_small_run_has_drawn_every_set_that_its_commands_name(reproduce: ModuleType, tmp_path: Path) -> None:
    for name in ("paper", "features"):
        reproduce.draw_sets(name, tmp_path)
        words = {word for command in reproduce.commands_of(name, tmp_path, Path("out"), True) for word in command}
        named = [Path(word) for word in words if word.startswith(str(tmp_path))]
        assert len(named) == (3 if name == "paper" else 2)
        assert all(len(read_folder(path).train) == 24 for path in named)


def test_the_cost_is_said_before_anything_runs(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ask(reproduce, monkeypatch, "paper", "--dry-run") == 0
    cost, *commands = capsys.readouterr().out.splitlines()
    assert cost.startswith("The paper's auto-encoder on three real sets: about 10 minutes, ")
    assert len(commands) == 7
    assert ask(reproduce, monkeypatch, "paper", "--data", "nowhere") == 2
    said = capsys.readouterr()
    assert said.out.startswith(cost)
    assert said.err.startswith("nowhere/hazelnut_toy, nowhere/mvtec_toothbrush, nowhere/kolektorsdd: no such folder")
    assert list(tmp_path.iterdir()) == []


def test_what_is_printed_is_kept_and_a_failure_is_told(
    reproduce: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = "benchmarks/comparison_table.py --help", "benchmarks/comparison_table.py"
    cost = reproduce.Cost(1, "for a test")
    monkeypatch.setitem(reproduce.TABLES, "help", reproduce.Table("Help", cost, (good,)))
    assert reproduce.reproduce("help", Path("sets"), tmp_path) == 0
    assert "tables of `blemish compare` as Markdown" in (tmp_path / "table.md").read_text(encoding="utf-8")
    monkeypatch.setitem(reproduce.TABLES, "help", reproduce.Table("Help", cost, (bad, good)))
    assert reproduce.reproduce("help", Path("sets"), tmp_path) == 2
    assert "ended with exit code 2" in capsys.readouterr().err
    assert "Markdown" not in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_figures_of_a_page_are_those_of_the_json(
    figures: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = "# A\n\n<!-- figures: default -->\n| old |\n<!-- end of figures -->\n"
    content = json.loads((figures.FOLDER / "default_detector.json").read_text(encoding="utf-8"))
    for row in content["rows"]:
        row["figures"]["image AUROC"] = 0.4321
    (tmp_path / "default_detector.json").write_text(json.dumps(content), encoding="utf-8")
    before = figures.filled(page)
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    assert "old" not in before
    assert "| 0.432 |" not in before
    assert figures.filled(page).count("| 0.432 |") == 6
    assert figures.filled(before) == figures.filled(page)
    assert "is 0.432; `patchcore` at 256 px has 0.432" in " ".join(figures.weak_points().split())


def test_no_figure_of_the_benchmarks_stands_in_the_readme_by_hand(figures: ModuleType) -> None:
    written = figures.PLACE.sub("", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert re.findall(r"(?<![\d.])0?\.\d{2,3}\b", written) == []
