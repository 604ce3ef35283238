"""Certificates: of trained and of exported files, from the scores there are and from new good images."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from blemish.data.folder import read_folder
from blemish.errors import ArtifactError, CalibrationError, DataError, SettingsError
from blemish.inference.artifact import read_artifact
from blemish.inference.monitor_state import (
    Alarm,
    Bets,
    MonitorState,
    calibration_id,
    default_state_path,
    model_id,
    write_state,
)
from blemish.inference.parity import verify
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import open_onnx
from blemish.inspection.certify import CertifyRequest, certify_model
from blemish.inspection.new_images import (
    NewImages,
    changed_message,
    good_files,
    no_images,
    raised_message,
    sample_message,
    suspects,
)
from blemish.inspection.rows import FIELDS
from blemish.stats.martingale import start_martingale
from conftest import draw_part, write_parts
from reference.command import run

KINDS = ["trained", "exported"]


@pytest.fixture
def model(request: pytest.FixtureRequest, model_file: Path, onnx_file: Path, tmp_path: Path) -> Path:
    """A copy of the trained or of the exported model, to be written."""
    source = onnx_file if getattr(request, "param", "trained") == "exported" else model_file
    return Path(shutil.copy(source, tmp_path / source.name))


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four new good images, of eight parts."""
    folder = write_parts(tmp_path_factory.mktemp("new") / "parts", good=24, test=0, seed=7) / "train" / "good"
    for path in sorted(folder.glob("*.png")):
        path.rename(folder / f"part{int(path.stem) // 3}_{int(path.stem) % 3}.png")
    return folder


def scores(model: Path, folder: Path) -> list[float]:
    predictor = Predictor.load(model, device="cpu")
    return sorted(predictor.predict(path).score for path in sorted(folder.glob("*.png")))


@pytest.mark.slow
@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_frames_of_few_parts_are_said_unless_they_are_grouped(model: Path, good: Path, tmp_path: Path) -> None:
    rng, frames = np.random.default_rng(0), tmp_path / "frames"
    frames.mkdir()
    for part, path in enumerate(sorted(good.iterdir())[:10]):
        pixels = np.asarray(Image.open(path)).astype(float)
        for frame in range(3):
            noisy = np.clip(pixels + rng.normal(0, 2, pixels.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(frames / f"part{part}_{frame}.png")

    def notes(**asked: object) -> str:
        request = CertifyRequest(max_false_alarm_rate=0.2, dry_run=True, **asked)  # type: ignore[arg-type]
        return " ".join(certify_model(model, request).warnings)

    assert "30 of 30 good images nearly repeat another" in notes(good=frames)
    assert "belong together (--groups)" in notes(good=frames)
    assert "repeat" not in notes(good=frames, groups=r"part(\d+)_")
    assert "repeat" not in notes(good=good)


def test_a_model_that_was_changed_meanwhile_is_left_as_it_is(model: Path, good: Path) -> None:
    def change(done: int, _total: int) -> None:
        if done == 1:
            certify_model(model, CertifyRequest(max_false_alarm_rate=0.5))

    with pytest.raises(ArtifactError, match="another command has changed it meanwhile"):
        certify_model(model, CertifyRequest(good=good), on_image=change)
    assert certify_model(model).header.max_false_alarm_rate == 0.5


@pytest.mark.slow
@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_a_model_that_is_gone_meanwhile_is_said(model: Path, good: Path) -> None:
    def take_away(done: int, _total: int) -> None:
        if done == 1:
            model.unlink()

    with pytest.raises(ArtifactError, match="no such model file"):
        certify_model(model, CertifyRequest(good=good), on_image=take_away)
    assert not model.exists()


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_without_options_the_file_is_left_as_it_is(model: Path) -> None:
    written = model.read_bytes()
    found = certify_model(model)
    assert (found.header.certificate.n, found.is_written) == (2, False)
    assert [(need.on_average, need.with_confidence) for need in found.needs] == [(17, 57), (97, 297), (997, 2993)]
    assert model.read_bytes() == written


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_another_rate_is_written_into_the_file_and_inspect_uses_it(model: Path, shared_parts: Path) -> None:
    before = Predictor.load(model, device="cpu")
    certify_model(model, CertifyRequest(max_false_alarm_rate=0.7))
    after = Predictor.load(model, device="cpu")
    assert after.header.max_false_alarm_rate == 0.7
    assert after.threshold == min(before.header.calibration_scores) < before.threshold
    for sample in read_folder(shared_parts).test:
        old, new = before.predict(sample.path), after.predict(sample.path)
        assert (old.score, old.p_value) == (new.score, new.p_value)
        assert new.is_anomalous == (new.p_value <= 0.7)


def test_a_kept_rate_that_more_images_make_smaller_is_said(model: Path, good: Path) -> None:
    picked = model.parent / "picked"
    picked.mkdir()
    for path in sorted(good.glob("*.png"))[:2]:
        shutil.copy(path, picked)
    found = certify_model(model, CertifyRequest(good=picked, add=True))  # 2 and 2 images: 1/5, where 1/3 was promised
    (note,) = found.notes
    assert (found.header.certificate.n, note.partition(",")[0]) == (4, "these images promise 0.2 too")
    asked = certify_model(model, CertifyRequest(max_false_alarm_rate=0.2))
    assert asked.header.threshold <= found.header.threshold
    assert not asked.notes


@pytest.mark.slow
@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_new_good_images_replace_the_old(model: Path, good: Path) -> None:
    expected = scores(model, good)
    found = certify_model(model, CertifyRequest(0.05, good=good))
    assert found.header.certificate.promise == (
        "On average at most 5 % of new good images are flagged (from 24 good images)."
    )
    np.testing.assert_allclose(found.header.calibration_scores, expected, rtol=1e-4)
    assert all(kept >= score for kept, score in zip(found.header.calibration_scores, expected, strict=True))
    assert found.header.threshold == found.header.calibration_scores[-1]
    assert {len(values) for values in found.header.calibration.photo_values.values()} == {24}
    again = Predictor.load(model, device="cpu")
    assert again.header == found.header
    flagged = [again.predict(path).is_anomalous for path in sorted(good.glob("*.png"))]
    assert not any(flagged)


@pytest.mark.parametrize("model", KINDS, indirect=True)
def test_new_good_images_are_added_to_the_old(model: Path, good: Path) -> None:
    before = Predictor.load(model, device="cpu").header
    found = certify_model(model, CertifyRequest(0.1, 0.9, good=good, add=True))
    assert found.header.certificate.promise == (
        "With confidence 90 % at most 10 % of new good images are flagged (from 26 good images)."
    )
    assert set(before.calibration_scores) < set(found.header.calibration_scores)
    assert {len(values) for values in found.header.calibration.photo_values.values()} == {12 + 24}
    with pytest.raises(DataError, match=r"part0_0\.png: the model was calibrated on it before; take it out"):
        certify_model(model, CertifyRequest(good=good, add=True))


def test_an_exported_file_still_judges_its_own_images_as_it_should(onnx_file: Path, good: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(onnx_file, tmp_path / "m.onnx"))
    certify_model(model, CertifyRequest(0.3, good=good))
    found = verify(model, device="cpu")
    assert all(check.is_same for check in found.checks)
    opened = open_onnx(model)
    plain = {entry.key: entry.value for entry in onnx.load(model).metadata_props}
    assert float(plain["blemish.threshold"]) == opened.header.model.threshold
    image = np.random.default_rng(0).random((2, 3, 64, 64), dtype=np.float32)
    np.testing.assert_array_equal(opened.runtime.maps(image), open_onnx(onnx_file).runtime.maps(image))


def test_groups_of_new_images_count_once_each(model: Path, good: Path) -> None:
    found = certify_model(model, CertifyRequest(0.2, good=good, groups=r"part(\d)_"))
    assert (found.header.certificate.n, found.header.certificate.groups) == (24, 8)
    assert len(found.header.calibration_scores) == 8
    assert certify_model(model, CertifyRequest(good=good)).header.certificate.groups == 8  # the pattern is kept
    with pytest.raises(CalibrationError, match=r"0\.1 needs 9 groups of good images .* found 8; add 1, or ask"):
        certify_model(model, CertifyRequest(0.1))


def test_a_dry_run_writes_nothing(model: Path, good: Path) -> None:
    written = model.read_bytes()
    found = certify_model(model, CertifyRequest(0.05, good=good, dry_run=True))
    assert found.header.certificate.n == 24
    assert model.read_bytes() == written


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        (
            CertifyRequest(0.01),
            CalibrationError,
            r"0\.01 needs 99 good images that were not fitted on, found 2; add 97",
        ),
        (CertifyRequest(0.5, 0.95), CalibrationError, r"0\.5 with confidence 0\.95 needs 5 good images"),
        (CertifyRequest(1.0), SettingsError, r"max_false_alarm_rate: found 1; it must lie between 0 and 1"),
        (CertifyRequest(0.0), SettingsError, r"max_false_alarm_rate: found 0; it must lie between 0 and 1"),
        (CertifyRequest(0.5, 1.0), SettingsError, r"confidence: found 1; it must lie between 0 and 1"),
        (CertifyRequest(0.5, add=True), SettingsError, r"--add: goes with --good"),
        (CertifyRequest(0.5, groups="(.)"), SettingsError, r"--groups: goes with --good"),
        (CertifyRequest(good=Path("none")), DataError, r"none: no such folder of good images"),
    ],
)
def test_what_cannot_be_promised_is_refused_and_nothing_is_written(
    model: Path, asked: CertifyRequest, error: type[Exception], message: str
) -> None:
    written = model.read_bytes()
    with pytest.raises(error, match=message):
        certify_model(model, asked)
    assert model.read_bytes() == written


def test_images_that_were_fitted_on_are_refused(model: Path, parts: Path) -> None:
    """`parts` is drawn as the images trained on were."""
    with pytest.raises(DataError, match=r"holds images in train; give the folder of new good images itself"):
        certify_model(model, CertifyRequest(good=parts))
    with pytest.raises(DataError, match=r"0\d\d\.png: the model was fitted on it; a threshold needs images it has not"):
        certify_model(model, CertifyRequest(good=parts / "train/good"))


def test_a_folder_called_test_without_images_is_no_reason_to_refuse_good_ones(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "good"
    shutil.copytree(good, folder)
    (folder / "test").mkdir()
    (folder / "test/notes.txt").touch()
    assert len(list(good_files(folder, None))) == len(list(good.iterdir()))


def test_an_image_that_is_there_twice_is_refused(model: Path, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "twice"
    shutil.copytree(good, folder)
    shutil.copy(folder / "part0_0.png", folder / "zz.png")
    with pytest.raises(DataError, match=r"zz\.png: the same image as part0_0\.png; each good image counts once"):
        certify_model(model, CertifyRequest(good=folder))


@pytest.mark.skipif(sys.platform != "linux", reason="such names are refused by other systems")
def test_a_name_that_is_not_utf8_is_skipped(model: Path, good: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "copy"))
    first = min(folder.iterdir())
    first.rename(folder / os.fsdecode(b"bad\xff.png"))
    with pytest.raises(DataError, match="not UTF-8; rename it"):
        certify_model(model, CertifyRequest(good=folder))
    found = certify_model(model, CertifyRequest(good=folder, skip_bad=True))
    assert [name.endswith("bad\\udcff.png") for name in found.skipped] == [True]


def test_unreadable_images_stop_or_are_skipped(model: Path, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(good, folder)
    (folder / "part0_0.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"part0_0\.png: not an image"):
        certify_model(model, CertifyRequest(good=folder))
    found = certify_model(model, CertifyRequest(good=folder, skip_bad=True))
    assert (list(found.skipped), found.header.certificate.n) == (["part0_0.png"], 23)


@pytest.mark.slow
def test_a_defective_image_among_the_good_ones_is_named(model: Path, good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "spoiled"
    shutil.copytree(good, folder)
    picture, _ = draw_part(np.random.default_rng(9))
    picture.paste((255, 0, 255), (20, 20, 44, 44))
    picture.save(folder / "odd.png")
    assert list(certify_model(model, CertifyRequest(good=folder, dry_run=True)).suspects) == ["odd.png"]
    assert certify_model(model, CertifyRequest(good=good, dry_run=True)).suspects == {}
    result = run("certify", model, "--good", folder, "--dry-run")
    assert result.exit_code == 0
    assert "warning: odd.png scores as a defective image would (p = " in result.stderr


def test_of_a_few_good_images_one_far_above_those_of_before_is_named(model_file: Path) -> None:
    before = read_artifact(model_file)[0].model_copy(
        update={"calibration_scores": (0.1, 0.11, 0.12, 0.12, 0.13, 0.14), "threshold": 0.14}
    )

    def found(*scores: float) -> NewImages:
        return no_images()._replace(names=[f"{place}.png" for place in range(len(scores))], scores=list(scores))

    assert list(suspects(before, found(0.12, 0.5, 0.11))) == ["1.png"]
    assert suspects(before, found(0.12, 0.15, 0.11)) == {}
    assert suspects(before, found(0.5, 0.52, 0.51)) == {}  # the line has changed, not three parts


def test_where_the_threshold_rises_the_images_that_lift_it_are_named(model_file: Path) -> None:
    before = read_artifact(model_file)[0].model_copy(update={"threshold": 0.2})
    good = no_images()._replace(names=["a.png", "b.png", "c.png"], scores=[0.3, 0.1, 0.9])
    words = raised_message(before, before.model_copy(update={"threshold": 0.9}), good)
    assert words is not None
    assert "from 0.2 to 0.9, for the old one is exceeded by 2 of 3 new good images: c.png, a.png" in words
    assert raised_message(before, before.model_copy(update={"threshold": 0.15}), good) is None


def withdraw(model: Path) -> None:
    header, _ = read_artifact(model)
    state = MonitorState(
        model_id=model_id(header),
        calibration_id=calibration_id(header),
        max_false_alarm_probability=0.01,
        streams={"score": Bets.of(start_martingale([1.0]))},
        alarms=(Alarm(stream="sharpness", images=40, image="d.png", usual=1.5, now=0.7),),
    )
    write_state(default_state_path(model), state)


def test_only_new_good_images_lift_a_withdrawal(model: Path, good: Path, shared_parts: Path) -> None:
    photo = shared_parts / "test/good/000.png"
    assert "withdrawn" not in run("inspect", model, photo).stderr
    withdraw(model)
    words = "the certificate is withdrawn: sharpness has changed (1.500 when calibrated, 0.7000 at the alarm, after 40"
    result = run("inspect", model, photo, "--format", "json")
    assert words in result.stderr
    assert set(json.loads(result.stdout)[0]) == set(FIELDS)
    assert words in run("certify", model).stderr
    told = json.loads(run("certify", model, "--format", "json").stdout)
    assert (told["withdrawn"]["stream"], told["more_needed"][0]["on_average"]) == ("sharpness", 19)
    assert "good images of after the change for a promise of" in run("certify", model).stdout
    for asked in (CertifyRequest(0.7), CertifyRequest(good=good, add=True)):
        with pytest.raises(CalibrationError, match=r"withdrawn: sharpness has changed .* cannot promise anything"):
            certify_model(model, asked)
    certify_model(model, CertifyRequest(good=good))
    assert "withdrawn" not in run("inspect", model, photo).stderr
    assert certify_model(model).withdrawn is None


@pytest.mark.slow
def test_a_photo_saved_anew_is_the_same_photo(model: Path, good: Path, shared_parts: Path, tmp_path: Path) -> None:
    anew = tmp_path / "anew"
    anew.mkdir()
    for path in sorted(good.iterdir()):
        with Image.open(path) as photo:
            photo.save(anew / f"{path.stem}.bmp")
    certify_model(model, CertifyRequest(good=good))
    with pytest.raises(DataError, match=r"\.bmp: the model was calibrated on it before"):
        certify_model(model, CertifyRequest(good=anew, add=True))
    shutil.copy(sorted(good.iterdir())[0], anew / "zz.png")
    with pytest.raises(DataError, match=r"zz\.png: the same image as .*\.bmp"):
        certify_model(model, CertifyRequest(good=anew))
    for path in sorted((shared_parts / "train" / "good").iterdir()):
        with Image.open(path) as photo:
            photo.save(anew / f"aa{path.stem}.bmp")
    with pytest.raises(DataError, match=r"aa\d+\.bmp: the model was (fitted on it|calibrated on it before)"):
        certify_model(model, CertifyRequest(good=anew, add=True))


def test_images_of_an_earlier_certificate_do_not_lift_a_withdrawal(model: Path, good: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for place, path in enumerate(sorted(good.iterdir())):
        half = (first, second)[place % 2]
        half.mkdir(exist_ok=True)
        shutil.copy(path, half)
    certify_model(model, CertifyRequest(good=first))
    certify_model(model, CertifyRequest(good=second))
    withdraw(model)
    for before in (first, second):
        with pytest.raises(DataError, match="the model was calibrated on it before"):
            certify_model(model, CertifyRequest(good=before))
    assert run("certify", model).stdout.startswith("WITHDRAWN")


def test_the_watch_may_be_elsewhere(model: Path, shared_parts: Path, tmp_path: Path) -> None:
    withdraw(model)
    elsewhere = default_state_path(model).rename(tmp_path / "watch.json")
    photo = shared_parts / "test/good/000.png"
    assert "withdrawn" not in run("inspect", model, photo).stderr
    assert "withdrawn" in run("inspect", model, photo, "--state", elsewhere).stderr


@pytest.mark.slow
def test_the_command_says_what_is_promised(model: Path, good: Path) -> None:
    result = run("certify", model, "--good", good, "--max-false-alarm-rate", "0.05")
    assert result.exit_code == 0
    assert "On average at most 5 % of new good images are flagged (from 24 good images)." in result.stdout
    assert "written again" in result.stdout
    told = json.loads(run("certify", model, "--format", "json").stdout)
    assert (told["good_images"], told["max_false_alarm_rate"], told["written"]) == (24, 0.05, False)
    assert told["more_needed"][1] == {"max_false_alarm_rate": 0.01, "on_average": 75, "with_confidence": 275}
    assert run("certify", model, "--max-false-alarm-rate", "0.001").exit_code == 2


@pytest.mark.slow
def test_an_exported_file_is_certified_without_torch(onnx_file: Path, good: Path, tmp_path: Path) -> None:
    model = shutil.copy(onnx_file, tmp_path / "m.onnx")
    program = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path\n"
        "from blemish.inspection.certify import CertifyRequest, certify_model\n"
        f"found = certify_model(Path({str(model)!r}), CertifyRequest(0.1, good=Path({str(good)!r})))\n"
        "print(found.header.certificate.n, found.is_written)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["24", "True"]


def test_where_most_new_images_are_unlike_the_old_none_is_accused(model_file: Path) -> None:
    header = read_artifact(model_file)[0].model_copy(update={"calibration_scores": tuple(np.linspace(0.1, 0.2, 40))})
    higher = np.random.default_rng(0).normal(0.6, 0.02, 30).tolist()
    good = no_images()._replace(names=[f"{place}.png" for place in range(30)], scores=higher)
    assert suspects(header, good) == {}
    words = changed_message(header, good)
    assert words is not None
    assert "30 of 30 new good images score higher" in words
    assert changed_message(header, good._replace(scores=[0.15] * 30)) is None


@pytest.mark.slow
def test_added_images_must_be_a_random_sample(model: Path, good: Path, tmp_path: Path) -> None:
    certify_model(model, CertifyRequest(0.05, good=good))
    picked = tmp_path / "picked"
    picked.mkdir()
    rng = np.random.default_rng(3)
    for place in range(4):
        draw_part(rng)[0].save(picked / f"{place}.png")
    fair = certify_model(model, CertifyRequest(good=picked, add=True, dry_run=True))
    assert fair.sample is not None
    assert fair.sample.startswith("added images must be a random sample of the good images of the line")
    assert fair.sample in fair.warnings
    header = Predictor.load(model, device="cpu").header
    names = [f"{place}.png" for place in range(6)]
    scores = [0.5 * header.threshold] * 3 + [1.1 * header.threshold] * 3  # three were flagged, and somebody disagreed
    disputed = sample_message(header, no_images()._replace(names=names, scores=scores))
    assert disputed == f"3 of 6 added images are above the threshold, as if they were picked for that; {fair.sample}"
    said = run("certify", model, "--good", picked, "--add", "--dry-run", "--format", "json")
    assert json.loads(said.stdout)["sample"] == fair.sample
    assert f"warning: {fair.sample}" in said.stderr
    assert certify_model(model, CertifyRequest(0.3, good=picked, dry_run=True)).sample is None


def test_thousands_of_images_can_be_added(model: Path) -> None:
    header = Predictor.load(model, device="cpu").header
    good = no_images()._replace(names=[f"{place}.png" for place in range(3000)])
    for flagged, is_said in ((round(3000 * header.max_false_alarm_rate), False), (2000, True)):
        scores = [1.1 * header.threshold] * flagged + [0.5 * header.threshold] * (3000 - flagged)
        assert ("as if they were picked" in sample_message(header, good._replace(scores=scores))) is is_said


def test_a_model_behind_a_link_is_certified_where_it_lies(model: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(model)
    certify_model(link, CertifyRequest(max_false_alarm_rate=0.4))
    assert link.is_symlink()
    assert read_artifact(model)[0].max_false_alarm_rate == 0.4
