"""What passes, but hardly any good image resembles: `--doubt-rate` of `inspect` and `watch`."""

import csv
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from blemish.cli import app
from blemish.data.csv_cells import csv_line
from blemish.errors import SettingsError
from blemish.inference.predictor import Predictor
from blemish.inspection.decisions import Decision
from blemish.inspection.export import EARLIER
from blemish.inspection.index_page import write_index
from blemish.inspection.inspect import NAME, Request, inspect_images
from blemish.inspection.record import WRITTEN_BY, Record, read_record
from blemish.inspection.rows import as_table, to_row
from conftest import photo

ALL_PASS = ["--threshold", "1000"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(2):
        photo(tmp_path / f"in/{seed}.png", seed)
    return tmp_path / "in"


@pytest.fixture
def run(onnx_file: Path) -> Callable[..., Result]:
    def run(command: str, *arguments: object) -> Result:
        return CliRunner().invoke(app, [command, str(onnx_file), *map(str, arguments)])

    return run


def watch(run: Callable[..., Result], folder: Path, *options: str) -> Result:
    return run("watch", folder, *ALL_PASS, *options, "--settle", "0", "--until-idle", "0", "--to", folder / "../w.csv")


def test_doubtful_is_what_passes_with_a_p_value_of_at_most_the_rate(onnx_file: Path, folder: Path) -> None:
    predictor = Predictor.load(onnx_file)
    found = predictor.with_threshold(1000.0).predict(folder / "0.png")
    assert found.is_doubtful(found.p_value)
    assert not found.is_doubtful(found.p_value - 1e-9)
    assert not predictor.with_threshold(0.0).predict(folder / "0.png").is_doubtful(0.999)


@pytest.mark.parametrize(
    ("threshold", "rate", "message"),
    [
        (None, 1.0, "doubt_rate: 1.0 is not a number between 0 and 1"),
        (None, 0.01, r"found 0\.01; nothing that passes at threshold .* would be doubtful below 0\.\d+: give at least"),
        (0.0, 0.5, "would be doubtful: no calibration score of a good image lies below it; give a higher threshold"),
    ],
)
def test_a_rate_at_which_nothing_can_be_doubtful_is_refused(
    onnx_file: Path, folder: Path, threshold: float | None, rate: float, message: str
) -> None:
    predictor = Predictor.load(onnx_file)
    predictor = predictor if threshold is None else predictor.with_threshold(threshold)
    with pytest.raises(SettingsError, match=message):
        inspect_images(predictor, [folder], Request(onnx_file, doubt_rate=rate))


def test_the_rate_that_the_refusal_names_is_accepted(onnx_file: Path) -> None:
    predictor = Predictor.load(onnx_file)
    with pytest.raises(SettingsError) as refused:
        predictor.check_doubt_rate(0.01)
    predictor.check_doubt_rate(float(str(refused.value).split("below ")[1].split(":")[0]))


def test_no_rate_is_named_that_is_refused_itself(onnx_file: Path) -> None:
    """Above the lowest of so many scores a rate from 0.9991 on would do, which three digits cannot say."""
    loaded = Predictor.load(onnx_file)
    header = loaded.header.model_copy(update={"calibration_scores": tuple(map(float, range(1, 1101)))})
    predictor = Predictor(header, loaded._runtimes, 1.5)
    with pytest.raises(
        SettingsError, match=r"would be doubtful: hardly a calibration score .* give a higher threshold"
    ):
        predictor.check_doubt_rate(0.5)
    predictor.check_doubt_rate(0.9995)


def test_inspect_says_it_in_table_rows_and_page(run: Callable[..., Result], folder: Path, tmp_path: Path) -> None:
    done = run("inspect", folder, *ALL_PASS, "--doubt-rate", 0.99, "-o", tmp_path / "out")
    rows = json.loads((tmp_path / "out/inspect.json").read_text())
    assert [row["is_doubtful"] for row in rows] == [row["p_value"] <= 0.99 for row in rows]
    assert {row["verdict"] for row in rows} == {"good"}
    count = sum(row["is_doubtful"] for row in rows)
    assert done.exit_code == 0
    assert (count, done.stdout.count("DOUBTFUL"), f"; {count} doubtful\n" in done.stdout) == (count, count, True)
    again = run("inspect", folder, *ALL_PASS, "-o", tmp_path / "out", "--resume")
    assert again.exit_code == 2
    assert "its rows were made with doubt_rate 0.99, this run has None" in " ".join(again.stderr.split())


def test_a_batch_has_no_second_rate(run: Callable[..., Result], folder: Path) -> None:
    done = run("inspect", folder, "--fdr", 0.1, "--doubt-rate", 0.5)
    assert (done.exit_code, done.stderr.strip()) == (2, "SettingsError: --fdr and --doubt-rate: give one of them")


def test_without_a_rate_no_row_says_it() -> None:
    row = to_row(Decision("a.png", "", "good", 1.0, 0.5, 2.0))
    assert row["is_doubtful"] is None
    assert "doubtful" not in "".join(as_table([row]))


def test_the_page_shows_doubtful_ones_between_rejects_and_passes(tmp_path: Path) -> None:
    reject = Decision("r.png", "", "anomalous", 3.0, 0.1, 2.0, is_doubtful=False)
    doubt, good = (
        Decision("d.png", "", "good", 1.5, 0.2, 2.0, is_doubtful=True),
        replace(reject, verdict="good", score=1.0),
    )
    page = write_index(((one.image_path, to_row(one)) for one in (good, doubt, reject)), tmp_path, "i.json", "m")
    text = page.read_text()
    assert "<h1>3 images: 1 anomalous, 1 doubtful, 1 good</h1>" in text
    places = [text.index(f'<figure class="{kind}">') for kind in ("anomalous", "doubtful", "good")]
    assert places == sorted(places)
    assert "<b>DOUBTFUL</b> d.png" in text
    assert "A doubtful image passes" in text


def test_a_watch_says_and_counts_it(run: Callable[..., Result], folder: Path) -> None:
    done = watch(run, folder, "--doubt-rate", "0.99")
    with (folder.parent / "w.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    count = sum(float(row["p_value"]) <= 0.99 for row in rows)
    assert [row["is_doubtful"] for row in rows] == [str(float(row["p_value"]) <= 0.99).lower() for row in rows]
    assert [row["verdict"] for row in rows] == ["good", "good"]
    assert done.stdout.count("DOUBTFUL") == count
    assert f"{2 - count} good, {count} doubtful, 0 anomalous, 0 unreadable" in " ".join(done.stderr.split())
    assert watch(run, folder, "--doubt-rate", "0.01").exit_code == 2


def earlier_watch(folder: Path) -> None:
    """What a watch of an earlier version left: a record and an export without the column."""
    with Record.open(folder / "../w.sqlite", {WRITTEN_BY: "watch"}) as record:
        record.add(Decision("old.png", "0", "good", 1.0, 0.5, 2.0))
    with closing(sqlite3.connect(folder / "../w.sqlite")) as connection, connection:
        connection.execute("ALTER TABLE decisions DROP COLUMN is_doubtful")
        (at,) = connection.execute("SELECT decided_at FROM decisions").fetchone()
    cells = (at, "old.png", "0", 1.0, 0.5, 2.0, "good", "", "", "", "")
    (folder / "../w.csv").write_text(csv_line(EARLIER) + csv_line(cells))


def test_a_record_and_an_export_of_before_go_on_and_a_rate_asks_for_another_export(
    run: Callable[..., Result], folder: Path
) -> None:
    earlier_watch(folder)
    record, export = folder.parent / "w.sqlite", folder.parent / "w.csv"
    assert [one.is_doubtful for one in read_record(record)] == [None]
    refused = watch(run, folder, "--doubt-rate", "0.99")
    assert refused.exit_code == 2
    assert "without the column is_doubtful; move it away" in " ".join(refused.stderr.split())
    (folder / "1.png").rename(folder.parent / "1.png")
    assert watch(run, folder).exit_code == 0
    assert len(export.read_text().splitlines()) == 3
    assert export.read_text().startswith(csv_line(EARLIER))
    export.unlink()
    (folder.parent / "1.png").rename(folder / "1.png")
    assert watch(run, folder, "--doubt-rate", "0.99").exit_code == 0
    with export.open(newline="") as file:
        assert [row["is_doubtful"] == "" for row in csv.DictReader(file)] == [True, True, False]
    assert [one.is_doubtful is None for one in read_record(record)] == [True, True, False]


def test_json_lines_of_before_go_on(run: Callable[..., Result], folder: Path) -> None:
    arguments = ["watch", folder, *ALL_PASS, "--settle", "0", "--until-idle", "0", "--to", folder.parent / "w.jsonl"]
    assert run(*arguments).exit_code == 0
    before = (folder.parent / "w.jsonl").read_text()
    assert "is_doubtful" not in before
    photo(folder / "2.png", 2)
    assert run(*arguments, "--doubt-rate", "0.99").exit_code == 0
    lines = (folder.parent / "w.jsonl").read_text().splitlines()
    assert "\n".join(lines[:2]) + "\n" == before
    assert "is_doubtful" in json.loads(lines[2])


def test_rows_of_before_are_resumed(onnx_file: Path, folder: Path, tmp_path: Path) -> None:
    request = Request(onnx_file, tmp_path / "out", resume=True)
    list(inspect_images(Predictor.load(onnx_file), [folder], request).rows())
    with closing(sqlite3.connect(tmp_path / "out" / NAME)) as connection, connection:
        connection.execute("ALTER TABLE decisions DROP COLUMN is_doubtful")
        connection.execute("DELETE FROM settings WHERE name = 'doubt_rate'")
    assert len(list(inspect_images(Predictor.load(onnx_file), [folder], request).rows())) == 2
