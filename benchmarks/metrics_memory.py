"""Time and memory of the pixel measures on 1,000 images of 1024 x 1024.

    python benchmarks/metrics_memory.py [--images 1000] [--side-px 1024]

Streams synthetic maps through `PixelScores`, asks for every measure, prints a table and writes
build/benchmarks/metrics_memory.json.
"""

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe, write_json
from numpy.typing import NDArray

from blemish.stats import PixelScores
from blemish.stats.intervals import percentile_intervals

THRESHOLD = 0.35
Map = NDArray[np.float32]
Mask = NDArray[np.bool_]


def blurred_noise(side_px: int, rng: np.random.Generator) -> Map:
    """Residual-like values: absolute differences, smoothed, from about 0.001 to 0.4."""
    noise = rng.gamma(1.5, 0.05, (side_px, side_px)).astype(np.float32)
    for axis in (0, 1):
        for step in (1, 2):
            noise = (noise + np.roll(noise, step, axis)) / np.float32(2)
    return noise


def disc(side_px: int, rng: np.random.Generator) -> Mask:
    row, column = np.ogrid[:side_px, :side_px]
    centre, radius = rng.uniform(0.1, 0.9, 2) * side_px, rng.uniform(0.01, 0.06) * side_px
    return (row - centre[0]) ** 2 + (column - centre[1]) ** 2 < radius**2


def image(index: int, grounds: list[Map], rng: np.random.Generator) -> tuple[Map, Mask | None]:
    """One image in three is defective, with one to four discs of raised residual."""
    anomaly_map = grounds[index % len(grounds)] * np.float32(rng.uniform(0.8, 1.2))
    if index % 3:
        return anomaly_map, None
    side_px = len(anomaly_map)
    mask = np.logical_or.reduce([disc(side_px, rng) for _ in range(rng.integers(1, 5))])
    anomaly_map[mask] += np.float32(rng.uniform(0.02, 0.3))
    return anomaly_map, mask


def peak_mib() -> float:
    """Peak resident memory of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux; its ru_maxrss would count the process that started this one, too
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(images: int, side_px: int) -> list[dict[str, Any]]:
    """Rows of what was done, its value, seconds, and the process's peak memory after it."""
    rng = np.random.default_rng(0)
    grounds = [blurred_noise(side_px, rng) for _ in range(8)]
    rows: list[dict[str, Any]] = [{"step": "start", "value": "", "seconds": 0.0, "peak_mib": peak_mib()}]
    scores, adding_s, slowest_s = PixelScores(thresholds=[THRESHOLD]), 0.0, 0.0
    for index in range(images):
        anomaly_map, mask = image(index, grounds, rng)
        started = time.perf_counter()
        scores.add(f"{index}.png", anomaly_map, mask)
        took_s = time.perf_counter() - started
        adding_s, slowest_s = adding_s + took_s, max(slowest_s, took_s)
    told = f"{1000 * adding_s / images:.1f} ms an image, slowest {1000 * slowest_s:.0f} ms"
    rows.append({"step": f"add {images} images", "value": told, "seconds": adding_s, "peak_mib": peak_mib()})

    def ask(step: str, question: Callable[[], Any]) -> None:
        started = time.perf_counter()
        value = question()
        seconds = time.perf_counter() - started
        rows.append({"step": step, "value": str(value), "seconds": seconds, "peak_mib": peak_mib()})

    ask("resolution", lambda: scores.resolution)
    ask("auroc (and pooling)", lambda: round(scores.auroc(), 6))
    ask("average_precision", lambda: round(scores.average_precision(), 6))
    ask("aupro", lambda: round(scores.aupro(), 6))
    ask("aupimo", lambda: round(scores.aupimo(), 6))
    ask("oracle_f1", lambda: tuple(round(each, 6) for each in scores.oracle_f1()))
    ask("counts_at", lambda: scores.counts_at(THRESHOLD))
    ask("roc_curve", lambda: f"{len(scores.roc_curve().threshold)} points")
    ask("histogram", lambda: f"{len(scores.histogram().good)} bins")
    ask("bootstrap, 1000 resamples", lambda: f"{len(intervals(scores))} intervals")
    return rows


def intervals(scores: PixelScores) -> dict[str, Any]:
    resampled = scores.resampled(np.random.default_rng(0), THRESHOLD, 1000)
    return dict(percentile_intervals({"auroc": levels.auroc(), "aupro": levels.aupro()} for levels, _ in resampled))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the pixel measures.")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side-px", type=int, default=1024)
    args = parser.parse_args()
    machine = describe()
    rows = measure(args.images, args.side_px)
    print(f"{args.images} images of {args.side_px} x {args.side_px}; {machine}")
    for row in rows:
        print(f"{row['step']:<26} {row['seconds']:>8.2f} s {row['peak_mib']:>7.0f} MiB  {row['value']}")
    facts = {"images": args.images, "side_px": args.side_px, "machine": machine}
    write_json("metrics_memory", facts | {"rows": rows})


if __name__ == "__main__":
    main()
