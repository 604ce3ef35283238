"""The finished rows of an inspection, kept beside its pictures as they come, so that an interrupted one can go on."""

import json
from array import array
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, Self, final

from blemish.data.files import atomic_append, exclusive_lock, make_folder, reason
from blemish.errors import DataError, SettingsError
from blemish.inspection.rows import Row

NAME = "inspect.journal.jsonl"

FORMAT = 2
"""Version of the file; another one is refused."""

_KEYS = {"path", "name", "sha256", "drawn_at", "row"}

Key = tuple[str, str]
"""The path of an image, and the name of its pictures."""


class Entry(NamedTuple):
    """Where the row of an image stands, and what it is the row of."""

    sha256: str
    """Of the file's content: a file that has changed is another image, whatever its name and time."""
    drawn_at: float | None
    """The threshold of the pictures that were written of it; None: none were."""
    place: int


@final
class Journal:
    """A JSON line about how the rows were made, then one for each row, written as it comes.

    The rows of one run are those added or recalled in it, in that order; those of an earlier run wait to be recalled.
    """

    def __init__(self, file: IO[bytes], reader: IO[bytes], path: Path, entries: dict[Key, Entry]) -> None:
        self._file, self._reader, self._path = file, reader, path
        self._entries = entries
        self._places = array("q")

    @classmethod
    @contextmanager
    def open(cls, folder: Path, made_by: Mapping[str, Any], resume: bool) -> Iterator[Self]:
        """The journal of a folder, alone with it; `made_by` says what a row depends on besides its image.

        Raises:
            SettingsError: `resume`, and the rows that are there were made otherwise.
            DataError: damaged or of another format; not writable; or another process writes there.
        """
        path = make_folder(folder) / NAME
        head = {"blemish": "inspect", "format": FORMAT, **made_by}
        with exclusive_lock(folder / ".inspect.lock", f"inspecting images into {folder}"):
            try:
                file = path.open("r+b" if resume and path.exists() else "w+b")
            except OSError as error:
                raise DataError(f"{path}: cannot be written: {reason(error)}") from None
            with file, path.open("rb") as reader:  # of its own: what is appended would move the place of one that reads
                journal = cls(file, reader, path, _read(file, path, head))
                if file.tell() == 0:
                    journal._append(head)
                yield journal

    def start(self) -> None:
        """Begin with the rows of a run, or of another pass over its images."""
        del self._places[:]

    def knows(self, key: Key, sha256: str, drawn_at: float | None) -> bool:
        """Whether the row of this very image is there, with pictures for that threshold if there is one."""
        entry = self._entries.get(key)
        return entry is not None and entry.sha256 == sha256 and drawn_at in (None, entry.drawn_at)

    def recall(self, key: Key) -> Row:
        """A row of an earlier run, which becomes one of this run."""
        place = self._entries[key].place
        self._places.append(place)
        return self._row(place)

    def add(self, key: Key, sha256: str, drawn_at: float | None, row: Row) -> None:
        """Write a row, all of it or nothing.

        Raises:
            DataError: the disk is full.
        """
        path, name = key
        place = self._append({"path": path, "name": name, "sha256": sha256, "drawn_at": drawn_at, "row": row})
        self._entries[key] = Entry(sha256, drawn_at, place)
        self._places.append(place)

    def rows(self) -> Iterator[Row]:
        """The rows of this run."""
        return (self._row(place) for place in self._places)

    def named_rows(self) -> Iterator[tuple[str, Row]]:
        """The rows of this run, each with the name of its pictures."""
        for place in self._places:
            content = self._content(place)
            yield content["name"], content["row"]

    def _row(self, place: int) -> Row:
        row: Row = self._content(place)["row"]
        return row

    def _content(self, place: int) -> dict[str, Any]:
        self._reader.seek(place)
        content: dict[str, Any] = json.loads(self._reader.readline())
        return content

    def _append(self, content: Mapping[str, Any]) -> int:
        return atomic_append(self._file.fileno(), json.dumps(content, allow_nan=False).encode() + b"\n", self._path)


def _read(file: IO[bytes], path: Path, head: Mapping[str, Any]) -> dict[Key, Entry]:
    """The rows of an earlier run; what was half written when it was killed is cut off, and the file left at its end."""
    entries: dict[Key, Entry] = {}
    place = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        content = _parsed(line, path, is_head=place == 0)
        if place == 0:
            _check_head(content, head, path)
        else:
            entries[content["path"], content["name"]] = Entry(content["sha256"], content["drawn_at"], place)
        place += len(line)
    file.seek(place)
    file.truncate()
    return entries


def _parsed(line: bytes, path: Path, is_head: bool) -> dict[str, Any]:
    try:
        content = json.loads(line)
        if not isinstance(content, dict) or not ({"format"} if is_head else _KEYS) <= set(content):
            raise ValueError
    except ValueError:
        raise DataError(
            f"{path}: damaged, or not what `blemish inspect` wrote; leave out --resume to start over"
        ) from None
    return content


def _check_head(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise SettingsError(
                f"{path}: its rows were made with {name} {found.get(name)}, this run has {value}; leave out --resume "
                "to judge all images again, or name another folder"
            )
