"""Which files of a folder are complete: those that have not changed for a while. No clock and no image is looked at."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, final

from blemish.data.image_files import OTHER_IMAGES, in_pictures, is_drawn
from blemish.data.layouts import SUFFIXES, is_passed_over

OTHER_KIND = "an image of a kind that is not read (PNG, JPEG, BMP, TIFF and WebP are)"
"""Why a file is left out that no camera of the line may have written."""


class Stamp(NamedTuple):
    """What changes when a file is written to or replaced."""

    size: int
    changed_ns: int
    status_changed_ns: int
    inode: int


class Ready(NamedTuple):
    """A file to be looked at; `is_last_try` after it has been stable for so long that it will not get better."""

    name: str
    stamp: Stamp
    is_last_try: bool
    since_s: float
    """When it was first seen as it is."""


@final
@dataclass
class _Waiting:
    stamp: Stamp
    since_s: float
    next_try_s: float


@final
class Arrivals:
    """Files by name, from the moment they are seen until they are done; times are what a monotonic clock says."""

    def __init__(self, settle_s: float, patience_s: float) -> None:
        self._settle_s, self._patience_s = settle_s, patience_s
        self._waiting: dict[str, _Waiting] = {}
        self._done: dict[str, Stamp] = {}

    @property
    def waiting(self) -> int:
        """Files that are not done."""
        return len(self._waiting)

    def look(self, found: Mapping[str, Stamp], now_s: float) -> list[Ready]:
        """Take in what is in the folder now; what is ready to be looked at, the one first that was changed first."""
        self._done = {name: stamp for name, stamp in self._done.items() if found.get(name) == stamp}
        self._waiting = {name: one for name, one in self._waiting.items() if found.get(name) == one.stamp}
        for name, stamp in found.items():
            if name not in self._done and name not in self._waiting:
                self._waiting[name] = _Waiting(stamp, now_s, now_s + self._settle_s)
        ready = [
            Ready(name, one.stamp, now_s - one.since_s >= self._patience_s, one.since_s)
            for name, one in self._waiting.items()
            if now_s >= one.next_try_s
        ]
        return sorted(ready, key=lambda one: (one.stamp.changed_ns, one.name))

    def done(self, name: str, stamp: Stamp) -> None:
        """Leave a file alone until it changes."""
        self._waiting.pop(name, None)
        self._done[name] = stamp

    def try_last(self, name: str) -> None:
        """Look at a file again when it has changed, or for the last time when it has long not."""
        one = self._waiting[name]
        one.next_try_s = one.since_s + self._patience_s

    def try_again(self, name: str, at_s: float) -> None:
        """Look at a file again at that time: the trouble was not its own."""
        self._waiting[name].next_try_s = at_s


def scan(folder: Path, on_left_out: Callable[[str, str], None] = lambda _name, _why: None) -> dict[str, Stamp]:
    """The image files in a folder and below it, by their path in it with forward slashes; hidden ones are left out.

    `on_left_out` is told the name of what is left out besides, and why: a folder that may not be read, a link to
    nothing or to a folder, what is named like an image but is no file, a name that is not UTF-8. Pictures that an
    inspection drew there are no images.

    Raises:
        OSError: the folder is gone or may not be read.
    """
    found = {}
    for name, entry in _walk(folder, "", on_left_out):
        try:
            name.encode()
            stamp = stamp_of(entry.stat())
            if not ("/" in name and in_pictures(Path(name)) and _is_drawn(entry.path, stamp)):
                found[name] = stamp
        except UnicodeEncodeError:
            on_left_out(ascii(name), "a file name that is not UTF-8; rename it")
        except OSError as error:
            if entry.is_symlink():
                on_left_out(name, f"a link that cannot be followed: {error.strerror}")  # else it is gone since
    return found


@lru_cache(maxsize=100_000)
def _is_drawn(path: str, _stamp: Stamp) -> bool:
    return is_drawn(Path(path))


def stamp_of(status: os.stat_result) -> Stamp:
    """The stamp of a file."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _walk(
    folder: Path, prefix: str, on_left_out: Callable[[str, str], None]
) -> "Iterator[tuple[str, os.DirEntry[str]]]":
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_passed_over(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append(entry)
            elif (why := _why_left_out(entry)) is not None:
                on_left_out(prefix + entry.name, why)
            elif _is_named_like_image(entry):
                yield prefix + entry.name, entry
    for entry in below:
        try:
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", on_left_out)
        except FileNotFoundError:
            continue  # gone since
        except OSError as error:
            on_left_out(f"{prefix}{entry.name}/", f"a folder that cannot be read: {error.strerror}")


def _is_named_like_image(entry: "os.DirEntry[str]") -> bool:
    return _suffix_of(entry) in SUFFIXES


def _suffix_of(entry: "os.DirEntry[str]") -> str:
    return os.path.splitext(entry.name)[1].lower()  # noqa: PTH122  # of all files twice a second: a Path takes longer


def _why_left_out(entry: "os.DirEntry[str]") -> str | None:
    """Why an entry that somebody may have meant to be judged is not; None where it is, or nobody can have."""
    try:
        if entry.is_symlink() and entry.is_dir():
            return "a link to a folder, which is not followed"
        is_file = entry.is_file()
    except OSError as error:  # links in a circle
        return f"a link that cannot be followed: {error.strerror}"
    if is_file and _suffix_of(entry) in OTHER_IMAGES:
        return OTHER_KIND
    if is_file or not _is_named_like_image(entry):
        return None
    if not entry.is_symlink():
        return "named like an image, but no file"
    try:
        Path(entry.path).stat()
    except OSError:
        return "a link to nothing"
    return "a link to a device or a pipe"
