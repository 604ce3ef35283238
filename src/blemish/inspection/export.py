"""What a record says, as a CSV file or JSON lines: an export, which only ever grows at its end."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, final

from blemish.data.csv_cells import csv_line
from blemish.data.outputs import check_output
from blemish.errors import DataError, SettingsError, reason
from blemish.inspection.decisions import Decision
from blemish.inspection.record import ENDING, Record
from blemish.inspection.rows import as_cell

COLUMNS = {
    "time": "decided_at",
    "file": "image_path",
    "sha256": "image_sha256",
    "score": "score",
    "p_value": "p_value",
    "threshold": "threshold",
    "verdict": "verdict",
    "message": "message",
    "model_sha256": "model_sha256",
    "region_count": "region_count",
    "regions": "regions",
    "is_doubtful": "is_doubtful",
}
"""The fields of an exported decision, and what they are called in the record."""

EARLIER = [*COLUMNS][:-1]
"""The columns of earlier versions; a CSV file that was begun with them goes on with them."""


def as_csv_line(decision: Decision, columns: Iterable[str] = COLUMNS) -> str:
    """A line of CSV; regions are a JSON list in one cell."""
    return csv_line(as_cell(getattr(decision, COLUMNS[name])) for name in columns)


def as_json_line(decision: Decision) -> str:
    """A JSON object on a line; without `is_doubtful` where no rate was given for it."""
    columns = EARLIER if decision.is_doubtful is None else COLUMNS
    return json.dumps({shown: getattr(decision, COLUMNS[shown]) for shown in columns}, allow_nan=False) + "\n"


FORMS: dict[str, tuple[str, Callable[[Decision], str]]] = {
    ".csv": (csv_line(COLUMNS), as_csv_line),
    ".jsonl": ("", as_json_line),
}
"""By the ending of the file: what stands at its beginning, and a decision's line."""


def is_earlier(path: Path) -> bool:
    """Whether an export has the columns of an earlier version, and no room for `is_doubtful`."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    head = csv_line(EARLIER).encode()
    with path.open("rb") as file:
        return file.read(len(head)) == head


@final
class Export:
    """A file that says what a record says, line by line in its order.

    What is missing is appended, also where the file was cut, renamed or deleted, or ends in half a line. A file that
    says anything else is left as it is.
    """

    def __init__(self, record: Record, path: Path) -> None:
        self._record, self._path = record, path
        self._head, self._line = FORMS[path.suffix.lower()]
        if is_earlier(path):
            self._head, self._line = csv_line(EARLIER), partial(as_csv_line, columns=EARLIER)
        self._number, self._left = 0, (-1, -1)
        """The last decision in the file, and the file's number and length with it."""
        check_output(path)

    def follow(self) -> None:
        """Append what the record has and the file has not.

        Raises:
            DataError: it cannot be written now; or it holds what the record does not say.
        """
        try:
            with self._path.open("ab") as end, self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if (status.st_ino, status.st_size) == self._left:
                    file.seek(status.st_size)
                else:
                    self._number = 0
                number = self._append(file, end)
                end.flush()
                self._number, self._left = number, (status.st_ino, end.seek(0, os.SEEK_END))
        except OSError as error:
            self._left = (-1, -1)
            raise DataError(f"{self._path}: cannot be written: {reason(error)}") from None

    def _append(self, file: BinaryIO, end: BinaryIO) -> int:
        """Compare from the place that `file` is at, and write what it lacks; returns the last decision."""
        number, is_over = self._number, False
        for number, line in self._lines(is_begun=file.tell() > 0):  # noqa: B007  # the last one
            found = b"" if is_over else file.read(len(line))
            if not line.startswith(found):
                self._refuse()
            is_over = len(found) < len(line)
            if is_over:
                end.write(line[len(found) :])
        if not is_over and file.read(1):
            self._refuse()
        return number

    def _lines(self, is_begun: bool) -> Iterator[tuple[int, bytes]]:
        if not is_begun:
            yield 0, self._head.encode()
        for decision in self._record.since(self._number):
            yield decision.id, self._line(decision).encode(errors="backslashreplace")

    def _refuse(self) -> None:
        raise DataError(
            f"{self._path}: does not say what the record {self._record.path} says: an export of another record or "
            "version, or changed by hand; move it away, or give another file"
        )


def files_to_write(to: Path) -> tuple[Path, Path | None]:
    """The record and its export, if there is to be one, from what the user gave to `--to`.

    Raises:
        SettingsError: it ends with none of .sqlite, .csv and .jsonl.
        DataError: there is such an export already, but no record that it could be of.

    >>> [str(path) for path in files_to_write(Path("a.csv"))]
    ['a.sqlite', 'a.csv']
    """
    if to.suffix.lower() == ENDING:
        return to, None
    if to.suffix.lower() not in FORMS:
        raise SettingsError(f"--to {to}: ends with '{to.suffix}'; expected {ENDING}, {' or '.join(FORMS)}")
    record = to.with_suffix(ENDING)
    if to.is_file() and to.stat().st_size and not record.exists():
        raise DataError(
            f"{to}: there is no record {record} that it could be an export of (an earlier version kept none); move it "
            "away, or give another file to --to"
        )
    return record, to
