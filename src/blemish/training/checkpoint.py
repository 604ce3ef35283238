"""The state of a training run that was cut off, and how it goes on."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim import Optimizer

from blemish.errors import SettingsError
from blemish.inference.tensor_file import read_tensors, write_tensors
from blemish.models.detector import Detector


@final
class Checkpoint:
    """The state of a run that was cut off, in a file beside the model to be.

    `fingerprint` says what the run is made of; a state with another one is refused, not mixed in. `seconds_before`
    is how long the run had taken when the state was written, `stage` in which call of the loop.

    Raises:
        SettingsError: with `resume`, a state made with other settings or images.
        ArtifactError: with `resume`, a state file that is damaged.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any], save_every_s: float, resume: bool) -> None:
        self.path, self.fingerprint, self.save_every_s = path, dict(fingerprint), save_every_s
        self.content = _nothing_yet()
        self._tensors: dict[str, NDArray[Any]] = {}
        self.finished: list[dict[str, Any]] = []
        self._finished_tensors: dict[str, NDArray[Any]] = {}
        if resume and path.is_file():
            content, self._tensors = read_tensors(path, "state")
            changed = sorted(key for key in fingerprint if content["fingerprint"].get(key) != fingerprint[key])
            if changed:
                before, now = content["fingerprint"].get(changed[0]), fingerprint[changed[0]]
                raise SettingsError(
                    f"{path}: the run to resume had {changed[0]} = {before}, this one has {now}; "
                    "use the same settings and images, or run without --resume to start again"
                )
            self.content = _nothing_yet() | content
            self.finished = content.get("finished", [])
            self._finished_tensors = {name: self._tensors.pop(name) for name in list(self._tensors) if "/" in name}
        self.seconds_before = float(self.content["seconds"])
        self._started = self._saved = time.monotonic()

    @property
    def stage(self) -> int:
        """Which call of the loop the state belongs to."""
        return int(self.content["stage"])

    def restore(self, detector: Detector, optimizers: Sequence[Optimizer]) -> int:
        """Put the saved state back; the number of steps it stands for."""
        if not self._tensors:
            return 0
        named = {name: torch.from_numpy(value) for name, value in self._tensors.items()}
        weights = {name[6:]: value for name, value in named.items() if name.startswith("model.")}
        detector.restore(weights)
        for place, optimizer in enumerate(optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, value in named.items():
                head, _, key = name.rpartition(".")
                if head.startswith(f"optimizer{place}."):
                    state.setdefault(int(head.partition(".")[2]), {})[key] = value
            optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
            for weight, moments in optimizer.state.items():
                for key, value in moments.items():
                    if value.shape == weight.shape:  # the fused step walks both in the order of their memory
                        moments[key] = torch.empty_like(weight).copy_(value)
        self._tensors = {}
        return int(self.content["step"])

    def is_due(self) -> bool:
        """Whether the last state is old enough to write another."""
        return time.monotonic() - self._saved >= self.save_every_s

    def save(self, detector: Detector, optimizers: Sequence[Optimizer], content: Mapping[str, Any]) -> None:
        """Write the state atomically."""
        tensors = {f"model.{name}": _array(value) for name, value in detector.state_dict().items()}
        for place, optimizer in enumerate(optimizers):
            for parameter, state in optimizer.state_dict()["state"].items():
                for key, value in state.items():
                    tensors[f"optimizer{place}.{parameter}.{key}"] = _array(value)
        self._write(content, tensors)

    def finish_part(self, found: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        """Keep what one of several fits gave, for as long as the others take; the next one starts from step 0."""
        part = len(self.finished)
        self.finished.append(dict(found))
        self._finished_tensors |= {f"{part}/{name}": tensor for name, tensor in tensors.items()}
        self.restart()
        self._write(self.content, {})

    def restart(self) -> None:
        """Forget the state of the running fit, which begins at step 0."""
        self.content, self._tensors = _nothing_yet(), {}

    def finished_part(self, part: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
        """What `finish_part` kept; None where that fit is still to come."""
        if part >= len(self.finished):
            return None
        head = f"{part}/"
        kept = self._finished_tensors.items()
        return self.finished[part], {name[len(head) :]: tensor for name, tensor in kept if name.startswith(head)}

    def _write(self, content: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
        seconds = self.seconds_before + time.monotonic() - self._started
        self.path.parent.mkdir(parents=True, exist_ok=True)
        everything = {**content, "seconds": seconds, "fingerprint": self.fingerprint, "finished": self.finished}
        write_tensors(self.path, "state", everything, {**tensors, **self._finished_tensors})
        self._saved = time.monotonic()

    def remove(self) -> None:
        """Forget the state, when the run is done."""
        self.path.unlink(missing_ok=True)


def _nothing_yet() -> dict[str, Any]:
    return {"stage": 0, "step": 0, "history": {}, "sums": [], "seconds": 0.0, "parts": 1, "notes": []}


def _array(value: Any) -> NDArray[Any]:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
