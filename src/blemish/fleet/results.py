"""The results of an archive: finished shards become one file, in bounded memory."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from blemish.data.csv_cells import csv_line
from blemish.data.files import atomic_write
from blemish.data.outputs import refuse_foreign
from blemish.fleet.ledger import FIELDS, result_schema
from blemish.fleet.manifest import load_pyarrow, refuse_foreign_parquet
from blemish.fleet.pieces import choose

RESULTS, TABLE, SUMMARY = "results.parquet", "results.csv", "summary.json"
NOT_FETCHED = "not fetched"
_CSV_BEGINS = csv_line(FIELDS).encode()
Tables = Callable[[], Iterable[Any]]
"""All finished shards, in order, as often as they are asked for."""
Counts = dict[str, Counter[str]]
"""How many images of each verdict, by product; and how many of the unreadable ones could not be fetched."""


def refuse_foreign_results(out: Path) -> None:
    """Refuse a folder in which a file of others would be replaced.

    Raises:
        DataError: as said.
    """
    refuse_foreign_parquet(out / RESULTS)
    refuse_foreign(out / TABLE, [_CSV_BEGINS])
    refuse_foreign(out / SUMMARY)


def write_results(tables: Tables, out: Path, with_csv: bool) -> Counts:
    """Write all rows, as Parquet, and as CSV where that is asked for or there already.

    Raises:
        DataError: a shard is damaged, or something cannot be written.
    """
    pyarrow = load_pyarrow()
    counts: Counts = {}
    with (
        atomic_write(out / RESULTS) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, result_schema(), compression="zstd") as writer,
    ):
        for table in tables():
            _count(table, counts)
            writer.write_table(table)
    if with_csv or (out / TABLE).exists():
        with atomic_write(out / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(_csv(tables()))
    return counts


def first_unreadable(out: Path) -> str:
    """Why the first image without a verdict could not be read, by the results in a folder; empty where all have one."""
    with load_pyarrow().parquet.ParquetFile(out / RESULTS) as results:
        for batch in results.iter_batches(columns=["verdict", "message"]):
            for row in batch.to_pylist():
                if row["verdict"] == "unreadable":
                    return str(row["message"])
    return ""


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """Write what is told of all results, as JSON.

    Raises:
        DataError: it cannot be written.
    """
    with atomic_write(out / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _count(table: Any, counts: Counts) -> None:
    product = table.column("product")[0].as_py()
    counts.setdefault(product, Counter()).update(table.column("verdict").to_pylist())
    counts[product][NOT_FETCHED] += sum(choose(table, None))


def _csv(tables: Iterable[Any]) -> Iterator[str]:
    yield csv_line(FIELDS)
    for table in tables:
        for row in table.to_pylist():
            yield csv_line(row.values())
