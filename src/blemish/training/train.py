"""From a folder of good images to a model file."""

from pathlib import Path

from blemish.data.files import exclusive_lock
from blemish.data.folder import read_folder
from blemish.data.layouts import SUFFIXES
from blemish.data.outputs import check_model_name
from blemish.data.progress import Progress, Report, quiet
from blemish.errors import BlemishError, DataError, SettingsError
from blemish.inference.artifact import ArtifactHeader, join_folds, read_artifact, write_artifact
from blemish.inference.ending import held_up, stop_at_end
from blemish.inference.runtime import is_onnx
from blemish.inference.torch_runtime import torch_device
from blemish.models import pin
from blemish.settings import RunSettings, as_path, shortened
from blemish.training.batches import GoodImages
from blemish.training.checkpoint import Checkpoint
from blemish.training.fit import fit_splits
from blemish.training.header import fixtures, held_out_scores, model_header
from blemish.training.job import Job, good_samples, split_samples
from blemish.training.policy import resolve_policy, without_paths
from blemish.training.settings import make_settings


def train_model(
    data: Path | str,
    out: Path | str,
    settings: RunSettings | None = None,
    device: str = "auto",
    resume: bool = False,
    report: Report = quiet,
) -> ArtifactHeader:
    """Train a detector on the good images of `data`, calibrate it on held-out ones, and write it to `out`.

    Without `settings`, with those of `make_settings()`. With `resume`, a run that was cut off goes on from the state
    beside `out` and ends with the weights it would have had; a finished model with the same settings and images is left
    as it is; where there is neither it starts at step 0.

    Raises:
        DataError: the images cannot be read, or are too few; `out` cannot be written, or is an export, or another
            process trains it.
        SettingsError: sides the network cannot take; a state to resume from that was made with other settings.
        CalibrationError: too few good images for `score.max_false_alarm_rate`; a threshold of 0.
        TrainingError: the loss is not a number.
    """
    data, out = as_path(data, "data"), as_path(out, "out")
    settings = make_settings() if settings is None else settings
    if not isinstance(settings, RunSettings):
        raise SettingsError(f"settings: found {shortened(repr(settings))}; make them, as by make_settings('patchcore')")
    check_model_name(out, SUFFIXES)
    if is_onnx(out):
        found = "an export is there, which would be lost" if out.is_file() else "ends as exports do"
        raise DataError(f"{out}: {found}; give the trained model another name, such as {out.stem}.safetensors")
    torch_device(device)

    def step(progress: Progress) -> None:
        stop_at_end()
        report(progress)

    with exclusive_lock(out.with_name(f".{out.name}.lock"), f"training {out}"), held_up():
        return _train(data, out, settings, device, resume, step)


def _train(data: Path, out: Path, settings: RunSettings, device: str, resume: bool, report: Report) -> ArtifactHeader:
    pinned = pin(settings.detector, settings.model)  # which encoder; it must be here
    settings = settings.model_copy(update={"model": pinned.model})
    folder = read_folder(data)
    samples, skipped = good_samples(folder, settings.data)  # readable, each file once
    splits = split_samples(samples, folder, settings)  # fitted, and held out to calibrate on
    policy = resolve_policy(samples, settings)  # size, channels, region of interest, tiles
    images = GoodImages(samples, policy, settings.data.skip_bad, report)  # decoded; batches are made of them
    if images.skipped:
        splits = split_samples(images.samples, folder, settings)
    job = Job(folder, settings, images, splits, skipped | images.skipped, pinned.card, pinned.notes)
    if resume and (finished := _finished(out, job)):
        return finished
    checkpoint = Checkpoint(state_path(out), job.fingerprint, settings.train.save_every_s, resume)
    fits = fit_splits(job, checkpoint, device, report)
    scores = held_out_scores(job, fits)
    header = model_header(job, fits, scores, checkpoint.seconds_before)  # threshold and certificate among it
    write_artifact(out, header, {**join_folds([fit.state for fit in fits]), **fixtures(job, scores)})
    checkpoint.remove()
    return header


def state_path(out: Path) -> Path:
    """Where the state of an unfinished run is kept."""
    return out.with_name(out.name + ".state")


def _finished(out: Path, job: Job) -> ArtifactHeader | None:
    """The header of a model that stands at `out` already, where it came from this very job."""
    if not out.is_file() or state_path(out).is_file():
        return None
    try:
        header, _ = read_artifact(out)
    except BlemishError:
        return None
    card = header.data_card
    there = header.run, header.policy, card.files_sha256, card.groups_sha256
    wanted = without_paths(job.settings), job.images.policy, job.files_sha256, job.groups_sha256
    return header if there == wanted else None
