"""Which files of a folder are images, told by their names, and which are passed over."""

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from blemish.data.layouts import SUFFIXES, Layout, find_layout, is_folder, is_passed_over
from blemish.errors import DataError
from blemish.settings import open_regular

_OTHER_ENDINGS = (
    "apng arw avif cr2 cr3 dcm dng exr fit fits gif hdr heic heif ico j2k jfif jp2 jpe jpf jpx jxl jxr mpo nef npy orf "
    "pbm pcx pef pfm pgm pnm ppm psd raf raw rw2 sgi srw svg tga wdp"
)
OTHER_IMAGES = frozenset(f".{ending}" for ending in _OTHER_ENDINGS.split())
"""Images, too, but of kinds, or under endings, that are not read."""


PICTURES = ("overlays", "masks")
"""Folders that an inspection draws pictures into."""
DRAWN_MARK = rb"Software\0blemish"
"""Stands near the beginning of such a picture, as a regular expression."""

NOT_UTF8 = "a file name that is not UTF-8; rename it"


def image_files(
    folder: Path, deep: bool = True, unnamed: list[Path] | None = None, followed: Collection[Path] = ()
) -> list[Path]:
    """What is named as an image in `folder` (and below it, where `deep`), in the order of names; hidden ones left out.

    Links to folders are not followed (`unread_images` has them) but those `followed`, and pictures that an inspection
    drew are left out.
    Whether a file can be read shows when it is opened. See `utf8_only` for `unnamed`.

    Raises:
        DataError: a folder that cannot be listed; as `utf8_only`.
    """
    entries = list_entries(folder, deep, followed=followed)
    named = (Path(entry.path) for entry in entries if Path(entry.name).suffix.lower() in SUFFIXES)
    return utf8_only(sorted(path for path in named if not is_picture(path, folder)), unnamed)


def utf8_only(paths: list[Path], unnamed: list[Path] | None) -> list[Path]:
    """The files that a report can name; others go to `unnamed` where it is given.

    Raises:
        DataError: one whose name is not UTF-8, and no list for it.
    """
    odd = [path for path in paths if not is_utf8(path)]
    if odd and unnamed is None:
        raise DataError(f"{str(odd[0])!r}: {NOT_UTF8}")
    if unnamed is not None:
        unnamed += odd
    return [path for path in paths if is_utf8(path)] if odd else paths


def photo_files(folder: Path, unnamed: list[Path] | None = None) -> list[Path]:
    """As `image_files`, without a data set's masks.

    Raises:
        DataError: as `image_files`.
    """
    return photos_and_masks(folder, unnamed)[0]


def photos_and_masks(folder: Path, unnamed: list[Path] | None = None) -> tuple[list[Path], list[Path]]:
    """The photos of a folder, and the images in its folder of masks where it is a data set: they are no photos.

    Links in the place of a data set's own folders, such as `train/good`, are followed.

    Raises:
        DataError: as `image_files`.
    """
    layout = find_layout(folder)
    images = image_files(folder, unnamed=unnamed, followed=_own_folders(layout))
    if layout is None or layout.masks is None:
        return images, []
    masks = {path for path in images if path.is_relative_to(layout.masks)}
    return [path for path in images if path not in masks], sorted(masks)


def is_picture(path: Path, root: Path) -> bool:
    """Whether an image below `root` is no photo, but one that an inspection drew: in a folder of those, and marked."""
    return in_pictures(path.relative_to(root)) and is_drawn(path)


def in_pictures(path: Path) -> bool:
    """Whether a path has a folder of the name of one that an inspection draws pictures into.

    >>> in_pictures(Path("out/masks/a.png")), in_pictures(Path("masks.png"))
    (True, False)
    """
    return not set(PICTURES).isdisjoint(path.parts[:-1])


def is_drawn(path: Path) -> bool:
    """Whether a file is a picture that an inspection drew, by the mark near its beginning."""
    with suppress(OSError), open_regular(path) as file:
        return re.search(DRAWN_MARK, file.read(256)) is not None
    return False


def name_below(path: Path, root: Path) -> str:
    """The path below a folder with forward slashes, the same on every machine."""
    return path.relative_to(root).as_posix()


def told_name(path: Path) -> str:
    """A path whose name is not UTF-8, as it can be printed.

    >>> told_name(Path("a" + chr(0xDCFF) + ".png"))
    'a\\\\udcff.png'
    """
    return path.as_posix().encode("utf-8", "backslashreplace").decode()


def unread_images(folder: Path) -> list[Path]:
    """What is passed over in `folder` and below it: images of kinds that are not read, and links to folders.

    Links in the place of a data set's own folders, such as `train/good`, are followed.
    """
    return sorted(
        Path(entry.path)
        for entry in list_entries(folder, deep=True, links=True, followed=_own_folders(find_layout(folder)))
        if Path(entry.name).suffix.lower() in OTHER_IMAGES or (entry.is_symlink() and is_folder(entry))
    )


def _own_folders(layout: Layout | None) -> set[Path]:
    """A data set's folders of photos and masks, and those that they are in."""
    places = () if layout is None else (*layout.train, *layout.test, *((layout.masks,) if layout.masks else ()))
    return {one for place in places for one in (place, *place.parents)}


def list_entries(
    folder: Path, deep: bool, links: bool = False, followed: Collection[Path] = ()
) -> Iterator["os.DirEntry[str]"]:
    """Everything that is not a folder and not hidden; and, where asked for, links to folders but those `followed`."""
    try:
        with os.scandir(folder) as found:
            entries = [entry for entry in found if not is_passed_over(entry.name)]
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}; make it readable or take it away") from None
    for entry in entries:
        if not is_folder(entry):
            yield entry
        elif entry.is_symlink() and Path(entry.path) not in followed:
            if links:
                yield entry
        elif deep:
            yield from list_entries(Path(entry.path), deep, links, followed)


def is_utf8(path: Path) -> bool:
    """Whether the name of a file can be written as UTF-8."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
