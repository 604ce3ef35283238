"""How data sets lie on the disk: where good images, test images and masks are, and which sets must be converted."""

import os
import re
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple, final

from blemish.errors import DataError, join_names

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""What counts as an image file, by its ending in any case."""

GOOD_NAMES = (
    *("good", "ok", "normal", "pass", "passed", "io", "gut", "no_defect", "defect_free", "bon", "bons", "conforme"),
    *("conformes", "bueno", "buenos", "buenas", "buono", "buoni", "goed", "dobre"),
    *("i.o.", "i.o", "non_defective", "non-defective", "undamaged", "intact"),
    *("良品", "ok品", "合格", "정상", "годные"),
)
"""Folders of good images, in any case of letters."""

BAD_NAMES = (
    *("nok", "ng", "ko", "nio", "schlecht", "fehler", "not_ok", "notok", "bad", "anomaly", "anomalous", "abnormal"),
    *("defect", "defects", "def", "defective", "fail", "failed", "reject", "rejects", "ausschuss", "defaut", "défaut"),
    *("n.i.o.", "n.i.o", "defekt", "damaged"),
    *("defauts", "défauts", "rebut", "malo", "malos", "malas", "defectos", "difetti", "scarti", "fout", "wady"),
    *("不良", "不良品", "ng品", "不合格", "불량", "брак"),
)

PHOTOS = ("rgb", "img", "image", "images")
"""Folders of photos beside one of masks, in the folder of each type (MVTec 3D-AD, BMAD)."""
MASKS_BESIDE = ("gt", "label", "labels", "mask", "masks")
MASKS = ("ground_truth", "groundtruth", "ground truth", "ground-truth", "masks", "mask", "gt")
VALIDATION = ("validation", "val", "valid")
PRIVATE = ("test_private", "test_private_mixed")
"""Folders of test images of MVTec AD 2 whose masks its server has alone."""
_PARTS = ("train", "test", "test_public", *VALIDATION, *MASKS)

_OF_SYSTEMS = (
    *("__macosx", "@eadir", "#recycle", "@recycle", "#snapshot", "@recently-snapshot"),
    *("$recycle.bin", "system volume information", "lost+found"),
)


@final
class Layout(NamedTuple):
    """Folders of a data set with `train` or `test`; those that are not there are left out."""

    train: tuple[Path, ...]
    """Of good images to fit: `train/good`, others in `train` of such a name, and in `validation` (MVTec LOCO, AD 2)."""
    test: tuple[Path, ...]
    """One for each defect type, and one of good images."""
    masks: Path | None


def composed(name: str) -> str:
    """A name with each accent in one sign with its letter; macOS and others write two, and both look the same.

    >>> composed("u" + chr(0x308)) == chr(0xFC)
    True
    """
    return unicodedata.normalize("NFC", name)


def folded(name: str) -> str:
    """A name in any case of letters."""
    return composed(name).lower()


def seems_good(name: str) -> bool:
    """Whether a folder's name begins as that of good images, and is none of them.

    >>> seems_good("good2"), seems_good("OK - Kopie"), seems_good("ok"), seems_good("goodness")
    (True, True, False, False)
    """
    return folded(name) not in GOOD_NAMES and re.split(r"[\W\d_]", folded(name))[0] in GOOD_NAMES


def is_named_bad(name: str) -> bool:
    """Whether one of a name's words is that of folders of defective images.

    >>> is_named_bad("NG_001.png"), is_named_bad("a/not ok 3.png"), is_named_bad("non-defective_7.png")
    (True, True, False)
    """
    words = [word for word in re.split(r"[\W\d_]+", folded(name)) if word]
    is_denied = {"no", "non", "free", "without"}.intersection(words)
    pairs = {"_".join(pair) for pair in pairwise(words)}
    return not is_denied and not {*words, *pairs}.isdisjoint(BAD_NAMES)


def is_passed_over(name: str) -> bool:
    """Whether a file or folder is hidden, or is one that a system keeps thumbnails, copies or deleted files in.

    >>> is_passed_over(".git"), is_passed_over("@eaDir"), is_passed_over("good")
    (True, True, False)
    """
    return name.startswith(".") or name.lower() in _OF_SYSTEMS


def find_child(folder: Path, *names: str) -> Path | None:
    """The folder of the first of these names that is there, in any case of letters where none is in that case."""
    found = subfolders(folder)
    below = {folded(path.name): path for path in found} | {path.name: path for path in found}
    return next((below[one] for name in names for one in (name, folded(name)) if one in below), None)


def refuse_twins(root: Path) -> None:
    """Refuse two folders of a data set that have one name in another case of letters.

    Raises:
        DataError: there are such.
    """
    found: dict[str, Path] = {}
    for path in subfolders(root):
        name = folded(path.name)
        if name in _PARTS and found.setdefault(name, path) != path:
            raise DataError(
                f"{root}: {found[name].name} and {path.name}, of which one would be left out; put all into one folder"
            )


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder that are not passed over, in the order of their names.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        with os.scandir(folder) as found:  # which tells folders without a look at each file
            return sorted(Path(one.path) for one in found if not is_passed_over(one.name) and is_folder(one))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror}; make it readable or take it away") from None


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # links that lead in a circle
        return False


def find_layout(root: Path) -> Layout | None:
    """The folders of a set like MVTec AD (also LOCO and AD 2) or BTAD; None where there is neither train nor test."""
    train, test = find_child(root, "train"), find_child(root, "test", "test_public")
    if train is None and test is None:
        return None
    places = [place for place in (root, test) if place is not None]
    # By its first name: a type of defects may be called mask.
    masks = next(filter(None, (find_child(place, name) for name in MASKS for place in places)), None)
    good = [train, find_child(root, *VALIDATION)]
    return Layout(
        tuple(below for place in good if place for below in subfolders(place) if folded(below.name) in GOOD_NAMES),
        tuple(path for path in subfolders(test) if path != masks) if test else (),
        masks,
    )


def recognise(root: Path) -> str | None:
    """The layout, by its name in `blemish data convert`, of a data set that is not read as it is; None of others."""
    below = subfolders(root)
    pictures = find_child(find_child(root, "data") or root, "images")
    if pictures and find_child(pictures, *GOOD_NAMES) and find_child(pictures, *BAD_NAMES):
        return "visa"
    parts = [part for part in (find_child(root, "train"), find_child(root, "test")) if part]
    if parts and all(_has_file(part, "*_GT.*") for part in parts):
        return "ksdd2"
    labels = [find_child(part, "label") for part in parts]
    if labels and all(label and _has_file(label, "*_label.*") for label in labels):
        return "dagm"
    layout = find_layout(root)
    types = (*layout.train, *layout.test) if layout else ()
    if any(find_child(folder, *PHOTOS) and find_child(folder, "xyz", *MASKS_BESIDE) for folder in types):
        return "mvtec_3d"
    if any(_has_file(folder, "*_label.*") for folder in below if re.fullmatch(r"kos\d+", folder.name.lower())):
        return "ksdd"
    if find_real_iad_split(root) or _looks_like_real_iad(root):
        return "real_iad"
    names = {folded(path.name) for path in below}
    if "mt_free" in names and all(find_child(path, "imgs") for path in below):
        return "magnetic_tile"
    if {"nodefect_images", "defect_images"} <= names:
        return "aitex"
    if any(
        _has_file(folder, "*_temp.*") and _has_file(folder, "*_test.*") for folder in (*root.glob("group*/*"), *below)
    ):
        return "deeppcb"
    if names.intersection(GOOD_NAMES) and names.intersection(BAD_NAMES):
        return "ok_nok"
    if layout is None and find_segmentation(root):
        return "segmentation"
    if _has_bad_in_train(root):
        return "classes"
    return None


def find_segmentation(root: Path) -> tuple[Path, Path] | None:
    """The folders of photos and of their masks in a set to segment; None where photos lie beside them."""
    photos, masks = find_child(root, *PHOTOS), find_child(root, *MASKS_BESIDE, *MASKS)
    if photos and masks and (_has_picture(masks) or any(map(_has_picture, subfolders(masks)))):
        return None if _has_picture(root) else (photos, masks)
    return None


def _has_picture(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.glob("*"))


def _has_bad_in_train(root: Path) -> bool:
    """Whether `train` has folders of good and of defective images, by their names."""
    train = find_child(root, "train")
    names = [folded(path.name) for path in subfolders(train)] if train else []
    return any(name in GOOD_NAMES or seems_good(name) for name in names) and any(map(is_named_bad, names))


def find_real_iad_split(root: Path) -> Path | None:
    """The JSON file of Real-IAD for one of its objects, beside the pictures or in `realiad_jsons`; None: not there."""
    if find_child(root, "ok") is None or find_child(root, "ng") is None:
        return None
    place = root.resolve()
    folders = [place, place.parent]
    for above in (place.parent, place.parent.parent):
        for name in ("realiad_jsons", "realiad_jsons_sv"):
            folders += [above / "realiad_jsons" / name, above / name]
    return next((path for folder in folders if (path := folder / f"{place.name}.json").is_file()), None)


def _looks_like_real_iad(root: Path) -> bool:
    good = find_child(root, "ok")
    parts = subfolders(good) if good else []
    return bool(parts) and all(re.fullmatch(r"S\d{4}", part.name) for part in parts)


def annotated_part(root: Path) -> str:
    """`annotated` of the first of the folders `train`, `test` and `valid` in a folder that has annotations."""
    parts = (find_child(root, name) for name in _PARTS)
    return next(filter(None, (annotated(part) for part in parts if part)), "")


def annotated(root: Path) -> str:
    """What to do with a folder of images and of annotations, as YOLO and others have them; empty of others."""
    if found := find_segmentation(root):
        return (
            f"images in {found[0].name} and their masks in {found[1].name}; convert it first: blemish data convert "
            f"{root} -o FOLDER"
        )
    images, labels = find_child(root, "images"), find_child(root, "labels", "annotations")
    if (coco := root / "_annotations.coco.json").is_file():  # Roboflow's, among the images
        images, labels = root, coco
    if images is None or labels is None:
        return ""
    return (
        f"images in {images.name} and annotations in {labels.name}; draw their masks: blemish data convert {images} "
        f"-o FOLDER --annotations {labels}"
    )


def sets_below(root: Path) -> str:
    """What to do with a folder whose folders are data sets themselves; empty of others."""
    below = [path.name for path in subfolders(root) if find_layout(path) or recognise(path)]
    told = f"data sets in its folders ({join_names(below)}); give one, or call the parts of one train and test"
    return told if below else ""


def _has_file(folder: Path, pattern: str) -> bool:
    return next(folder.glob(pattern), None) is not None
