"""From a folder of good images to a model file: the default and three other detectors beside the bare encoder.

    python benchmarks/fit_speed.py [--images 200] [--size 256] [--repeat 3] [--detectors ...]

Draws hazelnuts as PNG files and runs `blemish train` on them, each detector in a process of its own, the detectors in
turn: reading the files, fitting, calibrating, writing the model, start of Python and torch included. The bare encoder
reads the same files and passes each once, eight at a time. Prints medians and the ratios to PatchCore and to the bare
encoder, and whether the default keeps within a minute and twice PatchCore's processor time; writes
build/benchmarks/fit_speed.json.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import describe, write_json

from blemish.data.synthetic.dataset import write_hazelnuts

DETECTORS = ("feature_ensemble", "feature_autoencoder", "padim", "patchcore")
ENCODER = "bare encoder"
LIMIT_S, LIMIT_RATIO = 60.0, 2.0

PASS = """
import sys
from pathlib import Path
import torch
from blemish.data.images import PixelPolicy, load_image
from blemish.models.encoders import EncoderSettings, FrozenEncoder
encoder, side = FrozenEncoder(EncoderSettings()), int(sys.argv[2])
encoder.prepare()
policy = PixelPolicy(size_px=(side, side), channels=3)
paths = sorted(Path(sys.argv[1]).glob("*.png"))
with torch.inference_mode():
    for start in range(0, len(paths), 8):
        encoder(torch.stack([torch.from_numpy(load_image(path, policy)) for path in paths[start : start + 8]]))
"""


def cost(command: list[str]) -> tuple[float, float]:
    """Seconds of wall time and of processor time that a command takes."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--detectors", default=",".join(DETECTORS), help="with commas between; patchcore is always run")
    arguments = parser.parse_args()
    machine = describe()
    print(machine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_hazelnuts(folder / "data", good=arguments.images, defects=0, size_px=arguments.size)
        good, model = str(folder / "data/train/good"), folder / "model.safetensors"
        blemish = [sys.executable, "-m", "blemish", "train", good, "-o", str(model), "--detector"]
        detectors = dict.fromkeys([*arguments.detectors.split(","), "patchcore"])
        commands = {detector: [*blemish, detector] for detector in detectors}
        commands[ENCODER] = [sys.executable, "-c", PASS, good, str(arguments.size)]
        runs: dict[str, list[tuple[float, float]]] = {row: [] for row in commands}
        sizes = {}
        for _ in range(arguments.repeat):
            for row, command in commands.items():
                runs[row].append(cost(command))
                if row != ENCODER:
                    sizes[row] = model.stat().st_size / 1e6
                    model.unlink()
    found = {row: [statistics.median(part) for part in zip(*costs, strict=True)] for row, costs in runs.items()}
    threads = os.environ.get("OMP_NUM_THREADS", "as many as cores")
    print(f"\n{arguments.images} images of {arguments.size} x {arguments.size}, threads: {threads}")
    print("| | wall s | processor s | to PatchCore | to the bare encoder | file MB |")
    print("|---|---|---|---|---|---|")
    for row, (wall, cpu) in found.items():
        ratios = f"{cpu / found['patchcore'][1]:.2f} | {cpu / found[ENCODER][1]:.2f}"
        print(f"| {row} | {wall:.1f} | {cpu:.1f} | {ratios} | {sizes.get(row, 0):.1f} |")
    if (detector := DETECTORS[0]) in detectors:
        wall, ratio = found[detector][0], found[detector][1] / found["patchcore"][1]
        verdict = "within" if wall <= LIMIT_S else "BEYOND"
        times = "within" if ratio <= LIMIT_RATIO else "BEYOND"
        print(f"{detector}: {wall:.1f} s, {verdict} the {LIMIT_S:g} s it may take; ", end="")
        print(f"{ratio:.2f} times PatchCore's processor time, {times} the {LIMIT_RATIO:g} it may be")
    keys = ("wall_s", "processor_s")
    rows = {row: dict(zip(keys, values, strict=True)) for row, values in found.items()}
    write_json(
        "fit_speed", {"machine": machine, **vars(arguments), "threads": threads, "found": rows, "file_mb": sizes}
    )


if __name__ == "__main__":
    main()
