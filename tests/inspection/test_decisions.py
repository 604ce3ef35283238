"""The record of a watch: whole lines, whatever happens to the disk or to the process."""

import csv
import json
import os
import resource
from pathlib import Path

import pytest

from blemish.data.files import atomic_append
from blemish.errors import DataError, SettingsError
from blemish.inspection.decisions import FIELDS, Decision, DecisionRecord

NAMES = ["a.png", 'quote".png', "comma, and\nnewline.png", "ü/ß.png", "carriage\rreturn.png"]


def csv_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def decision(file: str, sha256: str = "ab", verdict: str = "good") -> Decision:
    return Decision("2026-01-01T00:00:00.000+00:00", file, sha256, 0.125, 0.5, 0.25, verdict)  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_what_was_added_is_known_and_readable(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"record.{ending}"
    with DecisionRecord.open(path) as record:
        for name in NAMES:
            record.add(decision(name))
        record.add(Decision("now", "b.png", "", None, None, None, "unreadable", 'an "odd" file'))
    with DecisionRecord.open(path) as record:
        assert all(record.verdict(name, "ab") == "good" and record.has_name(name) for name in NAMES)
        assert record.verdict("b.png", "") == "unreadable"
        assert record.verdict("a.png", "cd") is None
        assert not record.has_name("c.png")
    rows = csv_rows(path) if ending == "csv" else [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["file"] for row in rows] == [*NAMES, "b.png"]
    assert tuple(rows[0]) == FIELDS
    assert float(rows[0]["score"]) == 0.125
    assert rows[-1]["score"] in ("", None)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_cut_off_anywhere_it_keeps_the_whole_lines(tmp_path: Path, ending: str) -> None:
    """As SIGKILL or a power cut leaves it: also in the middle of a name that holds a line's end and a quote."""
    path = tmp_path / f"record.{ending}"
    ends = [0]
    with DecisionRecord.open(path) as record:
        for name in NAMES:
            record.add(decision(name))
            ends.append(path.stat().st_size)
    content = path.read_bytes()
    for cut in {*range(0, len(content), 7), *ends, *(end - 1 for end in ends[1:])}:
        path.write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends[1:])
        record = DecisionRecord(path)
        assert [record.has_name(name) for name in NAMES] == [True] * whole + [False] * (len(NAMES) - whole)
        if cut % 35 == 0:
            record.add(decision("new.png"))
        record.close()
        if cut % 35 == 0:
            again = DecisionRecord(path)
            assert again.has_name("new.png")
            again.close()


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_full_disk_leaves_nothing_of_a_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"record.{ending}"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with DecisionRecord.open(path) as record:
        record.add(decision("a.png"))
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
        try:
            for _ in range(2):
                with pytest.raises(DataError, match=r"record\..*: cannot be written"):
                    record.add(decision("b.png"))
                assert path.stat().st_size == size
                assert record.verdict("b.png", "ab") is None
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        record.add(decision("b.png"))
    with DecisionRecord.open(path) as record:
        assert record.verdict("b.png", "ab") == "good"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_no_space_left_is_said() -> None:
    handle = os.open("/dev/full", os.O_RDWR)
    try:
        with pytest.raises(DataError, match=r"a\.csv: cannot be written: no space left on the disk"):
            atomic_append(handle, b"line\n", Path("a.csv"))
    finally:
        os.close(handle)


def test_a_record_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "record.csv"
    with DecisionRecord.open(path) as record:
        record.add(decision("a.png"))
        path.rename(tmp_path / "yesterday.csv")
        record.add(decision("b.png"))
        assert record.verdict("a.png", "ab") == "good"  # still known
    assert [row["file"] for row in csv_rows(path)] == ["b.png"]
    assert [row["file"] for row in csv_rows(tmp_path / "yesterday.csv")] == ["a.png"]


def test_what_is_no_record_is_left_as_it_is(tmp_path: Path) -> None:
    for name, content, message in (
        ("notes.csv", "my,notes\n1,2\n", "not a record of `blemish watch`"),
        ("b.csv", ",".join(FIELDS) + "\n1,2\n", "line 2 is no decision"),
        ("c.jsonl", '{"a": 1}\n', "line 1 is no decision"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(DataError, match=message), DecisionRecord.open(tmp_path / name):
            pass
        assert (tmp_path / name).read_text() == content
    with pytest.raises(SettingsError, match=r"ends with '\.txt'; expected \.csv or \.jsonl"):
        DecisionRecord.open(tmp_path / "d.txt").__enter__()
    with pytest.raises(DataError, match="its folder does not exist"):
        DecisionRecord.open(tmp_path / "none/d.csv").__enter__()


def test_only_one_watch_at_a_time_writes_a_record(tmp_path: Path) -> None:
    path = tmp_path / "record.csv"
    with DecisionRecord.open(path), pytest.raises(DataError, match="another process is watching into"):
        DecisionRecord.open(path).__enter__()
    with DecisionRecord.open(path):
        pass


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "notes without a line's end"),
        ("a.csv", 'name,size "5 inch\nb,c\n'),
        ("a.jsonl", '{"precious": "json"}'),
        ("a.jsonl", "notes"),
    ],
)
def test_a_file_that_is_no_record_is_left_alone(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="not a record of `blemish watch`"), DecisionRecord.open(tmp_path / name):
        pass
    assert (tmp_path / name).read_text() == content


def test_a_stray_quote_costs_no_decisions(tmp_path: Path) -> None:
    path = tmp_path / "record.csv"
    with DecisionRecord.open(path) as record:
        for place in range(9):
            record.add(decision(f"{place}.png"))
    spoiled = path.read_text().replace("3.png", '"3.png')
    path.write_text(spoiled)
    with pytest.raises(DataError, match=r"line 5 is no decision .* but decisions follow"), DecisionRecord.open(path):
        pass
    assert path.read_text() == spoiled


@pytest.mark.parametrize("left", [0, 20])
def test_a_record_that_is_cut_while_it_is_open_stays_one(tmp_path: Path, left: int) -> None:
    """As log rotation does it, copying and then truncating; or a person with an editor."""
    path = tmp_path / "record.csv"
    with DecisionRecord.open(path) as record:
        record.add(decision("a.png"))
        os.truncate(path, path.stat().st_size - 20 if left else 0)
        record.add(decision("b.png"))
        assert record.has_name("a.png")
    assert [row["file"] for row in csv_rows(path)] == ["b.png"]


def test_a_link_to_a_record_is_the_record(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to(tmp_path / "record.csv")
    with (
        DecisionRecord.open(tmp_path / "record.csv"),
        pytest.raises(DataError, match="another process"),
        DecisionRecord.open(tmp_path / "link.csv"),
    ):
        pass
