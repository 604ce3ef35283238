"""Atomic writing, moving and appending of files, folders to write into, and locks."""

import errno
import glob
import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from blemish.errors import DataError, reason

MAX_NAME_BYTES = 255
"""Of a file's name, on the file systems in use."""
_IS_WINDOWS = os.name == "nt"
REPLACE_S = 2.0
"""How long a change of a file's name is tried again on Windows."""
_UNLOCKED_S = 0.5
"""A file that was made so short a time ago may not have been locked by its writer yet."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which becomes `path` when the block ends well and vanishes when it does not.

    Raises:
        DataError: the folder is missing or not writable, or the disk is full.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic_write(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text(), [p.name for p in target.parent.iterdir()]
    ('whole', ['a.txt'])
    """
    path = Path(path)
    check_writable(path)
    temporary = path.with_name(f".{fit_name(path.name, room=16)}.{secrets.token_hex(4)}.part")
    try:
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason(error)}") from None
    is_locked = _lock(handle)
    if not is_locked:
        os.close(handle)
    try:
        yield temporary
        replace_file(temporary, path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)
        if is_locked:
            os.close(handle)


def replace_file(source: Path, target: Path) -> None:
    """Give a file the name of another, which is gone then. On Windows, wait for programs that have the other one open.

    A virus scanner or an indexer there opens a new file for a moment, and refuses the change of name meanwhile.

    Raises:
        OSError: the system refuses it, on Windows for `REPLACE_S` seconds.
    """
    ends = time.monotonic() + (REPLACE_S if _IS_WINDOWS else 0.0)
    while True:
        try:
            source.replace(target)
        except PermissionError:
            if time.monotonic() >= ends:
                raise
            time.sleep(0.02)
        else:
            return


def absolute_path(path: Path) -> Path:
    """An absolute path without `..`, which would need a folder that another machine may not have.

    Links are followed only in front of a `..`, where one may lead elsewhere.

    >>> absolute_path(Path("/photos/../old/a.png")).as_posix(), absolute_path(Path("/photos/a.png")).as_posix()
    ('/old/a.png', '/photos/a.png')
    """
    if ".." not in path.parts:
        return path.absolute()
    return path.resolve() if path.name == ".." else absolute_path(path.parent) / path.name


def fit_name(name: str, room: int = 0) -> str:
    """A name that a folder takes with `room` more bytes; of a longer one the beginning, a hash of it and its ending.

    >>> fit_name("a.png"), len(fit_name("x" * 300 + ".png"))
    ('a.png', 255)
    """
    encoded = os.fsencode(name)
    if len(encoded) + room <= MAX_NAME_BYTES:
        return name
    suffix = Path(name).suffix
    mark = f"-{hashlib.sha256(encoded).hexdigest()[:12]}{suffix if len(suffix) < 16 else ''}"
    kept = MAX_NAME_BYTES - room - len(os.fsencode(mark))
    return encoded[:kept].decode("utf-8", "ignore") + mark


def atomic_move(source: Path, target: Path, content: bytes) -> None:
    """Move a file; at every moment it is complete at one of the two places, or at both.

    A file of that name is replaced. What goes to another disk, or is a link, is written there from `content`.

    Raises:
        DataError: the folder is not writable, or the disk is full; it is then where it was.
    """
    try:
        if not source.is_symlink():  # moved, a relative one would lead nowhere
            replace_file(source, target)
            return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise DataError(f"{source}: cannot be moved to {target}: {reason(error)}") from None
    with atomic_write(target) as temporary:
        temporary.write_bytes(content)
        with suppress(OSError):  # a disk that keeps no times
            shutil.copystat(source, temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
    try:
        source.unlink()
    except OSError as left:
        raise DataError(f"{source}: copied to {target}, but cannot be deleted: {reason(left)}") from None


def check_writable(path: Path) -> None:
    """Refuse a path that cannot be written, before a long work; leaves nothing behind.

    Raises:
        DataError: the folder is missing or not writable, or a folder has that name.
    """
    if path.is_dir():
        raise DataError(f"{path}: a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: a device or a pipe, not a file; it would be replaced, so give another name")
    try_to_write(path.parent, path)


def try_to_write(folder: Path, path: Path) -> None:
    """Refuse a path to write, as errors call it, where no file can be made in a folder; leaves nothing behind.

    Raises:
        DataError: as said.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason(error)}") from None


def remove_left_parts(folder: Path, name: str = "", deep: bool = False) -> None:
    """Delete what `atomic_write` left of files in a folder when its process was killed.

    Of one `name`, if given, and then of a folder, too, that was being filled; in the folders below, where `deep`.

    A file that is being written is locked by its writer; where there are no such locks, none is deleted. One so new
    that its writer may not have locked it yet is waited for.
    """
    pattern = f".{glob.escape(fit_name(name, room=16)) if name else '*'}.*.part"
    parts = list((folder.rglob if deep else folder.glob)(pattern))
    if any(_is_new(part) for part in parts):
        time.sleep(_UNLOCKED_S)
    for part in parts:
        with suppress(OSError), _opened(part) as handle:
            if _lock(handle):
                shutil.rmtree(part) if name and part.is_dir() else part.unlink()


def _is_new(path: Path) -> bool:
    with suppress(OSError):
        return abs(time.time() - path.stat().st_mtime) < _UNLOCKED_S
    return False


@contextmanager
def folder_beside(path: Path) -> Iterator[Path]:
    """A hidden folder beside a path, to be filled and given its name; gone at the end, or by `remove_left_parts`."""
    name = f".{fit_name(path.name, room=16)}."
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=name, suffix=".part") as beside, ExitStack() as held:
        with suppress(OSError):  # on Windows, where there are no such locks
            _lock(held.enter_context(_opened(Path(beside))))
        yield Path(beside)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_RDONLY)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int) -> bool:
    """Mark an open file as being written, for as long as it is open; False where another process has, or none can."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ModuleNotFoundError, OSError):
        return False
    return True


def make_folder(path: Path) -> Path:
    """The folder, made with its parents where it is missing.

    Raises:
        DataError: a file stands in the way, or it may not be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be made a folder: {reason(error)}") from None
    return path


@contextmanager
def folder_to_fill(path: Path) -> Iterator[Path]:
    """The folder, made where it is missing, and its parents; what is new and empty is gone again after an error.

    Raises:
        DataError: as `make_folder`.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        make_folder(path)
        yield path
    except BaseException:
        with suppress(OSError):  # there is something in it
            for folder in new:
                folder.rmdir()
        raise


@contextmanager
def exclusive_lock(path: Path, what: str) -> Iterator[bool]:
    """Hold the system's lock on `path`, an empty file that is made where it is missing, and taken away at the end.

    The system lets go of it when the process dies, however it dies; the file then stays for the next one, which is
    given True.

    Raises:
        DataError: another process holds it, and `what` says what it is doing; or the file cannot be made or locked.

    >>> import tempfile
    >>> with exclusive_lock(Path(tempfile.mkdtemp()) / "rows.lock", "writing rows.csv") as was_left:
    ...     was_left
    False
    """
    check_writable(path)
    was_left = path.exists()
    # A soft lock would outlive its process.
    lock = FileLock(path, blocking=False, thread_local=False, fallback_to_soft=False, preserve_lock_file=True)
    for is_last_try in (False, True):
        try:
            lock.acquire()
            held = path.stat()
            break
        except (Timeout, RuntimeError):  # the latter where this process has it already
            if is_last_try or path.exists():  # else it was taken away between opening and locking it
                raise DataError(f"{path}: another process is {what}; wait for it or stop it") from None
        except OSError as error:
            raise DataError(f"{path}: cannot be locked: {reason(error)}; use a folder on a local disk") from None
    try:
        yield was_left
    finally:
        _unlink_held(path, held)  # filelock takes no lock on a file that has gone
        lock.release()
        if _IS_WINDOWS:  # which refuses while it is open
            _unlink_held(path, held)


def _unlink_held(path: Path, held: os.stat_result) -> None:
    with suppress(OSError):
        if os.path.samestat(held, path.stat()):  # not one that another process holds by now
            path.unlink()
