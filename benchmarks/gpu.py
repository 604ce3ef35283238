"""What one GPU gives: images a second beside the floor that its arithmetic and its memory set, and the same verdicts.

    python benchmarks/gpu.py [--seconds 300] [--images 64] [--side 256]

Draws hazelnuts, and fits three models to them: the default detector, and `feature_autoencoder` on an encoder as large
as ResNet-50 and on one as large as ViT-B, both with random weights, as speed does not depend on them. Each is fitted
twice, first to warm up and to count operations and bytes, then against the clock; then it judges images one at a
time, as `Predictor` does, and 16 at a time. The floor is the larger of two times: operations over the rate of a large
product of matrices, and bytes that go into and come out of each operation, as torch calls them one by one, over the
rate of a large copy; both rates are measured on the same GPU first. Then verdicts are compared with the processor's,
as by `blemish verify`.

Prints a table and writes build/benchmarks/gpu.json. Ends before `--seconds`: a model that no time is left for is left
out, which is said. Without a GPU it says so and does all this with tiny encoders on the processor, so that the script
is known to work, and ends with exit code 0.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from machine import describe, write_json
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from blemish import make_settings, train_model
from blemish.data.progress import Progress
from blemish.data.synthetic.dataset import write_hazelnuts
from blemish.inference.runtime import open_detector
from blemish.inference.torch_runtime import TorchRuntime
from blemish.inference.trained_parity import verify_trained
from blemish.models.encoders import ENCODERS

BATCH = 16
STEPS = 100


class Size(NamedTuple):
    """How large the two random encoders are."""

    blocks: tuple[int, int, int]
    width: int
    tokens_width: int
    layers: int


LARGE, TINY = Size((3, 4, 6), 64, 768, 12), Size((1, 1, 1), 4, 16, 4)
"""ResNet-50 up to stride 16 and ViT-B/16; and what a processor has time for."""


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 (He et al. 2016)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        after = 4 * width
        self.inner = nn.Sequential(
            *(nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, after, 1, bias=False), nn.BatchNorm2d(after)),
        )
        same = before == after and stride == 1
        self.past = nn.Identity() if same else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.inner(x) + self.past(x))


class RandomResNet(nn.Module):
    """Strides 4, 8 and 16."""

    strides = (4, 8, 16)

    def __init__(self, size: Size) -> None:
        super().__init__()
        first = nn.Conv2d(3, size.width, 7, 2, 3, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(size.width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        self.stages, before = nn.ModuleList(), size.width
        for place, count in enumerate(size.blocks):
            width = size.width * 2**place
            rows = [Bottleneck(before, width, 2 if place else 1)]
            rows += [Bottleneck(4 * width, width, 1) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(*rows))
            before = 4 * width
        self.channels = tuple(4 * size.width * 2**place for place in range(len(size.blocks)))

    def load_pretrained(self) -> None:
        """They stay random."""

    def forward(self, images: Tensor) -> Iterator[Tensor]:
        x = self.stem(images)
        for stage in self.stages:
            x = stage(x)
            yield x


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm (Dosovitskiy et al. 2021)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // 64)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.to_three, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        three = self.to_three(self.norms[0](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(three[0], three[1], three[2])  # (b, heads, places, width / heads)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + self.perceptron(self.norms[1](x))


class RandomViT(nn.Module):
    """The tokens of every block as a map of stride 16; positions do not matter for speed and are left out."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, size.tokens_width, 16, 16)
        self.blocks = nn.ModuleList(Block(size.tokens_width) for _ in range(size.layers))
        self.channels, self.strides = (size.tokens_width,) * size.layers, (16,) * size.layers

    def load_pretrained(self) -> None:
        """They stay random."""

    def forward(self, images: Tensor) -> Iterator[Tensor]:
        grid = self.patches(images)
        x = grid.flatten(2).transpose(1, 2)  # (b, places, width)
        for block in self.blocks:
            x = block(x)
            yield x.transpose(1, 2).reshape(grid.shape)


class Traffic(TorchDispatchMode):
    """Bytes that go into and come out of every operation; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if not function.is_view and "empty" not in name and name != "detach":
            tensors = [one for one in tree_leaves((args, kwargs, answer)) if isinstance(one, Tensor)]
            self.moved += sum(one.numel() * one.element_size() for one in tensors)
        return answer


class Work(NamedTuple):
    """Of one call."""

    operations: int
    moved: int


class Rates(NamedTuple):
    """What a device does in a second, measured."""

    float32: float
    bfloat16: float
    memory: float

    def floor_s(self, work: Work, operations_a_second: float) -> float:
        """The least time that the work could take."""
        return max(work.operations / operations_a_second, work.moved / self.memory)


@contextmanager
def counted() -> Iterator[list[Work]]:
    """The work inside, known when it is done."""
    found: list[Work] = []
    with FlopCounterMode(display=False) as flops, Traffic() as traffic:
        yield found
    found.append(Work(flops.get_total_flops(), traffic.moved))


def seconds_of(call: Callable[[], object], device: str, at_least_s: float = 1.0) -> float:
    """Of one call, after two to warm up, averaged over as many as `at_least_s` takes."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    call(), call(), wait()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < at_least_s:
        call()
        done += 1
        wait()
    return (time.perf_counter() - started) / done


def measure_rates(device: str) -> Rates:
    """A product of large matrices, and a copy of many bytes."""
    side, count = (8192, 1 << 28) if device == "cuda" else (512, 1 << 22)
    rates = []
    for kind in (torch.float32, torch.bfloat16):
        matrix = torch.randn(side, side, device=device, dtype=kind)
        rates.append(2 * side**3 / seconds_of(partial(torch.matmul, matrix, matrix), device, 0.5))
    source = torch.empty(count, device=device)
    target = torch.empty_like(source)
    return Rates(*rates, 2 * source.nbytes / seconds_of(partial(target.copy_, source), device, 0.5))


class Run(NamedTuple):
    """What all models of a run share."""

    folder: Path
    device: str
    side: int
    rates: Rates
    assignments: list[str]
    detectors: Mapping[str, tuple[str, list[str]]]


def fit(run: Run, name: str, model: Path) -> tuple[int, float]:
    """How many images a model was fitted to and calibrated on, and the seconds after they had been read."""
    detector, assignments = run.detectors[name]
    settings, begun = make_settings(detector, assignments=[*run.assignments, *assignments]), [time.perf_counter()]

    def report(progress: Progress) -> None:
        if progress.what == "reading images":
            begun[0] = time.perf_counter()

    card = train_model(run.folder / "data/train/good", model, settings, run.device, report=report).data_card
    return card.fit_images + card.calibration_images, time.perf_counter() - begun[0]


def measure(run: Run, name: str) -> dict[str, Any]:
    """Fit twice, judge one at a time and many at a time, and compare verdicts."""
    model = run.folder / f"{name.replace(' ', '_')}.safetensors"
    with counted() as work:
        fit(run, name, model)
    model.unlink()
    found = {"fitted": row(*fit(run, name, model), run.rates.floor_s(work[0], max(run.rates[:2])))}
    detector = open_detector(model)[1].to(run.device).eval()
    runtime = TorchRuntime(detector, run.device)
    for count in (1, BATCH):
        pixels = np.random.default_rng(0).random((count, 3, run.side, run.side), np.float32)
        with counted() as work, torch.no_grad():
            detector(torch.from_numpy(pixels).to(run.device))
        taken = seconds_of(partial(runtime.maps, pixels), run.device)
        found[f"judged, {count} at a time"] = row(count, taken, run.rates.floor_s(work[0], run.rates.float32))
    if run.device == "cpu":
        print(f"{name}: judged; verdicts are not compared, as there is no GPU", flush=True)
        return {"rows": found}
    checks = verify_trained(model, run.device)
    same = sum(check.is_same for check in checks.checks)
    apart = checks.worst.difference
    print(f"{name}: {same} of {len(checks.checks)} verdicts as the processor's; maps differ by {apart:.1g}", flush=True)
    return {"rows": found, "verdicts": len(checks.checks), "same": same, "difference": apart}


def row(images: int, seconds: float, floor_s: float) -> dict[str, float]:
    return {"images_a_second": images / seconds, "floor_images_a_second": images / floor_s, "share": floor_s / seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--side", type=int, default=256)
    arguments = parser.parse_args()
    started, device = time.monotonic(), "cuda" if torch.cuda.is_available() else "cpu"
    print(describe())
    card = torch.cuda.get_device_name() if device == "cuda" else ""
    if not card:
        print(
            "No GPU was found: not measured. What follows is a tiny run on the processor that shows the script works."
        )
        arguments.images, arguments.side = 12, 64
    size = LARGE if card else TINY
    ENCODERS["random_resnet"], ENCODERS["random_vit"] = partial(RandomResNet, size), partial(RandomViT, size)
    steps = [f"train.max_steps={STEPS if card else 2}"]
    detectors = {
        "default": ("feature_ensemble", list[str]()),
        "as large as ResNet-50": ("feature_autoencoder", ["model.encoder=random_resnet", *steps]),
        "as large as ViT-B": ("feature_autoencoder", ["model.encoder=random_vit", *steps]),
    }
    sides = [f"data.size_px=[{arguments.side}, {arguments.side}]", "score.max_false_alarm_rate=0.5", "data.channels=3"]
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_hazelnuts(Path(folder) / "data", good=arguments.images, defects=0, size_px=arguments.side, seed=0)
        run = Run(Path(folder), device, arguments.side, measure_rates(device), sides, detectors)
        print(
            f"{card or device}: {run.rates.float32 / 1e12:.3g} TFLOP/s in float32, {run.rates.bfloat16 / 1e12:.3g} in "
            f"bfloat16, {run.rates.memory / 1e9:.3g} GB/s"
        )
        longest = 0.0
        for name in detectors:
            begun = time.monotonic()
            if begun - started + 1.5 * longest > arguments.seconds:
                print(f"{name}: left out, as no time is left")
                continue
            found[name] = measure(run, name)
            longest = max(longest, time.monotonic() - begun)
    show(found)
    told = {
        "device": card or "no GPU",
        "rates": run.rates._asdict(),
        "images": arguments.images,
        "side": arguments.side,
    }
    write_json("gpu", {**told, "seconds": time.monotonic() - started, "models": found})


def show(found: Mapping[str, Any]) -> None:
    print("\n| | images/s | floor, images/s | share of the floor |\n|---|---|---|---|")
    for name, model in found.items():
        for what, values in model["rows"].items():
            speed, floor = values["images_a_second"], values["floor_images_a_second"]
            print(f"| {name}, {what} | {speed:.1f} | {floor:.1f} | {values['share']:.1%} |")


if __name__ == "__main__":
    main()
