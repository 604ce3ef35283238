"""A detector is fitted to some of the good images and scores those that were held out."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Subset

from blemish.data.progress import Progress, Report
from blemish.inference.predictor import scored_map
from blemish.inference.score import max_score
from blemish.inference.torch_runtime import TorchRuntime, torch_device
from blemish.models import make_detector
from blemish.models.detector import Detector, ImageShape
from blemish.settings import RunSettings
from blemish.training.batches import GoodImages, ImageBatches, Tiles
from blemish.training.checkpoint import Checkpoint
from blemish.training.job import Job, Split
from blemish.training.loop import GradientLoop
from blemish.training.memory import SMALLEST_PART, PassTooLargeError, explained, free_memory, too_little_memory


@final
class Fit(NamedTuple):
    """A fitted detector's tensors, the scores of the images it has not seen, and how it came about."""

    state: dict[str, NDArray[Any]]
    scores: list[float]
    history: dict[str, list[float]]
    notes: list[str]
    parameters: int
    seconds: float


def fit_splits(job: Job, checkpoint: Checkpoint, device: str, report: Report) -> list[Fit]:
    """The fit of each split: one, or one for each fold. Folds that `checkpoint` has are not fitted again.

    Raises:
        SettingsError: sides the network cannot take.
        TrainingError: the loss is not a number.
    """
    return [_fit_split(job, place, checkpoint, device, report) for place in range(len(job.splits))]


def _fit_split(job: Job, place: int, checkpoint: Checkpoint, device: str, report: Report) -> Fit:
    if found := checkpoint.finished_part(place):
        return Fit(state=found[1], **found[0])
    settings, is_fold = job.settings, len(job.splits) > 1
    if is_fold:  # the guarantee of folds asks that what is random in a fit is drawn again for each
        seed = int(np.random.SeedSequence([settings.seed, place]).generate_state(1)[0]) // 2
        settings = settings.model_copy(update={"seed": seed})
    fit = fit_and_score(job.images, job.splits[place], settings, checkpoint, device, report)
    if is_fold:
        checkpoint.finish_part({name: value for name, value in fit._asdict().items() if name != "state"}, fit.state)
    return fit


def fit_and_score(
    images: GoodImages, split: Split, settings: RunSettings, checkpoint: Checkpoint, device: str, report: Report
) -> Fit:
    """Fit a detector on one part of the good images and score the other.

    Raises:
        SettingsError: sides the network cannot take.
        TrainingError: the loss is not a number; too little memory.
    """
    started = time.monotonic()
    detector, loop = _fit(images, split, settings, checkpoint, torch_device(device), report)
    seconds = time.monotonic() - started
    return Fit(
        state={name: _to_numpy(tensor) for name, tensor in detector.state_dict().items()},
        scores=list(_scores(detector, str(loop.device), images, split.held_out, settings, report)),
        history=loop.history,
        notes=[*getattr(detector, "notes", ()), *loop.notes],
        parameters=sum(weight.numel() for weight in detector.parameters()),
        seconds=seconds,
    )


def _fit(
    images: GoodImages, split: Split, settings: RunSettings, checkpoint: Checkpoint, device: str, report: Report
) -> tuple[Detector, GradientLoop]:
    """A fitted detector, and the loop it was fitted by.

    Where memory runs out in a pass over the images that is not the gradient loop's, the fit starts again, and such
    passes take half as many images at a time.
    """

    def fit_in(parts: int) -> tuple[Detector, GradientLoop]:
        with _repeatable(settings.seed):
            shape = ImageShape(images.policy.channels, *images.policy.network_px)
            detector = make_detector(settings.detector, settings.model, shape)
            loop = GradientLoop(detector, settings, device, checkpoint, report)
            if images.policy.roi is not None and images.policy.tile_px is None:
                detector.look_only_at(torch.from_numpy(images.policy.roi))
            with explained(loop.device, lambda: loop.is_running):
                detector.to(loop.device).train()
                detector.fit(_Watched(_batches(images, split.fit, settings), loop, report, parts), loop)
        return detector, loop

    parts, size, notes = 1, settings.train.batch_size, list[str]()
    while True:
        try:
            detector, loop = fit_in(parts)
        except PassTooLargeError:
            if size < 2 * SMALLEST_PART:
                raise too_little_memory(torch.device(device), size) from None
        else:
            loop.notes += notes
            return detector, loop
        free_memory(torch.device(device))
        checkpoint.restart()
        parts, size = 2 * parts, -(-size // 2)
        notes = [
            f"out of memory on {device}: where the images are gone through once, {size} at most were taken at a time"
        ]


def _batches(images: GoodImages, places: Sequence[int], settings: RunSettings) -> ImageBatches:
    if images.policy.tile_px is None:
        chosen = Subset(images, places)
    else:
        tiles = Tiles(images)
        chosen = Subset(tiles, tiles.of(places))
    return ImageBatches(chosen, len(chosen), settings.augment, settings.train.batch_size, settings.seed)


def _scores(
    detector: Detector, device: str, images: GoodImages, places: Sequence[int], settings: RunSettings, report: Report
) -> Iterator[float]:
    # As it will be when it is read from its file: another memory layout would round its scores differently.
    runtime = TorchRuntime(detector.to(memory_format=torch.contiguous_format), device)  # type: ignore[call-overload]
    for done, place in enumerate(places, start=1):
        yield max_score(scored_map(runtime, images.prepared(place), settings.score))
        report(Progress("calibrating", done, len(places)))


@final
class _Watched:
    """Batches on the training device; a pass that is not the gradient loop's own is reported as it goes.

    Such a pass has each batch in up to so many `parts`, of two images at least.
    """

    def __init__(self, batches: ImageBatches, loop: GradientLoop, report: Report, parts: int) -> None:
        self._batches, self._loop, self._report, self._parts = batches, loop, report, parts

    @property
    def epoch(self) -> int:
        return self._batches.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._batches.epoch = epoch

    def __len__(self) -> int:
        return len(self._batches) if self._loop.is_running else sum(map(self._parts_of, self._batches.sizes))

    def __iter__(self) -> Iterator[Tensor]:
        if self._loop.is_running:
            yield from (batch.to(self._loop.device) for batch in self._batches)
            return
        parts = (part for batch in self._batches for part in batch.tensor_split(self._parts_of(len(batch))))
        for done, part in enumerate(parts, start=1):
            yield part.to(self._loop.device)
            self._report(Progress("fitting", done, len(self)))

    def _parts_of(self, images: int) -> int:
        return max(1, min(self._parts, images // SMALLEST_PART))


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Everything torch draws inside follows from the seed; the caller's generators are left as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _to_numpy(tensor: Tensor) -> Any:
    array = tensor.detach().cpu().contiguous().numpy()
    return np.array(array)  # the detector may go, or be fitted on
