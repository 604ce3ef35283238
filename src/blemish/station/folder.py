"""The folder of a station: everything it keeps lies in it."""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from blemish.data.files import atomic_write, exclusive_lock, make_folder
from blemish.data.outputs import refuse_image_folder
from blemish.errors import DataError
from blemish.station.room import DiskFullError, is_full

MARKER = "blemish-station.json"
"""Tells a folder of ours from any other."""

FORMAT = 1


@final
@dataclass(frozen=True)
class StationFolder:
    """A folder that a station keeps its things in: `images/`, `maps/`, `models/` and, unless told otherwise, the
    database.
    """

    root: Path
    id: str
    """Drawn once; the database has it too, so that neither is opened with another station's."""

    @property
    def default_database(self) -> str:
        """The address of the database in the folder."""
        return f"sqlite:///{self.root.resolve() / 'station.sqlite3'}"

    @property
    def heartbeat(self) -> Path:
        """A file that the worker touches as long as it works."""
        return self.root / ".worker.alive"

    def image_path(self, sha256: str, suffix: str) -> Path:
        """Where the content of an image is kept."""
        return self.root / "images" / sha256[:2] / f"{sha256}{suffix}"

    def model_path(self, sha256: str) -> Path:
        """Where a model is kept."""
        return self.root / "models" / f"{sha256}.onnx"

    def map_path(self, image_id: int) -> Path:
        """Where the anomaly map of an image is kept."""
        return self.root / "maps" / f"{image_id // 1000:06}" / f"{image_id}.npz"

    @contextmanager
    def lock(self, name: str, what: str) -> Iterator[None]:
        """Hold the lock of that name, which one process at a time can.

        Raises:
            DataError: another one holds it.
        """
        with exclusive_lock(self.root / f".{name}.lock", what):
            yield


def open_folder(root: Path, *, create: bool = False) -> StationFolder:
    """The station in a folder; with `create`, a new one where the folder is missing or empty.

    Raises:
        DataError: it is no station's, of a newer version, or cannot be made.
    """
    marker = root / MARKER
    if not marker.is_file():
        if not create:
            raise DataError(f"{root}: no station; begin one with: blemish station {root}")
        _refuse_foreign(root)
        refuse_image_folder(root)
        make_folder(root)
        with atomic_write(marker) as temporary:
            content = {"what": "a blemish station", "format": FORMAT, "id": secrets.token_hex(16)}
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    try:
        content = json.loads(marker.read_text(encoding="utf-8"))
        found, identity = int(content["format"]), str(content["id"])
    except (OSError, ValueError, KeyError, TypeError):
        raise DataError(f"{marker}: damaged; restore the station from a backup") from None
    if found > FORMAT:
        raise DataError(f"{root}: a station of format {found}, this version reads format {FORMAT}; upgrade blemish")
    for name in ("images", "maps", "models"):
        make_folder(root / name)
    return StationFolder(root, identity)


def _refuse_foreign(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: a file; give the station a folder")
    try:
        is_empty = not root.exists() or not any(root.iterdir())
    except OSError as error:
        raise DataError(f"{root}: cannot be read: {error.strerror}") from None
    if not is_empty:
        raise DataError(f"{root}: a folder with other things in it and no station; give an empty one, or a new name")


def keep_content(path: Path, content: bytes) -> None:
    """Write a file that is named after its content, once, and wait until the disk has it.

    Raises:
        DiskFullError: there is no room for it.
        DataError: it cannot be written.
    """
    with suppress(OSError):
        if path.stat().st_size == len(content):
            return
    try:
        make_folder(path.parent)
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except DataError as error:
        if is_full(error.__cause__ or error.__context__):
            raise DiskFullError(str(error)) from None
        raise
    with suppress(OSError):  # where the system syncs no folders
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def sha256_of(content: bytes) -> str:
    """What a file is known by.

    >>> sha256_of(b"")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(content).hexdigest()
