"""What is said of the good images after a run: an odd one, images saved twice, frames of few parts."""

from collections.abc import Collection, Mapping

import numpy as np

from blemish.data.duplicates import alike_as_they_are
from blemish.data.frames import ADVICE, evenly, frames_note
from blemish.errors import BlemishError, plural
from blemish.inference.calibration import DEFAULT_RATE, Calibrated, calibrate
from blemish.inference.ladder import RATES
from blemish.stats.outliers import SUSPICIOUS, suspicion, suspicious_message
from blemish.training.job import Job, images_in_all

ALIKE = 0.93
"""Correlation from which an image that was held out is named as a near duplicate of a fitted one."""


FEW = 30
"""Good images, or groups of them, fewer than which are said to be few."""


def calibrate_scores(job: Job, scores: Mapping[int, float], rate: float | None = None) -> Calibrated:
    """The certificate from the scores of held-out images, by their places; for the rate of the settings, or another.

    Raises:
        CalibrationError: they are too few.
    """
    fold_of = {place: fold for fold, split in enumerate(job.splits) for place in split.held_out}
    return calibrate(
        list(scores.values()),
        job.settings.score.max_false_alarm_rate if rate is None else rate,
        job.settings.score.confidence,
        groups=None if job.groups is None else [job.groups[place] for place in scores],
        folds=[fold_of[place] for place in scores] if len(job.splits) > 1 else None,
    )


def image_notes(job: Job, scores: Mapping[int, float]) -> list[str]:
    """What whoever trained should know of single images and of how they belong together."""
    return [
        *_few_note(job, scores),
        *_odd_notes(job, scores),
        *_saved_twice(job, scores),
        *_frame_notes(job),
    ]


def _few_note(job: Job, scores: Mapping[int, float]) -> list[str]:
    """What is said where the good images, or groups, are few: how many would be better, and why."""
    of_all: Collection[object] = range(len(job.images)) if job.groups is None else set(job.groups)
    if (count := len(of_all)) >= FEW:
        return []
    behind = len(scores) if job.groups is None else len({job.groups[place] for place in scores})
    advised = f"{FEW} or more are advised"
    if len(job.splits) == 1:
        in_all = max(FEW, images_in_all(DEFAULT_RATE, job.settings))
        advised = f"{FEW} or more are advised, {in_all} to promise {100 * DEFAULT_RATE:g} % of false alarms"
    return [
        f"{plural(count, 'good image' if job.groups is None else 'group')} are few: the threshold rests on {behind} of "
        "them, and how much good parts differ can hardly be told, so that good parts may be flagged and defects "
        f"missed; {advised}"
    ]


def _odd_notes(job: Job, scores: Mapping[int, float]) -> list[str]:
    """Good images that were held out and score as if they were not good, and what the highest of them costs."""
    pairs = zip(scores, suspicion(list(scores.values())).tolist(), strict=True)
    odd = {place: p for place, p in pairs if p <= SUSPICIOUS}
    notes = [suspicious_message(job.images.samples[place].name, p) for place, p in odd.items()]
    return [*notes, *_price(job, scores, max(odd, key=scores.__getitem__))] if odd else notes


def _price(job: Job, scores: Mapping[int, float], place: int) -> list[str]:
    """What the threshold would be without an image, at the lowest rate that can be promised without it."""
    others = {other: score for other, score in scores.items() if other != place}
    name = job.images.samples[place].name
    for rate in RATES:
        try:
            before, after = (calibrate_scores(job, some, rate).threshold for some in (scores, others))
        except BlemishError:  # too few for this rate
            continue
        if after == before:
            continue
        return [f"without {name} the threshold at {rate:.0%} falls from {before:.4g} to {after:.4g}".replace("%", " %")]
    return []


def _saved_twice(job: Job, scores: Mapping[int, float]) -> list[str]:
    """What is said where a picture that was calibrated on is there again, saved anew; equal files were left out."""
    fold_of = {place: fold for fold, split in enumerate(job.splits) for place in split.held_out}
    first: dict[str, int] = {}
    notes = []
    for place in (*(place for place in job.splits[0].fit if place not in fold_of), *scores):
        before = first.setdefault(job.images.looks[place].pixels_id, place)
        is_one_group = job.groups is not None and job.groups[before] == job.groups[place]
        if place not in fold_of or before == place or is_one_group:
            continue
        name, other = (job.images.samples[one].name for one in (place, before))
        notes.append(
            f"{name} is {other} saved again: both were calibrated on, and the promise counts them as two; keep one"
            if fold_of.get(before) == fold_of[place]
            else f"{name} is {other} saved again: one was fitted and the other calibrated on, which makes the "
            "threshold too low; keep one"
        )
    return notes


def _frame_notes(job: Job) -> list[str]:
    """What is said where images look like several frames of few parts, which the promise takes for that many parts."""
    places = evenly(len(job.images))
    groups = None if job.groups is None else [job.groups[place] for place in places]
    fingerprints = np.stack([job.images.looks[place].fingerprint for place in places])
    if found := frames_note(fingerprints, groups):
        return [found]
    if len(job.splits) > 1:
        return []
    is_held_out = np.isin(places, job.splits[0].held_out)
    held_out, fitted = np.flatnonzero(is_held_out), np.flatnonzero(~is_held_out)
    across = alike_as_they_are(fingerprints, groups)[np.ix_(held_out, fitted)]
    alike_too = np.flatnonzero(across.max(axis=1, initial=-1.0) >= ALIKE)
    if not alike_too.size:
        return []
    first = alike_too[0]
    pair = [job.images.samples[places[one]].name for one in (held_out[first], fitted[across[first].argmax()])]
    return [
        f"{alike_too.size} of {plural(len(held_out), 'image')} to calibrate on nearly repeat a fitted one, such as "
        f"{pair[0]} and {pair[1]}: they score too low, and so does the threshold; {ADVICE}"
    ]
