"""ReverseDistillation: where a decoder cannot give back, from a narrow embedding, what a pretrained network saw."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import SettingsError
from blemish.models.detector import Batches, Detector, ImageShape, Optimise
from blemish.models.encoders import EncoderSettings, FrozenEncoder
from blemish.models.feature_maps import FeatureBatches, cosine_distance
from blemish.models.maps import SigmaPx, upsample_and_blur


@final
class ReverseDistillationSettings(EncoderSettings):
    """Settings of ReverseDistillation."""

    width: Annotated[int, Field(ge=4, le=512)] = Field(
        32, description="Channels of decoder and bottleneck at the finest scale; twice as many at each coarser one."
    )
    blocks: Annotated[int, Field(ge=1, le=8)] = Field(1, description="Residual blocks per scale.")
    smoothing_sigma_px: SigmaPx = 4.0


@final
class ReverseDistillation(Detector):
    """A decoder that gives back the maps of a frozen encoder, coarsest first, from one embedding of all of them.

    The bottleneck brings all scales to the coarsest grid with strided convolutions, lays them side by side, and halves
    them once more with residual blocks; the decoder mirrors the encoder with transposed convolutions and residual
    blocks. The loss, and the anomaly map, is one minus the cosine of the angle between the encoder's and the decoder's
    features at each place, summed over the scales. Trained on good images, the decoder has never seen a defect, and
    the narrow embedding does not let it through.

    Source: Deng & Li 2022 (arXiv 2201.10703). Departures: docs/decisions/0012-*.

    >>> settings = ReverseDistillationSettings(width=4)
    >>> detector = ReverseDistillation(settings, ImageShape(channels=3, height=64, width=96)).eval()
    >>> [tuple(part.shape) for part in detector.student(detector.encoder(torch.rand(2, 3, 64, 96)))]
    [(2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6)]
    """

    Settings = ReverseDistillationSettings
    defaults: ClassVar[Mapping[str, Any]] = {
        "augment": {"images_of_one": 1},
        "data": {"side": "shorter"},
        "train": {
            "epochs": 1000,
            "max_steps": 400,
            "batch_size": 8,
            "learning_rate": 5e-3,
            "weight_decay": 1e-4,
            "schedule": "one_cycle",
        },
    }

    def __init__(self, settings: ReverseDistillationSettings, shape: ImageShape) -> None:
        super().__init__(shape, settings)
        self.settings = settings
        self.encoder = FrozenEncoder(settings, shape[1:])
        self.encoder.check_several("reverse_distillation")
        self.ratios = [max(self.encoder.strides) // stride for stride in self.encoder.strides]
        self.sizes = [c * r * r for c, r in zip(self.encoder.channels, self.ratios, strict=True)]
        self.student = Student(self.encoder.channels, doublings(self.encoder.strides), settings)

    @classmethod
    def multiple_of_sides(cls, settings: ReverseDistillationSettings) -> int:
        """What the encoder needs, and one step further down to the bottleneck."""
        return 2 * settings.side_multiple

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Train bottleneck and decoder on the encoder's maps, which are computed once."""
        self.encoder.prepare()
        features = FeatureBatches(batches, self.pack)
        features.keep()
        optimise(features, self.distances_loss)

    def pack(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f i j"]:
        """All maps of the encoder in one tensor on the coarsest grid."""
        maps = self.encoder(images)
        return torch.cat([F.pixel_unshuffle(one, ratio) for one, ratio in zip(maps, self.ratios, strict=True)], dim=1)

    def unpack(self, packed: Float[Tensor, "b f i j"]) -> list[Tensor]:
        """The maps again, finest first."""
        parts = torch.split(packed, self.sizes, dim=1)
        return [F.pixel_shuffle(part, ratio) for part, ratio in zip(parts, self.ratios, strict=True)]

    def distances_loss(self, packed: Float[Tensor, "b f i j"]) -> Float[Tensor, ""]:
        """Sum over the scales of the mean distance: eq. (1) and (2) of the paper."""
        return torch.stack([part.mean() for part in self.distances(self.unpack(packed))]).sum()

    def distances(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """For each scale, how far the decoder is from the encoder at each place, `(b, i, j)` in [0, 2]."""
        return [cosine_distance(seen, given) for seen, given in zip(maps, self.student(maps), strict=True)]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """The sum over the scales of the distances, each brought to the size of the images."""
        size, sigma = (self.shape.height, self.shape.width), self.settings.smoothing_sigma_px
        parts = [upsample_and_blur(part, *size, sigma) for part in self.distances(self.encoder(images))]
        return torch.stack(parts).sum(dim=0)


@final
class Student(nn.Module):
    """Bottleneck and decoder: from the encoder's maps, finest first, to what the decoder makes of them."""

    def __init__(self, channels: Sequence[int], steps: Sequence[int], settings: ReverseDistillationSettings) -> None:
        """`steps[i]` is how often scale `i + 1` halves scale `i`."""
        super().__init__()
        widths = [settings.width << sum(steps[:scale]) for scale in range(len(channels))]
        coarsest, narrow = widths[-1], 2 * widths[-1]
        down = [sum(steps[scale:]) for scale in range(len(channels))]
        self.fusing = nn.ModuleList(
            nn.Sequential(*normed(nn.Conv2d(given, width, 1, bias=False)), *halvings(width, times))
            for given, width, times in zip(channels, widths, down, strict=True)
        )
        fused = sum(width << times for width, times in zip(widths, down, strict=True))
        self.embed = nn.Sequential(*normed(nn.Conv2d(fused, coarsest, 1, bias=False)), Residual(coarsest, narrow, 2))
        self.up = nn.ModuleList()
        self.out = nn.ModuleList()
        for scale in reversed(range(len(channels))):
            given = narrow if scale == len(channels) - 1 else widths[scale + 1]
            doubled = 1 if scale == len(channels) - 1 else steps[scale]
            same = [Residual(widths[scale], widths[scale]) for _ in range(settings.blocks)]
            self.up.append(nn.Sequential(*doublings_up(given, widths[scale], doubled), *same))
            self.out.append(nn.Conv2d(widths[scale], channels[scale], 1))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        fused = torch.cat([fuse(one) for fuse, one in zip(self.fusing, maps, strict=True)], dim=1)
        x, given = self.embed(fused), []
        for up, out in zip(self.up, self.out, strict=True):
            x = up(x)
            given.append(out(x))
        return given[::-1]


@final
class Residual(nn.Module):
    """Two convolutions of 3 x 3 beside a shortcut (He et al. 2016), the first with a stride."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        first = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        second = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.inner = nn.Sequential(*normed(first), second, nn.BatchNorm2d(out_channels))
        is_same = channels == out_channels and stride == 1
        projection = nn.Conv2d(channels, out_channels, 1, stride, bias=False)
        self.shortcut = nn.Identity() if is_same else nn.Sequential(projection, nn.BatchNorm2d(out_channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        return F.relu(self.inner(x) + self.shortcut(x))


def normed(convolution: nn.Module) -> list[nn.Module]:
    """A convolution, BatchNorm and ReLU."""
    return [convolution, nn.BatchNorm2d(int(convolution.out_channels)), nn.ReLU()]  # type: ignore[arg-type]


def halvings(width: int, times: int) -> list[nn.Module]:
    """Convolutions that halve the grid and double the channels."""
    steps = [nn.Conv2d(width << i, width << i + 1, 3, 2, padding=1, bias=False) for i in range(times)]
    return [layer for step in steps for layer in normed(step)]


def doublings_up(channels: int, width: int, times: int) -> list[nn.Module]:
    """Transposed convolutions that double the grid; one of 1 x 1 where it stays."""
    if times == 0:
        return normed(nn.Conv2d(channels, width, 1, bias=False))
    given = [channels, *[width] * times]
    steps = [nn.ConvTranspose2d(before, after, 2, 2, bias=False) for before, after in pairwise(given)]
    return [layer for step in steps for layer in normed(step)]


def doublings(strides: Sequence[int]) -> list[int]:
    """How often each stride has to be doubled to reach the next.

    Raises:
        SettingsError: strides that are no such multiples of each other.

    >>> doublings((4, 8, 16)), doublings((14, 14))
    ([1, 1], [0])
    """
    steps = []
    for finer, coarser in pairwise(strides):
        times = round(math.log2(coarser / finer))
        if finer << times != coarser:
            raise SettingsError(
                f"model.encoder: strides {', '.join(map(str, strides))}; reverse_distillation needs each to be "
                "the one before times a power of two"
            )
        steps.append(times)
    return steps
