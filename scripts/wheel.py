"""Install a wheel into an empty environment of each Python that is here, and use it there: wheel.py WHEEL [PYTHON ...]

Pythons are those named, else every one that the package takes among `python3.N` on the path and in pyenv. A model is
made and exported with the Python that runs this script; in each environment, in build/wheels/, the wheel is installed
with what it needs, and `doctor`, `verify` and `inspect` must do what they do here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUT = Path("build/wheels")


def main() -> int:
    """Print a line for each Python; 1 where one of them fails."""
    wheel, *named = sys.argv[1:]
    pythons = [Path(one) for one in named] or list(find_pythons())
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    here = str(Path(sys.executable).with_name("blemish"))
    model, images = make_model(here)
    wanted = rows_of(run([here, "inspect", model, images, "--format", "json"], {0, 1}))
    failed = 0
    for python in pythons:
        version = version_of(python)
        try:
            use(python, Path(wheel), OUT / version, (model, images), wanted)
        except (RuntimeError, OSError, ValueError) as error:
            failed += 1
            print(f"Python {version}: FAILED: {error}", flush=True)
        else:
            print(
                f"Python {version}: installed, nothing is wrong, verifies, {len(wanted)} images judged as here",
                flush=True,
            )
    return int(failed > 0 or not pythons)


def find_pythons() -> Iterator[Path]:
    """One of each minor version that the package takes, the lowest first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    least = int(project["requires-python"].removeprefix(">=3."))
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(least, least + 10):
        places = [*sorted(pyenv.glob(f"3.{minor}.*/bin/python")), shutil.which(f"python3.{minor}")]
        found = next((Path(place) for place in places if place and version_of(Path(place)).startswith("3.")), None)
        if found:
            yield found


def version_of(python: Path) -> str:
    """Such as 3.12.1; what it printed instead, if it is none."""
    return subprocess.run([python, "-V"], capture_output=True, text=True).stdout.strip().rpartition(" ")[2]


def make_model(blemish: str) -> tuple[str, str]:
    """A model file for onnxruntime and a folder of images, drawn and trained here in a few steps."""
    nuts, trained, model = (str(OUT / name) for name in ("nuts", "model.safetensors", "model.onnx"))
    run([blemish, "data", "synth", "hazelnuts", nuts, "--good", "24", "--defects", "1", "--size", "64"])
    run([blemish, "train", nuts, "-o", trained, "--detector", "paper", "--set", "train.max_steps=4"])
    run([blemish, "export", trained, "-o", model])
    return model, f"{nuts}/test"


def use(python: Path, wheel: Path, folder: Path, given: tuple[str, str], wanted: Sequence[tuple[str, float]]) -> None:
    """Install and use the wheel.

    Raises:
        RuntimeError: something ends with another exit code, or another score comes out.
    """
    model, images = given
    run([str(python), "-m", "venv", str(folder)])
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    run([str(programs / "python"), "-m", "pip", "install", "--quiet", str(wheel)])
    blemish = str(programs / "blemish")
    run([blemish, "doctor", str(folder)])
    run([blemish, "verify", model])
    found = rows_of(run([blemish, "inspect", model, images, "--format", "json"], {0, 1}))
    if [name for name, _ in found] != [name for name, _ in wanted]:
        raise RuntimeError(f"other images are judged: {found}")
    if any(abs(mine - other) > 1e-5 for (_, mine), (_, other) in zip(found, wanted, strict=True)):
        raise RuntimeError(f"other scores: {found}, here {wanted}")


def rows_of(printed: str) -> list[tuple[str, float]]:
    """Path and score of each image."""
    return [(row["path"], row["score"]) for row in json.loads(printed)]


def run(command: Sequence[str], codes: frozenset[int] | set[int] = frozenset({0})) -> str:
    """What a program prints.

    Raises:
        RuntimeError: it ends with another exit code than these.
    """
    clean = {name: value for name, value in os.environ.items() if not re.match("PYTHON|PIP_REQUIRE", name)}
    ran = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=clean)
    if ran.returncode not in codes:
        last = (ran.stderr or ran.stdout).strip().splitlines()[-3:]
        raise RuntimeError(f"{' '.join(command[:3])} ended with {ran.returncode}: {' '.join(last)}")
    return ran.stdout


if __name__ == "__main__":
    sys.exit(main())
