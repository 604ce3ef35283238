"""The smallest gradient loop that keeps the contract of `Optimise`: plain Adam, float32, no schedule."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from blemish.models.detector import Batches, Detector, Loss


class ListOfBatches:
    """The same batches in every epoch."""

    def __init__(self, batches: Sequence[Tensor]) -> None:
        self.epoch = 0
        self._batches = batches

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


class PlainLoop:
    """Steps through the batches, and keeps every loss and which parameters were left without a gradient."""

    def __init__(self, detector: Detector, steps: int, learning_rate: float = 5e-3) -> None:
        self.detector, self.steps, self.learning_rate = detector, steps, learning_rate
        self.curves: list[list[float]] = []
        self.without_gradient: list[str] = []

    def count_steps(self, batches: Batches) -> int:
        return self.steps

    def __call__(self, batches: Batches, *losses: Loss, modules: Sequence[nn.Module] = ()) -> None:
        self.curves = [[] for _ in losses]
        parts = modules or [self.detector]
        optimizers = [torch.optim.Adam(part.parameters(), self.learning_rate) for part in parts]
        for step in range(self.steps):
            batch = list(batches)[step % len(batches)]
            for loss, part, optimizer, curve in zip(losses, parts, optimizers, self.curves, strict=True):
                optimizer.zero_grad(set_to_none=True)
                value = loss(batch)
                value.backward()
                if step == 0:
                    self.without_gradient += _without_gradient(part)
                optimizer.step()
                curve.append(value.item())


def _without_gradient(module: nn.Module) -> list[str]:
    """Trainable weights that got no gradient, or only zeros (a bias before a BatchNorm rightly gets zeros)."""
    return [
        name
        for name, weight in module.named_parameters()
        if weight.requires_grad and (weight.grad is None or (weight.ndim > 1 and not weight.grad.any()))
    ]
