"""Peak memory to decode and prepare one image, as a multiple of its decoded size: python benchmarks/decode_memory.py

Each kind is measured in a process of its own, above what the same program takes for a small image.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = {"L": 1, "RGB": 3, "RGBA": 4, "I;16": 2}
"""Modes, and bytes a pixel."""

MEASURE = """
import re, sys
from pathlib import Path
from blemish.data.images import PixelPolicy, prepare
policy = PixelPolicy(size_px=(256, 256), channels=3)

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

prepare(sys.argv[1], policy)
before = peak()
prepare(sys.argv[2], policy)
print(peak() - before)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=6000, help="side of the square image in pixels")
    side = parser.parse_args().side
    for mode, depth in KINDS.items():
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            peak = decode_peak(Path(folder), mode, side)
        seconds = time.perf_counter() - started
        decoded = side * side * depth
        size = f"{decoded / 1e6:.0f} MB decoded, peak {peak / 1e6:.0f} MB"
        print(f"{mode:5} {size}, {peak / decoded:.1f} times, {seconds:.1f} s")


def decode_peak(folder: Path, mode: str, side: int) -> int:
    """Bytes that a square image takes at the most; two images are written into the folder."""
    small, large = folder / "small.png", folder / "large.png"
    write(small, mode, 64)
    write(large, mode, side)
    command = [sys.executable, "-c", MEASURE, str(small), str(large)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def write(path: Path, mode: str, side: int) -> None:
    kind = np.uint16 if mode == "I;16" else np.uint8
    shape = (side, side) if mode in ("L", "I;16") else (side, side, len(mode))
    row = np.random.default_rng(0).integers(0, 255, (1, *shape[1:]), kind)
    Image.fromarray(np.ascontiguousarray(np.broadcast_to(row, shape))).save(path, compress_level=0)


if __name__ == "__main__":
    main()
