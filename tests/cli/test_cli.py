"""The command line: exit codes, formats, errors in one line, and nothing half-written."""

import csv
import errno
import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.cli.ladder import find_peaks
from blemish.errors import DataError
from blemish.evaluation.challenge.quick import MIN_DEFECTS
from blemish.inference.artifact import read_artifact, write_artifact
from blemish.inspection.rows import FIELDS
from conftest import TINY
from reference.command import run, sets

pytestmark = pytest.mark.usefixtures("undrawn")


def test_the_ladder_tries_defects_where_the_models_size_is_rounded_to_another_aspect(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.cli.ladder.MAX_PHOTO_S", 600.0)
    header, tensors = read_artifact(model_file)
    policy = header.policy.model_copy(update={"aspect": 0.9})  # of photos that are seen at 64 x 64
    write_artifact(tmp_path / "m.safetensors", header.model_copy(update={"policy": policy}), tensors)
    assert len(find_peaks(tmp_path / "m.safetensors", "cpu")) >= MIN_DEFECTS


def test_train_writes_one_file_and_says_what_it_did(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.cli.ladder.MAX_PHOTO_S", 600.0)  # a busy machine must not change what is said
    result = run("train", parts, "-o", tmp_path / "m.safetensors", "--detector", "conv_autoencoder", *sets(TINY))
    assert result.exit_code == 0
    assert "10 fitted, 2 held out" in result.stdout
    rates = "* 33.4 % is the smallest rate that the good images held out can promise (20 % with more of them held out: "
    assert f"{rates}score.max_false_alarm_rate=0.2)" in result.stdout
    ladder = [
        line.split() for line in result.stdout.splitlines() if line.strip().startswith(("1 %", "5 %", "* 33.4 %"))
    ]
    assert [line[-5] for line in ladder[:2]] == ["99", "19"]  # good images to hold out
    assert ladder[2][-1] == "%"  # the share of synthetic defects that is found
    assert {path.name for path in tmp_path.iterdir()} == {"parts", "m.safetensors"}
    again = run("train", parts, "-o", tmp_path / "m.safetensors", "--detector", "conv_autoencoder", *sets(TINY))
    assert again.stdout.partition("false-alarm rates")[2] == result.stdout.partition("false-alarm rates")[2] != ""


def test_settings_come_from_a_file_and_assignments_win(parts: Path, tmp_path: Path) -> None:
    toml = tmp_path / "run.toml"
    toml.write_text(
        'detector = "conv_autoencoder"\n[train]\nepochs = 1\n[data]\nsize_px = [64, 96]\n[model]\nlatent = 4\n'
    )
    model = tmp_path / "m.safetensors"
    assert run("train", parts, "-o", model, "--settings", toml, "--set", "data.size_px=[64, 64]").exit_code == 0
    header, _ = read_artifact(model)
    assert (header.run.train.epochs, header.policy.size_px, header.run.model["latent"]) == (1, (64, 64), 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.epoch=3"], "SettingsError: train.epoch: unknown setting; did you mean 'train.epochs'?"),
        (["--set", "side_px=300"], "SettingsError: side_px: unknown setting; did you mean 'data.side_px'?"),
        (["--set", "model.latnet=3"], "SettingsError: model.latnet: unknown setting; did you mean 'model.latent'?"),
        (["--set", "train.epochs=many"], "SettingsError: train.epochs:"),
        (["--set", "data.size_px=[100, 96]"], "nearest is 96 x 96"),
        (["--detector", "convautoencoder"], "did you mean 'conv_autoencoder'?"),
        (["--settings", "none.toml"], "SettingsError: none.toml: cannot read"),
        (["--device", "tpu"], "expected auto, cpu, cuda, mps or openvino"),
    ],
)
def test_bad_settings_are_one_line_and_exit_code_2(
    shared_parts: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    model = tmp_path / "m.safetensors"
    result = run("train", shared_parts, "-o", model, "--detector", "conv_autoencoder", *sets(TINY), *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_inspect_exit_codes(model_file: Path, shared_parts: Path) -> None:
    photo = shared_parts / "test/good/000.png"
    assert run("inspect", model_file, photo, "--threshold", "99").exit_code == 0
    assert run("inspect", model_file, photo, "--threshold", "0").exit_code == 1
    assert run("inspect", model_file, shared_parts / "none.png").exit_code == 2
    assert run("inspect", model_file, photo, "--threshold", "1", "--max-false-alarm-rate", "0.5").exit_code == 2
    assert run("inspect", model_file, photo, "--max-false-alarm-rate", "0.001").exit_code == 2


def test_inspect_json_and_csv_say_the_same(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    folder = shared_parts / "test"
    objects = json.loads(run("inspect", model_file, folder, "--format", "json", "-o", tmp_path).stdout)
    lines = list(csv.DictReader(io.StringIO(run("inspect", model_file, folder, "--format", "csv").stdout)))
    assert len(objects) == len(lines) == 8
    for row, line in zip(objects, lines, strict=True):
        assert set(row) == set(line) == set(FIELDS)
        assert json.loads(line["regions"]) == row["regions"]
        assert (row["path"], row["score"]) == (line["path"], float(line["score"]))
        assert line["is_anomalous"] == str(row["is_anomalous"]).lower()
    assert json.loads((tmp_path / "inspect.json").read_text()) == objects


def test_inspect_writes_pictures_at_the_images_own_size(model_file: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("1.png", "a/1.png", "1.jpg", "../more/1.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)).save(photos / name)
    result = run("inspect", model_file, photos, tmp_path / "more", "-o", tmp_path / "out", "--threshold", "0.1")
    assert result.exit_code == 1
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")}
    wanted = {"1.png", "a/1.png", "1.jpg.png", "1-2.png"}
    assert names == {f"{folder}/{name}" for folder in ("overlays", "masks") for name in wanted}
    with Image.open(tmp_path / "out/masks/a/1.png") as mask, Image.open(tmp_path / "out/overlays/1.png") as overlay:
        assert mask.size == overlay.size == (80, 50)
        assert set(np.unique(np.asarray(mask))) <= {0, 255}
    assert len(json.loads((tmp_path / "out/inspect.json").read_text())) == 4


def test_inspect_stops_at_a_bad_image_or_skips_it(model_file: Path, parts: Path) -> None:
    (parts / "test/good/001.png").write_bytes(b"junk")
    result = run("inspect", model_file, parts / "test/good")
    assert result.exit_code == 2
    assert "001.png: not an image" in result.stderr
    result = run("inspect", model_file, parts / "test/good", "--skip-bad", "--format", "json", "--threshold", "99")
    assert result.exit_code == 3
    assert [row["verdict"] for row in json.loads(result.stdout)].count("good") == 3
    assert "skipped: " in result.stderr


def test_a_file_that_is_no_model_is_one_line(shared_parts: Path) -> None:
    photo = shared_parts / "test/good/000.png"
    result = run("inspect", photo, photo)
    assert result.exit_code == 2
    assert result.stderr.startswith("ArtifactError: ")


def test_a_folder_is_no_model(model_file: Path, shared_parts: Path) -> None:
    result = run("inspect", model_file.parent, shared_parts / "test/good")
    assert result.exit_code == 2
    assert "a folder, where a model file belongs; the model comes first, then the images" in result.stderr


def test_grey_images_on_a_colour_model_are_noted(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    colour = shared_parts / "test/good/000.png"
    with Image.open(colour) as image:
        for name in ("grey.png", "grey too.png"):
            image.convert("L").save(tmp_path / name)
    grey = tmp_path / "grey.png"
    assert "note: the photo is grey, and the model was trained on colour" in run("inspect", model_file, grey).stderr
    assert "note: all these photos are grey" in run("inspect", model_file, tmp_path).stderr
    assert f"note: 1 of 2 photos is grey ({grey})" in run("inspect", model_file, grey, colour).stderr
    assert "note:" not in run("inspect", model_file, colour).stderr


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_few_bits_in_sixteen_are_said_by_inspect_and_evaluate(
    model_file: Path, shared_parts: Path, tmp_path: Path, bits: int
) -> None:
    with Image.open(shared_parts / "test/good/000.png") as image:
        deep = np.asarray(image.convert("L")).astype(np.uint16) * (1 << (bits - 8))
    (tmp_path / "good").mkdir()
    Image.fromarray(deep).save(tmp_path / "good/0.png")
    note = f"note: the brightest value in the 16-bit photos is {deep.max()} of 65535: {bits} bits in 16?"
    assert note in " ".join(run("inspect", model_file, tmp_path / "good").stderr.split())
    evaluated = run("evaluate", model_file, tmp_path / "good", "-o", tmp_path / "out")
    assert note in " ".join(evaluated.stderr.split())


@pytest.mark.slow
def test_evaluate_says_what_is_read_but_perhaps_not_as_meant(model_file: Path, parts: Path, tmp_path: Path) -> None:
    photo = parts / "test/bar/000.png"
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(photo) as image:
        image.save(photo, exif=exif)
    said = " ".join(run("evaluate", model_file, parts, "-o", tmp_path / "out").stderr.split())
    assert "note: 1 photo with masks, among them test/bar/000.png, is turned" in said


def test_synth_refuses_a_folder_that_is_not_empty(parts: Path) -> None:
    result = run("data", "synth", "hazelnuts", parts, "--good", "1", "--defects", "1", "--size", "64")
    assert result.exit_code == 2
    assert "DataError" in result.stderr


def test_version_and_detectors_are_told() -> None:
    assert re.fullmatch(r"\d+\.\d+[.\w+]*", run("--version").stdout.strip())
    listed = run("detectors").stdout
    assert "ae_ssim" in listed
    assert re.match(r"feature_ensemble +The default\.", listed.splitlines()[1])


@pytest.mark.parametrize("group", [(), *((name,) for name in ("data", "encoders", "fleet", "station", "sweep"))])
def test_a_list_of_commands_says_each_in_whole_sentences_on_80_columns(group: tuple[str, ...]) -> None:
    listed = run(*group, "--help").output.split("Commands:")[1].splitlines()[1:]
    assert len(listed) > 1
    assert not [line for line in listed if line.endswith("...") or not line.endswith(".")]


def test_a_seed_is_an_option_of_train(shared_parts: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    assert (
        run("train", shared_parts, "-o", model, "--detector", "conv_autoencoder", "--seed", 7, *sets(TINY)).exit_code
        == 0
    )
    assert read_artifact(model)[0].run.seed == 7


def test_a_batch_is_judged_as_one(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    """Two calibration images: no p-value below 1/3, so at 0.4 seven of the eight must stand out."""
    folder = shared_parts / "test"
    result = run("inspect", model_file, folder, "--fdr", "0.4", "--format", "json")
    rows = json.loads(result.stdout)
    assert "7 of this batch must stand out" in result.stderr
    selected = [row["is_anomalous"] for row in rows]
    assert selected == [row["score"] > row["threshold"] for row in rows]
    assert sum(row["p_value"] <= 0.34 for row in rows) < 7
    assert not any(selected)
    assert result.exit_code == 0
    loose = json.loads(run("inspect", model_file, folder, "--fdr", "0.99", "--format", "json", "-o", tmp_path).stdout)
    assert [row["is_anomalous"] for row in loose] == [row["p_value"] <= max(_selected(loose)) for row in loose]
    assert json.loads((tmp_path / "inspect.json").read_text()) == loose
    for row in loose:
        name = Path(str(row["path"])).relative_to(folder).as_posix()
        with Image.open(tmp_path / "masks" / name) as mask:
            assert (np.asarray(mask) > 0).any() == row["is_anomalous"]


def _selected(rows: list[dict[str, float]]) -> list[float]:
    """Benjamini and Hochberg's step at 0.99, written out."""
    ordered = sorted(row["p_value"] for row in rows)
    return [p for place, p in enumerate(ordered, 1) if p <= 0.99 * place / len(ordered)] or [-1.0]


@pytest.mark.parametrize("rate", ["0", "1", "1.5", "-0.1"])
def test_a_rate_of_false_discoveries_must_lie_between_0_and_1(model_file: Path, shared_parts: Path, rate: str) -> None:
    result = run("inspect", model_file, shared_parts / "test", "--fdr", rate)
    assert result.exit_code == 2
    assert "SettingsError: --fdr" in result.stderr


def test_a_batch_that_cannot_be_judged_is_refused(model_file: Path, shared_parts: Path) -> None:
    result = run("inspect", model_file, shared_parts / "test", "--fdr", "0.1")
    assert result.exit_code == 2
    assert "no p-value is smaller than 0.333" in result.stderr
    assert run("inspect", model_file, shared_parts, "--fdr", "0.5", "--threshold", "1").exit_code == 2


def test_a_pipe_is_not_replaced_by_a_model(parts: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    result = run("train", parts, "-o", pipe, "--detector", "conv_autoencoder", *sets(TINY))
    assert result.exit_code == 2
    assert "a device or a pipe" in result.stderr
    assert pipe.is_fifo()


def test_a_file_name_that_is_not_utf_8_is_refused(parts: Path, tmp_path: Path) -> None:
    source = parts / "train/good/000.png"
    Path(os.fsdecode(os.fsencode(parts / "train/good") + b"/bad\xff.png")).write_bytes(source.read_bytes())
    result = run("train", parts, "-o", tmp_path / "m", "--detector", "conv_autoencoder", *sets(TINY))
    assert result.exit_code == 2
    assert "not UTF-8; rename it" in result.stderr


def test_brackets_in_file_names_are_shown(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    photo = tmp_path / "[red]x.png"
    photo.write_bytes((shared_parts / "test/good/000.png").read_bytes())
    assert "[red]x.png" in run("inspect", model_file, photo).stdout


def test_a_full_disk_is_said(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    header, tensors = read_artifact(model_file)
    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(DataError, match=r"m\.safetensors: cannot be written: no space left on the disk"):
        write_artifact(tmp_path / "m.safetensors", header, tensors)
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_not_read_are_named(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    shutil.copy(shared_parts / "test/good/000.png", tmp_path / "a.png")
    (tmp_path / "b.gif").write_bytes(b"GIF89a")
    (tmp_path / "more").mkdir()
    (tmp_path / "c").symlink_to(tmp_path / "more")
    result = run("inspect", str(model_file), str(tmp_path))
    assert "note: 2 images not read" in result.stderr
    assert "b.gif" in result.stderr
    assert f"{tmp_path / 'c'}" in result.stderr
    (tmp_path / "d.png").symlink_to("nowhere.png")
    result = run("inspect", str(model_file), str(tmp_path))
    assert result.exit_code == 2
    assert "d.png: no such file" in result.stderr
