"""What is said of an inspected image, a row, in every output format: written one by one, whatever their number."""

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict, cast, final

from blemish.data.csv_cells import csv_line
from blemish.data.files import atomic_write, make_folder
from blemish.errors import printable, unread
from blemish.inference.score import score_text
from blemish.inspection.decisions import DOUBTFUL, Decision, RegionRow, Verdict


class Row(TypedDict):
    """What is said of an image. Of an unreadable one: path, verdict and message; the rest is None."""

    path: str
    verdict: Verdict
    score: float | None
    p_value: float | None
    threshold: float | None
    is_anomalous: bool | None
    region_count: int | None
    regions: list[RegionRow] | None
    """None also where the map is not at hand: in a batch (`--fdr`) without a folder for its pictures."""
    message: str
    """Why it is unreadable; which page was judged, where there are several."""
    is_doubtful: bool | None
    """It passes, but has a p-value of at most the rate of `--doubt-rate`; None: no rate was given."""


FIELDS = tuple(Row.__annotations__)


def to_row(decision: Decision) -> Row:
    """The row of a decision about an image."""
    return {
        "path": decision.image_path,
        "verdict": cast(Verdict, decision.verdict),
        "score": decision.score,
        "p_value": decision.p_value,
        "threshold": decision.threshold,
        "is_anomalous": None if decision.score is None else decision.verdict == "anomalous",
        "region_count": decision.region_count,
        "regions": decision.regions,
        "message": decision.message,
        "is_doubtful": decision.is_doubtful,
    }


def as_table(rows: Iterable[Row]) -> Iterator[str]:
    """Lines of fixed columns for a terminal, and how many of each verdict there are."""
    yield f"{'verdict':<10}  {'score':>10}  p-value  path\n"
    counts, threshold, doubtful = dict.fromkeys(("good", "anomalous", "unreadable"), 0), None, None
    for row in rows:
        counts[row["verdict"]] += 1
        if row["score"] is None or row["p_value"] is None:
            yield f"{'UNREADABLE':<10}  {'-':>10}  {'-':>7}  {printable(row['path'])}\n"
            continue
        threshold = row["threshold"]
        if row["is_doubtful"] is not None:
            doubtful = (doubtful or 0) + row["is_doubtful"]
        verdict = "ANOMALOUS" if row["is_anomalous"] else DOUBTFUL.upper() if row["is_doubtful"] else "good"
        said = printable(row["path"]) + (f"  ({row['message']})" if row["message"] else "")
        yield f"{verdict:<10}  {score_text(row['score'], 5):>10}  {row['p_value']:>7.4f}  {said}\n"
    bad, judged = counts["unreadable"], counts["good"] + counts["anomalous"]
    parts = [] if threshold is None else [f"{counts['anomalous']} of {judged} anomalous at threshold {threshold:.6g}"]
    parts += [] if doubtful is None else [f"{doubtful} doubtful"]
    if parts or bad:
        yield "; ".join(parts + ([unread(bad, judged + bad)] if bad else [])) + "\n"


def as_json(rows: Iterable[Row]) -> Iterator[str]:
    """The parts of a JSON list, which ends as one also where the rows break off.

    >>> print("".join(as_json([{"score": 0.5}, {"score": 1.0}])), end="")
    [
      {
        "score": 0.5
      },
      {
        "score": 1.0
      }
    ]
    >>> "".join(as_json([]))
    '[]\\n'
    """
    before, after = "[\n", "[]\n"
    try:
        for row in rows:
            yield before + textwrap.indent(json.dumps(row, indent=2, allow_nan=False), "  ")
            before, after = ",\n", "\n]\n"
    except (Exception, KeyboardInterrupt):
        yield after
        raise
    yield after


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of a CSV file with a header; regions are a JSON list in one cell.

    >>> print(*as_csv([to_row(Decision("a.png", "", "unreadable", message="no image"))]))
    path,verdict,score,p_value,threshold,is_anomalous,region_count,regions,message,is_doubtful
    a.png,unreadable,,,,,,,no image,
    """
    yield csv_line(FIELDS)
    for row in rows:
        yield csv_line(map(as_cell, row.values()))


def as_cell(value: object) -> object:
    """A value as a CSV cell has it: None is empty, booleans are `true` and `false`, lists are JSON.

    >>> as_cell(True), as_cell([{"left": 3}]), as_cell(0.5)
    ('true', '[{"left": 3}]', 0.5)
    """
    return json.dumps(value) if isinstance(value, bool | list) else value


@final
class OutputFormat(NamedTuple):
    """How rows are printed, and how they are written under `-o`."""

    printed: Callable[[Iterable[Row]], Iterator[str]]
    written: Callable[[Iterable[Row]], Iterator[str]]
    file: str
    begins: tuple[bytes, ...]
    """How such a file of ours begins; another one is not replaced."""


_JSON_BEGINS = (b'[\n  {\n    "path": ', b"[]\n")
_CSV_BEGINS = (b"path,verdict,score,p_value,", b"path,score,p_value,threshold,is_anomalous\n")

FORMATS = {
    "table": OutputFormat(as_table, as_json, "inspect.json", _JSON_BEGINS),
    "json": OutputFormat(as_json, as_json, "inspect.json", _JSON_BEGINS),
    "csv": OutputFormat(as_csv, as_csv, "inspect.csv", _CSV_BEGINS),
}
"""What `--format` takes. One more is a function and a line here."""


def write_rows(rows: Iterable[Row], out: Path, form: str) -> Path:
    """The rows in a file under `out`.

    Raises:
        DataError: it cannot be written there.
    """
    path = make_folder(out) / FORMATS[form].file
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(FORMATS[form].written(rows))
    return path
