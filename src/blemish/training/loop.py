"""The one gradient loop of the project, and the state it resumes from."""

import math
from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from blemish.data.progress import Progress, Report
from blemish.errors import TrainingError
from blemish.models.detector import Batches, Detector, Loss
from blemish.settings import RunSettings, TrainSettings
from blemish.training.checkpoint import Checkpoint
from blemish.training.memory import is_out_of_memory, smaller_parts

CHECK_EVERY = 20
"""Steps between looks at whether the loss is still a number; each look waits for the device."""


@final
class GradientLoop:
    """See `Optimise` in models/detector.py; AdamW, one optimiser a loss.

    All randomness of a step follows from the seed and the step's number, so that a resumed run needs no generator
    states. `history` keeps the mean of each loss over each epoch, by the loss function's name.
    """

    def __init__(
        self, detector: Detector, settings: RunSettings, device: str, checkpoint: Checkpoint, report: Report
    ) -> None:
        self.settings, self.checkpoint, self.report = settings.train, checkpoint, report
        self.seed = settings.seed
        self.device = torch.device(device)
        """Where the detector and the batches live."""
        self.uses_bfloat16 = _use_bfloat16(settings.train, self.device.type)
        self.history: dict[str, list[float]] = checkpoint.content["history"]
        self.notes: list[str] = checkpoint.content["notes"]
        self.parts: int = checkpoint.content["parts"]
        """A batch is computed in so many parts, as there was no memory for fewer; the step is one all the same."""
        self.is_running = False
        self._detector = detector
        self._stage = -1

    def __call__(self, batches: Batches, *losses: Loss, modules: Sequence[nn.Module] = ()) -> None:
        """Bring the losses down over all epochs.

        Raises:
            TrainingError: a loss that is not a number; no memory for two images.
        """
        self._stage += 1
        if self.checkpoint.stage > self._stage:
            return
        self.is_running = True
        total = self.count_steps(batches)
        stage = _Stage(self, losses, list(modules) or [self._detector], total)
        for step, batch in self._steps(batches, stage.start, total):
            stage.step(step, batch)
            if (step + 1) % len(batches) == 0 or step + 1 == total:
                stage.close_epoch(step)
            if self.checkpoint.is_due():
                stage.save(step + 1)
            self._tell(stage, step + 1, total)
        self.is_running = False

    def count_steps(self, batches: Batches) -> int:
        """How many steps a call with these batches takes."""
        total = self.settings.epochs * len(batches)
        return min(total, self.settings.max_steps or total)

    def _steps(self, batches: Batches, start: int, total: int) -> Iterator[tuple[int, Tensor]]:
        for epoch in range(start // len(batches), -(-total // len(batches))):
            batches.epoch = epoch
            for place, batch in enumerate(batches):
                step = epoch * len(batches) + place
                if step >= total:
                    return
                if step >= start:
                    yield step, batch

    def _tell(self, stage: "_Stage", done: int, total: int) -> None:
        try:
            self.report(Progress("training", done, total, stage.note))
        except KeyboardInterrupt:  # between two steps the state is whole
            stage.save(done)
            raise


@final
class _Stage:
    """One call of the loop: its optimisers and the losses of the running epoch."""

    def __init__(self, loop: GradientLoop, losses: Sequence[Loss], modules: Sequence[nn.Module], total: int) -> None:
        assert len(losses) == len(modules), "name one module for each loss"
        settings = loop.settings
        self.loop, self.losses, self.total, self.note = loop, losses, total, ""
        if settings.channels_last:
            loop._detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizers: list[Optimizer] = [
            AdamW(
                [weight for weight in module.parameters() if weight.requires_grad],
                lr=settings.learning_rate,
                betas=settings.betas,
                weight_decay=settings.weight_decay,
                fused=True,
            )
            for module in modules
        ]
        resumes = loop.checkpoint.stage == loop._stage
        self.start = loop.checkpoint.restore(loop._detector, self.optimizers) if resumes else 0
        sums = loop.checkpoint.content["sums"] if self.start else []
        self.sums = [torch.tensor(value, dtype=torch.float64) for value in sums] or [
            torch.zeros((), dtype=torch.float64) for _ in losses
        ]
        self.count = int(loop.checkpoint.content.get("count", 0)) if self.start else 0
        self.calls = [torch.compile(loss) if settings.compile else loss for loss in losses]

    def step(self, step: int, batch: Tensor) -> None:
        """One step of every loss, in turn."""
        loop = self.loop
        torch.manual_seed(loop.seed * 7_919 + step)
        batch = batch.to(loop.device)
        if loop.settings.channels_last and batch.ndim == 4:
            batch = batch.contiguous(memory_format=torch.channels_last)
        rate = learning_rate(loop.settings, step, self.total)
        for place, (loss, optimizer) in enumerate(zip(self.calls, self.optimizers, strict=True)):
            optimizer.param_groups[0]["lr"] = rate
            value = self._gradients(step, loss, optimizer, batch)
            optimizer.step()
            self.sums[place] += value
        self.count += 1
        if step % CHECK_EVERY == 0:
            self._check(step)

    def _gradients(self, step: int, loss: Loss, optimizer: Optimizer, batch: Tensor) -> Tensor:
        """Add the gradients of the mean loss, which is returned; in smaller parts where memory runs out."""
        loop = self.loop
        while True:
            optimizer.zero_grad(set_to_none=True)
            try:
                parts = batch.tensor_split(max(1, min(loop.parts, len(batch) // 2)))
                return sum((self._backward(loss, part, len(batch)) for part in parts), self.sums[0].new_zeros(()))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # Here and not above: while the error is handled it holds the tensors that there was no memory for.
            loop.parts, note = smaller_parts(loop.parts, len(batch), step, loop.device)
            loop.notes.append(note)
            torch.manual_seed(loop.seed * 7_919 + step)

    def _backward(self, loss: Loss, part: Tensor, images: int) -> Tensor:
        """A part's share of a batch's loss; its gradients are added to those that are there."""
        with torch.autocast(self.loop.device.type, torch.bfloat16, enabled=self.loop.uses_bfloat16):
            value = loss(part) * (len(part) / images)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach().cpu().double()

    def close_epoch(self, step: int) -> None:
        """Keep the epoch's mean losses."""
        self._check(step)
        for loss, total in zip(self.losses, self.sums, strict=True):
            name = getattr(loss, "__name__", "loss")
            self.loop.history.setdefault(name, []).append(float(total) / self.count)
            total.zero_()
        self.note = "  ".join(f"{name} {values[-1]:.4g}" for name, values in self.loop.history.items())
        self.count = 0

    def save(self, steps_done: int) -> None:
        """Write the state to resume from, after a look that there is something worth resuming."""
        self._check(steps_done - 1)
        content = {
            "stage": self.loop._stage,
            "step": steps_done,
            "history": self.loop.history,
            "sums": [float(total) for total in self.sums],
            "count": self.count,
            "parts": self.loop.parts,
            "notes": self.loop.notes,
        }
        self.loop.checkpoint.save(self.loop._detector, self.optimizers, content)

    def _check(self, step: int) -> None:
        if not all(torch.isfinite(total) for total in self.sums):
            raise TrainingError(
                f"training: the loss is not a number at step {step + 1}; lower train.learning_rate "
                f"({self.loop.settings.learning_rate:g}), or set train.precision=float32"
            )


def _use_bfloat16(settings: TrainSettings, device: str) -> bool:
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def learning_rate(settings: TrainSettings, step: int, total: int) -> float:
    """The learning rate of a step. `one_cycle` rises over the first 30 % and falls to almost nothing (Smith 2018).

    >>> settings = TrainSettings(schedule="one_cycle", learning_rate=1.0)
    >>> [round(learning_rate(settings, step, 100), 3) for step in (0, 30, 99)]
    [0.04, 1.0, 0.001]
    """
    if settings.schedule == "constant":
        return settings.learning_rate
    top = 0.3 * total
    if step < top:
        share = 0.04 + 0.96 * (1.0 - math.cos(math.pi * step / top)) / 2.0
    else:
        share = (1.0 + math.cos(math.pi * (step - top) / (total - top))) / 2.0
    return settings.learning_rate * share
