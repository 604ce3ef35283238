"""`blemish fleet inspect` beside Ray: archive, ledger and batch, and what is refused before any work."""

import csv
import errno
import io
import shutil
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.errors import BlemishError, CalibrationError, DataError, SettingsError
from blemish.fleet import cluster
from blemish.fleet.archive import Shard, open_archive
from blemish.fleet.fetch import fetch, was_not_fetched
from blemish.fleet.inspect import Request, inspect_archive
from blemish.fleet.judge import FAILED, Job, Judge
from blemish.fleet.ledger import FIELDS, Ledger, result_schema
from blemish.fleet.manifest import ManifestRow, write_manifest
from blemish.fleet.results import first_unreadable, write_results
from blemish.inference.calibration import BatchPart, CalibrationCard, batch_threshold, batch_thresholds, score_p_value
from blemish.inference.predictor import Predictor
from blemish.stats import benjamini_hochberg, largest_selected

pyarrow = pytest.importorskip("pyarrow", reason="pip install 'blemish[fleet]'")


def manifest_of(path: Path, *rows: tuple[str, str, str]) -> Path:
    write_manifest([ManifestRow(*row) for row in rows], path)
    return path


def test_shards_are_of_one_product_in_the_order_of_the_manifest(tmp_path: Path) -> None:
    rows = [(str(n), f"{n}.png", "ba"[n % 3 == 0]) for n in range(9)]
    archive = open_archive(tmp_path / "a.sqlite", manifest_of(tmp_path / "m.csv", *rows), shard_rows=2)
    found = [(shard.product, [name for name, _ in archive.rows(shard)]) for shard in archive.shards()]
    assert found == [("a", ["0", "3"]), ("a", ["6"]), ("b", ["1", "2"]), ("b", ["4", "5"]), ("b", ["7", "8"])]


def test_an_archive_is_made_once_and_again_for_another_manifest(tmp_path: Path) -> None:
    path, manifest = tmp_path / "a.sqlite", manifest_of(tmp_path / "m.csv", ("1", "a.png", "nut"))
    shards = open_archive(path, manifest, 2).shards()
    before = path.stat().st_ino
    assert open_archive(path, manifest, 2).shards() == shards
    assert path.stat().st_ino == before
    manifest_of(manifest, ("1", "a.png", "nut"), ("2", "b.png", "bolt"))
    again = open_archive(path, manifest, 2).shards()
    assert [shard.product for shard in again] == ["bolt", "nut"]
    assert again[1].sha256 == shards[0].sha256  # the same rows: what was finished of them is kept


def test_ids_given_twice_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    manifest = manifest_of(tmp_path / "m.csv", ("1", "a.png", "nut"), ("2", "b.png", "nut"), ("1", "c.png", "bolt"))
    with pytest.raises(DataError, match=r"twice: 1 \(images 1 and 3\)"):
        open_archive(tmp_path / "a.sqlite", manifest, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.csv"]


def test_a_database_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite").write_text("mine")
    with pytest.raises(DataError, match="give another folder"):
        open_archive(tmp_path / "a.sqlite", manifest_of(tmp_path / "m.csv", ("1", "a.png", "nut")), 2)
    assert (tmp_path / "a.sqlite").read_text() == "mine"


def results(*names: str) -> Any:
    rows = [dict.fromkeys(FIELDS) | {"id": name} for name in names]
    return pyarrow.Table.from_pylist(rows, schema=result_schema())


@pytest.mark.slow
def test_a_finished_shard_is_found_by_its_key_and_a_damaged_one_is_deleted(tmp_path: Path) -> None:
    shard, table = Shard(3, "nut", 1, 2, 2, ""), results("1", "2")
    Ledger(tmp_path / "shards").add(shard, "a" * 24, table)
    (tmp_path / "shards" / "notes.txt").touch()
    (tmp_path / "shards" / f".000001-{'b' * 24}.parquet.x.part").touch()
    ledger = Ledger(tmp_path / "shards")
    assert "a" * 24 in ledger
    assert "b" * 24 not in ledger
    moved = shard._replace(place=7)  # images of another product came before it
    assert [one.to_pylist() for one in ledger.tables([(moved, "a" * 24)])] == [table.to_pylist()]
    (tmp_path / "shards" / f"000003-{'a' * 24}.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="damaged, and deleted"):
        list(ledger.tables([(moved, "a" * 24)]))
    assert "a" * 24 not in Ledger(tmp_path / "shards")


def test_shards_of_other_models_are_forgotten(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "shards")
    for key in ("a" * 24, "b" * 24):
        ledger.add(Shard(0, "nut", 1, 1, 1, ""), key, results("1"))
    assert ledger.forget_others(["a" * 24]) == 1
    assert "a" * 24 in Ledger(tmp_path / "shards")
    assert "b" * 24 not in Ledger(tmp_path / "shards")


def test_counted_p_values_select_as_listed_ones_do() -> None:
    rng = np.random.default_rng(5)
    for rate in (0.01, 0.1, 0.3):
        for _ in range(30):
            p_values = rng.integers(1, 21, rng.integers(1, 60)) ** 2 / 400
            counts = Counter(p_values.tolist())
            cutoff = largest_selected(list(counts), list(counts.values()), rate)
            assert (benjamini_hochberg(p_values, rate) == (p_values <= cutoff)).all()
            m = len(p_values)  # Benjamini and Hochberg's definition, word by word
            ordered = sorted(p_values)
            k = max((k for k in range(1, m + 1) if ordered[k - 1] * m <= rate * k * (1 + 1e-12)), default=0)
            assert cutoff == (ordered[k - 1] if k else -np.inf)


def part_of(calibration: Any, scores: Any) -> BatchPart:
    p_values = Counter(score_p_value(calibration, CalibrationCard(), score) for score in scores)
    return BatchPart(calibration, CalibrationCard(), p_values, max(scores))


def test_models_of_one_batch_share_its_rate() -> None:
    rng = np.random.default_rng(0)
    good = rng.normal(size=199).tolist(), rng.normal(10, 2, size=99).tolist()
    scores = rng.normal(0.5, 2, size=60).tolist(), rng.normal(12, 5, size=80).tolist()
    one = batch_thresholds([part_of(good[0], scores[0])], 0.2)
    assert one == [batch_threshold(good[0], CalibrationCard(), scores[0], 0.2)]
    parts = [part_of(*pair) for pair in zip(good, scores, strict=True)]
    p_values = [score_p_value(g, CalibrationCard(), s) for g, some in zip(good, scores, strict=True) for s in some]
    selected = benjamini_hochberg(p_values, 0.2)
    assert 0 < selected.sum() < len(selected)
    thresholds = batch_thresholds(parts, 0.2)
    above = [score > t for some, t in zip(scores, thresholds, strict=True) for score in some]
    assert above == selected.tolist()
    with pytest.raises(CalibrationError, match="nothing could ever be selected"):
        batch_thresholds(parts, 0.001)


@pytest.fixture(scope="module")
def part_png() -> bytes:
    """Noise, which is no part at all."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def job_of(model: Path, **more: Any) -> Job:
    sha256 = Predictor.load(model).source.sha256  # type: ignore[union-attr]
    return Job({"nut": (str(model), sha256)}, "/", **more)


def table_of(*paths: Path) -> Any:
    rows = [
        {"shard": 0, "number": n, "id": str(n), "path": str(path), "product": "nut"} for n, path in enumerate(paths)
    ]
    return pyarrow.Table.from_pylist(rows)


@pytest.mark.slow
def test_a_judge_says_what_the_predictor_says(tmp_path: Path, onnx_file: Path, part_png: bytes) -> None:
    (tmp_path / "a.png").write_bytes(part_png)
    (tmp_path / "b.png").write_bytes(part_png[:100])
    wanted = Predictor.load(onnx_file).predict(tmp_path / "a.png")
    good, bad, gone = Judge(job_of(onnx_file))(table_of(*(tmp_path / f"{name}.png" for name in "abc"))).to_pylist()
    assert (good["score"], good["p_value"], good["threshold"]) == (wanted.score, wanted.p_value, wanted.threshold)
    assert (good["verdict"], good["region_count"]) == ("anomalous", len(wanted.regions))
    assert [row["verdict"] for row in (bad, gone)] == ["unreadable", "unreadable"]
    assert (len(bad["image_sha256"]), gone["image_sha256"], gone["score"]) == (64, "", None)
    assert "no such file" in gone["message"]


def test_the_first_image_that_could_not_be_read_is_found_in_the_results(tmp_path: Path) -> None:
    rows = [dict.fromkeys(FIELDS) | {"verdict": verdict, "message": verdict} for verdict in ("good", "unreadable")]
    for some, wanted in ((rows[:1], ""), (rows, "unreadable")):
        tables = [pyarrow.Table.from_pylist(some, result_schema())]
        write_results(partial(list, tables), tmp_path, with_csv=False)
        assert first_unreadable(tmp_path) == wanted


def test_a_table_of_earlier_results_is_not_left_to_look_like_these(tmp_path: Path) -> None:
    for verdict, with_csv in (("good", True), ("anomalous", False)):
        table = pyarrow.Table.from_pylist([dict.fromkeys(FIELDS) | {"verdict": verdict}], result_schema())
        write_results(lambda kept=table: [kept], tmp_path, with_csv)
    (row,) = csv.DictReader((tmp_path / "results.csv").read_text().splitlines())
    assert row["verdict"] == "anomalous"


def test_what_is_not_the_images_fault_is_no_verdict(tmp_path: Path, onnx_file: Path, part_png: bytes) -> None:
    (tmp_path / "a.png").write_bytes(part_png)
    (tmp_path / "full").touch()  # a file where the masks' folder should be: nothing can be written there
    image, job = tmp_path / "a.png", job_of(onnx_file)
    shutil.copy(onnx_file, tmp_path / "other.onnx")
    (tmp_path / "other.onnx").write_bytes(onnx_file.read_bytes() + b" ")
    wrong = {
        "cannot be made a folder": job._replace(masks=str(tmp_path / "full")),
        "this is another file": job._replace(models={"nut": (str(tmp_path / "other.onnx"), job.models["nut"][1])}),
        "no such model file here": job._replace(models={"nut": (str(tmp_path / "none.onnx"), "0" * 64)}),
        "is installed, the command's is": job._replace(version="0.0.1"),
    }
    for message, spoilt in wrong.items():
        rows = Judge(spoilt)(table_of(image, image)).to_pylist()
        assert {row["verdict"] for row in rows} == {FAILED}
        assert message in rows[0]["message"]


def test_no_space_is_said_and_leaves_nothing_half_written(
    tmp_path: Path, onnx_file: Path, part_png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "a.png").write_bytes(part_png)
    job = job_of(onnx_file)
    table = Judge(job)(table_of(tmp_path / "a.png"))
    with monkeypatch.context() as patch:
        patch.setattr("PIL.Image.Image.save", full)
        (row,) = Judge(job._replace(masks=str(tmp_path / "masks")))(table_of(tmp_path / "a.png")).to_pylist()
    assert row["verdict"] == FAILED  # no verdict: the command ends, and tries it again
    assert "no space left on the disk" in row["message"]
    ledger = Ledger(tmp_path / "shards")
    monkeypatch.setattr("pyarrow.parquet.write_table", full)
    with pytest.raises(DataError, match="no space left on the disk"):
        ledger.add(Shard(0, "nut", 1, 1, 1, "a" * 24), "a" * 24, table)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "a.png"]
    assert "a" * 24 not in ledger


def test_models_are_let_go_of_when_others_are_used(onnx_file: Path) -> None:
    job = job_of(onnx_file, held=2)
    judge = Judge(job._replace(models=dict.fromkeys("abc", job.models["nut"])))
    first, second = judge._predictor("a"), judge._predictor("b")
    assert judge._predictor("a") is first
    judge._predictor("c")
    assert judge._predictor("a") is first
    assert judge._predictor("b") is not second


@pytest.fixture(scope="module")
def http(part_png: bytes) -> Iterator[str]:
    asked: Counter[str] = Counter()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked[self.path] += 1
            once = 503 if asked[self.path] == 1 else 200
            found = {"/a.png": 200, "/once.png": once, "/down.png": 503}.get(self.path, 404)
            self.send_response(found)
            self.send_header("Content-Length", str(len(part_png)))
            self.end_headers()
            self.wfile.write(part_png)

        def log_message(self, *_args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.filterwarnings("ignore")  # of aiohttp, when its session is collected
def test_an_image_comes_over_http_and_what_fails_once_is_asked_again(http: str, part_png: bytes) -> None:
    pytest.importorskip("aiohttp", reason="pip install 'blemish[fleet]'")
    assert fetch(f"{http}/a.png") == part_png
    assert fetch(f"{http}/once.png") == part_png
    with pytest.raises(DataError, match=r"none\.png: no such file") as gone:
        fetch(f"{http}/none.png")
    assert not was_not_fetched(str(gone.value))


@pytest.mark.filterwarnings("ignore")  # of aiohttp, when its session is collected
def test_an_address_that_does_not_answer_is_told_from_a_file_that_is_gone(
    http: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("aiohttp", reason="pip install 'blemish[fleet]'")
    waited: list[float] = []
    monkeypatch.setattr("blemish.fleet.fetch.time", SimpleNamespace(sleep=waited.append))
    with pytest.raises(DataError, match=r"down\.png: cannot be fetched \(503") as down:
        fetch(f"{http}/down.png")
    assert was_not_fetched(str(down.value))
    assert len(waited) == 2


def test_an_object_of_a_store_takes_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec", reason="pip install 'blemish[fleet]'")
    store = fsspec.filesystem("memory")
    for name, content in (("full", b"12345"), ("empty", b"")):
        store.pipe_file(f"/blemish-{name}", content)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(type(store), "open", lambda *_args, **_more: pytest.fail("a second request"))
            assert fetch("memory://blemish-full") == b"12345"
        assert fetch("memory://blemish-empty") == b""
        with pytest.raises(DataError, match="no such file"):
            fetch("memory://blemish-none")
        monkeypatch.setattr("blemish.fleet.fetch.MAX_FILE_BYTES", 4)
        with pytest.raises(DataError, match="more than 4 bytes"):
            fetch("memory://blemish-full")
    finally:
        store.rm(["/blemish-full", "/blemish-empty"])


@pytest.fixture
def request_of(tmp_path: Path, onnx_file: Path) -> Request:
    (tmp_path / "registry" / "nut").mkdir(parents=True)
    shutil.copy(onnx_file, tmp_path / "registry" / "nut" / "model.onnx")
    manifest = manifest_of(tmp_path / "m.csv", ("1", "a.png", "nut"))
    return Request(manifest, tmp_path / "registry", tmp_path / "out")


def refused(request: Request, message: str, **change: Any) -> None:
    """One error, and nothing is left."""
    from dataclasses import replace

    with pytest.raises(BlemishError, match=message):
        inspect_archive(replace(request, **change))
    assert not request.out.exists()


def test_bad_input_is_refused_before_any_work(request_of: Request, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("blemish.fleet.work.judged", lambda *_args: pytest.fail("work has begun"))
    monkeypatch.setattr("blemish.fleet.inspect.connected", lambda *_args: pytest.fail("work has begun"))
    refused(request_of, "no product 'bolt'", manifest=manifest_of(tmp_path / "b.csv", ("1", "a.png", "bolt")))
    several = manifest_of(tmp_path / "c.csv", ("1", "a.png", "x"), ("2", "a.png", "y"), ("3", "a.png", "nut"))
    refused(request_of, r"no model for 2 products \(x, y\)", manifest=several)
    refused(request_of, "no images", manifest=manifest_of(tmp_path / "d.csv"))
    refused(request_of, "--fdr: found 2", max_false_discovery_rate=2.0)
    refused(request_of, "ftpx://: unknown", manifest=manifest_of(tmp_path / "e.csv", ("1", "ftpx://a/b.png", "nut")))
    refused(request_of, "no such folder", models=tmp_path / "none")
    refused(request_of, "no such folder", models=tmp_path / "none", out=tmp_path / "a" / "b" / "c")
    refused(request_of, "no images", manifest=tmp_path / "d.csv", out=tmp_path / "a" / "b" / "c")
    assert not (tmp_path / "a").exists()
    model = tmp_path / "registry" / "nut" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1])
    refused(request_of, "model.onnx")


def test_s3_says_what_to_install(request_of: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    manifest = manifest_of(tmp_path / "s.csv", ("1", "s3://bucket/b.png", "nut"))
    refused(request_of, "pip install s3fs", manifest=manifest)


def test_a_withdrawn_certificate_is_refused(request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    from blemish.inference.monitor_state import Alarm

    alarm = Alarm(stream="score", images=9, image="x.png", usual=1.0, now=2.0)
    monkeypatch.setattr("blemish.fleet.models.WithdrawalCheck.alarm", lambda _self: alarm)
    refused(request_of, "nut: the certificate is withdrawn: score has changed")


def test_files_of_others_are_not_replaced(request_of: Request) -> None:
    request_of.out.mkdir()
    for name in ("results.parquet", "results.csv", "summary.json"):
        (request_of.out / name).write_text("mine")
        with pytest.raises(DataError, match=name):
            inspect_archive(request_of)
        assert (request_of.out / name).read_text() == "mine"
        (request_of.out / name).unlink()


def test_without_ray_the_error_says_what_to_install(request_of: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    refused(request_of, r"pip install 'blemish\[fleet\]'")


def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(SettingsError, match=f"{closed}: nothing answers there"):
        cluster.check_address(closed)
    for wrong in ("head", "ray://head:10001", "head:0", ":6379"):
        with pytest.raises(SettingsError, match="expected HOST:PORT"):
            cluster.check_address(wrong)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        monkeypatch.setattr(cluster, "HEALTH_S", 0.05)
        with pytest.raises(SettingsError, match="no Ray cluster"):
            cluster.check_address(f"127.0.0.1:{silent.getsockname()[1]}")
