"""Synthetic data sets: repeatable to the byte, exact in their masks, and never half-written."""

import errno
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import read_folder
from blemish.data.outputs import new_folder
from blemish.data.synthetic.dataset import KINDS, draw_hazelnut, write_hazelnuts
from blemish.data.synthetic.hazelnut import (
    OVERSAMPLING,
    Hazelnut,
    draw_solid,
    hazelnut,
    lit,
    photograph,
    squared_height,
)
from blemish.data.synthetic.hazelnut_defects import HAZELNUT_DEFECTS
from blemish.data.synthetic.texture import shrink
from blemish.errors import DataError, SettingsError


def rng(*key: int) -> np.random.Generator:
    return np.random.default_rng(key)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "small"
    write_hazelnuts(out, good=2, defects=1, size_px=64, test_good=1)
    return out


def test_layout_is_what_the_folder_reader_expects(small: Path) -> None:
    folder = read_folder(small)
    assert [sample.name for sample in folder.train] == ["train/good/000.png", "train/good/001.png"]
    assert sorted(sample.defect_type for sample in folder.test) == ["crack", "cut", "good", "hole", "print"]
    for sample in folder.test:
        assert bool(sample.mask_paths) == sample.label
        with Image.open(sample.path) as image:
            assert (image.mode, image.size) == ("RGB", (64, 64))


def test_masks_are_0_and_255(small: Path) -> None:
    paths = sorted(small.glob("ground_truth/*/*_mask.png"))
    assert [path.parent.name for path in paths] == sorted(HAZELNUT_DEFECTS)
    for path in paths:
        with Image.open(path) as mask:
            assert (mask.mode, mask.size) == ("L", (64, 64))
            assert np.unique(np.asarray(mask)).tolist() == [0, 255]


def test_same_seed_same_bytes(small: Path, tmp_path: Path) -> None:
    write_hazelnuts(tmp_path / "again", good=2, defects=1, size_px=64, test_good=1)
    assert contents(tmp_path / "again") == contents(small)


def test_another_seed_shares_no_image(small: Path, tmp_path: Path) -> None:
    write_hazelnuts(tmp_path / "other", good=2, defects=1, size_px=64, seed=1, test_good=1)
    other = contents(tmp_path / "other")
    assert other.keys() == contents(small).keys()
    assert not set(other.values()) & set(contents(small).values())


def test_asking_for_more_keeps_the_earlier_images(small: Path, tmp_path: Path) -> None:
    counts = write_hazelnuts(tmp_path / "more", good=3, defects=2, size_px=64, test_good=2)
    assert counts == dict(zip(KINDS, (3, 2, 2, 2, 2, 2), strict=True))
    more = contents(tmp_path / "more")
    assert len(more) == 3 + 2 + 2 * 4 * 2
    assert contents(small).items() <= more.items()


def test_no_two_images_are_alike() -> None:
    images = {draw_hazelnut(kind, index, 64, 0)[0].tobytes() for kind in KINDS for index in (0, 1)}
    assert len(images) == 2 * len(KINDS)


@pytest.mark.parametrize("defect_type", HAZELNUT_DEFECTS)
@pytest.mark.parametrize("seed", range(6))
def test_mask_is_exactly_where_the_image_left_its_twin(defect_type: str, seed: int) -> None:
    nut = hazelnut(rng(seed), 64)
    twin = photograph(nut)
    image, mask = HAZELNUT_DEFECTS[defect_type](nut, rng(seed, 1))
    assert np.array_equal(mask, (image != twin).any(axis=-1))
    changes = np.abs(image.astype(int) - twin).max(axis=-1)[mask]
    assert len(changes) >= 4
    assert np.median(changes) >= 8  # of 255: visible, not only different


@pytest.mark.parametrize("defect_type", HAZELNUT_DEFECTS)
def test_defects_stay_on_the_nut(defect_type: str) -> None:
    for seed in range(6):
        nut = hazelnut(rng(seed), 64)
        _, mask = HAZELNUT_DEFECTS[defect_type](nut, rng(seed, 2))
        (row, column), cover = nut.corner_px, shrink(nut.cover, OVERSAMPLING)
        rows, columns = np.nonzero(mask)
        assert (cover[rows - row, columns - column] > 0.5).all()


def test_drawing_a_defect_leaves_the_nut_as_it_was() -> None:
    nut = hazelnut(rng(0), 64)
    before = photograph(nut)
    for draw in HAZELNUT_DEFECTS.values():
        draw(nut, rng(1))
    assert np.array_equal(photograph(nut), before)


def test_fields_stay_in_single_precision() -> None:
    nut = hazelnut(rng(0), 64)
    arrays = {field.name: getattr(nut, field.name) for field in fields(Hazelnut)}
    found = {name: array.dtype.name for name, array in arrays.items() if isinstance(array, np.ndarray)}
    assert len(found) == 9
    assert set(found.values()) == {"float32"}


def test_no_nut_leaves_its_picture() -> None:
    edge = np.linspace(-1.22, 1.22, 61, dtype=np.float32)
    x = np.concatenate([edge, edge, np.full(61, -1.22, np.float32), np.full(61, 1.22, np.float32)])
    y = np.concatenate([x[122:], x[:122]])
    assert all(squared_height(draw_solid(rng(seed)), x, y)[0].max() < 0 for seed in range(400))


def test_the_side_towards_the_lamp_is_brighter() -> None:
    for seed in range(8):
        nut = hazelnut(rng(seed), 64)
        brightness = lit(replace(nut, albedo=np.ones_like(nut.albedo))).mean(axis=0)
        towards = nut.place[0] * nut.light.key[0] + nut.place[1] * nut.light.key[1]
        near, far = (nut.cover == 1) & (towards > 0.15), (nut.cover == 1) & (towards < -0.15)
        assert brightness[near].mean() > 1.1 * brightness[far].mean()


def test_progress_counts_up_to_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_hazelnuts(tmp_path / "nuts", good=1, defects=1, size_px=64, test_good=0, on_image=lambda *s: seen.append(s))
    assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_quarter_but_at_least_ten_good_images_to_test_on(tmp_path: Path) -> None:
    assert write_hazelnuts(tmp_path / "nuts", good=1, defects=0, size_px=64)["test/good"] == 10


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    write_hazelnuts(tmp_path / "made" / "deep", good=1, defects=0, size_px=64, test_good=0)
    (tmp_path / "empty").mkdir()
    write_hazelnuts(tmp_path / "empty", good=1, defects=0, size_px=64, test_good=0)
    assert contents(tmp_path / "empty") == contents(tmp_path / "made" / "deep")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "made"]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError, match="found a folder with something in it; name a new folder"):
        write_hazelnuts(tmp_path, good=1, size_px=64)
    with pytest.raises(DataError, match=r"mine.txt: found a file; name a new folder"):
        write_hazelnuts(tmp_path / "mine.txt", good=1, size_px=64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"/file: cannot be made a folder: a file stands where a folder is needed$"):
        write_hazelnuts(tmp_path / "file" / "nuts", good=1, size_px=64)


def test_a_full_disk_is_said_as_everywhere(tmp_path: Path) -> None:
    def refuse(_done: int, _total: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"nuts: cannot be written: no space left on the disk; free some$"):
        write_hazelnuts(tmp_path / "nuts", good=1, size_px=64, on_image=refuse)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_an_interrupted_run(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_hazelnuts(tmp_path / "nuts", good=3, size_px=64, on_image=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "value", "wanted"),
    [
        ("good", 0, "1 to 1000000"),
        ("good", 10**12, "1 to 1000000"),
        ("defects", -1, "0 to 1000000"),
        ("test_good", -1, "0 to 1000000"),
        ("size_px", 63, "64 to 1024"),
        ("size_px", 1025, "64 to 1024"),
        ("seed", -1, "at least 0"),
    ],
)
def test_numbers_out_of_range_are_named(tmp_path: Path, setting: str, value: int, wanted: str) -> None:
    with pytest.raises(SettingsError, match=f"{setting}: found {value}; give a whole number, {wanted}"):
        write_hazelnuts(tmp_path / "nuts", **{setting: value})
    assert not (tmp_path / "nuts").exists()


def test_a_folder_that_another_process_has_filled_meanwhile_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first/a.txt").write_text("first")
    filling = ExitStack()
    (filling.enter_context(new_folder(tmp_path / "out")) / "a.txt").write_text("second")
    (tmp_path / "first").rename(tmp_path / "out")
    with pytest.raises(DataError, match="found a folder with something in it; name a new folder"):
        filling.close()
    assert (tmp_path / "out/a.txt").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
