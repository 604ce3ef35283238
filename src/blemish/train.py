"""From a folder of good images to a model file: split, fit, calibrate, write."""

import hashlib
import platform
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blemish.artifact import FIXTURE, ArtifactHeader, DataCard, read_artifact, write_artifact
from blemish.data.dataset import GoodImages, ImageBatches, Tiles, split_good
from blemish.data.folder import Folder, Sample, read_folder
from blemish.data.images import PixelPolicy, encode_roi, image_size, is_grey, load_roi, prepare
from blemish.errors import BlemishError, DataError
from blemish.files import check_writable
from blemish.models import DETECTORS, make_detector, named_settings
from blemish.models.detector import Detector, ImageShape, nearest_multiple
from blemish.optimise import Checkpoint, GradientLoop, Progress, Report, quiet
from blemish.parity import chosen_fixtures, kept_fixtures
from blemish.predictor import scored_map
from blemish.runtime import TorchRuntime, torch_device
from blemish.scoring.pooling import max_score
from blemish.scoring.tiles import tile_boxes
from blemish.settings import DataSettings, RunSettings, merge, parse_assignment, read_toml, validate
from blemish.trust.certificate import conformal_threshold, smallest_rate


def make_settings(
    detector: str | None = None, toml: Path | None = None, assignments: Sequence[str] = ()
) -> RunSettings:
    """All settings of a run. Later wins: general defaults, the detector's, the preset's, the file's, the assignments'.

    `detector` is a detector's or a preset's name; `assignments` are like `train.epochs=100`.

    Raises:
        SettingsError: an unknown detector, preset or setting, with the nearest known name; a value out of range.

    >>> make_settings("seed", assignments=["train.epochs=3"]).train.epochs
    3
    """
    asked = merge(read_toml(toml) if toml else {}, *(parse_assignment(text) for text in assignments))
    name = detector or asked.get("detector", RunSettings.model_fields["detector"].default)
    preset = named_settings(str(name))
    kind = DETECTORS[preset["detector"]]
    settings = validate(RunSettings, merge(kind.defaults, preset, asked, {"detector": preset["detector"]}))
    model = validate(kind.Settings, settings.model, prefix="model.")
    return settings.model_copy(update={"model": model.model_dump(mode="json")})


def train_model(
    data: Path, out: Path, settings: RunSettings, device: str = "auto", resume: bool = False, report: Report = quiet
) -> ArtifactHeader:
    """Train a detector on the good images of `data`, calibrate it on held-out ones, and write it to `out`.

    With `resume`, a run that was cut off goes on from the state beside `out` and ends with the weights it would have
    had; a finished model with the same settings and images is left as it is; where there is neither it starts anew.

    Raises:
        DataError: the images cannot be read, or are too few; `out` cannot be written.
        SettingsError: sides the network cannot take; a state to resume from that was made with other settings.
        CalibrationError: too few good images for `score.max_false_alarm_rate`.
        TrainingError: the loss is not a number.
    """
    check_writable(out)
    torch_device(device)
    job = _prepare(read_folder(data), settings, report)
    if resume and (finished := _finished(out, job)):
        return finished
    checkpoint = Checkpoint(state_path(out), job.fingerprint, settings.train.save_every_s, resume)
    started = time.monotonic()
    with _repeatable(settings.seed):
        detector = make_detector(settings.detector, settings.model, job.shape)
        loop = GradientLoop(detector, settings, torch_device(device), checkpoint, report)
        detector.to(loop.device).train()
        tiles = Tiles(job.fit_images) if job.policy.tile_px else job.fit_images
        batches = ImageBatches(tiles, len(tiles), settings.augment, settings.train.batch_size, settings.seed)
        detector.fit(_Watched(batches, loop, report), loop)
    seconds = checkpoint.seconds_before + time.monotonic() - started
    header, scores = _calibrate(job, detector, loop, seconds, report)
    state = {name: _to_numpy(tensor) for name, tensor in detector.state_dict().items()}
    write_artifact(out, header, {**state, **_fixtures(job, scores)})
    checkpoint.remove()
    return header


def state_path(out: Path) -> Path:
    """Where the state of an unfinished run is kept."""
    return out.with_name(out.name + ".state")


@final
@dataclass(frozen=True)
class _Job:
    """A run with its images read."""

    root: Path
    settings: RunSettings
    policy: PixelPolicy
    fit_images: GoodImages
    calibration_images: GoodImages
    skipped: dict[str, str]
    files_sha256: str

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.policy.channels, *self.policy.network_px)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What decides the weights: settings, setting by setting, and the images."""
        return {**_flat(self.settings.model_dump(mode="json")), "images": self.files_sha256}


def _prepare(folder: Folder, settings: RunSettings, report: Report) -> _Job:
    if not folder.train:
        raise DataError(f"{folder.root}: no good images to fit; put them in train/good")
    samples, skipped = _readable(folder.train, settings.data)
    policy = resolve_policy(samples, settings)
    fit, calibration = split_good(samples, settings.data.calibration_fraction, np.random.default_rng(settings.seed))
    if settings.score.max_false_alarm_rate is not None:  # refuse before the work, not after it
        conformal_threshold(np.zeros(len(calibration)), settings.score.max_false_alarm_rate)
    total = len(samples)
    loaded: list[GoodImages] = []
    for part in (fit, calibration):
        before = sum(len(images.samples) + len(images.skipped) for images in loaded)
        loaded.append(
            GoodImages(
                part,
                policy,
                settings.data.skip_bad,
                lambda done, before=before: report(Progress("reading images", before + done, total)),  # type: ignore[misc]
            )
        )
    if len(loaded[0]) < 2 or len(loaded[1]) < 1:
        raise DataError(f"{folder.root}: only {len(loaded[0]) + len(loaded[1])} good images can be read; 3 are needed")
    skipped |= loaded[0].skipped | loaded[1].skipped
    digest = files_sha256([*loaded[0].samples, *loaded[1].samples])
    return _Job(folder.root, settings, policy, loaded[0], loaded[1], skipped, digest)


def _readable(samples: Sequence[Sample], settings: DataSettings) -> tuple[list[Sample], dict[str, str]]:
    """The samples whose headers can be read; the others by name with the reason, where they may be skipped."""
    kept: list[Sample] = []
    skipped: dict[str, str] = {}
    for sample in samples:
        try:
            image_size(sample.path, settings.max_image_px)
            kept.append(sample)
        except DataError as error:
            if not settings.skip_bad:
                raise
            skipped[sample.name] = str(error)
    return kept, skipped


def resolve_policy(samples: Sequence[Sample], settings: RunSettings) -> PixelPolicy:
    """The pixel policy of a run: what the settings leave open follows from the images' headers.

    Without `data.size_px` the commonest image size counts: its aspect is kept, its longest side becomes
    `data.longest_side_px`, and both sides are rounded to what the detector needs; with tiles it is kept as it is.

    Raises:
        DataError: a header that cannot be read.
        SettingsError: an unknown detector.
    """
    data = settings.data
    if not samples:
        raise DataError("no good image can be read")
    channels = data.channels
    if channels is None:
        channels = 1 if all(is_grey(sample.path, data.max_image_px) for sample in samples) else 3
    size_px, aspect = data.size_px, None
    if size_px is None:
        sizes = Counter(image_size(sample.path, data.max_image_px) for sample in samples)
        height, width = min(sizes, key=lambda size: (-sizes[size], size))
        aspect = height / width
        size_px = (height, width)
        if data.tile_px is None:
            scale, multiple = data.longest_side_px / max(size_px), DETECTORS[settings.detector].side_multiple
            size_px = (nearest_multiple(height * scale, multiple), nearest_multiple(width * scale, multiple))
    if data.tile_px is not None:
        tile_boxes(size_px, data.tile_px, data.tile_overlap_px)  # refuses what cannot be tiled
    return PixelPolicy(
        size_px=size_px,
        channels=channels,
        white_level=data.white_level,
        max_image_px=data.max_image_px,
        aspect=aspect,
        roi_png=None if data.roi is None else encode_roi(load_roi(data.roi, size_px, aspect)),
        tile_px=data.tile_px,
        tile_overlap_px=0 if data.tile_px is None else data.tile_overlap_px,
    )


def files_sha256(samples: Sequence[Sample]) -> str:
    """A hash over the names and the contents of image files, whatever their order."""
    digest = hashlib.sha256()
    for sample in sorted(samples, key=lambda sample: sample.name):
        digest.update(f"{sample.name}\n{hashlib.sha256(sample.path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _finished(out: Path, job: _Job) -> ArtifactHeader | None:
    """The header of a model that stands at `out` already, where it came from this very job."""
    if not out.is_file() or state_path(out).is_file():
        return None
    try:
        header, _ = read_artifact(out)
    except BlemishError:
        return None
    same = header.run == job.settings and header.data_card.files_sha256 == job.files_sha256
    return header if same else None


def _fixtures(job: _Job, scores: Sequence[float]) -> dict[str, Any]:
    """A few of the images calibrated on, to check an export with."""
    chosen = (job.calibration_images.samples[place] for place in chosen_fixtures(scores))
    kept = kept_fixtures((sample.name, prepare(sample.path, job.policy)) for sample in chosen)
    return {f"{FIXTURE}{name}": image for name, image in kept.items()}


def _calibrate(
    job: _Job, detector: Detector, loop: GradientLoop, seconds: float, report: Report
) -> tuple[ArtifactHeader, list[float]]:
    """The header, and the scores of the images it was calibrated on, in their order."""
    runtime = TorchRuntime(detector, str(loop.device))
    scores: list[float] = []
    total = len(job.calibration_images)
    for place in range(total):
        prepared = prepare(job.calibration_images.samples[place].path, job.policy)
        scores.append(max_score(scored_map(runtime, prepared, job.settings.score)))
        report(Progress("calibrating", place + 1, total))
    rate = job.settings.score.max_false_alarm_rate or smallest_rate(total)
    header = ArtifactHeader(
        detector=job.settings.detector,
        run=job.settings,
        policy=job.policy,
        calibration_scores=tuple(sorted(scores)),
        max_false_alarm_rate=rate,
        threshold=conformal_threshold(np.asarray(scores), rate),
        data_card=DataCard(
            root=job.root.resolve().name,
            fit_images=len(job.fit_images),
            calibration_images=total,
            skipped=job.skipped,
            files_sha256=job.files_sha256,
            notes=tuple(getattr(detector, "notes", ())),
        ),
        history={name: tuple(values) for name, values in loop.history.items()},
        fit_seconds=round(seconds, 3),
        parameters=sum(weight.numel() for weight in detector.parameters()),
        versions={
            "blemish": version("blemish"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    )
    return header, scores


@final
class _Watched:
    """Batches on the training device; a pass that is not the gradient loop's own is reported as it goes."""

    def __init__(self, batches: ImageBatches, loop: GradientLoop, report: Report) -> None:
        self._batches, self._loop, self._report = batches, loop, report

    @property
    def epoch(self) -> int:
        return self._batches.epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._batches.epoch = epoch

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Tensor]:
        for done, batch in enumerate(self._batches, start=1):
            yield batch.to(self._loop.device)
            if not self._loop.is_running:
                self._report(Progress("fitting", done, len(self)))


@contextmanager
def _repeatable(seed: int) -> Iterator[None]:
    """Everything torch draws inside follows from the seed; the caller's generators are left as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _to_numpy(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().numpy()


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
