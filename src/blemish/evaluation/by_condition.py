"""How a model does under each condition, such as light, day or camera."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from blemish.data.csv_cells import read_table
from blemish.data.layouts import composed
from blemish.errors import DataError, join_names
from blemish.evaluation.judged import JudgedImage, as_number, as_range
from blemish.evaluation.results import ConditionRow, FalseAlarms
from blemish.stats import auroc, rate_interval

Conditions = Mapping[str, Mapping[str, str]]
"""For each condition, its value for each image, by name."""

IMAGE = "image"
MAX_VALUES = 200
"""Of one condition; more are a number or a name, and no condition."""


def read_conditions(path: Path, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """For each condition, its value for each named image.

    The file is CSV with a column `image` (the path below the data set) and one column for each condition.

    Raises:
        DataError: the file cannot be read or has no such columns; an image it names twice, or that is not there; an
            image without a value; a condition with more than `MAX_VALUES` values.
    """
    header, told = read_table(path, "the conditions")
    columns = [name for name in header if name != IMAGE]
    if IMAGE not in header or not columns:
        found = ", ".join(header) or "none"
        raise DataError(f"{path}: found the columns {found}; expected image and one or more conditions")
    rows: dict[str, dict[str, str]] = {}
    there = {composed(name): name for name in names} | {name: name for name in names}
    for line, row in told:
        name = there.get(row[IMAGE]) or there.get(composed(row[IMAGE]), row[IMAGE])
        if name in rows:
            raise DataError(f"{path}, line {line}: {row[IMAGE]} is named twice")
        rows[name] = row
    _check_rows(path, rows, names)
    conditions = {column: {name: rows[name][column] for name in names} for column in columns}
    for column, values in conditions.items():
        if len(set(values.values())) > MAX_VALUES:
            raise DataError(f"{path}: {column} has {len(set(values.values()))} values; {MAX_VALUES} at most")
    return conditions


def _check_rows(path: Path, rows: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> None:
    unknown = sorted(rows.keys() - set(names))
    if unknown:
        example = f"; images are named like {min(names)}" if names else ""
        raise DataError(f"{path}: there is no test image {join_names(unknown)}{example}")
    missing = [name for name in names if name not in rows]
    if missing:
        raise DataError(f"{path}: says nothing of {join_names(missing)}; every test image needs a row")
    empty = [name for name in names if not all(rows[name].values())]
    if empty:
        raise DataError(f"{path}: an empty cell for {join_names(empty)}; every image needs a value of each condition")


def measure_conditions(
    images: Sequence[JudgedImage],
    conditions: Conditions,
    false_alarms: Callable[[Sequence[JudgedImage]], FalseAlarms],
    confidence: float,
) -> dict[str, list[ConditionRow]]:
    """A row for each value of each condition: found, false alarms as they are counted of all images, drop of AUROC."""
    overall = _auroc(images)
    found = {}
    for condition, values in conditions.items():
        parts: dict[str, list[JudgedImage]] = {value: [] for value in sorted(set(values.values()))}
        for image in images:
            parts[values[image.name]].append(image)
        found[condition] = [_row(value, part, overall, false_alarms(part), confidence) for value, part in parts.items()]
    return found


def _row(
    value: str, images: Sequence[JudgedImage], overall: float, false_alarms: FalseAlarms, confidence: float
) -> ConditionRow:
    hits = [image.is_anomalous for image in images if image.label]
    own = _auroc(images)
    return ConditionRow(
        value=value,
        false_alarms=false_alarms,
        defective=len(hits),
        found=sum(hits),
        interval=as_range(rate_interval(sum(hits), len(hits), confidence)) if hits else None,
        auroc=as_number(own),
        relative_drop=as_number((overall - own) / overall) if overall > 0 else None,
    )


def _auroc(images: Sequence[JudgedImage]) -> float:
    scores, labels = np.array([image.score for image in images]), np.array([image.label for image in images], np.bool_)
    return auroc(scores, labels)
