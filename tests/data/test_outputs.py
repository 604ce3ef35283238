"""Reports and models replace nothing that blemish did not write, and do not go among good training images."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blemish.cli import app
from blemish.data.outputs import check_output, check_report_folder, refuse_foreign
from blemish.errors import DataError


@pytest.mark.parametrize("name", ["results.json", "report.html", "check.json", "check.html", "challenge.json"])
def test_a_users_report_is_not_replaced(name: str, model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    command = {
        "results.json": ["evaluate", model_file, shared_parts],
        "report.html": ["evaluate", model_file, shared_parts],
        "check.json": ["data", "check", shared_parts],
        "check.html": ["data", "check", shared_parts],
        "challenge.json": ["challenge", model_file, shared_parts],
    }[name]
    result = CliRunner().invoke(app, [*map(str, command), "-o", str(tmp_path)])
    assert (result.exit_code, f"{name}: blemish did not write that" in result.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_a_users_report_is_refused_before_any_image_is_looked_at(tmp_path: Path) -> None:
    (tmp_path / "check.json").write_text('{"mine": 1}')
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path / "nowhere"), "-o", str(tmp_path)])
    assert (result.exit_code, "check.json: blemish did not write that" in result.stderr) == (2, True)


def test_nothing_is_written_among_good_images(model_file: Path, parts: Path) -> None:
    good = parts / "train" / "good"
    before = sorted(good.iterdir())
    for command in (
        ["train", parts, "-o", good / "m.safetensors"],
        ["export", model_file, "-o", good / "m.onnx"],
        ["evaluate", model_file, parts, "-o", good / "out"],
    ):
        result = CliRunner().invoke(app, [str(part) for part in command])
        assert (result.exit_code, "inside a folder of good training images" in result.stderr) == (2, True)
    assert sorted(good.iterdir()) == before


@pytest.mark.parametrize("place", ["test", "Test/good", "ground_truth/bar/deep", "gt/bar", "train/out", "Train/m.json"])
@pytest.mark.parametrize("is_linked", [False, True])
def test_a_place_among_a_data_sets_images_is_told_by_any_name(place: str, is_linked: bool, tmp_path: Path) -> None:
    for name in ("train/good", "test/good"):
        (tmp_path / "parts" / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "parts")
    with pytest.raises(DataError, match="inside a data set's"):
        check_output(tmp_path / ("link" if is_linked else "parts") / place)
    check_output(tmp_path / "parts/m.json")


@pytest.mark.parametrize("place", ["test/out", "masks/out"])
def test_folders_beside_a_train_that_is_no_data_sets_take_what_is_written(place: str, tmp_path: Path) -> None:
    for name in ("train/run.py", f"{place}/notes.txt", f"{Path(place).parent}/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    check_output(tmp_path / place / "m.json")
    (tmp_path / place / "a.png").touch()
    with pytest.raises(DataError, match="inside a data set's"):
        check_output(tmp_path / place / "m.json")


WRITING: list[list[str]] = [
    ["train", "PARTS", "-o", "OUT/m.safetensors"],
    ["export", "MODEL", "-o", "OUT/m.onnx"],
    ["evaluate", "MODEL", "PARTS", "-o", "OUT"],
    ["challenge", "MODEL", "PARTS", "-o", "OUT"],
    ["compare", "PARTS", "--detectors", "ae_l2", "-o", "OUT"],
    ["data", "check", "PARTS", "-o", "OUT/new"],
    ["data", "synth", "hazelnuts", "OUT/new"],
    ["monitor", "MODEL", "PARTS/train/good", "--state", "OUT/state.json"],
    ["watch", "MODEL", "PARTS/train", "--to", "OUT/watched.csv"],
    ["fleet", "manifest", "PARTS/train/good", "--product", "nut", "-o", "OUT/m.csv"],
]


@pytest.mark.parametrize("command", WRITING, ids=lambda command: " ".join(command[:2]))
@pytest.mark.parametrize("place", ["test/good", "train/out"])
def test_nothing_is_written_among_a_data_sets_images(
    command: list[str], place: str, model_file: Path, shared_parts: Path
) -> None:
    before = sorted(shared_parts.rglob("*"))
    places = {"PARTS": shared_parts, "MODEL": model_file, "OUT": shared_parts / place}
    for name, path in places.items():
        command = [word.replace(name, str(path)) for word in command]
    result = CliRunner().invoke(app, command)
    assert (result.exit_code, "inside a data set's" in result.stderr) == (2, True), result.stderr
    assert sorted(shared_parts.rglob("*")) == before


@pytest.mark.slow
def test_our_own_report_is_replaced(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    few = [word for name in ("repeats=10", "worst=0", "panels_per_type=0") for word in ("--set", name)]
    written = []
    for threshold in ("0.1", "0.2"):
        arguments = [
            "evaluate",
            str(model_file),
            str(shared_parts),
            "-o",
            str(tmp_path),
            "--threshold",
            threshold,
            *few,
        ]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.stderr
        written.append(json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["threshold"])
    assert written == [0.1, 0.2]


@pytest.mark.parametrize("ending", ["json", "csv", "html"])
@pytest.mark.parametrize("stem", ["comparison", "sweep", "threshold"])
def test_pages_of_many_runs_replace_nothing_of_a_users(
    stem: str, ending: str, shared_parts: Path, tmp_path: Path
) -> None:
    (tmp_path / f"{stem}.{ending}").write_text("mine")
    command = {
        "comparison": ["compare", shared_parts, "--detectors", "ae_l2"],
        "sweep": ["sweep", "setting", shared_parts, "--set", "score.min_defect_px=1,2"],
        "threshold": ["sweep", "threshold", tmp_path / "nowhere"],
    }[stem]
    result = CliRunner().invoke(app, [*map(str, command), "-o", str(tmp_path)])
    assert (result.exit_code, f"{stem}.{ending}: blemish did not write" in result.stderr) == (2, True), result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"{stem}.{ending}"]
    assert (tmp_path / f"{stem}.{ending}").read_text() == "mine"


def test_our_own_table_is_known_by_the_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "sweep.csv").write_text("value,seed\n")
    with pytest.raises(DataError, match=r"sweep\.csv: blemish did not write that"):
        check_report_folder(tmp_path, "sweep.json", "sweep.csv")
    (tmp_path / "sweep.json").write_text('{"versions": {"blemish": "1"}}')
    check_report_folder(tmp_path, "sweep.json", "sweep.csv")


NOT_OURS = {
    "report.html": b"<p>no blemish was found</p>",
    "results.json": b'{"classes": ["scratch", "blemish"], "version": "1.0"}',
    "index.html": b"<title>blemish</title>",
    "a.png": b"\x89PNG\r\n\x1a\n a picture of a blemish",
}


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_users_file_that_has_the_word_is_not_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(NOT_OURS[name])
    with pytest.raises(DataError, match="blemish did not write that"):
        refuse_foreign(tmp_path / name, look_at=-1)


def test_a_model_is_no_maps_of_an_evaluation(model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    shutil.copy(model_file, tmp_path / "maps.safetensors")
    result = CliRunner().invoke(app, ["evaluate", str(model_file), str(shared_parts), "-o", str(tmp_path)])
    assert (result.exit_code, "maps.safetensors: blemish did not write that" in result.stderr) == (2, True)
    assert (tmp_path / "maps.safetensors").read_bytes() == model_file.read_bytes()


@pytest.mark.parametrize(
    "place", ["valid/ok/out", "test", "ground_truth", "ground_truth/bar", "Train/ok", ".", "train/good/x", "train/out"]
)
@pytest.mark.parametrize("is_linked", [False, True])
def test_pictures_do_not_go_into_a_data_set_by_any_name(
    place: str, is_linked: bool, model_file: Path, parts: Path, tmp_path: Path
) -> None:
    out = parts / place
    if place == ".":
        (parts / "train/good").rename(parts / "train/ok")
    if is_linked:
        out.mkdir(parents=True, exist_ok=True)
        (tmp_path / "link").symlink_to(out)
        out = tmp_path / "link"
    before = sorted(parts.rglob("*"))
    result = CliRunner().invoke(app, ["inspect", str(model_file), str(parts / "test/good"), "-o", str(out)])
    assert (result.exit_code, "name a folder beside" in result.stderr) == (2, True)
    assert sorted(parts.rglob("*")) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody may write into")
@pytest.mark.parametrize("below", ["", "a/b"])
def test_a_folder_that_cannot_be_written_is_refused_before_a_long_work(below: str) -> None:
    with pytest.raises(DataError, match=r"^/proc/self: cannot be written: "):
        check_report_folder(Path("/proc/self") / below, "results.json")
