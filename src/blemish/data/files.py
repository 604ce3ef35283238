"""Atomic writing, moving and appending of files, folders to write into, and locks."""

import errno
import glob
import hashlib
import itertools
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from blemish.data.layouts import GOOD_NAMES, find_child
from blemish.errors import DataError
from blemish.settings import open_regular

MAX_NAME_BYTES = 255
"""Of a file's name, on the file systems in use."""
_IS_WINDOWS = os.name == "nt"
REPLACE_S = 2.0
"""How long a change of a file's name is tried again on Windows."""
_UNLOCKED_S = 0.5
"""A file that was made so short a time ago may not have been locked by its writer yet."""

_FITTED = ("train", "validation", "val")
_TESTED = ("test", "test_public", "ground_truth", "groundtruth", "masks")

_MARKS = {
    ".html": rb'<meta name="generator" content="blemish',
    ".json": rb'"blemish": "\d|"written_by": "blemish',
    ".png": rb"Software\0blemish",
    ".safetensors": rb'"blemish": ?"evaluation"',
}
"""What tells files of ours from others by their endings; the word alone may stand in anybody's."""

PICTURES = ("overlays", "masks")
"""Folders that an inspection draws pictures into."""

_LONGEST_HEADER = 100_000_000
"""Of a safetensors file, in bytes; its own library allows no longer one."""


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
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{fit_name(path.name, room=16)}.", suffix=".part")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason(error)}") from None
    is_locked = _lock(handle)
    if not is_locked:
        os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mode = 0o666 & ~_umask()
        temporary.chmod(mode)
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
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {reason(error)}") from None


def check_model_name(path: Path, images: Iterable[str]) -> None:
    """Refuse a path where no model may be written, before a long work; nothing but a model is replaced.

    `images` are the endings of image files.

    Raises:
        DataError: as `check_writable`; the name of an image; or the file there is no model.
    """
    check_writable(path)
    refuse_image_folder(path)
    remove_left_parts(path.parent, path.name)
    if fit_name(path.name, room=32) != path.name:
        raise DataError(f"{path}: the name is too long for the files beside it that are named after it; shorten it")
    if path.suffix.lower() in images:
        raise DataError(f"{path}: the name of an image; give the model one that ends with .safetensors or .onnx")
    try:
        with open_regular(path) as file:
            head = _head(file)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{path}: cannot be replaced: {reason(error)}") from None
    if head and b"blemish" not in head:
        raise DataError(f"{path}: there is a file of that name which is no model; it would be lost, so give another")


def refuse_foreign(path: Path, begins: Sequence[bytes] = (), look_at: int = 4096) -> None:
    """Refuse to replace a file that blemish did not write.

    Ours have a mark of their kind (`_MARKS`) among their first `look_at` bytes (-1: anywhere), or begin with one of
    `begins`; an empty file is nobody's.

    Raises:
        DataError: it is another file, a folder, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            head = file.read(look_at)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{path}: cannot be replaced: {reason(error)}") from None
    if head and not re.search(_MARKS.get(path.suffix, rb"blemish"), head) and not head.startswith(tuple(begins)):
        raise DataError(f"{path}: blemish did not write that, and it would be lost; move it, or give another folder")


def in_pictures(path: Path) -> bool:
    """Whether a path has a folder of the name of one that an inspection draws pictures into.

    >>> in_pictures(Path("out/masks/a.png")), in_pictures(Path("masks.png"))
    (True, False)
    """
    return not set(PICTURES).isdisjoint(path.parts[:-1])


def is_drawn(path: Path) -> bool:
    """Whether a file is a picture that an inspection drew, by the mark near its beginning."""
    with suppress(OSError), open_regular(path) as file:
        return re.search(_MARKS[".png"], file.read(256)) is not None
    return False


def check_report_folder(out: Path, *names: str) -> None:
    """Refuse a folder to write reports into, before a long work, where something of the user's would be lost.

    A table of the name of a JSON file, which stands before it in `names`, is blemish's where that is.

    Raises:
        DataError: a file of one of the `names` is there that blemish did not write; it is among images, or a file.
    """
    refuse_image_folder(out)
    refuse_file(out)
    for name in names:
        beside = (out / name).with_suffix(".json")
        if not (name.endswith(".csv") and beside.name in names and beside.exists()):
            refuse_foreign(out / name, look_at=-1)
        remove_left_parts(out, name)


def refuse_good_folder(path: Path) -> None:
    """Refuse to write into a folder of good training images, where the next training would take it for one.

    Raises:
        DataError: `path` is `train/good`, or lies below one.

    >>> refuse_good_folder(Path("parts/train/good/out"))
    Traceback (most recent call last):
    blemish.errors.DataError: parts/train/good/out: inside a folder of good training images; ...
    """
    named = (path.absolute(), path.resolve())  # as it is called, and where links lead
    pairs = (pair for one in named for pair in itertools.pairwise(part.lower() for part in one.parts))
    if any(part in _FITTED and kind in GOOD_NAMES for part, kind in pairs):
        raise DataError(f"{path}: inside a folder of good training images; name a folder beside the images")


def refuse_test_folder(path: Path) -> None:
    """Refuse to write pictures below the test images or masks of a data set, among which they would be taken for such.

    Raises:
        DataError: `path` is a folder with `train/good` in it; or as `refuse_image_folder`.
    """
    if (path / "train" / "good").is_dir():
        raise DataError(f"{path}: a data set, whose masks would be mixed with pictures; name a folder beside it")
    refuse_image_folder(path)


def refuse_image_folder(path: Path) -> None:
    """Refuse to write anything among the good images, the test images or the masks of a data set.

    Raises:
        DataError: `path` is or lies below `train/good`, or `test` or its masks beside `train`.
    """
    refuse_good_folder(path)
    for folder in (one for named in (path.absolute(), path.resolve()) for one in (named, *named.parents)):
        if folder.name.lower() in _TESTED and find_child(folder.parent, "train"):
            raise DataError(f"{path}: inside a data set's {folder.name}; name a folder beside the images")


def refuse_file(folder: Path) -> None:
    """Refuse a folder to write into in whose place, or in that of one above it, a file stands.

    Raises:
        DataError: a file stands there.
    """
    there = next((place for place in (folder, *folder.parents) if os.path.exists(place)), None)  # noqa: PTH110, no error
    if there is not None and not os.path.isdir(there):  # noqa: PTH112
        raise DataError(f"{there}: a file, not a folder; name a folder to write into")


def remove_left_parts(folder: Path, name: str = "", deep: bool = False) -> None:
    """Delete what `atomic_write` left of files in a folder when its process was killed.

    Of one `name`, if given; in the folders below, too, where `deep`.

    A file that is being written is locked by its writer; where there are no such locks, none is deleted. One so new
    that its writer may not have locked it yet is waited for.
    """
    pattern = f".{glob.escape(fit_name(name, room=16)) if name else '*'}.*.part"
    parts = list((folder.rglob if deep else folder.glob)(pattern))
    if any(_is_new(part) for part in parts):
        time.sleep(_UNLOCKED_S)
    for part in parts:
        with suppress(OSError), part.open("rb") as file:
            if _lock(file.fileno()):
                part.unlink()


def _is_new(path: Path) -> bool:
    with suppress(OSError):
        return abs(time.time() - path.stat().st_mtime) < _UNLOCKED_S
    return False


def _lock(handle: int) -> bool:
    """Mark an open file as being written, for as long as it is open; False where another process has, or none can."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ModuleNotFoundError, OSError):
        return False
    return True


def _head(file: BinaryIO) -> bytes:
    """The header of a safetensors file, whose order of keys is any; of another file the first bytes."""
    first = file.read(8)
    length = int.from_bytes(first, "little")
    return first + file.read(length if length <= _LONGEST_HEADER else 4096)


def make_folder(path: Path) -> Path:
    """The folder, made with its parents where it is missing.

    Raises:
        DataError: a file stands in the way, or it may not be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be made a folder: {error.strerror}") from None
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


def check_is_new(out: Path) -> None:
    """Refuse a folder that `new_folder` would refuse, before a long work.

    Raises:
        DataError: there is a file of that name or a folder with something in it; or as `refuse_image_folder`.
    """
    refuse_image_folder(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        what = "a folder with something in it" if out.is_dir() else "a file"
        raise DataError(f"{out.resolve()}: found {what}; name a new folder or an empty one")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill beside `out`, which becomes `out` when the block ends well: it is never half-written.

    Raises:
        DataError: there is a file of that name or a folder with something in it, or it cannot be written.
    """
    check_is_new(out)
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as beside:
            (filled := Path(beside) / "complete").mkdir()
            yield filled
            if out.exists():
                out.rmdir()
            filled.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error.strerror}; name another folder") from error


def reason(error: OSError) -> str:
    """Why the system refuses to write, and what to do.

    >>> reason(OSError(errno.ENOSPC, "No space left on device"))
    'no space left on the disk; free some'
    """
    if error.errno == errno.ENOENT:
        return "its folder does not exist; make it first"
    if error.errno == errno.ENOSPC:
        return "no space left on the disk; free some"
    return error.strerror or str(error)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def exclusive_lock(path: Path, what: str) -> Iterator[None]:
    """Hold the system's lock on `path`, an empty file that is made where it is missing, and taken away at the end.

    The system lets go of it when the process dies, however it dies; the file then stays for the next one.

    Raises:
        DataError: another process holds it, and `what` says what it is doing; or the file cannot be made or locked.

    >>> import tempfile
    >>> with exclusive_lock(Path(tempfile.mkdtemp()) / "rows.lock", "writing rows.csv"):
    ...     pass
    """
    check_writable(path)
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
        yield
    finally:
        _unlink_held(path, held)  # filelock takes no lock on a file that has gone
        lock.release()
        if _IS_WINDOWS:  # which refuses while it is open
            _unlink_held(path, held)


def _unlink_held(path: Path, held: os.stat_result) -> None:
    with suppress(OSError):
        if os.path.samestat(held, path.stat()):  # not one that another process holds by now
            path.unlink()
