"""Which mask belongs to which image, by their names."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath

from blemish.data.image_files import image_files, list_entries, name_below
from blemish.data.layouts import SUFFIXES, composed, find_child, folded, subfolders
from blemish.errors import DataError

_WORDS = (
    "mask|masks|label|labels|labelids|gt|gtfine|ground[ _-]?truth|anno|annotation|annotations|seg|segmentation|"
    "semantic|instance|binary|cp|class|colou?r|rgb|json|defect|defects|object|objects|pixels"
)
"""What tools put behind an image's name, some several of them (Segments.ai, Cellpose); LabelMe behind a folder's."""
_ENDING = re.compile(rf"[ _.-]({_WORDS})$", re.IGNORECASE)
_BEGINNING = re.compile(rf"^({_WORDS})[ _.-]", re.IGNORECASE)
_NUMBER = re.compile(r"([ _.-]\d+| ?\(\d+\))$")
_COPY = re.compile(r" ?\(\d+\)(?=\.\w+$)")
_NUMBERED_WORD = re.compile(rf"([ _.-](?:{_WORDS}))\d+$", re.IGNORECASE)
_IMAGE = re.compile(r"[._](png|jpe?g|bmp|tiff?|webp)$", re.IGNORECASE)
_ROBOFLOW = re.compile(r"\.rf\.\w{16,}$")


def pair_masks(
    images: Mapping[str, Path], masks: Mapping[str, Path], names: Mapping[Path, str], where: str
) -> dict[Path, tuple[Path, ...]]:
    """The masks of each image that has any; several of one image are its defects one by one.

    `images` and `masks` are files by their path below the folder of a defect type; `names` is what errors call
    them, and `where` that folder.

    Raises:
        DataError: a mask without its image, or that fits several; two masks of one image that are not numbered,
            or of which one may be a copy.
    """
    by_stem, by_folded = defaultdict[str, list[Path]](list), defaultdict[str, list[Path]](list)
    for name, path in images.items():
        by_stem[composed(_stem(name))].append(path)
        by_folded[folded(_stem(name))].append(path)
    pairs: dict[Path, list[Path]] = defaultdict(list)
    whole: dict[Path, Path] = {}
    for name, mask in masks.items():
        stems = list(_stems(composed(_stem(name))))
        exact = ((by_stem[stem], stem, several) for stem, several in stems if stem in by_stem)
        loose = ((by_folded[folded(stem)], stem, several) for stem, several in stems if folded(stem) in by_folded)
        fitting, stem, is_one_of_several = next(chain(exact, loose), ([], "", False))
        if len(fitting) != 1:
            found = "several images" if fitting else "no image"
            raise DataError(
                f"{names[mask]}: {found} {where}/{stem or _wanted(name)}.*; masks are paired by name: that of the "
                "image, or it and _mask, and _1, _2 or a folder of that name for several"
            )
        if not is_one_of_several and whole.setdefault(fitting[0], mask) is not mask:
            raise DataError(f"{names[mask]}: {names[fitting[0]]} has another mask already, {names[whole[fitting[0]]]}")
        other = masks.get(_COPY.sub("", name), mask)
        if is_one_of_several and other is not mask:
            raise DataError(
                f"{names[mask]}: beside {names[other]}, as a second download is named; delete the older one, or number "
                "both where they are two defects, _1 and _2"
            )
        pairs[fitting[0]].append(mask)
    return {image: tuple(some) for image, some in pairs.items()}


def stems_of(names: Iterable[str]) -> frozenset[str]:
    """What `is_mask_of` is asked with: of the paths of images below their folder."""
    return frozenset(folded(_stem(name)) for name in names)


def is_mask_of(name: str, stems: Collection[str]) -> bool:
    """Whether a mask of that name belongs to one of the images of these stems.

    >>> [is_mask_of(name, stems_of(["007.png"])) for name in ("007_mask.png", "008.png")]
    [True, False]
    """
    return any(folded(stem) in stems for stem, _ in _stems(composed(_stem(name))))


def masks_of_type(root: Path, folder: Path, paths: list[Path], mask_root: Path) -> dict[Path, tuple[Path, ...]]:
    """The masks by image of the defect type whose images, `paths`, lie in a folder; of all of them or of none.

    Raises:
        DataError: as `pair_masks`; some images have none; masks are there of a kind that is not read, or would be those
            of two types.
    """
    mask_folder = find_child(mask_root, folder.name)
    if mask_folder and mask_folder.name != folder.name:
        alike = [path for path in subfolders(folder.parent) if folded(path.name) == folded(folder.name)]
        if len(alike) > 1:
            raise DataError(
                f"{name_below(alike[0], root)} and {alike[1].name}: the masks of {name_below(mask_folder, root)} would "
                "be taken for both; put all into one folder, or give each type its masks"
            )
    masks = image_files(mask_folder, unnamed=[]) if mask_folder else []  # read_folder has them
    pairs = pair_masks(
        {name_below(path, folder): path for path in paths},
        {name_below(path, mask_folder): path for path in masks if mask_folder},
        {path: name_below(path, root) for path in (*paths, *masks)},
        name_below(folder, root),
    )
    if mask_folder and not masks and (other := _named_after(paths, mask_folder)):
        raise DataError(
            f"{name_below(other, root)}: not a mask that is read, and no other is in "
            f"{name_below(mask_folder, root)}; save masks as PNG, or draw annotations with: "
            "blemish data convert --annotations"
        )
    without = [path for path in paths if path not in pairs]
    if pairs and without:
        raise DataError(
            f"{name_below(without[0], root)}: no mask {mask_root.name}/{folder.name}/{without[0].stem}_mask.png in "
            f"{root}, while other images of '{folder.name}' have one"
        )
    return pairs


def _named_after(images: Sequence[Path], folder: Path) -> Path | None:
    """The first file in a folder and below it that is named after an image, and as none that is read."""
    paths = (Path(entry.path) for entry in list_entries(folder, deep=True))
    stems = tuple(image.stem for image in images)
    others = (path for path in sorted(paths) if path.suffix.lower() not in SUFFIXES)
    return next((path for path in others if path.name.startswith(stems)), None)


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _wanted(name: str) -> str:
    return next(reversed([stem for stem, several in _stems(_stem(name)) if not several]))


def _stems(stem: str) -> Iterator[tuple[str, bool]]:
    """Stems of the image that a mask of this stem may belong to, and whether it is then one of several masks.

    >>> [stem for stem, _ in _stems("007_mask_1")]
    ['007_mask_1', '007_mask', '007']
    >>> [stem for stem, _ in _stems("007_mask0")]
    ['007_mask0', '007_mask', '007']
    >>> [stem for stem, _ in _stems("007/001")]
    ['007/001', '007']
    >>> [stem for stem, _ in _stems("007_1_mask")]
    ['007_1_mask', '007_1', '007']
    """
    yield from ((name, False) for name in _plain(stem))
    for numbered in _plain(stem):  # the number may stand before what is added, too
        if (without := _NUMBERED_WORD.sub(r"\1", _NUMBER.sub("", numbered))) != numbered:
            yield from ((name, True) for name in _plain(without))
    if "/" in stem:
        yield from ((name, True) for name in _plain(stem.rpartition("/")[0]))


def _plain(stem: str) -> Iterable[str]:
    """A stem, and the same without what tools add to it, one thing after the other."""
    folder, slash, name = stem.rpartition("/")
    found = [name]
    while (shorter := _ENDING.sub("", found[-1])) != found[-1]:
        found.append(shorter)
    for pattern in (_ROBOFLOW, _IMAGE, _BEGINNING):
        found.append(pattern.sub("", found[-1]))
    found.insert(1, _IMAGE.sub("", name))
    return (f"{folder}{slash}{one}" for one in dict.fromkeys(found))
