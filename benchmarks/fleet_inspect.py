"""What the fleet adds to a plain `Predictor` an image, and what memory it takes however many images there are.

    python benchmarks/fleet_inspect.py overhead MODEL FOLDER    # one worker against a loop over Predictor.predict
    python benchmarks/fleet_inspect.py memory MODEL FOLDER      # 20,000 images: peak memory of driver and workers

The images of FOLDER are judged again and again under other ids until there are `--images`.
"""

import argparse
import itertools
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from blemish.data.image_files import image_files
from blemish.data.progress import Progress
from blemish.fleet.cluster import connected
from blemish.fleet.inspect import Request, inspect_archive
from blemish.fleet.manifest import ManifestRow, write_manifest
from blemish.inference.predictor import Predictor


def main() -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "memory"])
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        request = prepare(given, Path(folder))
        print_overhead(given, request) if given.what == "overhead" else print_memory(given, request)


def prepare(given: argparse.Namespace, folder: Path) -> Request:
    """A registry of one product, and a manifest of as many images as asked for."""
    product = folder / "registry" / "part"
    product.mkdir(parents=True)
    shutil.copy(given.model, product / f"model{given.model.suffix}")
    count = given.images or (1280 if given.what == "overhead" else 20_000)
    files = itertools.islice(itertools.cycle(map(str, image_files(given.folder.absolute()))), count)
    write_manifest((ManifestRow(str(n), file, "part") for n, file in enumerate(files)), folder / "m.parquet")
    workers = given.workers or (1 if given.what == "overhead" else 2)
    shard_rows = given.batch_size if given.what == "overhead" else 256  # small ones, to see when which was finished
    how = (None, workers, 1, given.batch_size, shard_rows)
    return Request(folder / "m.parquet", product.parent, folder / "out", *how)


def print_overhead(given: argparse.Namespace, request: Request) -> None:
    """Wall time an image from the first finished image to the last, against the loop, in turns."""
    files = image_files(given.folder)
    predictor = Predictor.load(given.model, threads=1)
    count = given.images or 1280
    plain, fleet = [], []
    with connected(None, request.workers):
        for _ in range(given.repeats):
            began = np.array([time.perf_counter(), time.process_time()])
            for file in itertools.islice(itertools.cycle(files), count):
                predictor.predict(file)
            plain.append((np.array([time.perf_counter(), time.process_time()]) - began) / count * 1000)
            shutil.rmtree(request.out, ignore_errors=True)
            fleet.append(steady_ms(request))
            told = [f"{name} {ms[0]:.2f} ms ({ms[1]:.2f})" for name, ms in (("plain", plain[-1]), ("fleet", fleet[-1]))]
            print(f"an image, and of that computing: {', '.join(told)}", flush=True)
    more = np.min(fleet, axis=0) / np.min(plain, axis=0) - 1
    print(f"smallest of {given.repeats}: the fleet takes {more[0]:+.1%}, computing {more[1]:+.1%}")


def steady_ms(request: Request) -> np.ndarray:
    """Milliseconds an image, and those of the worker's and this process's processor time.

    Without what is once: the start of the worker, and the opening of the model.
    """
    seen: list[tuple[float, float, int]] = []

    def on_progress(progress: Progress) -> None:
        if progress.what == "judging" and progress.done and (not seen or seen[-1][2] < progress.done):
            computing = time.process_time() + sum(map(processor_s, worker_pids()))
            seen.append((time.perf_counter(), computing, progress.done))

    inspect_archive(request, on_progress)
    first, last = np.array(seen[0]), np.array(seen[-1])
    return (last - first)[:2] / (last - first)[2] * 1000


def processor_s(pid: int) -> float:
    """The processor time that a process has taken so far, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def print_memory(given: argparse.Namespace, request: Request) -> None:
    """Memory of this process and of all workers, now and at most, ten times on the way."""
    total = given.images or 20_000
    next_at = 0

    def on_progress(progress: Progress) -> None:
        nonlocal next_at
        if progress.what == "judging" and progress.done and progress.done >= next_at:
            next_at = progress.done + total // 10
            workers = ", ".join(f"{now} (at most {most})" for now, most in map(memory_mib, worker_pids()))
            now, most = memory_mib(os.getpid())
            print(f"{progress.done:>7} images: driver {now} MiB (at most {most}), workers {workers}", flush=True)

    summary = inspect_archive(request, on_progress)
    print(f"{summary.images} images in {summary.seconds:.0f} s")


def memory_mib(pid: int) -> tuple[int, int]:
    """Resident memory of a process, now and at most."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) >> 10, int(lines["VmHWM"].split()[0]) >> 10


def worker_pids() -> list[int]:
    """Of the judges that Ray runs for this process."""
    found, mine = [], {os.getpid()}
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    while more := {pid for pid, parent in parents.items() if parent in mine} - mine:
        mine |= more
    for pid in mine:
        try:
            if b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return sorted(found)


if __name__ == "__main__":
    main()
