"""Room on the disk: what comes in is refused, or waits, before there is none left; what is here can be judged."""

import errno
import shutil
import sqlite3
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from blemish.errors import DataError

RESERVE_BYTES = 128 << 20
"""Below this no image is taken in; decisions about those that wait, a few kB each, still find room."""


NO_ROOM = "images find no room on the disk; free some"
"""What is noted of a source while the disk is full: of one text, whatever the image and however much is left."""


class DiskFullError(DataError):
    """There is no room for what should be kept; nothing of it was."""


def free_bytes(folder: Path) -> int:
    """How much can be written to the disk of a folder; nothing where the folder is gone."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def is_short(folder: Path) -> bool:
    """Whether the reserve is begun."""
    return free_bytes(folder) < RESERVE_BYTES


def check_room(folder: Path, size_bytes: int) -> None:
    """Refuse what would take the reserve.

    Raises:
        DiskFullError: it would.
    """
    free = free_bytes(folder)
    if free - size_bytes < RESERVE_BYTES:
        left, reserve = free >> 20, RESERVE_BYTES >> 20
        raise DiskFullError(f"{folder}: {left} MiB are left on the disk, {reserve} are kept for decisions; free some")


def is_full(error: BaseException | None) -> bool:
    """Whether an error of the system or of a database means that a disk is full."""
    if isinstance(error, DBAPIError):
        error = error.orig
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlstate", None) == "53100"  # PostgreSQL's disk_full
