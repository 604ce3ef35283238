"""What is said of an inspected image, a row, as JSON and as CSV: written one by one, whatever their number."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from blemish.data.csv_cells import csv_line
from blemish.data.files import atomic_write, make_folder
from blemish.inference.predictor import Prediction

FIELDS = ("path", "score", "p_value", "threshold", "is_anomalous")

Row = dict[str, str | float | bool]
Format = Literal["table", "json", "csv"]


def to_row(prediction: Prediction) -> Row:
    """What is said of an image in a table, a JSON object or a CSV line."""
    return {
        "path": prediction.path or "",
        "score": prediction.score,
        "p_value": prediction.p_value,
        "threshold": prediction.threshold,
        "is_anomalous": prediction.is_anomalous,
    }


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
            yield before + _indented(json.dumps(row, indent=2, allow_nan=False))
            before, after = ",\n", "\n]\n"
    except (Exception, KeyboardInterrupt):
        yield after
        raise
    yield after


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """The lines of a CSV file with a header; booleans are `true` and `false`, as in JSON.

    >>> print(*as_csv([{"path": "a.png", "score": 0.5, "p_value": 0.1, "threshold": 0.4, "is_anomalous": True}]))
    path,score,p_value,threshold,is_anomalous
    a.png,0.5,0.1,0.4,true
    """
    yield csv_line(FIELDS)
    for row in rows:
        yield csv_line({**row, "is_anomalous": str(row["is_anomalous"]).lower()}[name] for name in FIELDS)


def write_rows(rows: Iterable[Row], out: Path, form: Format) -> Path:
    """`inspect.csv` or `inspect.json` under `out`; a table on the screen leaves JSON on the disk.

    Raises:
        DataError: it cannot be written there.
    """
    path = make_folder(out) / ("inspect.csv" if form == "csv" else "inspect.json")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(as_csv(rows) if form == "csv" else as_json(rows))
    return path


def _indented(text: str) -> str:
    return "  " + text.replace("\n", "\n  ")
