"""Make a table of docs/results.md again: says first what that costs, then runs what it takes.

    python benchmarks/reproduce.py --list
    python benchmarks/reproduce.py TABLE [--data ../shared/data] [-o build/reproduce] [--dry-run] [--small] [--keep]

What is printed goes into OUT/TABLE/table.md as well. Runs that were finished before are kept where the benchmark does
so. `--dry-run` prints cost and commands alone. `--keep` copies the figures to docs/figures/, from which `make docs`
writes the tables of README.md and docs/results.md; only tables that are written from there have it. `--small` takes
drawn sets of a few images in the place of the real ones, where a command takes several two of them, few steps and
runs, and ends within minutes: it shows that every command runs and writes what it must; its figures say nothing.
"""

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, final

from machine import describe

ROOT = Path(__file__).parents[1]
SIX = ("visa_macaroni1", "solar_poly", "mvtec_toothbrush", "hazelnut_toy", "kolektorsdd", "ballscrew")
THREE = ("hazelnut_toy", "mvtec_toothbrush", "kolektorsdd")
PAPERS = "paper,ae_l2,ae_ssim,vae,feature_dictionary"
ENCODED = "feature_ensemble,padim,patchcore"


class Cost(NamedTuple):
    """Minutes on the two cores of docs/results.md, and how they are known."""

    minutes: float
    known: str

    def __str__(self) -> str:
        """In minutes, or in hours where it takes long."""
        time = f"{self.minutes:.0f} minutes" if self.minutes < 120 else f"{self.minutes / 60:.1f} hours"
        return f"about {time}, {self.known}"


@final
@dataclass(frozen=True)
class Table:
    """One table: where it stands, what it costs, and the commands that make it, the last of which print it.

    In commands `{data}` is the folder of image sets, `{out}` a folder of the table's own, and `{sets}` the paths of
    `sets`. `figures` are JSON files of `out` that docs/figures/ has too.
    """

    heading: str
    cost: Cost
    commands: tuple[str, ...]
    sets: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()


def _each(command: str, sets: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(command.replace("{set}", name) for name in sets)


_NUTS = "blemish data synth hazelnuts {out}/hazelnuts"
_STATION = (f"{_NUTS} --good 60 --defects 10", *(
    "blemish train {out}/hazelnuts -o {out}/model.safetensors",
    "blemish export {out}/model.safetensors -o {out}/model.onnx",
))  # fmt: skip
_FITS = "reckoned from the times in its table"
TABLES = {
    "default": Table(
        "The default detector",
        Cost(260, "reckoned from single runs; 4 minutes on 16 cores and a large GPU, with --device cuda --workers 15"),
        ("benchmarks/default_detector.py {sets} --seeds 3 -o {out}",),
        SIX,
        ("default_detector.json",),
    ),
    "encoders": Table(
        "Packaged encoders",
        Cost(90, "reckoned from fits of the same detectors"),
        (f"benchmarks/encoders.py {{sets}} --seeds 1 --detectors {ENCODED} -o {{out}}",),
        SIX,
        ("encoders.json",),
    ),
    "reverse-distillation": Table(
        "Reverse distillation",
        Cost(60, "reckoned from the fits of two of its sets"),
        (
            "benchmarks/default_detector.py {sets} --seeds 1 --detectors reverse_distillation "
            "--name reverse_distillation -o {out}",
        ),
        SIX,
        ("reverse_distillation.json",),
    ),
    "paper": Table(
        "The paper's auto-encoder on three real sets",
        Cost(10, _FITS),
        (
            *_each("blemish train {data}/{set} -o {out}/{set}.safetensors --detector paper", THREE),
            *_each("blemish evaluate {out}/{set}.safetensors {data}/{set} -o {out}/{set}", THREE),
            "benchmarks/evaluation_table.py " + " ".join(_each("{out}/{set}/results.json", THREE)),
        ),
        THREE,
    ),
    "paper-comparison": Table(
        "The paper's comparison",
        Cost(220, _FITS),
        (
            _NUTS,
            f"blemish compare {{out}}/hazelnuts {{sets}} --detectors {PAPERS} --seeds 3 -o {{out}}/comparison",
            "blemish compare {out}/hazelnuts {sets} --detectors anogan --seeds 3 -o {out}/anogan",
            "benchmarks/comparison_table.py {out}/comparison/comparison.json {out}/anogan/comparison.json",
        ),
        THREE,
    ),
    "features": Table(
        "Features instead of pixels, on the same sets",
        Cost(24, "measured on a busy machine"),
        (
            "blemish compare {sets} --detectors feature_autoencoder,padim,patchcore --seeds 3 -o {out}/comparison",
            "benchmarks/comparison_table.py {out}/comparison/comparison.json --medians",
        ),
        THREE,
    ),
    "fit": Table("Time to fit", Cost(5, _FITS), ("benchmarks/fit_speed.py",)),
    "inspect": Table("Time to inspect", Cost(6, "reckoned from its steps"), ("benchmarks/inspect_speed.py",)),
    "engines": Table(
        "Time to inspect", Cost(4, "reckoned from its steps"), ("benchmarks/inspect_speed.py --engines --images 12",)
    ),
    "default-speed": Table(
        "Time to inspect",
        Cost(9, "measured"),
        ("benchmarks/default_speed.py {sets} -o {out}",),
        SIX,
    ),
    "gpu": Table("On a GPU", Cost(5, "at most; a GPU is needed"), ("benchmarks/gpu.py",)),
    "train-speed": Table(
        "Training speed",
        Cost(3, "reckoned from its steps"),
        ("benchmarks/train_speed.py",),
    ),
    "station-throughput": Table(
        "The station's throughput",
        Cost(15, "12 of them by design"),
        (*_STATION, "benchmarks/station_throughput.py {out}/model.onnx {out}/hazelnuts/test"),
    ),
    "station-pages": Table(
        "Pages of a station",
        Cost(8, "reckoned from its steps"),
        (*_STATION, "benchmarks/station_pages.py {out}/model.onnx 100000"),
    ),
    "fleet": Table(
        "The fleet",
        Cost(12, "reckoned from its steps"),
        (
            *_STATION,
            "benchmarks/fleet_inspect.py memory {out}/model.onnx {out}/hazelnuts/test",
            "benchmarks/fleet_inspect.py overhead {out}/model.onnx {out}/hazelnuts/test",
        ),
    ),
    "hostile": Table(
        "Hostile input",
        Cost(10, "measured"),
        ("benchmarks/hostile.py --count 2000 --seed 0 --workers 2 --out {out}/hostile.json",),
    ),
    "fleet-six-sets": Table(
        "The fleet on six sets",
        Cost(10, "reckoned from the processor time of its steps"),
        ("benchmarks/fleet_six_sets.py {sets} --detector padim",),
        SIX,
    ),
}
"""What can be made again, by the name that is asked for."""


_SMALL_STATION = {"--good 60 --defects 10": "--good 20 --defects 1 --size 64"}
SMALL: dict[str, Mapping[str, str]] = {
    "default": {"--seeds 3": "--seeds 1 --set train.max_steps=2"},
    "encoders": {},
    "reverse-distillation": {"--seeds 1": "--seeds 1 --set train.max_steps=2"},
    "paper": {"--detector paper": "--detector paper --set train.max_steps=4 --set data.side_px=64"},
    "paper-comparison": {
        _NUTS: f"{_NUTS} --good 20 --defects 1 --size 64",
        "anogan --seeds 3": "anogan --set anogan:model.search_steps=2 --seeds 3",
        "--seeds 3": "--seeds 1 --set train.max_steps=2",
    },
    "features": {"--seeds 3": "--seeds 1 --set feature_autoencoder:train.max_steps=2"},
    "fit": {".py": ".py --images 4 --size 64 --repeat 1"},
    "inspect": {".py": ".py --images 4 --repeat 1"},
    "engines": {"--images 12": "--images 4 --repeat 1"},
    "default-speed": {"{sets}": "{sets} --images 2"},
    "gpu": {".py": ".py --seconds 1 --images 4 --side 64"},
    "train-speed": {".py": ".py --epochs 1 --size 64 --batch 2"},
    "station-throughput": {**_SMALL_STATION, "hazelnuts/test": "hazelnuts/test --minutes 0.05"},
    "station-pages": {**_SMALL_STATION, "100000": "200"},
    "fleet": {
        **_SMALL_STATION,
        "hazelnuts/test": "hazelnuts/test --images 8 --workers 1 --batch-size 4 --repeats 1",
    },
    "hostile": {"--count 2000": "--count 9"},
    "fleet-six-sets": {},
}
"""What `--small` puts in the place of what in the commands of a table."""


def commands_of(name: str, data: Path, out: Path, is_small: bool = False) -> Iterator[list[str]]:
    """The commands of a table, as they are run; what stands already where a command writes its first file is kept."""
    table = TABLES[name]
    some = table.sets[:2] if is_small else table.sets
    sets = " ".join(shlex.quote((data / one).as_posix()) for one in some)
    places = {"data": shlex.quote(data.as_posix()), "out": shlex.quote(out.as_posix()), "sets": sets}
    for command in table.commands:
        for full, small in SMALL[name].items() if is_small else ():
            command = command.replace(full, small)
        first, *rest = shlex.split(command.format(**places))
        program = ["-m", "blemish"] if first == "blemish" else [str(ROOT / first)]
        yield [sys.executable, *program, *rest]


def list_tables() -> str:
    """A line a table: its name, its cost, its heading."""
    return "\n".join(f"{name:<21}{table.heading}: {table.cost}" for name, table in TABLES.items())


def draw_sets(name: str, data: Path) -> None:
    """Sets of a few small drawn images under the names of those that a table is made of."""
    from blemish.data.synthetic.dataset import write_hazelnuts

    for seed, one in enumerate(TABLES[name].sets):
        if not (data / one).is_dir():
            write_hazelnuts(data / one, good=24, defects=1, size_px=64, seed=seed)


def reproduce(name: str, data: Path, out: Path, is_small: bool = False) -> int:
    """Run the commands one after the other; the exit code of the first that fails."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "table.md").open("w", encoding="utf-8") as page:
        page.write(f"{describe()}\n\n")
        for command in commands_of(name, data, out, is_small):
            print(f"\n$ {shlex.join(command)}", flush=True)
            if "synth" in command and (out / "hazelnuts").exists():
                continue
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as running:
                assert running.stdout is not None
                for line in running.stdout:
                    print(line, end="", flush=True)
                    page.write(line)
            if running.returncode:
                print(f"{shlex.join(command)} ended with exit code {running.returncode}", file=sys.stderr)
                return running.returncode
    print(f"written: {out / 'table.md'}")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", nargs="?", choices=TABLES, metavar="TABLE", help="a name from --list")
    parser.add_argument("--list", action="store_true", help="every table with its cost")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the image sets")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/reproduce"))
    parser.add_argument("--dry-run", action="store_true", help="print the cost and the commands alone")
    parser.add_argument("--small", action="store_true", help="drawn sets and few steps: that it runs, no figures")
    parser.add_argument("--keep", action="store_true", help="copy the figures to docs/figures/")
    arguments = parser.parse_args()
    if arguments.list or arguments.table is None:
        print(list_tables())
        return 0
    name, data, is_small = arguments.table, arguments.data, arguments.small
    table, out = TABLES[name], arguments.out / (f"{name}-small" if is_small else name)
    if arguments.keep and (is_small or not table.figures):
        parser.error("--keep: not with --small" if is_small else f"--keep: {name} has no figures in docs/figures/")
    print("a small run: its figures say nothing" if is_small else f"{table.heading}: {table.cost}", flush=True)
    if is_small:
        data = out / "sets"
    if arguments.dry_run:
        print("\n".join(shlex.join(command) for command in commands_of(name, data, out, is_small)))
        return 0
    if is_small:
        draw_sets(name, data)
    missing = [str(data / one) for one in table.sets if not (data / one).is_dir()]
    if missing:
        print(f"{', '.join(missing)}: no such folder; name the folder of the image sets with --data", file=sys.stderr)
        return 2
    code = reproduce(name, data, out, is_small)
    for figures in table.figures if arguments.keep and not code else ():
        shutil.copyfile(out / figures, ROOT / "docs" / "figures" / figures)
    return code


if __name__ == "__main__":
    sys.exit(main())
