"""`blemish challenge`: which defects would this model miss? Power against synthetic defects, of which size and kind.

Defects of graded size and contrast are put on good photos the model was not fitted on, inside its region of interest,
at the photos' own size. Whether each is found at the model's threshold gives a curve for each type and contrast, as in
MIL-HDBK-1823A and ASTM E2862. It says nothing about defects unlike these.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, final

import numpy as np
from pydantic import Field

from blemish.data.folder import GOOD, PARTS, Folder
from blemish.data.images import read_values
from blemish.data.outputs import check_report_folder
from blemish.data.pixels import as_pixels
from blemish.data.progress import OnStep, tell_nobody
from blemish.data.synthetic.defects import DEFECTS
from blemish.errors import DataError, SettingsError, nearest
from blemish.evaluation.challenge.challenge_page import Shown, render
from blemish.evaluation.challenge.content import Content, Curve, DefectRow, Suspicious
from blemish.evaluation.challenge.curves import power_curve
from blemish.evaluation.challenge.notes import FEW_DEFECTS, write_notes
from blemish.evaluation.challenge.photos import Photos, held_out, judge_photos, refuse_fitted, sizes_to_try
from blemish.evaluation.challenge.trials import Trial, TrialResult, judge_trial, own_region, plan_trials, with_defect
from blemish.evaluation.report.files import to_json, write_report
from blemish.inference.overlay import as_rgb
from blemish.inference.predictor import Predictor
from blemish.inference.score import resize_map
from blemish.settings import Settings
from blemish.stats import rate_interval

RESULTS, REPORT = "challenge.json", "challenge.html"
_GIVE_UP_AFTER = 8


@final
class ChallengeSettings(Settings):
    """What a model is challenged with."""

    defect_types: tuple[str, ...] = Field(tuple(DEFECTS), description="Types of defects, by their names in DEFECTS.")
    contrasts: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = Field(
        (0.05, 0.1, 0.2), description="Mean change of a defect's pixels; 1 is from black to white."
    )
    defects: Annotated[int, Field(ge=10, le=10_000)] = Field(
        FEW_DEFECTS, description="Defects of each type and contrast."
    )
    smallest_px: Annotated[float, Field(ge=2.0)] | None = Field(
        None, description="Smallest extent, in the photos' own pixels. None: a hundredth of the shorter side."
    )
    largest_px: Annotated[float, Field(ge=2.0)] | None = Field(
        None, description="Largest extent. None: a fifth of the shorter side."
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = Field(0.95, description="How sure each bound is.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="The same seed gives the same defects.")
    skip_bad: bool = Field(False, description="Leave out unreadable images, and list them, instead of stopping.")
    anywhere: bool = Field(False, description="Without a region of interest, put defects beside the part, too.")


@final
@dataclass(frozen=True)
class Challenge:
    """What `challenge_model` found: `results` as in the JSON file, and the two files it wrote."""

    results: Content
    results_path: Path
    report_path: Path


@final
@dataclass
class _Work:
    """What is known so far."""

    photos: Photos
    judged: list[TrialResult] = field(default_factory=list)
    no_place: dict[tuple[str, float], int] = field(default_factory=lambda: defaultdict(int))
    on_part: set[int] = field(default_factory=set)  # photos whose part was told from the ground


def challenge_model(
    predictor: Predictor,
    folder: Folder,
    out: Path,
    settings: ChallengeSettings = ChallengeSettings(),  # noqa: B008  # frozen
    on_defect: OnStep = tell_nobody,
) -> Challenge:
    """Put synthetic defects on the good photos of a folder and see which are found; write two files into `out`.

    Photos come from a flat folder, or from `test/good` of an MVTec-style one: the model must not have been fitted on
    them. The files are `challenge.json` and `challenge.html`.

    Raises:
        DataError: fewer than five good photos, or one that cannot be read (unless `skip_bad`); `out` cannot be written.
        SettingsError: an unknown defect type, a type or a contrast given twice, a smallest size that is not below the
            largest, or a largest that no photo has room for.
    """
    started = time.perf_counter()
    _check_types(settings)
    check_report_folder(out, RESULTS, REPORT)
    unnamed, samples = folder.left_out("test", settings.skip_bad), held_out(folder)
    refuse_fitted(predictor, samples)
    photos = judge_photos(predictor, samples, settings.skip_bad)
    photos.skipped.update(unnamed)
    sizes_px = sizes_to_try(predictor.policy, photos.twins, settings.smallest_px, settings.largest_px)
    work = _Work(photos)
    asked = settings.defect_types, settings.contrasts, settings.defects
    trials = plan_trials(*asked, sizes_px, len(photos.samples), settings.seed)
    _run(predictor, trials, work, settings, on_defect)
    results = _content(predictor, folder, work, sizes_px, settings)
    shown = {
        f"{kind} {contrast:g}": _show(predictor, work, kind, contrast, settings) for kind, contrast in _kinds(settings)
    }
    results["seconds"] = time.perf_counter() - started
    write_report(out, {RESULTS: to_json(results), REPORT: render(results, shown)})
    return Challenge(results, out / RESULTS, out / REPORT)


def _content(
    predictor: Predictor, folder: Folder, work: _Work, sizes_px: tuple[float, float], settings: ChallengeSettings
) -> Content:
    """All but how long it took."""
    results: Content = {
        "threshold": predictor.threshold,
        "max_false_alarm_rate": predictor.header.rate_at(predictor.threshold),
        "model": {"detector": predictor.header.detector, "size_px": list(predictor.policy.size_px)},
        "has_roi": predictor.policy.roi is not None,
        "data": {"root": _called(folder.root), "photos": len(work.photos.samples), "skipped": work.photos.skipped},
        "photos_with_part": len(work.on_part),
        "photo_size_px": list(work.photos.twins[0].image_size_px),
        "sizes_px": list(sizes_px),
        "settings": settings.model_dump(mode="json"),
        "suspicious": _suspicious(work),
        "curves": [_curve(work, kind, contrast, settings) for kind, contrast in _kinds(settings)],
        "defects": [_row(work, one) for one in work.judged],
        "versions": {"blemish": version("blemish"), "numpy": np.__version__},
        "more_than_promised": False,
        "notes": [],
        "seconds": 0.0,
    }
    results["more_than_promised"] = _is_too_much(results)
    results["notes"] = write_notes(results, [twin.image_size_px for twin in work.photos.twins])
    return results


def _check_types(settings: ChallengeSettings) -> None:
    for name in settings.defect_types:
        if name not in DEFECTS:
            raise SettingsError(f"defect type '{name}': unknown; {nearest(name, DEFECTS)}")
    for what, given in (("defect type", settings.defect_types), ("contrast", settings.contrasts)):
        if twice := [str(value) for value, count in Counter(given).items() if count > 1]:
            raise SettingsError(f"{what} {twice[0]}: given twice; each has one curve")


def _run(
    predictor: Predictor, trials: Sequence[Trial], work: _Work, settings: ChallengeSettings, on_defect: OnStep
) -> None:
    """Photo by photo, so that each is decoded once."""
    by_photo: dict[int, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_photo[trial.photo].append(trial)
    done, placed = 0, set()
    for photo, some in sorted(by_photo.items()):
        values = read_values(work.photos.samples[photo].path, predictor.policy)
        region = own_region(predictor.policy, values, settings.anywhere)
        if region is not None and predictor.policy.roi is None:
            work.on_part.add(photo)
        for trial in some:
            kind = (trial.defect_type, trial.contrast)
            try:
                if kind in placed or work.no_place[kind] < _GIVE_UP_AFTER:
                    work.judged.append(judge_trial(predictor, trial, values, region, work.photos.twins[photo]))
                    placed.add(kind)
            except DataError:  # this photo has no room for it, or cannot show so strong a change
                work.no_place[kind] += 1
            done += 1
            on_defect(done, len(trials))


def _kinds(settings: ChallengeSettings) -> list[tuple[str, float]]:
    return [(kind, contrast) for kind in settings.defect_types for contrast in settings.contrasts]


def _of_kind(work: _Work, kind: str, contrast: float) -> list[TrialResult]:
    return [one for one in work.judged if (one.trial.defect_type, one.trial.contrast) == (kind, contrast)]


def _curve(work: _Work, kind: str, contrast: float, settings: ChallengeSettings) -> Curve:
    return {
        "defect_type": kind,
        "contrast": contrast,
        "no_place": work.no_place.get((kind, contrast), 0),
        **power_curve(_of_kind(work, kind, contrast), settings.confidence),
    }


def _suspicious(work: _Work) -> list[Suspicious]:
    """Photos given as good that the model flags as they are, the strangest first."""
    flagged = [
        (photo, twin) for photo, twin in zip(work.photos.samples, work.photos.twins, strict=True) if twin.is_anomalous
    ]
    flagged.sort(key=lambda pair: -pair[1].score)
    return [{"path": photo.name, "score": twin.score, "p_value": twin.p_value} for photo, twin in flagged]


def _row(work: _Work, one: TrialResult) -> DefectRow:
    return {
        "defect_type": one.trial.defect_type,
        "contrast": one.trial.contrast,
        "size_px": one.size_px,
        "photo": work.photos.samples[one.trial.photo].name,
        "outcome": one.outcome,
    }


def _is_too_much(results: Content) -> bool:
    """Whether more photos are flagged as they are than the promise allows, chance included."""
    flagged, photos = len(results["suspicious"]), results["data"]["photos"]
    return bool(flagged and rate_interval(flagged, photos).low > results["max_false_alarm_rate"])


def _show(
    predictor: Predictor, work: _Work, kind: str, contrast: float, settings: ChallengeSettings
) -> Mapping[str, Shown]:
    """The smallest defect found and the largest missed."""
    some = sorted(_of_kind(work, kind, contrast), key=lambda one: one.size_px)
    hits, misses = [one for one in some if one.is_hit], [one for one in some if one.outcome in ("miss", "elsewhere")]
    picked = {"smallest found": hits[:1], "largest missed": misses[-1:]}
    return {what: _shown(predictor, work, chosen[0], settings.anywhere) for what, chosen in picked.items() if chosen}


def _shown(predictor: Predictor, work: _Work, one: TrialResult, anywhere: bool) -> Shown:
    """The defect made again from its seed, and its anomaly map."""
    photo = work.photos.samples[one.trial.photo]
    values = read_values(photo.path, predictor.policy)
    size_px = (values.shape[0], values.shape[1])
    image, mask = with_defect(values, own_region(predictor.policy, values, anywhere), one.trial)
    return Shown(
        name=photo.name,
        size_px=one.size_px,
        outcome=one.outcome,
        image=as_rgb(as_pixels(image).transpose(2, 0, 1)),
        mask=mask,
        anomaly_map=resize_map(predictor.predict(image).scored_map, size_px),
    )


def _called(root: Path) -> str:
    """What the page calls a folder: a data set's own name stands before `test/good`."""
    parts = root.resolve().parts
    return "/".join(parts[-3:] if parts[-2:] in {(part, GOOD) for part in PARTS} else parts[-1:])
