"""What is told for each condition, and what a file of conditions may hold."""

from functools import partial
from pathlib import Path

import pytest

from blemish.errors import DataError
from blemish.evaluation.by_condition import measure_conditions, read_conditions
from blemish.evaluation.false_alarms import Promise, realised_rate
from blemish.evaluation.judged import JudgedImage

NAMES = ["test/good/0.png", "test/good/1.png", "test/cut/0.png", "test/cut/1.png"]


def judged(name: str, score: float) -> JudgedImage:
    label = "good" not in name
    return JudgedImage(name, "cut" if label else "good", label, False, score, 0.5, is_anomalous=score > 0.5)


def test_a_name_with_accents_is_the_one_that_looks_the_same(tmp_path: Path) -> None:
    (file := tmp_path / "c.csv").write_text("image,light\npru\u0308f.png,dim\n", encoding="utf-8")
    assert read_conditions(file, ["pr\u00fcf.png"]) == {"light": {"pr\u00fcf.png": "dim"}}


def test_each_value_has_its_own_figures(tmp_path: Path) -> None:
    file = tmp_path / "conditions.csv"
    file.write_text(
        "image,light,day\ntest/good/0.png,dim,1\ntest/good/1.png,bright,1\ntest/cut/0.png,dim,1\ntest/cut/1.png,bright,2\n"
    )
    conditions = read_conditions(file, NAMES)
    images = [judged(name, score) for name, score in zip(NAMES, (0.9, 0.1, 0.6, 0.7), strict=True)]
    found = measure_conditions(images, conditions, partial(realised_rate, promise=Promise(0.05), confidence=0.95), 0.95)
    assert list(found) == ["light", "day"]
    bright, dim = found["light"]
    assert (dim.value, dim.false_alarms.flagged, dim.false_alarms.good_images, dim.found) == ("dim", 1, 1, 1)
    assert (bright.false_alarms.rate, bright.found, bright.auroc) == (0.0, 1, 1.0)
    assert dim.auroc == 0.0
    assert dim.relative_drop == 1.0
    assert bright.relative_drop == -1.0  # all images: two of four pairs in the right order
    assert dim.false_alarms.promised == 0.05
    assert dim.false_alarms.interval is not None
    second = found["day"][1]
    assert (second.false_alarms.good_images, second.false_alarms.rate, second.auroc) == (0, None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,light\n", "found the columns picture, light; expected image and one or more conditions"),
        ("image\n", "found the columns image; expected"),
        ("image,light,light\n", "the column 'light' is there twice"),
        ("image,light\na,1\na,2\n", "line 3: a is named twice"),
        ("image,light\na,1\nb,1\nc,1\n", "there is no test image c; images are named like a"),
        ("image,light\na,1\n", "says nothing of b"),
        ("image,light\na,1\nb,\n", "an empty cell for b"),
        ("image,light\na,1\nb\n", "an empty cell for b"),
        ('image,light\na,"1\n', "not a CSV file"),
    ],
)
def test_a_file_that_says_too_little_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "conditions.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_conditions(file, ["a", "b"])
    assert str(file) in str(caught.value)


def test_a_number_for_each_image_is_no_condition(tmp_path: Path) -> None:
    file, names = tmp_path / "conditions.csv", [f"{i}.png" for i in range(201)]
    file.write_text("image,seconds\n" + "".join(f"{name},{i}\n" for i, name in enumerate(names)))
    with pytest.raises(DataError, match="seconds has 201 values; 200 at most"):
        read_conditions(file, names)
