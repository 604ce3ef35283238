"""What inspection costs: a cold start, and each image after it; through torch and through an exported ONNX file.

    python benchmarks/inspect_speed.py [--repeat 5] [--images 40] [--threads 1] [--engines]

Draws hazelnuts of 256 x 256, trains the paper's auto-encoder for a few steps (how well does not matter here), exports
it, prints a table and writes build/benchmarks/inspect_speed.json. Everything is measured in this one run; rows of one
table take turns, so that a busy machine is as busy for each. Medians; processor time is the steadier one.

The default detector, the feature auto-encoder, has tables of its own: image by image, with as many threads as cores,
`Predictor` against the bare call and the whole network against its bare encoder; and a folder, how much of its decoding
is hidden behind the network, with and without pictures.

Last, exported files in onnxruntime and in OpenVINO, where that is installed, both in float32; `--engines`: this alone,
written to build/benchmarks/inspect_engines.json.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from machine import describe, write_json
from PIL import Image

from blemish import Predictor, make_settings, train_model
from blemish.data.images import load_image
from blemish.data.images import prepare as prepare_image
from blemish.data.synthetic.dataset import write_hazelnuts
from blemish.inference.devices import has_openvino
from blemish.inference.parity import check_fixtures
from blemish.inference.runtime import Runtime, open_detector, open_onnx
from blemish.inspection.inspect import Request, inspect_images
from blemish.inspection.pipeline import worker_count
from blemish.training.export import export_model

ENGINE_DETECTORS = ("paper", "patchcore", "feature_autoencoder", "feature_ensemble")
COLD_LIMIT_S, IMPORT_LIMIT_S = 1.5, 0.3
WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from blemish.__main__ import main; main()"
"""The command as in a base install: where torch is missing, nothing can import it by accident."""


class Cost(NamedTuple):
    """Seconds."""

    cpu_s: float
    wall_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each command")
    parser.add_argument("--images", type=int, default=40, help="images in the folder")
    parser.add_argument("--threads", type=int, default=1, help="of torch and onnxruntime, within this process")
    parser.add_argument("--engines", action="store_true", help="onnxruntime beside OpenVINO and nothing else")
    arguments = parser.parse_args()
    machine = describe()
    print(machine)
    if arguments.engines:
        with tempfile.TemporaryDirectory() as folder:
            found = engines(Path(folder), arguments.images, arguments.threads, arguments.repeat)
        write_json("inspect_engines", {"machine": machine, **vars(arguments), "detectors": found})
        return
    with tempfile.TemporaryDirectory() as folder:
        files = prepare(Path(folder), arguments.images, "paper")
        cold = medians(commands(files), arguments.repeat)
        warm = medians(calls(files, arguments.threads), arguments.repeat)
        features = feature_autoencoder(Path(folder), files.photos, arguments.repeat)
        features["engines"] = engines(Path(folder), arguments.images, arguments.threads, arguments.repeat)
    images = arguments.images
    each = {name: Cost(*(value / images for value in cost)) for name, cost in warm.items()}
    for kind in ("torch", "ONNX"):
        more, one = cold[f"{kind}: inspect {images} photos"], cold[f"{kind}: inspect 1 photo"]
        each[f"{kind}: blemish inspect on files"] = Cost(
            *((m - o) / (images - 1) for m, o in zip(more, one, strict=True))
        )
    show("A command, from a cold start", cold, "s", 1.0, "ONNX: inspect 1 photo")
    show(
        f"One image, {arguments.threads} thread(s); the command: as many as cores",
        each,
        "ms",
        1e3,
        "ONNX: bare onnxruntime",
    )
    told = {"machine": machine, "images": images, "threads": arguments.threads}
    write_json("inspect_speed", {**told, "cold": as_dict(cold), "each_image": as_dict(each), **features})
    for name, limit_s in (("import blemish", IMPORT_LIMIT_S), ("ONNX: inspect 1 photo", COLD_LIMIT_S)):
        verdict = "within" if cold[name].cpu_s < limit_s else "BEYOND"
        print(f"{name}: {cold[name].cpu_s:.3f} s of processor time, {verdict} the {limit_s:g} s it may take")


class Files(NamedTuple):
    trained: Path
    exported: Path
    photos: list[Path]
    folder: Path


def prepare(folder: Path, images: int, detector: str) -> Files:
    """A data set, a trained model and its export."""
    if not (folder / "data").exists():
        write_hazelnuts(folder / "data", good=images, defects=1, size_px=256, seed=0)
    trained, exported = folder / f"{detector}.safetensors", folder / f"{detector}.onnx"
    quick = ["train.max_steps=4", "augment.images_of_one=1", "data.size_px=[256, 256]"]
    train_model(folder / "data", trained, make_settings(detector, assignments=quick))
    export_model(trained, exported)
    photos = sorted((folder / "data/train/good").glob("*.png"))
    return Files(trained, exported, photos, folder / "data/train/good")


def commands(files: Files) -> Mapping[str, Callable[[], object]]:
    """What a user types; the interpreter's own start is a row of its own."""

    def python(code: str, *arguments: object) -> Callable[[], object]:
        def run() -> None:
            command = [sys.executable, "-c", code, *map(str, arguments)]
            ran = subprocess.run(command, capture_output=True, text=True)
            if ran.returncode not in (0, 1):
                raise SystemExit(ran.stderr)

        return run

    with_torch = "from blemish.__main__ import main; main()"
    count = len(files.photos)
    return {
        "python, nothing else": python("pass"),
        "import blemish": python("import blemish"),
        "ONNX: inspect 1 photo": python(WITHOUT_TORCH, "inspect", files.exported, files.photos[0]),
        "torch: inspect 1 photo": python(with_torch, "inspect", files.trained, files.photos[0]),
        f"ONNX: inspect {count} photos": python(WITHOUT_TORCH, "inspect", files.exported, files.folder),
        f"torch: inspect {count} photos": python(with_torch, "inspect", files.trained, files.folder),
    }


def calls(files: Files, threads: int) -> Mapping[str, Callable[[], object]]:
    """What a program calls, for all photos one by one, in this process."""
    onnx, trained = (Predictor.load(path, "cpu", threads) for path in (files.exported, files.trained))
    arrays = [np.asarray(Image.open(path)) for path in files.photos]
    inputs = [load_image(path, onnx.policy)[None] for path in files.photos]
    session = open_onnx(files.exported, threads=threads).runtime
    return {
        "ONNX: bare onnxruntime": lambda: [session.maps(pixels) for pixels in inputs],
        "ONNX: Predictor on arrays": lambda: [onnx.predict(array) for array in arrays],
        "ONNX: Predictor on files": lambda: [onnx.predict(path) for path in files.photos],
        "torch: Predictor on arrays": lambda: [trained.predict(array) for array in arrays],
        "torch: Predictor on files": lambda: [trained.predict(path) for path in files.photos],
    }


def feature_autoencoder(folder: Path, photos: list[Path], repeat: int) -> dict[str, dict[str, Any]]:
    """The default detector's own tables, with as many threads as cores."""
    files, threads = prepare(folder, len(photos), "feature_autoencoder"), len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    rows = one_call_each(files, threads)
    each = {name: median(costs) for name, costs in in_turns(rows, len(photos), repeat).items()}
    one, more = (median(runs) for runs in in_turns(command_runs(files), 1, repeat).values())
    count = len(photos) - 1
    each["ONNX: blemish inspect on files"] = Cost(*((m - o) / count for m, o in zip(more, one, strict=True)))
    show(f"feature_autoencoder at 256 x 256, one image, {threads} thread(s)", each, "ms", 1e3, "ONNX: bare onnxruntime")
    ratios = {
        "Predictor on arrays / bare onnxruntime": (each, "ONNX: Predictor on arrays", "ONNX: bare onnxruntime", 1.25),
        "torch network / its bare encoder": (each, "torch: whole network", "torch: bare encoder", 2.5),
    }
    told: dict[str, Any] = {"each_image": as_dict(each), "threads": threads, "ratios": {}, "folders": {}}
    for name, (costs, above, below, limit) in ratios.items():
        ratio = costs[above].wall_s / costs[below].wall_s
        told["ratios"][name] = {"ratio": ratio, "limit": limit}
        print(f"{name}: {ratio:.2f} of wall time, {'within' if ratio <= limit else 'BEYOND'} the {limit:g} it may be")
    for side in (256, 1024):
        told["folders"][str(side)] = hidden_decoding(files, folder / str(side), side, threads, repeat)
    return {"feature_autoencoder": told}


def one_call_each(files: Files, threads: int) -> Mapping[str, Callable[[int], object]]:
    """What is called for one image, by its place."""
    onnx, bare = Predictor.load(files.exported, "cpu", threads), open_onnx(files.exported, threads=threads).runtime
    arrays = [np.asarray(Image.open(path)) for path in files.photos]
    inputs = [load_image(path, onnx.policy)[None] for path in files.photos]
    tensors = [torch.from_numpy(pixels) for pixels in inputs]
    detector: Any = open_detector(files.trained)[1].eval()

    def without_gradients(function: Callable[[torch.Tensor], object]) -> Callable[[int], object]:
        return torch.no_grad()(lambda place: function(tensors[place]))

    return {
        "ONNX: bare onnxruntime": lambda place: bare.maps(inputs[place]),
        "ONNX: Predictor on arrays": lambda place: onnx.predict(arrays[place]),
        "ONNX: Predictor on files": lambda place: onnx.predict(files.photos[place]),
        "torch: bare encoder": without_gradients(detector.features),
        "torch: whole network": without_gradients(detector),
    }


def engines(folder: Path, images: int, threads: int, repeat: int) -> dict[str, dict[str, Any]]:
    """The bare call of each detector's exported file, in onnxruntime and in OpenVINO, photo by photo in turns."""
    told: dict[str, dict[str, Any]] = {}
    if not has_openvino():
        print("\nOpenVINO is not installed: pip install 'blemish[openvino]'")
        return told
    for detector in ENGINE_DETECTORS:
        files = prepare(folder, images, detector)
        opened = {device: open_onnx(files.exported, device, threads) for device in ("cpu", "openvino")}
        policy = opened["cpu"].header.model.policy
        inputs = [load_image(path, policy)[None] for path in files.photos]

        def call(place: int, engine: Runtime, inputs: list[Any] = inputs) -> object:
            return engine.maps(inputs[place])

        names = {"cpu": "onnxruntime", "openvino": "OpenVINO"}
        rows = {names[device]: partial(call, engine=one.runtime) for device, one in opened.items()}
        costs = {name: median(found) for name, found in in_turns(rows, len(inputs), repeat).items()}
        show(f"{detector}, exported, one image, {threads} thread(s)", costs, "ms", 1e3, "onnxruntime")
        checks = check_fixtures(opened["openvino"])
        within = "within" if checks.is_within else "BEYOND"
        print(f"maps in OpenVINO differ by {checks.worst.difference:.1g}, {within} the {checks.tolerance:.0e} allowed")
        told[detector] = {**as_dict(costs), "difference": checks.worst.difference, "tolerance": checks.tolerance}
    return told


def command_runs(files: Files) -> Mapping[str, Callable[[int], object]]:
    """The command on one photo, and on all of them."""
    runs = {name: run for name, run in commands(files).items() if name.startswith("ONNX: inspect")}
    return {name: lambda _, run=run: run() for name, run in runs.items()}  # type: ignore[misc]


def hidden_decoding(files: Files, folder: Path, side: int, threads: int, repeat: int) -> dict[str, Any]:
    """A folder of photos of one size: read and decoded, judged, one after the other and side by side, per image."""
    folder.mkdir()
    for path in files.photos:
        Image.open(path).resize((side, side)).save(folder / path.name)
    predictor = Predictor.load(files.exported, "cpu", threads)
    photos = sorted(folder.glob("*.png"))
    ready = [prepare_image(path, predictor.policy) for path in photos]

    def inspect(out: Path | None) -> None:
        request = Request(files.exported, out, workers=worker_count(threads))
        list(inspect_images(predictor, [folder], request).rows())

    rows: Mapping[str, Callable[[int], object]] = {
        "decoding alone": lambda _: [prepare_image(path, predictor.policy) for path in photos],
        "network alone": lambda _: [predictor.predict_prepared(one) for one in ready],
        "one after the other": lambda _: [predictor.predict(path) for path in photos],
        "side by side, as inspect": lambda _: inspect(None),
        "inspect with pictures": lambda _: inspect(folder.with_name(f"{side}-out")),
    }
    costs = {
        name: Cost(*(value / len(photos) for value in median(found)))
        for name, found in in_turns(rows, 1, repeat).items()
    }
    show(f"A folder of photos of {side} x {side}, {threads} thread(s), each image", costs, "ms", 1e3, "network alone")
    apart = costs["decoding alone"].wall_s + costs["network alone"].wall_s
    hidden = (apart - costs["side by side, as inspect"].wall_s) / costs["decoding alone"].wall_s
    alone = "; on one core nothing can be hidden" if threads == 1 else ""
    print(f"hidden behind the network: {hidden:.0%} of the decoding's wall time{alone}")
    return {"each_image": as_dict(costs), "hidden_share_of_decoding": hidden}


def in_turns(rows: Mapping[str, Callable[[int], object]], count: int, repeat: int) -> dict[str, list[Cost]]:
    """The cost of each row at each place, `repeat` times after one that does not count; the rows take turns."""
    found: dict[str, list[Cost]] = {name: [] for name in rows}
    for turn in range(repeat + 1):
        for place in range(count):
            for name, call in rows.items():
                cpu, wall = cpu_s(), time.perf_counter()
                call(place)
                if turn:
                    found[name].append(Cost(cpu_s() - cpu, time.perf_counter() - wall))
    return found


def median(costs: list[Cost]) -> Cost:
    return Cost(*(statistics.median(part) for part in zip(*costs, strict=True)))


def medians(rows: Mapping[str, Callable[[], object]], repeat: int) -> dict[str, Cost]:
    """The median cost of each row."""
    calls = {name: lambda _, call=call: call() for name, call in rows.items()}
    return {name: median(costs) for name, costs in in_turns(calls, 1, repeat).items()}  # type: ignore[arg-type]


def cpu_s() -> float:
    """Processor time of this process and of those it has waited for."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in spent)


def show(title: str, rows: Mapping[str, Cost], unit: str, scale: float, reference: str) -> None:
    print(f"\n{title}\n{'':<34}{f'CPU {unit}':>10}{f'wall {unit}':>10}{'CPU ratio':>11}")
    for name, cost in rows.items():
        ratio = cost.cpu_s / rows[reference].cpu_s
        print(f"{name:<34}{cost.cpu_s * scale:>10.3f}{cost.wall_s * scale:>10.3f}{ratio:>11.2f}")


def as_dict(rows: Mapping[str, Cost]) -> dict[str, dict[str, float]]:
    return {name: cost._asdict() for name, cost in rows.items()}


if __name__ == "__main__":
    main()
