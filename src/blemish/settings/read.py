"""Settings as a user gives them: a TOML file, and `--set name=value`."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blemish.errors import SettingsError
from blemish.settings.files import read_text
from blemish.settings.validate import shortened

_TOO_MUCH = "a number of thousands of digits, or brackets in hundreds of brackets; no setting takes such"


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
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text  # several lines are several settings, and none to be set so


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
