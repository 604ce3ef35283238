"""One process at a time: a lock on a file, which the system lets go of when its holder dies, however it dies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blemish.errors import DataError


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Hold the lock on `path`, an empty file that is made where it is missing and left there.

    It stays because a lock on a file that another process may delete protects nothing.

    Raises:
        DataError: another process holds it, and `what` says what it is doing; or the file cannot be made or locked.

    >>> import tempfile
    >>> with only_one(Path(tempfile.mkdtemp()) / "rows.lock", "writing rows.csv"):
    ...     pass
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None
    try:
        try:
            _lock(handle)
        except (BlockingIOError, PermissionError):
            raise DataError(f"{path}: another process is {what}; wait for it or stop it") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be locked: {error.strerror}; use a folder on a local disk") from None
        yield
    finally:
        os.close(handle)  # which lets go of the lock


def _lock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
