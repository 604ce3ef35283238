"""The encoder of a run, pinned before training: what a model file keeps of it, and what whoever trains is told."""

from importlib import metadata
from typing import Any, NamedTuple, final

from blemish.errors import SettingsError
from blemish.hub.folder import EncoderCard, read_licence, read_pixels
from blemish.hub.licences import LICENCES, caution, check_accepted
from blemish.hub.store import Named, home, locate, parse_name
from blemish.models.efficientnet_lite import VARIANTS, Variant, weights_file
from blemish.models.encoders import EncoderSettings, choose, read_folder_spec

PACKAGED_LICENCE = "apache-2.0"


@final
class Pinned(NamedTuple):
    """The settings `model.*` with what the encoder is, its card, and what must be said of it."""

    model: dict[str, Any]
    card: EncoderCard | None = None
    """None where there is no encoder, or one of the user's own in `ENCODERS`."""
    notes: tuple[str, ...] = ()


def pin_encoder(settings: Any) -> Pinned:
    """What the settings `model.*` of a detector, validated, become before training.

    Raises:
        SettingsError: the encoder is not on this machine, is none that is known, its licence has not been accepted, or
            it is not the one that the settings describe.
        ArtifactError: the package that brings it is missing, or is another.
    """
    model = settings.model_dump(mode="json")
    if not isinstance(settings, EncoderSettings):
        return Pinned(model)
    named = parse_name(settings.encoder)
    if named is not None:
        return _pin_folder(settings, named, model)
    choose(settings)
    variant = VARIANTS.get(settings.encoder.removesuffix("_deep"))
    return Pinned(model, None if variant is None else _packaged_card(settings.encoder, variant))


def _pin_folder(settings: EncoderSettings, named: Named, model: dict[str, Any]) -> Pinned:
    name = settings.encoder
    folder = locate(named, name)
    licence, text = read_licence(folder, name)
    check_accepted(licence, f"model.encoder: {name}", home())
    spec = read_folder_spec(name, named)
    if settings.encoder_spec not in (None, spec):
        raise SettingsError(
            f"model.encoder_spec: another encoder than {name} holds; it is written by training, leave it out"
        )
    notes = [f"encoder {name}: {told}" for told in [caution(licence)] if told]
    if not read_pixels(folder, name).is_told:
        notes.append(
            f"encoder {name}: its folder does not say how pixels are scaled; ImageNet's mean and deviation are taken"
        )
    called = f"folder:{folder.resolve().name}" if named.kind == "folder" else name
    card = EncoderCard(name=called, sha256=spec.sha256, licence=licence, licence_text=text or _title(licence))
    return Pinned({**model, "encoder_spec": spec.model_dump(mode="json")}, card, tuple(notes))


def _packaged_card(name: str, variant: Variant) -> EncoderCard:
    weights_file(variant)
    try:
        text = metadata.distribution(variant.distribution).read_text("LICENSE") or ""
    except metadata.PackageNotFoundError:
        text = ""
    return EncoderCard(
        name=name, sha256=variant.sha256, licence=PACKAGED_LICENCE, licence_text=text or _title(PACKAGED_LICENCE)
    )


def _title(licence: str) -> str:
    known = LICENCES.get(licence)
    return "" if known is None else f"{known.title}\n{known.url}\n"
