"""Training, comparing and serving with a Ray of two processors: the same numbers as without, and a clean end."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("ray", reason="pip install 'blemish[fleet]'")

from blemish.errors import DataError, SettingsError
from blemish.evaluation.compare.compare import Plan, compare
from blemish.evaluation.compare.follow import Runner
from blemish.evaluation.compare.sweep_setting import SettingSweep, sweep_setting
from blemish.evaluation.results import EvaluateSettings
from blemish.fleet import serve as serving
from blemish.fleet.cluster import connected
from blemish.fleet.overview import read_ledger
from blemish.fleet.registry import open_registry
from blemish.fleet.runs import ray_runs
from blemish.fleet.serve import Serving, serve_registry
from blemish.fleet.tasks import Needs, check_needs, run_tasks
from blemish.inference.predictor import Predictor
from blemish.training.export import export_model
from blemish.training.settings import make_settings
from blemish.training.train import train_model
from conftest import TINY, write_parts
from reference.command import run

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # many of Ray's own

HASTY = [*TINY, "train.epochs=1", "augment.images_of_one=1"]
ENOUGH_S = 120.0


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A Ray of two processors on this machine."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a module of tests
    with connected(cpus=2) as started:
        yield started


def die(piece: Path) -> str:
    """Kills its process at the first try, or at every one."""
    tries = len(list(piece.parent.glob(f"{piece.name}.*")))
    (piece.parent / f"{piece.name}.{uuid.uuid4().hex}").touch()
    if tries == 0 or piece.name == "always":
        os._exit(1)
    return piece.name


def refuse(piece: str) -> str:
    raise DataError(f"{piece}: our own error")


def where(_piece: int) -> tuple[str, str | None]:
    return str(Path.cwd()), os.environ.get("OMP_NUM_THREADS")


def test_a_task_whose_process_died_is_tried_again(ray: Any, tmp_path: Path) -> None:
    done = {one.place: one for one in run_tasks(ray, die, [tmp_path / "once", tmp_path / "always"], Needs())}
    assert (done[0].result, done[0].error) == ("once", "")
    assert "its process died" in done[1].error
    assert len(list(tmp_path.glob("always.*"))) == 4


def test_an_error_of_ours_comes_back_as_it_is(ray: Any) -> None:
    with pytest.raises(DataError, match=r"^a: our own error$"):
        list(run_tasks(ray, refuse, ["a"], Needs()))


def test_a_task_is_in_the_folder_of_the_command(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [one.result for one in run_tasks(ray, where, [1, 2], Needs(), at_once=1)] == [(str(tmp_path), "1")] * 2


def test_what_no_machine_has_is_refused_and_not_waited_for(ray: Any) -> None:
    with pytest.raises(SettingsError, match=r"--gpus 0.5: no machine of the cluster has so many"):
        check_needs(ray, Needs(gpus=0.5))
    with pytest.raises(SettingsError, match=r"--threads 3: the largest machine of the cluster has 2 processors"):
        check_needs(ray, Needs(threads=3))
    with pytest.raises(SettingsError, match=r"--gpus 1.5: a share of one GPU"):
        check_needs(ray, Needs(gpus=1.5))


class Trained(NamedTuple):
    registry: Path
    plan: Path
    output: str
    exit_code: int


@pytest.fixture(scope="module")
def trained(ray: Any, shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two products that can be trained and one that cannot; read only."""
    root = tmp_path_factory.mktemp("fleet")
    settings = dict(text.split("=", 1) for text in HASTY)
    few = write_parts(root / "few", good=1, test=0)
    with (root / "plan.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["product", "folder", "detector", "seed", *settings])
        for product, folder, seed in (("nut", shared_parts, 0), ("few", few, 0), ("bolt", shared_parts, 1)):
            table.writerow([product, folder, "conv_autoencoder", seed, *settings.values()])
    done = run("fleet", "train", root / "plan.csv", "-o", root / "registry", "--no-check")
    return Trained(root / "registry", root / "plan.csv", done.output, done.exit_code)


def test_a_plan_becomes_a_registry_and_what_fails_is_a_row(trained: Trained) -> None:
    assert trained.exit_code == 1, trained.output
    assert "nut: trained" in trained.output
    assert "few: FAILED: DataError" in trained.output
    assert open_registry(trained.registry).products == ("bolt", "nut")
    rows = {row["product"]: row for row in read_ledger(trained.registry)["products"]}
    assert next(iter(rows)) == "few"  # the worst first
    assert rows["few"]["status"] == "failed"
    page = (trained.registry / "registry.html").read_text(encoding="utf-8")
    assert "With a model: 2 of 3 products." in page


def test_the_models_are_those_of_train_to_the_bit(trained: Trained, shared_parts: Path, tmp_path: Path) -> None:
    settings = make_settings("conv_autoencoder", assignments=[*HASTY, "seed=1"])
    train_model(shared_parts, tmp_path / "model.safetensors", settings, "cpu")
    export_model(tmp_path / "model.safetensors", tmp_path / "model.onnx")
    alone = Predictor.load(tmp_path / "model.onnx", "cpu", 1)
    found = open_registry(trained.registry).model("bolt")
    fleet = Predictor.load(found.path, "cpu", 1, sha256=found.sha256)
    assert fleet.header.calibration_scores == alone.header.calibration_scores
    for path in sorted((shared_parts / "test").rglob("*.png")):
        assert fleet.predict(path).score == alone.predict(path).score


def test_the_same_command_keeps_what_is_there(trained: Trained) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.registry.glob("*/model.*")}
    done = run("fleet", "train", trained.plan, "-o", trained.registry, "--no-check", "--workers", "1")
    assert done.exit_code == 1
    assert "nut: finished before, kept" in done.output
    assert "bolt: finished before, kept" in done.output
    assert {path: path.stat().st_mtime_ns for path in trained.registry.glob("*/model.*")} == before


def test_a_comparison_with_ray_has_the_same_cells(ray: Any, shared_parts: Path, tmp_path: Path, undrawn: None) -> None:
    quick = EvaluateSettings(repeats=10, panels_per_type=0, worst=0)
    plan = Plan([shared_parts], ["conv_autoencoder"], 2, assignments=HASTY, evaluate=quick)
    alone = compare(plan, tmp_path / "alone", Runner("cpu")).content
    with ray_runs() as map_runs:
        fleet = compare(plan, tmp_path / "fleet", Runner("cpu", map_runs=map_runs)).content
    assert without_times(fleet["runs"]) == without_times(alone["runs"])
    assert [one["status"] for one in fleet["runs"]] == ["finished"] * 2


def test_a_sweep_with_ray_has_the_same_points(ray: Any, shared_parts: Path, tmp_path: Path, undrawn: None) -> None:
    quick = EvaluateSettings(repeats=10, panels_per_type=0, worst=0)
    plan = SettingSweep(shared_parts, [*HASTY, "model.latent=4,8"], ["conv_autoencoder"], evaluate=quick)
    alone = sweep_setting(plan, tmp_path / "alone", Runner("cpu")).content
    with ray_runs() as map_runs:
        fleet = sweep_setting(plan, tmp_path / "fleet", Runner("cpu", map_runs=map_runs)).content
    assert without_times(fleet["points"]) == without_times(alone["points"])
    assert [point["error"] for point in fleet["points"]] == [None, None]


def without_times(runs: Any) -> Any:
    timed = ("latency_ms", "fit_seconds", "artifact_bytes")
    if isinstance(runs, dict):
        return {name: without_times(value) for name, value in runs.items() if name not in timed}
    return [without_times(one) for one in runs] if isinstance(runs, list) else runs


def ask(url: str, content: bytes | None = None, **query: object) -> tuple[int, Any, str | None]:
    """Status, body and Retry-After."""
    request = urllib.request.Request(f"{url}?{urlencode(query)}", content)
    try:
        with urllib.request.urlopen(request, timeout=ENOUGH_S) as answer:
            status, body, after = answer.status, answer.read(), answer.headers.get("Retry-After")
    except urllib.error.HTTPError as error:
        with error:
            status, body, after = error.code, error.read(), error.headers.get("Retry-After")
    with contextlib.suppress(ValueError):
        return status, json.loads(body), after
    return status, body.decode(), after


@pytest.fixture(scope="module")
def address(trained: Trained) -> Iterator[str]:
    """Where the registry is served; few may wait."""
    said: SimpleQueue[str] = SimpleQueue()
    stop = threading.Event()

    def serve() -> None:
        try:
            serve_registry(Serving(trained.registry, port=0, batch=2, queue=1, max_mib=40), said.put, stop)
        except BaseException as error:
            said.put(repr(error))
            raise

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        text = said.get(timeout=ENOUGH_S)
        assert "2 products at http" in text
        yield text.partition(" at ")[2].partition(";")[0]
    finally:
        stop.set()
        thread.join()


def test_what_is_served_is_what_inspect_says(address: str, trained: Trained, shared_parts: Path) -> None:
    paths = sorted((shared_parts / "test").rglob("*.png"))
    for product in ("nut", "bolt"):
        model = open_registry(trained.registry).model(product)
        rows = json.loads(run("inspect", model.path, *paths, "--format", "json", "--threads", "1").stdout)
        for path, row in zip(paths, rows, strict=True):
            status, answer, _ = ask(f"{address}api/v1/predict", path.read_bytes(), product=product, name=path.name)
            assert status == 200, answer
            same = ("verdict", "score", "p_value", "threshold")
            assert [answer[name] for name in same] == [row[name] for name in same]
            assert answer["model_sha256"] == model.sha256
            assert bool(answer["regions"]) == bool(row["regions"])


def test_the_client_of_a_station_works_here(address: str, shared_parts: Path) -> None:
    from blemish.station.client import Station, StationError

    station, path = Station(address, token="none"), next((shared_parts / "test/good").glob("*.png"))
    assert station.predict("nut", path.name, path.read_bytes())["name"] == path.name
    with pytest.raises(StationError, match="404: product 'screw': there is none"):
        station.predict("screw", path.name, path.read_bytes())


@pytest.mark.parametrize(
    ("query", "content", "status", "said"),
    [
        ({"product": "nut", "name": "a.png"}, b"no image", 422, "a.png"),
        ({"product": "screw", "name": "a.png"}, b"x", 404, "product 'screw': there is none"),
        ({"product": "nut", "name": "a.png"}, bytes((40 << 20) + 1), 413, "larger than 40 MiB"),
        ({"product": "nut"}, b"x", 422, "name: give it in the address"),
        ({"product": "nut", "name": "a.png", "wait_s": "soon"}, b"x", 422, "wait_s: a number of seconds"),
        ({"product": "nut", "name": "a.png", "wait_s": "0"}, b"x", 503, "not judged in that time"),
    ],
)
def test_what_cannot_be_judged_is_one_clear_error(
    query: dict[str, str], content: bytes, status: int, said: str, address: str
) -> None:
    found, answer, after = ask(f"{address}api/v1/predict", content, **query)
    assert (found, after) == (status, "1" if status == 503 else None)
    assert said in answer["error"]


def test_more_than_may_wait_is_refused_and_not_queued(address: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png", compress_level=0)
    content = (tmp_path / "large.png").read_bytes()

    def send(place: int) -> tuple[int, str | None]:
        status, _, after = ask(f"{address}api/v1/predict", content, product="nut", name=f"{place}.png", wait_s=60)
        return status, after

    deadline = time.monotonic() + ENOUGH_S
    with ThreadPoolExecutor(16) as pool:
        answers: set[tuple[int, str | None]] = set()
        while (503, "1") not in answers and time.monotonic() < deadline:
            answers |= set(pool.map(send, range(16)))
    assert answers == {(200, None), (503, "1")}
    assert ask(f"{address}healthz")[0] == 200


def test_machines_can_ask_how_it_is(address: str) -> None:
    assert ask(f"{address}healthz")[:2] == (200, "ok\n")
    assert ask(f"{address}readyz")[:2] == (200, {"problems": []})
    assert ask(f"{address}api/v1/products")[1] == {"products": ["bolt", "nut"]}
    assert "blemish_queue_images 0.0" in ask(f"{address}metrics")[1]
    assert ask(f"{address}nothing")[0] == 404


def test_a_model_that_was_exchanged_is_the_one_that_judges(
    address: str, trained: Trained, shared_parts: Path, restored: Callable[[Path], None]
) -> None:
    path = next((shared_parts / "test/good").glob("*.png"))
    listed = trained.registry / "registry.json"
    restored(listed)
    content = json.loads(listed.read_text())
    content["products"][0]["sha256"] = "0" * 64
    listed.write_text(json.dumps(content))
    status, answer, after = ask(f"{address}api/v1/predict", path.read_bytes(), product="bolt", name="a.png")
    assert (status, after) == (503, "1")
    assert "model.onnx" in answer["error"]
    assert ask(f"{address}api/v1/predict", path.read_bytes(), product="nut", name="a.png")[0] == 200


@pytest.fixture
def restored() -> Iterator[Callable[[Path], None]]:
    """Files that are put back as they were."""
    kept: dict[Path, bytes] = {}
    yield lambda path: kept.setdefault(path, path.read_bytes()) and None
    for path, content in kept.items():
        path.write_bytes(content)


def alive(mark: str) -> list[int]:
    """Processes with a mark in their environment."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def until(lines: Iterable[str], last: str) -> Iterator[str]:
    for line in lines:
        yield line
        if last in line:
            return


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_ctrl_c_ends_all_that_was_started(trained: Trained) -> None:
    mark = f"blemish-{uuid.uuid4().hex}"
    command = [sys.executable, "-m", "blemish", "fleet", "serve", str(trained.registry), "--port", "0"]
    environment = {**os.environ, "MARK": mark}
    environment.pop("RAY_ADDRESS", None)
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert server.stderr is not None
        told = list(until(server.stderr, "; Ctrl-C ends it"))
        assert "2 products at http://127.0.0.1:" in told[-1], told
        assert len(alive(mark)) > 3
        server.send_signal(signal.SIGINT)
        assert server.wait(ENOUGH_S) == 0, server.stderr.read()
        deadline = time.monotonic() + ENOUGH_S
        while alive(mark) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert alive(mark) == []
    finally:
        server.kill()
        server.communicate()


def test_ctrl_c_as_soon_as_it_says_that_it_works_ends_it_politely(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray.serve

    def say(text: str) -> None:
        said.append(text)
        signal.raise_signal(signal.SIGINT)

    said: list[str] = []
    monkeypatch.setattr(serving, "connected", lambda _address: contextlib.nullcontext(ray))
    monkeypatch.setattr(serving, "_check_room", lambda *_: None)
    monkeypatch.setattr(serving, "_start", lambda *_: "http://127.0.0.1:1/")
    monkeypatch.setattr(ray.serve, "status", lambda: SimpleNamespace(applications={}))
    monkeypatch.setattr(ray.serve, "shutdown", lambda: said.append("shut down"))
    serve_registry(Serving(trained.registry, port=0), say)
    assert said[0].endswith("; Ctrl-C ends it")
