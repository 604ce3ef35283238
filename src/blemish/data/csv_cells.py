"""Lines of CSV files that a spreadsheet shows as text and never runs as a formula."""

import csv
import io
import re
from collections.abc import Iterable

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


def csv_line(values: Iterable[object]) -> str:
    """One line, quoted where it must be.

    >>> csv_line(["a,b", 0.1, "=x"])
    '"a,b",0.1,\\'=x\\n'
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # so that either of the two is put in quotes
    writer.writerow(map(escape_cell, values))
    return text.getvalue().removesuffix("\r\n") + "\n"
