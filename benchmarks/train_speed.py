"""Training steps of the paper's auto-encoder: plain PyTorch beside blemish's loop, interleaved in one run.

    python benchmarks/train_speed.py [--epochs 12] [--size 256] [--batch 16]

Plain is what a first script does: torch's layers, float32, default memory layout, default Adam. Ours is the loop of
`blemish train`, with its default settings. Both start from the same weights and see the same batches of drawn
hazelnuts, one step of each in turn. Prints ms an image (medians over steps) and the mean loss of the last epoch;
writes build/benchmarks/train_speed.json.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from machine import describe, write_json
from torch import Tensor, nn

from blemish.data.progress import Progress
from blemish.data.synthetic.dataset import draw_hazelnut
from blemish.models import make_detector
from blemish.models.blocks import TransposedConv2d
from blemish.models.conv_autoencoder import ConvAutoencoder
from blemish.models.detector import ImageShape
from blemish.training.checkpoint import Checkpoint
from blemish.training.loop import GradientLoop
from blemish.training.settings import make_settings


class Batches:
    """Four batches of drawn hazelnuts, the same in every epoch."""

    def __init__(self, size: int, batch: int) -> None:
        images = [draw_hazelnut("train/good", place, size, seed=0)[0] for place in range(2 * batch)]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous().float() / 255
        self.batches = [pixels[:batch], pixels[batch:], pixels[:batch].flip(-1), pixels[batch:].flip(-1)]
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)


class Plain:
    """What a first script does, one step whenever our loop has done one."""

    def __init__(self, size: int, batches: Batches) -> None:
        self.detector, self.batches = fresh(size), batches.batches
        for module in self.detector.modules():
            if isinstance(module, TransposedConv2d):  # ours has the same weights and answers, but other gradients' code
                module.__class__ = nn.ConvTranspose2d
        self.optimizer = torch.optim.Adam(self.detector.parameters(), lr=1e-3)
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.ours_seconds: list[float] = []
        self.resumed_at = time.perf_counter()

    def __call__(self, progress: Progress) -> None:
        started = time.perf_counter()
        self.ours_seconds.append(started - self.resumed_at)
        self.optimizer.zero_grad()
        loss = self.detector.loss(self.batches[(progress.done - 1) % len(self.batches)])
        loss.backward()
        self.optimizer.step()
        self.losses.append(loss.item())
        self.resumed_at = time.perf_counter()
        self.seconds.append(self.resumed_at - started)


def fresh(size: int) -> ConvAutoencoder:
    """The paper's network with the same weights every time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = make_detector("conv_autoencoder", {}, ImageShape(3, size, size)).train()
    assert isinstance(detector, ConvAutoencoder)
    return detector


def main() -> None:
    parser = argparse.ArgumentParser(description="Plain PyTorch beside blemish's training loop.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    batches, detector = Batches(options.size, options.batch), fresh(options.size)
    plain = Plain(options.size, batches)
    settings = make_settings("paper", assignments=[f"train.epochs={options.epochs}", "train.max_steps=null"])
    checkpoint = Checkpoint(Path("build/unused.state"), {}, save_every_s=1e9, resume=False)
    loop = GradientLoop(detector, settings, "cpu", checkpoint, plain)
    loop(batches, detector.loss)
    ms = {
        name: 1000 * statistics.median(seconds[2:]) / options.batch
        for name, seconds in (("plain", plain.seconds), ("ours", plain.ours_seconds))
    }
    losses = {"plain": statistics.mean(plain.losses[-len(batches) :]), "ours": loop.history["loss"][-1]}
    machine = f"{describe()}; {torch.get_num_threads()} threads"
    print(f"{'':8}{'ms an image':>12}{'loss':>10}")
    for name in ms:
        print(f"{name:8}{ms[name]:12.2f}{losses[name]:10.3f}")
    print(f"{ms['plain'] / ms['ours']:.2f} times faster; {machine}")
    facts = {"machine": machine, "epochs": options.epochs, "size_px": options.size, "batch_size": options.batch}
    write_json("train_speed", facts | {"ms_an_image": ms, "loss": losses, "speed_up": ms["plain"] / ms["ours"]})


if __name__ == "__main__":
    main()
