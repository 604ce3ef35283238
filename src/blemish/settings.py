"""All settings of a run: frozen, typed, read from TOML, changed with `--set name=value`.

A detector brings settings of its own (`model.*`); they are defined beside it, in its file.
"""

import errno
import json
import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from blemish.errors import BlemishError, SettingsError, nearest

SMALLEST, LARGEST = 1e-12, 1e12
"""Of the sizes of numbers in settings, but for 0."""

LARGEST_NETWORK_PX = 4096 * 4096
"""What a network sees at once, an image or a tile."""

FAST_SIDE_PX = 256
"""One side of what a network sees with `data.speed=fast`."""

MAX_TEXT_BYTES = 10_000_000
"""Of a file of settings or of groups."""

MAX_SHOWN = 200
"""Characters of a value that a message shows."""

_TOO_MUCH = "a number of thousands of digits, or brackets in hundreds of brackets; no setting takes such"

LARGEST_IMAGE_PX = 178_956_970
"""Pillow's own hard limit against decompression bombs; `data.max_image_px` cannot be set above it."""


class Settings(BaseModel):
    """The base of all settings: immutable, and no name that is not defined.

    A truth value is no number. Numbers are 0, or between 1e-12 and 1e12 in size: what lies outside serves no setting,
    and its square, inverse or logarithm leaves the range of floats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: object, info: ValidationInfo) -> object:
        annotation = cls.model_fields[info.field_name or ""].annotation
        return _plain_value(value, bool in (annotation, *get_args(annotation)))


def _plain_value(value: object, may_be_bool: bool) -> object:
    match value:
        case bool():
            return value if may_be_bool else str(value).lower()  # which is then refused as text is
        case int() | float() if not (value == 0 or value != value or SMALLEST <= abs(value) <= LARGEST):
            raise PydanticCustomError("size", f"0, or between {SMALLEST:g} and {LARGEST:g} in size")
        case list() | tuple():
            return [_plain_value(part, may_be_bool) for part in value]
    return value


Side = Annotated[int, Field(ge=8, le=16_384)]
ImageSide = Annotated[int, Field(ge=8, le=100_000)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Level = Annotated[int, Field(ge=0, le=255)]


MaskValue = Annotated[int, Field(ge=0, le=65_535)] | tuple[Level, Level, Level] | None
"""The value, or the colour, that marks a defective pixel in a mask; None: every value above 0."""


class DataSettings(Settings):
    """How images become arrays, and how the good ones are split."""

    size_px: tuple[ImageSide, ImageSide] | None = Field(
        None, description="Height and width the network sees. None: from the images, their aspect kept."
    )
    fit: Literal["stretch", "pad"] = Field(
        "stretch",
        description="How images of another aspect than size_px get there. pad: the aspect is kept, and border pixels "
        "are repeated beside the image, where nothing counts, so that aspects may differ. stretch: they may differ by "
        "5 %, or at will where size_px is set.",
    )
    side_px: Side | None = Field(
        None, description="One side where size_px is None; the other keeps the images' aspect. None: see speed."
    )
    side: Literal["longer", "shorter"] = Field(
        "longer", description="Which side has side_px. shorter: the longer one is at most four times as long."
    )
    speed: Literal["fast", "thorough"] = Field(
        "fast",
        description="How large images are seen where size_px, side_px and tile_px are None. fast: one side 256 px. "
        "thorough: the shorter side as the images have it, from 256 to 512 px, the area at most that of 512 x 768 px; "
        "finds smaller defects, takes up to four times as long.",
    )
    channels: Literal[1, 3] | None = Field(None, description="1 is grey, 3 is colour. None: as the images.")
    white_level: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        None, description="The value of white in 16-bit images, e.g. 4095 for 12-bit cameras. None: 65535."
    )
    max_image_px: Annotated[int, Field(ge=64, le=LARGEST_IMAGE_PX)] = Field(
        100_000_000, description="Refuse images of more pixels than this (decompression bombs)."
    )
    roi: str | tuple[tuple[float, float], ...] | None = Field(
        None,
        description="Region of interest: a mask image (inside where above 0), or a polygon [[x, y], ...] in shares of "
        "width and height. Pixels outside are never fitted, scored or flagged. None: the whole image.",
    )
    tile_px: tuple[Side, Side] | None = Field(
        None,
        description="Height and width of tiles, for images too large for one pass. Without size_px the images then "
        "keep their own size. None: in one piece.",
    )
    tile_overlap_px: Annotated[int, Field(ge=0)] = Field(
        64, description="How far neighbouring tiles overlap; their maps fade into each other there."
    )
    mask_value: MaskValue = Field(
        None,
        description="What marks a defective pixel in the masks of ground_truth: a grey value or palette index, or a "
        "colour [r, g, b]. None: every value above 0, and a mask that marks nearly everything is refused.",
    )
    skip_bad: bool = Field(False, description="Leave out unreadable images, and count them, instead of stopping.")
    calibration_fraction: Annotated[float, Field(ge=0.001, le=0.999)] | None = Field(
        None,
        description="Share of the good images held out of fitting, for the threshold. None: 0.2, rounded to a number "
        "that the threshold makes full use of, at 5 % 19, 39, 59 and so on, where two thirds are left to fit.",
    )
    groups: str | None = Field(
        None,
        description="Images that belong together, such as several photos of one part: a regular expression with one "
        "group in brackets, found in the image's name, or a CSV file with the columns image and group. None: each "
        "image is on its own.",
    )

    @model_validator(mode="after")
    def _fits_the_memory(self) -> Self:
        side_px = self.side_px or FAST_SIDE_PX
        height, width = self.tile_px or self.size_px or (side_px, side_px)
        if height * width > LARGEST_NETWORK_PX:
            name = "tile_px" if self.tile_px else "size_px" if self.size_px else "side_px"
            raise PydanticCustomError(
                "refused",
                f"data.{name}: {height} x {width} in one piece takes more memory than machines have; the limit is "
                f"{LARGEST_NETWORK_PX} pixels: set data.tile_px, or smaller tiles",
            )
        return self


class AugmentSettings(Settings):
    """Changes that keep a good image good, after the seed paper, section 3.2."""

    images_of_one: Annotated[int, Field(ge=1, le=100)] = Field(
        5, description="How many images an epoch makes of each good one, itself included. 1: none but itself."
    )
    rotation_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = Field(
        180.0, description="Rotate by up to this angle, either way."
    )
    flip_horizontal: bool = Field(True, description="Mirror left and right, half of the time.")
    flip_vertical: bool = Field(True, description="Mirror top and bottom, half of the time.")
    noise_std: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.02, description="Standard deviation of added Gaussian noise; 1 is the full range."
    )


class TrainSettings(Settings):
    """The gradient loop."""

    epochs: Annotated[int, Field(ge=1)] = Field(60, description="Passes over the (augmented) good images.")
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        800, description="Stop after this many steps, if earlier. None: never."
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(16, description="Images a step.")
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(1e-3, description="Peak learning rate of Adam.")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(0.0, description="Decoupled weight decay (AdamW).")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Adam's two decay rates.")
    schedule: Literal["constant", "one_cycle"] = Field("constant", description="Learning rate over the steps.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor computes in it, else float32."
    )
    channels_last: bool = Field(True, description="Memory layout that convolutions are fastest in.")
    compile: bool = Field(False, description="torch.compile: pays for itself in long runs only; needs a C++ compiler.")
    save_every_s: Annotated[float, Field(ge=0.0)] = Field(
        60.0, description="Write the state to resume from this often."
    )


class ScoreSettings(Settings):
    """From a map to a decision."""

    min_defect_px: Annotated[int, Field(ge=1, le=255)] = Field(
        1, description="Nothing smaller than this many pixels square can raise an alarm (grey-scale opening)."
    )
    max_false_alarm_rate: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None,
        description="Share of good images that may be flagged. None: 0.05, or the smallest that the good images can "
        "promise where they are too few for that.",
    )
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="How surely this threshold keeps that rate, e.g. 0.95. None: it is kept on average."
    )
    calibration: Literal["held_out", "cross"] = Field(
        "held_out",
        description="cross: every good image is held out once, fold by fold; as many detectors are fitted and judge "
        "together, and an image is flagged when all of them would.",
    )
    folds: Annotated[int, Field(ge=2)] = Field(
        10,
        description="Folds of calibration=cross. k folds of n images promise 1 / (k + 1) or 2 k / (n + k) "
        "at the least, whichever is smaller.",
    )


class RunSettings(Settings):
    """Everything that decides what a training run gives."""

    detector: str = Field("feature_ensemble", description="Which detector, by its name in DETECTORS.")
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(0, description="Makes a run repeatable.")
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    score: ScoreSettings = ScoreSettings()
    model: dict[str, JsonValue] = Field(default_factory=dict, description="The detector's own settings.")


S = TypeVar("S", bound=Settings)


def validate(kind: type[S], values: Mapping[str, Any], prefix: str = "") -> S:
    """Settings of `kind` from nested `values`.

    Raises:
        SettingsError: naming the first setting at fault, what was found and what would do; unknown names
            come with the nearest known one.

    >>> validate(TrainSettings, {"epoch": 3}, prefix="train.")
    Traceback (most recent call last):
    blemish.errors.SettingsError: train.epoch: unknown setting; did you mean 'epochs'?
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_message_of(kind, error, prefix)) from None


def _message_of(kind: type[BaseModel], error: ValidationError, prefix: str) -> str:
    """What is wrong with the first setting at fault, without the words of the library that found it."""
    found = error.errors()
    first, where = found[0], _where(found[0])
    if first["type"] == "refused":
        return first["msg"]
    if first["type"] == "extra_forbidden":
        known = _fields_at(kind, first["loc"][:-1])
        where = ".".join(map(str, first["loc"]))
        return f"{prefix}{shortened(where)}: unknown setting; {nearest(str(first['loc'][-1]), known)}"
    expected = dict.fromkeys(_expected(one) for one in found if _where(one) == where)
    return f"{prefix}{where}: should be {' or '.join(expected)}; found {shortened(repr(first['input']))}"


def _where(error: ErrorDetails) -> str:
    """The setting's name and the place in a list, but not which of several kinds was tried, nor what is missing."""
    names = [part for part in error["loc"] if isinstance(part, int) or (part != "str" and "[" not in part)]
    if error["type"] == "missing" or len(names) < len(error["loc"]):
        names = [part for part in names if isinstance(part, str)]
    return ".".join(map(str, names))


def shortened(text: str) -> str:
    """What a message shows of a value.

    >>> shortened("9" * 6000)
    '99999999999999999999... (6000 characters)'
    """
    return text if len(text) <= MAX_SHOWN else f"{text[:20]}... ({len(text)} characters)"


_EXPECTED = {
    "tuple": "two numbers in brackets with a comma between",
    "too": "two numbers in brackets with a comma between",  # too_long, too_short
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "model": "settings with names of their own after a dot",
}
"""By the first word of what pydantic calls the error."""


def _expected(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return _EXPECTED["tuple"] if isinstance(error["loc"][-1], int) else "given"
    return _EXPECTED.get(error["type"].partition("_")[0], error["msg"].removeprefix("Input should be "))


def _fields_at(kind: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    for part in path:
        annotation = kind.model_fields[str(part)].annotation
        kind = next(
            option
            for option in (annotation, *get_args(annotation))
            if isinstance(option, type) and issubclass(option, BaseModel)
        )
    return list(kind.model_fields)


def open_regular(path: Path) -> BinaryIO:
    """A file opened to read its bytes. Never waits, as opening a pipe would.

    Raises:
        OSError: it cannot be opened, or is a device, a pipe or a folder.
    """
    file = open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)), "rb")  # noqa: PTH123, SIM115
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISREG(mode):
        return file
    file.close()
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file")
    raise OSError(errno.ENODEV, "a device or a pipe, not a file")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a file of at most so many bytes.

    Raises:
        OSError: as `open_regular`, or the file is longer.
    """
    with open_regular(path) as file:
        if (length := os.fstat(file.fileno()).st_size) > max_bytes:
            raise OSError(errno.EFBIG, f"{length >> 20} MiB, at most {max_bytes >> 20} MiB are read")
        return file.read(max_bytes)


def read_toml(path: Path) -> dict[str, Any]:
    """The nested values of a TOML file.

    Raises:
        SettingsError: when the file is missing, is not text, or is not TOML.
    """
    text = read_text(path, "the settings file", SettingsError)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"{path}: {_TOO_MUCH}") from None


def read_text(path: Path, what: str, error: type[BlemishError]) -> str:
    """The text of a small file; `what` it is, for the error.

    Raises:
        error: it is missing, is a device or a pipe, which may never end, is too large, or is not UTF-8.
    """
    try:
        if not path.is_file() and path.exists():
            kind = "a folder" if path.is_dir() else "a device or a pipe"
            raise error(f"{path}: cannot read {what}: {kind}; give the name of a file")
        with path.open("rb") as file:
            content = file.read(MAX_TEXT_BYTES + 1)
    except OSError as found:
        raise error(f"{path}: cannot read {what}: {found.strerror}") from None
    if len(content) > MAX_TEXT_BYTES:
        raise error(f"{path}: cannot read {what}: larger than {MAX_TEXT_BYTES // 1_000_000} MB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as found:
        raise error(f"{path}: cannot read {what}: not UTF-8 text ({found.reason} at byte {found.start})") from None


@contextmanager
def errors_in_file(path: Path) -> Iterator[None]:
    """Settings that are refused inside are said to stand in this file."""
    try:
        yield
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def parse_assignment(text: str) -> dict[str, Any]:
    """One `--set` as nested values. The value is JSON or TOML where it reads as such, else a plain string.

    >>> parse_assignment("data.size_px=[256, 512]")
    {'data': {'size_px': [256, 512]}}
    >>> parse_assignment("model.loss=ssim")
    {'model': {'loss': 'ssim'}}
    >>> parse_assignment("seed")
    Traceback (most recent call last):
    blemish.errors.SettingsError: --set seed: write it as name=value, e.g. --set train.epochs=100
    """
    name, equals, value = text.partition("=")
    names = [part.strip() for part in name.split(".")]
    if not equals or not all(names):
        raise SettingsError(f"--set {shortened(text)}: write it as name=value, e.g. --set train.epochs=100")
    try:
        nested: Any = _parse_value(value.strip())
    except (ValueError, RecursionError):
        raise SettingsError(f"--set {name}: {_TOO_MUCH}") from None
    for part in reversed(names):
        nested = {part: nested}
    return nested  # type: ignore[no-any-return]


def _parse_value(text: str) -> Any:
    if text in ("None", "none", "null"):
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        pass
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def merge(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of all layers; a later layer wins, setting by setting.

    >>> merge({"train": {"epochs": 1, "batch_size": 8}}, {"train": {"epochs": 2}})
    {'train': {'epochs': 2, 'batch_size': 8}}
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = merge(merged[name], value) if both else value
    return merged
