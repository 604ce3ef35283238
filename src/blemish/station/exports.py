"""Decisions as CSV, JSON, JSON lines or Parquet, in bounded memory; each export is an entry of the audit trail."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, final

from sqlalchemy import func, select

from blemish.data.csv_cells import csv_line
from blemish.data.files import atomic_write
from blemish.data.outputs import check_output
from blemish.data.progress import Progress, Report, quiet
from blemish.errors import DataError, SettingsError
from blemish.station.database import Database
from blemish.station.notes import note_out, notes_of
from blemish.station.reviews import HIDDEN, Row, hidden_of
from blemish.station.tables import Decision, Image, Note, Product, Verdict
from blemish.station.trail import append

PAGE = 1000
"""Decisions in memory at a time."""

Cells = dict[str, Any]

COLUMNS: dict[str, type] = {
    "id": int,
    "decided_at": str,
    "product": str,
    "image_id": int,
    "image": str,
    "image_sha256": str,
    "model_sha256": str,
    "score": float,
    "p_value": float,
    "threshold": float,
    "verdict": str,
    "is_doubtful": bool,
    "message": str,
    "latency_ms": float,
    "regions": str,
    "person": str,
    "judgement": str,
    "defect_type": str,
    "lane": str,
    "notes": str,
}
"""Name and type of each column; the last ones tell of the last verdict of a person, if any, and of all notes."""

LISTS = ("regions", "notes")
"""Columns that are JSON where cells are text."""

UNSEEN: Cells = {
    "score": None,
    "p_value": None,
    "verdict": HIDDEN,
    "is_doubtful": None,
    "message": "",
    "regions": "[]",
}
"""What stands for an image of the audit lane until a person has judged it: no export tells our verdict before."""


@final
class Wanted(NamedTuple):
    """Which decisions: of one product, or of all; from a time on, and before a time, ISO 8601 in UTC."""

    product_id: int | None = None
    start: str | None = None
    end: str | None = None


def export(database: Database, actor: str, kind: str, wanted: Wanted, report: Report = quiet) -> Iterator[bytes]:
    """The pieces of an export; the entry of the audit trail is on the disk when this returns.

    Raises:
        SettingsError: no such kind, a time that ends before it begins, or pyarrow is missing.
    """
    write = WRITERS.get(kind)
    if write is None:
        raise SettingsError(f"export '{kind[:40]}': expected one of {', '.join(WRITERS)}")
    if kind == "parquet" and find_spec("pyarrow") is None:
        raise SettingsError("Parquet needs pyarrow, which is not installed; install it: pip install 'blemish[parquet]'")
    if wanted.start is not None and wanted.end is not None and wanted.start > wanted.end:
        raise SettingsError(f"start: {wanted.start} is after end {wanted.end}")
    with database.write() as session:
        append(session, actor, "export", "decisions", {"kind": kind, **wanted._asdict()})
    return write(_pages(database, wanted, report))


def export_to(database: Database, actor: str, path: Path, wanted: Wanted, report: Report = quiet) -> None:
    """Write an export into a new file, whole or not at all; its ending says which kind.

    Raises:
        SettingsError: as `export`.
        DataError: there is such a file, or it cannot be written.
    """
    if path.exists():
        raise DataError(f"{path}: is there already, and is not replaced; give another name")
    check_output(path)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for piece in export(database, actor, path.suffix.removeprefix(".").lower(), wanted, report):
            file.write(piece)


def _pages(database: Database, wanted: Wanted, report: Report) -> Iterator[list[Cells]]:
    """Decisions in the order they were made; no transaction is open between two pages."""
    query = select(Decision, Product.name, Image).join(Product, Product.id == Decision.product_id)
    query = query.join(Image, Image.id == Decision.image_id)
    if wanted.product_id is not None:
        query = query.where(Decision.product_id == wanted.product_id)
    if wanted.start is not None:
        query = query.where(Decision.decided_at >= wanted.start)
    if wanted.end is not None:
        query = query.where(Decision.decided_at < wanted.end)
    with database.read() as session:
        total, done = session.scalar(select(func.count()).select_from(query.subquery())) or 0, 0
    last = -(2**63)
    while True:
        with database.read() as session:
            found = session.execute(query.where(Decision.id > last).order_by(Decision.id).limit(PAGE)).all()
            of_these = Verdict.image_id.in_([decision.image_id for decision, _, _ in found])
            verdicts = {
                one.image_id: one for one in session.scalars(select(Verdict).where(of_these).order_by(Verdict.id))
            }
            hidden = hidden_of(session, [Row(image, decision) for decision, _, image in found])
            notes = notes_of(session, [decision.image_id for decision, _, _ in found])
        if not found:
            return
        rows = [
            _row(decision, product, verdicts.get(decision.image_id), notes.get(decision.image_id, []))
            for decision, product, _ in found
        ]
        yield [row | UNSEEN if row["image_id"] in hidden else row for row in rows]
        last, done = found[-1][0].id, done + len(found)
        report(Progress("decisions", done, max(done, total)))


def _row(decision: Decision, product: str, verdict: Verdict | None, notes: list[Note]) -> Cells:
    row = {name: getattr(decision, name, None) for name in COLUMNS}
    row |= {"product": product, "image": decision.image_path}
    row["notes"] = json.dumps([note_out(note) for note in notes], ensure_ascii=False)
    if verdict is not None:
        told = {name: getattr(verdict, name) for name in ("judgement", "defect_type", "lane")}
        row |= {"person": verdict.user_name, **told}
    return row


def _csv(pages: Iterable[list[Cells]]) -> Iterator[bytes]:
    yield csv_line(COLUMNS).encode()
    for page in pages:
        yield "".join(csv_line("" if value is None else value for value in row.values()) for row in page).encode()


def _json_lines(pages: Iterable[list[Cells]]) -> Iterator[bytes]:
    for page in pages:
        yield "".join(f"{_json_row(row)}\n" for row in page).encode()


def _json(pages: Iterable[list[Cells]]) -> Iterator[bytes]:
    before = "[\n"
    for page in pages:
        yield (before + ",\n".join(map(_json_row, page))).encode()
        before = ",\n"
    yield b"[]\n" if before == "[\n" else b"\n]\n"


def _json_row(row: Cells) -> str:
    return json.dumps({**row, **{name: json.loads(row[name]) for name in LISTS}}, allow_nan=False)


@final
class _Written(io.RawIOBase):
    """A file that keeps what was written since it was taken last."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, content: Any) -> int:
        """Keep it."""
        self._pieces.append(bytes(content))
        self._size += len(self._pieces[-1])
        return len(self._pieces[-1])

    def tell(self) -> int:
        """How much was written in all."""
        return self._size

    def take(self) -> bytes:
        """What was written since the last time."""
        content, self._pieces = b"".join(self._pieces), []
        return content


def _parquet(pages: Iterable[list[Cells]]) -> Iterator[bytes]:
    import pyarrow
    from pyarrow import parquet

    kinds = {int: pyarrow.int64(), float: pyarrow.float64(), str: pyarrow.string(), bool: pyarrow.bool_()}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    file = _Written()
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for page in pages:
            writer.write_table(pyarrow.Table.from_pylist(page, schema=schema))
            yield file.take()
    yield file.take()


WRITERS: dict[str, Callable[[Iterable[list[Cells]]], Iterator[bytes]]] = {
    "csv": _csv,
    "json": _json,
    "jsonl": _json_lines,
    "parquet": _parquet,
}
"""What an export may be."""

MEDIA_TYPES = {
    "csv": "text/csv; charset=utf-8",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
