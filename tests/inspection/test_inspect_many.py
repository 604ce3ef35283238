"""Thousands of images: in constant memory, and with Ctrl-C in the middle."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from blemish.inspection.journal import NAME

pytestmark = pytest.mark.slow

RUN = [sys.executable, "-c", "import sys; sys.modules['torch'] = None; from blemish.__main__ import main; main()"]
PEAK = """
import sys
from pathlib import Path
sys.modules["torch"] = None
try:
    sys.argv[0] = "blemish"
    from blemish.__main__ import main
    main()
finally:
    status = Path("/proc/self/status").read_text()
    print("peak", status.partition("VmHWM:")[2].split()[0], file=sys.stderr)
"""
"""The command, and what it needed at most. (`ru_maxrss` begins with what the parent process had.)"""


def write_photos(folder: Path, count: int, side: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for place in range(count):
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(folder / f"{place:05}.bmp")
    return folder


def peak_mb(arguments: Sequence[object]) -> float:
    ran = subprocess.run([sys.executable, "-c", PEAK, *map(str, arguments)], capture_output=True, text=True)
    assert ran.returncode in (0, 1), ran.stderr
    (peak,) = re.findall(r"^peak (\d+)$", ran.stderr, re.MULTILINE)
    return int(peak) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_folder(onnx_file: Path, tmp_path: Path) -> None:
    few, many = write_photos(tmp_path / "few", 200, 96), write_photos(tmp_path / "many", 2000, 96)
    for options in ((), ("--fdr", "0.9"), ("-o", tmp_path / "out")):
        peaks = [peak_mb(["inspect", onnx_file, folder, "--format", "csv", *options]) for folder in (few, many)]
        # 2,000 maps of 96 x 96 alone would be 74 MB
        assert peaks[1] - peaks[0] < 12, (options, peaks)


def test_interrupted_with_ctrl_c_and_resumed(onnx_file: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", 120, 512)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [*RUN, "inspect", onnx_file, photos, "--format", "csv"]
    expected = subprocess.run([*command, "-o", whole], capture_output=True, text=True)
    assert expected.returncode in (0, 1), expected.stderr
    stops = 0
    for _ in range(3):
        journal = cut / NAME
        before = journal.read_text().count("\n") if journal.exists() else 0
        process = subprocess.Popen(
            [*command, "-o", cut, "--resume"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if journal.exists() and journal.read_text().count("\n") > before + 10:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "the same command with --resume goes on from there" in said
        assert expected.stdout.startswith(printed)
        rows = [json.loads(line) for line in journal.read_text().splitlines()][1:]
        assert before < len(rows) < 120
        assert not (cut / "inspect.csv").exists()
        assert not list(cut.rglob("*.part"))
        for picture in cut.rglob("*.png"):
            with Image.open(picture) as image:
                image.load()
        stops += 1
    assert stops == 3
    resumed = subprocess.run([*command, "-o", cut, "--resume"], capture_output=True, text=True)
    assert resumed.stdout == expected.stdout
    assert (cut / "inspect.csv").read_bytes() == (whole / "inspect.csv").read_bytes()
    assert len((cut / NAME).read_text().splitlines()) == 121  # none was judged twice
    for picture in whole.rglob("*.png"):
        assert (cut / picture.relative_to(whole)).read_bytes() == picture.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_large_photo_takes_at_most_twelve_times_its_decoded_size(onnx_file: Path, tmp_path: Path) -> None:
    small, large = write_photos(tmp_path / "small", 1, 96), write_photos(tmp_path / "large", 1, 5000)
    peaks = [peak_mb(["inspect", onnx_file, folder, "-o", tmp_path / folder.name / "out"]) for folder in (small, large)]
    assert peaks[1] - peaks[0] < 12 * 5000 * 5000 * 3 / 2**20, peaks
