"""Ctrl-C in `blemish fleet inspect` on this machine alone: it ends at once, leaves no process, and goes on."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from blemish.fleet.manifest import find_images, write_manifest
from conftest import draw_part
from reference.holding_server import WAIT_S, Server

pytestmark = pytest.mark.slow
for needed in ("ray", "pyarrow", "aiohttp"):
    pytest.importorskip(needed, reason="pip install 'blemish[fleet]'")

MARK = "BLEMISH_TEST_RUN"
ENDS_S = 120.0
"""So long may an interrupted command take to end on a busy machine; it takes a few seconds."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    rng, folder = np.random.default_rng(3), tmp_path / "images" / "nut"
    folder.mkdir(parents=True)
    for place in range(8):
        draw_part(rng)[0].save(folder / f"{place}.png")
    found = Server(tmp_path / "images")
    yield found
    found.close()


def processes_of(run: str) -> list[int]:
    """Every process that has inherited the mark of a run."""
    mark, found = f"{MARK}={run}".encode(), []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0") and "Z" not in state_of(entry):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def state_of(entry: Path) -> str:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc, which Linux has")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_ends_leaves_no_process_and_goes_on(
    number: signal.Signals, server: Server, onnx_file: Path, tmp_path: Path
) -> None:
    rows = [row._replace(path=f"{server.url}/{row.id}") for row in find_images(tmp_path / "images")]
    write_manifest(rows, tmp_path / "m.csv")
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "nut.onnx").write_bytes(onnx_file.read_bytes())
    out, run = tmp_path / "out", uuid.uuid4().hex
    options = ["--models", str(tmp_path / "registry"), "-o", str(out), "--shard-rows", "2", "--workers", "1"]
    call = [sys.executable, "-m", "blemish", "fleet", "inspect", str(tmp_path / "m.csv"), *options]
    environment = os.environ | {MARK: run}
    server.hold(after=4)
    # a group of its own, all of which a terminal interrupts
    with subprocess.Popen(
        call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            ends = time.monotonic() + WAIT_S
            while not (server.waiting and list(out.glob("shards/*.parquet"))):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < ends, "waited for too long"
                time.sleep(0.05)
            began = time.monotonic()
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            told = process.communicate(timeout=WAIT_S)
            took_s = time.monotonic() - began
        finally:
            process.kill()
            server.release()
    assert process.returncode == 130, told
    assert took_s < ENDS_S
    assert "Traceback" not in told[1]
    ends = time.monotonic() + WAIT_S
    while left := processes_of(run):  # Ray's own are told to end, and do so by themselves
        assert time.monotonic() < ends, [(Path("/proc") / str(pid) / "cmdline").read_text() for pid in left]
        time.sleep(0.1)
    kept = len(list(out.glob("shards/*.parquet"))) * 2
    assert 0 < kept < len(rows)
    ended = subprocess.run(call, env=environment, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert ended.returncode in (0, 1), ended.stderr
    assert f"{kept} were finished before" in ended.stderr
    assert "eprecat" not in ended.stderr
