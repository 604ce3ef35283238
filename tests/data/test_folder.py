"""Folders: what is read, how masks are paired, and what is refused."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from blemish.data.folder import Sample, read_folder
from blemish.errors import DataError


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
    masks, empty = read_folder(parts).layout_notes
    assert masks.startswith("ground_truth/cut: 1 mask, of no test image; the type is not tested")
    assert empty.startswith("test/dent: no images; the type is not tested")
