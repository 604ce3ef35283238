"""Pretrained networks whose feature maps the feature-space detectors work on.

An encoder is a module with `channels` and `strides` that turns images `(b, 3, h, w)` in [0, 1] into one map
`(b, channels[i], h / strides[i], w / strides[i])` a scale, finest first. Adding one is a class and a line in
`ENCODERS`; `model.encoder` then takes its name, which a model file keeps. Encoders of folders (`folder:PATH`,
`hf:NAME`, `timm:NAME`) need no line: a model file keeps what their network is, and its weights.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Annotated, Any, ClassVar, NamedTuple, Protocol, cast, final, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from blemish.errors import SettingsError, nearest
from blemish.hub.folder import CONFIG, read_json
from blemish.hub.store import Named, locate, parse_name
from blemish.models.efficientnet_lite import VARIANTS, EfficientNetLite, EfficientNetLiteDeep, Maps
from blemish.models.networks import EncoderSpec
from blemish.settings import Settings

MAX_LAYERS = 64
"""Of an encoder, which a detector may choose among."""

FINEST_STRIDE = 4
"""By rule, layers of a smaller stride are left out: hardly more than colours, on four times as many places."""

LAYERS_OF_TOKENS = 4
"""So many layers of a transformer whose maps all have one stride are taken by rule: evenly spaced, the last among them,
as DINOv2's authors take them for dense tasks (Oquab et al. 2023)."""


AT_ONCE_PX = 1 << 18
"""Pixels of a batch that an encoder sees at once on a processor. Memory for what it makes of more goes back to the
system after each layer, and to get it again takes as long as the convolutions."""


@runtime_checkable
class Encoder(Protocol):
    """A row of `ENCODERS`: an `nn.Module` that is built without arguments and without weights.

    `load_pretrained` fills it before a detector is fitted. A saved model brings the weights with it. A forward pass
    that yields its maps one by one saves the coarse ones where a detector wants only the finer.
    """

    @property
    def channels(self) -> Sequence[int]: ...
    @property
    def strides(self) -> Sequence[int]: ...

    def __call__(self, images: Tensor) -> Iterable[Tensor]: ...
    def load_pretrained(self) -> None: ...


ENCODERS: dict[str, Callable[[], Encoder]] = {
    **{name: partial(EfficientNetLite, variant) for name, variant in VARIANTS.items()},
    **{f"{name}_deep": partial(EfficientNetLiteDeep, variant) for name, variant in VARIANTS.items()},
}
"""The encoders that `model.encoder` takes by a plain name. `NAME_deep` is taken for `NAME` where coarser layers are
wanted than it has."""


class EncoderSettings(Settings):
    """The settings that all feature-space detectors share."""

    coarsest_stride: ClassVar[int] = 16
    """By rule, layers of a larger stride are left out."""

    encoder: Annotated[str, Field(max_length=4096)] = Field(
        "efficientnet_lite0",
        description="Pretrained network: efficientnet_lite0, efficientnet_lite1 or efficientnet_lite2; folder:PATH, "
        "hf:NAME or timm:NAME. See docs/howto/encoders.md.",
    )
    encoder_layers: tuple[Annotated[int, Field(ge=1, le=MAX_LAYERS)], ...] | None = Field(
        None,
        description="Which of its maps, counted from 1: stages of a convolutional network, finest first, or blocks of "
        "a transformer. None: by rule.",
    )
    encoder_spec: EncoderSpec | None = Field(
        None,
        description="Network and weights of an encoder from a folder. Written by training, so that a model file needs "
        "no folder; do not set it.",
    )

    @property
    def side_multiple(self) -> int:
        """What height and width of images must be multiples of for all maps to be grids of strides.

        >>> EncoderSettings().side_multiple, EncoderSettings(encoder="efficientnet_lite2_deep").side_multiple
        (16, 32)
        """
        return max(choose(self).strides)

    def layers_of_tokens(self, count: int) -> tuple[int, ...]:
        """By rule, of a transformer with so many blocks, whose maps all have one stride; counted from 1."""
        few = min(LAYERS_OF_TOKENS, count)
        return tuple(round(count * place / few) for place in range(1, few + 1))

    @field_validator("encoder_layers")
    @classmethod
    def _rising(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and (not layers or list(layers) != sorted(set(layers))):
            raise PydanticCustomError("rising", "at least one layer, in rising order, e.g. [2, 3]")
        return layers


class Choice(NamedTuple):
    """Which maps of which encoder: what is known of it before it is built."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    places: tuple[int, ...]
    """Of these maps among those that the encoder gives, from 0."""
    build: Callable[[], Encoder]


def choose(settings: EncoderSettings) -> Choice:
    """The encoder and the layers that settings ask for.

    Raises:
        SettingsError: an unknown name, or layers that it does not have.
    """
    if (named := parse_name(settings.encoder)) is not None:
        return _choose_of_folder(settings, named)
    build = _row(settings)
    channels, strides = _maps_of(build)
    layers = range(1, len(strides) + 1) if settings.encoder_layers is None else choose_layers(strides, settings)
    places = tuple(layer - 1 for layer in layers)
    return Choice(tuple(channels[i] for i in places), tuple(strides[i] for i in places), places, build)


@cache
def _maps_of(build: Callable[[], Encoder]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of an encoder's maps; it is built without memory for that."""
    with torch.device("meta"):
        specimen = build()
    return tuple(specimen.channels), tuple(specimen.strides)


def _choose_of_folder(settings: EncoderSettings, named: Named) -> Choice:
    """As `choose`; the folder is read only where the settings do not hold what it holds."""
    spec = settings.encoder_spec or read_folder_spec(settings.encoder, named)
    layers = choose_layers(spec.network.strides, settings)
    channels, strides = (
        tuple(each[layer - 1] for layer in layers) for each in (spec.network.channels, spec.network.strides)
    )

    def build() -> Encoder:
        if spec.network.family == "timm":
            from blemish.models.timm_encoder import TimmEncoder

            return TimmEncoder(spec, layers, settings.encoder)
        from blemish.models.transformers_encoder import TransformersEncoder

        return TransformersEncoder(spec, layers, settings.encoder)

    return Choice(channels, strides, tuple(range(len(layers))), build)


def read_folder_spec(text: str, named: Named) -> EncoderSpec:
    """What the folder of an encoder holds; `text` is its name with the kind.

    Raises:
        SettingsError: it is not on this machine, or holds no encoder that is known.
    """
    folder = locate(named, text)
    if "architecture" in read_json(folder / CONFIG, text):  # as timm writes it
        from blemish.models import timm_encoder

        return timm_encoder.read_spec(text, folder)
    from blemish.models import transformers_encoder

    return transformers_encoder.read_spec(text, folder)


def _row(settings: EncoderSettings) -> Callable[[], Encoder]:
    name, deep = settings.encoder, f"{settings.encoder}_deep"
    if name not in ENCODERS:
        raise SettingsError(
            f"model.encoder: unknown encoder '{name}' (one of your own must be in blemish.models.encoders.ENCODERS "
            f"before a model with it is trained or loaded); {nearest(name, ENCODERS)}"
        )
    coarse = settings.coarsest_stride > max(EfficientNetLite.strides)
    wants_deep = coarse if settings.encoder_layers is None else max(settings.encoder_layers) > 3
    return ENCODERS[deep if wants_deep and deep in ENCODERS else name]


def choose_layers(strides: Sequence[int], settings: EncoderSettings) -> tuple[int, ...]:
    """The layers that settings ask for, or by rule, of an encoder whose layers have these strides; counted from 1.

    By rule: all of a stride from `FINEST_STRIDE` to `coarsest_stride`, at least two; of layers that all have one stride
    `layers_of_tokens`.

    Raises:
        SettingsError: layers that it does not have.

    >>> choose_layers((4, 8, 16, 32), EncoderSettings()), choose_layers((2, 4, 8, 16, 32), EncoderSettings())
    ((1, 2, 3), (2, 3, 4))
    >>> choose_layers((14,) * 12, EncoderSettings())
    (3, 6, 9, 12)
    """
    layers, count = settings.encoder_layers, len(strides)
    if layers is None and count > 1 and len(set(strides)) == 1:
        return settings.layers_of_tokens(count)
    if layers is None:
        fine = [layer for layer, stride in enumerate(strides, start=1) if stride >= FINEST_STRIDE]
        layers = tuple(fine if len(fine) >= 2 else range(1, count + 1))
        return layers[:2] + tuple(layer for layer in layers[2:] if strides[layer - 1] <= settings.coarsest_stride)
    if layers[-1] > count:
        raise SettingsError(f"model.encoder_layers: {layers[-1]} of '{settings.encoder}', which has 1 to {count}")
    return layers


@final
class FrozenEncoder(nn.Module):
    """An encoder that never learns: no gradients, always in evaluation mode, grey images as three equal channels.

    Its weights come with `prepare` or from a saved state, so that restoring a detector needs no package of weights.
    Transformers see images of the heights and widths `sizes_px` alone.

    Raises:
        SettingsError: a name that is not in `ENCODERS`, or layers that it does not have.

    >>> frozen = FrozenEncoder(EncoderSettings()).train()
    >>> frozen.encoder.training, any(weight.requires_grad for weight in frozen.parameters())
    (False, False)
    """

    def __init__(self, settings: EncoderSettings, *sizes_px: tuple[int, int]) -> None:
        super().__init__()
        choice = choose(settings)
        self.channels, self.strides, self._places = choice.channels, choice.strides, choice.places
        self.encoder = cast(Any, choice.build()).requires_grad_(False).eval()
        self.fix_sizes(*sizes_px)

    def fix_sizes(self, *sizes_px: tuple[int, int]) -> None:
        """Tell heights and widths of the images to come; a transformer interpolates its positions for them once."""
        if hasattr(self.encoder, "fix_sizes"):
            self.encoder.fix_sizes(*sizes_px)

    def check_several(self, detector: str) -> None:
        """Refuse a single scale, for a detector that sets scales against each other.

        Raises:
            SettingsError: there is but one.
        """
        if len(self.strides) < 2:
            raise SettingsError(f"model.encoder_layers: {detector} needs at least two layers, found one")

    @property
    def patch_stride(self) -> int:
        """Pixels from one patch to the next where all scales are laid on the second finest; see `concat_scales`."""
        return self.strides[min(1, len(self.strides) - 1)]

    def prepare(self) -> None:
        """Load the pretrained weights.

        Raises:
            ArtifactError: when the package of weights is missing or its file is not the one we know.
        """
        self.encoder.load_pretrained()

    def train(self, mode: bool = True) -> "FrozenEncoder":
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Float[Tensor, "b c h w"], scales: int | None = None) -> Maps:
        """The maps of all scales, or of so many, finest first."""
        wanted = self._places[:scales]
        if images.device.type != "cpu" or torch.compiler.is_compiling():
            return self._some(images, wanted)
        few = max(1, AT_ONCE_PX // (images.shape[2] * images.shape[3]))
        parts = [self._some(part, wanted) for part in torch.split(images, few)]
        return parts[0] if len(parts) == 1 else tuple(torch.cat(scale) for scale in zip(*parts, strict=True))

    def _some(self, images: Float[Tensor, "b c h w"], wanted: tuple[int, ...]) -> Maps:
        colours = images.expand(-1, 3, -1, -1)
        maps = self.encoder(colours.contiguous(memory_format=torch.channels_last))  # a third faster on CPUs
        return tuple(found for place, found in zip(range(wanted[-1] + 1), maps, strict=False) if place in wanted)
