"""Moving an image that was judged out of a folder which a camera writes into: that image, and never another.

A file is first taken away under a hidden name, and put back where it turns out to be another one than was judged. What
a killed process left hidden is put back at the next start.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

from blemish.data.files import atomic_move, fit_name, make_folder
from blemish.errors import DataError, reason
from blemish.inspection.arrivals import Stamp, stamp_of

TAKEN = ".moving"
"""Ends the hidden name of a file that is being moved."""


def move_away(path: Path, stamp: Stamp, content: bytes, target: Path) -> None:
    """Move a file whose stamp and content were these when it was judged; where it has changed, it stays.

    Raises:
        DataError: the folder is not writable, or the disk is full; it is then where it was.
    """
    make_folder(target.parent)
    if file_stamp(path) != stamp:
        return
    taken = path.with_name(f".{fit_name(path.name, room=len(TAKEN) + 1)}{TAKEN}")
    try:
        path.replace(taken)
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{path}: cannot be moved: {reason(error)}") from None
    found = file_stamp(taken)
    if found is None or found._replace(status_changed_ns=stamp.status_changed_ns) != stamp:
        restore_file(taken, path)  # another image, come in the last moment under this name
        return
    try:
        atomic_move(taken, target, content)
    except BaseException:
        restore_file(taken, path)
        raise


def restore_left(folder: Path) -> None:
    """Put back what a killed process left hidden in a folder or below it."""
    for left in folder.rglob(f".*{TAKEN}"):
        restore_file(left, left.with_name(left.name.removeprefix(".").removesuffix(TAKEN)))


def restore_file(taken: Path, path: Path) -> None:
    """Give a file that was taken away its name again, or one beside it where another image has that name now."""
    with suppress(OSError):  # it is not there any more, or still at the hidden name, for the next start
        if path.exists():
            path = destination_for(path, hashlib.sha256(taken.read_bytes()).hexdigest())
        taken.replace(path)


def destination_for(target: Path, sha256: str) -> Path:
    """Where to move an image: under its own name, unless another image has taken it.

    >>> import tempfile
    >>> destination_for(Path(tempfile.mkdtemp()) / "a.png", "0" * 64).name
    'a.png'
    """
    try:
        taken = hashlib.sha256(target.read_bytes()).hexdigest() != sha256
    except OSError:
        taken = target.exists()
    return target.with_name(fit_name(f"{target.stem}-{sha256[:12]}{target.suffix}")) if taken else target


def file_stamp(path: Path) -> Stamp | None:
    """The stamp of a file; None where it is gone."""
    try:
        return stamp_of(path.stat())
    except OSError:
        return None
