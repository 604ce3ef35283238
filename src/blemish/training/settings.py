"""All settings of a run, from the detector, a preset, a file and the command line."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from blemish.errors import SettingsError
from blemish.models import DETECTORS, settings_of_name
from blemish.settings import (
    RunSettings,
    as_path,
    errors_in_file,
    merge,
    parse_assignment,
    read_toml,
    shortened,
    validate,
)


def make_settings(
    detector: str | None = None, toml: Path | str | None = None, assignments: Iterable[str] = ()
) -> RunSettings:
    """All settings of a run. Later wins: general defaults, the detector's, the preset's, the detector's for tiles where
    there are any, the file's, the assignments'.

    `detector` is a detector's or a preset's name; `assignments` are like `train.epochs=100`.

    Raises:
        SettingsError: an unknown detector, preset or setting, with the nearest known name; a value out of range; two
            different detectors.

    >>> make_settings("paper", assignments=["train.epochs=3"]).train.epochs
    3
    """
    if isinstance(assignments, str):
        raise SettingsError(f"assignments: found the text {shortened(assignments)}; put it into a list")
    if not isinstance(assignments, Iterable):
        raise SettingsError(f"assignments: found {assignments!r:.60}; give a list of texts")
    texts = tuple(assignments)  # of what can be gone through once, too
    if isinstance(assignments, Mapping) or not all(isinstance(text, str) for text in texts):
        raise SettingsError("assignments: found names with values; give a list of texts, such as ['train.epochs=100']")
    toml = as_path(toml, "toml") if toml else None
    assigned = merge(*(parse_assignment(text) for text in texts))
    asked = merge(read_toml(toml) if toml else {}, assigned)
    if detector and assigned.get("detector", detector) != detector:
        raise SettingsError(
            f"detector: found {shortened(str(assigned['detector']))} (--set) and {detector}; "
            "give it once, best by --detector"
        )
    name = detector or asked.get("detector", RunSettings.model_fields["detector"].default)
    preset = settings_of_name(str(name))
    kind = DETECTORS[preset["detector"]]
    if toml and (alone := read_toml(toml)):
        with errors_in_file(toml):
            validate(RunSettings, merge(kind.defaults, preset, alone, {"detector": preset["detector"]}))
    settings = validate(RunSettings, merge(kind.defaults, preset, asked, {"detector": preset["detector"]}))
    if settings.data.tile_px is not None:
        usual = merge(kind.defaults, preset, kind.defaults_in_tiles)
        settings = validate(RunSettings, merge(usual, asked, {"detector": preset["detector"]}))
    model = validate(kind.Settings, settings.model, prefix="model.")
    return settings.model_copy(update={"model": model.model_dump(mode="json")})
