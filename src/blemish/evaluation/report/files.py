"""The files of a report: what was found as JSON, the page, and where there is one the table as CSV."""

import json
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from blemish.data.files import atomic_write, folder_to_fill


def write_report(out: Path, texts: Mapping[str, str]) -> None:
    """Write files of a folder, which is made if need be, by their names; an error meanwhile leaves those of before.

    Raises:
        DataError: one cannot be written.
    """
    with folder_to_fill(out), ExitStack() as files:
        temporary = {files.enter_context(atomic_write(out / name)): text for name, text in texts.items()}
        for path, text in temporary.items():
            path.write_text(text, encoding="utf-8")


def to_json(content: object) -> str:
    """Content as the JSON files of reports have it; a number that is none is refused.

    >>> to_json({"a": 1})
    '{\\n  "a": 1\\n}\\n'
    """
    return json.dumps(content, indent=2, allow_nan=False) + "\n"
