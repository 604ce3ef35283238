"""What is said of slow photos, with clocks that are told what time it is."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import blemish.inspection.watch
from blemish.cli import app
from blemish.inference import predictor as predictor_module
from blemish.inference.predictor import Predictor
from blemish.inspection.inspect import Request, inspect_images
from blemish.inspection.slow_photos import ARRIVALS, SlowPhotos
from blemish.inspection.watch import Callbacks, WatchSettings, watch_folder
from conftest import draw_part, write_photos


def test_one_slow_photo_among_quick_ones_is_said_once() -> None:
    slow = SlowPhotos()
    assert slow.took("first.png", None, 9.0) == []  # there are no others yet
    for place in range(10):
        assert slow.took(f"{place}.png", None, 0.1) == []
    assert slow.took("quick.png", None, 0.9) == []  # nine times the others, but no second
    (said,) = slow.took("big.tif", None, 2.0)
    assert said.startswith("big.tif: took 2 s, the others 0.1 s;")
    assert slow.took("again.tif", None, 5.0) == []


@pytest.mark.parametrize(("every_s", "took_s", "is_late"), [(1.0, 2.0, True), (0.05, 0.06, True), (1.0, 0.9, False)])
def test_photos_that_come_faster_than_they_go_are_said_once(every_s: float, took_s: float, is_late: bool) -> None:
    slow = SlowPhotos()
    said = [text for place in range(2000) for text in slow.took(f"{place}.png", 100 + every_s * place, took_s)]
    assert len(said) == is_late
    assert not said or f"photos come every {every_s:.2g} s and take {took_s:.2g} s each" in said[0]


def test_a_burst_that_is_worked_off_before_the_next_is_no_trouble() -> None:
    slow = SlowPhotos()
    came = [100.0 + 60.0 * burst + 0.01 * place for burst in range(20) for place in range(2 * ARRIVALS)]
    assert not [text for at_s in came for text in slow.took("a.png", at_s, 0.5)]
    assert not [text for _ in range(99) for text in slow.took("a.png", None, 0.5)]  # there when the watch began


def test_a_watch_says_which_photo_was_slow(model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, now = write_photos(tmp_path / "in", 8), [0.0]
    monkeypatch.setattr(blemish.inspection.watch, "time", SimpleNamespace(monotonic=lambda: now[0]))
    prepare = blemish.inspection.watch.prepare_content

    def slowly(content: bytes, path: Path, policy: object) -> object:
        now[0] += 30.0 if path.name == "6.png" else 0.1
        return prepare(content, path, policy)  # type: ignore[arg-type]

    monkeypatch.setattr(blemish.inspection.watch, "prepare_content", slowly)
    notes: list[str] = []

    def wait(seconds: float) -> bool:
        now[0] += seconds
        return False

    settings = WatchSettings(folder, tmp_path / "r.sqlite", settle_s=0.0, until_idle_s=0.0)
    callbacks = Callbacks(lambda _: None, pytest.fail, wait, note=notes.append)
    assert watch_folder(Predictor.load(model_file), settings, callbacks).total() == 8
    assert [note.partition(";")[0] for note in notes] == ["6.png: took 30 s, the others 0.1 s"]


def test_an_inspection_says_after_the_first_photo_how_long_the_rest_takes(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = write_photos(tmp_path / "in", 5), [0.0]

    def counter() -> float:
        now[0] += 38.0  # asked before and after each photo
        return now[0]

    monkeypatch.setattr(predictor_module, "time", SimpleNamespace(perf_counter=counter))
    events: list[str] = []
    rows = inspect_images(Predictor.load(model_file), [folder], Request(model_file), on_slow=events.append).rows()
    events.extend(Path(row["path"]).name for row in rows)
    assert events[1:] == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert events[0].startswith("the model took 38 s for an image of 64 x 64 pixels: about 3 min for the 4 left;")


def pages(path: Path, count: int) -> Path:
    first, *others = [draw_part(np.random.default_rng(place))[0] for place in range(count)]
    first.save(path, save_all=True, append_images=others)
    return path


def test_the_row_says_which_of_several_pages_was_judged(model_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pages(folder / "a.tif", 3)
    pages(folder / "b.tif", 1)
    Image.fromarray(np.random.default_rng(0).random((64, 64), np.float32)).save(
        folder / "c.tif", save_all=True, append_images=[Image.fromarray(np.ones((64, 64), np.float32))]
    )
    said = "page 1 of 3 was judged, the others were not looked at"
    rows = list(inspect_images(Predictor.load(model_file), [folder], Request(model_file)).rows())
    assert [row["message"] for row in rows] == [
        said,
        "",
        said.replace("3", "2") + "; grey, and the model was trained on colour",
    ]
    result = CliRunner().invoke(app, ["inspect", str(model_file), str(folder)])
    assert f"a.tif  ({said})" in result.stdout
    assert "of 2 images with several pages only page 1 was judged" in result.stderr
    batch = ["inspect", str(model_file), str(folder), "--fdr", "0.99", "-o", str(tmp_path / "out")]
    assert "of 2 images with several pages" in CliRunner().invoke(app, batch).stderr  # though looked at twice
    options = ["--to", str(tmp_path / "r.csv"), "--settle", "0", "--until-idle", "0"]
    result = CliRunner().invoke(app, ["watch", str(model_file), str(folder), *options])
    assert f"a.tif  ({said})" in result.stdout
    assert said in (tmp_path / "r.csv").read_text()
