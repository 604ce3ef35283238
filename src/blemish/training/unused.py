"""Settings that were set and decide nothing in a run, so that nobody waits for their effect."""

from blemish.models import DETECTORS, PRESETS
from blemish.settings import AugmentSettings, RunSettings, TrainSettings, merge, validate
from blemish.training.job import Job, flat_settings

_SIZES = ("data.side_px", "data.side", "data.speed")
_REGION = ("data.roi", "data.ignore")
_AUGMENT = tuple(f"augment.{name}" for name in AugmentSettings.model_fields if name != "images_of_one")
_STEPS = tuple(f"train.{name}" for name in TrainSettings.model_fields if name not in ("batch_size", "save_every_s"))


def unused_notes(job: Job, has_steps: bool) -> list[str]:
    """What is said of settings that decide nothing; `has_steps` is whether the detector learnt by gradient steps.

    A setting counts as set where it has another value than the detector, its presets and the general defaults give it.
    """
    settings, policy, known = job.settings, job.images.policy, _set(job.settings)
    data, is_cross = settings.data, settings.score.calibration == "cross"
    sizes: tuple[str, ...]
    if data.size_px is not None:
        sizes, by = _SIZES, "data.size_px says how large photos are seen"
    elif data.tile_px is not None:
        sizes, by = _SIZES, "with data.tile_px photos keep their own size"
    elif data.side_px is not None:
        sizes, by = ("data.speed",), "data.side_px says how large photos are seen"
    else:
        sizes = ("data.side",) if data.speed == "thorough" else ()
        by = "data.speed=thorough says how large photos are seen"
    rules = (
        (sizes, by),
        (("data.tile_overlap_px",) if data.tile_px is None else (), "data.tile_px is not set"),
        (("data.white_level",) if not job.images.readings.deep.count else (), "no photo has 16 bits"),
        (_REGION if policy.roi is not None and policy.roi.all() else (), "the photo is seen and judged whole"),
        (("data.calibration_fraction",) if is_cross else (), "score.calibration=cross holds every good image out once"),
        (("score.folds",) if not is_cross else (), "score.calibration is not cross"),
        (_AUGMENT if settings.augment.images_of_one == 1 else (), "augment.images_of_one is 1"),
        (_STEPS if not has_steps else (), f"{settings.detector} does not learn in steps"),
    )
    found = ((sorted(known.intersection(names)), why) for names, why in rules)
    return [f"{', '.join(some)}: set, but without effect, as {why}" for some, why in found if some]


def _set(settings: RunSettings) -> set[str]:
    """The names of settings with another value than the detector, its presets and the general defaults give them."""
    name, own = settings.detector, DETECTORS[settings.detector].defaults
    usual = ({}, own, *(merge(own, preset) for preset in PRESETS.values() if preset["detector"] == name))
    flats = [_flat(validate(RunSettings, merge(one, {"detector": name}))) for one in usual]
    return {key for key, value in _flat(settings).items() if all(flat.get(key) != value for flat in flats)}


def _flat(settings: RunSettings) -> dict[str, object]:
    return flat_settings(settings.model_dump(mode="json"))
