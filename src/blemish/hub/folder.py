"""What a folder with a pretrained encoder says of itself: configuration, pixels, licence, SHA-256 of the weights."""

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple, final

from pydantic import Field

from blemish.errors import SettingsError, reason
from blemish.settings import Settings, hash_file, read_regular

CONFIG, WEIGHTS, PREPROCESSOR, SOURCE = "config.json", "model.safetensors", "preprocessor_config.json", "blemish.json"

MAX_CONFIG_BYTES = 1 << 20
MAX_LICENCE_CHARS = 50_000
"""Of a licence's text, which every model file carries."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")

UNKNOWN = "unknown"
"""The licence of weights whose folder names none."""

Three = tuple[float, float, float]


@final
class EncoderCard(Settings):
    """The pretrained encoder of a model file: its name, the SHA-256 of its weights, and their licence."""

    name: str = Field(max_length=4096)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    licence: str = Field(max_length=200)
    licence_text: str = Field("", max_length=MAX_LICENCE_CHARS)


@final
class Pixels(NamedTuple):
    """What is taken from pixels in [0, 1], and what they are divided by."""

    mean: Three
    std: Three
    is_told: bool
    """Whether the folder says so; otherwise they are ImageNet's."""


def check_folder(folder: Path, name: str) -> None:
    """Refuse a folder in which there is no encoder in files that are read: a configuration and safetensors.

    Raises:
        SettingsError: with what is missing, and how it can be had.
    """
    if not folder.is_dir():
        raise SettingsError(f"model.encoder: {name}: no such folder")
    if not (folder / CONFIG).is_file():
        raise SettingsError(
            f"model.encoder: {name}: no {CONFIG} in the folder; it says what network the weights are of"
        )
    if (folder / WEIGHTS).is_file():
        return
    others = sorted(path.name for path in folder.iterdir())
    if pickled := [one for one in others if one.endswith(PICKLES)]:
        raise SettingsError(
            f"model.encoder: {name}: found {pickled[0]}, but no {WEIGHTS}; pickled weights can run any program and are "
            "never read: load them once where you trust them, and save them with save_pretrained"
        )
    if any(one.endswith(".safetensors.index.json") for one in others):
        raise SettingsError(f"model.encoder: {name}: weights in several files; one {WEIGHTS} is read")
    raise SettingsError(f"model.encoder: {name}: no {WEIGHTS} in the folder")


def read_json(path: Path, name: str) -> dict[str, Any]:
    """The object in a small JSON file; empty where there is no file.

    Raises:
        SettingsError: it is no JSON object, or too large.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(read_regular(path, MAX_CONFIG_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"model.encoder: {name}: {path.name} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError(f"model.encoder: {name}: {path.name} is no JSON object")
    return found


def write_json(path: Path, content: object) -> None:
    """Write a small JSON file beside the encoders, completely or not at all.

    Raises:
        SettingsError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise SettingsError(
            f"{path.parent}: cannot be written: {reason(error)}; or name another in BLEMISH_ENCODERS"
        ) from None


def read_pixels(folder: Path, name: str) -> Pixels:
    """Mean and deviation of the pixels that the encoder was trained with, for pixels in [0, 1].

    From `preprocessor_config.json`, or `pretrained_cfg` in timm's `config.json`; ImageNet's where there is neither.

    Raises:
        SettingsError: they are not three numbers each.
    """
    told, scale = read_json(folder / PREPROCESSOR, name), 1.0
    if told:
        try:  # of pixels up to 255, which may be left as they are
            is_rescaled = told.get("do_rescale") is not False
            scale = 255 * float(told.get("rescale_factor", 1 / 255) if is_rescaled else 1)
        except (TypeError, ValueError):
            scale = 0.0
        mean, std = told.get("image_mean", IMAGENET_MEAN), told.get("image_std", IMAGENET_STD)
        if told.get("do_normalize", True) is False:
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    else:
        told = read_json(folder / CONFIG, name).get("pretrained_cfg") or {}
        mean, std = told.get("mean", IMAGENET_MEAN), told.get("std", IMAGENET_STD)
    where = f"model.encoder: {name}: mean and deviation of its pixels"
    if not (_are_three(mean) and _are_three(std) and min(std) > 0 and scale > 0):
        raise SettingsError(f"{where}: expected three numbers each, deviations above 0, found {mean} and {std}")
    return Pixels(_scaled(mean, scale), _scaled(std, scale), is_told=bool(told))


def _are_three(values: Any) -> bool:
    is_list = isinstance(values, list | tuple) and len(values) == 3
    return is_list and all(isinstance(one, int | float) and abs(one) < 1e6 for one in values)


def _scaled(values: Any, scale: float) -> Three:
    first, second, third = (float(one) / scale for one in values)
    return first, second, third


def read_licence(folder: Path, name: str) -> tuple[str, str]:
    """The licence by the name that hubs give it, `unknown` where the folder does not say; and its text, or nothing.

    From what `fetch` noted, the model card (README.md), or the family: DINOv3 has a licence of its own.
    """
    noted = str(read_json(folder / SOURCE, name).get("licence", ""))
    family = str(read_json(folder / CONFIG, name).get("model_type", ""))
    if family.startswith("dinov3"):
        noted = "dinov3-license"
    text = ""
    for path in sorted(folder.glob("LICENSE*")) + sorted(folder.glob("LICENCE*")):
        if path.is_file():
            with path.open("rb") as file:
                text = file.read(4 * MAX_LICENCE_CHARS).decode("utf-8", errors="replace")[:MAX_LICENCE_CHARS]
            break
    return (noted or _licence_of_card(folder / "README.md") or UNKNOWN)[:200], text


def _licence_of_card(path: Path) -> str:
    """What the YAML head of a model card says.

    >>> import tempfile; card = Path(tempfile.mkdtemp()) / "README.md"
    >>> _ = card.write_text("---\\nlicense: other\\nlicense_name: dinov3-license\\n---\\n")
    >>> _licence_of_card(card)
    'dinov3-license'
    """
    try:
        with path.open("rb") as file:
            head = file.read(MAX_CONFIG_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    block = re.match(r"---\s*\n(.*?)\n---", head, re.DOTALL)
    if block is None:
        return ""
    fields = dict(re.findall(r"^(license|license_name):[ \t]*[\"']?([\w.+-]+)", block[1], re.MULTILINE))
    named = fields.get("license", "")
    return str(fields.get("license_name", named) if named == "other" else named).lower()


def hash_weights(folder: Path) -> str:
    """The SHA-256 of the weights' file."""
    return hash_file(folder / WEIGHTS)
