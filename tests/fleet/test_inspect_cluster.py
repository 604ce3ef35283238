"""`blemish fleet inspect` on a real Ray cluster of two machines on this one: the same rows, whatever is killed."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.data.progress import Progress
from blemish.errors import BlemishError, SettingsError
from blemish.fleet.cluster import check_address, load_ray
from blemish.fleet.inspect import Request, inspect_archive
from blemish.fleet.manifest import ManifestRow, find_images, write_manifest
from blemish.fleet.tasks import Needs, check_needs, run_tasks
from conftest import draw_part
from reference.holding_server import WAIT_S, Server

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own warnings
pytest.importorskip("ray", reason="pip install 'blemish[fleet]'")
pyarrow = pytest.importorskip("pyarrow", reason="pip install 'blemish[fleet]'")

RATE = 0.9
"""Of false discoveries."""
COMPARED = ("verdict", "score", "p_value", "threshold", "region_count", "regions")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    ray = load_ray()
    from ray.cluster_utils import Cluster

    for attempt in range(3):  # Ray gives a machine half a minute to start
        try:
            here = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
            found = Cluster(initialize_head=True, head_node_args=here)
            break
        except Exception:
            if attempt == 2:
                raise
    ray.init(address=found.address, logging_level="ERROR", log_to_driver=False)
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture
def second(cluster: Any) -> Iterator[Any]:
    """A second machine, which a test may kill."""
    node = add_machine(cluster)
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def add_machine(cluster: Any, num_cpus: int = 1, num_gpus: int = 0) -> Any:
    for attempt in range(3):
        try:
            node = cluster.add_node(num_cpus=num_cpus, num_gpus=num_gpus, object_store_memory=80_000_000)
            break
        except Exception:
            if attempt == 2:
                raise
    cluster.wait_for_nodes(WAIT_S)
    return node


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two products, with a defect here and there, a file that is no image and one in several folders below."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(3)
    for product in ("bolt", "nut"):
        (root / product / "deep").mkdir(parents=True)
        for place in range(12):
            draw_part(rng, defect=place % 4 == 3)[0].save(root / product / f"{place:02}.png")
        draw_part(rng)[0].save(root / product / "deep" / "a.png")
    for place in range(10):  # so that a batch has something to flag
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(root / "bolt" / f"noise{place}.png")
    (root / "nut" / "text.png").write_text("no image")
    return root


@pytest.fixture(scope="module")
def registry(onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("registry")
    for product in ("bolt", "nut"):
        (root / product).mkdir()
        shutil.copy(onnx_file, root / product / "model.onnx")
    return root


@pytest.fixture(scope="module")
def single(images: Path, onnx_file: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """What `blemish inspect` says of the same images, by id."""
    return inspect_alone(onnx_file, images, tmp_path_factory.mktemp("single"))


def inspect_alone(model: Path, images: Path, folder: Path, *options: str) -> dict[str, list[Any]]:
    call = [sys.executable, "-m", "blemish", "inspect", str(model), str(images), "--skip-bad", "--format", "json"]
    rows = json.loads(subprocess.run([*call, *options], cwd=folder, capture_output=True, check=False).stdout)
    return {Path(row["path"]).relative_to(images).as_posix(): [row[name] for name in COMPARED] for row in rows}


@pytest.fixture
def server(images: Path) -> Iterator[Server]:
    found = Server(images)
    yield found
    found.close()


def write_http(images: Path, server: Server, path: Path) -> Path:
    rows = [row._replace(path=f"{server.url}/{row.id}") for row in find_images(images)]
    write_manifest(rows, path)
    return path


def rows_of(out: Path) -> dict[str, list[Any]]:
    """What came out, by id; each id is there once."""
    rows = pyarrow.parquet.read_table(out / "results.parquet").to_pylist()
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        row["regions"] = None if row["regions"] is None else json.loads(row["regions"])
    return {row["id"]: [row[name] for name in COMPARED] for row in rows}


def wait_until(what: Callable[[], object]) -> None:
    ends = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < ends, "waited for too long"
        time.sleep(0.05)


def actor_pids(node: Any) -> list[int]:
    """The processes of judges that a machine of the cluster runs."""
    raylet = node.all_processes["raylet"][0].process.pid
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if (
                parent == raylet
                and b"ray::" in (entry / "cmdline").read_bytes()
                and b"Map" in (entry / "cmdline").read_bytes()
            ):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_rows_are_those_of_inspect_bit_for_bit(
    second: Any, images: Path, registry: Path, onnx_file: Path, single: dict[str, list[Any]], tmp_path: Path
) -> None:
    rows = [*find_images(images), ManifestRow("gone", "not/there.png", "bolt")]
    write_manifest(rows, tmp_path / "m.parquet")
    request = Request(tmp_path / "m.parquet", registry, tmp_path / "out", shard_rows=5, batch_size=2)
    summary = inspect_archive(replace(request, with_csv=True))
    found = rows_of(request.out)
    assert found.pop("gone") == ["unreadable", None, None, None, None, None]
    assert found == single
    assert summary.total("unreadable") == 2
    table = pyarrow.parquet.read_table(request.out / "results.parquet").to_pylist()
    assert "not/there.png: no such file" in {row["id"]: row["message"] for row in table}["gone"]
    with (request.out / "results.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [row["id"] for row in table]

    before = sorted(request.out.glob("shards/*"))
    again = inspect_archive(replace(request, max_false_discovery_rate=RATE, masks=True))  # scores are there
    assert again.judged == 0
    assert sorted(request.out.glob("shards/*")) == before
    wanted = inspect_alone(onnx_file, images, tmp_path, "--fdr", str(RATE), "-o", "batch")
    batch = rows_of(request.out)
    assert {name: batch[name] for name in wanted} == wanted
    assert any(row[0] == "anomalous" for row in wanted.values())


def test_a_killed_actor_and_a_killed_machine_change_nothing(
    cluster: Any,
    second: Any,
    images: Path,
    server: Server,
    registry: Path,
    single: dict[str, list[Any]],
    tmp_path: Path,
) -> None:
    manifest = write_http(images, server, tmp_path / "m.csv")
    request = Request(manifest, registry, tmp_path / "out", shard_rows=2, batch_size=2)
    said: list[str] = []
    killed: list[str] = []
    server.hold(after=6)

    def on_progress(progress: Progress) -> None:
        if progress.done < 2 or server.waiting < 4:  # until both actors have a shard and wait for its two images
            return
        if not killed:
            os.kill(actor_pids(second)[0], signal.SIGKILL)
            killed.append("actor")
            server.release()
            server.hold(after=6)
        elif len(killed) == 1 and said:
            cluster.remove_node(second, allow_graceful=False)
            killed.append("machine")
            server.release()

    inspect_archive(request, on_progress, said.append)
    assert killed == ["actor", "machine"]
    assert len(said) >= 2
    assert rows_of(request.out) == single


def test_a_killed_command_goes_on_and_judges_nothing_twice(
    cluster: Any, images: Path, server: Server, registry: Path, single: dict[str, list[Any]], tmp_path: Path
) -> None:
    manifest, out = write_http(images, server, tmp_path / "m.csv"), tmp_path / "out"
    how = ["--models", str(registry), "-o", str(out), "--address", cluster.address, "--shard-rows", "2", "--masks"]
    call = [sys.executable, "-m", "blemish", "fleet", "inspect", str(manifest), *how]

    def finished() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in out.glob("shards/*.parquet")}

    for number in (signal.SIGINT, signal.SIGKILL):
        before = len(finished())
        server.hold(after=4)
        with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                wait_until(lambda n=before, process=process: process.poll() is not None or len(finished()) > n)
                assert process.poll() is None, process.communicate()
                process.send_signal(number)
                code = process.wait(WAIT_S)
            finally:
                process.kill()
                server.release()
        assert code == (130 if number == signal.SIGINT else -signal.SIGKILL)
        assert not (out / "results.parquet").exists()
    kept = finished()
    done = {row["id"] for path in kept for row in pyarrow.parquet.read_table(path).to_pylist()}
    asked = {name: server.asked[name] for name in done}
    ended = subprocess.run(call, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert ended.returncode == 1, ended.stderr
    assert f"{len(done)} were finished before" in ended.stderr
    assert kept.items() <= finished().items()
    assert {name: server.asked[name] for name in done} == asked
    assert rows_of(out) == single
    table = pyarrow.parquet.read_table(out / "results.parquet").to_pylist()
    masks = {path.stem: path for path in (out / "masks").rglob("*.png")}
    anomalous = {row["image_sha256"]: row for row in table if row["verdict"] == "anomalous"}
    assert masks.keys() == anomalous.keys()
    for sha256, path in masks.items():
        pixels, regions = np.asarray(Image.open(path)), json.loads(anomalous[sha256]["regions"])
        listed = sum(region["area_px"] for region in regions)
        assert pixels.sum() == listed if anomalous[sha256]["region_count"] == len(regions) else pixels.sum() > listed


def test_another_model_is_asked_again_and_one_replaced_meanwhile_is_refused(
    cluster: Any, images: Path, registry: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "registry"
    shutil.copytree(registry, mine)
    write_manifest(find_images(images / "bolt", "bolt"), tmp_path / "m.csv")
    request = Request(tmp_path / "m.csv", mine, tmp_path / "out", shard_rows=4)
    model = (mine / "bolt" / "model.onnx").read_bytes()

    def replace_model(progress: Progress) -> None:
        if progress.what == "judging" and not progress.done:
            (mine / "bolt" / "model.onnx").write_bytes(model[:-1])

    with pytest.raises(BlemishError, match=r"model\.onnx.*SHA-256"):
        inspect_archive(request, replace_model)
    assert not (tmp_path / "out").exists()  # nothing was finished


def test_a_cluster_of_another_version_is_refused(cluster: Any) -> None:
    from ray._common.usage import usage_lib
    from ray._raylet import GcsClient

    client = GcsClient(address=cluster.address)
    key, space = usage_lib.usage_constant.CLUSTER_METADATA_KEY, usage_lib.ray_constants.KV_NAMESPACE_CLUSTER
    before = client.internal_kv_get(key, namespace=space)
    client.internal_kv_put(
        key, json.dumps(json.loads(before) | {"ray_version": "2.1.0"}).encode(), True, namespace=space
    )
    try:
        with pytest.raises(SettingsError, match=r"cluster has Ray version 2\.1\.0"):
            check_address(cluster.address)
    finally:
        client.internal_kv_put(key, before, True, namespace=space)
    check_address(cluster.address)


def meet(piece: Path) -> str | None:
    """The GPU it was given, as soon as another piece runs beside it; None where none does."""
    piece.touch()
    ends = time.monotonic() + WAIT_S
    while len(list(piece.parent.iterdir())) < 2:
        if time.monotonic() > ends:
            return None
        time.sleep(0.05)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


def test_two_products_share_a_gpu(cluster: Any, tmp_path: Path) -> None:
    """On a machine that says it has one: what Ray arranges needs none."""
    import ray
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a module of tests
    node = add_machine(cluster, num_cpus=2, num_gpus=1)
    try:
        needs = Needs(threads=1, gpus=0.5)
        check_needs(ray, needs)
        done = run_tasks(ray, meet, [tmp_path / "a", tmp_path / "b"], needs)
        assert [one.result for one in done] == ["0", "0"]
    finally:
        cluster.remove_node(node)
        wait_until(lambda: not any(one["Alive"] and "GPU" in one["Resources"] for one in ray.nodes()))


def test_a_worker_larger_than_the_cluster_is_refused(
    cluster: Any, images: Path, registry: Path, tmp_path: Path
) -> None:
    write_manifest(find_images(images), tmp_path / "m.csv")
    request = Request(tmp_path / "m.csv", registry, tmp_path / "out", threads=64)
    with pytest.raises(SettingsError, match="has 64 processors, at most 1"):
        inspect_archive(request)
    assert not (tmp_path / "out").exists()
