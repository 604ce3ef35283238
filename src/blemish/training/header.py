"""What a trained model says of itself: its certificate, its data card, a few images to check an export with."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from blemish.data.folder import commonest_size
from blemish.data.groups import pattern_of
from blemish.data.notes import name_note, photo_notes, text_note
from blemish.data.photo_values import gather_values
from blemish.errors import CalibrationError
from blemish.inference.artifact import FIXTURE, ArtifactHeader, DataCard
from blemish.inference.calibration import Calibrated
from blemish.inference.fixtures import choose_fixtures, keep_fixtures
from blemish.training.fit import Fit
from blemish.training.job import Job
from blemish.training.notes import calibrate_scores, image_notes
from blemish.training.policy import region_notes, without_paths
from blemish.training.unused import unused_notes


def held_out_scores(job: Job, fits: Sequence[Fit]) -> dict[int, float]:
    """The score of each image that was held out, by its place, fold after fold."""
    pairs = zip(job.splits, fits, strict=True)
    return {place: score for split, fit in pairs for place, score in zip(split.held_out, fit.scores, strict=True)}


def fixtures(job: Job, scores: Mapping[int, float]) -> dict[str, Any]:
    """A few of the images calibrated on, to check an export with."""
    places = list(scores)
    chosen = (places[one] for one in choose_fixtures(list(scores.values())))
    kept = keep_fixtures((job.images.samples[place].name, job.images.prepared(place)) for place in chosen)
    return {f"{FIXTURE}{name}": image for name, image in kept.items()}


def _calibrated(job: Job, scores: Mapping[int, float]) -> Calibrated:
    """The certificate, and what else is kept of the good images."""
    found, images = calibrate_scores(job, scores), job.images
    if found.threshold <= 0:
        raise CalibrationError(
            f"the threshold would be {found.threshold:g}: to this detector the held-out good images have no anomaly at "
            "all, so that any noise would be flagged; look at the images (`blemish data check`) and at data.roi"
        )
    more = {
        "image_ids": tuple(images.samples[place].file_id for place in scores),
        "pixel_ids": tuple(images.looks[place].pixels_id for place in scores),
        "photo_values": gather_values([look.photo_values for look in images.looks], job.groups),
        "group_pattern": pattern_of(job.settings.data.groups),
        "group_names": () if job.groups is None else _names(job.groups[place] for place in scores),
    }
    return found._replace(calibration=found.calibration.model_copy(update=more))


def model_header(job: Job, fits: Sequence[Fit], scores: Mapping[int, float], seconds_before: float) -> ArtifactHeader:
    """Everything of the model file but its tensors; `scores` by the places of the images that were held out.

    `seconds_before` is how long a run that was cut off had taken; folds that were finished know their own.
    """
    several, most_px = len(fits) > 1, job.settings.data.max_image_px
    photo_px, good = commonest_size(sample.size_px(most_px) for sample in job.images.samples), job.folder.train
    return ArtifactHeader(
        detector=job.settings.detector,
        run=without_paths(job.settings),
        policy=job.images.policy,
        **_calibrated(job, scores)._asdict(),
        detectors=len(fits),
        data_card=DataCard(
            root=job.folder.root.resolve().name,
            fit_images=len(job.images) if several else len(job.splits[0].fit),
            calibration_images=len(scores),
            photo_px=photo_px,
            skipped=job.skipped,
            files_sha256=job.files_sha256,
            fit_ids=tuple(job.images.samples[place].file_id for place in _fitted(job)),
            fit_pixel_ids=tuple(job.images.looks[place].pixels_id for place in _fitted(job)),
            groups_sha256=job.groups_sha256,
            fit_groups=() if job.groups is None else _names(job.groups[place] for place in _fitted(job)),
            notes=(
                *filter(None, [job.folder.unread_note, text_note(good, job.settings.data.groups), name_note(good)]),
                *job.encoder_notes,
                *photo_notes(job.images.samples, job.images.policy, job.images.readings),
                *region_notes(job.images.policy, photo_px, job.settings.data.roi),
                *unused_notes(job, has_steps=any(fit.history for fit in fits)),
                *dict.fromkeys(note for fit in fits for note in fit.notes),
                *image_notes(job, scores),
            ),
        ),
        encoder=job.encoder,
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
            **_encoder_library(job),
        },
    )


def _encoder_library(job: Job) -> dict[str, str]:
    """The version of the library that the network of a folder is built with."""
    spec: Any = job.settings.model.get("encoder_spec")
    if spec is None:
        return {}
    name = "timm" if spec["network"]["family"] == "timm" else "transformers"
    return {name: version(name)}


def _fitted(job: Job) -> list[int]:
    """The places of the images that were fitted on, in any fold."""
    return sorted({place for split in job.splits for place in split.fit})


def _names(groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(groups)))
