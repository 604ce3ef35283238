"""Where encoders lie on this machine: one folder an encoder, below one folder of all of them."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, final

from blemish.errors import SettingsError
from blemish.hub.folder import CONFIG, check_folder

VARIABLE = "BLEMISH_ENCODERS"
"""The environment variable that names the folder of all encoders."""

KINDS = ("hf", "timm", "folder")
"""What may stand before the colon in `model.encoder`."""

ALIASES = {
    "wide_resnet50_2": "timm:wide_resnet50_2.racm_in1k",
    "resnet18": "timm:resnet18.a1_in1k",
    "resnet50": "timm:resnet50.a1_in1k",
    "dinov2reg_vit_base_14": "hf:facebook/dinov2-with-registers-base",
}
"""Names that anomalib has for its backbones, and the same weights here: timm's first tag of each, as it takes them."""

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


@final
class Named(NamedTuple):
    """An encoder that lies in a folder: its kind, and its name or path."""

    kind: str
    name: str


def home() -> Path:
    """The folder of all encoders that were fetched."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else Path.home() / ".cache" / "blemish" / "encoders"


def parse_name(text: str) -> Named | None:
    """What stands before and after the colon, also of a name in `ALIASES`; None for another plain name.

    Raises:
        SettingsError: another kind, or a name that hubs do not have.

    >>> parse_name("hf:facebook/dinov2-small"), parse_name("efficientnet_lite0")
    (Named(kind='hf', name='facebook/dinov2-small'), None)
    >>> parse_name("resnet18")
    Named(kind='timm', name='resnet18.a1_in1k')
    """
    text = ALIASES.get(text, text)
    kind, colon, name = text.partition(":")
    if not colon:
        return None
    if kind not in KINDS:
        raise SettingsError(f"model.encoder: '{kind}:' is none of {', '.join(f'{one}:' for one in KINDS)}")
    if kind == "folder":
        if not name.strip() or "\0" in name:
            raise SettingsError("model.encoder: name the folder after folder:, e.g. folder:/srv/encoders/dinov2-small")
    elif not _REPOSITORY.fullmatch(name) or ".." in name:
        raise SettingsError(f"model.encoder: {kind}: is followed by a name like facebook/dinov2-small, found '{name}'")
    return Named(kind, name)


def place_of(named: Named) -> Path:
    """The folder where an encoder lies, or would lie."""
    return (
        Path(named.name).expanduser() if named.kind == "folder" else home() / named.kind / named.name.replace("/", "--")
    )


def locate(named: Named, text: str) -> Path:
    """The folder of an encoder that is on this machine; `text` is its name with the kind.

    Raises:
        SettingsError: it is not there, with how to get it; or the folder holds no encoder.
    """
    place = place_of(named)
    if named.kind != "folder" and not place.is_dir():
        raise SettingsError(
            f"model.encoder: {text} is not on this machine; get it with: blemish encoders fetch {text}; where there is "
            f"no internet, fetch it elsewhere, carry the folder over, and name it: model.encoder=folder:PATH "
            f"(or put it at {place})"
        )
    check_folder(place, text)
    return place


def fetched() -> Iterator[tuple[str, Path]]:
    """The encoders that were fetched, with their names for `model.encoder`."""
    for kind in ("hf", "timm"):
        for path in sorted((home() / kind).glob("*")):
            if (path / CONFIG).is_file() and not path.name.endswith(".part"):
                yield f"{kind}:{path.name.replace('--', '/', 1)}", path
