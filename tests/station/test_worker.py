"""The process that judges, killed and not."""

import errno
import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from blemish.data.decode import read_content
from blemish.data.images import Prepared
from blemish.data.named_errors import DiskError, named_errors
from blemish.errors import ArtifactError, DataError
from blemish.inference.predictor import Prediction, Predictor
from blemish.station import intake, queue, worker
from blemish.station.database import Database, open_database
from blemish.station.folder import MARKER, StationFolder, open_folder
from blemish.station.intake import Inbox, WatchedFolder, note_trouble
from blemish.station.judge import Judge, load_map
from blemish.station.products import add_folder, product_named
from blemish.station.queue import left_waiting
from blemish.station.tables import Decision, Image, Job, Model, Source
from blemish.station.trail import verify_trail
from blemish.station.worker import PARENT, Worker
from conftest import write_photos
from station.line import count, picture, set_up_line
from station.waiting import WITHIN_S, wait_until

IMAGES = 60
MIN_KILLS = 8


def work(database: Database, folder: StationFolder) -> list[str]:
    said: list[str] = []
    Worker(database, folder, said.append, threads=1, settle_s=0.1).run(threading.Event(), until_idle_s=1.0)
    return said


@pytest.mark.slow
def test_a_watched_folder_is_judged_and_maps_are_kept(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    camera = tmp_path / "camera"
    (camera / "day").mkdir(parents=True)
    (camera / "day/a.png").write_bytes(picture(1))
    (camera / "note.txt").write_text("no image")
    add_folder(sqlite, "test", line.product_id, camera)
    assert work(sqlite, folder) == []
    with sqlite.read() as session:
        assert session.scalars(select(Decision.image_path)).all() == ["day/a.png"]
        image_id = session.scalars(select(Image.id)).one()
    scored = Predictor.load(onnx_file, threads=1).predict(camera / "day/a.png").scored_map
    np.testing.assert_allclose(load_map(folder.map_path(image_id)), scored, rtol=1e-3)
    assert work(sqlite, folder) == []  # again: nothing new
    with sqlite.read() as session:
        assert session.scalar(select(func.count()).select_from(Image)) == 1


def test_images_that_wait_are_judged_two_at_once_unless_one_was_tried_before(
    sqlite: Database, folder: StationFolder, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, inbox = set_up_line(sqlite, folder, onnx_file), Inbox(sqlite, folder)
    for seed in range(4):
        inbox.receive(line.source_id, f"{seed}.png", picture(seed))
    tasks, judge = queue.take(sqlite, "me"), Judge(folder, threads=2)
    expected = [judge.judge(task) for task in tasks]
    both, predict = threading.Barrier(2), Predictor.predict_prepared

    def meet(self: Predictor, prepared: Prepared, name: str) -> Prediction:
        both.wait(60.0)  # for the other, which one after the other would never come
        return predict(self, prepared, name)

    monkeypatch.setattr(Predictor, "predict_prepared", meet)
    with closing(judge.judge_all(tasks)) as all_judged:
        scores = [(task, judged().prediction.score) for task, judged in all_judged]  # type: ignore[union-attr]
    assert scores == [(task, one.prediction.score) for task, one in zip(tasks, expected, strict=True)]  # type: ignore[union-attr]
    monkeypatch.setattr(Predictor, "predict_prepared", lambda *_: names.append(threading.current_thread().name))
    names: list[str] = []
    folder.image_path(tasks[2].sha256, tasks[2].suffix).unlink()
    again = [*tasks[:3], tasks[3]._replace(attempts=2)]
    with closing(judge.judge_all(again)) as all_judged:
        for _, judged in all_judged:
            judged()
    assert names == 3 * [threading.current_thread().name]


def test_an_image_that_the_disk_does_not_give_is_judged_once_it_does(
    sqlite: Database, folder: StationFolder, onnx_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, judge = set_up_line(sqlite, folder, onnx_file), Judge(folder, threads=1)
    Inbox(sqlite, folder).receive(line.source_id, "a.png", picture(1))
    (task,) = queue.take(sqlite, "me")

    def fails(path: Path) -> bytes:
        with named_errors(path):
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr("blemish.station.judge.read_content", fails)
        with pytest.raises(DiskError, match=r"cannot be read: Input/output error"):
            judge.judge(task)
    assert judge.judge(task).prediction is not None


def test_a_photo_that_cannot_be_taken_in_holds_up_no_other(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line, camera = set_up_line(sqlite, folder, onnx_file), tmp_path / "camera"
    deep = camera.joinpath(*5 * ["d" * 220])
    deep.mkdir(parents=True)
    (deep / "a.png").write_bytes(picture(1))
    (camera / "b.png").write_bytes(picture(2))
    source_id = add_folder(sqlite, "test", line.product_id, camera)
    watched = WatchedFolder(Inbox(sqlite, folder), source_id, camera, settle_s=0.0)
    for _ in range(2):
        with pytest.raises(DataError, match=r"a name of 11\d\d characters; at most 1000"):
            watched.look()
    with sqlite.read() as session:
        assert session.scalars(select(Image.name)).all() == ["b.png"]


def test_what_a_watched_folder_leaves_out_is_said(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line, camera = set_up_line(sqlite, folder, onnx_file), tmp_path / "camera"
    camera.mkdir()
    (camera / "a.png").write_bytes(picture(1))
    (camera / "b.png").symlink_to("nothing")
    (camera / "c.png").touch()
    os.truncate(camera / "c.png", 3 << 30)
    source_id = add_folder(sqlite, "test", line.product_id, camera)
    watched = WatchedFolder(Inbox(sqlite, folder), source_id, camera, settle_s=0.0, patience_s=0.0)
    for _ in range(2):
        with pytest.raises(DataError, match=r"c\.png: 3072 MiB, at most 27\d\d MiB are read"):
            watched.look()
    (camera / "c.png").unlink()
    with pytest.raises(DataError, match=r"b\.png: a link to nothing"):
        watched.look()
    (camera / "b.png").unlink()
    assert watched.look() == 0
    assert count(sqlite, Image) == 1


def test_files_of_another_kind_are_trouble_where_they_come_instead_of_images(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line, camera, noted = set_up_line(sqlite, folder, onnx_file), tmp_path / "camera", list[str]()
    camera.mkdir()

    def write(name: str, at_s: int) -> None:
        (camera / name).write_bytes(picture(1))
        os.utime(camera / name, (at_s, at_s))

    source_id = add_folder(sqlite, "test", line.product_id, camera)
    watched = WatchedFolder(Inbox(sqlite, folder), source_id, camera, settle_s=0.0, note=noted.append)
    for at_s, name in enumerate(("logo.gif", "a.png", "b.gif", "c.gif")):
        write(name, 1000 + at_s)
        watched.look()
    assert [Path(said.partition(": ")[0]).name for said in noted] == ["logo.gif", "b.gif", "c.gif"]
    write("d.gif", 2000)
    with pytest.raises(DataError, match=r"\.gif: an image of a kind that is not read"):
        watched.look()
    write("e.png", 3000)
    watched.look()
    assert count(sqlite, Image) == 2


def test_what_was_taken_in_before_is_not_read_again(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, camera = set_up_line(sqlite, folder, onnx_file), tmp_path / "camera"
    write_photos(camera, 3)
    source_id = add_folder(sqlite, "test", line.product_id, camera)
    was_read: list[str] = []
    monkeypatch.setattr(intake, "read_content", lambda path: (was_read.append(path.name), read_content(path))[1])

    def look() -> int:
        was_read.clear()
        return WatchedFolder(Inbox(sqlite, folder), source_id, camera, settle_s=0.0).look()  # as after a restart

    assert (look(), len(was_read)) == (3, 3)
    assert (look(), len(was_read)) == (0, 0)
    (camera / "1.png").write_bytes(picture(1))
    assert (look(), was_read) == (1, ["1.png"])


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("part", ["do_chores", "tell_hooks", "watched_sources"])
def test_what_fails_beside_the_worker_ends_it_and_so_has_it_begun_again(
    sqlite: Database, folder: StationFolder, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(worker, part, fail)
    assert not Worker(sqlite, folder, print, threads=1).run(threading.Event())


@pytest.mark.slow
def test_trouble_that_lasts_is_said_once_a_minute(sqlite: Database, folder: StationFolder, onnx_file: Path) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    for seed in range(3):
        Inbox(sqlite, folder).receive(line.source_id, f"{seed}.png", picture(seed))
    with sqlite.write() as session:
        session.get_one(Model, line.model_id).header = "{}"  # of another version
    (folder.root / "models").rename(folder.root / "gone")
    said = work(sqlite, folder)
    assert len(said) == 2
    assert "its header does not fit this version" in "".join(said)
    assert "upload the model again" in "".join(said)


@pytest.mark.slow
def test_a_watched_folder_that_is_gone_is_said_and_comes_back(
    sqlite: Database, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    camera = tmp_path / "camera"
    camera.mkdir()
    source_id = add_folder(sqlite, "test", line.product_id, camera)
    camera.rmdir()
    assert "No such file" in work(sqlite, folder)[0]
    with sqlite.read() as session:
        assert "No such file" in session.get_one(Source, source_id).trouble
    camera.mkdir()
    (camera / "a.png").write_bytes(picture(1))
    work(sqlite, folder)
    with sqlite.read() as session:
        assert session.get_one(Source, source_id).trouble == ""
        assert session.scalar(select(func.count()).select_from(Decision)) == 1


@pytest.mark.slow
def test_a_model_that_is_damaged_leaves_the_image_in_the_queue(
    sqlite: Database, folder: StationFolder, onnx_file: Path
) -> None:
    from blemish.station.intake import Inbox

    line = set_up_line(sqlite, folder, onnx_file)
    Inbox(sqlite, folder).receive(line.source_id, "a.png", picture(1))
    (model,) = (folder.root / "models").glob("*.onnx")
    content = model.read_bytes()
    model.write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="changed since it was uploaded"):
        Judge(folder).predictor(model.stem)
    assert "upload the model again" in work(sqlite, folder)[0]
    assert queue.waiting(sqlite) == 1
    with sqlite.read() as session:
        assert "upload the model again" in session.scalars(select(Job.trouble)).one()
    model.write_bytes(content)
    queue.release_all(sqlite, "")
    work(sqlite, folder)
    assert queue.waiting(sqlite) == 0


def test_a_worker_whose_station_was_gone_before_it_looked_ends(
    sqlite: Database, folder: StationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PARENT, f"{os.getppid() + 1}")
    Worker(sqlite, folder, print).run(threading.Event())
    assert not folder.heartbeat.exists()


def test_one_worker_a_station(sqlite: Database, folder: StationFolder) -> None:
    with folder.lock("worker", "judging"), pytest.raises(DataError, match="another process is judging"):
        work(sqlite, folder)


@pytest.mark.parametrize("content", ["{}", "nonsense", '{"format": 1}'])
def test_a_damaged_marker_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(DataError, match=r"blemish-station.json: damaged"):
        open_folder(tmp_path)


def test_a_folder_that_is_no_stations_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="other things in it"):
        open_folder(tmp_path, create=True)
    with pytest.raises(DataError, match="no station; begin one"):
        open_folder(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="a file; give the station a folder"):
        open_folder(tmp_path / "file", create=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "holiday.jpg"]


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text('{"format": 2, "id": "x"}')
    with pytest.raises(DataError, match="upgrade blemish"):
        open_folder(tmp_path)


def camera_writes(folder: Path, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        with (folder / name).open("wb") as file:  # in two pieces, as cameras do
            file.write(content[: len(content) // 2])
            file.flush()
            time.sleep(0.01)
            file.write(content[len(content) // 2 :])
        time.sleep(0.03)


@pytest.mark.slow
def test_killed_in_a_loop_under_load_it_loses_nothing_and_decides_nothing_twice(
    database_url: str, folder: StationFolder, onnx_file: Path, tmp_path: Path
) -> None:
    database = open_database(database_url, folder.id)
    line = set_up_line(database, folder, onnx_file)
    camera = tmp_path / "camera"
    camera.mkdir()
    add_folder(database, "test", line.product_id, camera)
    contents = {f"{place:03}.png": picture(place) for place in range(IMAGES)}
    writer = threading.Thread(target=camera_writes, args=(camera, contents))
    command = [sys.executable, "-m", "blemish", "station", "work", str(folder.root), "--database", database_url]
    command += ["--threads", "1", "--settle", "0.2"]
    writer.start()
    kills, chance, before = 0, random.Random(1), 0
    while kills < MIN_KILLS or writer.is_alive():
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        before, deadline = decided(database), time.monotonic() + 30
        while decided(database) == before < IMAGES and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.3))  # in the middle of whatever comes next
        assert process.poll() is None, process.communicate()[1].decode()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    writer.join()
    ended = subprocess.run([*command, "--until-idle", "2"], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr

    with database.read() as session:
        rows = session.scalars(select(Decision)).all()
        assert session.scalar(select(func.count()).select_from(Job)) == 0
        assert verify_trail(session).problem is None
    expected = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    assert {row.image_path: row.image_sha256 for row in rows} == expected
    assert len(rows) == IMAGES
    predictor = Predictor.load(onnx_file, threads=1)
    for row in rows[::10]:
        assert row.score == predictor.predict(camera / row.image_path).score
    database.close()


def decided(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(Decision)) or 0


@pytest.mark.slow
def test_a_worker_that_is_asked_to_end_ends_with_0(sqlite: Database, folder: StationFolder) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "blemish", "station", "work", str(folder.root)], stderr=subprocess.PIPE
    )
    assert wait_until((folder.root / ".worker.lock").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WITHIN_S) == 0
    assert isinstance(process.stderr, io.BufferedReader)
    assert process.stderr.read() == b""
    process.stderr.close()


def test_verify_names_what_was_changed_and_exits_with_1(
    sqlite: Database, folder: StationFolder, onnx_file: Path
) -> None:
    from typer.testing import CliRunner

    from blemish.cli import app

    set_up_line(sqlite, folder, onnx_file)
    run = CliRunner().invoke
    holds = run(app, ["station", "verify", str(folder.root)])
    assert holds.exit_code == 0
    assert "entries that hold: 3; head " in holds.output  # a thread of an earlier test may speak first
    with sqlite.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trail SET subject = 'other' WHERE seq = 2")
    changed = run(app, ["station", "verify", str(folder.root)])
    assert changed.exit_code == 1
    assert "entry 2 was changed (model by test" in changed.output


@pytest.mark.slow
def test_a_product_is_set_up_from_the_terminal(
    tmp_path: Path, onnx_file: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from blemish.cli import app
    from blemish.station import products

    checks, real = [], products.verify
    monkeypatch.setattr(products, "verify", lambda *given: checks.append(given) or real(*given))

    camera, root = tmp_path / "camera", tmp_path / "new"
    camera.mkdir()
    run = CliRunner().invoke
    arguments = ["station", "add", str(root), "--product", "disc"]
    added = run(app, [*arguments, "--model", str(onnx_file), "--watch", str(camera)])
    assert added.exit_code == 0, added.output
    assert len(checks) == 1
    refused = run(app, [*arguments, "--model", str(model_file)])
    assert refused.exit_code == 2
    assert "export it: blemish export" in refused.output
    (camera / "a.png").write_bytes(picture(1))
    assert run(app, ["station", "work", str(root), "--settle", "0", "--until-idle", "1"]).exit_code == 0
    station = open_folder(root)
    database = open_database(station.default_database, station.id)
    assert decided(database) == 1
    database.close()


def test_a_product_is_not_begun_with_what_is_not_there(tmp_path: Path, model_file: Path, onnx_file: Path) -> None:
    from typer.testing import CliRunner

    from blemish.cli import app

    (damaged := tmp_path / "damaged.onnx").write_bytes(onnx_file.read_bytes()[:-100])
    arguments = ["station", "add", str(tmp_path / "new"), "--product"]
    wrongs = [
        ["disc", "--model", model_file],
        ["disc", "--model", damaged],
        ["disc", "--model", onnx_file, "--watch", tmp_path / "gone"],
        ["disc", "--camera", "no address"],
        ["disc", "--camera", "0", "--every-frames", "0"],
        ["a/b", "--watch", tmp_path],
    ]
    for wrong in wrongs:
        refused = CliRunner().invoke(app, [*arguments, *map(str, wrong)])
        assert refused.exit_code == 2, refused.output
        assert not (tmp_path / "new").exists()


def worked_until_idle(folder: StationFolder) -> tuple[int, str]:
    from typer.testing import CliRunner

    from blemish.cli import app

    ran = CliRunner().invoke(app, ["station", "work", str(folder.root), "--settle", "0", "--until-idle", "0"])
    return ran.exit_code, ran.output


def test_a_database_that_fails_is_not_taken_for_a_quiet_line(sqlite: Database, folder: StationFolder) -> None:
    assert worked_until_idle(folder) == (0, "")
    with sqlite.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO gone")
    code, said = worked_until_idle(folder)
    assert code == 2
    assert f"DataError: {folder.root}: the database fails: no such table: jobs; whether all images are judged" in said
    with sqlite.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO jobs")
    assert worked_until_idle(folder)[0] == 0


def test_images_that_wait_are_told_when_nothing_more_comes(
    sqlite: Database, folder: StationFolder, tmp_path: Path
) -> None:
    product_id = product_named(sqlite, "test", "disc")
    assert left_waiting(sqlite) == ""
    (tmp_path / "camera").mkdir()
    source_id = add_folder(sqlite, "test", product_id, tmp_path / "camera")
    Inbox(sqlite, folder).receive(source_id, "a.png", picture(1))
    code, said = worked_until_idle(folder)
    assert (code, "1 image not judged; their product has no live model" in said) == (2, True)
    note_trouble(sqlite, source_id, "camera: gone", lambda _: None)
    assert left_waiting(sqlite) == "1 image not judged; camera: gone"


def test_a_command_whose_database_fails_says_so_in_a_line(sqlite: Database, folder: StationFolder) -> None:
    from typer.testing import CliRunner

    from blemish.cli import app

    with sqlite.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE trail RENAME TO gone")
    ran = CliRunner().invoke(app, ["station", "verify", str(folder.root)])
    assert ran.exit_code == 2
    assert ran.output == f"DataError: {folder.root}: the database fails: no such table: trail\n"
