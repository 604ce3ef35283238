"""Licences of pretrained weights: what is known of them, and which must be accepted before the weights are used."""

import json
import time
from pathlib import Path
from typing import NamedTuple, final

from blemish.errors import SettingsError
from blemish.hub.folder import write_json


@final
class Licence(NamedTuple):
    """What is known of a licence. `caution` is what whoever uses the weights is told; empty where nothing."""

    title: str
    url: str
    caution: str = ""
    must_be_accepted: bool = False


LICENCES: dict[str, Licence] = {
    "apache-2.0": Licence("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "mit": Licence("MIT License", "https://opensource.org/license/mit"),
    "bsd-3-clause": Licence("BSD 3-Clause License", "https://opensource.org/license/bsd-3-clause"),
    "cc-by-4.0": Licence("Creative Commons Attribution 4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "cc-by-nc-4.0": Licence(
        "Creative Commons Attribution-NonCommercial 4.0",
        "https://creativecommons.org/licenses/by-nc/4.0/",
        "not for commercial use, and a model file holds these weights",
    ),
    "dinov3-license": Licence(
        "DINOv3 License",
        "https://ai.meta.com/resources/models-and-libraries/dinov3-license/",
        "a licence of its own, which goes with every model file and export",
        must_be_accepted=True,
    ),
}
"""By the names that model hubs give them."""


def caution(licence: str) -> str:
    """What whoever uses weights of this licence is told; empty where nothing."""
    if licence in LICENCES:
        return LICENCES[licence].caution
    return (
        f"its licence is {licence}, which is not known here; a model file holds its weights: find out whether they may "
        "be used and passed on"
    )


def accept(licence: str, home: Path) -> None:
    """Note that the user accepts a licence.

    Raises:
        SettingsError: no licence that must be accepted; the note cannot be written.
    """
    wanted = [name for name, one in LICENCES.items() if one.must_be_accepted]
    if licence not in wanted:
        raise SettingsError(f"licence '{licence}': none that must be accepted; those are: {', '.join(wanted)}")
    accepted = {**_accepted(home), licence: time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_json(home / "accepted.json", accepted)


def check_accepted(licence: str, name: str, home: Path) -> None:
    """Refuse weights whose licence must be accepted first.

    Raises:
        SettingsError: it has not been accepted on this machine; with where to read it, and the command.
    """
    known = LICENCES.get(licence)
    if known is None or not known.must_be_accepted or licence in _accepted(home):
        return
    raise SettingsError(
        f"{name}: its licence ({known.title}) must be accepted once; read {known.url}, then: "
        f"blemish encoders accept {licence}"
    )


def _accepted(home: Path) -> dict[str, str]:
    try:
        found = json.loads((home / "accepted.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
