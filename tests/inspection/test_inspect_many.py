"""Thousands of images: in constant memory, and with Ctrl-C in the middle."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.inspection.inspect import NAME
from conftest import recorded
from station.waiting import wait_until

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
    count = 600
    photos = write_photos(tmp_path / "photos", count, 128)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [*RUN, "inspect", onnx_file, photos, "--format", "csv"]
    expected = subprocess.run([*command, "-o", whole], capture_output=True, text=True)
    assert expected.returncode in (0, 1), expected.stderr
    stops = 0
    while stops < 3:
        record = cut / NAME
        before = len(recorded(record))
        with (tmp_path / "printed").open("wb") as out, (tmp_path / "said").open("wb") as log:
            process = subprocess.Popen([*command, "-o", cut, "--resume"], stdout=out, stderr=log)
        wait_until(lambda: len(recorded(record)) > before + 10 or process.poll() is not None)  # noqa: B023
        process.send_signal(signal.SIGINT)
        process.wait()
        printed, said = ((tmp_path / name).read_text() for name in ("printed", "said"))
        if process.returncode in (0, 1):  # the machine is so fast that it was over
            break
        assert process.returncode == 130, said
        assert "the same command with --resume goes on from there" in said
        assert expected.stdout.startswith(printed)
        assert before < len(recorded(record)) < count
        assert not (cut / "inspect.csv").exists()
        assert not list(cut.rglob("*.part"))
        for picture in cut.rglob("*.png"):
            with Image.open(picture) as image:
                image.load()
        stops += 1
    assert stops > 0
    resumed = subprocess.run([*command, "-o", cut, "--resume"], capture_output=True, text=True)
    assert resumed.stdout == expected.stdout
    assert (cut / "inspect.csv").read_bytes() == (whole / "inspect.csv").read_bytes()
    assert [row["id"] for row in recorded(cut / NAME)] == list(range(1, count + 1))  # none was judged twice
    for picture in whole.rglob("*.png"):
        assert (cut / picture.relative_to(whole)).read_bytes() == picture.read_bytes()


def test_killed_in_a_loop_and_resumed_it_decides_every_image_once(onnx_file: Path, tmp_path: Path) -> None:
    """With SIGKILL: what was printed is in the record, and nothing in the record is lost, changed or judged again."""
    count = 600
    photos = write_photos(tmp_path / "photos", count, 128)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [*RUN, "inspect", onnx_file, photos, "--format", "csv", "--threads", "1", "--threshold", "0.3"]
    expected = subprocess.run([*command, "-o", whole], capture_output=True, text=True)
    assert expected.returncode in (0, 1), expected.stderr
    rng, kept, kills = np.random.default_rng(2), list[dict[str, Any]](), 0
    while kills < 8:
        with (tmp_path / "printed").open("wb") as printed:
            process = subprocess.Popen([*command, "-o", cut, "--resume"], stdout=printed, stderr=subprocess.DEVNULL)
        wait_until(lambda: len(recorded(cut / NAME)) > len(kept) or process.poll() is not None)  # noqa: B023
        time.sleep(rng.uniform(0.0, 0.15))  # in the middle of whatever comes next
        process.kill()
        if process.wait() in (0, 1):  # the machine is so fast that it was over
            break
        kills += 1
        before, kept = kept, recorded(cut / NAME)
        assert kept[: len(before)] == before, "a decision was lost or changed"
        shown = (tmp_path / "printed").read_text().splitlines()[1:-1]
        assert {line.partition(",")[0] for line in shown} <= {row["image_path"] for row in kept}
    assert kills > 0
    resumed = subprocess.run([*command, "-o", cut, "--resume"], capture_output=True, text=True)
    assert resumed.stdout == expected.stdout
    found = recorded(cut / NAME)
    assert found[: len(kept)] == kept
    assert sorted(row["image_path"] for row in found) == sorted(map(str, photos.iterdir()))
    for path in whole.rglob("*.*"):
        if path.suffix in (".png", ".csv", ".html"):
            assert (cut / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert not list(cut.rglob("*.part"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_large_photo_takes_at_most_twelve_times_its_decoded_size(onnx_file: Path, tmp_path: Path) -> None:
    small, large = write_photos(tmp_path / "small", 1, 96), write_photos(tmp_path / "large", 1, 5000)
    peaks = [peak_mb(["inspect", onnx_file, folder, "-o", tmp_path / folder.name / "out"]) for folder in (small, large)]
    assert peaks[1] - peaks[0] < 12 * 5000 * 5000 * 3 / 2**20, peaks
