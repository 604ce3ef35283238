"""From a folder of good images to a model file: split, fit, calibrate, write."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from blemish.data.files import check_model_name
from blemish.data.folder import SUFFIXES, Folder, Sample, hash_samples, read_folder
from blemish.data.images import PixelPolicy
from blemish.data.masks import encode_roi, load_roi
from blemish.data.progress import Progress, Report, quiet
from blemish.data.split import drop_copies, fewest_to_hold_out, groups_of, split_folds, split_good
from blemish.data.tiles import tile_boxes
from blemish.errors import BlemishError, CalibrationError, DataError, plural
from blemish.inference.artifact import ArtifactHeader, join_folds, read_artifact, write_artifact
from blemish.inference.calibration import calibrate
from blemish.inference.runtime import torch_device
from blemish.models import DETECTORS
from blemish.models.detector import nearest_multiple
from blemish.settings import DataSettings, RunSettings
from blemish.stats.conformal import images_needed, rounded_up, smallest_rate
from blemish.training.batches import GoodImages
from blemish.training.checkpoint import Checkpoint
from blemish.training.fit import Fit, Job, Split, fit_and_score
from blemish.training.header import fixtures, model_header

MAX_LONGER = 4
"""So many times `data.side_px` at most is the longer side, where the shorter has it."""


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
    check_model_name(out, SUFFIXES)
    torch_device(device)
    job = _prepare(read_folder(data), settings, report)
    if resume and (finished := _finished(out, job)):
        return finished
    checkpoint = Checkpoint(state_path(out), job.fingerprint, settings.train.save_every_s, resume)
    fits = [_fit(job, part, checkpoint, device, report) for part in range(len(job.splits))]
    scores = {place: score for split, fit in zip(job.splits, fits, strict=True) for place, score in _scored(split, fit)}
    before = checkpoint.seconds_before if len(fits) == 1 else 0.0
    header = model_header(job, fits, scores, before + sum(fit.seconds for fit in fits))
    write_artifact(out, header, {**join_folds([fit.state for fit in fits]), **fixtures(job, scores)})
    checkpoint.remove()
    return header


def state_path(out: Path) -> Path:
    """Where the state of an unfinished run is kept."""
    return out.with_name(out.name + ".state")


def _prepare(folder: Folder, settings: RunSettings, report: Report) -> Job:
    if not folder.train:
        raise DataError(f"{folder.root}: no good images to fit; put them in train/good")
    samples, skipped = _readable(folder.train, settings.data)
    samples, copies = drop_copies(samples)
    skipped |= copies
    policy = resolve_policy(samples, settings)
    parts = split_of(samples, folder, settings)
    _refuse_too_few(parts, folder, settings)
    images = GoodImages(
        samples,
        policy,
        settings.data.skip_bad,
        lambda done: report(Progress("reading images", done, len(samples))),
    )
    if images.skipped and len(parts) > 1:
        parts = split_of(images.samples, folder, settings)  # folds of one size promise more
    place = {sample: number for number, sample in enumerate(images.samples)}
    splits = tuple(
        Split(*(tuple(place[sample] for sample in part if sample in place) for part in pair)) for pair in parts
    )
    if any(len(split.fit) < 2 or len(split.held_out) < 1 for split in splits):
        raise DataError(f"{folder.root}: only {plural(len(images), 'good image')} can be read; 3 are needed")
    return Job(
        root=folder.root,
        settings=settings,
        images=images,
        groups=groups_of(images.samples, folder, settings.data.groups),
        splits=splits,
        skipped=skipped | images.skipped,
        files_sha256=hash_samples(images.samples),
    )


def split_of(
    samples: Sequence[Sample], folder: Folder, settings: RunSettings
) -> list[tuple[list[Sample], list[Sample]]]:
    """What is fitted and what is held out: once, or for each fold.

    Raises:
        DataError: there are too few images.
    """
    groups, rng = groups_of(samples, folder, settings.data.groups), np.random.default_rng(settings.seed)
    if settings.score.calibration == "cross":
        return split_folds(samples, settings.score.folds, rng, groups)
    return [split_good(samples, settings.data.calibration_fraction, rng, groups)]


def _refuse_too_few(
    parts: Sequence[tuple[Sequence[Sample], Sequence[Sample]]], folder: Folder, settings: RunSettings
) -> None:
    """Refuse before the work what could only be refused after it."""
    held_out = [sample for _, part in parts for sample in part]
    folds = [fold for fold, (_, part) in enumerate(parts) for _ in part] if len(parts) > 1 else None
    groups = groups_of(held_out, folder, settings.data.groups)
    score = settings.score
    try:
        calibrate(np.zeros(len(held_out)).tolist(), score.max_false_alarm_rate, score.confidence, groups, folds)
    except CalibrationError:
        if folds or score.max_false_alarm_rate is None:
            raise
        raise CalibrationError(_too_few_held_out(len(set(groups or held_out)), groups is not None, settings)) from None


def _too_few_held_out(found: int, by_group: bool, settings: RunSettings) -> str:
    """How many good images it takes in all, when only a part of them is held out."""
    rate, confidence = settings.score.max_false_alarm_rate, settings.score.confidence
    assert rate is not None
    needed, fraction = images_needed(rate, confidence), settings.data.calibration_fraction
    sure = "" if confidence is None else f" with confidence {confidence:g}"
    return (
        f"score.max_false_alarm_rate: {rate:g}{sure} needs {needed} {'groups of ' if by_group else ''}good images that "
        f"were not fitted on, found {found}; as a share of {fraction:g} is held out (data.calibration_fraction), "
        f"{fewest_to_hold_out(needed, fraction)} are needed in all; or ask for "
        f"{rounded_up(smallest_rate(found, confidence)):g} or more"
    )


def _readable(samples: Sequence[Sample], settings: DataSettings) -> tuple[list[Sample], dict[str, str]]:
    """The samples whose headers can be read; the others by name with the reason, where they may be skipped."""
    kept: list[Sample] = []
    skipped: dict[str, str] = {}
    for sample in samples:
        try:
            sample.size_px(settings.max_image_px)
            kept.append(sample)
        except DataError as error:
            if not settings.skip_bad:
                raise
            skipped[sample.name] = str(error)
    return kept, skipped


def resolve_policy(samples: Sequence[Sample], settings: RunSettings) -> PixelPolicy:
    """The pixel policy of a run: what the settings leave open follows from the images' headers.

    Without `data.size_px` the commonest image size counts: its aspect is kept, its longer or shorter side (`data.side`)
    becomes `data.side_px`, and both are rounded to what the detector needs; with tiles it is kept as it is.

    Raises:
        DataError: a header that cannot be read.
        SettingsError: an unknown detector.
    """
    data = settings.data
    if not samples:
        raise DataError("no good image can be read")
    channels = data.channels
    if channels is None:
        channels = 1 if all(sample.header.is_grey for sample in samples) else 3
    size_px, aspect = data.size_px, None
    if size_px is None:
        sizes = Counter(sample.size_px(data.max_image_px) for sample in samples)
        height, width = min(sizes, key=lambda size: (-sizes[size], size))
        aspect = height / width
        size_px = (height, width)
        if data.tile_px is None:
            scale, multiple = data.side_px / max(size_px), DETECTORS[settings.detector].side_multiple
            if data.side == "shorter":
                scale *= min(max(size_px) / min(size_px), MAX_LONGER)
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


def _finished(out: Path, job: Job) -> ArtifactHeader | None:
    """The header of a model that stands at `out` already, where it came from this very job."""
    if not out.is_file() or state_path(out).is_file():
        return None
    try:
        header, _ = read_artifact(out)
    except BlemishError:
        return None
    card = header.data_card
    same = header.run == job.settings and card.files_sha256 == job.files_sha256
    return header if same and card.groups_sha256 == job.groups_sha256 else None


def _fit(job: Job, part: int, checkpoint: Checkpoint, device: str, report: Report) -> Fit:
    """One fold's fit, or the only one."""
    if found := checkpoint.finished_part(part):
        return Fit(state=found[1], **found[0])
    settings = job.settings
    if len(job.splits) == 1:
        return fit_and_score(job.images, job.splits[part], settings, checkpoint, device, report)
    # The guarantee of folds asks that what is random in a fit is drawn anew for each.
    seed = int(np.random.SeedSequence([settings.seed, part]).generate_state(1)[0]) // 2
    settings = settings.model_copy(update={"seed": seed})
    fit = fit_and_score(job.images, job.splits[part], settings, checkpoint, device, report)
    checkpoint.finish_part({name: value for name, value in fit._asdict().items() if name != "state"}, fit.state)
    return fit


def _scored(split: Split, fit: Fit) -> Iterator[tuple[int, float]]:
    return zip(split.held_out, fit.scores, strict=True)
