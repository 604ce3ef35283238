"""The results of an archive: finished shards become one file, in bounded memory; with `--fdr` judged as one batch."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from blemish.data.csv_cells import csv_line
from blemish.data.files import atomic_write, refuse_foreign
from blemish.fleet.ledger import FIELDS, result_schema
from blemish.fleet.manifest import load_pyarrow, refuse_foreign_parquet
from blemish.fleet.models import FleetModel
from blemish.inference.calibration import BatchPart, batch_thresholds

RESULTS, TABLE, SUMMARY = "results.parquet", "results.csv", "summary.json"
_CSV_BEGINS = csv_line(FIELDS).encode()
Tables = Callable[[], Iterable[Any]]
"""All finished shards, in order, as often as they are asked for."""
Counts = dict[str, Counter[str]]
"""How many images of each verdict, by product."""


def refuse_foreign_results(out: Path) -> None:
    """Refuse a folder in which a file of others would be replaced.

    Raises:
        DataError: as said.
    """
    refuse_foreign_parquet(out / RESULTS)
    refuse_foreign(out / TABLE, [_CSV_BEGINS])
    refuse_foreign(out / SUMMARY)


def write_results(tables: Tables, out: Path, thresholds: Mapping[str, float] | None, with_csv: bool) -> Counts:
    """Write all rows, as Parquet and perhaps as CSV; with thresholds by product, what they make of the scores.

    Raises:
        DataError: a shard is damaged, or something cannot be written.
    """
    pyarrow = load_pyarrow()
    counts: Counts = {}
    with (
        atomic_write(out / RESULTS) as temporary,
        pyarrow.parquet.ParquetWriter(temporary, result_schema(), compression="zstd") as writer,
    ):
        for table in _rejudged(tables(), thresholds):
            _count(table, counts)
            writer.write_table(table)
    if with_csv:
        with atomic_write(out / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            file.writelines(_csv(_rejudged(tables(), thresholds)))
    return counts


def write_summary(out: Path, summary: Mapping[str, Any]) -> None:
    """Write what is told of all results, as JSON.

    Raises:
        DataError: it cannot be written.
    """
    with atomic_write(out / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def batch_of(tables: Iterable[Any], models: Mapping[str, FleetModel], rate: float) -> dict[str, float]:
    """The threshold of each product where the archive is one batch: exact, from counts of the few p-values there are.

    Raises:
        CalibrationError: too few calibration images for that rate.
    """
    p_values = {product: Counter[float]() for product in models}
    highest = dict.fromkeys(models, 0.0)
    for table in tables:
        product = table.column("product")[0].as_py()
        read = table.filter(table.column("score").is_valid())
        values, counts = np.unique(read.column("p_value").to_numpy(), return_counts=True)
        p_values[product].update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        highest[product] = max([highest[product], *read.column("score").to_pylist()])
    parts = [
        BatchPart(model.header.calibration_scores, model.header.calibration, p_values[product], highest[product])
        for product, model in models.items()
    ]
    return dict(zip(models, batch_thresholds(parts, rate), strict=True))


def _rejudged(tables: Iterable[Any], thresholds: Mapping[str, float] | None) -> Iterator[Any]:
    """With other thresholds: their verdicts, and no regions, for the maps are not at hand."""
    schema = result_schema()
    for table in tables:
        if thresholds is None:
            yield table
            continue
        threshold = thresholds[table.column("product")[0].as_py()]
        scores = table.column("score").to_pylist()
        none = [None] * len(scores)
        new = {
            "verdict": ["unreadable" if s is None else "anomalous" if s > threshold else "good" for s in scores],
            "threshold": [None if s is None else threshold for s in scores],
            "region_count": none,
            "regions": none,
        }
        for name, values in new.items():
            column = schema.field(name)
            table = table.set_column(schema.get_field_index(name), column, load_pyarrow().array(values, column.type))
        yield table


def _count(table: Any, counts: Counts) -> None:
    product = table.column("product")[0].as_py()
    counts.setdefault(product, Counter()).update(table.column("verdict").to_pylist())


def _csv(tables: Iterable[Any]) -> Iterator[str]:
    yield csv_line(FIELDS)
    for table in tables:
        for row in table.to_pylist():
            yield csv_line(row.values())
