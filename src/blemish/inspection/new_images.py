"""New good images, looked at by a model to calibrate it on: none that it was fitted on, none twice."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.duplicates import Fingerprint, fingerprint
from blemish.data.folder import file_id
from blemish.data.frames import evenly, frames_note
from blemish.data.groups import pattern_of, read_groups, spelling_of
from blemish.data.image_files import NOT_UTF8, image_files, told_name
from blemish.data.images import prepare_photo
from blemish.data.photo_values import photo_values
from blemish.data.pixels import pixels_id
from blemish.data.progress import OnStep
from blemish.data.readings import Readings
from blemish.data.stray_masks import refuse_masks_among
from blemish.errors import BadFileError, DataError, SettingsError, join_names, none_readable, plural
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.predictor import Predictor
from blemish.inspection.group_pattern import pattern_in_model
from blemish.stats.conformal import log_binomial_cdf
from blemish.stats.false_discovery import benjamini_hochberg
from blemish.stats.outliers import SUSPICIOUS, suspicion

_BY_CHANCE = 0.01

MIN_COMPARED = 8
"""Of fewer new images it is not told what they share, and so not which are frames of one part."""

UNLIKE = 0.1
"""Share of false discoveries among the new images that are said to be unlike those before."""


@final
class NewImages(NamedTuple):
    """The new good images, looked at."""

    names: list[str]
    scores: list[float]
    values: list[dict[str, float]]
    ids: list[str]
    pixel_ids: list[str]
    skipped: dict[str, str]
    readings: Readings
    fingerprints: dict[int, Fingerprint]
    """Of some of them, by their places, evenly among all."""


def no_images(readings: Readings | None = None) -> NewImages:
    """Nothing looked at yet."""
    return NewImages([], [], [], [], [], {}, readings or Readings(None), {})


def score_new_images(
    predictor: Predictor, folder: Path, refused: Collection[str], skip_bad: bool, on_image: OnStep
) -> NewImages:
    """Score the images of a folder; none of those whose file or pixels are among the ids `refused` may be in it.

    Raises:
        DataError: one cannot be read (unless `skip_bad`), was fitted on, is refused, or is there twice.
    """
    header, found, unnamed = predictor.header, no_images(predictor.header.new_readings()), list[Path]()
    paths = list(good_files(folder, unnamed if skip_bad else None))
    found.skipped.update((told_name(path), f"{told_name(path)}: {NOT_UTF8}") for path in unnamed)
    known = dict.fromkeys(
        (*header.data_card.fit_ids, *header.data_card.fit_pixel_ids),
        "the model was fitted on it; a threshold needs images it has not seen",
    )
    known |= dict.fromkeys(refused, "the model was calibrated on it before")
    compared = set(evenly(len(paths)))
    for done, (name, path) in enumerate(paths, start=1):
        try:
            prepared = prepare_photo(path, header.policy)
            pixels = prepared.pixels()
            ids = (file_id(path), pixels_id(pixels))
        except DataError as error:
            if not skip_bad:
                raise BadFileError(error) from None
            found.skipped[name] = str(error)
            continue
        for identity in ids:
            if identity in known:
                raise DataError(f"{path}: {known[identity]}; take it out of the folder")
        found.readings.add(name, prepared.reading)
        if done - 1 in compared:
            found.fingerprints[len(found.names)] = fingerprint(pixels.mean(axis=0))
        known |= dict.fromkeys(ids, f"the same image as {name}; each good image counts once")
        found.names.append(name)
        found.ids.append(ids[0])
        found.pixel_ids.append(ids[1])
        found.scores.append(predictor.predict_prepared(prepared, path).score)
        found.values.append(photo_values(pixels, header.policy.roi))
        on_image(done, len(paths))
    if not found.names:
        raise DataError(f"{folder}: {none_readable(len(paths), 'image', min(found.skipped.items())[1])}")
    return found


def good_files(folder: Path, unnamed: list[Path] | None) -> Iterator[tuple[str, Path]]:
    """Names and paths of the images of a folder that is none of a data set; see `image_files` for `unnamed`.

    Raises:
        DataError: no such folder, none in it, or some in a folder `train` or `test` below it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of good images")
    for part in ("train", "test"):
        if image_files(folder / part, unnamed=[]):
            example = folder / "test" / "good"
            raise DataError(
                f"{folder}: holds images in {part}; give the folder of new good images itself, e.g. {example}"
            )
    files = image_files(folder, unnamed=unnamed)
    if not files:
        raise DataError(f"{folder}: no images in this folder")
    refuse_masks_among(files, [folder], folder)
    return ((path.relative_to(folder).as_posix(), path) for path in files)


def groups_of_new(
    header: ArtifactHeader, groups: str | None, is_added: bool, good: NewImages
) -> tuple[str | None, tuple[str, ...] | None]:
    """What tells the groups of new images from their names, and the group of each."""
    before = header.calibration
    spec = groups or pattern_in_model(before)
    if spec is None and before.by_group:
        raise SettingsError(
            "--groups: a file told the groups of the images calibrated on; tell those of the new ones, with a file or "
            "a regular expression"
        )
    if spec is not None and is_added and not before.by_group:
        raise SettingsError("--groups: the images calibrated on have no groups; leave --add or --groups out")
    return pattern_of(spec), None if spec is None else read_groups(spec, good.names, good.skipped)


def few_parts_message(good: NewImages, groups: Sequence[str] | None) -> str:
    """What is said of new good images that look like several frames of few parts; nothing of very few images."""
    if len(good.fingerprints) < MIN_COMPARED:
        return ""
    own = None if groups is None else [groups[place] for place in good.fingerprints]
    return frames_note(np.stack(list(good.fingerprints.values())), own).replace("data.groups", "--groups")


def refuse_known_groups(header: ArtifactHeader, is_added: bool, groups: Mapping[str, str]) -> None:
    """Refuse more photos of a part (or day) that is known; `groups` has one image of each.

    Raises:
        DataError: one was fitted on, or is to be added to those it is among already.
    """
    known = dict.fromkeys(map(spelling_of, header.calibration.group_names if is_added else ()), "calibrated")
    known |= dict.fromkeys(map(spelling_of, header.data_card.fit_groups), "fitted")
    for group, name in groups.items():
        if how := known.get(spelling_of(group)):
            raise DataError(
                f"{name}: the model was {how} on other images of its group {group}; groups must be new, so "
                "take them out"
            )


def raised_message(before: ArtifactHeader, after: ArtifactHeader, good: NewImages) -> str | None:
    """What is said of new good images that lift the threshold; of a few of them nothing more can be proven."""
    above = sorted(
        (score, name) for name, score in zip(good.names, good.scores, strict=True) if score > before.threshold
    )
    if not above or after.threshold <= before.threshold:
        return None
    names = [name for _, name in reversed(above)]
    return (
        f"the threshold rises from {before.threshold:.6g} to {after.threshold:.6g}, for the old one is exceeded by "
        f"{len(names)} of {plural(len(good.names), 'new good image')}: {join_names(names)}; make sure they are good"
    )


def sample_message(before: ArtifactHeader, good: NewImages) -> str:
    """What is said of images that are added: the promise is about a random sample of the good images of the line.

    Where more of them exceed the threshold than a random sample would have once in a hundred times, that is said, too.
    """
    n, rate = len(good.scores), before.max_false_alarm_rate
    flagged = sum(score > before.threshold for score in good.scores)
    by_chance = math.exp(log_binomial_cdf(n, 1.0 - rate)[n - flagged])  # at most so many are not above it
    rule = (
        "added images must be a random sample of the good images of the line, such as every tenth; images picked "
        "because they were flagged or disputed make the threshold too high, hide defects and void the promise"
    )
    if flagged == 0 or by_chance > _BY_CHANCE:
        return rule
    return f"{flagged} of {plural(n, 'added image')} are above the threshold, as if they were picked for that; {rule}"


def _unlike(header: ArtifactHeader, good: NewImages) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """p-values of the new images among those before, and which of them are unlike those."""
    before = np.array([header.p_value(score) for score in good.scores])
    return before, benjamini_hochberg(before, UNLIKE)


def changed_message(header: ArtifactHeader, good: NewImages) -> str | None:
    """What is said where most of the new good images are unlike those before."""
    count = int(np.count_nonzero(_unlike(header, good)[1]))
    if 2 * count <= len(good.scores):
        return None
    return (
        f"{count} of {plural(len(good.scores), 'new good image')} score higher than those calibrated on before: either "
        "the line has changed, and this is how good parts look now, or these are not good"
    )


def suspects(header: ArtifactHeader, good: NewImages) -> dict[str, float]:
    """New good images that score unlike each other, or unlike those before.

    Where they are few, the good images calibrated on before help to tell what is usual, unless most of the new ones are
    unlike them: then the line has changed (`changed_message`).
    """
    alone, new = suspicion(good.scores), len(good.scores)
    pooled = suspicion([*header.calibration_scores, *good.scores])[-new:]
    if 2 * np.count_nonzero(pooled <= SUSPICIOUS) < new:
        alone = np.minimum(alone, pooled)
    before, selected = _unlike(header, good)
    if 2 * np.count_nonzero(selected) > new:
        selected = np.zeros(new, np.bool_)
    found = {name: float(p) for name, p in zip(good.names, alone, strict=True) if p <= SUSPICIOUS}
    unlike = {name: float(p) for name, p, is_odd in zip(good.names, before, selected, strict=True) if is_odd}
    return {**unlike, **found}
