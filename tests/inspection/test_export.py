"""An export says what the record says, whatever happened to it meanwhile, and replaces nothing."""

import csv
import json
import os
from pathlib import Path

import pytest

from blemish.errors import DataError, SettingsError
from blemish.inspection.decisions import Decision
from blemish.inspection.export import COLUMNS, EARLIER, Export, files_to_write
from blemish.inspection.record import WRITTEN_BY, Record
from conftest import files_of_at_most

WATCH = {WRITTEN_BY: "watch"}
NAMES = ["a.png", 'quote".png', "comma, and\nnewline.png", "ü/ß.png", os.fsdecode(b"no-\xff-utf8.png"), "=1+1.png"]
SHOWN = [name.encode(errors="backslashreplace").decode() for name in NAMES]


@pytest.fixture
def record(tmp_path: Path):  # type: ignore[no-untyped-def]
    with Record.open(tmp_path / "r.sqlite", WATCH) as record:
        yield record


def add(record: Record, *names: str) -> None:
    for name in names:
        record.add(Decision(name, "ab", "good", 0.1 + 0.2, 0.5, 0.25, regions=[{"left": 3}], region_count=1))


def expected(record: Record, ending: str, folder: Path) -> bytes:
    """The same, written at once into another file."""
    path = folder / f"at-once.{ending}"
    path.unlink(missing_ok=True)
    Export(record, path).follow()
    return path.read_bytes()


def test_csv_and_json_lines_have_what_the_record_has(record: Record, tmp_path: Path) -> None:
    add(record, *NAMES)
    record.add(Decision("b.png", "", "unreadable", message='an "odd" file'))
    for ending in ("csv", "jsonl"):
        Export(record, tmp_path / f"r.{ending}").follow()
    with (tmp_path / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [row["file"].removeprefix("'") for row in rows] == [*SHOWN, "b.png"]
    assert [line["file"] for line in lines] == [*NAMES, "b.png"]
    assert (tuple(rows[0]), [*lines[0]]) == (tuple(COLUMNS), EARLIER)
    assert float(rows[0]["score"]) == lines[0]["score"] == 0.1 + 0.2
    assert json.loads(rows[0]["regions"]) == lines[0]["regions"] == [{"left": 3}]
    assert (rows[-1]["score"], lines[-1]["score"]) == ("", None)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_cut_off_anywhere_it_gets_the_rest(record: Record, tmp_path: Path, ending: str) -> None:
    """As SIGKILL or a power cut leaves it: also in the middle of a name that holds a line's end and a quote."""
    path = tmp_path / f"r.{ending}"
    add(record, *NAMES)
    whole = expected(record, ending, tmp_path)
    for cut in {*range(0, len(whole), 7), len(whole) - 1, len(whole)}:
        path.write_bytes(whole[:cut])
        Export(record, path).follow()
        assert path.read_bytes() == whole


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_it_follows_line_by_line_also_where_it_was_cut_or_moved_away(
    record: Record, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"r.{ending}"
    export = Export(record, path)
    changes = [lambda: None, lambda: os.truncate(path, 0), lambda: os.truncate(path, 50), path.unlink]
    changes.append(lambda: path.rename(tmp_path / "old"))
    for number, change in enumerate(changes):
        add(record, f"{number}.png")
        export.follow()
        assert path.read_bytes() == expected(record, ending, tmp_path)
        change()
    add(record, "last.png")
    export.follow()
    assert path.read_bytes() == expected(record, ending, tmp_path)


def test_what_the_record_does_not_say_is_left_as_it_is(record: Record, tmp_path: Path) -> None:
    add(record, "a.png", "b.png")
    whole = expected(record, "csv", tmp_path)
    path = tmp_path / "r.csv"
    for content in (b"my,notes\n1,2\n", whole + b"more\n", whole.replace(b"a.png", b"c.png"), b"\n" + whole, b"{}"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"r\.csv: does not say what the record .*r\.sqlite says"):
            Export(record, path).follow()
        assert path.read_bytes() == content


def test_a_disk_that_takes_no_more_is_said_and_the_rest_follows(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    export = Export(record, path)
    add(record, "a.png")
    export.follow()
    add(record, "b.png")
    with files_of_at_most(path.stat().st_size + 10), pytest.raises(DataError, match=r"r\.csv: cannot be written"):
        export.follow()
    export.follow()
    assert path.read_bytes() == expected(record, "csv", tmp_path)


def test_only_a_record_has_an_export(tmp_path: Path) -> None:
    assert files_to_write(tmp_path / "r.sqlite") == (tmp_path / "r.sqlite", None)
    assert files_to_write(tmp_path / "r.jsonl") == (tmp_path / "r.sqlite", tmp_path / "r.jsonl")
    with pytest.raises(SettingsError, match=r"ends with '\.txt'; expected \.sqlite, \.csv or \.jsonl"):
        files_to_write(tmp_path / "r.txt")
    (tmp_path / "r.csv").write_text(",".join(COLUMNS) + "\n")  # of an earlier version, or anything else
    with pytest.raises(DataError, match=r"r\.csv: there is no record .*r\.sqlite that it could be an export of"):
        files_to_write(tmp_path / "r.csv")
    assert not (tmp_path / "r.sqlite").exists()
    with Record.open(tmp_path / "r.sqlite", WATCH):
        assert files_to_write(tmp_path / "r.csv")
