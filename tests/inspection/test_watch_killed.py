"""A watch that is killed with SIGKILL again and again, while a camera writes: every image is decided exactly once."""

import csv
import hashlib
import io
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.inference.predictor import Predictor
from conftest import draw_part, recorded
from station.waiting import wait_until

pytestmark = pytest.mark.slow

WATCH = [sys.executable, "-c", "import sys; sys.modules['torch'] = None; from blemish.__main__ import main; main()"]
IMAGES, REUSED_NAMES, MIN_KILLS = 200, 10, 12


def contents(count: int) -> list[bytes]:
    """Different images, some with a defect, in three kinds of file."""
    rng = np.random.default_rng(0)
    found = []
    for place in range(count):
        file = io.BytesIO()
        draw_part(rng, defect=place % 3 == 0)[0].save(file, format=("PNG", "JPEG", "BMP")[place % 3])
        found.append(file.getvalue())
    return found


def camera(folder: Path, images: dict[str, bytes], stop: threading.Event) -> None:
    """Write images, every fifth in pieces with pauses, every seventh under a hidden name that is then changed."""
    for place, (name, content) in enumerate(images.items()):
        if stop.is_set():
            return
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        if place % 7 == 0:
            hidden = target.with_name(f".{target.name}")
            hidden.write_bytes(content)
            hidden.rename(target)
        elif place % 5 == 0:
            with target.open("wb") as file:
                for start in range(0, len(content), len(content) // 4 + 1):
                    file.write(content[start : start + len(content) // 4 + 1])
                    file.flush()
                    time.sleep(0.05)
        else:
            target.write_bytes(content)
        time.sleep(0.04)


def moved_to(bad: Path) -> set[str]:
    """The SHA-256 of what was moved away whole."""
    return {
        hashlib.sha256(path.read_bytes()).hexdigest()
        for path in bad.rglob("*")
        if path.is_file() and path.suffix != ".part"
    }


def test_killed_in_a_loop_it_decides_every_image_once(onnx_file: Path, tmp_path: Path) -> None:
    folder, bad, record = tmp_path / "in", tmp_path / "bad", tmp_path / "record.sqlite"
    folder.mkdir()
    made = contents(IMAGES)
    threshold = float(np.median([score_of(onnx_file, content, tmp_path) for content in made[:30]]))
    names = [f"day{place % 3}/{place:03}.{('png', 'jpg', 'bmp')[place % 3]}" for place in range(IMAGES)]
    command = [
        *WATCH,
        "watch",
        onnx_file,
        folder,
        "--to",
        record.with_suffix(".csv"),
        "--move-anomalous",
        bad,
        "--poll",
        "0.02",
    ]
    command += ["--settle", "0.3", "--patience", "60", "--threads", "1", "--threshold", f"{threshold!r}"]
    stop = threading.Event()
    writer = threading.Thread(target=camera, args=(folder, dict(zip(names, made, strict=True)), stop))
    writer.start()
    rng = np.random.default_rng(1)
    kills, kept = 0, list[dict[str, Any]]()
    try:
        while writer.is_alive() or kills < MIN_KILLS:
            process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_until(
                lambda: (
                    len(recorded(record)) > len(kept)  # noqa: B023
                    or process.poll() is not None  # noqa: B023
                    or (not writer.is_alive() and len(kept) >= IMAGES)  # noqa: B023
                )
            )
            time.sleep(rng.uniform(0.0, 0.4))  # in the middle of whatever comes next
            assert process.poll() is None, "the watch ended by itself"
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            before, kept = kept, recorded(record)
            assert kept[: len(before)] == before, "a decision was lost or changed"
            assert moved_to(bad) <= {row["image_sha256"] for row in kept}, "moved before the decision was on the disk"
    finally:
        stop.set()
        writer.join()
    # The same names again, with other content: other images
    again = dict(zip(names[:REUSED_NAMES], contents(IMAGES + REUSED_NAMES)[IMAGES:], strict=True))
    for name, content in again.items():
        (folder / name).write_bytes(content)
    ended = subprocess.run([*map(str, command), "--until-idle", "0.5"], capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr

    expected = {(name, hashlib.sha256(content).hexdigest()) for name, content in zip(names, made, strict=True)}
    expected |= {(name, hashlib.sha256(content).hexdigest()) for name, content in again.items()}
    found = recorded(record)
    assert found[: len(kept)] == kept
    with record.with_suffix(".csv").open(newline="") as file:
        exported = [(row["time"], row["file"], row["sha256"], float(row["score"])) for row in csv.DictReader(file)]
    assert exported == [(row["decided_at"], row["image_path"], row["image_sha256"], row["score"]) for row in found]
    counts = Counter((row["image_path"], row["image_sha256"]) for row in found)
    assert set(counts.values()) == {1}, "decided twice"
    assert set(counts) == expected
    verdicts = Counter(row["verdict"] for row in found)
    assert set(verdicts) == {"good", "anomalous"}
    moved = moved_to(bad)
    assert moved == {row["image_sha256"] for row in found if row["verdict"] == "anomalous"}
    assert len([path for path in bad.rglob("*") if path.is_file()]) == verdicts["anomalous"]
    left = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}
    assert not left & moved
    assert left <= {row["image_sha256"] for row in found if row["verdict"] == "good"}
    predictor = Predictor.load(onnx_file, threads=1).with_threshold(threshold)
    for path in [path for path in bad.rglob("*") if path.is_file()][:10]:
        row = next(row for row in found if row["image_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest())
        assert float(row["score"]) == predictor.predict(path).score
    assert kills >= MIN_KILLS


def score_of(model: Path, content: bytes, folder: Path) -> float:
    path = folder / "one.png"
    path.write_bytes(content)
    return Predictor.load(model, threads=1).predict(path).score


def test_ctrl_c_ends_it_cleanly(onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(contents(1)[0])
    command = [*WATCH, "watch", onnx_file, tmp_path / "in", "--settle", "0.1", "--poll", "0.02"]
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        assert "Ctrl-C ends it" in process.stderr.readline()
        assert wait_until(lambda: recorded(tmp_path / "in.decisions.sqlite"))
        process.send_signal(number)
        printed, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "decided: " in said
        assert ("a.png" in printed) == (number == signal.SIGINT)
    assert len(recorded(tmp_path / "in.decisions.sqlite")) == 1
