"""What the default detector costs at its own size: to train it, and to inspect photos with its ONNX file.

    python benchmarks/default_speed.py DATA [DATA ...] [--images 30] [--set NAME=VALUE] [-o build/default_speed]

One row an image set. Training is `blemish train` from start to end, imports, decoding and calibration included; the
fit alone is what its model file says. An image is judged by `Predictor.predict` from its file, decoding included, with
as many threads as cores; medians. `blemish inspect` is the time that each further photo adds to it. On other machines
and beside other work these are other figures: run it where nothing else runs.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from comparison_table import table
from machine import describe, write_json

from blemish import Predictor, read_folder
from blemish.inference.artifact import read_artifact

HEAD = (
    *("set", "seen at, px", "good images", "`blemish train`, s", "fit, s"),
    *("an image, wall ms", "an image, processor ms", "`blemish inspect`, ms an image"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--images", type=int, default=30)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the training")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/default_speed"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for data in given.data:
        rows.append(measure(data, given.out, given.images, given.set))
        print(*rows[-1], flush=True)
        write_json("default_speed", {"head": HEAD, "rows": rows})
    print(f"\n{describe()}\n\n{table(list(HEAD), rows)}")


def measure(data: Path, out: Path, images: int, settings: Sequence[str]) -> list[str]:
    """One row of the table."""
    model, exported = out / f"{data.name}.safetensors", out / f"{data.name}.onnx"
    trained_s = seconds_of("train", data, "-o", model, *(f"--set={one}" for one in settings))
    seconds_of("export", model, "-o", exported)
    header = read_artifact(model)[0]
    photos = [sample.path for sample in read_folder(data).test][:images]
    predictor = Predictor.load(exported)
    for path in photos[:3]:
        predictor.predict(path)
    wall, processor = zip(*(judge(predictor, path) for path in photos), strict=True)
    one, many = (seconds_of("inspect", exported, *some) for some in (photos[:1], photos))
    height, width = header.policy.size_px
    card = header.data_card
    return [
        data.name,
        f"{height} x {width}",
        str(card.fit_images + card.calibration_images),
        f"{trained_s:.0f}",
        f"{header.fit_seconds:.0f}",
        f"{1e3 * statistics.median(wall):.0f}",
        f"{1e3 * statistics.median(processor):.0f}",
        f"{1e3 * (many - one) / (len(photos) - 1):.0f}",
    ]


def judge(predictor: Predictor, path: Path) -> Sequence[float]:
    """Wall and processor seconds of one image."""
    wall, processor = time.perf_counter(), time.process_time()
    predictor.predict(path)
    return time.perf_counter() - wall, time.process_time() - processor


def seconds_of(*arguments: object) -> float:
    """Of one command; its exit code 1, an anomaly, is none of an error."""
    started = time.perf_counter()
    code = subprocess.run([sys.executable, "-m", "blemish", *map(str, arguments)], stdout=subprocess.DEVNULL).returncode
    if code > 1:
        sys.exit(code)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
