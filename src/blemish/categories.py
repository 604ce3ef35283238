"""The data sets of a comparison or a sweep, each read once, under names of their own."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from blemish.data.folder import Folder, Sample, read_folder
from blemish.errors import DataError
from blemish.train import files_sha256


@final
@dataclass(frozen=True)
class Category:
    """A data set with test images; the two hashes say what is in its files."""

    name: str
    folder: Folder
    train_sha256: str
    test_sha256: str


def read_categories(roots: Sequence[Path]) -> list[Category]:
    """The data sets, each under the name of its folder; the second of one name gets its parent's in front.

    The first keeps its name, so that a set that is added changes no other's.

    Raises:
        DataError: a folder that cannot be read, has no images to fit or none to test on, or is given twice.
    """
    folders = [read_folder(root) for root in roots]
    paths = [folder.root.resolve() for folder in folders]
    categories: list[Category] = []
    for folder, path in zip(folders, paths, strict=True):
        if paths.count(path) > 1:
            raise DataError(f"{folder.root}: given twice; each category is compared once")
        _check_parts(folder)
        taken = {category.name for category in categories}
        categories.append(Category(_free_name(path, taken), folder, *_hashes(folder)))
    return categories


def _free_name(path: Path, taken: Collection[str]) -> str:
    """The folder's name, with as many of its parents' in front as it takes to be another than those taken.

    >>> _free_name(Path("/a/b/nuts"), {"nuts", "b-nuts"})
    'a-b-nuts'
    """
    names = [part for part in path.parts if part != path.anchor]
    longer = ("-".join(names[-count:]) for count in range(1, len(names) + 1))
    return next((name for name in longer if name not in taken), f"{'-'.join(names)}-{len(taken)}")


def _hashes(folder: Folder) -> tuple[str, str]:
    masks = [Sample(sample.mask_path, f"mask of {sample.name}") for sample in folder.test if sample.mask_path]
    try:
        return files_sha256(folder.train), files_sha256([*folder.test, *masks])
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from None


def _check_parts(folder: Folder) -> None:
    if not folder.test:
        raise DataError(
            f"{folder.root}: no test images; put good ones into test/good and, where there are any, "
            "defective ones into test/<defect type>"
        )
    if not folder.train:
        raise DataError(f"{folder.root}: no good images to fit; put them in train/good")
