"""What `inspect -o` writes, and what it never replaces."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.data.csv_cells import unescape_cell
from blemish.data.files import atomic_write, remove_left_parts
from blemish.inference.overlay import draw_at_full_size, overlay
from blemish.inference.predictor import Predictor
from blemish.inference.score import resize_map
from blemish.inspection import index_page
from blemish.inspection.arrivals import scan
from blemish.inspection.decisions import Decision
from blemish.inspection.index_page import INDEX, write_index
from blemish.inspection.rows import Row, as_csv, to_row
from conftest import write_photos
from reference.command import run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 3, defects=[1])


@pytest.mark.slow
def test_an_unreadable_image_has_a_row_and_an_exit_code(model_file: Path, photos: Path, tmp_path: Path) -> None:
    (photos / "1.png").write_bytes(b"no image")
    calm = [photos, "--skip-bad", "--threshold", "1e9"]
    result = run("inspect", model_file, *calm, "--format", "json", "-o", tmp_path / "out")
    rows = json.loads(result.stdout)
    assert (result.exit_code, [row["verdict"] for row in rows]) == (3, ["good", "unreadable", "good"])
    assert (rows[1]["score"], rows[1]["is_anomalous"]) == (None, None)
    assert "not an image that can be read" in rows[1]["message"]
    assert json.loads((tmp_path / "out/inspect.json").read_text()) == rows
    assert (
        "0 of 2 anomalous at threshold 1e+09; of 3 images, 1 could not be read"
        in run("inspect", model_file, *calm).stdout
    )
    found = list(csv.DictReader(run("inspect", model_file, *calm, "--format", "csv").stdout.splitlines()))
    assert [row["score"] == "" for row in found] == [False, True, False]
    assert run("inspect", model_file, photos, "--skip-bad", "--threshold", "0").exit_code == 1
    assert run("inspect", model_file, photos).exit_code == 2
    batch = run("inspect", model_file, photos, "--skip-bad", "--fdr", "0.9", "--format", "json")
    assert [row["verdict"] == "unreadable" for row in json.loads(batch.stdout)] == [False, True, False]


def test_regions_are_in_json_and_in_csv(model_file: Path, photos: Path) -> None:
    predictor = Predictor.load(model_file, device="cpu")
    prediction = predictor.predict(photos / "1.png")
    level = float(np.quantile(prediction.scored_map, 0.99))
    rows = json.loads(run("inspect", model_file, photos / "1.png", "--threshold", level, "--format", "json").stdout)
    expected = [region._asdict() for region in predictor.with_threshold(level).predict(photos / "1.png").regions]
    assert expected
    assert (rows[0]["regions"], rows[0]["region_count"]) == (expected[:100], len(expected))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("masks/0.png", b"ground truth"),
        ("masks/other.png", b"ground truth"),
        ("overlays/note.txt", b"mine"),
        ("inspect.json", b'{"mine": 1}'),
        ("inspect.csv", b"part,price\n"),
        (INDEX, b"<html>my page</html>"),
    ],
)
def test_nothing_of_the_users_is_replaced(
    model_file: Path, photos: Path, tmp_path: Path, name: str, content: bytes
) -> None:
    out, form = tmp_path / "out", "csv" if name.endswith("csv") else "json"
    path = out / name
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    for each in {form, "table"}:
        result = run("inspect", model_file, photos, "-o", out, "--format", each)
        assert (result.exit_code, result.stdout) == (2, "")
        assert re.search("blemish did not write that|not of an inspection", result.stderr)
    assert [file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()] == [name]
    assert path.read_bytes() == content


def test_what_an_inspection_wrote_is_replaced_but_no_picture_put_among_it(
    model_file: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        result = run("inspect", model_file, photos, "-o", out)
        assert (result.exit_code in (0, 1), f"written: {out / INDEX}" in result.stderr) == (True, True)
    Image.new("L", (8, 8)).save(out / "masks" / "2.png")
    assert run("inspect", model_file, photos, "-o", out).exit_code == 2


def test_rows_of_an_earlier_inspection_in_another_format_are_not_left_to_look_like_these(
    model_file: Path, photos: Path, tmp_path: Path
) -> None:
    for form, photo in (("csv", "0.png"), ("json", "1.png")):
        run("inspect", model_file, photos / photo, "-o", tmp_path / "out", "--format", form)
    rows = list(csv.DictReader((tmp_path / "out/inspect.csv").read_text().splitlines()))
    assert [row["path"] for row in rows] == [str(photos / "1.png")]
    assert [row["path"] for row in json.loads((tmp_path / "out/inspect.json").read_text())] == [rows[0]["path"]]


@pytest.mark.skipif(sys.platform != "linux", reason="such names are refused by other systems")
def test_a_name_that_is_not_utf8_is_left_out_with_a_row(model_file: Path, photos: Path, tmp_path: Path) -> None:
    bad = (photos / "1.png").rename(photos / os.fsdecode(b"bad\xff.png"))
    calm = [photos, "--skip-bad", "--threshold", "1e9", "--format", "json"]
    for more in ([], ["-o", tmp_path / "out"]):
        result = run("inspect", model_file, *calm, *more)
        rows = json.loads(result.stdout)
        assert result.exit_code == 3
        assert [row["verdict"] for row in rows] == ["unreadable", "good", "good"]
        assert rows[0]["path"].endswith("bad\\udcff.png")
        assert "not UTF-8; rename it" in rows[0]["message"]
    for given in (photos, bad):
        assert run("inspect", model_file, given).exit_code == 2
    one = json.loads(run("inspect", model_file, bad, *calm[1:], "-o", tmp_path / "other").stdout)
    assert [row["verdict"] for row in one] == ["unreadable"]


def test_pictures_do_not_go_among_good_training_images(model_file: Path, photos: Path, parts: Path) -> None:
    for out in (parts / "train/good", parts / "train/good/out"):
        result = run("inspect", model_file, photos, "-o", out)
        assert (result.exit_code, "good training images" in result.stderr) == (2, True)
    assert not list((parts / "train/good").glob("*/"))


def test_pictures_do_not_go_among_test_images_and_masks(model_file: Path, parts: Path) -> None:
    for out in (parts / "test/bar", parts / "test/bar/out", parts / "ground_truth/bar"):
        before = sorted(parts.rglob("*"))
        result = run("inspect", model_file, parts / "test/bar", "-o", out)
        assert (result.exit_code, "name a folder beside the images" in " ".join(result.stderr.split())) == (2, True)
        assert sorted(parts.rglob("*")) == before


def test_a_watch_draws_no_pictures_among_test_images(model_file: Path, photos: Path, parts: Path) -> None:
    before = sorted(parts.rglob("*"))
    result = run("watch", model_file, photos, "--until-idle", "0", "--out", parts / "test/bar/out")
    assert (result.exit_code, "name a folder beside the images" in " ".join(result.stderr.split())) == (2, True)
    assert sorted(parts.rglob("*")) == before


def test_pictures_in_the_inspected_folder_are_no_photos_by_any_name_of_it(
    model_file: Path, photos: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(photos)
    assert run("inspect", model_file, photos, "-o", link).exit_code in (0, 1)
    (photos / "masks/mine.png").write_bytes((photos / "0.png").read_bytes())
    names = ["0.png", "1.png", "2.png", "masks/mine.png"]
    for place in (link, photos):
        rows = json.loads(run("inspect", model_file, place, "--format", "json").stdout)
        assert [row["path"] for row in rows] == [str(place / name) for name in names]
        assert sorted(scan(place)) == names
    (photos / "masks/mine.png").unlink()
    again = run("inspect", model_file, link, "-o", photos, "--resume", "--format", "json")
    assert len(json.loads(again.stdout)) == 3
    shutil.copy(photos / "0.png", photos / "masks/0.png")  # a photo in the place of a picture
    assert sorted(scan(photos)) == ["0.png", "1.png", "2.png", "masks/0.png"]


def judged_row(name: str, score: float) -> Row:
    return to_row(Decision(name, "", "anomalous" if score > 2.5 else "good", score, 0.5, 2.5))


def test_the_page_shows_the_worst_first_and_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_page, "MAX_IMAGES", 3)
    rows = [(f"{score}.png", judged_row(f"{score}.png", score)) for score in (1.0, 3.0, 2.0, 0.5)]
    rows.append(("<b>.png", to_row(Decision("<b>.png", "", "unreadable", message="no <image>"))))
    page = write_index(iter(rows), tmp_path, "inspect.csv", "<m>.onnx").read_text()
    assert "5 images: 1 anomalous, 3 good, 1 unreadable" in page
    assert re.findall(r"<br>([^<]*png)|> ([^<]*png)<br>score", page) == [
        ("&lt;b&gt;.png", ""),
        ("", "3.0.png"),
        ("", "2.0.png"),
    ]
    assert "The worst 3 are shown" in page
    assert 'Judged by &lt;m&gt;.onnx; all rows: <a href="inspect.csv">inspect.csv</a>.' in page
    assert "from 0.8 of the threshold to\ntwice it" in page
    assert "prefers-color-scheme:dark" in page
    assert "no &lt;image&gt;" in page


def test_the_page_says_of_a_judged_image_what_the_console_does(tmp_path: Path) -> None:
    decision = Decision("a\u202e.png", "", "good", 1.0, 0.5, 2.5, message="12 bits in 16?; laid over <black>")
    page = write_index([("a.png", to_row(decision))], tmp_path, "inspect.json", "m").read_text()
    assert "<br>12 bits in 16?; laid over &lt;black&gt;</figcaption>" in page
    assert r"</b> a\u202e.png<br>score" in page


@pytest.mark.parametrize(("count", "said"), [(1, "1 region,"), (2, "2 regions,")])
def test_the_page_counts_one_image_and_one_region_as_one(tmp_path: Path, count: int, said: str) -> None:
    row = judged_row("a.png", 3.0)
    row["region_count"] = count
    page = write_index([("a.png", row)], tmp_path, "inspect.json", "m").read_text()
    assert said in page
    assert "1 image: 1 anomalous" in page


def test_the_page_names_images_below_the_folder_that_they_share(tmp_path: Path) -> None:
    paths = ("/line 3/day/<a>.png", "/line 3/day/x/b.png")
    page = write_index([(path, judged_row(path, 3.0)) for path in paths], tmp_path, "inspect.json", "m").read_text()
    assert "Names are those below /line 3/day." in page
    assert re.findall(r"</b> ([^ ]*)<br>score", page) == ["&lt;a&gt;.png", "x/b.png"]
    page = write_index([("a.png", judged_row("a.png", 3.0))], tmp_path, "inspect.json", "m").read_text()
    assert "below" not in page


def test_text_that_a_spreadsheet_would_run_is_marked_as_text() -> None:
    names = ["=1+1.png", "+a.png", "-a.png", "@a.png", "'a.png", "a.png"]
    found = list(csv.DictReader(as_csv(judged_row(name, 0.1) for name in names)))
    assert [row["path"] for row in found] == ["'=1+1.png", "'+a.png", "'-a.png", "'@a.png", "'a.png", "a.png"]
    assert [unescape_cell(row["path"]) for row in found] == names


@pytest.mark.slow
@pytest.mark.parametrize("size_px", [(700, 1800), (40, 30), (300, 20)])
def test_pictures_drawn_in_strips_are_those_drawn_at_once(size_px: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (*size_px, 3), dtype=np.uint8)
    scored = np.kron(rng.random((12, 12)), np.ones((5, 5))).astype(np.float32)
    full = resize_map(scored, size_px)
    for threshold in (0.8, 0.0):
        picture, mask = draw_at_full_size(image, scored, threshold)
        np.testing.assert_array_equal(picture, overlay(image, full, threshold))
        np.testing.assert_array_equal(mask > 0, full > threshold)


KILLED = """
import sys, time
from pathlib import Path
from blemish.data.files import atomic_write
from blemish.data.outputs import new_folder
with {writer}(Path(sys.argv[1])) as temporary:
    ({file}).write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be deleted there")
@pytest.mark.parametrize(("writer", "file"), [("atomic_write", "temporary"), ("new_folder", "temporary / 'a'")])
def test_what_a_killed_process_left_is_deleted_but_not_what_is_being_written(
    writer: str, file: str, tmp_path: Path
) -> None:
    target = tmp_path / "a [1].json"
    killed = KILLED.format(writer=writer, file=file)
    with subprocess.Popen([sys.executable, "-c", killed, target], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        (part,) = tmp_path.iterdir()
        os.utime(part, (time.time() - 60,) * 2)
        remove_left_parts(tmp_path)
        remove_left_parts(tmp_path, target.name)
        assert list(tmp_path.iterdir()) == [part]
        process.send_signal(signal.SIGKILL)
    remove_left_parts(tmp_path, "b.json")
    assert list(tmp_path.iterdir()) == [part]
    os.utime(part)  # as where it is gone on with at once
    remove_left_parts(tmp_path, target.name)
    assert list(tmp_path.iterdir()) == []
    with atomic_write(target) as temporary:
        temporary.write_text("whole")
    assert target.read_text() == "whole"
