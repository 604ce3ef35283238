"""Folders of images: MVTec-style ones, and flat ones of good images."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

from blemish.data.decode import ImageHeader, check_pixels, read_header
from blemish.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
"""What counts as an image file, by its ending in any case."""

OTHER_IMAGES = frozenset({".avif", ".cr2", ".dng", ".gif", ".heic", ".jp2", ".nef", ".pgm", ".pnm", ".ppm", ".tga"})
"""Images, too, but of kinds that are not read."""

GOOD = "good"

ID_DIGITS = 16
"""Of a SHA-256, enough to tell millions of files apart."""


@final
@dataclass(frozen=True)
class Sample:
    """One image file of a data set. Its header and its hash are read when first asked for, and then known.

    `name` is the path below the root with forward slashes, the same on every machine. `defect_type` is "good" or
    the name of the test folder. `mask_path` is the ground truth of a defective image, None where there is none.
    """

    path: Path
    name: str
    defect_type: str = GOOD
    mask_path: Path | None = None

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
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}") from None

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


@final
@dataclass(frozen=True)
class Folder:
    """The samples of a data set, in the order of their names."""

    root: Path
    train: tuple[Sample, ...]
    test: tuple[Sample, ...] = ()

    @property
    def defect_types(self) -> tuple[str, ...]:
        """The defect types among the test images, sorted."""
        return tuple(sorted({sample.defect_type for sample in self.test if sample.label}))


def read_folder(root: Path) -> Folder:
    """The images below `root`, with masks paired by name.

    Two layouts are understood. MVTec-style: `train/good/*`, `test/good/*`, `test/<defect type>/*` and
    `ground_truth/<defect type>/<stem>_mask.png` (or `<stem>.png`). Flat: images directly in `root`, all of them good.
    Any depth of folders below `good` or below a defect type is read too. Hidden files are passed over.

    Raises:
        DataError: no such folder; no images; images both in `root` and in `train`; a mask without its image; a
            defective image without its mask where its type has masks; two images that one mask would fit.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root}: no such folder")
    if not root.is_dir():
        raise DataError(f"{root}: a file, not a folder of images")
    if (root / "train").is_dir() or (root / "test").is_dir():
        return _read_mvtec(root)
    flat = tuple(Sample(path, path.name) for path in image_files(root, deep=False))
    if not flat:
        raise DataError(
            f"{root}: no images ({', '.join(sorted(SUFFIXES))}) in it and no train/good below it; "
            "give a folder of good images, or one with train/good, test/<type> and ground_truth/<type>"
        )
    return Folder(root, flat)


def image_files(folder: Path, deep: bool = True) -> list[Path]:
    """Image files in `folder` (and below it, where `deep`), in the order of their names. Hidden ones are left out.

    Raises:
        DataError: a file name that is not UTF-8, which no report could name.
    """
    found = folder.rglob("*") if deep else folder.iterdir()
    images = sorted(
        path
        for path in found
        if path.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    for path in images:
        if not _is_utf8(path):
            raise DataError(f"{str(path)!r}: a file name that is not UTF-8; rename it")
    return images


def unread_images(folder: Path) -> list[Path]:
    """What is named like an image in `folder` and below it, but is of a kind that is not read, or a link to nothing."""
    return sorted(
        path
        for path in folder.rglob("*")
        if (path.suffix.lower() in OTHER_IMAGES and path.is_file())
        or (path.suffix.lower() in SUFFIXES and path.is_symlink() and not path.exists())
    )


def _is_utf8(path: Path) -> bool:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def file_id(path: Path) -> str:
    """A file by its content, whatever its name: the start of its SHA-256.

    Raises:
        DataError: it cannot be read.
    """
    return Sample(path, path.name).file_id


def hash_samples(samples: Iterable[Sample]) -> str:
    """A SHA-256 over the names and the contents of image files, whatever their order.

    Raises:
        DataError: a file that cannot be read.
    """
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.name):
        digest.update(f"{sample.name}\n{sample.sha256}\n".encode())
    return digest.hexdigest()


def _read_mvtec(root: Path) -> Folder:
    train_root = root / "train" / GOOD
    if (root / "train").is_dir():
        others = [path.name for path in sorted((root / "train").iterdir()) if path.is_dir() and path.name != GOOD]
        if others:
            raise DataError(f"{root / 'train' / others[0]}: only good images are fitted; move it to test/{others[0]}")
        if not train_root.is_dir():
            raise DataError(f"{train_root}: no such folder; good images to fit belong there")
    train = tuple(Sample(path, _name(path, root)) for path in image_files(train_root))
    test: list[Sample] = []
    for folder in sorted(path for path in (root / "test").glob("*") if path.is_dir()):
        paths = image_files(folder)
        masks = _pair_masks(root, folder, paths) if folder.name != GOOD else {}
        test += [Sample(path, _name(path, root), folder.name, masks.get(path)) for path in paths]
    if not train and not test:
        raise DataError(f"{root}: no images below train/good or test")
    return Folder(root, train, tuple(test))


def _pair_masks(root: Path, folder: Path, paths: Iterable[Path]) -> dict[Path, Path]:
    """Masks by image. A mask's stem is its image's, or that and `_mask`."""
    mask_folder = root / "ground_truth" / folder.name
    by_stem: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        by_stem[str(path.relative_to(folder).with_suffix(""))].append(path)
    pairs: dict[Path, Path] = {}
    for mask in image_files(mask_folder):
        stem = str(mask.relative_to(mask_folder).with_suffix(""))
        images = by_stem.get(stem) or by_stem.get(stem.removesuffix("_mask"), [])
        if len(images) != 1:
            found = "no image" if not images else "several images"
            wanted = f"{folder.relative_to(root).as_posix()}/{stem.removesuffix('_mask')}.*"
            raise DataError(f"{_name(mask, root)}: {found} {wanted} in {root}; masks are paired by name")
        if images[0] in pairs:
            raise DataError(f"{_name(mask, root)}: {_name(images[0], root)} has another mask already")
        pairs[images[0]] = mask
    without = [path for path in paths if path not in pairs]
    if pairs and without:
        raise DataError(
            f"{_name(without[0], root)}: no mask ground_truth/{folder.name}/{without[0].stem}_mask.png in {root}, "
            f"while other images of '{folder.name}' have one"
        )
    return pairs


def _name(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()
