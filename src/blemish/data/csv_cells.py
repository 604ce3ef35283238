"""CSV files: lines that a spreadsheet shows as text and never runs as a formula, and tables that are read back."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from blemish.errors import DataError
from blemish.settings import read_text

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet would take for a formula, or that was escaped for that."""


def escape_cell(value: object) -> object:
    """Text that begins as a formula does, with an apostrophe before it; all other text and all numbers as they are.

    >>> escape_cell("=1+2.png"), escape_cell(-1.5), escape_cell("a=b.png")
    ("'=1+2.png", -1.5, 'a=b.png')
    """
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def unescape_cell(text: str) -> str:
    """The text that `escape_cell` was given.

    >>> unescape_cell("'=1+2.png"), unescape_cell("'a'.png")
    ('=1+2.png', "'a'.png")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def read_table(path: Path, what: str) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """The columns of a CSV file with a header, and its rows with the lines they end at; cells without spaces around.

    Rows of empty cells, as spreadsheets leave them below a table, are none.

    Raises:
        DataError: it cannot be read, and `what` says what it is; it is not CSV; a column is there twice, or a line has
            more cells than the header.
    """
    try:
        text = read_text(path, what, DataError)
        sign = cell_sign(text.partition("\n")[0])
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=sign)
        reader.fieldnames = names = [name.strip() for name in reader.fieldnames or ()]
        if twice := next((name for name in names if name and names.count(name) > 1), ""):
            raise DataError(f"{path}: the column '{twice}' is there twice")
        rows = []
        for row in reader:
            refuse_more_cells(path, reader.line_num, len(names), row.pop(None, ()))
            cells = {name: unescape_cell((row[name] or "").strip()) for name in names}
            rows += [(reader.line_num, cells)] if any(cells.values()) else []
        return names, rows
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error})") from None


def cell_sign(header: str) -> str:
    """What stands between the cells of a table: a comma or, as spreadsheets write it in many countries, another sign.

    >>> cell_sign("image,group"), cell_sign("image;group")
    (',', ';')
    """
    return "," if "," in header else next((sign for sign in (";", "\t") if sign in header), ",")


def refuse_more_cells(path: Path, line: int, expected: int, more: Sequence[str]) -> None:
    """Refuse a line that goes on behind its last column, as text with commas does that is not in quotes.

    Raises:
        DataError: there are cells with text among `more`, those behind the `expected` ones.
    """
    if any(cell.strip() for cell in more):
        raise DataError(
            f"{path}, line {line}: {expected + len(more)} cells, where the header has {expected}; put text with commas "
            "in quotes"
        )


def csv_line(values: Iterable[object]) -> str:
    """One line, quoted where it must be.

    >>> csv_line(["a,b", 0.1, "=x"])
    '"a,b",0.1,\\'=x\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # so that either of the two is put in quotes
    writer.writerow(map(escape_cell, values))
    return text.getvalue().removesuffix("\r\n") + "\n"
