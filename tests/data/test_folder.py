"""Folders: what is read, how masks are paired, and what is refused."""

import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import Sample, read_folder
from blemish.data.notes import name_note, text_note
from blemish.errors import DataError
from blemish.inspection.new_images import good_files


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_mvtec_layout_is_read_in_the_order_of_names(parts: Path) -> None:
    folder = read_folder(parts)
    assert [sample.name for sample in folder.train][:2] == ["train/good/000.png", "train/good/001.png"]
    assert folder.defect_types == ("bar",)
    bars = [sample for sample in folder.test if sample.label]
    assert all(sample.mask_paths == (parts / f"ground_truth/bar/{sample.path.stem}_mask.png",) for sample in bars)


def test_a_flat_folder_is_all_good(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.tiff", "notes.txt", ".hidden.png"):
        touch(tmp_path / name)
    folder = read_folder(tmp_path)
    assert [sample.name for sample in folder.train] == ["a.tiff", "b.JPG"]
    assert folder.test == ()


@pytest.mark.parametrize(
    "beside", ["test/notes.txt", "test/unit/notes.txt", "test/trial.png", "train/run.py", "masks/a.png"]
)
def test_a_flat_folder_may_have_other_folders_beside_its_images(beside: str, tmp_path: Path) -> None:
    for name in ("a.png", beside):
        touch(tmp_path / name)
    folder = read_folder(tmp_path)
    assert ([sample.name for sample in folder.train], folder.test, folder.is_flat) == (["a.png"], (), True)


@pytest.mark.parametrize("inside", ["train/good/x.png", "train/x.png", "test/scratch/x.png", "test/good/deep/x.png"])
def test_images_beside_a_data_set_are_not_passed_over(inside: str, tmp_path: Path) -> None:
    for name in ("a.png", inside):
        touch(tmp_path / name)
    with pytest.raises(DataError, match=rf"a\.png: an image beside the folders of a data set \({inside}\); move good"):
        read_folder(tmp_path)


def test_images_in_train_itself_are_not_passed_over(parts: Path) -> None:
    touch(parts / "train/000.png")
    with pytest.raises(DataError, match=r"train/000\.png: not in train/good"):
        read_folder(parts)


def test_masks_are_paired_by_name_not_by_order(tmp_path: Path) -> None:
    for name in ("test/cut/a.png", "test/cut/b.png", "ground_truth/cut/b_mask.png", "ground_truth/cut/a.png"):
        touch(tmp_path / name)
    touch(tmp_path / "train/good/0.png")
    masks = {sample.path.name: sample.mask_paths for sample in read_folder(tmp_path).test}
    assert masks["a.png"] == (tmp_path / "ground_truth/cut/a.png",)
    assert masks["b.png"] == (tmp_path / "ground_truth/cut/b_mask.png",)


def test_a_defect_type_without_any_mask_is_allowed(parts: Path) -> None:
    for mask in (parts / "ground_truth/bar").iterdir():
        mask.unlink()
    assert all(sample.mask_paths == () for sample in read_folder(parts).test)


def test_a_mask_without_its_image_is_refused(parts: Path) -> None:
    touch(parts / "ground_truth/bar/stray_mask.png")
    with pytest.raises(DataError, match=r"bar/stray_mask\.png: no image test/bar/stray\.\*.*paired by name"):
        read_folder(parts)


def test_an_image_without_its_mask_is_refused(parts: Path) -> None:
    (parts / "ground_truth/bar/001_mask.png").unlink()
    with pytest.raises(DataError, match=r"test/bar/001\.png: no mask ground_truth/bar/001_mask\.png"):
        read_folder(parts)


def test_a_mask_that_fits_two_images_is_refused(parts: Path) -> None:
    Image.new("RGB", (64, 64)).save(parts / "test/bar/001.bmp")
    with pytest.raises(DataError, match=r"001_mask\.png: several images test/bar/001\.\*"):
        read_folder(parts)


def test_two_masks_for_one_image_are_refused(parts: Path) -> None:
    touch(parts / "ground_truth/bar/001.png")
    with pytest.raises(DataError, match="has another mask already"):
        read_folder(parts)


def test_a_mask_that_a_browser_saved_again_is_not_taken_for_a_second_defect(parts: Path) -> None:
    touch(parts / "ground_truth/bar/001_mask (1).png")
    with pytest.raises(DataError, match=r"001_mask \(1\)\.png: beside ground_truth/bar/001_mask\.png, as a second"):
        read_folder(parts)


@pytest.mark.parametrize("kind", ["missing", "file", "empty", "empty layout"])
def test_a_folder_without_images_is_refused(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "data"
    if kind == "file":
        root.touch()
    elif kind == "empty":
        root.mkdir()
    elif kind == "empty layout":
        (root / "train/good").mkdir(parents=True)
    message = {"missing": "no such folder", "file": "a file, not a folder", "empty": "no images"}.get(kind, "no images")
    with pytest.raises(DataError, match=message):
        read_folder(root)


def test_a_folder_whose_images_lie_below_it_says_what_to_give(parts: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"a part of a data set, not all of it; give {re.escape(str(parts))}$"):
        read_folder(parts / "test")
    touch(tmp_path / "defects/crack/0.png")
    with pytest.raises(
        DataError, match=r"defects: no images in it, but in its folders \(crack\); give one .*defects/train/good$"
    ):
        read_folder(tmp_path / "defects")


def test_defects_among_the_images_to_fit_are_refused(parts: Path) -> None:
    touch(parts / "train/scratch/0.png")
    with pytest.raises(DataError, match=r"train/scratch: only good images are fitted; move it to test/scratch"):
        read_folder(parts)


def test_a_file_is_hashed_and_its_header_read_once(parts: Path, opened: Counter[Path]) -> None:
    sample = read_folder(parts).train[0]
    assert opened[sample.path] == 0
    first = (sample.header, sample.sha256, sample.file_id, sample.size_px(10_000))
    assert opened[sample.path] == 2
    assert (sample.header, sample.sha256, sample.file_id, sample.size_px(10_000)) == first
    assert opened[sample.path] == 2
    assert hash(sample) == hash(Sample(sample.path, sample.name))
    assert sample == Sample(sample.path, sample.name)
    with pytest.raises(DataError, match=r"000\.png: 64 x 64 = 4096 pixels, the limit is 4095"):
        sample.size_px(4095)


def test_types_without_images_are_told(parts: Path) -> None:
    assert read_folder(parts).layout_notes == ()
    touch(parts / "ground_truth/cut/007_mask.png")
    (parts / "test/dent").mkdir()
    for name in ("1.png", "2.png"):
        touch(parts / "ground_truth" / name)
    loose, masks, empty = read_folder(parts).layout_notes
    assert loose.startswith("ground_truth: 2 masks, of no test image; the type is not tested")
    assert masks.startswith("ground_truth/cut: 1 mask, of no test image; the type is not tested")
    assert empty.startswith("test/dent: no images; the type is not tested")


def draw(path: Path, mode: str = "L", marked: bool = True) -> None:
    """A mask, or a photo where `mode` is RGB."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if mode == "RGB":
        Image.effect_noise((32, 32), 60).convert("RGB").save(path)
    else:
        Image.new(mode, (32, 32), 255 if marked else 0).save(path)


@pytest.mark.parametrize("other", ["train/ok/x.png", "train/GOOD/x.png", "val/normal/x.png"])
def test_all_folders_of_good_images_to_fit_are_read(other: str, parts: Path) -> None:
    touch(parts / other)
    folder = read_folder(parts)
    assert other in [sample.name for sample in folder.train]
    assert folder.unread_note == ""


@pytest.mark.parametrize("twin", ["Train/good/x.png", "Test/bar/x.png", "Ground_Truth/bar/x.png"])
def test_of_two_folders_of_one_name_neither_is_left_out(twin: str, parts: Path) -> None:
    touch(parts / twin)
    with pytest.raises(DataError, match="of which one would be left out"):
        read_folder(parts)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("val/scratch/x.png", "1 image in no folder of the data set not read: val/scratch (1)"),
        ("masks/bar/x.png", "1 image in no folder of the data set not read: masks/bar (1)"),
    ],
)
def test_images_that_nothing_reads_are_told(image: str, told: str, parts: Path) -> None:
    touch(parts / image)
    assert read_folder(parts).unread_note == told


def test_images_below_a_flat_folder_are_told(tmp_path: Path) -> None:
    for name in ("a.png", "2024-05-01/b.png", "2024-05-01/c.png", ".git/d.png"):
        touch(tmp_path / name)
    assert read_folder(tmp_path).unread_note == (
        "2 images below the folder not read: 2024-05-01 (2); move them up if they belong to it"
    )


def test_types_called_good_are_told(parts: Path) -> None:
    for name in ("good_cam1", "good ", "ok-2"):
        touch(parts / "test" / name / "x.png")
    told = [note for note in read_folder(parts).layout_notes if "counts as a type of defects" in note]
    assert [note.split("'")[1] for note in told] == ["good ", "good_cam1", "ok-2"]


@pytest.mark.parametrize("folder", ["@eaDir/000.png", "__MACOSX", "#recycle"])
def test_what_a_system_puts_among_images_is_none(folder: str, parts: Path) -> None:
    before = read_folder(parts)
    for place in ("train/good", "train", "test", "test/bar", "ground_truth/bar"):
        touch(parts / place / folder / "THUMB.jpg")
    assert read_folder(parts) == before
    assert before.unread_note == ""


@pytest.mark.parametrize(
    ("image", "mask"),
    [("pr\u00fcf.png", "pru\u0308f_mask.png"), ("pru\u0308f.png", "pr\u00fcf.png"), ("IMG_1.PNG", "img_1_mask.png")],
)
@pytest.mark.parametrize("types", [("b\u00fcrste", "bu\u0308rste"), ("Cut", "CUT")])
def test_names_that_look_the_same_are_paired(image: str, mask: str, types: tuple[str, str], tmp_path: Path) -> None:
    touch(tmp_path / "test" / types[0] / image)
    touch(tmp_path / "ground_truth" / types[1] / mask)
    (sample,) = read_folder(tmp_path).test
    assert [path.name for path in sample.mask_paths] == [mask]


def test_letters_of_another_case_are_other_names_where_both_are_there(tmp_path: Path) -> None:
    for name in ("test/cut/a.png", "test/cut/A.png", "ground_truth/cut/a_mask.png", "ground_truth/cut/A_mask.png"):
        touch(tmp_path / name)
    assert [sample.mask_paths[0].name for sample in read_folder(tmp_path).test] == ["A_mask.png", "a_mask.png"]


def test_types_that_differ_in_the_case_of_letters_have_their_own_masks(tmp_path: Path) -> None:
    for kind in ("Cut", "cut"):
        touch(tmp_path / f"test/{kind}/1.png")
        touch(tmp_path / f"ground_truth/{kind}/1_mask.png")
    found = [sample.mask_paths[0].parent.name for sample in read_folder(tmp_path).test]
    assert found == ["Cut", "cut"]
    (tmp_path / "ground_truth/Cut/1_mask.png").unlink()
    (tmp_path / "ground_truth/Cut").rmdir()
    with pytest.raises(DataError, match=r"test/Cut and cut: the masks of ground_truth/cut would be taken for both"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    "mask", ["test/cut/001_mask.png", "test/cut/masks/001.png", "train/good/mask_001.png", "test/cut/001.bmp"]
)
def test_masks_are_no_photos(mask: str, parts: Path) -> None:
    draw(parts / mask, "1")
    draw(parts / "test/cut/001.png", "RGB")
    draw(parts / "train/good/001.png", "RGB")
    with pytest.raises(DataError, match=f"{mask}: a mask among the photos"):
        read_folder(parts)


def test_masks_in_a_flat_folder_are_no_photos(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", "RGB")
    draw(tmp_path / "a_gt_1.png", "L", marked=False)
    with pytest.raises(DataError, match=r"a_gt_1\.png: a mask among the photos"):
        read_folder(tmp_path)
    with pytest.raises(DataError, match=r"a_gt_1\.png: a mask among the photos"):
        good_files(tmp_path, None)


def test_photos_of_print_are_no_drawings(parts: Path) -> None:
    paper = np.random.default_rng(0).normal(245, 6, (64, 64)).clip(0, 255)
    paper[20:40, 8:56:4] = np.random.default_rng(1).normal(15, 6, (20, 12)).clip(0, 255)
    for name in ("a.png", "a.jpg"):
        (path := parts / "train/good/labels" / name).parent.mkdir(exist_ok=True)
        Image.fromarray(paper.astype(np.uint8)).save(path)
    assert len(read_folder(parts).train) > 2


def outline(path: Path) -> None:
    """A photo in black and white: nothing between dark and bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((64, 64), 255, np.uint8)
    pixels[20:44, 16:48] = 0
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("name", ["b_label.png", "labels/a.png", "a.bmp"])
def test_photos_in_black_and_white_are_no_masks_where_all_are(name: str, tmp_path: Path) -> None:
    for photo in ("a.png", "b.png", name):
        outline(tmp_path / "train/good" / photo)
    assert f"train/good/{name}" in [sample.name for sample in read_folder(tmp_path).train]
    draw(tmp_path / "train/good/0.png", "RGB")
    with pytest.raises(DataError, match="where it is a photo, rename it"):
        read_folder(tmp_path)


def test_masks_stored_as_jpeg_are_drawings(parts: Path) -> None:
    drawn = np.zeros((64, 64), np.uint8)
    drawn[20:30, 20:40] = 255
    (parts / "test/cut/gt").mkdir(parents=True)
    Image.fromarray(drawn).save(parts / "test/cut/gt/a.jpg", quality=60)
    with pytest.raises(DataError, match=r"gt/a\.jpg: a mask among the photos"):
        read_folder(parts)


def test_private_test_images_are_known(parts: Path) -> None:
    touch(parts / "test_private/a.png")
    assert read_folder(parts).unread_note == ""


@pytest.mark.parametrize("name", ["a_label.png", "labels/a.png", "a_mask.png", "a.bmp"])
def test_photos_may_be_named_like_masks(name: str, parts: Path) -> None:
    draw(parts / "train/good/a.png", "RGB")
    draw(parts / "train/good" / name, "RGB")
    assert f"train/good/{name}" in [sample.name for sample in read_folder(parts).train]


@pytest.mark.parametrize("name", ["NG_7.png", "7 not ok.png", "fail/7.png", "不良_7.png"])
def test_photos_that_are_named_as_defective_ones_are_said(name: str, tmp_path: Path) -> None:
    good = tmp_path / "train/good"
    for other in ("OK_1.png", "no_defect_2.png", "bookend_3.png"):
        touch(good / other)
    assert name_note(read_folder(tmp_path).train) == ""
    touch(good / name)
    assert name_note(read_folder(tmp_path).train).startswith(f"1 of 4 photos, among them train/good/{name}: named as")


def test_a_word_in_the_names_of_all_photos_tells_nothing(tmp_path: Path) -> None:
    for number in range(2):
        touch(tmp_path / f"KO-{number}.png")
    assert name_note(read_folder(tmp_path).train) == ""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.csv", "image,label\n000.png,ok\n001.png,nok\n"),
        ("001.json", '{"shapes": []}'),
        ("001.png.txt", "0 .5 .5 .1 .1\n"),
    ],
)
def test_text_that_may_call_photos_defective_is_said(name: str, text: str, tmp_path: Path) -> None:
    for number in range(2):
        touch(tmp_path / f"{number:03}.png")
    (tmp_path / "readme.txt").write_text("photos of line 3")
    (tmp_path / "000.json").write_text('{"exposure_us": 1200, "gain": 1.5, "camera": "left", "objective": 3}')
    (tmp_path / "000.txt").write_text("2026-11-27 14:03:02 1200 1.5")
    samples = read_folder(tmp_path).train
    assert text_note(samples, None) == ""
    (tmp_path / name).write_text(text)
    assert text_note(samples, None).startswith(f"{name}: text beside the photos that names them, and is not read")
    assert text_note(samples, str(tmp_path / name)) == ""


def test_a_folder_is_listed_without_a_look_at_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"{number}.png")
    stat, asked = Path.stat, list[Path]()

    def counted(path: Path, **options: bool) -> os.stat_result:
        asked.append(path)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", counted)
    assert len(read_folder(tmp_path).train) == 20
    assert [path for path in asked if path.suffix == ".png"] == []
