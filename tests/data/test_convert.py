"""Layouts of other data sets: read as they are, or converted, and named where they are neither."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.annotations import FORMATS
from blemish.data.convert import convert_dataset
from blemish.data.folder import read_folder
from blemish.data.layout_readers import READERS
from blemish.data.layouts import recognise
from blemish.errors import DataError, SettingsError
from reference.command import run

SIDE = 16


def photo(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(path)


def mask(path: Path, row: int | None = 3, value: int = 255) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    marked = np.zeros((SIDE, SIDE), np.uint8)
    if row is not None:
        marked[row, 2:5] = value
    Image.fromarray(marked).save(path)


def btad(root: Path) -> None:
    for n in range(5):
        photo(root / f"train/ok/{n:04}.bmp")
    for n in range(2):
        photo(root / f"test/ok/{n:04}.bmp")
        photo(root / f"test/ko/{n:04}.bmp")
        mask(root / f"ground_truth/ko/{n:04}.png")


def loco(root: Path) -> None:
    for n in range(3):
        photo(root / f"train/good/{n:03}.png")
    for n in range(2):
        photo(root / f"validation/good/{n:03}.png")
        photo(root / f"test/good/{n:03}.png")
        photo(root / f"test/logical_anomalies/{n:03}.png")
        for part in range(2):
            mask(root / f"ground_truth/logical_anomalies/{n:03}/{part:03}.png", row=3 + 4 * part)


def ad_2(root: Path) -> None:
    for n in range(5):
        photo(root / f"train/good/{n:03}_regular.png")
    for n in range(2):
        photo(root / f"test_public/good/{n:03}_regular.png")
        photo(root / f"test_public/bad/{n:03}_regular.png")
        mask(root / f"test_public/ground_truth/bad/{n:03}_regular_mask.png")


def capitals(root: Path) -> None:
    for n in range(5):
        photo(root / f"Train/Good/{n:03}.PNG")
    for n in range(2):
        photo(root / f"Test/Good/{n:03}.PNG")
        photo(root / f"Test/Cut/{n:03}.PNG")
        mask(root / f"Ground_Truth/Cut/{n:03}_mask.png")


def visa(root: Path) -> None:
    for n in range(7):
        photo(root / f"Data/Images/Normal/{n:04}.JPG")
    for n in range(2):
        photo(root / f"Data/Images/Anomaly/{n:03}.JPG")
        mask(root / f"Data/Masks/Anomaly/{n:03}.png", value=1 + n)


def ok_nok(root: Path) -> None:
    for n in range(7):
        photo(root / f"OK/{n:03}.png")
    for n in range(2):
        photo(root / f"NOK/{n:03}.png")
        mask(root / f"masks/NOK/{n:03}.png")


def classes(root: Path) -> None:
    for part in ("train", "valid", "test"):
        for n in range(2):
            photo(root / part / f"ok_front/{n}.png")
            photo(root / part / f"def_front/{n}.png")


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("normal", "abnormal"),
        ("PASS", "FAIL"),
        ("iO", "niO"),
        ("i.O.", "n.i.O."),
        ("Non-defective", "Defekt"),
        ("gut", "Schlecht"),
        ("no_defect", "defect"),
        ("ok", "NotOK"),
        ("良品", "不良"),
        ("bon", "de\u0301faut"),  # as macOS writes it
    ],
)
def test_folders_of_good_and_bad_parts_are_known_by_their_usual_names(good: str, bad: str, tmp_path: Path) -> None:
    for name in (good, bad):
        for n in range(3):
            photo(tmp_path / "set" / name / f"{n}.png")
    with pytest.raises(DataError, match="set: laid out as ok_nok; convert it first"):
        read_folder(tmp_path / "set")
    counts = convert_dataset(tmp_path / "set", tmp_path / "out", test_good=0.3)
    assert counts == {"train/good": 2, "test/good": 1, f"test/{bad}": 3}


def ksdd2(root: Path) -> None:
    for n in range(5):
        photo(root / f"train/{n}.png")
        mask(root / f"train/{n}_GT.png", row=None)
    photo(root / "train/5.png")
    mask(root / "train/5_GT.png")
    for n in range(4):
        photo(root / f"test/{n}.png")
        mask(root / f"test/{n}_GT.png", row=3 if n < 2 else None)


def ksdd(root: Path) -> None:
    for n in range(7):
        photo(root / f"kos{n:02}/Part0.jpg")
        mask(root / f"kos{n:02}/Part0_label.bmp", row=None)
    for n in range(2):
        photo(root / f"kos{n:02}/Part1.jpg")
        mask(root / f"kos{n:02}/Part1_label.bmp")


def real_iad(root: Path) -> None:
    """Beside its JSON file, which calls the side of a defective part on which nothing is seen good."""
    entries: dict[str, list[dict[str, str | None]]] = {"train": [], "test": []}
    for n in range(6):
        name = f"OK/S{n:04}/set_{n:04}_OK_C1_20230922.jpg"
        photo(root / name)
        entries["train" if n < 5 else "test"].append(
            {"category": "set", "anomaly_class": "OK", "image_path": name, "mask_path": None}
        )
    for n in range(3):
        name = f"NG/BX/S{n:04}/set_{n:04}_NG_BX_C{n}_20230922"
        photo(root / f"{name}.jpg")
        seen = n < 2
        if seen:
            mask(root / f"{name}.png")
        marked = f"{name}.png" if seen else None
        entries["test"].append(
            {
                "category": "set",
                "anomaly_class": "BX" if seen else "OK",
                "image_path": f"{name}.jpg",
                "mask_path": marked,
            }
        )
    split = root.parent / "realiad_jsons/realiad_jsons" / f"{root.name}.json"
    split.parent.mkdir(parents=True)
    split.write_text(json.dumps({"meta": {"prefix": "set/", "normal_class": "OK"}, **entries}))


def mvtec_3d(root: Path) -> None:
    for n in range(3):
        photo(root / f"train/good/rgb/{n:03}.png")
        (root / "train/good/xyz").mkdir(exist_ok=True)
        (root / f"train/good/xyz/{n:03}.tiff").touch()
    for n in range(2):
        photo(root / f"validation/good/rgb/{n:03}.png")
        photo(root / f"test/good/rgb/{n:03}.png")
        mask(root / f"test/good/gt/{n:03}.png", row=None)
        photo(root / f"test/hole/rgb/{n:03}.png")
        mask(root / f"test/hole/gt/{n:03}.png")


def dagm(root: Path) -> None:
    for part, good in (("Train", 5), ("Test", 2)):
        for n in range(good + 2):
            photo(root / f"{part}/{n:04}.PNG")
        for n in range(good, good + 2):
            mask(root / f"{part}/Label/{n:04}_label.PNG")


def magnetic_tile(root: Path) -> None:
    for n in range(7):
        photo(root / f"MT_Free/Imgs/exp1_num_{n}.jpg")
        mask(root / f"MT_Free/Imgs/exp1_num_{n}.png", row=None)
    for kind in ("Blowhole", "Crack"):
        photo(root / f"MT_{kind}/Imgs/exp1_num_9.jpg")
        mask(root / f"MT_{kind}/Imgs/exp1_num_9.png")


def aitex(root: Path) -> None:
    for n in range(7):
        photo(root / f"NODefect_images/{n % 2}-210020u/{n:04}_000_01.png")
    for n in range(2):
        photo(root / f"Defect_images/{n:04}_002_00.png")
        mask(root / f"Mask_images/{n:04}_002_00_mask.png")


def segmentation(root: Path) -> None:
    for n in range(9):
        photo(root / f"images/{n:03}.png", seed=n)
        mask(root / f"masks/{n:03}.png", row=3 if n < 2 else None)


DIRECT: dict[str, Callable[[Path], None]] = {"btad": btad, "loco": loco, "ad_2": ad_2, "capitals": capitals}
CONVERTED: dict[str, Callable[[Path], None]] = {
    "visa": visa,
    "ok_nok": ok_nok,
    "mvtec_3d": mvtec_3d,
    "dagm": dagm,
    "ksdd2": ksdd2,
    "ksdd": ksdd,
    "real_iad": real_iad,
    "magnetic_tile": magnetic_tile,
    "aitex": aitex,
    "segmentation": segmentation,
}


@pytest.mark.parametrize("kind", DIRECT)
def test_layouts_near_mvtecs_are_read_as_they_are(kind: str, tmp_path: Path) -> None:
    DIRECT[kind](tmp_path)
    folder = read_folder(tmp_path)
    assert len(folder.train) == 5
    assert Counter(sample.label for sample in folder.test) == {False: 2, True: 2}
    marked = [sample.load_mask((SIDE, SIDE), (SIDE, SIDE)) for sample in folder.test if sample.label]
    assert [one is not None and int(one.sum()) for one in marked] == [6 if kind == "loco" else 3] * 2


@pytest.mark.parametrize(("name", "other"), [("Label", "label"), ("Train", "TRAIN"), ("Test", "test")])
def test_dagm_in_another_case_of_letters_has_its_masks(name: str, other: str, tmp_path: Path) -> None:
    dagm(tmp_path / "set")
    for folder in [path for path in (tmp_path / "set").rglob("*") if path.name == name]:
        folder.rename(folder.with_name(other))
    counts = convert_dataset(tmp_path / "set", tmp_path / "out")
    assert counts == {"train/good": 5, "test/good": 2, "test/defect": 2}


def test_images_of_a_set_to_segment_are_good_where_their_masks_are_blank_or_alone_lacking(tmp_path: Path) -> None:
    segmentation(tmp_path / "set")
    masks = sorted((tmp_path / "set/masks").iterdir())
    masks[8].unlink()
    with pytest.raises(DataError, match=r"images/008\.png: no mask in .*masks, where good images have masks, too"):
        convert_dataset(tmp_path / "set", tmp_path / "out")
    for path in masks[2:8]:
        path.unlink()
    counts = convert_dataset(tmp_path / "set", tmp_path / "out", test_good=0.3)
    assert counts == {"train/good": 5, "test/good": 2, "test/defect": 2}
    for path in sorted((tmp_path / "set/images").iterdir())[2:]:
        path.unlink()
    with pytest.raises(DataError, match="something is marked in every image"):
        convert_dataset(tmp_path / "set", tmp_path / "other")
    photo(tmp_path / "set/0.png")
    assert len(read_folder(tmp_path / "set").train) == 1  # a flat folder, whatever lies below it
    (tmp_path / "set/0.png").unlink()
    (tmp_path / "set").rename(tmp_path / "train")
    with pytest.raises(DataError, match=r"images in images and their masks in masks; convert it first: .*/train -o"):
        read_folder(tmp_path)


def test_defects_that_mvtec_3d_has_among_what_is_fitted_are_refused(tmp_path: Path) -> None:
    mvtec_3d(tmp_path / "set")
    photo(tmp_path / "set/train/hole/rgb/000.png")
    with pytest.raises(DataError, match="train/hole: only good images are fitted; move it to test/hole"):
        convert_dataset(tmp_path / "set", tmp_path / "out")


def test_masks_beside_the_photos_of_each_type_are_found(tmp_path: Path) -> None:
    """As BMAD has them, defective images for validation, too."""
    for n in range(3):
        photo(tmp_path / f"set/train/good/img/{n}.png", seed=n)
    for part in ("valid", "test"):
        photo(tmp_path / f"set/{part}/good/img/0.png")
        mask(tmp_path / f"set/{part}/good/label/0.png", row=None)
        photo(tmp_path / f"set/{part}/Ungood/img/1.png")
        mask(tmp_path / f"set/{part}/Ungood/label/1.png")
    with pytest.raises(DataError, match="laid out as mvtec_3d; convert it first"):
        read_folder(tmp_path / "set")
    counts = convert_dataset(tmp_path / "set", tmp_path / "out")
    assert counts == {"train/good": 4, "test/good": 1, "test/Ungood": 2}
    assert all(sample.mask_paths for sample in read_folder(tmp_path / "out").test if sample.label)


@pytest.mark.parametrize("place", ["group00041/00041", "00041"])
def test_deeppcb_has_its_patterns_as_good_images(place: str, tmp_path: Path) -> None:
    for n in range(5):
        for kind in ("temp", "test"):
            photo(tmp_path / f"set/{place}/0004100{n}_{kind}.jpg", seed=n)
    with pytest.raises(DataError, match="laid out as deeppcb; convert it first"):
        read_folder(tmp_path / "set")
    assert convert_dataset(tmp_path / "set", tmp_path / "out") == {"train/good": 4, "test/good": 1, "test/defect": 5}


@pytest.mark.parametrize(("good", "kinds"), [("good", ("hole", "oil spot")), ("ok_front", ("def_front",))])
def test_folders_of_each_defect_type_beside_one_of_good_images(
    good: str, kinds: tuple[str, ...], tmp_path: Path
) -> None:
    for name in (good, *kinds):
        for n in range(3):
            photo(tmp_path / "set" / name / f"{n}.png", seed=n)
    for kind in kinds:
        for n in range(3):
            mask(tmp_path / "set/ground_truth" / kind / f"{n}_mask.png")
    with pytest.raises(DataError, match="laid out as ok_nok; convert it first"):
        read_folder(tmp_path / "set")
    counts = convert_dataset(tmp_path / "set", tmp_path / "out", test_good=0.3)
    assert counts == {"train/good": 2, "test/good": 1, **{f"test/{kind}": 3 for kind in kinds}}
    assert all(sample.mask_paths for sample in read_folder(tmp_path / "out").test if sample.label)
    with pytest.raises(DataError, match=r"in its folders \("):  # of defects alone
        read_folder(Path(shutil.move(tmp_path / "set" / good, tmp_path / "good")).parent / "set")


@pytest.mark.parametrize(
    ("images", "annotations"), [("train/images", "train/labels/0.txt"), ("train", "train/_annotations.coco.json")]
)
def test_annotations_in_the_parts_of_a_set_are_named(images: str, annotations: str, tmp_path: Path) -> None:
    photo(tmp_path / images / "0.png")
    (tmp_path / annotations).parent.mkdir(exist_ok=True)
    (tmp_path / annotations).touch()
    named = (tmp_path / annotations).parent if annotations.endswith(".txt") else tmp_path / annotations
    with pytest.raises(DataError, match=f"convert {tmp_path / images} -o FOLDER --annotations {named}"):
        read_folder(tmp_path)


def test_a_mask_of_dagm_without_its_image_is_named(tmp_path: Path) -> None:
    dagm(tmp_path / "set")
    (tmp_path / "set/Train/0005.PNG").rename(tmp_path / "set/Train/5.PNG")
    with pytest.raises(DataError, match=r"Train/Label/0005_label\.PNG: no image .*Train/0005\.\*"):
        convert_dataset(tmp_path / "set", tmp_path / "out")


@pytest.mark.parametrize("kind", CONVERTED)
def test_layouts_that_must_be_converted_are_named_and_converted(kind: str, tmp_path: Path) -> None:
    CONVERTED[kind](tmp_path / "set")
    with pytest.raises(DataError, match=rf"set: laid out as {kind}; convert it first: blemish data convert"):
        read_folder(tmp_path / "set")
    counts = convert_dataset(tmp_path / "set", tmp_path / "out", test_good=0.3)
    folder = read_folder(tmp_path / "out")
    fitted = sum(count for name, count in counts.items() if name.startswith("train/good"))
    assert len(folder.train) == 5 == fitted
    assert Counter(sample.label for sample in folder.test) == {False: 2, True: 2}
    for sample in folder.test:
        drawn = sample.load_mask((SIDE, SIDE), (SIDE, SIDE))
        assert (drawn is not None) == sample.label
        assert drawn is None or (drawn[3, 2:5].all() and drawn.sum() == 3)


def flat_masks(root: Path) -> None:
    ok_nok(root)
    for path in (root / "masks/NOK").iterdir():
        path.rename(root / "masks" / path.name)


def flat_masks_of_visa(root: Path) -> None:
    visa(root)
    for path in (root / "Data/Masks/Anomaly").iterdir():
        path.rename(root / "Data/Masks" / path.name)


def visa_without_data(root: Path) -> None:
    visa(root / "in")
    for path in (root / "in/Data").iterdir():
        path.rename(root / path.name)


@pytest.mark.parametrize("lay", [flat_masks, flat_masks_of_visa, visa_without_data], ids=lambda each: each.__name__)
def test_masks_of_a_single_type_are_found_wherever_they_lie(lay: Callable[[Path], None], tmp_path: Path) -> None:
    lay(tmp_path / "set")
    convert_dataset(tmp_path / "set", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("ground_truth/*/*"))) == 2


def test_defects_without_masks_in_aitex_and_magnetic_tiles(tmp_path: Path) -> None:
    aitex(tmp_path / "a")
    photo(tmp_path / "a/Defect_images/0009_027_05.png")
    assert convert_dataset(tmp_path / "a", tmp_path / "out")["test/defect_without_mask"] == 1
    assert len(read_folder(tmp_path / "out").test) == 4
    magnetic_tile(tmp_path / "b")
    (tmp_path / "b/MT_Crack/Imgs/exp1_num_9.png").unlink()
    with pytest.raises(DataError, match=r"exp1_num_9\.jpg: no mask exp1_num_9\.png beside it"):
        convert_dataset(tmp_path / "b", tmp_path / "out_b")


@pytest.mark.parametrize("place", ["masks/NOK_masks", "NOK_masks"])
def test_masks_that_lie_elsewhere_are_neither_photos_nor_left_out(place: str, tmp_path: Path) -> None:
    ok_nok(tmp_path / "set")
    (tmp_path / "set/masks/NOK").rename(tmp_path / "set" / place)
    with pytest.raises(DataError, match=rf"{place}/000\.png: a mask (that belongs to no image|among the photos)"):
        convert_dataset(tmp_path / "set", tmp_path / "out")


def test_masks_of_good_images_and_of_several_types_may_lie_in_one_folder(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for kind, name in (*(("OK", f"g{n}") for n in range(7)), ("NOK", "a"), ("dent", "b")):
        photo(root / kind / f"{name}.png")
        mask(root / f"masks/{name}.png", row=None if kind == "OK" else 3)
    found = convert_dataset(root, tmp_path / "out")
    assert found == {"train/good": 6, "test/good": 1, "test/NOK": 1, "test/dent": 1}
    assert [path.name for path in sorted((tmp_path / "out/ground_truth").rglob("*.png"))] == [
        "a_mask.png",
        "b_mask.png",
    ]
    mask(root / "masks/g3.png")
    with pytest.raises(DataError, match=r"masks/g3\.png: a good image's mask, and something is marked; move the image"):
        convert_dataset(root, tmp_path / "again")
    mask(root / "masks/g3.png", row=None)
    photo(root / "dent/a.png")
    with pytest.raises(DataError, match=r"masks/a\.png: fits images in NOK, dent; put masks into a folder for each"):
        convert_dataset(root, tmp_path / "again")


def test_a_set_to_classify_with_is_converted_and_its_defects_are_tested_on(tmp_path: Path) -> None:
    classes(tmp_path / "set")
    with pytest.raises(DataError, match="set: laid out as classes; convert it first"):
        read_folder(tmp_path / "set")
    found = convert_dataset(tmp_path / "set", tmp_path / "out")
    assert found == {"train/good": 4, "test/def_front": 6, "test/good": 2}
    assert (tmp_path / "out/test/def_front/valid_1.png").is_file()
    for n in range(2):
        mask(tmp_path / f"set/masks/def_front/{n}.png")
    found = convert_dataset(tmp_path / "set", tmp_path / "masked")
    assert found == {"train/good": 4, "test/def_front": 2, "test/def_front_without_mask": 4, "test/good": 2}
    assert len(read_folder(tmp_path / "masked").test) == 8


def test_images_that_are_left_out_are_said(tmp_path: Path) -> None:
    told = list[str]()
    for name, lay in (("a", ok_nok), ("b", ksdd2)):
        lay(tmp_path / name)
        convert_dataset(tmp_path / name, tmp_path / f"{name}_out", on_note=told.append)
    (said,) = told
    assert said.endswith("left out: train (2)")  # a defective one and its mask, but no blank masks of good ones


def test_a_type_of_defects_named_like_good_images_is_said(tmp_path: Path) -> None:
    told = list[str]()
    ok_nok(tmp_path / "set")
    for name in ("OK-test", "good2"):
        photo(tmp_path / f"set/{name}/0.png")
    convert_dataset(tmp_path / "set", tmp_path / "out", on_note=told.append)
    said = "counts as a type of defects; move good images to test/good/"
    assert told == [f"'OK-test' {said}OK-test", f"'good2' {said}good2"]


@pytest.mark.parametrize("shift", ["S1", "S12", "kosmetik"])
def test_folders_that_are_named_nearly_as_those_of_a_set_are_none_of_it(shift: str, tmp_path: Path) -> None:
    for n in range(4):
        photo(tmp_path / f"OK/{shift}/{n}.png")
        photo(tmp_path / f"NG/{shift}/{n}.png")
        photo(tmp_path / f"{shift}/{n}_label.png")
    assert recognise(tmp_path) == "ok_nok"
    for name in ("train/good/0.png", "train/label/1.png", "test/label/2.png"):
        photo(tmp_path / "set" / name)
    assert recognise(tmp_path / "set") is None


def test_masks_among_the_photos_are_not_converted_as_photos(tmp_path: Path) -> None:
    ok_nok(tmp_path / "set")
    mask(tmp_path / "set/NOK/000_mask.png")
    with pytest.raises(DataError, match=r"NOK/000_mask\.png: a mask among the photos"):
        convert_dataset(tmp_path / "set", tmp_path / "out")


def test_copies_in_the_archive_of_kolektorsdd2_are_left_out_and_other_images_without_masks_are_not(
    tmp_path: Path,
) -> None:
    ksdd2(tmp_path / "set")
    for name in ("1", "1_GT"):
        content = (tmp_path / f"set/train/{name}.png").read_bytes()
        (tmp_path / f"set/train/{name} (copy).png").write_bytes(content)
    assert convert_dataset(tmp_path / "set", tmp_path / "out")["train/good"] == 5
    (tmp_path / "set/train/1 (copy).png").write_bytes((tmp_path / "set/train/5_GT.png").read_bytes())
    with pytest.raises(DataError, match=r"1 \(copy\)\.png: no mask 1 \(copy\)_GT\.\* beside it"):
        convert_dataset(tmp_path / "set", tmp_path / "other")


@pytest.mark.parametrize("kind", DIRECT)
def test_what_is_read_as_it_is_can_be_converted_too(kind: str, tmp_path: Path) -> None:
    DIRECT[kind](tmp_path / "set")
    convert_dataset(tmp_path / "set", tmp_path / "out")
    before, after = read_folder(tmp_path / "set"), read_folder(tmp_path / "out")
    assert sorted(sample.sha256 for sample in after.train) == sorted(sample.sha256 for sample in before.train)
    assert after.defect_types == before.defect_types
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "test", "ground_truth"}


def naming(path: str) -> str:
    entry = f'{{"image_path": {path}, "anomaly_class": "OK"}}'
    return f'{{"meta": {{"normal_class": "OK"}}, "train": [], "test": [{entry}]}}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "set.json: not a split of Real-IAD: JSONDecodeError"),
        ("[]", "set.json: not a split of Real-IAD: TypeError"),
        ("[" * 100_000, "set.json: not a split of Real-IAD: RecursionError"),
        (naming("3"), "TypeError"),
        (naming('""'), "IndexError"),
        (naming('"../x.png"'), "../x.png leads out of the folder"),
        (naming('"set/OK/x.jpg"'), r"1 of the files that it names are not in .*set; the first: .*set/OK/x.jpg"),
        (None, "the file set.json of Real-IAD is not there; put realiad_jsons beside"),
    ],
)
def test_a_split_of_real_iad_that_is_wrong_is_named(text: str | None, message: str, tmp_path: Path) -> None:
    real_iad(tmp_path / "set")
    split = tmp_path / "realiad_jsons/realiad_jsons/set.json"
    split.unlink()
    if text is not None:
        split.write_text(text)
    with pytest.raises(DataError, match=message):
        convert_dataset(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_visas_own_split_is_kept(tmp_path: Path) -> None:
    visa(tmp_path / "candle")
    rows = ["object,split,label,image,mask", "candle,train,normal,candle/Data/Images/Normal/0000.JPG,"]
    rows += [f"candle,test,normal,candle/Data/Images/Normal/{n:04}.JPG," for n in (2, 5)]
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv/1cls.csv").write_text("\n".join(rows))
    convert_dataset(tmp_path / "candle", tmp_path / "out")
    assert [sample.name for sample in read_folder(tmp_path / "out").test if not sample.label] == [
        "test/good/0002.JPG",
        "test/good/0005.JPG",
    ]


def test_visas_split_of_other_objects_is_none(tmp_path: Path) -> None:
    visa(tmp_path / "candle_small")
    (tmp_path / "split_csv").mkdir()
    row = "candle,test,normal,candle/Data/Images/Normal/0002.JPG,"
    table = tmp_path / "split_csv/1cls.csv"
    table.write_text(f"object,split,label,image,mask\n{row}")
    assert convert_dataset(tmp_path / "candle_small", tmp_path / "out", test_good=0.3)["test/good"] == 2
    table.write_text("object,split,label,image,mask\nca\xf1a,test,normal,0002.JPG,", encoding="latin-1")
    with pytest.raises(DataError, match=r"1cls\.csv: cannot read the split: not UTF-8 text"):
        convert_dataset(tmp_path / "candle_small", tmp_path / "other")


def test_nothing_is_written_where_something_is_wrong(tmp_path: Path) -> None:
    ok_nok(tmp_path / "set")
    mask(tmp_path / "set/masks/NOK/000.png", row=None)
    with pytest.raises(DataError, match=r"000\.png: an empty mask"):
        convert_dataset(tmp_path / "set", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.txt").touch()
    with pytest.raises(DataError, match="found a folder with something in it"):
        convert_dataset(tmp_path / "set", tmp_path / "full")
    with pytest.raises(SettingsError, match=r"--layout viza: unknown; did you mean 'visa'\?"):
        convert_dataset(tmp_path / "set", tmp_path / "out", "viza")
    (tmp_path / "set.zip").touch()
    with pytest.raises(DataError, match=r"set\.zip: a file, not a folder of images; unpack an archive first"):
        convert_dataset(tmp_path / "set.zip", tmp_path / "out")
    (tmp_path / "other").mkdir()
    with pytest.raises(DataError, match=r"other: a layout that is not known; known are " + ", ".join(READERS)):
        convert_dataset(tmp_path / "other", tmp_path / "out")


def test_a_link_to_nothing_and_a_pipe_are_named(tmp_path: Path) -> None:
    for name, why in (("link.png", "no such file, as of a link to nothing"), ("pipe.png", "is a named pipe")):
        ok_nok(tmp_path / name)
        odd = tmp_path / name / "OK" / name
        odd.symlink_to("nowhere") if name == "link.png" else os.mkfifo(odd)
        with pytest.raises(DataError, match=rf"OK/{name}: cannot be copied: .*{why}"):
            convert_dataset(tmp_path / name, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_folder_of_several_sets_says_so(tmp_path: Path) -> None:
    for name in ("bottle", "cable"):
        btad(tmp_path / "sets" / name)
    for read in (read_folder, lambda root: convert_dataset(root, tmp_path / "out")):
        with pytest.raises(DataError, match=r"data sets in its folders \(bottle, cable\); give one, or"):
            read(tmp_path / "sets")


def test_two_folders_of_good_images_are_refused(tmp_path: Path) -> None:
    photo(tmp_path / "parts/OK/1.png")
    photo(tmp_path / "parts/good/1.png", seed=1)
    with pytest.raises(DataError, match=r"OK and good, more than one folder of good images"):
        convert_dataset(tmp_path / "parts", tmp_path / "out", "ok_nok")
    assert not (tmp_path / "out").exists()


def test_the_command_tells_every_layout_and_every_format() -> None:
    told = " ".join(run("data", "convert", "--help").output.split())
    assert [name for name in (*READERS, *FORMATS) if name not in re.split(r"[ ,.]+", told)] == []


def test_a_data_set_is_not_converted_into_itself(tmp_path: Path) -> None:
    (tmp_path / "train/good").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "train/good/0.png")
    with pytest.raises(DataError, match=r"inside .*, which would then have its images twice"):
        convert_dataset(tmp_path, tmp_path / "train/converted")
