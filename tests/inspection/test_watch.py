"""A watch over a folder: what happens between two looks is a script, so nothing here sleeps."""

import csv
import errno
import hashlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import blemish.inspection.watch
from blemish.cli import app
from blemish.data.images import Prepared
from blemish.data.named_errors import named_errors
from blemish.errors import ArtifactError, DataError, SettingsError
from blemish.inference.monitor_state import Alarm, MonitorState, calibration_id, model_id, write_state
from blemish.inference.predictor import Prediction, Predictor
from blemish.inspection.decisions import Decision
from blemish.inspection.moving import destination_for
from blemish.inspection.record import WRITTEN_BY, Record
from blemish.inspection.watch import Callbacks, WatchSettings, watch_folder
from conftest import files_of_at_most, photo, recorded

Step = Callable[[], object]


@pytest.fixture(scope="module", params=["model_file", "onnx_file"], ids=["trained", "exported"])
def predictor(request: pytest.FixtureRequest) -> Predictor:
    """The exported one takes two images at once."""
    return Predictor.load(request.getfixturevalue(request.param), threads=2).with_threshold(0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def settings(folder: Path, **values: object) -> WatchSettings:
    found = {"poll_s": 0.001, "settle_s": 0.0, "patience_s": 0.0, "retry_s": 0.0, "until_idle_s": 0.0} | values
    return WatchSettings(folder, folder.parent / "record.csv", **found)  # type: ignore[arg-type]


def watch(predictor: Predictor, wanted: WatchSettings, *steps: Step) -> tuple[list[Decision], list[str]]:
    """Watch, with one step after each look; the decisions and the trouble."""
    decided: list[Decision] = []
    trouble: list[str] = []
    left = list(steps)

    def wait(seconds: float) -> bool:
        if seconds and left:
            left.pop(0)()
        return False

    watch_folder(predictor, wanted, Callbacks(decided.append, trouble.append, wait))
    assert not left, "the watch ended before its script"
    return decided, trouble


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder.parent / "record.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_decision_is_what_predict_says(predictor: Predictor, folder: Path) -> None:
    path = photo(folder / "day/a.png")
    ((decision,), trouble) = watch(predictor, settings(folder))
    expected = predictor.predict(path)
    assert (decision.score, decision.p_value, decision.threshold) == (expected.score, expected.p_value, 0.0)
    assert (decision.image_path, decision.verdict) == ("day/a.png", "anomalous")
    assert decision.image_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not trouble
    (row,) = rows(folder)
    assert float(row["score"]) == expected.score
    assert row["time"][10] == "T"
    assert row["time"][-6] in "+-"


def test_after_a_kill_the_first_images_are_decided_one_by_one_for_one_of_them_may_have_been_the_cause(
    onnx_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, judge = Predictor.load(onnx_file, threads=2), Predictor.predict_prepared
    for seed in range(10):
        os.utime(photo(folder / f"{seed}.png", seed), (seed, seed))
    (folder.parent / ".record.sqlite.lock").touch()
    before = dict[str, int]()

    def look(self: Predictor, prepared: Prepared, image: Path) -> Prediction:
        before[image.name] = len(recorded(folder.parent / "record.sqlite"))
        return judge(self, prepared, image)

    monkeypatch.setattr(Predictor, "predict_prepared", look)
    assert [one.image_path for one in watch(predictor, settings(folder))[0]] == [f"{seed}.png" for seed in range(10)]
    assert [before[f"{seed}.png"] for seed in range(8)] == list(range(8))


def test_images_that_wait_are_judged_two_at_once_and_decided_in_the_order_in_which_they_came(
    onnx_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, both, judge = Predictor.load(onnx_file, threads=2), threading.Barrier(2), Predictor.predict_prepared
    names = [photo(folder / f"{seed}.png", seed).name for seed in range(10)]
    for at, name in enumerate(names):
        os.utime(folder / name, (at, at))
    expected = [predictor.predict(folder / name).score for name in names]
    ended: list[str] = []

    def meet(self: Predictor, prepared: Prepared, image: Path) -> Prediction:
        both.wait(60.0)  # for the other, which one after the other would never come
        if int(image.stem) % 2 == 0:
            time.sleep(0.02)
        ended.append(image.name)
        return judge(self, prepared, image)

    monkeypatch.setattr(Predictor, "predict_prepared", meet)
    decided, trouble = watch(predictor, settings(folder, out=folder.parent / "pictures"))
    assert [(one.image_path, one.score) for one in decided] == list(zip(names, expected, strict=True))
    assert [row["file"] for row in rows(folder)] == names != ended
    assert not trouble


def test_started_again_it_does_nothing_twice(predictor: Predictor, folder: Path) -> None:
    photo(folder / "a.png")
    watch(predictor, settings(folder))
    photo(folder / "b.png", seed=1)
    os.utime(folder / "a.png")
    (decided, _) = watch(predictor, settings(folder))
    assert [one.image_path for one in decided] == ["b.png"]
    assert [row["file"] for row in rows(folder)] == ["a.png", "b.png"]


def test_other_content_under_the_same_name_is_another_image(predictor: Predictor, folder: Path) -> None:
    photo(folder / "a.png")
    wanted = settings(folder, until_idle_s=0.01)
    (decided, _) = watch(predictor, wanted, lambda: photo(folder / "a.png", seed=1), lambda: None)
    assert [one.image_path for one in decided] == ["a.png", "a.png"]
    assert len({one.image_sha256 for one in decided}) == 2


def test_a_file_written_in_pieces_is_decided_once_and_whole(predictor: Predictor, folder: Path) -> None:
    content = photo(folder.parent / "a.png").read_bytes()
    target = folder / "a.png"

    def grow(start: int) -> Step:
        def step() -> None:
            with target.open("ab") as file:
                file.write(content[start : start + len(content) // 3 + 1])

        return step

    steps = [grow(place * (len(content) // 3 + 1)) for place in range(3)]
    wanted = settings(folder, patience_s=60.0, until_idle_s=0.05)
    ((decision,), trouble) = watch(predictor, wanted, *steps)
    assert decision.verdict == "anomalous"
    assert decision.image_sha256 == hashlib.sha256(content).hexdigest()
    assert not trouble


def test_an_unreadable_file_is_reported_once_and_the_watch_goes_on(predictor: Predictor, folder: Path) -> None:
    whole = photo(folder / "b.png").read_bytes()
    (folder / "a.png").write_bytes(whole[: len(whole) // 2])
    (decided, _) = watch(predictor, settings(folder))
    assert {one.image_path: one.verdict for one in decided} == {"a.png": "unreadable", "b.png": "anomalous"}
    assert "a.png" in next(one.message for one in decided if one.image_path == "a.png")
    assert watch(predictor, settings(folder)) == ([], [])
    (folder / "a.png").write_bytes(whole)  # and then it is whole after all
    ((decision,), _) = watch(predictor, settings(folder))
    assert decision.verdict == "anomalous"


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_complete_file_that_shows_nothing_is_not_waited_for(predictor: Predictor, folder: Path, suffix: str) -> None:
    Image.new("L", (16, 16), 7).save(folder / f"a{suffix}")
    decided, looks = list[Decision](), count()
    callbacks = Callbacks(decided.append, lambda _trouble: None, lambda _seconds: next(looks) > 50)
    watch_folder(predictor, settings(folder, patience_s=1e6), callbacks)
    (decision,) = decided
    assert (decision.verdict, "one value everywhere" in decision.message) == ("unreadable", True)


@pytest.mark.parametrize("suffix", [".bmp", ".webp"])
def test_a_file_of_full_length_without_a_mark_at_its_end_is_waited_for(
    predictor: Predictor, folder: Path, suffix: str
) -> None:
    """Given its length beforehand it is decoded as one value until its pixels come."""
    path = folder / f"a{suffix}"
    Image.new("RGB", (64, 64)).save(path)
    with Image.open(photo(folder.parent / "a.png")) as drawn:
        wanted = settings(folder, patience_s=60.0, until_idle_s=0.01)
        ((decision,), _) = watch(predictor, wanted, lambda: drawn.save(path))
    assert decision.verdict == "anomalous"


def test_anomalous_images_are_moved_with_their_folders(predictor: Predictor, folder: Path) -> None:
    photo(folder / "day/a.png")
    photo(folder / "b.png", seed=1)
    bad = folder.parent / "bad"
    threshold = sorted(predictor.predict(path).score for path in folder.rglob("*.png"))[0]
    watch(predictor.with_threshold(threshold), settings(folder, move_anomalous=bad))
    moved = {path.relative_to(bad).as_posix() for path in bad.rglob("*.png")}
    left = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert len(moved) == len(left) == 1
    assert moved | left == {"day/a.png", "b.png"}
    assert moved == {row["file"] for row in rows(folder) if row["verdict"] == "anomalous"}


def test_killed_between_line_and_move_it_only_moves(predictor: Predictor, folder: Path) -> None:
    content = photo(folder / "a.png").read_bytes()
    watch(predictor, settings(folder))  # the line is there, the move was not asked for
    bad = folder.parent / "bad"
    assert watch(predictor, settings(folder, move_anomalous=bad)) == ([], [])
    assert (bad / "a.png").read_bytes() == content
    assert not (folder / "a.png").exists()
    assert len(rows(folder)) == 1


class Killed(BaseException):
    """No code handles it, as none handles SIGKILL."""


def killed_at(step: int, run: Step) -> bool:
    """Run until a call of the system that changes a file, the step-th one, is made or has returned."""
    left = step

    def count(_frame: FrameType, event: str, called: object) -> None:
        nonlocal left
        name = getattr(called, "__name__", "") if event in ("c_call", "c_return") else ""
        if name in ("write", "flush", "replace", "unlink", "execute"):
            left -= 1
            if left == 0:
                raise Killed

    sys.setprofile(count)
    try:
        run()
    except Killed:
        return True
    finally:
        sys.setprofile(None)
    return False


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files that nobody closed any more
def test_killed_at_any_step_it_decides_once_and_moves(predictor: Predictor, tmp_path: Path) -> None:
    content = photo(tmp_path / "a.png").read_bytes()
    moved_late = kills = 0
    for step in range(1, 1000):
        folder = tmp_path / f"{step}/in"
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(content)
        bad, wanted = folder.parent / "bad", settings(folder, move_anomalous=folder.parent / "bad")
        if not killed_at(step, lambda wanted=wanted: watch(predictor, wanted)):  # type: ignore[misc]
            break
        kills += 1
        is_written = bool(recorded(folder.parent / "record.sqlite"))
        assert is_written or not (bad / "a.png").exists(), "moved before the decision was on the disk"
        moved_late += is_written and (folder / "a.png").exists()
        watch(predictor, wanted)
        assert [row["file"] for row in rows(folder)] == ["a.png"]
        assert [row["image_path"] for row in recorded(folder.parent / "record.sqlite")] == ["a.png"]
        assert (bad / "a.png").read_bytes() == content
        assert not (folder / "a.png").exists()
    assert moved_late >= 2, "never killed between decision and move"
    assert kills >= 8


def test_a_moved_image_does_not_replace_another_of_its_name(predictor: Predictor, folder: Path) -> None:
    bad = folder.parent / "bad"
    contents = []
    for seed in (0, 1, 1):  # the last one comes again, as after a copy to another disk that was cut off
        contents.append(photo(folder / "a.png", seed).read_bytes())
        watch(predictor, settings(folder, move_anomalous=bad))
    sha256 = hashlib.sha256(contents[1]).hexdigest()
    assert {path.name: path.read_bytes() for path in bad.iterdir()} == {
        "a.png": contents[0],
        f"a-{sha256[:12]}.png": contents[1],
    }
    assert destination_for(bad / "a.png", sha256) == bad / f"a-{sha256[:12]}.png"
    assert len(rows(folder)) == 2


def test_a_full_disk_is_said_and_nothing_is_lost(predictor: Predictor, folder: Path) -> None:
    photo(folder / "a.png")
    watch(predictor, settings(folder))
    photo(folder / "b.png", seed=1)
    with ExitStack() as stack:
        stack.enter_context(files_of_at_most(4096))  # less than the record has already
        ((decision,), (said,)) = watch(predictor, settings(folder, until_idle_s=1e-9), stack.close)
    assert "record.sqlite: cannot be written" in said
    assert said.endswith("trying again")
    assert decision.image_path == "b.png"
    assert [row["file"] for row in rows(folder)] == ["a.png", "b.png"]


def test_a_move_that_fails_is_tried_again_while_others_are_decided(predictor: Predictor, folder: Path) -> None:
    bad = folder.parent / "bad"
    bad.mkdir()
    (bad / "day").write_text("in the way")
    photo(folder / "day/a.png")
    photo(folder / "b.png", seed=1)
    (decided, (said,)) = watch(predictor, settings(folder, move_anomalous=bad), (bad / "day").unlink)
    assert {one.image_path for one in decided} == {"day/a.png", "b.png"}
    assert "day: cannot be made a folder" in said
    assert {path.relative_to(bad).as_posix() for path in bad.rglob("*.png")} == {"day/a.png", "b.png"}


def test_an_image_replaced_while_it_is_judged_is_not_moved_for_the_other(predictor: Predictor, folder: Path) -> None:
    """The camera writes over an image after its line and before its move."""
    bad, first = folder.parent / "bad", photo(folder / "a.png").read_bytes()
    decided: list[Decision] = []

    def replace(decision: Decision) -> None:
        decided.append(decision)
        if len(decided) == 1:
            photo(folder / "a.png", seed=1)
            photo(folder / "b.png", seed=2)
        elif decision.image_path == "b.png":
            (folder / "b.png").unlink()

    callbacks = Callbacks(replace, print, lambda _seconds: False)
    watch_folder(predictor, settings(folder, move_anomalous=bad, until_idle_s=0.01), callbacks)
    assert [one.image_path for one in decided] == ["a.png", "b.png", "a.png"]  # a name never seen goes first
    assert decided[0].image_sha256 == hashlib.sha256(first).hexdigest()
    moved = [path.read_bytes() for path in bad.iterdir()]
    assert [hashlib.sha256(content).hexdigest() for content in moved] == [decided[2].image_sha256]


def test_a_folder_that_is_gone_for_a_while_is_waited_for(predictor: Predictor, folder: Path) -> None:
    photo(folder / "a.png")
    away = folder.parent / "away"
    steps: list[Step] = [
        lambda: folder.rename(away),
        lambda: away.rename(folder),
        lambda: photo(folder / "b.png", seed=1),
    ]
    (decided, (said,)) = watch(predictor, settings(folder, until_idle_s=0.05), *steps)
    assert [one.image_path for one in decided] == ["a.png", "b.png"]
    assert "in: cannot be read" in said


def test_told_to_stop_it_stops_after_the_image_at_hand(predictor: Predictor, folder: Path) -> None:
    for seed in range(3):
        photo(folder / f"{seed}.png", seed)
    decided: list[Decision] = []
    callbacks = Callbacks(decided.append, print, lambda _seconds: len(decided) == 1)
    assert watch_folder(predictor, settings(folder, until_idle_s=None), callbacks).total() == 1
    assert len(rows(folder)) == 1


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["watch", *(str(argument) for argument in arguments)])


def test_the_command_watches_until_it_is_idle(model_file: Path, folder: Path) -> None:
    photo(folder / "a.png")
    (folder / "b.png").write_bytes(b"junk")
    options = ["--until-idle", "0", "--settle", "0", "--patience", "0", "--poll", "0.01", "--threshold", "0"]
    result = run(model_file, folder, *options)
    assert result.exit_code == 0, result.stderr
    lines = {line.split()[1]: line for line in result.stdout.splitlines()}
    assert lines["ANOMALOUS"].endswith("a.png")
    assert "b.png: not an image" in lines["UNREADABLE"]
    assert "2 images decided: 0 good, 1 anomalous, 1 unreadable" in result.stderr
    with (folder.parent / "in.decisions.csv").open(newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == ["a.png", "b.png"]
    assert "0 images decided" in run(model_file, folder, *options).stderr
    assert "ends with '.txt'" in run(model_file, folder, "--to", folder.parent / "a.txt").stderr
    assert run(model_file, folder / "none").exit_code == 2


def test_the_folder_one_stands_in_can_be_watched(
    model_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert run(model_file, ".", "--until-idle", "0").exit_code == 0
    assert (folder.parent / "in.decisions.csv").is_file()


def test_a_withdrawn_certificate_is_said(model_file: Path, folder: Path) -> None:
    header = Predictor.load(model_file).header
    alarm = Alarm(stream="brightness", images=40, image="d.png", usual=0.5, now=0.4)
    mark = calibration_id(header)
    state = MonitorState(
        model_id=model_id(header), calibration_id=mark, max_false_alarm_probability=0.01, streams={}, alarms=(alarm,)
    )
    write_state(folder.parent / "watch.json", state)
    result = run(model_file, folder, "--until-idle", "0", "--state", folder.parent / "watch.json")
    assert result.stderr.count("the certificate is withdrawn: brightness has changed") == 1


def test_what_cannot_be_watched_is_refused(predictor: Predictor, folder: Path) -> None:
    for wanted, kind, message in (
        (settings(folder / "none"), DataError, "none: no such folder to watch"),
        (settings(photo(folder / "a.png")), DataError, r"a\.png: a file, not a folder to watch"),
        (settings(folder, move_anomalous=folder), SettingsError, "inside the watched folder"),
        (settings(folder, move_anomalous=folder / "bad"), SettingsError, "inside the watched folder"),
        (settings(folder, move_anomalous=folder / "a.png/bad"), SettingsError, "inside the watched folder"),
        (settings(folder, move_anomalous=folder.parent / "f/bad"), DataError, "f/bad: cannot be made a folder"),
    ):
        with suppress(FileExistsError):
            (folder.parent / "f").touch(exist_ok=False)
        with pytest.raises(kind, match=message):
            watch(predictor, wanted)
    with (
        Record.open(folder.parent / "record.sqlite", {WRITTEN_BY: "watch"}),
        pytest.raises(DataError, match="another process"),
    ):
        watch(predictor, settings(folder))
    shutil.rmtree(folder)


def test_another_image_that_comes_while_one_is_moved_stays(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the last moment, after the file was looked at once more; and on another disk, while it is copied there."""
    bad, first = folder.parent / "bad", photo(folder / "a.png").read_bytes()
    second = photo(folder.parent / "b.png", seed=1).read_bytes()
    move, came = Path.replace, []

    def replace(source: Path, target: Path) -> Path:
        if source.name == ".a.png.moving" and not came:
            came.append(source)
            (folder / "a.png").write_bytes(second)
            raise OSError(errno.EXDEV, "another disk")
        return move(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    watch(predictor, settings(folder, move_anomalous=bad, until_idle_s=0.01))
    assert came
    assert sorted(path.read_bytes() for path in bad.iterdir()) == sorted([first, second])
    assert {row["sha256"] for row in rows(folder)} == {hashlib.sha256(one).hexdigest() for one in (first, second)}
    assert not list(folder.iterdir())


def test_what_a_killed_watch_had_taken_away_is_put_back(predictor: Predictor, folder: Path) -> None:
    content = photo(folder / "day/a.png").read_bytes()
    (folder / "day/a.png").rename(folder / "day/.a.png.moving")
    watch(predictor, settings(folder))
    assert (folder / "day/a.png").read_bytes() == content
    assert [row["file"] for row in rows(folder)] == ["day/a.png"]


def test_a_link_is_moved_as_the_image_it_leads_to(predictor: Predictor, folder: Path) -> None:
    content = photo(folder.parent / "store/a.png").read_bytes()
    (folder / "a.png").symlink_to("../store/a.png")
    watch(predictor, settings(folder, move_anomalous=folder.parent / "bad/deep"))
    moved = folder.parent / "bad/deep/a.png"
    assert (moved.is_symlink(), moved.read_bytes()) == (False, content)
    assert (folder.parent / "store/a.png").is_file()
    assert not list(folder.iterdir())


def test_an_image_that_the_disk_does_not_give_is_unreadable_and_judged_once_it_does(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided: list[Decision] = []
    tries = count()

    def read(path: Path) -> bytes:
        with named_errors(path):
            if next(tries) < 3:
                raise OSError(errno.EIO, "Input/output error")
            return path.read_bytes()

    monkeypatch.setattr("blemish.inspection.watch.read_content", read)
    photo(folder / "a.png")
    watch_folder(
        predictor,
        settings(folder, until_idle_s=None),
        Callbacks(decided.append, print, lambda seconds: bool(seconds) and len(decided) == 2),
    )
    assert [one.verdict for one in decided] == ["unreadable", "anomalous"]
    assert "a.png: cannot be read: Input/output error" in decided[0].message


def test_an_image_that_breaks_the_program_is_unreadable(
    predictor: Predictor, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise MemoryError("so many pixels")

    monkeypatch.setattr(blemish.inspection.watch, "prepare_content", fails)
    photo(folder / "a.png")
    ((decision,), _) = watch(predictor, settings(folder))
    assert (decision.verdict, "MemoryError: so many pixels" in decision.message) == ("unreadable", True)


def test_what_cannot_be_printed_is_said_once_and_the_watch_goes_on(predictor: Predictor, folder: Path) -> None:
    def full(_decision: Decision) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for seed in range(3):
        photo(folder / f"{seed}.png", seed)
    said: list[str] = []
    watch_folder(predictor, settings(folder), Callbacks(full, said.append, lambda _seconds: False))
    assert len(rows(folder)) == 3
    assert len(said) == 1
    assert "cannot be printed any more: no space left" in said[0]


def test_a_folder_that_stays_away_is_no_idle_one(predictor: Predictor, folder: Path) -> None:
    photo(folder / "a.png")
    with pytest.raises(DataError, match="in: cannot be read"):
        watch(predictor, settings(folder, until_idle_s=0.05), lambda: shutil.rmtree(folder))


def test_watching_the_root_needs_a_record(model_file: Path) -> None:
    result = run(model_file, "/", "--until-idle", "0")
    assert (result.exit_code, "--to: / has no folder beside it" in result.stderr) == (2, True)


class Broken:
    """A network with a weight that is not a number."""

    def maps(self, images: np.ndarray) -> np.ndarray:
        return np.full((len(images), *images.shape[2:]), np.nan, np.float32)

    def reconstruct(self, images: np.ndarray) -> None:
        """Nothing."""


def test_a_broken_model_ends_the_watch_and_calls_no_image_unreadable(predictor: Predictor, folder: Path) -> None:
    photo(folder / "a.png")
    with pytest.raises(ArtifactError, match="gives no number"):
        watch(Predictor(predictor.header, Broken()), settings(folder))
    assert not recorded(folder.parent / "record.sqlite")
