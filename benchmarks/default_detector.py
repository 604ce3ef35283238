"""The default detector beside those that it must not fall behind, on several image sets: one row a set and detector.

    python benchmarks/default_detector.py DATA [DATA ...] --seeds 3 -o build/default

Each with its default settings, and `patchcore` and `padim` also at the default's own size (`data.speed=thorough`). A
row has medians over the seeds; the last rows are their means over the sets, AUPRO over those with masks. Found and
false alarms are shares of the defective and of the good test images at the certified threshold, which promises 5 %
where there are 19 good images to calibrate on. It takes hours, goes on where it was stopped, and writes
OUT/NAME.json after each set. With `--workers` runs are done side by side, a process with one thread each.
"""

import argparse
import json
import math
import multiprocessing
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from comparison_table import table
from machine import describe

from blemish.data.files import atomic_write
from blemish.data.progress import quiet
from blemish.evaluation.compare.compare import Plan, compare, plan_runs
from blemish.evaluation.compare.content import RunRow
from blemish.evaluation.compare.follow import Runner
from blemish.evaluation.compare.runs import Outcome, execute_run
from blemish.evaluation.compare.summary import ALL
from blemish.evaluation.results import EvaluateSettings

Figures = Mapping[str, float | None]


class Part(NamedTuple):
    """Detectors with the same settings."""

    name: str
    detectors: tuple[str, ...]
    assignments: tuple[str, ...]


PARTS = (
    Part("as they are", ("feature_ensemble", "feature_autoencoder", "patchcore", "padim"), ()),
    Part("own size", ("patchcore", "padim"), ("data.speed=thorough",)),
)

QUICK = EvaluateSettings(repeats=10, panels_per_type=0, worst=0, full_size=False)
"""Neither intervals nor pictures are told here; masks are reduced to the size of the maps, as in all its tables."""

COLUMNS = {"image AUROC": 3, "AUPRO": 3, "found": 2, "false alarms": 2, "fit, s": 0, "ms an image": 0, "file, MB": 1}
"""What is told of each detector, and with how many digits."""


def figures_of(run: RunRow) -> dict[str, float | None]:
    """The figures of one run; none of one that failed."""
    part = run["scopes"].get(ALL)
    if part is None:
        return {}
    accepted, size = part["image.ok_rate"], part["artifact_bytes"]
    return {
        "image AUROC": part["image.auroc"],
        "AUPRO": part["pixel.aupro"],
        "found": part["image.defect_rate"],
        "false alarms": None if accepted is None else 1 - accepted,
        "fit, s": part["fit_seconds"],
        "ms an image": part["latency_ms"],
        "file, MB": None if size is None else size / 1e6,
    }


def counts_of(run: RunRow) -> dict[str, float | None]:
    """What stands behind the shares of one run: images found and flagged, of how many, and the promised rate."""
    count, alarms = run["count"][ALL], run["false_alarms"]
    counts = ("defective", "flagged_defective", "good", "flagged_good")
    return {name: count[name] for name in counts} | {"promised": alarms["promised"] if alarms else math.nan}


def middle(several: Sequence[Figures]) -> dict[str, float | None]:
    """The median of each figure over the runs that have it."""
    return {name: _over(statistics.median, (one.get(name) for one in several)) for name in COLUMNS}


def over_sets(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each detector, the mean over its sets of each figure that a set has."""
    names = dict.fromkeys(row["detector"] for row in rows)
    found = []
    for name in names:
        own = [row for row in rows if row["detector"] == name]
        means = {column: _over(statistics.fmean, (row["figures"][column] for row in own)) for column in COLUMNS}
        found.append({"set": f"mean of {len(own)}", "detector": name, "seeds": "", "figures": means})
    return found


def _over(take: Any, values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(take(known)) if known else None


class Work(NamedTuple):
    """What is run of each set, where to, on which device, and how many runs at once."""

    seeds: int
    detectors: Sequence[str]
    out: Path
    parts: Sequence[Part] = PARTS
    device: str = "auto"
    workers: int = 1

    def plans(self, data: Path) -> Iterator[tuple[Part, Plan, Path]]:
        """Of each part that has one of the detectors: what to compare, and the folder for it."""
        for part in self.parts:
            if names := [name for name in part.detectors if name in self.detectors]:
                plan = Plan([data], names, self.seeds, assignments=part.assignments, evaluate=QUICK)
                yield part, plan, self.out / part.name.replace(" ", "_") / data.name


def run_ahead(sets: Sequence[Path], work: Work) -> None:
    """All runs side by side, the slowest detector first; what comes after finds them finished."""
    runs = [run for data in sets for _, plan, out in work.plans(data) for run in plan_runs(plan, out)]
    runs.sort(key=lambda run: work.detectors.index(run.name))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(work.workers, context, initializer=_use_one_thread) as pool:
        for outcome in pool.map(partial(execute_run, device=work.device, report=quiet), runs):
            _tell(outcome)


def _use_one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def run_set(data: Path, work: Work) -> list[dict[str, Any]]:
    """The rows of one set; what was finished before with the same settings and images is kept."""
    rows = []
    for part, plan, out in work.plans(data):
        runs = compare(plan, out, Runner(work.device, on_run=_tell)).content["runs"]
        for name in plan.detectors:
            mine = [run for run in runs if run["detector"] == name]
            each = [found | counts_of(run) for run in mine if (found := figures_of(run))]
            called = name if part.name == PARTS[0].name else f"{name}, {part.name}"
            errors = [run["error"] for run in mine if run["error"]]
            rows.append(
                {"set": data.name, "detector": called, "seeds": len(each), "figures": middle(each), "each": each}
                | ({"errors": errors} if errors else {})
            )
    return rows


def run_sets(sets: Sequence[Path], work: Work, name: str) -> None:
    """Run everything, write OUT/NAME after each set, and print the table."""
    if work.workers > 1:
        run_ahead(sets, work)
    rows: list[dict[str, Any]] = []
    for data in sets:
        rows += run_set(data, work)
        told = {"machine": describe(), "device": work.device, "seeds": work.seeds}
        with atomic_write(work.out / name) as temporary:
            content = {**told, "rows": rows, "means": over_sets(rows)}
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{describe()}\n\n{to_markdown(rows)}")


def _tell(outcome: Outcome) -> None:
    run = outcome.run
    print(
        f"{run.dataset.name}, {run.name}, seed {run.settings.seed}: {outcome.status} {outcome.error or ''}".rstrip(),
        flush=True,
    )


def to_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """A row a set and detector, then the means over the sets."""
    lines = [
        [row["set"], f"`{row['detector']}`", str(row["seeds"]), *_cells(row["figures"])]
        for row in [*rows, *over_sets(rows)]
    ]
    return table(["set", "detector", "seeds", *COLUMNS], lines)


def _cells(figures: Figures) -> list[str]:
    return ["-" if (value := figures[name]) is None else f"{value:.{digits}f}" for name, digits in COLUMNS.items()]


def options(description: str | None, seeds: int, detectors: Sequence[str], out: str) -> argparse.ArgumentParser:
    """What every benchmark of detectors on image sets takes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=seeds)
    parser.add_argument("--detectors", default=",".join(detectors), help="some detectors, with commas between")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=1, help="runs at once")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of every run")
    parser.add_argument("-o", "--out", type=Path, default=Path(out))
    return parser


def main() -> None:
    parser = options(__doc__, 3, PARTS[0].detectors, "build/default")
    parser.add_argument("--name", default="default_detector", help="of the JSON file")
    given = parser.parse_args()
    detectors = given.detectors.split(",")
    parts = [Part(PARTS[0].name, tuple(detectors), ()), *PARTS[1:]]
    parts = [part._replace(assignments=(*part.assignments, *given.set)) for part in parts]
    work = Work(given.seeds, detectors, given.out, parts, given.device, given.workers)
    run_sets(given.data, work, f"{given.name}.json")


if __name__ == "__main__":
    main()
