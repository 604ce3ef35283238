"""What commands say beside their results: of a threshold that can hardly be meant, and of files that were left out."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.cli.inspect import MANY
from blemish.cli.options import threshold_note
from blemish.errors import DataError
from blemish.inference.predictor import Predictor
from blemish.inspection.monitor import monitor_images
from conftest import write_photos
from reference.command import run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 2)


@pytest.mark.parametrize("command", ["inspect", "watch", "evaluate"])
def test_a_threshold_that_no_score_comes_near_is_noted_by_every_command_that_takes_one(
    command: str, onnx_file: Path, tmp_path: Path
) -> None:
    out = ["-o", tmp_path / "report"] if command == "evaluate" else []
    arguments = [command, onnx_file, tmp_path / "not there", *out]  # which is found out afterwards
    above, below = (run(*arguments, "--threshold", threshold) for threshold in ("1e9", "0"))
    assert above.exit_code == below.exit_code == 2
    assert "note: --threshold 1e+09: above all" in above.stderr
    assert "hardly any image can be flagged" in above.stderr
    assert "note: --threshold 0: below all" in below.stderr
    assert "nearly every image would be flagged" in below.stderr


def test_a_threshold_among_the_scores_is_not_spoken_of(onnx_file: Path) -> None:
    scores = Predictor.load(onnx_file).header.calibration_scores
    assert [threshold_note(threshold, scores) for threshold in (min(scores), max(scores))] == ["", ""]
    assert "only what scores higher still is flagged" in threshold_note(1.1 * max(scores), scores)


@pytest.mark.parametrize("form", ["table", "json"])
def test_images_that_cannot_be_read_are_counted_among_all_that_were_given(
    form: str, onnx_file: Path, photos: Path
) -> None:
    (photos / "bad.png").write_bytes(b"no image")
    said = run("inspect", onnx_file, photos, "--skip-bad", "--threshold", "1e9", "--format", form)
    assert said.exit_code == 3
    summary = "of 3 images, 1 could not be read"
    assert (summary in said.stdout, f"skipped: {summary}" in said.stderr) == (form == "table", form == "json")


def test_of_one_image_nothing_is_said_in_the_plural(onnx_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^the only image cannot be read: .*bad\.png"):
        monitor_images(
            Predictor.load(onnx_file), [bad], tmp_path / "state.json", np.random.default_rng(0), skip_bad=True
        )


def test_a_watch_counts_the_images_of_its_folder(onnx_file: Path, photos: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    monitor_images(
        Predictor.load(onnx_file),
        photos,
        tmp_path / "state.json",
        np.random.default_rng(0),
        on_image=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("command", ["train", "inspect", "evaluate", "certify", "monitor"])
def test_an_image_that_cannot_be_read_is_named_with_what_leaves_it_out(
    command: str, onnx_file: Path, parts: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(onnx_file, tmp_path / "m.onnx"))
    good = parts / ("train/good" if command == "train" else "test/good")
    (good / "000.png").write_bytes(b"no image")
    arguments: dict[str, list[object]] = {
        "train": [parts, "-o", tmp_path / "m.safetensors"],
        "inspect": [model, good],
        "evaluate": [model, parts, "-o", tmp_path / "out"],
        "certify": [model, "--good", good],
        "monitor": [model, good],
    }
    said = run(command, *arguments[command])
    assert (said.exit_code, "000.png: not an image" in said.stderr) == (2, True)
    assert said.stderr.rstrip().endswith("; --skip-bad leaves such files out")


def test_a_data_sets_masks_are_not_judged_and_said_to_be_left_out(
    onnx_file: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "set/test/hole")
    shutil.copytree(photos, tmp_path / "set/ground_truth/hole")
    said = run("inspect", onnx_file, tmp_path / "set", "--format", "csv")
    assert [line.split(",")[0] for line in said.stdout.splitlines()[1:]] == [
        str(tmp_path / f"set/test/hole/{place}.png") for place in range(2)
    ]
    assert "note: 2 images among a data set's masks left out" in said.stderr


def test_an_image_that_is_given_again_is_judged_once_which_is_said(onnx_file: Path, photos: Path) -> None:
    again = photos.parent / "other" / ".." / photos.name
    (photos.parent / "other").mkdir()
    said = run("inspect", onnx_file, photos / "1.png", photos, again, photos / "1.png", "--format", "csv")
    rows = [line.split(",")[0] for line in said.stdout.splitlines()[1:]]
    assert rows == [str(photos / "1.png"), str(photos / "0.png")]
    assert "note: 4 images given more than once, each judged once" in said.stderr
    assert "given more than once" not in run("inspect", onnx_file, photos).stderr


def test_masks_that_were_judged_as_photos_are_said(onnx_file: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "Test")
    (tmp_path / "test").mkdir()  # no data set, and nothing of it is left out
    Image.new("1", (32, 32)).save(tmp_path / "Test/0_mask.png")
    said = run("inspect", onnx_file, tmp_path, "--skip-bad")
    assert "note: 1 image among the photos named like masks and taken for photos: " in said.stderr


@pytest.mark.parametrize("product", [(), ("--product", "nut")])
def test_masks_that_are_listed_as_photos_are_said_once(product: tuple[str, ...], photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "images/nut")
    Image.new("1", (32, 32)).save(tmp_path / "images/nut/0_mask.png")
    said = run("fleet", "manifest", tmp_path / "images", *product)
    assert said.stderr.count("named like masks and taken for photos") == 1


def test_a_data_sets_masks_are_not_watched(onnx_file: Path, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "set/test/good")
    shutil.copytree(photos, tmp_path / "set/ground_truth/hole")
    said = run("monitor", onnx_file, tmp_path / "set", "--state", tmp_path / "state.json")
    assert "in 1 image, 1 of them new" in said.stdout  # the model was fitted on the other
    assert "note: 2 images among a data set's masks left out" in said.stderr


def test_a_mask_whose_name_is_not_utf8_stops_no_inspection_that_leaves_such_files_out(
    onnx_file: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "set/test/hole")
    shutil.copytree(photos, tmp_path / "set/ground_truth/hole")
    try:
        shutil.copy(photos / "0.png", tmp_path / "set/ground_truth/hole" / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this file system has no such names")
    said = run("inspect", onnx_file, tmp_path / "set", "--skip-bad", "--format", "csv")
    assert said.exit_code == 3
    assert "note: 2 images among a data set's masks left out" in said.stderr


def test_where_every_image_is_anomalous_what_else_may_be_the_cause_is_said(onnx_file: Path, tmp_path: Path) -> None:
    for seed in range(MANY):
        noise = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{seed}.png")
    words = "note: every image is anomalous; where some show good parts, they differ from those trained on"
    assert words in run("inspect", onnx_file, tmp_path).stderr
    assert words not in run("inspect", onnx_file, tmp_path, "--threshold", "0").stderr
    assert words not in run("inspect", onnx_file, tmp_path / "0.png").stderr
