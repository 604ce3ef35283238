"""Groups stay together: in the names, in the file, in the split."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from blemish.data.folder import Sample
from blemish.data.groups import read_groups
from blemish.data.split import split_folds, split_good
from blemish.errors import CalibrationError, DataError, SettingsError
from blemish.inference.artifact import read_artifact
from blemish.inspection.certify import CertifyRequest, certify_model
from blemish.stats.conformal import worst_of_groups
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY, write_parts

NAMES = ["train/good/a1.png", "train/good/a2.png", "train/good/b1.png"]
ROWS = "image,group\ntrain/good/a1.png,{}\ntrain/good/a2.png,{}\ntrain/good/b1.png,{}\n"


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def samples(count: int) -> list[Sample]:
    return [Sample(Path(f"{place:03}.png"), f"{place:03}.png") for place in range(count)]


def test_a_file_and_a_pattern_say_the_same(tmp_path: Path) -> None:
    rows = "group,note,image\n" + "".join(f"{name[11]},x,{name}\n" for name in reversed(NAMES))
    assert read_groups(write(tmp_path / "g.csv", rows), NAMES) == read_groups(r"good/(\w)\d", NAMES) == ("a", "a", "b")
    padded = rows.replace(",image", ", image ") + ",,\n"  # as a spreadsheet may leave it
    assert read_groups(write(tmp_path / "g.csv", padded), NAMES) == ("a", "a", "b")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "image,group\nodd.png,1\n",
            r"g\.csv, line 2: there is no image odd\.png; images are named like train/good/a1",
        ),
        ("image,group\ntrain/good/a1.png,1\n", r"says nothing of train/good/a2\.png and 1 more; every good image"),
        ("image,group\ntrain/good/a1.png,1\ntrain/good/a1.png,2\n", r"line 3: train/good/a1\.png is named twice"),
        ("image,group\ntrain/good/a1.png,\n", r"line 2: train/good/a1\.png has no group"),
        ("image,group\ntrain/good/a1.png\n", r"line 2: train/good/a1\.png has no group"),
        ("name,part\nx,1\n", "found the columns name, part; expected image and group"),
        ("", "found the columns none; expected image and group"),
        ("image;group\nx;1\n", r"g\.csv, line 2: there is no image x"),
        (ROWS.format("7", "7.0", "8"), r"g\.csv: '7' and '7\.0' would be two groups; write them alike"),
        (ROWS.format("lot a", "8", "Lot  A"), "'lot a' and 'Lot  A' would be two groups"),
        (ROWS.format("Gr\u00fcn", "Gru\u0308n", "8"), "would be two groups"),
        ('image,group\n"a"b,1\n', "not a CSV file"),
        ("image,group\ntrain/good/a1.png,lot 3, line 2\n", r"line 2: 3 cells, where the header has 2; put text with"),
        ("image,group,group\ntrain/good/a1.png,1,2\n", "the column 'group' is there twice"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_groups(write(tmp_path / "g.csv", rows), NAMES)


@pytest.mark.parametrize("sign", [";", "\t"])
def test_spreadsheets_of_many_countries_write_another_sign_for_the_comma(sign: str, tmp_path: Path) -> None:
    rows = "\ufeffimage,group\r\n" + "".join(f"{name},lot {n}\r\n" for n, name in enumerate(NAMES))
    assert read_groups(write(tmp_path / "g.csv", rows.replace(",", sign)), NAMES) == ("lot 0", "lot 1", "lot 2")


def test_a_file_may_name_other_images_of_the_folder(tmp_path: Path) -> None:
    rows = "image,group\n" + "".join(f"{name},1\n" for name in [*NAMES, "test/good/9.png"])
    assert read_groups(write(tmp_path / "g.csv", rows), NAMES, ["test/good/9.png"]) == ("1", "1", "1")


def test_names_with_accents_are_those_that_look_the_same(tmp_path: Path) -> None:
    names = ["pr\u00fcf_1.png", "pru\u0308f_2.png"]
    rows = write(tmp_path / "g.csv", "image,group\npru\u0308f_1.png,1\npr\u00fcf_2.png,2\n")
    assert read_groups(rows, names) == read_groups("pru\u0308f_(.)", names) == ("1", "2")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: cannot read the groups: No such file"):
        read_groups(str(tmp_path / "none.csv"), NAMES)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("part(", "no regular expression"), ("part", "has 0 groups in brackets"), ("(a)(b)", "has 2 groups in brackets")],
)
def test_a_pattern_that_does_not_fit_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_groups(pattern, NAMES)


@given(
    groups=st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=20).filter(lambda found: len(set(found)) > 2),
    fraction=st.floats(0.05, 0.5),
    folds=st.integers(2, 3),
    seed=st.integers(0, 9),
)
def test_no_group_is_ever_divided(groups: list[str], fraction: float, folds: int, seed: int) -> None:
    groups = groups * 2
    images, rng = samples(len(groups)), np.random.default_rng(seed)
    group_of = dict(zip(images, groups, strict=True))
    parts = [split_good(images, fraction, rng, groups), *split_folds(images, folds, rng, groups)]
    for fit, held_out in parts:
        assert sorted([*fit, *held_out], key=lambda sample: sample.name) == images
        assert not {group_of[sample] for sample in fit} & {group_of[sample] for sample in held_out}
    sizes = {len({group_of[sample] for sample in held_out}) for _, held_out in parts[1:]}
    assert len(sizes) == 1


def test_folds_are_disjoint_and_of_one_size() -> None:
    parts = split_folds(samples(14), 4, np.random.default_rng(0))
    left_out = [sample for _, held_out in parts for sample in held_out]
    assert [len(held_out) for _, held_out in parts] == [3, 3, 3, 3]
    assert len(set(left_out)) == 12


def test_too_few_are_said() -> None:
    with pytest.raises(DataError, match="9 folds of 8 good images; take 8 folds at the most"):
        split_folds(samples(8), 9, np.random.default_rng(0))
    with pytest.raises(DataError, match="3 folds of 2 groups of good images"):
        split_folds(samples(8), 3, np.random.default_rng(0), "aaaabbbb")
    with pytest.raises(DataError, match="all 4 good images are in group 'a'; at least 2 groups are needed"):
        split_good(samples(4), 0.2, np.random.default_rng(0), "aaaa")
    with pytest.raises(DataError, match="only 1 of 5 good images are left to fit"):
        split_folds(samples(5), 2, np.random.default_rng(0), "abbbb")


def test_training_by_group_promises_for_groups(parts: Path, tmp_path: Path) -> None:
    """Twelve photos of six parts: two parts are held out, and each counts with its higher score."""
    for path in sorted((parts / "train/good").glob("*.png")):
        path.rename(path.with_name(f"part{int(path.stem) // 2}_{int(path.stem) % 2}.png"))
    wanted = [*TINY, r"data.groups=part(\d+)_", "data.calibration_fraction=0.34"]
    header = train_model(parts, tmp_path / "m", make_settings("conv_autoencoder", assignments=wanted))
    assert (header.data_card.calibration_images, len(header.calibration_scores)) == (4, 2)
    assert header.certificate.promise == (
        "On average at most 33.4 % of new groups of good images have an image flagged (from 4 good images in 2 groups)."
    )
    assert header.threshold == max(header.calibration_scores)
    assert header.p_value(header.threshold * 2) == pytest.approx(1 / 3)
    assert {len(values) for values in header.calibration.photo_values.values()} == {6}
    assert read_artifact(tmp_path / "m")[0] == header
    known = {*header.calibration.group_names, *header.data_card.fit_groups}
    assert (len(header.calibration.group_names), known) == (2, set("012345"))
    for group, part, added in (
        (header.data_card.fit_groups[0], "fitted", False),
        (*header.calibration.group_names[:1], "calibrated", True),
    ):
        new = tmp_path / part
        write_parts(new, good=3, test=0, seed=5)
        for place, path in enumerate(sorted((new / "train/good").iterdir())):
            path.rename(path.with_name(f"part{f'0{group}' if place == 2 else 90 + place}_9.png"))
        with pytest.raises(
            DataError, match=f"the model was {part} on other images of its group 0{group}; groups must be new"
        ):
            certify_model(tmp_path / "m", CertifyRequest(0.6, good=new / "train/good", add=added))
    with pytest.raises(CalibrationError, match=r"needs 9 groups of good images .* of the \d+ here, .*, to 26 in all"):
        train_model(
            parts,
            tmp_path / "n",
            make_settings("conv_autoencoder", assignments=[*wanted, "score.max_false_alarm_rate=0.1"]),
        )


@pytest.mark.slow
def test_other_groups_are_another_run(parts: Path, tmp_path: Path) -> None:
    """A finished model is kept on --resume only while the file says the same."""
    names = [f"train/good/{place:03}.png" for place in range(12)]
    table, model = tmp_path / "groups.csv", tmp_path / "m"
    wanted = make_settings("conv_autoencoder", assignments=[*TINY, f"data.groups={table}"])
    written = []
    for size in (2, 2, 3):
        rows = "".join(f"{name},{place // size}\n" for place, name in enumerate(names))
        write(table, f"image,group\n{rows}")
        header = train_model(parts, model, wanted, resume=True)
        written.append((header.data_card.calibration_images, model.stat().st_mtime_ns))
    assert written[0] == written[1] != written[2]
    assert header.calibration.group_pattern is None


def test_a_held_out_image_that_looks_defective_is_named(parts: Path, tmp_path: Path) -> None:
    for path in sorted((parts / "train/good").glob("*.png"))[::5]:
        with Image.open(path) as picture:
            picture.paste((255, 0, 255), (20, 20, 44, 44))
            picture.save(path)
    wanted = make_settings("conv_autoencoder", assignments=[*TINY, "data.calibration_fraction=0.8"])
    notes = train_model(parts, tmp_path / "m", wanted).data_card.notes
    few, *notes = notes
    assert "12 good images are few" in few
    assert notes
    assert all("scores as a defective image would (p = " in note for note in notes)
    assert {note[:18] for note in notes} <= {f"train/good/{place:03}.png" for place in (0, 5, 10)}


def test_one_group_of_many_images_counts_once() -> None:
    assert worst_of_groups([1, 5, 2], ["a", "a", "a"]).tolist() == [5.0]
