"""Inspection of many images: in order, bit for bit as one by one, and resumed where it was interrupted."""

import csv
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from blemish.cli import app
from blemish.data.decode import ImageLike
from blemish.data.images import Prepared
from blemish.data.outputs import check_report_folder
from blemish.errors import DataError, SettingsError
from blemish.inference.predictor import Prediction, Predictor
from blemish.inspection import pipeline
from blemish.inspection.decisions import Decision
from blemish.inspection.inspect import NAME, Request, inspect_images
from blemish.inspection.rows import Row, as_csv, as_json, as_table, to_row
from conftest import draw_part, files_of_at_most, recorded


@pytest.fixture(scope="module")
def predictor(model_file: Path) -> Predictor:
    return Predictor.load(model_file)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Parts in every kind of file."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for place, name in enumerate(["a.png", "b.jpg", "c.bmp", "d.tif", "e.webp", "below/a.png"]):
        draw_part(rng, defect=place % 2 == 1, side=64 + 8 * place)[0].save(folder / name)
    grey = rng.integers(0, 65_535, (64, 64)).astype(np.uint16)
    Image.fromarray(grey).save(folder / "f.png")
    draw_part(rng)[0].convert("RGBA").save(folder / "g.png")
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in (NAME, f".{NAME}.lock")
    }


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("with_pictures", [False, True])
def test_rows_are_those_of_predict_in_order(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path, workers: int, with_pictures: bool
) -> None:
    request = Request(model_file, tmp_path / "out" if with_pictures else None, workers=workers)
    inspection = inspect_images(predictor, [photos], request)
    expected = [predictor.predict(source.path) for source in inspection.images]
    found = list(inspection.rows())
    assert [row["path"] for row in found] == [one.path for one in expected]
    assert [row["score"] for row in found] == [one.score for one in expected]  # bit for bit
    assert [row["is_anomalous"] for row in found] == [one.is_anomalous for one in expected]


def test_an_exported_model_judges_several_at_once(
    onnx_file: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, both = Predictor.load(onnx_file, threads=1), threading.Barrier(2)
    inspection = inspect_images(predictor, [photos], Request(onnx_file, tmp_path / "out", workers=2))
    expected = [predictor.predict(source.path) for source in inspection.images]
    assert len(expected) % 2 == 0
    judge = Predictor.predict_prepared

    def meet(self: Predictor, prepared: Prepared, image: ImageLike | None = None) -> Prediction:
        both.wait(60.0)  # for the other, which one after the other would never come
        return judge(self, prepared, image)

    monkeypatch.setattr(Predictor, "predict_prepared", meet)
    found = list(inspection.rows())
    assert [(row["path"], row["score"]) for row in found] == [(one.path, one.score) for one in expected]  # bit for bit
    (photos / "d.tif").write_bytes((photos / "d.tif").read_bytes()[:500])
    monkeypatch.undo()
    rows = inspect_images(predictor, [photos], Request(onnx_file, skip_bad=True, workers=2)).rows()
    assert [row["verdict"] == "unreadable" for row in rows] == [Path(str(row["path"])).name == "d.tif" for row in found]


def test_scores_stand_below_each_other_with_the_same_digits() -> None:
    scores = (1.124, 1.89, 2.21481, 427.5, 0.5)
    decided = {
        "verdict": "good",
        "p_value": 0.5,
        "threshold": 500.0,
        "is_anomalous": False,
        "message": "",
        "is_doubtful": None,
    }
    rows: Any = [{"path": "a.png", "score": score, **decided} for score in scores]
    lines = list(as_table(rows))[1 : len(scores) + 1]
    assert [line.split()[1] for line in lines] == ["1.1240", "1.8900", "2.2148", "427.50", "0.50000"]


@pytest.mark.parametrize(
    ("asked", "cores", "images", "each"),
    [(None, 2, 2, 1), (None, 16, 2, 4), (None, 16, 1, None), (3, 16, 2, 3)],
)
def test_as_many_images_are_judged_at_once_as_there_are_cores_for(
    onnx_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: int | None,
    cores: int,
    images: int,
    each: int | None,
) -> None:
    found: list[int | None] = []
    load = Predictor.load.__func__  # type: ignore[attr-defined]

    def loaded(cls: type[Predictor], path: Path, device: str, threads: int | None, **others: object) -> Predictor:
        found.append(threads)
        return load(cls, path, device, threads, **others)

    monkeypatch.setattr(Predictor, "load", classmethod(loaded))
    monkeypatch.setattr(pipeline, "usable_cores", lambda: cores)
    paths = [tmp_path / f"{number}.png" for number in range(images)]
    for path in paths:
        draw_part(np.random.default_rng(0))[0].save(path)
    option = [] if asked is None else ["--threads", str(asked)]
    assert CliRunner().invoke(app, ["inspect", str(onnx_file), *map(str, paths), *option]).exit_code in (0, 1)
    assert found == [each]


def test_an_unreadable_file_comes_up_in_its_place(predictor: Predictor, model_file: Path, photos: Path) -> None:
    (photos / "d.tif").write_bytes((photos / "d.tif").read_bytes()[:500])
    rows = inspect_images(predictor, [photos], Request(model_file, workers=4)).rows()
    before: list[Row] = []
    with pytest.raises(DataError, match=r"d\.tif: .*; --skip-bad leaves such files out"):
        before.extend(rows)
    assert [Path(str(row["path"])).name for row in before] == ["a.png", "b.jpg", "a.png", "c.bmp"]
    skipping = inspect_images(predictor, [photos], Request(model_file, skip_bad=True, workers=4))
    assert [row["verdict"] for row in skipping.rows()].count("unreadable") == 1
    assert list(skipping.skipped) == [str(photos / "d.tif")]


def test_what_cannot_be_written_is_not_called_a_bad_image(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "masks").write_text("in the way")
    request = Request(model_file, out, skip_bad=True)
    with pytest.raises(DataError, match=r"masks: cannot be made a folder: [^;]*$"):
        list(inspect_images(predictor, [photos], request).rows())
    assert not (out / "inspect.json").exists()


@pytest.mark.parametrize("name", ["mine.txt", "mine.txt/below"])
def test_a_file_in_the_place_of_the_folder_is_refused_as_one(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match=r"mine\.txt: a file, not a folder; "):
        inspect_images(predictor, [photos], Request(model_file, tmp_path / name))
    with pytest.raises(DataError, match=r"mine\.txt: a file, not a folder; "):
        check_report_folder(tmp_path / name, "report.html")
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_no_worker_outlives_a_pass_that_failed(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path
) -> None:
    """Left to the collector of garbage, their end was waited for within the start of another thread, for ever."""
    (tmp_path / "masks").write_text("in the way")
    with pytest.raises(DataError) as raised:
        list(inspect_images(predictor, [photos], Request(model_file, tmp_path)).rows())
    assert raised.value.__traceback__ is not None  # which holds all that stood in the frames
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("blemish")]


def test_a_disk_that_fills_up_leaves_whole_files_and_decisions(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path
) -> None:
    out, low = tmp_path / "out", predictor.with_threshold(0.05)  # many regions, long rows
    whole = list(inspect_images(low, [photos], Request(model_file, out)).rows())
    room = (out / NAME).stat().st_size - 4096
    shutil.rmtree(out)
    before: list[Row] = []
    rows = inspect_images(low, [photos], Request(model_file, out)).rows()
    with files_of_at_most(room), pytest.raises(DataError, match=r"inspect\.sqlite: cannot be written: "):
        before.extend(rows)
    assert before == whole[: len(before)]
    assert not list(out.rglob("*.part"))
    for name, content in files(out).items():
        assert content[:4] == b"\x89PNG", name
        with Image.open(out / name) as picture:
            picture.load()
    kept = recorded(out / NAME)
    paths = {row["path"] for row in before}
    assert paths <= {row["image_path"] for row in kept} < {row["path"] for row in whole}
    assert list(inspect_images(low, [photos], Request(model_file, out, resume=True)).rows()) == whole


def interrupted(predictor: Predictor, paths: list[Path], request: Request, after: int) -> None:
    """Stop in the middle, as Ctrl-C does: from within the counting of images."""

    def count(done: int, _total: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(inspect_images(predictor, paths, request, count).rows())


@pytest.mark.parametrize("form", ["json", "csv"])
def test_resumed_it_ends_with_the_same_files_and_judges_nothing_twice(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path, form: str
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    rows = list(inspect_images(predictor, [photos], Request(model_file, whole, form)).rows())  # type: ignore[arg-type]
    interrupted(predictor, [photos], Request(model_file, cut, form), after=3)  # type: ignore[arg-type]
    assert not (cut / f"inspect.{form}").exists()
    kept = {path: path.stat().st_mtime_ns for path in (cut / "masks").rglob("*.png")}
    decided = recorded(cut / NAME)
    assert len(decided) >= 3
    request = Request(model_file, cut, form, resume=True)  # type: ignore[arg-type]
    assert list(inspect_images(predictor, [photos], request).rows()) == rows
    assert files(cut) == files(whole)
    for row in decided:
        assert (cut / "masks" / row["picture"]).stat().st_mtime_ns == kept[cut / "masks" / row["picture"]]
    finished = recorded(cut / NAME)
    assert finished[: len(decided)] == decided
    assert list(inspect_images(predictor, [photos], request).rows()) == rows  # and once more, with nothing to do
    assert recorded(cut / NAME) == finished


def test_resumed_after_a_kill_the_next_images_are_decided_one_by_one_for_one_of_them_may_have_been_the_cause(
    onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor, judge, rng = Predictor.load(onnx_file, threads=2), Predictor.predict_prepared, np.random.default_rng(0)
    photos = [tmp_path / f"{number:02}.png" for number in range(12)]
    photos[0].write_bytes(b"no image")
    for path in photos[1:]:
        draw_part(rng)[0].save(path)
    request, before = Request(onnx_file, tmp_path / "out", skip_bad=True, workers=2), dict[str, int]()
    list(inspect_images(predictor, photos[:2], request).rows())
    (tmp_path / "out" / f".{NAME}.lock").touch()

    def look(self: Predictor, prepared: Prepared, image: Path) -> Prediction:
        before[image.name] = len(recorded(tmp_path / "out" / NAME))
        return judge(self, prepared, image)

    monkeypatch.setattr(Predictor, "predict_prepared", look)
    assert len(list(inspect_images(predictor, photos, replace(request, resume=True)).rows())) == 12
    assert [before[f"{number:02}.png"] for number in range(2, 10)] == list(range(2, 10))


def test_a_file_with_other_content_is_another_image(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path
) -> None:
    """Though its name, its size and its time are the same."""
    out, photo = tmp_path / "out", photos / "c.bmp"
    first = list(inspect_images(predictor, [photos], Request(model_file, out)).rows())
    times = photo.stat().st_atime_ns, photo.stat().st_mtime_ns
    content = bytearray(photo.read_bytes())
    content[-3000:] = bytes(3000)
    photo.write_bytes(content)
    os.utime(photo, ns=times)
    (out / "masks/a.png").unlink()  # a row without its pictures is not finished either
    second = list(inspect_images(predictor, [photos], Request(model_file, out, resume=True)).rows())
    assert [one["path"] for one, other in zip(first, second, strict=True) if one != other] == [str(photo)]
    assert next(row["score"] for row in second if row["path"] == str(photo)) == predictor.predict(photo).score
    assert (out / "masks/a.png").is_file()
    assert json.loads((out / "inspect.json").read_text()) == second


def test_another_model_or_threshold_is_refused(
    predictor: Predictor, model_file: Path, onnx_file: Path, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    list(inspect_images(predictor, [photos / "a.png"], Request(model_file, out)).rows())
    again = Request(model_file, out, resume=True)
    with pytest.raises(SettingsError, match=r"were made with threshold .*, this run has 0\.5"):
        list(inspect_images(predictor.with_threshold(0.5), [photos], again).rows())
    with pytest.raises(SettingsError, match="were made with model_sha256"):
        list(inspect_images(predictor, [photos], Request(onnx_file, out, resume=True)).rows())
    batch = Request(model_file, out, max_false_discovery_rate=0.5, resume=True)
    with pytest.raises(SettingsError, match="max_false_discovery_rate None"):
        list(inspect_images(predictor, [photos], batch).rows())
    assert len(list(inspect_images(predictor, [photos], again).rows())) == 8


def test_a_record_that_cannot_be_gone_on_with_is_refused(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path
) -> None:
    request = Request(model_file, tmp_path, resume=True)
    assert len(list(inspect_images(predictor, [photos / "a.png"], request).rows())) == 1
    (tmp_path / NAME).write_bytes(b"notes of mine\n" * 9)
    with pytest.raises(DataError, match=r"inspect\.sqlite: not a record of blemish"):
        list(inspect_images(predictor, [photos], request).rows())
    (tmp_path / NAME).unlink()
    (tmp_path / "inspect.journal.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"inspect\.journal\.jsonl: of an earlier version"):
        inspect_images(predictor, [photos], request)
    with pytest.raises(SettingsError, match="--resume: goes on from the rows that -o OUT keeps"):
        inspect_images(predictor, [photos], Request(model_file, resume=True))


def test_a_batch_can_be_resumed(predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    rate = {"max_false_discovery_rate": 0.99}
    rows = list(inspect_images(predictor, [photos], Request(model_file, whole, **rate)).rows())  # type: ignore[arg-type]
    for after in (3, 8 + 5):  # in either pass
        steps = iter(range(1, 100))

        def count(_done: int, _total: int, steps: Iterator[int] = steps, after: int = after) -> None:
            if next(steps) == after:
                raise KeyboardInterrupt

        request = Request(model_file, cut, resume=after > 3, **rate)  # type: ignore[arg-type]
        with pytest.raises(KeyboardInterrupt):
            list(inspect_images(predictor, [photos], request, count).rows())
    request = Request(model_file, cut, resume=True, **rate)  # type: ignore[arg-type]
    assert list(inspect_images(predictor, [photos], request).rows()) == rows
    assert files(cut) == files(whole)


def test_only_one_at_a_time_writes_into_a_folder(
    predictor: Predictor, model_file: Path, photos: Path, tmp_path: Path
) -> None:
    request = Request(model_file, tmp_path / "out")
    first = inspect_images(predictor, [photos], request).rows()
    next(first)
    with pytest.raises(DataError, match="another process is writing the record"):
        list(inspect_images(predictor, [photos], request).rows())
    assert len(list(first)) == 7


def test_pictures_written_among_the_photos_are_no_photos(predictor: Predictor, model_file: Path, photos: Path) -> None:
    request = Request(model_file, photos / "out")
    first = list(inspect_images(predictor, [photos], request).rows())
    assert list(inspect_images(predictor, [photos], request).rows()) == first
    assert len(first) == 8


def test_rows_that_break_off_are_still_json() -> None:
    def rows() -> Iterator[Row]:
        yield to_row(Decision("a.png", "", "anomalous", 1.0, 0.5, 0.1))
        raise KeyboardInterrupt

    parts: list[str] = []
    with suppress(KeyboardInterrupt):
        parts.extend(as_json(rows()))
    assert json.loads("".join(parts)) == [to_row(Decision("a.png", "", "anomalous", 1.0, 0.5, 0.1))]


def test_odd_names_survive_csv_and_json() -> None:
    row = to_row(Decision('a,"b"\n.png', "", "good", 0.1, 0.5, 0.2))
    assert json.loads("".join(as_json([row, row]))) == [row, row]
    (found,) = csv.DictReader(as_csv([row]))
    assert found["path"] == row["path"]
    assert float(found["score"]) == row["score"]


@pytest.mark.parametrize("changed", [0, 7, 20])
def test_resumed_with_one_other_image_it_keeps_the_rest(
    predictor: Predictor, model_file: Path, tmp_path: Path, changed: int
) -> None:
    """Rows are read back from the record between others that are written to it."""
    rng, folder = np.random.default_rng(1), tmp_path / "photos"
    folder.mkdir()
    for place in range(24):
        draw_part(rng)[0].save(folder / f"{place:02}.png")
    request = Request(model_file, tmp_path / "out", "csv")
    before = list(inspect_images(predictor, [folder], request).rows())
    draw_part(rng, defect=True)[0].save(folder / f"{changed:02}.png")
    after = list(inspect_images(predictor, [folder], Request(model_file, tmp_path / "out", "csv", resume=True)).rows())
    assert [row["path"] for row in after] == [row["path"] for row in before]
    assert [place for place in range(24) if before[place] != after[place]] == [changed]


def test_pictures_written_into_the_folder_itself_are_no_photos(
    predictor: Predictor, model_file: Path, photos: Path
) -> None:
    request = Request(model_file, photos)
    count = len(list(inspect_images(predictor, [photos], request).rows()))
    assert len(list(inspect_images(predictor, [photos], request).rows())) == count
