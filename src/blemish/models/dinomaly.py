"""Dinomaly: where a decoder of transformer blocks cannot give back what the middle layers of a transformer saw."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from blemish.errors import SettingsError
from blemish.models.detector import Batches, Detector, ImageShape, Optimise
from blemish.models.encoders import EncoderSettings, FrozenEncoder, choose
from blemish.models.feature_maps import FeatureBatches, cosine_distance
from blemish.models.maps import SigmaPx, upsample_and_blur

MOST_LAYERS = 8
"""Taken by rule: all of the middle two thirds of a ViT-B, every second of a ViT-L, as in the paper."""

HEAD_CHANNELS = 64
"""Of a head of the attention, as in the ViTs of the paper."""

MLP_RATIO = 4
"""Hidden channels of an MLP to its own."""

EASY_SHARE = 0.9
"""Of the places, in the end; the paper's discarding rate."""

EASY_GRADIENT = 0.1
"""What the gradients of easy places are multiplied by."""

RISING_SHARE = 0.1
"""Of the steps, over which the share of easy places rises."""


@final
class DinomalySettings(EncoderSettings):
    """Settings of Dinomaly."""

    encoder: Annotated[str, Field(max_length=4096)] = Field(
        "hf:facebook/dinov2-with-registers-base",
        description="Pretrained vision transformer: folder:PATH, hf:NAME or timm:NAME. See docs/howto/encoders.md.",
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.2, description="Share of the numbers in the bottleneck that are dropped in a step."
    )
    smoothing_sigma_px: SigmaPx = 4.0

    def layers_of_tokens(self, count: int) -> tuple[int, ...]:
        """The middle two thirds, of more than `MOST_LAYERS` each second, third and so on.

        >>> [DinomalySettings().layers_of_tokens(count) for count in (12, 24, 4)]
        [(3, 4, 5, 6, 7, 8, 9, 10), (5, 7, 9, 11, 13, 15, 17, 19), (2, 3)]
        """
        left_out = round(count / 6)
        middle = range(left_out + 1, count - left_out + 1)
        return tuple(middle[:: -(-len(middle) // MOST_LAYERS)])


@final
class Dinomaly(Detector):
    """A decoder of transformer blocks that gives back the middle layers of a frozen vision transformer.

    The layers' mean passes a noisy bottleneck, an MLP with dropout, and as many blocks as there are layers, whose
    linear attention cannot look at single places alone. Nothing is compared layer by layer: the mean of the shallow
    half of the layers is to be that of the last half of the blocks, and the deep half's that of the first. The loss
    is the distance of all places of an image together, with small gradients where the decoder is near already. The
    map is one minus the cosine at each place, the mean of both halves.

    Source: Guo et al. 2025 (CVPR; arXiv 2405.14325). Departures: docs/decisions/0014-*.
    """

    Settings = DinomalySettings
    defaults: ClassVar[Mapping[str, Any]] = {
        "augment": {"images_of_one": 1},
        "data": {"side": "shorter", "side_px": 392},
        "train": {
            "epochs": 5000,
            "max_steps": 5000,
            "batch_size": 16,
            "learning_rate": 5e-4,
            "weight_decay": 1e-4,
            "schedule": "one_cycle",
        },
    }

    def __init__(self, settings: DinomalySettings, shape: ImageShape) -> None:
        super().__init__(shape, settings)
        self.settings = settings
        self.encoder = FrozenEncoder(settings, shape[1:])
        channels, self.layers = self.encoder.channels[0], len(self.encoder.channels)
        self.shallow = self.layers // 2
        self.bottleneck = NoisyBottleneck(channels, settings.dropout)
        self.decoder = nn.ModuleList(Block(channels) for _ in range(self.layers))
        for module in [*self.bottleneck.modules(), *self.decoder.modules()]:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-0.03, b=0.03)
                nn.init.zeros_(module.bias)

    @classmethod
    def multiple_of_sides(cls, settings: DinomalySettings) -> int:
        """The patch of the transformer.

        Raises:
            SettingsError: an encoder that is no transformer of one stride, or a single layer of one.
        """
        choice = choose(settings)
        if len(set(choice.strides)) > 1 or len(set(choice.channels)) > 1:
            raise SettingsError(
                f"model.encoder: '{settings.encoder}' has maps of strides {', '.join(map(str, choice.strides))}; "
                "dinomaly needs a vision transformer, whose layers all have one (DINOv2, with registers or without, "
                "DINOv3): "
                "blemish encoders fetch hf:facebook/dinov2-with-registers-base, or folder:PATH for one on this machine"
            )
        if len(choice.strides) < 2:
            raise SettingsError("model.encoder_layers: dinomaly needs at least two layers, found one")
        return choice.strides[0]

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Train bottleneck and decoder on the encoder's layers, which are computed once."""
        self.encoder.prepare()
        features = FeatureBatches(batches, self.halves_of_layers)
        features.keep()
        counted, total = CountedBatches(features), optimise.count_steps(features)

        def loose_loss(halves: Tensor) -> Tensor:
            return self.loose_loss(halves, easy_share(counted.step, total))

        optimise(counted, loose_loss)

    def halves_of_layers(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b f i j"]:
        """The mean of the shallow half of the layers, then that of the deep half, side by side."""
        maps = self.encoder(images)
        return torch.cat([mean_of(maps[: self.shallow]), mean_of(maps[self.shallow :])], dim=1)

    def decode(self, halves: Float[Tensor, "b f i j"]) -> list[Tensor]:
        """What the decoder gives for the shallow half and for the deep one, `(b, c, i, j)` each."""
        shallow, deep = halves.chunk(2, dim=1)
        mean = (self.shallow * shallow + (self.layers - self.shallow) * deep) / self.layers
        tokens, given = self.bottleneck(mean.flatten(2).mT), []
        for block in self.decoder:
            tokens = block(tokens)
            given.append(tokens)
        last = self.layers - self.shallow
        return [mean_of(part).mT.reshape(shallow.shape) for part in (given[last:], given[:last])]

    def loose_loss(self, halves: Float[Tensor, "b f i j"], share: float) -> Float[Tensor, ""]:
        """The mean over both halves of `loose_distance`."""
        pairs = zip(halves.chunk(2, dim=1), self.decode(halves), strict=True)
        return torch.stack([loose_distance(seen, given, share) for seen, given in pairs]).mean()

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """The mean over both halves of the distance at each place, brought to the size of the images."""
        halves = self.halves_of_layers(images)
        pairs = zip(halves.chunk(2, dim=1), self.decode(halves), strict=True)
        distances = mean_of([cosine_distance(seen, given) for seen, given in pairs])
        return upsample_and_blur(distances, self.shape.height, self.shape.width, self.settings.smoothing_sigma_px)


@final
class NoisyBottleneck(nn.Sequential):
    """An MLP with dropout before, within and behind it, and without a shortcut."""

    def __init__(self, channels: int, dropout: float) -> None:
        hidden = MLP_RATIO * channels
        super().__init__(
            nn.Dropout(dropout),
            nn.Linear(channels, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, channels),
            nn.Dropout(dropout),
        )


@final
class Block(nn.Module):
    """A transformer block (Dosovitskiy et al. 2021) with linear attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = MLP_RATIO * channels
        self.attention = nn.Sequential(nn.LayerNorm(channels, eps=1e-8), LinearAttention(channels))
        self.mlp = nn.Sequential(
            nn.LayerNorm(channels, eps=1e-8), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
        )

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        tokens = tokens + self.attention(tokens)
        mixed: Tensor = tokens + self.mlp(tokens)
        return mixed


@final
class LinearAttention(nn.Module):
    """Attention of several heads with the kernel elu + 1 for the softmax (Katharopoulos et al. 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = next(n for n in range(max(1, channels // HEAD_CHANNELS), 0, -1) if channels % n == 0)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)

    def forward(self, tokens: Float[Tensor, "b n c"]) -> Float[Tensor, "b n c"]:
        queries, keys, values = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mixed: Tensor = self.out(linear_attention(queries, keys, values).transpose(1, 2).flatten(2))
        return mixed


@final
class CountedBatches:
    """The same batches; `step` is the number, over all epochs, of the one that was given last."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.epoch = self.step = 0

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        self._batches.epoch = self.epoch
        for place, batch in enumerate(self._batches):
            self.step = self.epoch * len(self) + place
            yield batch


def linear_attention(
    queries: Float[Tensor, "*b n c"], keys: Float[Tensor, "*b n c"], values: Float[Tensor, "*b n c"]
) -> Float[Tensor, "*b n c"]:
    """The mean of the values, weighted by the product of elu + 1 of query and key; costs n c^2, not n^2 c.

    >>> linear_attention(torch.zeros(3, 1), torch.zeros(3, 1), torch.tensor([[1.0], [2.0], [6.0]])).flatten()
    tensor([3., 3., 3.])
    """
    with torch.autocast(queries.device.type, enabled=False):  # sums over all places
        queries, keys, values = (x if x.dtype == torch.float64 else x.float() for x in (queries, keys, values))
        queries, keys = F.elu(queries) + 1, F.elu(keys) + 1
        weights = queries @ keys.sum(dim=-2, keepdim=True).mT  # (*b, n, 1)
        attended: Tensor = queries @ (keys.mT @ values) / weights.clamp_min(1e-12)
        return attended


def loose_distance(seen: Float[Tensor, "b c h w"], given: Float[Tensor, "b c h w"], share: float) -> Float[Tensor, ""]:
    """One minus the cosine of all places of an image together, the mean over the images.

    The gradients that `given` gets at easy places are multiplied by `EASY_GRADIENT`: all but the 1 - `share` of the
    places of the batch, at least one, that are farthest now.
    """
    distances = cosine_distance(seen, given).detach()
    hard = max(1, int(distances.numel() * (1 - share)))
    is_easy = (distances < distances.flatten().topk(hard).values[-1])[:, None]
    damped = EASY_GRADIENT * given + (1 - EASY_GRADIENT) * given.detach()
    given = torch.where(is_easy, damped, given)
    return (1 - F.cosine_similarity(seen.flatten(1).float(), given.flatten(1).float())).mean()


def easy_share(step: int, total: int) -> float:
    """The share of easy places at a step: rises from 0 over the first `RISING_SHARE` of all steps.

    >>> [round(easy_share(step, 1000), 3) for step in (0, 50, 100, 999)]
    [0.0, 0.45, 0.9, 0.9]
    """
    return EASY_SHARE * min(1.0, step / max(1.0, RISING_SHARE * total))


def mean_of(parts: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of one shape."""
    return torch.stack(tuple(parts)).mean(dim=0)
