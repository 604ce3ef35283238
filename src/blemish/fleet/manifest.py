"""The manifest of an archive: which images there are, where, and of which product. CSV or Parquet."""

import csv
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple, final

from blemish.data.csv_cells import cell_sign, csv_line, refuse_more_cells, unescape_cell
from blemish.data.files import absolute_path, atomic_write
from blemish.data.image_files import image_files, photo_files
from blemish.data.layouts import find_layout, is_passed_over
from blemish.data.outputs import check_output, refuse_foreign
from blemish.data.product_names import refused_name
from blemish.errors import DataError, SettingsError

BATCH_ROWS = 8192
"""So many are in memory at once."""
MADE_BY = {b"made_by": b"blemish fleet"}
"""In the schema of every Parquet file of ours, by which it is told from others."""


@final
class ManifestRow(NamedTuple):
    """An image: a name of its own, a path or URI, and the product whose model judges it."""

    id: str
    path: str
    product: str


COLUMNS = ManifestRow._fields
_CSV_BEGINS = csv_line(COLUMNS).encode()


def find_images(folder: Path, product: str | None = None) -> Iterator[ManifestRow]:
    """Every image in a folder and below it, by names; without a product given, the sub-folder it is in is its product.

    The id is the path below the folder, with forward slashes; the path is absolute.

    Raises:
        DataError: no such folder, no images in it, or one beside the sub-folders; or they are `train` and `test`.
        SettingsError: no registry can have a product of that name.
    """
    if product is not None and (why := refused_name(product)):
        raise SettingsError(f"--product {product!r}: {why}")
    folder = absolute_path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if product is None:
        if find_layout(folder) is not None:
            raise DataError(
                f"{folder}: holds train or test images of one product; name a folder in it, and --product NAME"
            )
        if beside := image_files(folder, deep=False):
            raise DataError(f"{beside[0]}: in no sub-folder, which would name its product; give --product NAME")
        parts = sorted(
            Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not is_passed_over(entry.name)
        )
        for part in parts:
            if why := refused_name(part.name):
                raise DataError(f"{part}: a product's name, which {why}; rename the folder")
    else:
        parts = [folder]
    rows = (
        ManifestRow(path.relative_to(folder).as_posix(), str(path), product or part.name)
        for part in parts
        for path in photo_files(part)
    )
    if (first := next(rows, None)) is None:
        raise DataError(f"{folder}: no images in it or below it")
    return chain([first], rows)


def csv_lines(rows: Iterable[ManifestRow]) -> Iterator[str]:
    """A manifest as the lines of a CSV file, with a header."""
    yield csv_line(COLUMNS)
    yield from map(csv_line, rows)


def write_manifest(rows: Iterable[ManifestRow], path: Path) -> int:
    """Write a manifest, as CSV or Parquet by its suffix; how many images it has. None but a manifest is replaced.

    Raises:
        SettingsError: another suffix; or pyarrow is missing.
        DataError: it cannot be written; or as `find_images`.
    """
    count = 0

    def counted() -> Iterator[ManifestRow]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    suffix = _suffix(path)
    check_output(path)
    if suffix == ".csv":
        refuse_foreign(path, [_CSV_BEGINS])
    else:
        refuse_foreign_parquet(path)
    with atomic_write(path) as temporary:
        if suffix == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                file.writelines(csv_lines(counted()))
        else:
            pyarrow = load_pyarrow()
            schema = pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS], MADE_BY)
            with pyarrow.parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
                all_rows = counted()
                while rows_now := list(islice(all_rows, BATCH_ROWS)):
                    columns = [list(column) for column in zip(*rows_now, strict=True)]
                    writer.write_table(pyarrow.table(columns, schema=schema))
    return count


def read_manifest(path: Path) -> Iterator[ManifestRow]:
    """The rows of a manifest, in order; other columns are passed over.

    Raises:
        SettingsError: a suffix other than .csv and .parquet; or pyarrow is missing.
        DataError: it cannot be read, lacks a column, or a row lacks a value.
    """
    rows = _read_csv(path) if _suffix(path) == ".csv" else _read_parquet(path)
    for number, row in enumerate(rows, start=1):
        for name, value in zip(COLUMNS, row, strict=True):
            if not value or "\0" in value:
                raise DataError(f"{path}: image {number} has no {name}; each needs {', '.join(COLUMNS)}")
        yield ManifestRow(*row)


def _read_csv(path: Path) -> Iterator[tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            sign = cell_sign(file.readline(1 << 16))
            file.seek(0)
            lines = csv.reader(file, delimiter=sign)
            header = [name.strip() for name in next(lines, [])]
            places = _places(path, header)
            for line in filter(any, lines):  # not what spreadsheets leave below a table
                if len(line) <= max(places):
                    raise DataError(f"{path}: line {lines.line_num} has {len(line)} cells; it ends too early")
                refuse_more_cells(path, lines.line_num, len(header), line[len(header) :])
                yield tuple(unescape_cell(line[place]) for place in places)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _read_parquet(path: Path) -> Iterator[tuple[Any, ...]]:
    pyarrow = load_pyarrow()
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            _places(path, file.schema_arrow.names)
            for batch in file.iter_batches(BATCH_ROWS, columns=list(COLUMNS)):
                columns = (batch.column(name).cast(pyarrow.string()).to_pylist() for name in COLUMNS)
                yield from zip(*columns, strict=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except pyarrow.ArrowException as error:
        raise DataError(f"{path}: not a Parquet file with text in its columns ({error})") from None


def _places(path: Path, names: list[str]) -> list[int]:
    if missing := [name for name in COLUMNS if name not in names]:
        raise DataError(
            f"{path}: no column {missing[0]}; a manifest has the columns {', '.join(COLUMNS)}, and "
            "`blemish fleet manifest FOLDER` writes one"
        )
    return [names.index(name) for name in COLUMNS]


def refuse_foreign_parquet(path: Path) -> None:
    """Refuse to replace a file that is no Parquet file of ours.

    Raises:
        DataError: as said.
    """
    if not path.exists() or path.stat().st_size == 0:
        return
    pyarrow = load_pyarrow()
    try:
        found = pyarrow.parquet.read_schema(path).metadata or {}
    except (pyarrow.ArrowException, OSError):
        found = {}
    if not MADE_BY.items() <= found.items():
        raise DataError(f"{path}: blemish did not write that, and it would be lost; move it, or give another name")


def load_pyarrow() -> Any:
    """The module `pyarrow` with `pyarrow.parquet`.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise SettingsError("Parquet needs the package 'pyarrow'; pip install 'blemish[fleet]'") from None
    return pyarrow


def _suffix(path: Path) -> str:
    if (suffix := path.suffix.lower()) not in (".csv", ".parquet"):
        raise SettingsError(f"{path}: a manifest ends with .csv or .parquet")
    return suffix
