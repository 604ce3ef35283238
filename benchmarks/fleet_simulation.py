"""What a fleet takes for 10 million images and 500 products, from measured rates: a discrete simulation.

    python benchmarks/fleet_simulation.py
    python benchmarks/fleet_simulation.py --core-ms 29.3 --load-s 0.3 --spot-hours 20

Workers take shards of one archive, sorted by product; some are slow, machines die and come back, a shard that was
under way is done again, and models are kept in an LRU. What machines share (an object store's requests, a file
system's opened files) is a limit on all together. It prints a table and writes build/benchmarks/fleet_simulation.json.
"""

import argparse
import heapq
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple, final

import numpy as np
from machine import write_json

CORES = (2, 16, 64, 256, 1024)
NODE_CORES = 16
RECOVERY_S = 60.0
SLOW_SHARE, SLOW_BY = 0.05, 2.0
CHECKPOINT_S = 60.0


@final
class Rates(NamedTuple):
    """What was measured, or is said of the services; times in seconds of one core."""

    image_s: float
    load_s: float
    train_s: float
    """Of a product, in the middle; products differ."""
    fails_h: float
    """Hours until a machine dies, on average."""
    shared_per_s: float
    """Images that all workers together may open in a second."""
    kept: int = 4
    """Models that a worker keeps open."""


@final
class Run(NamedTuple):
    """What came of a simulated run."""

    cores: int
    hours: float
    efficiency: float
    """Hours of cores that judging alone would take, by those that were held."""
    loads: int
    redone: int
    """Images judged again, or seconds of training."""
    tail_s: float
    """How long the last worker worked when one in ten had nothing left to do."""
    bound: str


def shares(products: int) -> np.ndarray:
    """How the images are spread over the products: Zipf's law, the k-th has 1/k of the first."""
    weights = 1.0 / np.arange(1, products + 1)
    return weights / weights.sum()


def make_shards(images: int, products: int, size: int) -> list[tuple[int, int]]:
    """Shards as (product, images): each of one product, cut every `size` images.

    >>> make_shards(10, 2, 4)
    [(0, 4), (0, 3), (1, 3)]
    """
    ends = np.round(np.cumsum(shares(products)) * images).astype(int)
    counts = np.diff(ends, prepend=0)
    return [
        (product, min(size, int(count) - place))
        for product, count in enumerate(counts)
        for place in range(0, int(count), size)
    ]


class Machines:
    """Workers on machines that die now and then; some are slow."""

    def __init__(self, cores: int, fails_h: float, rng: np.random.Generator) -> None:
        self.slow = np.where(rng.random(cores) < SLOW_SHARE, SLOW_BY, 1.0)
        self.rng, self.mean_s = rng, fails_h * 3600.0
        nodes = -(-cores // NODE_CORES)
        self.dies = rng.exponential(self.mean_s, nodes)

    def death_within(self, worker: int, start: float, end: float) -> float | None:
        """When the worker's machine dies between two moments; it is back `RECOVERY_S` later."""
        node = worker // NODE_CORES
        while self.dies[node] + RECOVERY_S <= start:
            self.dies[node] += RECOVERY_S + self.rng.exponential(self.mean_s)
        return float(self.dies[node]) if self.dies[node] < end else None


def inspect(images: int, products: int, size: int, cores: int, rates: Rates, seed: int = 0) -> Run:
    """An archive of images, by workers that each take the next shard."""
    rng = np.random.default_rng(seed)
    machines = Machines(cores, rates.fails_h, rng)
    image_s = max(rates.image_s, cores / rates.shared_per_s)  # all of them wait for what they share
    todo = deque(make_shards(images, products, size))
    free = [(0.0, worker) for worker in range(cores)]
    open_models: list[OrderedDict[int, None]] = [OrderedDict() for _ in range(cores)]
    loads = redone = 0
    ends = np.zeros(cores)
    while todo:
        start, worker = heapq.heappop(free)
        (product, count), models = todo.popleft(), open_models[worker]
        end = start
        if product not in models:
            loads += 1
            end += rates.load_s * machines.slow[worker]
        models[product] = None
        models.move_to_end(product)
        while len(models) > rates.kept:
            models.popitem(last=False)
        judge_s = count * rates.image_s * machines.slow[worker]
        end += max(judge_s, count * image_s)
        died = machines.death_within(worker, start, end)
        if died is not None:  # what was under way is done again by whoever is free
            redone += int(count * max(0.0, died - start) / max(end - start, 1e-9))
            models.clear()
            todo.append((product, count))
            end = max(start, died) + RECOVERY_S
        else:
            ends[worker] = end
        heapq.heappush(free, (end, worker))
    total = float(ends.max())
    bound = "what they share" if image_s > rates.image_s else "cores"
    useful = images * rates.image_s / (total * cores)
    return Run(cores, total / 3600.0, useful, loads, redone, total - float(np.quantile(ends, 0.1)), bound)


def train(products: int, cores: int, rates: Rates, largest_first: bool = True, seed: int = 0) -> Run:
    """Products of very different sizes, each on one core, gone on from the last checkpoint after a death."""
    rng = np.random.default_rng(seed)
    machines = Machines(cores, rates.fails_h, rng)
    sizes = rates.train_s * rng.lognormal(0.0, 0.7, products)
    work_s = deque(np.sort(sizes)[::-1] if largest_first else sizes)
    total_work, longest = sum(work_s), max(work_s)
    free = [(0.0, worker) for worker in range(cores)]
    ends, redone = np.zeros(cores), 0.0
    while work_s:
        start, worker = heapq.heappop(free)
        work = work_s.popleft()
        end = start + work * machines.slow[worker]
        died = machines.death_within(worker, start, end)
        if died is not None:
            done = max(0.0, died - start) / machines.slow[worker]
            kept = done - done % CHECKPOINT_S
            redone += done - kept
            work_s.appendleft(work - kept)
            end = max(start, died) + RECOVERY_S
        else:
            ends[worker] = end
        heapq.heappush(free, (end, worker))
    total = float(ends.max())
    bound = "the largest product" if longest > total_work / cores else "cores"
    useful = total_work / (total * cores)
    return Run(cores, total / 3600.0, useful, products, round(redone), total - float(np.quantile(ends, 0.1)), bound)


def middle(simulate: Callable[[int, int], Run]) -> list[Run]:
    """For each number of cores, of three runs with other slow and dying machines the one in the middle."""
    return [sorted(simulate(cores, seed) for seed in range(3))[1] for cores in CORES]


def limits(rates: Rates, store_per_s: float, opens_per_s: float) -> list[tuple[str, float, str]]:
    """From how many cores on each shared thing is the bound, and what to do about it."""
    store = f"an object store, {store_per_s:g} requests a second and prefix"
    files = f"a shared file system, {opens_per_s:g} files opened a second"
    return [
        (files, opens_per_s * rates.image_s, "a local copy, more servers"),
        (store, store_per_s * rates.image_s, "more prefixes: one a product or a day"),
    ]


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--products", type=int, default=500)
    parser.add_argument("--shard", type=int, default=256, help="images of a shard")
    parser.add_argument("--core-ms", type=float, default=29.3, help="to fetch, decode and judge an image on one core")
    parser.add_argument("--load-s", type=float, default=0.3, help="to open a model")
    parser.add_argument(
        "--train-s", type=float, default=240.0, help="to train and export a product on one core, median"
    )
    parser.add_argument("--spot-hours", type=float, default=20.0, help="until a machine is taken away, on average")
    parser.add_argument("--store-per-s", type=float, default=5500.0, help="requests to one prefix of an object store")
    parser.add_argument("--opens-per-s", type=float, default=2000.0, help="files opened on a shared file system")
    asked = parser.parse_args()
    rates = Rates(asked.core_ms / 1e3, asked.load_s, asked.train_s, asked.spot_hours, asked.store_per_s)
    archive = asked.images, asked.products
    files = rates._replace(shared_per_s=asked.opens_per_s)
    inspected = middle(lambda cores, seed: inspect(*archive, asked.shard, cores, rates, seed))
    on_disk = middle(lambda cores, seed: inspect(*archive, asked.shard, cores, files, seed))
    tiny = middle(lambda cores, seed: inspect(*archive, 100, cores, rates, seed))
    unordered = middle(lambda cores, seed: train(asked.products, cores, rates, False, seed))
    trained = middle(lambda cores, seed: train(asked.products, cores, rates, True, seed))
    print(f"{asked.images:,} images of {asked.products} products; {vars(asked)}")
    print_runs("inspect, from an object store", inspected, "images")
    print_runs("inspect, from a shared file system", on_disk, "images")
    print_runs("inspect, in shards of 100 images", tiny, "images")
    print_runs("train, as the plan has them", unordered, "seconds")
    print_runs("train, the largest first", trained, "seconds")
    found = limits(rates, asked.store_per_s, asked.opens_per_s)
    print("\nwhat is the bound first")
    for what, cores, advice in sorted(found, key=lambda row: row[1]):
        print(f"  from {cores:5.0f} cores: {what}; {advice}")
    runs = {"inspect_store": inspected, "inspect_files": on_disk, "inspect_small_shards": tiny, "train": trained}
    runs["train_unordered"] = unordered
    content = {name: [run._asdict() for run in some] for name, some in runs.items()}
    write_json("fleet_simulation", {"asked": vars(asked), **content, "limits": found})


def print_runs(title: str, runs: list[Run], unit: str) -> None:
    """A table."""
    print(
        f"\n{title}\n{'cores':>6} {'hours':>8} {'useful':>7} {'loads':>8} {unit + ' again':>14} {'tail':>8}  bound by"
    )
    for run in runs:
        print(
            f"{run.cores:>6} {run.hours:>8.2f} {100 * run.efficiency:>5.0f} % {run.loads:>8,} {run.redone:>14,} "
            f"{run.tail_s:>6.0f} s  {run.bound}"
        )


if __name__ == "__main__":
    main()
