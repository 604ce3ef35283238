"""Reading files that are regular and not too large: never a device or a pipe, which may have no end."""

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO, TypeGuard

from blemish.errors import BlemishError, SettingsError

MAX_TEXT_BYTES = 10_000_000
"""Of a file of settings or of groups."""


def is_path(given: object) -> "TypeGuard[str | os.PathLike[str]]":
    """Whether it is a path: text, or what says of itself that it is one in text."""
    return isinstance(given, str) or (isinstance(given, os.PathLike) and isinstance(os.fspath(given), str))


def as_path(given: object, name: str) -> Path:
    """The path that is given, as text or as a path; `name` is what the argument is called.

    Raises:
        SettingsError: it is neither.

    >>> as_path(None, "path")
    Traceback (most recent call last):
    blemish.errors.SettingsError: path: found None; give a path, as text or as a pathlib.Path
    """
    if is_path(given):
        return Path(given)
    raise SettingsError(f"{name}: found {given!r:.60}; give a path, as text or as a pathlib.Path")


def open_regular(path: Path) -> BinaryIO:
    """A file opened to read its bytes. Never waits, as opening a pipe would.

    Raises:
        OSError: it cannot be opened, or is a device, a pipe or a folder.
    """
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")  # noqa: PTH123, SIM115
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return file
    file.close()
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file")
    raise OSError(errno.ENODEV, "a device or a pipe, not a file")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a file of at most so many bytes.

    Raises:
        OSError: as `open_regular`, or the file is longer.
    """
    with open_regular(path) as file:
        if (length := os.fstat(file.fileno()).st_size) > max_bytes:
            raise OSError(errno.EFBIG, f"{length >> 20} MiB, at most {max_bytes >> 20} MiB are read")
        return file.read(min(max_bytes, max(length, 1 << 16)))  # room is made for all that is asked for


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: as `open_regular`, or it cannot be read.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def read_text(path: Path, what: str, error: type[BlemishError]) -> str:
    """The text of a small file; `what` it is, for the error.

    Raises:
        error: it is missing, is a device or a pipe, which may never end, is too large, or is not UTF-8.
    """
    try:
        if not path.is_file() and path.exists():
            kind = "a folder" if path.is_dir() else "a device or a pipe"
            raise error(f"{path}: cannot read {what}: {kind}; give the name of a file")
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
    except OSError as found:
        raise error(f"{path}: cannot read {what}: {found.strerror}") from None
    if len(content) > MAX_TEXT_BYTES:
        raise error(f"{path}: cannot read {what}: larger than {MAX_TEXT_BYTES // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as found:
        raise error(f"{path}: cannot read {what}: not UTF-8 text ({found.reason} at byte {found.start})") from None
