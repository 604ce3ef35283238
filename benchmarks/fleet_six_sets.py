"""Several image sets as products, trained and inspected by the fleet, and each alone: are all rows the same?

    python benchmarks/fleet_six_sets.py ../shared/data/*/ --detector padim

Every set is a product. `blemish fleet train` and `fleet inspect` go over all of them with Ray on this machine; then
`blemish train`, `export` and `inspect` over one after the other, with one thread each. It compares the rows of all test
images and writes build/benchmarks/fleet_six_sets.json; exit code 1 where one differs.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import describe, write_json

COMPARED = ("verdict", "score", "p_value", "threshold")
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


def blemish(*words: object, most: int = 1) -> str:
    """Run a command; its standard output. An exit code above `most` ends everything."""
    command = [sys.executable, "-m", "blemish", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ONE_THREAD}, check=False)
    if done.returncode > most:
        raise SystemExit(f"{' '.join(command)}: exit code {done.returncode}")
    return done.stdout


def by_fleet(sets: Sequence[Path], settings: Sequence[str], out: Path) -> dict[str, dict[str, Any]]:
    """The rows of every test image, by its path."""
    with (out / "plan.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["product", "folder", *(text.partition("=")[0] for text in settings)])
        table.writerows([one.name, one.absolute(), *(text.partition("=")[2] for text in settings)] for one in sets)
    with (out / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "path", "product"])
        for one in sets:
            table.writerows(
                [f"{one.name}/{path.name}-{place}", path, one.name] for place, path in enumerate(images(one))
            )
    blemish("fleet", "train", out / "plan.csv", "-o", out / "registry", "--no-check", most=0)
    how = ["--models", out / "registry", "-o", out / "inspected", "--format", "csv"]
    blemish("fleet", "inspect", out / "manifest.csv", *how)
    with (out / "inspected/results.csv").open(newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def images(folder: Path) -> list[Path]:
    """The test images of a set."""
    from blemish.data.folder import read_folder

    return [sample.path.absolute() for sample in read_folder(folder).test]


def alone(one: Path, settings: Sequence[str], out: Path) -> dict[str, dict[str, Any]]:
    """The rows of a set's test images, by the commands for one product."""
    trained, exported = out / f"{one.name}.safetensors", out / f"{one.name}.onnx"
    blemish("train", one, "-o", trained, *(word for text in settings for word in ("--set", text)), "--device", "cpu")
    blemish("export", trained, "-o", exported)
    rows = json.loads(blemish("inspect", exported, *images(one), "--format", "json", "--threads", 1))
    return {row["path"]: row for row in rows}


def main() -> int:
    """Compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--detector", default="feature_ensemble")
    parser.add_argument("--set", action="append", default=[], help="a setting for all, NAME=VALUE")
    asked = parser.parse_args()
    settings = [f"detector={asked.detector}", "data.speed=fast", *asked.set]
    print(describe())
    sets = [path.absolute() for path in asked.sets]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fleet = by_fleet(sets, settings, Path(folder))
        fleet_s = time.perf_counter() - started
        started = time.perf_counter()
        single = {one.name: alone(one, settings, Path(folder)) for one in sets}
        single_s = time.perf_counter() - started
    result = {name: compare(rows, fleet) for name, rows in single.items()}
    print("| product | images judged | rows that differ | largest difference of scores |\n|---|---|---|---|")
    for name, found in result.items():
        print(f"| {name} | {found['rows']} | {found['different']} | {found['largest']:.3g} |")
    print(f"fleet {fleet_s:.0f} s, one after the other {single_s:.0f} s")
    content = {"machine": describe(), "settings": settings, "products": result}
    write_json("fleet_six_sets", {**content, "fleet_s": fleet_s, "single_s": single_s})
    return int(any(found["different"] for found in result.values()))


def compare(rows: dict[str, dict[str, Any]], fleet: dict[str, dict[str, Any]]) -> dict[str, float]:
    """How many rows there are, how many differ, and by how much scores do."""
    different, largest = 0, 0.0
    for path, row in rows.items():
        other = fleet.get(path, {})
        told = [None if row[name] is None else str(row[name]) for name in COMPARED]
        different += told != [other.get(name) or None for name in COMPARED]
        if row["score"] is not None and other.get("score"):
            largest = max(largest, abs(row["score"] - float(other["score"])))
    return {"rows": len(rows), "different": different, "largest": largest}


if __name__ == "__main__":
    raise SystemExit(main())
