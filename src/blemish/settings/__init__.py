"""All settings of a run: frozen, typed, read from TOML, changed with `--set name=value`."""

from blemish.settings.base import LARGEST, Settings
from blemish.settings.files import MAX_TEXT_BYTES, as_path, hash_file, is_path, open_regular, read_regular, read_text
from blemish.settings.read import errors_in_file, merge, parse_assignment, read_toml
from blemish.settings.run import (
    FAST_SIDE_PX,
    LARGEST_IMAGE_PX,
    AugmentSettings,
    DataSettings,
    ImageSide,
    MaskValue,
    MaskValues,
    RunSettings,
    ScoreSettings,
    Side,
    TrainSettings,
)
from blemish.settings.validate import first_problem, shortened, validate

__all__ = [
    "FAST_SIDE_PX",
    "LARGEST",
    "LARGEST_IMAGE_PX",
    "MAX_TEXT_BYTES",
    "AugmentSettings",
    "DataSettings",
    "ImageSide",
    "MaskValue",
    "MaskValues",
    "RunSettings",
    "ScoreSettings",
    "Settings",
    "Side",
    "TrainSettings",
    "as_path",
    "errors_in_file",
    "first_problem",
    "hash_file",
    "is_path",
    "merge",
    "open_regular",
    "parse_assignment",
    "read_regular",
    "read_text",
    "read_toml",
    "shortened",
    "validate",
]
