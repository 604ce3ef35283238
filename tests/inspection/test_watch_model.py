"""A watch whose model file changes, whose pictures are kept, and whose folder holds what cannot be judged."""

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.errors import DataError
from blemish.inference.predictor import Predictor
from blemish.inspection.arrivals import scan
from blemish.inspection.certify import CertifyRequest, certify_model
from blemish.inspection.decisions import Decision
from blemish.inspection.pipeline import AHEAD
from blemish.inspection.watch import Callbacks, WatchSettings, watch_folder
from conftest import photo, recorded
from reference.command import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def model(model_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(model_file, tmp_path / "m.safetensors"))


def records(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def watch(
    model: Path,
    folder: Path,
    *steps: Callable[[], object],
    load: Callable[[], Predictor] | None = None,
    **values: object,
) -> list[str]:
    """Watch, with one step after each look; what was said."""
    said: list[str] = []
    left = list(steps)

    def wait(seconds: float) -> bool:
        if seconds and left:
            left.pop(0)()
        return False

    found = {"poll_s": 0.001, "settle_s": 0.0, "patience_s": 0.0, "until_idle_s": 0.05} | values
    settings = WatchSettings(folder, folder.parent / "record.csv", **found)  # type: ignore[arg-type]
    callbacks = Callbacks(lambda _decision: None, said.append, wait, model=lambda _new, change: said.append(change))
    loading = (lambda: Predictor.load(model, device="cpu")) if load is None else load
    watch_folder(Predictor.load(model, device="cpu"), settings, callbacks, loading)
    assert not left, "the watch ended before its script"
    return said


def test_a_new_certificate_is_used_at_once_and_stands_in_the_record(model: Path, folder: Path) -> None:
    before = Predictor.load(model, device="cpu")
    photo(folder / "a.png")

    def certify() -> None:
        certify_model(model, CertifyRequest(max_false_alarm_rate=0.7))
        photo(folder / "b.png", seed=1)

    said = watch(model, folder, certify)
    after = Predictor.load(model, device="cpu")
    first, change, second = records(folder.parent / "record.csv")
    assert before.threshold != after.threshold
    assert (float(first["threshold"]), float(second["threshold"])) == (before.threshold, after.threshold)
    assert (change["verdict"], change["file"], change["model_sha256"]) == ("model", "", second["model_sha256"])
    assert second["model_sha256"] == hashlib.sha256(model.read_bytes()).hexdigest() != first["model_sha256"]
    assert f"calibrated again): threshold {before.threshold:.6g} -> {after.threshold:.6g}" in change["message"]
    assert said == [change["message"]]
    watch(model, folder)  # a record with such a line is gone on with
    assert len(records(folder.parent / "record.csv")) == 3


def test_a_new_certificate_is_used_also_where_nothing_is_doubtful_any_more_which_is_said(
    model: Path, folder: Path
) -> None:
    notes: list[str] = []
    steps = iter([lambda: certify_model(model, CertifyRequest(max_false_alarm_rate=0.7))])

    def wait(seconds: float) -> bool:
        for step in steps if seconds else ():
            step()
            photo(folder / "b.png", seed=1)
        return False

    photo(folder / "a.png")
    callbacks = Callbacks(lambda _decision: None, notes.append, wait, note=notes.append)
    asked = WatchSettings(
        folder, folder.parent / "r.csv", poll_s=0.001, settle_s=0.0, until_idle_s=0.05, doubt_rate=0.8
    )
    watch_folder(Predictor.load(model, device="cpu"), asked, callbacks, lambda: Predictor.load(model, device="cpu"))
    change = records(folder.parent / "r.csv")[1]
    assert (change["verdict"], float(change["threshold"])) == ("model", Predictor.load(model, device="cpu").threshold)
    assert any("found 0.8; nothing that passes at threshold" in note for note in notes)


def test_images_that_wait_are_judged_by_a_new_certificate_from_some_on(onnx_file: Path, folder: Path) -> None:
    model = Path(shutil.copy(onnx_file, folder.parent / "m.onnx"))
    for seed in range(12):
        photo(folder / f"{seed}.png", seed)
    told: list[str] = []

    def certify_meanwhile(decision: Decision) -> None:
        told.append(decision.image_path)
        if len(told) == 3:
            certify_model(model, CertifyRequest(max_false_alarm_rate=0.7))

    callbacks = Callbacks(certify_meanwhile, print, lambda _: False)
    wanted = WatchSettings(folder, folder.parent / "r.sqlite", settle_s=0.0, until_idle_s=0.0)
    watch_folder(Predictor.load(model, threads=2), wanted, callbacks, lambda: Predictor.load(model, threads=2))
    found = [(row["verdict"] == "model", row["threshold"]) for row in recorded(folder.parent / "r.sqlite")]
    change = found.index((True, found[-1][1]))
    assert (len(found), change) == (13, 2 * AHEAD)
    assert {threshold for _, threshold in found[:change]} == {Predictor.load(onnx_file).threshold}
    assert {threshold for _, threshold in found[change:]} == {Predictor.load(model).threshold}
    assert found[0][1] != found[-1][1]


def test_a_model_file_that_cannot_be_used_leaves_the_one_of_before(model: Path, folder: Path) -> None:
    photo(folder / "a.png")
    model_bytes = model.read_bytes()

    def damage() -> None:
        model.write_bytes(model_bytes[:5000])
        photo(folder / "b.png", seed=1)

    def refuse() -> Predictor:
        return Predictor.load(model, device="cpu", sha256="0" * 64)

    (said,) = watch(model, folder, damage)
    assert "the model file has changed, and the previous model goes on deciding" in said
    assert [row["file"] for row in records(folder.parent / "record.csv")] == ["a.png", "b.png"]
    model.write_bytes(model_bytes)

    def replace() -> None:
        certify_model(model, CertifyRequest(max_false_alarm_rate=0.7))
        photo(folder / "c.png", seed=2)

    (said,) = watch(model, folder, replace, load=refuse)
    assert "expected 0000" in said


def test_a_model_that_is_only_touched_is_the_same(model: Path, folder: Path) -> None:
    photo(folder / "a.png")

    def touch() -> None:
        os.utime(model)
        photo(folder / "b.png", seed=1)

    def fail() -> Predictor:
        raise AssertionError

    assert watch(model, folder, touch, load=fail) == []
    assert [row["file"] for row in records(folder.parent / "record.csv")] == ["a.png", "b.png"]


def test_pictures_and_regions_are_kept_of_each_image(model: Path, folder: Path, tmp_path: Path) -> None:
    content = photo(folder / "day/a.png").read_bytes()
    photo(folder / "b.png", seed=3)
    result = run(
        "watch", model, folder, "--out", tmp_path / "out", "--threshold", "0.1", "--settle", 0, "--until-idle", 0
    )
    assert result.exit_code == 0, result.stderr
    name = f"day/a.png-{hashlib.sha256(content).hexdigest()[:12]}.png"
    with Image.open(tmp_path / "out/masks" / name) as mask, Image.open(tmp_path / "out/overlays" / name) as heat:
        assert (mask.mode, heat.mode, mask.size) == ("L", "RGB", (64, 64))
        defective = int((np.asarray(mask) > 0).sum())
    (row,) = [row for row in records(tmp_path / "in.decisions.csv") if row["file"] == "day/a.png"]
    regions = json.loads(row["regions"])
    assert sum(region["area_px"] for region in regions) == defective > 0
    assert int(row["region_count"]) == len(regions)


@pytest.mark.parametrize("option", ["--out", "--move-anomalous"])
def test_what_is_written_goes_beside_the_watched_folder(model: Path, folder: Path, parts: Path, option: str) -> None:
    inside = run("watch", model, folder, option, folder / "out", "--until-idle", 0)
    assert (inside.exit_code, f"{option} {folder}/out: inside the watched folder" in inside.stderr) == (2, True)
    among = run("watch", model, folder, option, parts / "train/good/out", "--until-idle", 0)
    assert (among.exit_code, "good training images" in among.stderr) == (2, True)


def test_the_rate_can_be_chosen_as_in_inspect(model: Path, folder: Path, tmp_path: Path) -> None:
    photo(folder / "a.png")
    result = run("watch", model, folder, "--max-false-alarm-rate", 0.7, "--settle", 0, "--until-idle", 0)
    assert result.exit_code == 0, result.stderr
    expected = Predictor.load(model, device="cpu").with_false_alarm_rate(0.7).threshold
    assert float(records(tmp_path / "in.decisions.csv")[0]["threshold"]) == expected
    both = run("watch", model, folder, "--max-false-alarm-rate", 0.7, "--threshold", 1)
    assert (both.exit_code, "give one of them" in both.stderr) == (2, True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes as POSIX has them")
def test_what_cannot_be_judged_is_said_and_blinds_nobody(model: Path, folder: Path) -> None:
    for below in (folder, folder / "day"):
        photo(below / "a.png")
        (below / "round.png").symlink_to("round.png")
        (below / "nothing.png").symlink_to("none.png")
        (below / "device.png").symlink_to("/dev/zero")
        (below / "phone.heic").touch()
        (below / "folder").symlink_to(folder.parent)
        os.mkfifo(below / "pipe.png")
    said = watch(model, folder)
    assert [row["file"] for row in records(folder.parent / "record.csv")] == ["a.png", "day/a.png"]
    assert len(said) == 12
    for name, why in (
        ("round.png", "a link that cannot be followed"),
        ("nothing.png", "a link to nothing"),
        ("device.png", "a link to a device or a pipe"),
        ("phone.heic", "an image of a kind that is not read"),
        ("folder", "a link to a folder, which is not followed"),
        ("pipe.png", "named like an image, but no file"),
    ):
        assert [f"{folder}/{below}{name}: {why}" in text for text in said for below in ("", "day/")].count(True) == 2, (
            name
        )


def test_a_sub_folder_that_cannot_be_read_is_an_error_in_the_end(
    model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(folder / "a.png")
    photo(folder / "shut/b.png")
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path).name == "shut":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr("blemish.inspection.arrivals.os.scandir", scandir)
    with pytest.raises(DataError, match="shut: a folder that cannot be read: Permission denied"):
        watch(model, folder)
    assert [row["file"] for row in records(folder.parent / "record.csv")] == ["a.png"]
    left_out: list[str] = []
    scan(folder, lambda name, _why: left_out.append(name))
    assert left_out == ["shut/"]


def test_an_empty_name_is_not_the_current_folder(model: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    for arguments in (["watch", model, folder, "--move-anomalous", ""], ["inspect", model, folder, "-o", ""]):
        result = run(*arguments)
        assert (result.exit_code, "empty" in result.stderr) == (2, True)
