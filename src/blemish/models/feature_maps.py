"""What the feature-space detectors share: from an encoder's maps to patches, and from distances to an anomaly map."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from blemish.models.detector import Batches, ImageShape
from blemish.models.encoders import EncoderSettings
from blemish.models.maps import SigmaPx, upsample_and_blur

KEPT_BYTES = 2 << 30
"""Features are kept in memory up to this much; beyond it they are computed again in each epoch."""

PATCH_DEFAULTS: Mapping[str, Any] = {"augment": {"images_of_one": 1}, "data": {"side": "shorter"}}
"""Settings of a run for detectors that are solved in one pass over the good images as they are."""


class PatchSettings(EncoderSettings):
    """The settings that the detectors of distances between patches share."""

    smoothing_sigma_px: SigmaPx = 4.0


def local_mean(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Mean over 3 x 3 places, with zeros outside the map.

    The zeros are on purpose: an encoder's outermost features are made up in part from its padding, and vary with
    what is cut off there. Damped, they raise fewer false alarms.

    >>> local_mean(torch.full((1, 1, 3, 3), 9.0))[0, 0]
    tensor([[4., 6., 4.],
            [6., 9., 6.],
            [4., 6., 4.]])
    """
    return F.avg_pool2d(maps, kernel_size=3, stride=1, padding=1)


def damp_border(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """As `local_mean`, damped at the border for the same reason, but without an average.

    >>> damp_border(torch.full((1, 1, 3, 3), 9.0))[0, 0]
    tensor([[4., 6., 4.],
            [6., 9., 6.],
            [4., 6., 4.]])
    """
    return maps * local_mean(maps.new_ones(1, 1, *maps.shape[2:]))


def concat_scales(maps: Sequence[Tensor], before: Callable[[Tensor], Tensor] = local_mean) -> Float[Tensor, "b c h w"]:
    """All scales on the grid of the second finest: `before` is applied to each, then it is averaged or interpolated.

    >>> concat_scales([torch.rand(1, 2, 8, 8), torch.rand(1, 3, 4, 4), torch.rand(1, 4, 2, 2)]).shape
    torch.Size([1, 9, 4, 4])
    """
    height, width = maps[min(1, len(maps) - 1)].shape[2:]
    return torch.cat([_resized(before(scale), height, width) for scale in maps], dim=1)


def _resized(maps: Tensor, height: int, width: int) -> Tensor:
    factor = maps.shape[2] // height
    if factor > 1:
        return F.avg_pool2d(maps, factor)
    return F.interpolate(maps, size=(height, width), mode="bilinear")


def as_vectors(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "n c"]:
    """One row a place: images after another, each row by row."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)


def map_of_patches(
    distances: Float[Tensor, "*n"], shape: ImageShape, stride: int, sigma_px: float
) -> Float[Tensor, "b h w"]:
    """One distance a patch, images after another and each row by row, as an anomaly map: interpolated, then blurred.

    >>> map_of_patches(torch.ones(2 * 4 * 6), ImageShape(channels=3, height=32, width=48), stride=8, sigma_px=4.0).shape
    torch.Size([2, 32, 48])
    """
    grid = distances.reshape(-1, shape.height // stride, shape.width // stride)
    return upsample_and_blur(grid, shape.height, shape.width, sigma_px)


def cosine_distance(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
    """One minus the cosine of the angle between two features at each place.

    >>> x = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, -1.0]]).reshape(3, 2, 1, 1)
    >>> cosine_distance(x, torch.tensor([2.0, 0.0]).reshape(1, 2, 1, 1).expand_as(x)).flatten()
    tensor([0.0000, 0.2929, 0.2929])
    """
    return F.relu(1 - F.cosine_similarity(x.float(), y.float(), dim=1))


@final
class FeatureBatches:
    """Batches of features of images that do not change, computed once and shuffled again in each epoch.

    Kept in half precision as long as they fit into `kept_bytes`; otherwise computed again in each epoch. The
    order follows from the order of `batches` and from `epoch`.
    """

    def __init__(self, batches: Batches, compute: Callable[[Tensor], Tensor], kept_bytes: int = KEPT_BYTES) -> None:
        self._batches, self._compute, self._kept_bytes = batches, compute, kept_bytes
        self.epoch = 0
        self._kept: Tensor | None = None

    def __len__(self) -> int:
        return len(self._batches)

    def keep(self) -> None:
        """Compute the features and keep them, if they fit into `kept_bytes`."""
        parts: list[Tensor] = []
        for features in self._computed():
            parts.append(features.half())
            per_image = parts[0][0].numel() * parts[0].element_size()
            if sum(map(len, parts)) * per_image > self._kept_bytes:
                return
        self._kept = torch.cat(parts)

    def __iter__(self) -> Iterator[Tensor]:
        if self._kept is None:
            yield from self._computed()
            return
        order = torch.randperm(len(self._kept), generator=torch.Generator().manual_seed(self.epoch))
        for places in order.tensor_split(len(self)):  # even parts: none of one image where there are two
            yield self._kept[places.to(self._kept.device)].float()

    def _computed(self) -> Iterator[Tensor]:
        self._batches.epoch = self.epoch
        for images in self._batches:
            with torch.no_grad():
                yield self._compute(images)
