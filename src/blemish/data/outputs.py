"""Where outputs may go: not among a data set's images, and in place of nothing that blemish did not write."""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from blemish.data.files import check_writable, fit_name, folder_beside, folder_to_fill, remove_left_parts, try_to_write
from blemish.data.image_files import DRAWN_MARK, image_files
from blemish.data.layouts import GOOD_NAMES, MASKS, VALIDATION, find_child, find_layout, subfolders
from blemish.errors import DataError, reason
from blemish.settings import open_regular

_FITTED = ("train", *VALIDATION)
_TESTED = ("test", "test_public", *MASKS)

_MARKS = {
    ".html": rb'<meta name="generator" content="blemish',
    ".json": rb'"blemish": "\d|"written_by": "blemish',
    ".png": DRAWN_MARK,
    ".safetensors": rb'"blemish": ?"evaluation"',
    ".sig": rb"\A[\w+/]{86}==\s*\Z",
}
"""What tells files of ours from others by their endings; the word alone may stand in anybody's."""

_LONGEST_HEADER = 100_000_000
"""Of a safetensors file, in bytes; its own library allows no longer one."""


def check_output(path: Path) -> None:
    """Refuse a file to write that cannot be written, or that would stand among a data set's images.

    Raises:
        DataError: as `check_writable` and `refuse_image_folder`.
    """
    refuse_image_folder(path)
    check_writable(path)


def check_model_name(path: Path, images: Iterable[str]) -> None:
    """Refuse a path where no model may be written, before a long work; nothing but a model is replaced.

    `images` are the endings of image files.

    Raises:
        DataError: as `check_output`; the name of an image; or the file there is no model.
    """
    check_output(path)
    remove_left_parts(path.parent, path.name)
    if fit_name(path.name, room=32) != path.name:
        raise DataError(f"{path}: the name is too long for the files beside it that are named after it; shorten it")
    if path.suffix.lower() in images:
        raise DataError(f"{path}: the name of an image; give the model one that ends with .safetensors or .onnx")
    head = _read_existing(path, _head)
    if head and b"blemish" not in head:
        raise DataError(f"{path}: there is a file of that name which is no model; it would be lost, so give another")


def refuse_foreign(path: Path, begins: Sequence[bytes] = (), look_at: int = 4096) -> None:
    """Refuse to replace a file that blemish did not write.

    Ours have a mark of their kind (`_MARKS`) among their first `look_at` bytes (-1: anywhere), or begin with one of
    `begins`; an empty file is nobody's.

    Raises:
        DataError: it is another file, a folder, or cannot be read.
    """
    head = _read_existing(path, lambda file: file.read(look_at))
    if head and not re.search(_MARKS.get(path.suffix, rb"blemish"), head) and not head.startswith(tuple(begins)):
        raise DataError(
            f"{path}: blemish did not write that, and it would be lost; move it, or give another name or folder"
        )


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
        DataError: `path` is a folder with good images to fit in it; or as `refuse_image_folder`.
    """
    if (layout := find_layout(path)) and layout.train:
        raise DataError(f"{path}: a data set, whose masks would be mixed with pictures; name a folder beside it")
    refuse_image_folder(path)


def refuse_image_folder(path: Path) -> None:
    """Refuse to write anything among the good images, the test images or the masks of a data set.

    Raises:
        DataError: `path` is or lies below `train/good`, `train` with good images in it, or `test` or its masks beside
            such a `train`, or beside any where they have images in sub-folders.
    """
    refuse_good_folder(path)
    for folder in (one for named in (path.absolute(), path.resolve()) for one in (named, *named.parents)):
        name = folder.name.lower()
        train = find_child(folder.parent, "train") if name in (*_FITTED, *_TESTED) else None
        types = subfolders(folder) if train and name in _TESTED else []
        if (train and find_child(train, *GOOD_NAMES)) or any(image_files(one, unnamed=[]) for one in types):
            raise DataError(f"{path}: inside a data set's {folder.name}; name a folder beside the images")


def refuse_file(folder: Path) -> None:
    """Refuse a folder to write into in whose place, or in that of one above it, a file stands, or that is not writable.

    Raises:
        DataError: a file stands there; it, or what it is to be made in, cannot be written.
    """
    there = next((place for place in (folder, *folder.parents) if os.path.exists(place)), None)  # noqa: PTH110, no error
    if there is None:
        return
    if not os.path.isdir(there):  # noqa: PTH112
        raise DataError(f"{there}: a file, not a folder; name a folder to write into")
    try_to_write(there, there)


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
    remove_left_parts(out.parent, out.name)
    try:
        with folder_to_fill(out.parent), folder_beside(out) as beside:
            (filled := beside / "complete").mkdir()
            yield filled
            check_is_new(out)  # another process may have filled it meanwhile
            if out.exists():
                out.rmdir()
            filled.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {reason(error)}") from error


def _read_existing(path: Path, read: Callable[[BinaryIO], bytes]) -> bytes:
    """What is read of a file that is to be replaced; nothing where there is none."""
    try:
        with open_regular(path) as file:
            return read(file)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise DataError(f"{path}: cannot be replaced: {reason(error)}") from None


def _head(file: BinaryIO) -> bytes:
    """The header of a safetensors file, whose order of keys is any; of another file the first bytes."""
    first = file.read(8)
    length = int.from_bytes(first, "little")
    return first + file.read(length if length <= _LONGEST_HEADER else 4096)
