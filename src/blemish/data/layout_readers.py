"""Readers of data sets in other layouts: one function and one row for each layout."""

import filecmp
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from blemish.data.csv_cells import read_table
from blemish.data.decode import read_header
from blemish.data.folder import Sample, read_folder
from blemish.data.image_files import image_files, name_below
from blemish.data.layouts import (
    BAD_NAMES,
    GOOD_NAMES,
    MASKS,
    MASKS_BESIDE,
    PHOTOS,
    VALIDATION,
    find_child,
    find_segmentation,
    folded,
    seems_good,
    subfolders,
)
from blemish.data.masks import open_mask
from blemish.data.pairing import is_mask_of, pair_masks, stems_of
from blemish.data.real_iad import read_real_iad
from blemish.errors import DataError, join_names

Reader = Callable[[Path, float], list[Sample]]
"""Samples whose names are the paths to write, from a folder and the share of good images to test on."""


def read_mvtec(root: Path, _test_good: float) -> list[Sample]:
    """MVTec AD, LOCO and AD 2, and BTAD: what `read_folder` reads as it is."""
    folder, samples = read_folder(root), []
    for where, some in (("train", folder.train), ("test", folder.test)):
        for sample in some:
            part, _, below = sample.name.split("/", 2)
            name = f"{part}_{below}" if part.lower().startswith("val") else below  # beside train/good
            kind = sample.defect_type
            samples.append(Sample(sample.path, f"{where}/{kind}/{name}", kind, sample.mask_paths))
    return samples


def read_visa(root: Path, test_good: float) -> list[Sample]:
    """One object of VisA: `Data/Images/{Normal,Anomaly}`, `Data/Masks/Anomaly`; split as `split_csv` says, if there."""
    data = find_child(root, "data") or root
    images, masks = find_child(data, "images") or data, find_child(data, "masks")
    good = image_files(find_child(images, *GOOD_NAMES) or images / "Normal")
    bad_folder = find_child(images, *BAD_NAMES) or images / "Anomaly"
    tested = _official_split(root, good)
    chosen = set(held_out(good, test_good)) if tested is None else tested
    return [*good_samples(good, chosen), *_defects([bad_folder], masks, good, BAD_NAMES, "bad")]


def _official_split(root: Path, good: Sequence[Path]) -> set[Path] | None:
    table = root.resolve().parent / "split_csv" / "1cls.csv"
    if not table.is_file():
        return None
    named = {
        Path(row.get("image", "")).name
        for _, row in read_table(table, "the split")[1]
        if row.get("object") == root.resolve().name and row.get("split") == "test" and row.get("label") == "normal"
    }
    return {path for path in good if path.name in named} or None


def read_ok_nok(root: Path, test_good: float) -> list[Sample]:
    """One folder of good parts and others of bad ones, such as OK and NOK; masks in `ground_truth` or `masks`."""
    named = [folder for folder in subfolders(root) if folded(folder.name) in GOOD_NAMES]
    named = named or [folder for folder in subfolders(root) if seems_good(folder.name)]
    if len(named) != 1:
        found = "no folder" if not named else " and ".join(folder.name for folder in named) + ", more than one folder"
        raise DataError(f"{root}: {found} of good images ({', '.join(GOOD_NAMES)}); one is needed")
    good_folder = named[0]
    mask_root = find_child(root, *MASKS)
    good = image_files(good_folder)
    samples = good_samples(good, set(held_out(good, test_good)), good_folder)
    bad = [path for path in subfolders(root) if path not in (good_folder, mask_root)]
    return samples + _defects(bad, mask_root, good)


def read_classes(root: Path, _test_good: float) -> list[Sample]:
    """Sets to classify with: folders of good and of defective images in `train`, `test` and, if there, `valid`.

    Defective images of all parts are tested on; masks are looked for of those in `test`.
    """
    samples: list[Sample] = []
    mask_root = find_child(root, *MASKS)
    for place, names in (("train", ("train",)), ("train", VALIDATION), ("test", ("test",))):
        part = find_child(root, *names) or root / names[0]
        for folder in subfolders(part):
            images = _by_name(folder)
            if folded(folder.name) in GOOD_NAMES or seems_good(folder.name):
                is_plain = (folded(part.name), seems_good(folder.name)) == (place, False)
                before = "" if is_plain else f"{part.name}_{folder.name}_"
                samples += [Sample(path, f"{place}/good/{before}{name}") for name, path in images.items()]
                continue
            masks = _by_name(mask_root and find_child(mask_root, folder.name))
            if place == "test":
                samples += _defective(folder, masks, folder.name)
            else:
                kind = f"{folder.name}_without_mask" if masks else folder.name
                samples += [Sample(path, f"test/{kind}/{part.name}_{name}", kind) for name, path in images.items()]
    return samples


def read_segmentation(root: Path, test_good: float) -> list[Sample]:
    """Sets to segment: `images`, and `masks` of the same names. A mask in which nothing is marked is of a good image.

    Where all masks mark something, images without one are good.

    Raises:
        DataError: no image is good; some have no mask, though those of good images have.
    """
    photos, mask_root = find_segmentation(root) or (root / "images", root / "masks")
    good, bad, unknown, are_blank = [], list[Sample](), list[Path](), False
    for name, path, masks in _with_masks(photos, _by_name(mask_root)):
        if any(map(_marks, masks)):
            bad.append(Sample(path, f"test/defect/{name}", "defect", masks))
            continue
        good.append(path)
        are_blank |= bool(masks)
        unknown += [] if masks else [path]
    if are_blank and unknown:
        raise DataError(f"{unknown[0]}: no mask in {mask_root}, where good images have masks, too, that mark nothing")
    if not good:
        raise DataError(
            f"{mask_root}: something is marked in every image, as every value above 0 counts; good images are needed "
            "to train on"
        )
    return [*good_samples(good, set(held_out(good, test_good)), photos), *bad]


def read_ksdd2(root: Path, _test_good: float) -> list[Sample]:
    """KolektorSDD2: `train` and `test` with a `_GT` mask beside each image.

    Left out are defective images in train and the `(copy)` of an image and of its mask that the published archive has.
    """
    samples = []
    for part in ("train", "test"):
        for path, mask, is_defective in _beside(find_child(root, part) or root / part, "_GT"):
            if part == "test" and is_defective:
                samples.append(Sample(path, f"test/defect/{path.name}", "defect", (mask,)))
            elif not is_defective:
                samples.append(Sample(path, f"{part}/good/{path.name}"))
    return samples


def read_ksdd(root: Path, test_good: float) -> list[Sample]:
    """KolektorSDD: a folder for each part, with a `_label` mask beside each image."""
    found = [(folder.name, *one) for folder in subfolders(root) for one in _beside(folder, "_label")]
    tested = set(held_out([path for _, path, _, is_defective in found if not is_defective], test_good))
    samples = []
    for part, path, mask, is_defective in found:
        where = "test/defect" if is_defective else "test/good" if path in tested else "train/good"
        name = f"{where}/{part}_{path.name}"
        samples.append(Sample(path, name, "defect", (mask,)) if is_defective else Sample(path, name))
    return samples


def read_mvtec_3d(root: Path, _test_good: float) -> list[Sample]:
    """MVTec 3D-AD and BMAD: the photos of `<part>/<type>/rgb` or `img`, with masks in `gt` or `label` beside them.

    The depth in `xyz` is left out; defective images for validation are tested on.
    """
    samples: list[Sample] = []
    for place, names in (("train", ("train",)), ("validation", VALIDATION), ("test", ("test",))):
        part = find_child(root, *names) or root / place
        before = f"{part.name}_" if place == "validation" else ""
        for folder in subfolders(part):
            photos, masks = find_child(folder, *PHOTOS) or folder, _by_name(find_child(folder, *MASKS_BESIDE))
            if folded(folder.name) in GOOD_NAMES:
                where = "test" if place == "test" else "train"
                samples += [Sample(path, f"{where}/good/{before}{path.name}") for path in image_files(photos)]
            elif place == "train":
                raise DataError(f"{folder}: only good images are fitted; move it to test/{folder.name}")
            else:
                samples += _defective(photos, masks, folder.name, before)
    return samples


def read_deeppcb(root: Path, test_good: float) -> list[Sample]:
    """DeepPCB: `<name>_test` with defects beside `<name>_temp`, its pattern; its boxes mark no pixels, so no masks."""
    files = image_files(root)
    good, bad = ([path for path in files if path.stem.endswith(ending)] for ending in ("_temp", "_test"))
    samples = good_samples(good, set(held_out(good, test_good)))
    return samples + [Sample(path, f"test/defect/{path.name}", "defect") for path in bad]


def read_dagm(root: Path, _test_good: float) -> list[Sample]:
    """DAGM 2007: `Train` and `Test` with masks of their defective images in `Label`; those in `Train` are left out."""
    samples = []
    for part in ("train", "test"):
        folder = find_child(root, part) or root / part
        for name, path, masks in _with_masks(folder, _by_name(find_child(folder, "label")), deep=False):
            if not masks:
                samples.append(Sample(path, f"{part}/good/{name}"))
            elif part == "test":
                samples.append(Sample(path, f"test/defect/{name}", "defect", masks))
    return samples


def read_magnetic_tile(root: Path, test_good: float) -> list[Sample]:
    """Magnetic-tile defects: `MT_Free/Imgs` and one for each type, with a PNG beside each JPEG as its mask."""
    samples: list[Sample] = []
    for folder in subfolders(root):
        pictures, kind = find_child(folder, "imgs"), folder.name.lower().removeprefix("mt_")
        files = image_files(pictures, deep=False) if pictures else []
        masks = {path.stem: path for path in files if path.suffix.lower() == ".png"}
        photos = [path for path in files if path.suffix.lower() != ".png"]
        if kind == "free":
            samples += good_samples(photos, set(held_out(photos, test_good)))
        elif lost := [path for path in photos if path.stem not in masks]:
            raise DataError(f"{lost[0]}: no mask {lost[0].stem}.png beside it")
        else:
            samples += [Sample(one, f"test/{kind}/{one.name}", kind, (masks[one.stem],)) for one in photos]
    return samples


def read_aitex(root: Path, test_good: float) -> list[Sample]:
    """AITEX: a folder for each fabric in `NODefect_images`, `Defect_images` and `Mask_images`.

    Defective images without a mask are a type of their own, as either all of a type have masks or none.
    """
    good_folder, bad_folder = (find_child(root, name) or root / name for name in ("nodefect_images", "defect_images"))
    good = image_files(good_folder)
    samples = good_samples(good, set(held_out(good, test_good)), good_folder)
    for name, path, masks in _with_masks(bad_folder, _by_name(find_child(root, "mask_images"))):
        kind = "defect" if masks else "defect_without_mask"
        samples.append(Sample(path, f"test/{kind}/{name}", kind, masks))
    return samples


READERS: dict[str, Reader] = {
    "mvtec": read_mvtec,
    "visa": read_visa,
    "mvtec_3d": read_mvtec_3d,
    "dagm": read_dagm,
    "ksdd": read_ksdd,
    "ksdd2": read_ksdd2,
    "real_iad": read_real_iad,
    "magnetic_tile": read_magnetic_tile,
    "aitex": read_aitex,
    "deeppcb": read_deeppcb,
    "ok_nok": read_ok_nok,
    "segmentation": read_segmentation,
    "classes": read_classes,
}


def _beside(folder: Path, ending: str) -> Iterable[tuple[Path, Path, bool]]:
    """Images with the mask that lies beside each, and whether anything is marked in it."""
    files = _without_copies(image_files(folder))
    masks = {path.stem.removesuffix(ending): path for path in files if path.stem.endswith(ending)}
    for path in files:
        if path.stem in masks:
            mask = masks[path.stem]
            yield path, mask, _marks(mask)
        elif not path.stem.endswith(ending):
            raise DataError(f"{path}: no mask {path.stem}{ending}.* beside it")


def _marks(mask: Path) -> bool:
    return bool(np.asarray(open_mask(mask)).any())


def is_blank(path: Path) -> bool:
    """Whether an image is black, as the mask of a good one is."""
    with suppress(DataError):
        return read_header(path).mode in ("1", "L", "P") and not _marks(path)
    return False


def _without_copies(files: Sequence[Path]) -> list[Path]:
    """Files but those named `NAME (copy)` that are to the last byte what NAME is."""
    known = set(files)
    originals = {path: path.with_name(path.name.replace(" (copy)", "")) for path in files}
    return [
        path
        for path, original in originals.items()
        if original == path or original not in known or not filecmp.cmp(path, original, shallow=False)
    ]


def held_out(good: Sequence[Path], share: float) -> list[Path]:
    """Evenly spread over the images, so many of them."""
    count = min(len(good) - 1, round(share * len(good))) if good else 0
    return [good[int((place + 0.5) * len(good) / count)] for place in range(count)]


def good_samples(paths: Sequence[Path], tested: set[Path], root: Path | None = None) -> list[Sample]:
    """Good images to fit, and those that are tested on, named as below `root` or by their file names."""
    return [
        Sample(path, f"{'test' if path in tested else 'train'}/good/{name_below(path, root or path.parent)}")
        for path in paths
    ]


def _defects(
    folders: Sequence[Path],
    mask_root: Path | None,
    good: Sequence[Path],
    names: Sequence[str] = (),
    defect_type: str | None = None,
) -> list[Sample]:
    """Defective images of one folder for each type, with the masks in a folder of its name, or of one of the `names`.

    Masks may lie in the folder of masks itself, those of good images among them.

    Raises:
        DataError: a mask that belongs to no image, or to several; one of a good image in which something is marked.
    """
    samples = []
    loose, of_good = ({}, set[Path]()) if mask_root is None else _loose_masks(mask_root, folders, good)
    for folder in folders:
        own = None if mask_root is None else find_child(mask_root, folder.name, *names)
        masks = _by_name(own) or loose.get(folder, {})
        samples += _defective(folder, masks, defect_type or folder.name)
    used = {path for sample in samples for path in sample.mask_paths}
    for name, path in _by_name(mask_root).items():
        if path in of_good or folded(name.partition("/")[0]) in GOOD_NAMES:
            if not _is_even(path):
                raise DataError(f"{path}: a good image's mask, and something is marked; move the image to its defects")
        elif path not in used:
            wanted = join_names([f"{mask_root}/{folder.name}" for folder in folders])
            raise DataError(f"{path}: a mask that belongs to no image; masks are looked for in {wanted}")
    return samples


def _loose_masks(
    mask_root: Path, folders: Sequence[Path], good: Sequence[Path]
) -> tuple[dict[Path, dict[str, Path]], set[Path]]:
    """Masks of a folder in which some lie by themselves, for each folder of images; and those of good images."""
    found: dict[Path, dict[str, Path]] = {folder: {} for folder in folders}
    if not image_files(mask_root, deep=False):
        return found, set()
    stems = {folder: stems_of(_by_name(folder)) for folder in folders}
    good_stems, of_good = stems_of(path.name for path in good), set()
    for name, path in _by_name(mask_root).items():
        owners = [folder for folder in folders if is_mask_of(name, stems[folder])]
        if len(owners) > 1:
            several = join_names([folder.name for folder in owners])
            raise DataError(f"{path}: fits images in {several}; put masks into a folder for each, {mask_root}/...")
        if owners or (len(folders) == 1 and not is_mask_of(name, good_stems)):
            found[(owners or folders)[0]][name] = path  # pairing says what is wrong with it
        elif is_mask_of(name, good_stems):
            of_good.add(path)
    return found, of_good


def _is_even(path: Path) -> bool:
    """Whether a mask has one value everywhere."""
    values = np.asarray(open_mask(path))
    return bool((values == values[0, 0]).all())


def _by_name(folder: Path | None, deep: bool = True) -> dict[str, Path]:
    return {name_below(path, folder): path for path in image_files(folder, deep)} if folder else {}


def _defective(folder: Path, masks: Mapping[str, Path], defect_type: str, before: str = "") -> list[Sample]:
    found = _with_masks(folder, masks)
    return [Sample(path, f"test/{defect_type}/{before}{name}", defect_type, masks) for name, path, masks in found]


def _with_masks(
    folder: Path, masks: Mapping[str, Path], deep: bool = True
) -> Iterable[tuple[str, Path, tuple[Path, ...]]]:
    """The images of a folder by name, with their masks."""
    images = _by_name(folder, deep)
    pairs = pair_masks(images, masks, {path: str(path) for path in (*images.values(), *masks.values())}, str(folder))
    return [(name, path, pairs.get(path, ())) for name, path in images.items()]
