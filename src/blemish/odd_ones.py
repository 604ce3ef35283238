"""Good images that look like defects: a fast detector judges each by all the others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.decode import ImageLike
from blemish.data.images import PixelPolicy, prepare
from blemish.models.detector import ImageShape, check_sides
from blemish.models.encoders import EfficientNetLite0, Frozen
from blemish.scoring.left_out import in_units_of_usual, left_out_distances
from blemish.scoring.pooling import fit_map
from blemish.scoring.tiles import join_tiles, tile_boxes

STRIDE = 16
"""One place in this many pixels, each way."""

Grids = NDArray[np.float16]  # (tiles, h, w, d)


@final
@dataclass(frozen=True)
class OddOnes:
    """How strange each image is among the others; 1 is far above what is usual at that place."""

    maps: NDArray[np.float64]  # (n, p)

    @property
    def scores(self) -> NDArray[np.float64]:
        """The strangest place of each image, (n,)."""
        return self.maps.max(axis=1)  # type: ignore[no-any-return]


@final
class Eye:
    """The pretrained encoder, looking at images whole or tile by tile.

    Raises:
        SettingsError: sides (of the tiles, where there are any) that are no multiples of 16.
    """

    def __init__(self, policy: PixelPolicy) -> None:
        check_sides(ImageShape(policy.channels, *policy.network_px), STRIDE)
        self.policy = policy
        self._encoder = Frozen(EfficientNetLite0().load_pretrained())
        self.boxes = (
            tile_boxes(policy.size_px, policy.tile_px, policy.tile_overlap_px)
            if policy.tile_px
            else [(0, 0, *policy.size_px)]
        )

    @torch.no_grad()
    def look(self, image: ImageLike) -> Grids:
        """The deepest features of an image: what is finer tells textures apart more than parts from defects."""
        prepared = prepare(image, self.policy)
        return np.stack([self._features(prepared.pixels(box)) for box in self.boxes])

    def inside(self) -> NDArray[np.bool_]:
        """Which places `(tiles, h, w)` have their middle in the region of interest."""
        half = STRIDE // 2
        height, width = (side // STRIDE for side in self.policy.network_px)
        if self.policy.roi is None:
            return np.ones((len(self.boxes), height, width), bool)
        roi = self.policy.roi
        return np.stack(
            [roi[top:bottom, left:right][half::STRIDE, half::STRIDE] for top, left, bottom, right in self.boxes]
        )

    def whole(self, places: NDArray[np.float64]) -> NDArray[np.float32]:
        """A value for each place inside as a map `(h, w)` at the size the network sees."""
        inside = self.inside()
        grids = np.zeros(inside.shape, np.float32)
        grids[inside] = places
        pieces = {box: fit_map(grid, self.policy.network_px) for box, grid in zip(self.boxes, grids, strict=True)}
        if self.policy.tile_px is None:
            return pieces[self.boxes[0]]
        return join_tiles(self.policy.size_px, self.boxes, self.policy.tile_overlap_px, pieces.__getitem__)

    def _features(self, pixels: NDArray[np.float32]) -> Grids:
        deepest: Tensor = self._encoder(torch.from_numpy(pixels)[None])[-1]  # (1, d, h, w)
        smooth = F.avg_pool2d(deepest, 3, stride=1, padding=1, count_include_pad=False)  # as Roth et al. 2022
        return smooth[0].permute(1, 2, 0).contiguous().numpy().astype(np.float16)


def odd_ones(eye: Eye, grids: Sequence[Grids], groups: Sequence[int]) -> OddOnes:
    """The oddness of each image, from what `eye` saw in it; images of one group never judge each other."""
    inside = eye.inside()
    features = np.stack([grid[inside] for grid in grids])  # (n, p, d)
    return OddOnes(in_units_of_usual(left_out_distances(features, groups), groups, inside))
