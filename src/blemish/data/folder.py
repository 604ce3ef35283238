"""Folders of images: MVTec-style ones, and flat ones of good images."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.decode import ImageHeader, check_pixels, read_header
from blemish.data.image_files import NOT_UTF8, image_files, name_below, told_name
from blemish.data.layouts import (
    GOOD_NAMES,
    MASKS,
    PRIVATE,
    SUFFIXES,
    Layout,
    annotated,
    annotated_part,
    find_child,
    find_layout,
    folded,
    recognise,
    refuse_twins,
    seems_good,
    sets_below,
    subfolders,
)
from blemish.data.masks import load_ignored, load_mask, refuse_marks
from blemish.data.named_errors import named_errors
from blemish.data.pairing import masks_of_type
from blemish.data.stray_masks import refuse_masks_among
from blemish.errors import DataError, join_names, plural
from blemish.settings import MaskValue, as_path, hash_file

GOOD = "good"
Part = Literal["train", "test"]
PARTS: tuple[Part, ...] = ("train", "test")

ID_DIGITS = 16
"""Of a SHA-256, enough to tell millions of files apart."""


@final
@dataclass(frozen=True)
class Sample:
    """One image file of a data set. Its header and its hash are read when first asked for, and then known.

    `name` is the path below the root with forward slashes, the same on every machine. `defect_type` is "good" or
    the name of the test folder. `mask_paths` are the ground truth of a defective image, several
    where each has one of its defects, none where it is not known; `mask_value` marks defective pixels in them,
    `ignore_value` those that are not judged.
    """

    path: Path
    name: str
    defect_type: str = GOOD
    mask_paths: tuple[Path, ...] = ()
    mask_value: MaskValue = None
    ignore_value: MaskValue = None

    @property
    def label(self) -> bool:
        """True means anomalous."""
        return self.defect_type != GOOD

    @cached_property
    def header(self) -> ImageHeader:
        """Size and mode of the image.

        Raises:
            DataError: missing, not an image, or damaged.
        """
        return read_header(self.path)

    @cached_property
    def sha256(self) -> str:
        """Of the file's content, in hexadecimal.

        Raises:
            DataError: it cannot be read.
        """
        with named_errors(self.path):
            return hash_file(self.path)

    @property
    def file_id(self) -> str:
        """See `file_id`."""
        return self.sha256[:ID_DIGITS]

    def size_px(self, max_image_px: int) -> tuple[int, int]:
        """Height and width in pixels after EXIF orientation.

        Raises:
            DataError: as `header`, or more pixels than that.
        """
        check_pixels(self.header.size_px, max_image_px, str(self.path))
        return self.header.size_px

    def load_mask(
        self, size_px: tuple[int, int], image_size_px: tuple[int, int] | None = None
    ) -> NDArray[np.bool_] | None:
        """The mask `(h, w)`, True where defective; None where it is not known.

        Raises:
            DataError: see `load_mask` in data/masks.py.
        """
        values = (self.mask_value, self.ignore_value)
        return load_mask(self.mask_paths, size_px, image_size_px, *values) if self.mask_paths else None

    def load_ignored(self, size_px: tuple[int, int]) -> NDArray[np.bool_] | None:
        """What the mask says is not to be judged `(h, w)`, nothing of it defective; None where that is nothing.

        Raises:
            DataError: see `load_mask` in data/masks.py.
        """
        if not self.mask_paths or self.ignore_value is None:
            return None
        return load_ignored(self.mask_paths, size_px, self.mask_value, self.ignore_value)


@final
@dataclass(frozen=True)
class Folder:
    """The samples of a data set, in the order of their names."""

    root: Path
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()
    good_masks: tuple[Path, ...] = ()
    """Masks of good images, which may mark nothing."""
    unnamed_train: tuple[Path, ...] = ()
    """Images whose file names are not UTF-8, and which are no samples therefore."""
    unnamed_test: tuple[Path, ...] = ()
    """The same of test images and of masks."""
    stray_masks: tuple[Path, ...] = ()
    """Masks below the folder of a type that `test` has no images of."""
    empty_types: tuple[str, ...] = ()
    """Folders of test images that hold none, by their names below the root."""

    @cached_property
    def unread_note(self) -> str:
        """What is said of images below the root that belong to no folder of the data set; nothing where all do."""
        used = {sample.path for sample in (*self.train, *self.test)} | {*self.good_masks, *self.stray_masks}
        used |= {path for sample in self.test for path in sample.mask_paths}
        try:
            unread = [path for path in image_files(self.root, unnamed=[]) if path not in used]
        except DataError as error:  # of a folder that is none of the data set's
            return f"whether images lie where none is read is not known: {error}"
        unread = [path for path in unread if path.relative_to(self.root).parts[0] not in PRIVATE]
        what = "below the folder" if self.is_flat else "in no folder of the data set"
        then = "; move them up if they belong to it" if self.is_flat else ""
        return (
            f"{plural(len(unread), 'image')} {what} not read: {folders_of(unread, self.root)}{then}" if unread else ""
        )

    @property
    def layout_notes(self) -> tuple[str, ...]:
        """What is said of types without images, which no figure counts, and of those whose name tells good images."""
        below = [name_below(path.parent, self.root).split("/") for path in self.stray_masks]
        types = Counter("/".join(parts[: 3 if parts[0].lower().startswith("test") else 2]) for parts in below)
        stray = [f"{folder}: {plural(count, 'mask')}, of no test image" for folder, count in types.items()]
        empty = [f"{folder}: no images" for folder in self.empty_types]
        return (
            *(f"{found}; the type is not tested, so add its images or take the folder away" for found in stray + empty),
            *notes_of_types(self.defect_types),
        )

    def left_out(self, part: Part, skip_bad: bool) -> dict[str, str]:
        """Why files of a part are no samples, by names that can be printed; all of a flat folder are `test`, too.

        Raises:
            DataError: there are some, unless `skip_bad`.
        """
        paths = self.unnamed_train if part == "train" or self.is_flat else self.unnamed_test
        if paths and not skip_bad:
            raise DataError(f"{str(paths[0])!r}: {NOT_UTF8}")
        return {told_name(path.relative_to(self.root)): f"{told_name(path)}: {NOT_UTF8}" for path in paths}

    def check_good_masks(self, mask_value: MaskValue, ignore_value: MaskValue = None) -> None:
        """Refuse masks of good images that mark something.

        Raises:
            DataError: one does, or cannot be read.
        """
        for path in self.good_masks:
            refuse_marks(path, mask_value, ignore_value)

    @property
    def is_flat(self) -> bool:
        """Whether images lie in the root, and are all good."""
        paths = (*(sample.path for sample in self.train), *self.unnamed_train)
        return not self.test and not self.unnamed_test and all(path.parent == self.root for path in paths)

    @property
    def defect_types(self) -> tuple[str, ...]:
        """The defect types among the test images, sorted."""
        return tuple(sorted({sample.defect_type for sample in self.test if sample.label}))


def read_folder(root: Path | str, mask_value: MaskValue = None, ignore_value: MaskValue = None) -> Folder:
    """The images below `root`, with masks paired by name.

    Two layouts are understood. MVTec-style: `train/good/*`, `test/good/*`, `test/<defect type>/*` and
    `ground_truth/<defect type>/<stem>_mask.png` (or `<stem>.png`, or several, see data/pairing.py), in any case of
    letters, with `ok` or `normal` for `good`; `train` or `test` may be missing. Flat: images directly in `root`, all
    of them good; folders `train` and `test` beside them have no image in `good` or in the folder of a type. Any depth
    of folders below `good` or below a defect type is read too. Hidden files are passed over; those whose names are not
    UTF-8 are no samples (`Folder.left_out`).

    Raises:
        DataError: no such folder; no images; images both in `root` and in `train` or in a folder of `test`; images in
            `train` itself; a folder that cannot be listed; a mask without its image; a defective image without its mask
            where its type has masks; two images that one mask would fit; a mask among the photos; a layout that must
            be converted first.
    """
    root = as_path(root, "root")
    if not root.exists():
        raise DataError(f"{root}: no such folder")
    if not root.is_dir():
        raise DataError(f"{root}: a file, not a folder of images")
    if name := recognise(root):
        raise DataError(f"{root}: laid out as {name}; convert it first: blemish data convert {root} -o FOLDER")
    unnamed: list[Path] = []
    flat = tuple(Sample(path, path.name) for path in image_files(root, deep=False, unnamed=unnamed))
    layout = find_layout(root)
    if layout and not _stands_beside(flat, layout, root):
        refuse_twins(root)
        if advice := annotated_part(root):
            raise DataError(f"{root}: {advice}")
        folder = _read_mvtec(root, layout, (mask_value, ignore_value))
        photos = [sample.path for sample in (*folder.train, *folder.test)]
        refuse_masks_among(photos, (*layout.train, *layout.test), root)
        return folder
    if not flat and not unnamed:
        raise DataError(f"{root}: {_why_nothing(root)}")
    refuse_masks_among([sample.path for sample in flat], [root], root)
    return Folder(root, flat, unnamed_train=tuple(unnamed))


def notes_of_types(defect_types: Iterable[str]) -> list[str]:
    """What is said of types of defects whose names tell good images.

    >>> notes_of_types(["OK-test", "okra"])
    ["'OK-test' counts as a type of defects; move good images to test/good/OK-test"]
    """
    advice = "counts as a type of defects; move good images to test/good/"
    return [f"'{name}' {advice}{name}" for name in defect_types if seems_good(name)]


def folders_of(paths: Iterable[Path], root: Path) -> str:
    """The folders below `root`, two levels of them, that files lie in, with how many do."""
    found = Counter("/".join(name_below(path.parent, root).split("/")[:2]) for path in paths)
    return join_names([f"{folder} ({count})" for folder, count in sorted(found.items())])


def _why_nothing(root: Path) -> str:
    """What a folder without images of its own is instead, and what to give."""
    if advice := annotated(root) or sets_below(root):
        return advice
    whole = root.resolve().parent
    if (layout := find_layout(whole)) and any(path.parent == root.resolve() for path in (*layout.train, *layout.test)):
        return f"a part of a data set, not all of it; give {whole}"
    wanted = "good images, or one with train/good, test/<type> and ground_truth/<type>"
    if is_ok_nok(root):
        return f"laid out as ok_nok; convert it first: blemish data convert {root} -o FOLDER"
    if below := [path.name for path in subfolders(root) if image_files(path, unnamed=[])]:
        return (
            f"no images in it, but in its folders ({join_names(below)}); give one of them that holds {wanted}; where "
            f"all hold good images, move them into {root / 'train' / GOOD}"
        )
    return f"no images ({', '.join(sorted(SUFFIXES))}) in it and no train/good below it; give a folder of {wanted}"


def is_ok_nok(root: Path) -> bool:
    """Whether images lie in folders alone: in one of good images, by its name, and in others of each defect type."""
    if image_files(root, deep=False, unnamed=[]):
        return False
    below = [path.name for path in subfolders(root) if image_files(path, unnamed=[])]
    good = [name for name in below if folded(name) in GOOD_NAMES or seems_good(name)]
    return len(good) == 1 and any(folded(name) not in MASKS for name in below if name not in good)


def file_id(path: Path) -> str:
    """A file by its content, whatever its name: the start of its SHA-256.

    Raises:
        DataError: it cannot be read.
    """
    return Sample(path, path.name).file_id


def commonest_size(sizes_px: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The height and width that most of the images have; of several the smallest.

    >>> commonest_size([(2, 3), (4, 3), (4, 3)])
    (4, 3)
    """
    sizes = Counter(sizes_px)
    return min(sizes, key=lambda size: (-sizes[size], size))


def hash_samples(samples: Iterable[Sample]) -> str:
    """A SHA-256 over the names and the contents of image files, whatever their order.

    Raises:
        DataError: a file that cannot be read.
    """
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.name):
        digest.update(f"{sample.name}\n{sample.sha256}\n".encode())
    return digest.hexdigest()


def _stands_beside(flat: Sequence[Sample], layout: Layout, root: Path) -> bool:
    """Whether folders called `train` and `test` belong to no data set: images lie beside them, and none inside.

    Raises:
        DataError: images lie beside them and inside.
    """
    train = find_child(root, "train")
    parts = [*layout.train, *layout.test, *([train] if train else [])] if flat else []
    inside = next((path for part in parts for path in image_files(part, unnamed=[])), None)
    if inside is not None:
        raise DataError(
            f"{flat[0].path}: an image beside the folders of a data set ({name_below(inside, root)}); move good ones "
            "to train/good, others to test/<type>"
        )
    return bool(flat)


def _read_mvtec(root: Path, layout: Layout, values: tuple[MaskValue, MaskValue]) -> Folder:
    if train := find_child(root, "train"):
        others = [path for path in subfolders(train) if folded(path.name) not in GOOD_NAMES]
        if others:
            raise DataError(f"{others[0]}: only good images are fitted; move it to test/{others[0].name}")
        if loose := image_files(train, deep=False, unnamed=[]):
            raise DataError(f"{loose[0]}: not in train/good, where good images to fit belong; move it there")
        if not layout.train and not layout.test:
            raise DataError(f"{train / GOOD}: no such folder; good images to fit belong there")
    no_train, no_test = list[Path](), list[Path]()
    fitted = tuple(
        Sample(path, name_below(path, root)) for folder in layout.train for path in image_files(folder, True, no_train)
    )
    tested: list[Sample] = []
    empty = []
    for folder in layout.test:
        defect_type = GOOD if folded(folder.name) in GOOD_NAMES else folder.name
        named = len(no_test)
        paths = image_files(folder, unnamed=no_test)
        if not paths and len(no_test) == named:
            empty.append(name_below(folder, root))
        masks = {} if defect_type == GOOD or layout.masks is None else masks_of_type(root, folder, paths, layout.masks)
        for path in paths:
            known = masks.get(path, ())
            tested.append(Sample(path, name_below(path, root), defect_type, known, *(values if known else ())))
    if not (fitted or tested or no_train or no_test):
        raise DataError(f"{root}: no images in train/good or in a folder of test, such as test/good")
    good, stray = ((), ()) if layout.masks is None else _unread_masks(root, layout.masks, tested, no_test)
    return Folder(root, fitted, tuple(tested), good, tuple(no_train), tuple(no_test), stray, tuple(empty))


def _unread_masks(
    root: Path, mask_root: Path, tested: list[Sample], unnamed: list[Path]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The masks of good images, and others that are not looked at; those are refused where a defect type has none.

    Masks whose names are not UTF-8 go to `unnamed`.
    """
    without = sorted({sample.defect_type for sample in tested if sample.label and not sample.mask_paths})
    used = {path for sample in tested for path in sample.mask_paths}
    good_masks, stray = list[Path](), list[Path]()
    for path in image_files(mask_root, unnamed=unnamed):
        if folded(path.relative_to(mask_root).parts[0]) in GOOD_NAMES:
            good_masks.append(path)
        elif without and path not in used:
            raise DataError(
                f"{name_below(path, root)}: belongs to no folder below test; masks of '{without[0]}' are looked for in "
                f"{name_below(mask_root, root)}/{without[0]}"
            )
        elif path not in used:
            stray.append(path)
    return tuple(good_masks), tuple(stray)
