"""The record of a watch: one line a decision, in CSV or JSON, on the disk before anything else is done about it."""

import csv
import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, final, get_args

from blemish.data.csv_cells import csv_line, unescape_cell
from blemish.data.files import atomic_append, check_writable, exclusive_lock, reason
from blemish.errors import DataError, SettingsError
from blemish.inspection.rows import RegionRow, Verdict, as_cell

Entry = Verdict | Literal["model"]
"""A verdict; or `model`, where the line says that the model file was replaced, and no image was decided."""


@final
@dataclass(frozen=True)
class Decision:
    """What was decided about one image, or why nothing could be."""

    time: str
    """ISO 8601 with the zone."""
    file: str
    """Its path in the watched folder, with forward slashes."""
    sha256: str
    """Of its content; empty where not even that could be read."""
    score: float | None
    p_value: float | None
    threshold: float | None
    verdict: Entry
    message: str = ""
    """Why it is unreadable; what of the model has changed."""
    model_sha256: str = ""
    """Of the model file that decided."""
    region_count: int | None = None
    regions: list[RegionRow] | None = None
    """The first of them; see inspection/rows.py."""


FIELDS = tuple(field.name for field in fields(Decision))

EARLIER_FIELDS = FIELDS[:8]
"""Of records that were begun by an earlier version: they are gone on with as they are."""

ENTRIES = (*get_args(Verdict), "model")

_END = b"\n"


@final
class DecisionRecord:
    """The decisions so far, and a file that they stand in.

    A line is on the disk when `add` returns. Where it cannot be, nothing of it stays, and it can be added again. If the
    file was renamed or deleted since the last line, a new one is begun.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._is_csv = path, path.suffix.lower() == ".csv"
        self._handle, self._end, self._is_torn = -1, 0, False
        self._columns = FIELDS
        self._verdicts: dict[bytes, Entry] = {}
        self._names: set[str] = set()
        self._open()

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Self]:
        """The record in a file, which nobody else may write to meanwhile.

        Raises:
            SettingsError: its ending is neither .csv nor .jsonl.
            DataError: not writable, not a record, damaged, or another watch writes to it.
        """
        if path.suffix.lower() not in (".csv", ".jsonl"):
            raise SettingsError(f"--to {path}: ends with '{path.suffix}'; expected .csv or .jsonl")
        check_writable(path)
        path = path.resolve()  # under another name, through a link, it is the same record
        with exclusive_lock(path.with_name(f".{path.name}.lock"), f"watching into {path}"):
            record = cls(path)
            try:
                yield record
            finally:
                record.close()

    def verdict(self, file: str, sha256: str) -> Entry | None:
        """What was decided about a file with that content; None: nothing yet."""
        return self._verdicts.get(_key(file, sha256))

    def has_name(self, file: str) -> bool:
        """Whether anything was decided about a file of that name."""
        return file in self._names

    def add(self, decision: Decision) -> None:
        """Write a line and wait until the disk has it.

        Raises:
            DataError: it cannot be written now; nothing of it stays.
        """
        with self._named_errors():
            self._follow()
            if self._is_torn:
                os.ftruncate(self._handle, self._end)
            line = self._line(decision)
            if self._end == 0 and self._is_csv:
                line = csv_line(self._columns).encode() + line
            self._is_torn = True
            atomic_append(self._handle, line, self._path)
            os.fsync(self._handle)
            if self._end == 0:
                _sync_folder(self._path.parent)
            self._is_torn, self._end = False, os.lseek(self._handle, 0, os.SEEK_END)
        self._note(decision.file, decision.sha256, decision.verdict)

    def close(self) -> None:
        """Let go of the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _open(self) -> None:
        """Open and read the file, or begin it; what was half written when a watch was killed is cut off."""
        with self._named_errors():
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._handle, self._end, self._columns = os.open(self._path, flags, 0o666), 0, FIELDS
            try:
                with os.fdopen(os.dup(self._handle), "rb") as file:
                    number = 1
                    for line in _complete_lines(file, self._is_csv):
                        if not line.endswith(_END):
                            self._check_torn(line, number)
                            break
                        self._read(line, number)
                        self._end += len(line)
                        number += line.count(_END)
                os.ftruncate(self._handle, self._end)
            except BaseException:
                self.close()
                raise

    def _follow(self) -> None:
        """Begin a new file where this one is no longer under its name, or read it again where it was changed."""
        try:
            there = self._path.stat()
            ours = self._handle >= 0 and os.path.samestat(os.fstat(self._handle), there)
            ours = ours and (self._is_torn or there.st_size == self._end)  # nobody else has cut or changed it
        except FileNotFoundError:
            ours = False
        if not ours:
            self.close()
            self._open()
            self._is_torn = False

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._path}: cannot be written: {reason(error)}") from None

    def _read(self, line: bytes, number: int) -> None:
        if number == 1 and self._is_csv:
            known = {csv_line(columns).strip().encode(): columns for columns in (FIELDS, EARLIER_FIELDS)}
            if line.strip() not in known:
                raise DataError(f"{self._path}: not a record of `blemish watch`; give another file to --to")
            self._columns = known[line.strip()]
            return
        content = self._parsed(line)
        if content is None:
            raise DataError(
                f"{self._path}: line {number} is no decision of `blemish watch`; mend it, or give another file to --to"
            )
        self._note(content["file"], content["sha256"], content["verdict"])

    def _check_torn(self, rest: bytes, number: int) -> None:
        """Let only that be cut off which one interrupted `add` can have left: the beginning of one line."""
        header = csv_line(FIELDS).encode()
        begins = (header.startswith(rest) if self._is_csv else _beginning(rest)) if self._end == 0 else True
        if not begins:
            raise DataError(f"{self._path}: not a record of `blemish watch`; give another file to --to")
        if any(self._parsed(line + _END) is not None for line in rest.split(_END)[1:]):
            raise DataError(
                f"{self._path}: line {number} is no decision of `blemish watch`, but decisions follow it; mend it (a "
                "quotation mark too many?), or give another file to --to"
            )

    def _parsed(self, line: bytes) -> Any:
        """The decision in a line; None where there is none."""
        try:
            if self._is_csv:
                values = next(csv.reader(io.StringIO(line.decode(), newline=""), strict=True))
                content: Any = dict(zip(self._columns, map(unescape_cell, values), strict=True))
            else:
                content = json.loads(line)
            is_ours = content["verdict"] in ENTRIES and {"file", "sha256"} <= set(content)
            return content if is_ours else None
        except (ValueError, KeyError, TypeError, StopIteration, csv.Error):
            return None

    def _note(self, file: str, sha256: str, verdict: Entry) -> None:
        self._verdicts[_key(file, sha256)] = verdict
        self._names.add(file)

    def _line(self, decision: Decision) -> bytes:
        content = {name: getattr(decision, name) for name in self._columns}
        if not self._is_csv:
            return json.dumps(content, allow_nan=False).encode() + b"\n"
        return csv_line(map(as_cell, content.values())).encode()


def _key(file: str, sha256: str) -> bytes:
    """Sixteen bytes instead of the names and sums of all images there ever were."""
    return hashlib.blake2b(f"{file}\0{sha256}".encode(), digest_size=16).digest()


def _complete_lines(file: io.BufferedReader, is_csv: bool) -> Iterator[bytes]:
    """Lines with their end; in CSV one inside quotes is none. What has no end comes last, without one."""
    whole = b""
    for line in file:
        whole += line
        if line.endswith(_END) and not (is_csv and whole.count(b'"') % 2):
            yield whole
            whole = b""
    if whole:
        yield whole.rstrip(_END)


def _beginning(rest: bytes) -> bool:
    """Whether a line of JSON that was begun is one of ours."""
    ours = b'{"time": "'
    return rest.startswith(ours) or ours.startswith(rest)


def _sync_folder(folder: Path) -> None:
    """The name of a new file is on the disk, too, where the system lets one ask for that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
