"""How many images a second a station holds, and how long an image takes at five a second.

Usage: station_throughput.py [MODEL.onnx] [IMAGES] [--minutes 10]. The defaults are what `make station` makes. A station
runs as users start it, with its pages and its worker; images are sent over HTTP by this process, on the same cores.
"""

import argparse
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from machine import describe, write_json

from blemish.station import accounts
from blemish.station.client import Station
from blemish.station.database import open_database
from blemish.station.folder import open_folder
from blemish.station.products import add_model, add_product, go_live

PASSWORD = "correct horse battery"
MOST_WAITING = 32
"""The sender waits while so many images do: what is held is what is judged, and not what piles up."""
RATE = 5.0
LOOK_EVERY_S = 0.2
SENDERS = 8


def main() -> int:
    """Send as fast as images are judged for most of the time, then five a second; print a table, write JSON."""
    options = read_options()
    files = sorted(options.images.rglob("*.png"))
    if not options.model.is_file() or not files:
        print(f"{options.model} and images in {options.images} are needed: `make station` makes them")
        return 2
    images = [path.read_bytes() for path in files[:100]]
    duration_s = 60.0 * options.minutes
    with tempfile.TemporaryDirectory() as root, serve(Path(root), options.model) as station:
        numbers = count()
        fast(station, images, numbers, min(10.0, duration_s / 10))  # what is opened once
        sixths = fast(station, images, numbers, duration_s)
        latencies = steady(station, images, numbers, max(20.0, duration_s / 5))
    spent = os.times()
    cpu_ms = 1000.0 * (spent.children_user + spent.children_system) / next(numbers)
    held, slowest, fastest = (6 * share / duration_s for share in (sum(sixths) / 6, min(sixths), max(sixths)))
    p50, p95, p99, longest = (float(np.percentile(latencies, share)) for share in (50, 95, 99, 100))
    print(f"{describe()}\n{options.model.name}, {len(images)} images of {np.mean([*map(len, images)]) / 1000:.0f} kB\n")
    print("| | |\n|---|---|")
    print(f"| images a second, held for {duration_s:.0f} s | {held:.1f} |")
    print(f"| in the slowest and the fastest sixth of that time | {slowest:.1f}, {fastest:.1f} |")
    print(f"| at {RATE:g} a second: median, 95 %, 99 %, longest, ms | {p50:.0f}, {p95:.0f}, {p99:.0f}, {longest:.0f} |")
    print(f"| processor time of server and worker an image, start included, ms | {cpu_ms:.0f} |")
    write_json(
        "station_throughput",
        {
            "machine": describe(),
            "duration_s": duration_s,
            "images_a_second": held,
            "images_by_sixth": sixths,
            "processor_ms_an_image": cpu_ms,
            "latency_ms_at_5_a_second": {"p50": p50, "p95": p95, "p99": p99, "longest": longest},
        },
    )
    return 0


def read_options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, default=Path("build/demo/model.onnx"))
    parser.add_argument("images", nargs="?", type=Path, default=Path("build/demo/hazelnuts/test"))
    parser.add_argument("--minutes", type=float, default=10.0)
    return parser.parse_args()


@contextmanager
def serve(root: Path, model: Path) -> Iterator[Station]:
    """A station in processes of its own, and a client of it."""
    folder = open_folder(root / "station", create=True)
    database = open_database(folder.default_database, folder.id)
    product_id = add_product(database, "benchmark", "part")
    added = add_model(database, folder, "benchmark", product_id, (model.name, model.read_bytes()))
    go_live(database, folder, "benchmark", added.id, "a benchmark")
    user_id = accounts.add_user(database, "benchmark", "sender", PASSWORD, "operator")
    token = accounts.add_token(database, "benchmark", user_id, "sender", ["predict", "read"])
    database.close()
    command = [sys.executable, "-m", "blemish", "station", str(folder.root), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "300"})
    assert process.stderr is not None
    found = re.search(r"http://\S+/", process.stderr.readline())
    assert found is not None
    threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        wait_until_ready(found[0])
        yield Station(found[0].rstrip("/"), token)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_until_ready(address: str) -> None:
    """Until pages and worker answer."""
    for _ in range(600):
        try:
            with urlopen(f"{address}readyz", timeout=5):
                return
        except URLError:
            time.sleep(0.1)
    raise SystemExit("the station does not get ready")


def stamped(png: bytes, number: int) -> bytes:
    """The image with another text in its file, so that each is kept as a file of its own."""
    body = b"tEXtnumber\0%d" % number
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:-12] + chunk + png[-12:]


def send(station: Station, images: list[bytes], number: int, wait_s: float) -> int:
    """Send an image; returns its number in the station."""
    content = stamped(images[number % len(images)], number)
    told = station.predict("part", f"{number}.png", content, wait_s)
    assert told["verdict"] in ("good", "anomalous", "waiting"), told
    return int(told["image_id"])


def fast(station: Station, images: list[bytes], numbers: Iterator[int], duration_s: float) -> list[int]:
    """Send as fast as they are judged; how many were in each sixth of the time."""
    begun, sixths, sent = time.monotonic(), [0] * 6, list[int]()
    lock = threading.Lock()

    def one_sender() -> None:
        while time.monotonic() - begun < duration_s:
            with lock:
                number = next(numbers)
            image_id = send(station, images, number, 0.0)
            with lock:
                sent.append(image_id)
                oldest = sent[-MOST_WAITING] if len(sent) >= MOST_WAITING else None
            while oldest is not None and station.image(oldest)["verdict"] == "waiting":
                time.sleep(LOOK_EVERY_S)
            place = int(6 * (time.monotonic() - begun) / duration_s)
            with lock:
                sixths[min(place, 5)] += place < 6

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(one_sender) for _ in range(4)]:
            future.result()
    while station.image(max(sent))["verdict"] == "waiting":
        time.sleep(0.05)
    return sixths


def steady(station: Station, images: list[bytes], numbers: Iterator[int], duration_s: float) -> list[float]:
    """Send five a second, whether or not those before are answered; the time from sending to the verdict, in ms."""

    def one_image(number: int, due_s: float) -> float:
        send(station, images, number, 60.0)
        return 1000.0 * (time.monotonic() - due_s)

    begun, futures = time.monotonic() + 0.5, []
    with ThreadPoolExecutor(SENDERS) as pool:
        for place in range(int(duration_s * RATE)):
            due_s = begun + place / RATE
            time.sleep(max(0.0, due_s - time.monotonic()))
            futures.append(pool.submit(one_image, next(numbers), due_s))
    return [future.result() for future in futures]


if __name__ == "__main__":
    sys.exit(main())
