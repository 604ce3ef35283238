"""The watch over a line: calm while nothing changes, quick when something does, and the same after a restart."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageEnhance, ImageFilter

from blemish.data.files import exclusive_lock
from blemish.data.folder import ID_DIGITS
from blemish.data.images import prepare
from blemish.data.photo_values import PHOTO_VALUES, photo_values
from blemish.errors import CalibrationError, DataError, SettingsError
from blemish.inference.artifact import ArtifactHeader, read_artifact
from blemish.inference.monitor_state import calibration_id, default_state_path, model_id, read_state, withdrawal
from blemish.inference.predictor import Predictor
from blemish.inspection import monitor, monitor_bets
from blemish.inspection.certify import CertifyRequest, certify_model
from blemish.inspection.monitor import monitor_images, values_of
from blemish.inspection.monitor_bets import SCORE, Watch
from conftest import draw_part, write_parts
from reference.command import run

CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "brightness": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "sharpness": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "centre_x": lambda image: ImageChops.offset(image, 12, 0),
    "centre_y": lambda image: ImageChops.offset(image, 0, -12),
}


@pytest.fixture(scope="module")
def certified(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, exported and calibrated on forty new good images; read only."""
    folder = tmp_path_factory.mktemp("certified")
    good = write_parts(folder / "parts", good=40, test=0, seed=11) / "train" / "good"
    model = Path(shutil.copy(onnx_file, folder / "m.onnx"))
    certify_model(model, CertifyRequest(0.1, good=good))
    return model


@pytest.fixture
def model(certified: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(certified, tmp_path / "m.onnx"))


def photos(folder: Path, count: int, seed: int, change: Callable[[Image.Image], Image.Image] | None = None) -> Path:
    """Good parts, the later the newer."""
    rng = np.random.default_rng(seed)
    start = len(list(folder.glob("*.png"))) if folder.is_dir() else 0
    folder.mkdir(exist_ok=True)
    for place in range(start, start + count):
        picture = draw_part(rng)[0]
        path = folder / f"{(place * 7) % 100:03}.png"  # not in the order of the names
        (picture if change is None else change(picture)).save(path)
        os.utime(path, ns=(10**18 + place, 10**18 + place))
    return folder


def watch(model: Path, images: Path | Iterable[Path], seed: int = 0, **options):
    return monitor_images(
        Predictor.load(model, device="cpu"), images, default_state_path(model), np.random.default_rng(seed), **options
    )


def test_a_calm_line_raises_no_alarm_and_keeps_the_certificate(model: Path, tmp_path: Path) -> None:
    found = watch(model, photos(tmp_path / "line", 60, seed=1))
    assert (found.alarms, found.images) == ((), 60)
    assert list(found.streams) == [SCORE, *PHOTO_VALUES]
    header = Predictor.load(model).header
    assert withdrawal(model, header) is None
    assert run("monitor", model, tmp_path / "line").exit_code == 0


@pytest.mark.parametrize("changed", CHANGES)
def test_a_change_raises_the_alarm_and_withdraws_the_certificate(model: Path, tmp_path: Path, changed: str) -> None:
    folder = photos(tmp_path / "line", 20, seed=2)
    watch(model, folder)
    found = watch(model, photos(folder, 20, seed=3, change=CHANGES[changed]))
    assert changed in {alarm.stream for alarm in found.alarms}
    assert min(alarm.images for alarm in found.alarms) <= 20 + 15
    alarm = withdrawal(model, Predictor.load(model).header)
    assert alarm == found.alarms[0]


def test_a_new_calibration_lifts_the_withdrawal_and_begins_anew(model: Path, tmp_path: Path) -> None:
    change = CHANGES["brightness"]
    watch(model, photos(tmp_path / "line", 20, seed=4, change=change))
    assert withdrawal(model, Predictor.load(model).header) is not None
    certify_model(model, CertifyRequest(good=photos(tmp_path / "good", 40, seed=5, change=change)))
    assert withdrawal(model, Predictor.load(model).header) is None
    found = watch(model, photos(tmp_path / "next", 40, seed=6, change=change))
    assert (found.is_restarted, found.images, found.alarms) == (True, 40, ())


def test_a_restart_goes_on_where_the_watch_stopped(model: Path, tmp_path: Path) -> None:
    """Two runs over a growing folder come to what one run over all of it comes to, bet by bet."""
    whole = watch(model, photos(tmp_path / "whole", 30, seed=7))
    straight = read_state(default_state_path(model))
    default_state_path(model).unlink()
    (tmp_path / "part").mkdir()
    by_time = sorted((tmp_path / "whole").glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
    rng, predictor = np.random.default_rng(0), Predictor.load(model, device="cpu")
    for some in (by_time[:11], by_time[11:]):
        for path in some:
            shutil.copy2(path, tmp_path / "part" / path.name)
        found = monitor_images(predictor, tmp_path / "part", default_state_path(model), rng)
    assert (found.images, found.new_images, found.passed_over) == (30, 19, 11)
    assert found.streams == whole.streams
    resumed = read_state(default_state_path(model))
    assert resumed is not None
    assert straight is not None
    assert resumed.model_copy(update={"seen": {}}) == straight.model_copy(update={"seen": {}})


def test_an_interruption_loses_nothing(model: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 6, seed=8)
    paths = sorted(folder.glob("*.png"))

    def stream():
        yield from paths[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watch(model, stream())
    assert read_state(default_state_path(model)).images == 4
    assert watch(model, paths[4:]).images == 6


@pytest.mark.skipif(sys.platform != "linux", reason="such names are refused by other systems")
def test_a_name_that_is_not_utf8_is_skipped(model: Path, tmp_path: Path) -> None:
    folder = write_parts(tmp_path, good=3, seed=3) / "train/good"
    (folder / "001.png").rename(folder / os.fsdecode(b"bad\xff.png"))
    with pytest.raises(DataError, match="not UTF-8; rename it"):
        watch(model, folder)
    found = watch(model, folder, skip_bad=True)
    assert (found.images, [name.endswith("bad\\udcff.png") for name in found.skipped]) == (2, [True])


def test_a_bad_image_stops_the_watch_where_it_was_or_is_skipped(model: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 6, seed=9)
    third = sorted(folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)[2]
    whole = third.read_bytes()
    third.write_bytes(b"junk")
    os.utime(third, ns=(10**18 + 2, 10**18 + 2))
    with pytest.raises(DataError, match=third.name):
        watch(model, folder)
    assert read_state(default_state_path(model)).images == 2
    third.write_bytes(whole)
    os.utime(third, ns=(10**18 + 2, 10**18 + 2))
    assert watch(model, folder).images == 6
    default_state_path(model).unlink()
    third.write_bytes(b"junk")
    (folder / "link.png").symlink_to(tmp_path / "nowhere.png")
    found = watch(model, folder, skip_bad=True)
    assert (found.images, list(found.skipped)) == (5, [str(folder / "link.png"), str(third)])
    third.write_bytes(whole)
    with pytest.raises(DataError, match=r"link\.png: no such file; --skip-bad"):
        watch(model, folder)


def test_the_watch_is_written_only_when_something_is_new(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write = [], monitor.write_state
    monkeypatch.setattr(monitor, "write_state", lambda *given: written.append(given) or write(*given))
    monkeypatch.setattr(monitor, "SAVE_EVERY_S", -1.0)
    folder = photos(tmp_path / "line", 3, seed=9)
    for images, writes in ((3, 3), (0, 0)):
        assert (watch(model, folder).new_images, len(written)) == (images, writes)
        written.clear()
    shutil.copy(folder / "000.png", folder / "copy.png")
    monkeypatch.setattr(monitor, "SAVE_EVERY_S", 60.0)
    photos(folder, 1, seed=10)
    found = watch(model, folder)
    assert (found.new_images, found.copies, found.passed_over, len(written)) == (1, 1, 3, 1)


def test_a_dead_camera_is_no_calm_line(model: Path, tmp_path: Path) -> None:
    """Where nothing was ever readable the watch has not begun; later, exit code 3 says that something is left out."""
    folder, state = photos(tmp_path / "line", 3, seed=9, change=lambda image: image.point(lambda _: 0)), tmp_path / "s"
    for _ in range(2):
        found = run("monitor", model, folder, "--skip-bad", "--state", state)
        assert (found.exit_code, "no change" in found.output, state.exists()) == (2, False, False)
        assert "none of the 3 images can be read; the first:" in " ".join(found.stderr.split())
    photos(folder, 1, seed=10)
    assert run("monitor", model, folder, "--skip-bad", "--state", state).exit_code == 3
    again = run("monitor", model, folder, "--skip-bad", "--state", state)
    assert (again.exit_code, "skipped: 3 files left out before, and unchanged: " in again.stderr) == (3, True)
    photos(folder, 1, seed=9, change=lambda image: image.point(lambda _: 0))
    found = run("monitor", model, folder, "--skip-bad", "--state", state)
    assert found.exit_code == 3
    assert "the only new image could not be read" in " ".join(found.stderr.split())
    again = run("monitor", model, folder, "--skip-bad", "--state", state)
    assert (again.exit_code, "is the camera working" in again.stderr) == (3, False), "why is said once"
    assert run("monitor", model, folder, "--state", state).exit_code == 2
    for path in folder.glob("*.png"):
        path.unlink()
    photos(folder, 1, seed=11)
    assert run("monitor", model, folder, "--skip-bad", "--state", state).exit_code == 0


def test_the_probability_cannot_be_changed_on_the_way(model: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 3, seed=1)
    watch(model, folder, max_false_alarm_probability=0.05)
    with pytest.raises(SettingsError, match=r"0\.01: this watch began with 0\.05; a change on the way would void"):
        watch(model, folder, max_false_alarm_probability=0.01)
    assert watch(model, folder).max_false_alarm_probability == 0.05
    default_state_path(model).unlink()
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(SettingsError, match="max_false_alarm_probability: found"):
            watch(model, folder, max_false_alarm_probability=wrong)
    assert not default_state_path(model).exists()


def test_a_state_that_is_none_is_refused(model: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 2, seed=1)
    for content, message in (
        ("[]", "damaged; delete it"),
        ("{", "damaged; delete it"),
        ('{"format": 2}', "damaged"),
        ('{"format": 9}', "format 9, this version reads"),
    ):
        default_state_path(model).write_text(content)
        with pytest.raises(DataError, match=message):
            watch(model, folder)
        assert run("inspect", model, folder).exit_code == 2
        assert default_state_path(model).read_text() == content


def test_a_model_without_photo_values_asks_to_be_calibrated_anew(model_file: Path) -> None:
    header, _ = read_artifact(model_file)
    old = header.model_copy(update={"calibration": header.calibration.model_copy(update={"photo_values": {}})})
    with pytest.raises(CalibrationError, match="calibrate again with: blemish certify MODEL --good FOLDER"):
        Watch(old, None, None)


def with_card(header: ArtifactHeader, **changes: object) -> ArtifactHeader:
    return header.model_copy(update={"calibration": header.calibration.model_copy(update=changes)})


def test_groups_are_bet_on_as_a_whole(model_file: Path) -> None:
    header = with_card(read_artifact(model_file)[0], by_group=True, group_pattern=r"part(\d+)")
    rng, values = np.random.default_rng(0), dict.fromkeys([SCORE, *PHOTO_VALUES], 0.5)
    watch = Watch(header, None, None)
    for name in ("part1_a", "part1_b", "part2_a", "part2_b"):
        watch.look(name, values | {SCORE: 0.5 if name.endswith("a") else 0.7, "contrast": 0.2}, rng)
    assert (watch.images, watch.martingales[SCORE].observed) == (4, 1)
    assert list(watch.recent[SCORE]) == [0.7]
    again = Watch(header, watch.to_state(), None)
    again.look("part3_a", values, rng)
    assert (again.images, again.martingales[SCORE].observed, list(again.recent["contrast"])) == (5, 2, [0.2, 0.2])
    with pytest.raises(DataError, match="is not found in odd"):
        again.look("odd", values, rng)


def test_groups_must_be_told_where_a_file_told_them(model_file: Path) -> None:
    header = read_artifact(model_file)[0]
    with pytest.raises(SettingsError, match="--groups: the model was calibrated by group, from a file"):
        Watch(with_card(header, by_group=True), None, None)
    assert Watch(with_card(header, by_group=True), None, None, r"(\d)").groups == r"(\d)"
    with pytest.raises(SettingsError, match="--groups: the model was not calibrated by group"):
        Watch(header, None, None, r"(\d)")


def test_scores_of_folds_are_not_bet_on(model_file: Path) -> None:
    header = with_card(read_artifact(model_file)[0], folds=(0, 1))
    assert set(Watch(header, None, None).martingales) == set(PHOTO_VALUES)


def test_what_is_bet_on_is_what_was_calibrated_on(certified: Path) -> None:
    """The scores in an exported file are raised by its tolerance; the watch must not take that for a change."""
    predictor = Predictor.load(certified, device="cpu")
    card = predictor.header.calibration
    good = sorted((certified.parent / "parts/train/good").glob("*.png"))
    found = [values_of(predictor, prepare(path, predictor.policy), path) for path in good]
    for name, kept in card.photo_values.items():
        assert sorted(one[name] for one in found) == list(kept)
    raised = np.sort([one[SCORE] for one in found]) + card.margin
    np.testing.assert_allclose(predictor.header.calibration_scores, raised, rtol=1e-6)


def test_the_command_reads_paths_and_says_what_has_changed(model: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 20, seed=3, change=CHANGES["brightness"])
    lines = "".join(f"{path}\n" for path in sorted(folder.glob("*.png"))) + "\n"
    result = run("monitor", model, "-", "--format", "json", input=lines)
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert result.stderr.count("ALARM: ") == len(told["alarms"]) > 0
    assert told["alarms"][0]["image"] in lines
    assert told["images"] == 20
    again = run("monitor", model, "-", input=lines.splitlines()[0])
    assert again.exit_code == 1
    assert "CHANGED: " in again.stdout
    assert "ALARM" not in again.stderr
    assert "warning: the certificate is withdrawn: " in run("inspect", model, folder).stderr


def test_errors_are_one_line_and_exit_code_2(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for images, message in (("none", "no such folder"), ("empty", "no images in this folder")):
        result = run("monitor", model, tmp_path / images)
        assert result.exit_code == 2
        assert message in result.stderr
    assert run("monitor", model, tmp_path / "empty", "--state", tmp_path / "none" / "s.json").exit_code == 2


@pytest.mark.slow
def test_an_exported_model_is_watched_without_torch(model: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 3, seed=1)
    program = (
        "import sys; sys.modules['torch'] = None; from blemish.__main__ import main\n"
        f"sys.argv = ['blemish', 'monitor', {str(model)!r}, {str(folder)!r}]; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, "no change noticed in 3 images, 3 of them new" in done.stdout) == (0, True)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("roi", [False, True])
def test_each_change_moves_its_own_value(name: str, roi: bool) -> None:
    """By two standard deviations between photos at least; and the lamp leaves the sharpness be."""
    rng, region = np.random.default_rng(0), np.zeros((64, 64), bool)
    region[4:60, 4:60] = True

    def values(image: Image.Image) -> dict[str, float]:
        pixels = np.asarray(image, np.float32).transpose(2, 0, 1) / np.float32(255)
        return photo_values(pixels, region if roi else None)

    pictures = [draw_part(rng)[0] for _ in range(30)]
    usual, changed = [values(one) for one in pictures], [values(CHANGES[name](one)) for one in pictures]
    spread = np.std([one[name] for one in usual])
    assert abs(np.mean([one[name] for one in changed]) - np.mean([one[name] for one in usual])) > 2 * spread
    if name == "brightness":
        sharp = [np.mean([one["sharpness"] for one in some]) for some in (usual, changed)]
        assert sharp[0] == pytest.approx(sharp[1], rel=0.05)


def test_photo_values_of_what_has_none() -> None:
    flat = photo_values(np.full((3, 8, 8), 0.25, np.float32))
    assert flat == {"brightness": 0.25, "contrast": 0.0, "sharpness": 0.0, "centre_x": 0.5, "centre_y": 0.5}
    thin = np.zeros((8, 8), bool)
    thin[2] = True
    assert photo_values(np.random.default_rng(0).random((1, 8, 8), np.float32), thin)["sharpness"] == 0.0


def test_files_never_seen_are_watched_however_old(model: Path, tmp_path: Path) -> None:
    """Other folders, and older files that come into the same one."""
    watch(model, photos(tmp_path / "line", 8, seed=1))
    older = photos(tmp_path / "older", 6, seed=2)
    for path in older.iterdir():
        os.utime(path, ns=(10**17, 10**17))
    found = watch(model, older)
    assert (found.new_images, found.passed_over) == (6, 0)
    for path in photos(tmp_path / "late", 6, seed=3).iterdir():
        os.utime(path, ns=(10**17, 10**17))
        shutil.copy2(path, tmp_path / "line" / f"late-{path.name}")
    found = watch(model, tmp_path / "line")
    assert (found.new_images, found.passed_over) == (6, 8)


def test_rejects_moved_elsewhere_are_watched_among_the_others(model: Path, tmp_path: Path) -> None:
    """A change that has every photo rejected leaves nothing in the watched folder."""
    line = photos(tmp_path / "line", 20, seed=3, change=CHANGES["brightness"])
    (rejected := tmp_path / "rejected").mkdir()
    for path in sorted(line.iterdir())[:-1]:
        path.rename(rejected / path.name)
    result = run("monitor", model, line, rejected)
    assert (result.exit_code, "in 20 images, 20 of them new" in result.stdout) == (1, True)
    again = watch(model, line, further=[rejected])
    assert (again.images, again.passed_over) == (20, 20)


@pytest.mark.parametrize("where", ["rejected", "line/rejected"])
def test_photos_moved_since_they_were_seen_are_no_copies(model: Path, tmp_path: Path, where: str) -> None:
    line, rejected = photos(tmp_path / "line", 4, seed=3), tmp_path / where
    watch(model, line)
    rejected.mkdir()
    for path in sorted(line.glob("*.png"))[:3]:
        path.rename(rejected / path.name)
    again = watch(model, line, further=[rejected])
    assert (again.images, again.passed_over, again.copies) == (4, 4, 0)


def test_a_copy_of_an_image_counts_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same folder, in another one, in a stream, and after a restart; a warning where nothing else comes."""
    line = photos(tmp_path / "line", 4, seed=1)
    for path in list(line.iterdir()):
        shutil.copy(path, line / f"copy-{path.name}")
    found = watch(model, line)
    assert (found.images, found.new_images, found.copies) == (4, 4, 4)
    shutil.copytree(line, tmp_path / "other")
    found = watch(model, tmp_path / "other")
    assert (found.images, found.new_images, found.copies) == (4, 0, 8)
    said = run("monitor", model, "-", input="".join(f"{path}\n" for path in sorted(line.iterdir())))
    assert "note: 8 files passed over as copies" in said.stderr
    assert "no new image but copies of images watched before; is the camera working?" in " ".join(said.stderr.split())
    monkeypatch.setattr(monitor_bets, "REMEMBERED", 2)
    watch(model, photos(tmp_path / "more", 3, seed=2))
    assert len(read_state(default_state_path(model)).recent_ids) == 2


def test_copies_in_a_row_are_told_of_at_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that has stopped sends its last photo for ever; each new image begins the count again."""
    monkeypatch.setattr(monitor, "FROZEN", 3)
    first, second = sorted(photos(tmp_path / "line", 2, seed=1).iterdir())
    said = run("monitor", model, "-", input="".join(f"{path}\n" for path in [first] * 3 + [second] * 5))
    warning = f"warning: the last 3 images, up to {second.name}, are copies of images watched before"
    assert " ".join(said.stderr.split()).count(warning) == 1
    assert f"up to {first.name}" not in said.stderr


def test_images_calibrated_on_are_not_watched(model: Path, tmp_path: Path) -> None:
    recent = photos(tmp_path / "good", 30, seed=5)
    certify_model(model, CertifyRequest(good=recent))
    photos(recent, 3, seed=6)
    found = watch(model, recent)
    assert (found.new_images, found.passed_over) == (3, 30)


def test_images_fitted_on_are_not_watched_either(onnx_file: Path, parts: Path, tmp_path: Path) -> None:
    model = Path(shutil.copy(onnx_file, tmp_path / "m.onnx"))
    header = Predictor.load(model).header
    good = sorted((parts / "train" / "good").iterdir())
    fitted = [
        path for path in good if hashlib.sha256(path.read_bytes()).hexdigest()[:ID_DIGITS] in header.data_card.fit_ids
    ]
    assert fitted
    certify_model(model, CertifyRequest(good=photos(tmp_path / "recent", 30, seed=5)))
    found = watch(model, fitted)
    assert (found.new_images, found.passed_over) == (0, len(fitted))


def test_photos_of_before_a_new_calibration_stay_watched(model: Path, tmp_path: Path) -> None:
    line = photos(tmp_path / "line", 20, seed=4)
    watch(model, line)
    certify_model(model, CertifyRequest(good=photos(tmp_path / "good", 40, seed=5, change=CHANGES["brightness"])))
    photos(line, 5, seed=6, change=CHANGES["brightness"])
    found = watch(model, line)
    assert (found.is_restarted, found.new_images, found.passed_over, found.alarms) == (True, 5, 20, ())


def test_the_images_of_before_lift_no_withdrawal(model: Path, certified: Path, tmp_path: Path) -> None:
    watch(model, photos(tmp_path / "line", 20, seed=3, change=CHANGES["brightness"]))
    with pytest.raises(DataError, match="the model was calibrated on it before"):
        certify_model(model, CertifyRequest(good=certified.parent / "parts/train/good"))


def test_two_watches_and_two_models_do_not_share_a_state(model: Path, onnx_file: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 3, seed=1)
    watch(model, folder)
    lock = default_state_path(model).with_name(f".{default_state_path(model).name}.lock")
    with exclusive_lock(lock, "watching"), pytest.raises(DataError, match="another process is keeping a watch"):
        watch(model, folder)
    other = Predictor.load(model, device="cpu")
    card = other.header.data_card.model_copy(update={"files_sha256": "of other images"})
    header = other.header.model_copy(update={"data_card": card})
    with pytest.raises(SettingsError, match="the watch over another model"):
        Watch(header, read_state(default_state_path(model)), None)


def test_a_watch_ends_when_the_model_is_calibrated_anew(model: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 3, seed=1)
    with pytest.raises(CalibrationError, match="calibrated again while it watched"):
        watch(model, folder, is_current=lambda: False)
    assert not default_state_path(model).exists()


def test_a_damaged_state_is_refused(model: Path, tmp_path: Path) -> None:
    folder = photos(tmp_path / "line", 3, seed=1)
    watch(model, folder)
    path = default_state_path(model)
    content = json.loads(path.read_text())
    for change in ({"images": 2}, {"streams": {}}, {"recent": {}}):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(DataError, match="not what `blemish monitor` wrote, or damaged"):
            watch(model, folder)


def test_an_export_is_as_withdrawn_as_its_model(model_file: Path, onnx_file: Path) -> None:
    trained, exported = (Predictor.load(path, device="cpu").header for path in (model_file, onnx_file))
    assert trained.calibration_scores != exported.calibration_scores
    assert calibration_id(trained) == calibration_id(exported)
    assert model_id(trained) == model_id(exported)


def test_groups_must_follow_one_another(model: Path, tmp_path: Path) -> None:
    header = Predictor.load(model, device="cpu").header
    card = header.calibration.model_copy(update={"by_group": True, "group_pattern": r"part(\d+)"})
    by_group = Watch(header.model_copy(update={"calibration": card}), None, None)
    values = dict.fromkeys(by_group.martingales, 0.5)
    rng = np.random.default_rng(0)
    for name in ("part1_a.png", "part1_b.png", "part2_a.png"):
        by_group.look(name, values, rng)
    with pytest.raises(DataError, match=r"part1_c\.png: its group 1 ended before"):
        by_group.look("part1_c.png", values, rng)
    assert by_group.images == 3


def test_a_group_is_told_by_the_name_in_the_folder(model: Path, tmp_path: Path) -> None:
    """Not by that of the folder."""
    folder = photos(tmp_path / "part3_line", 4, seed=1)
    predictor = Predictor.load(model, device="cpu")
    card = predictor.header.calibration.model_copy(update={"by_group": True, "group_pattern": r"(?:part)?(\d+)"})
    by_group = Predictor(predictor.header.model_copy(update={"calibration": card}), predictor._runtimes[0])
    found = monitor_images(by_group, folder, default_state_path(model), np.random.default_rng(0))
    assert found.open_group == "021"
    csv = tmp_path / "groups.csv"
    csv.write_text("image,group\n")
    with pytest.raises(SettingsError, match="a file names earlier images"):
        monitor_images(by_group, folder, tmp_path / "other.json", np.random.default_rng(0), groups=str(csv))


@pytest.mark.slow
def test_a_change_smaller_than_the_smallest_that_matters_keeps_the_certificate(model: Path, tmp_path: Path) -> None:
    """Photos a little darker are a real change, which a watch without this setting raises an alarm over."""

    def darker(by: float) -> Callable[[Image.Image], Image.Image]:
        return lambda image: image.point(lambda value: round(value * (1 - by)))

    line = photos(tmp_path / "line", 80, seed=1, change=darker(0.06))
    strict = watch(model, line)
    assert "contrast" in {alarm.stream for alarm in strict.alarms}
    default_state_path(model).unlink()
    tolerant = watch(model, line, smallest_change=0.2)
    assert "contrast" not in {alarm.stream for alarm in tolerant.alarms}
    assert tolerant.smallest_change == 0.2
    with pytest.raises(SettingsError, match=r"--smallest-change 0.3: this watch began with 0.2; a change on the way"):
        watch(model, line, smallest_change=0.3)
    photos(tmp_path / "line", 40, seed=2, change=darker(0.7))
    assert "contrast" in {alarm.stream for alarm in watch(model, line).alarms}
