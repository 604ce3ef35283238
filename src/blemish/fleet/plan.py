"""The plan of `blemish fleet train`: products, their folders, and what is set for each of them."""

import csv
import io
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from blemish.data.csv_cells import cell_sign
from blemish.data.files import absolute_path
from blemish.data.product_names import first_twice, refused_name
from blemish.errors import BlemishError, DataError, SettingsError, nearest
from blemish.settings import RunSettings
from blemish.settings.files import read_text
from blemish.training.settings import make_settings

FIELDS = ("product", "folder")
TOML = '[[products]] with product = "NAME" and folder = "FOLDER" each, and perhaps [settings] for all'


@final
class PlanRow(NamedTuple):
    """A product to train: the folder of its good images, and all settings."""

    product: str
    folder: Path
    settings: RunSettings


class _Told(NamedTuple):
    """A row as it stands in the file; `where` is what an error calls it."""

    where: str
    product: str
    folder: str
    assignments: list[str]


def read_plan(path: Path) -> list[PlanRow]:
    """The products of a plan, in its order, all of them checked.

    A CSV file has the columns `product`, `folder` and any setting, such as `detector` or `train.epochs`; an empty cell
    leaves a setting as it is. A TOML file has `[[products]]` with the same names, and `[settings]` for all of them.
    Folders are relative to the plan.

    Raises:
        DataError: the plan cannot be read, names no product or one twice; a product that no folder may be named after;
            a folder that is missing.
        SettingsError: an unknown setting or value, with its row.
    """
    told = list(_read_toml(path) if path.suffix.lower() == ".toml" else _read_csv(path))
    if not told:
        raise DataError(f"{path}: no products; a plan is a CSV file with the columns product,folder, or TOML: {TOML}")
    if twice := first_twice([row.product for row in told]):
        raise DataError(f"{path}: product '{twice}' is there twice; each has one folder and one model")
    return [_checked(path, row) for row in told]


def _checked(path: Path, row: _Told) -> PlanRow:
    if why := refused_name(row.product):
        raise DataError(f"{row.where}: product '{row.product}' {why}")
    folder = absolute_path(path.parent / row.folder)
    if not row.folder or not folder.is_dir():
        raise DataError(f"{row.where}: no such folder: {folder if row.folder else 'the cell is empty'}")
    try:
        return PlanRow(row.product, folder, make_settings(None, None, row.assignments))
    except BlemishError as error:
        raise SettingsError(f"{row.where}: {error}") from None


def _read_csv(path: Path) -> Iterator[_Told]:
    text = read_text(path, "the plan", DataError)
    try:
        sign = cell_sign(text.partition("\n")[0])
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=sign))
    except csv.Error as error:
        raise DataError(f"{path}: not CSV: {error}") from None
    header = [name.strip() for name in rows[0]] if rows else []
    _check_names(path, header)
    for number, cells in enumerate(rows[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            raise DataError(f"{path}, row {number}: {len(cells)} cells, where the header has {len(header)}")
        values = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
        product, folder = (values.pop(name) for name in FIELDS)
        where = f"{path}, row {number} ({product})"
        yield _Told(where, product, folder, [f"{name}={value}" for name, value in values.items() if value])


def _check_names(path: Path, header: Sequence[str]) -> None:
    for name in FIELDS:
        if header.count(name) != 1:
            found = "twice" if name in header else f"not among {', '.join(header) or 'none'}; {nearest(name, header)}"
            raise DataError(f"{path}: the column '{name}' is {found}")
    if twice := first_twice(header):
        raise DataError(f"{path}: the column '{twice}' is there twice")


def _read_toml(path: Path) -> Iterator[_Told]:
    text = read_text(path, "the plan", DataError)
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not TOML: {error}") from None
    for name in content:
        if name not in ("products", "settings"):
            raise DataError(f"{path}: {name}: unknown; a plan has {TOML}")
    general, products = content.get("settings", {}), content.get("products", [])
    if not isinstance(general, dict) or not (
        isinstance(products, list) and all(isinstance(row, dict) for row in products)
    ):
        raise DataError(f"{path}: a plan has {TOML}")
    for number, row in enumerate(products, start=1):
        product, folder = (row.pop(name, "") for name in FIELDS)
        where = f"{path}, product {number} ({product})"
        if not (isinstance(product, str) and isinstance(folder, str)):
            raise DataError(f"{where}: product and folder are text")
        yield _Told(where, product, folder, [*_assignments(general), *_assignments(row)])


def _assignments(values: Mapping[str, Any], before: str = "") -> Iterator[str]:
    """Nested values as `name=value`, as `--set` takes them.

    >>> list(_assignments({"detector": "padim", "data": {"size_px": [64, 64]}}))
    ['detector="padim"', 'data.size_px=[64, 64]']
    """
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _assignments(value, f"{before}{name}.")
        else:
            yield f"{before}{name}={json.dumps(value, default=str)}"
