"""What a trained model says of itself: its certificate, its data card, a few images to check an export with."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from blemish.data.groups import pattern_of
from blemish.data.images import pixels_id, prepare
from blemish.data.photo_values import gather_values, photo_values
from blemish.inference.artifact import FIXTURE, ArtifactHeader, DataCard
from blemish.inference.calibration import Calibrated, calibrate
from blemish.inference.parity import choose_fixtures, keep_fixtures
from blemish.stats.outliers import SUSPICIOUS, suspicion, suspicious_message
from blemish.training.fit import Fit
from blemish.training.job import Job


def held_out_scores(job: Job, fits: Sequence[Fit]) -> dict[int, float]:
    """The score of each image that was held out, by its place, fold after fold."""
    pairs = zip(job.splits, fits, strict=True)
    return {place: score for split, fit in pairs for place, score in zip(split.held_out, fit.scores, strict=True)}


def fixtures(job: Job, scores: Mapping[int, float]) -> dict[str, Any]:
    """A few of the images calibrated on, to check an export with."""
    places = list(scores)
    chosen = (job.images.samples[places[one]] for one in choose_fixtures(list(scores.values())))
    kept = keep_fixtures((sample.name, prepare(sample.path, job.images.policy)) for sample in chosen)
    return {f"{FIXTURE}{name}": image for name, image in kept.items()}


def _calibrated(
    job: Job, scores: Mapping[int, float], values: Sequence[dict[str, float]], pixel_ids: Sequence[str]
) -> Calibrated:
    """The certificate, and what else is kept of the good images."""
    fold_of = {place: fold for fold, split in enumerate(job.splits) for place in split.held_out}
    score = job.settings.score
    found = calibrate(
        list(scores.values()),
        score.max_false_alarm_rate,
        score.confidence,
        groups=None if job.groups is None else [job.groups[place] for place in scores],
        folds=[fold_of[place] for place in scores] if len(job.splits) > 1 else None,
    )
    ids = tuple(job.images.samples[place].file_id for place in scores)
    more = {
        "image_ids": ids,
        "pixel_ids": tuple(pixel_ids[place] for place in scores),
        "photo_values": gather_values(values, job.groups),
        "group_pattern": pattern_of(job.settings.data.groups),
        "group_names": () if job.groups is None else _names(job.groups[place] for place in scores),
    }
    return found._replace(calibration=found.calibration.model_copy(update=more))


def model_header(job: Job, fits: Sequence[Fit], scores: Mapping[int, float], seconds_before: float) -> ArtifactHeader:
    """Everything of the model file but its tensors; `scores` by the places of the images that were held out.

    `seconds_before` is how long a run that was cut off had taken; folds that were finished know their own.
    """
    several = len(fits) > 1
    values, pixel_ids = [], []
    for place in range(len(job.images)):
        image = job.images[place].numpy()
        values.append(photo_values(image, job.images.policy.roi))
        pixel_ids.append(pixels_id(image))
    return ArtifactHeader(
        detector=job.settings.detector,
        run=job.settings,
        policy=job.images.policy,
        **_calibrated(job, scores, values, pixel_ids)._asdict(),
        detectors=len(fits),
        data_card=DataCard(
            root=job.folder.root.resolve().name,
            fit_images=len(job.images) if several else len(job.splits[0].fit),
            calibration_images=len(scores),
            skipped=job.skipped,
            files_sha256=job.files_sha256,
            fit_ids=tuple(job.images.samples[place].file_id for place in _fitted(job)),
            fit_pixel_ids=tuple(pixel_ids[place] for place in _fitted(job)),
            groups_sha256=job.groups_sha256,
            fit_groups=() if job.groups is None else _names(job.groups[place] for place in _fitted(job)),
            notes=(
                *dict.fromkeys(note for fit in fits for note in fit.notes),
                *_suspects(job, scores),
                *_saved_twice(job, scores, pixel_ids),
            ),
        ),
        history={
            f"{name} (fold {fold + 1})" if several else name: tuple(values)
            for fold, fit in enumerate(fits)
            for name, values in fit.history.items()
        },
        fit_seconds=round(sum(fit.seconds for fit in fits) + (0.0 if several else seconds_before), 3),
        parameters=sum(fit.parameters for fit in fits),
        versions={
            "blemish": version("blemish"),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    )


def _suspects(job: Job, scores: Mapping[int, float]) -> list[str]:
    """What is said of good images that were held out and score as if they were not good."""
    pairs = zip(scores, suspicion(list(scores.values())).tolist(), strict=True)
    return [suspicious_message(job.images.samples[place].name, p) for place, p in pairs if p <= SUSPICIOUS]


def _saved_twice(job: Job, scores: Mapping[int, float], pixel_ids: Sequence[str]) -> list[str]:
    """What is said where a picture was fitted and, saved again, calibrated on; equal files were left out."""
    fitted = {pixel_ids[place]: place for split in job.splits for place in split.fit}
    names = [sample.name for sample in job.images.samples]
    return [
        f"{names[place]} is {names[fitted[pixel_ids[place]]]} saved again: one was fitted and the other calibrated on, "
        "which makes the threshold too low; keep one"
        for place in scores
        if len(job.splits) == 1 and pixel_ids[place] in fitted
    ]


def _fitted(job: Job) -> list[int]:
    """The places of the images that were fitted on, in any fold."""
    return sorted({place for split in job.splits for place in split.fit})


def _names(groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(groups)))
