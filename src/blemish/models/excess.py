"""Where an image made small is odder than good images ever are, its map is lifted: a wrong whole shows in no detail."""

from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from blemish.models.feature_maps import as_vectors
from blemish.models.maps import Enlarge
from blemish.models.patch_bank import SMALLEST, Draw, PatchBank

ROWS = 1000
"""Patches in the bank, at most."""

IMAGES = 200
"""Good images, at most, from which the limit is taken: from 40 it was half a standard deviation off."""

STDS = 2.5
"""Standard deviations above the mean of the largest distances in good images (in logarithms), up to which nothing is
lifted."""

STEEPNESS = 8.0
"""A map is lifted by so many times the excess (in logarithms) at most: without a jump another processor, which rounds
otherwise, gives the same map."""

MOST = 2.3
"""A map is lifted tenfold (in logarithms) at most."""

WINDOW, SHARPNESS = 11, 8.0
"""A place is lifted in full where its map is largest among 11 x 11 places, and by its share of that to this power
elsewhere: a patch of the image made small is wide, and would lift what lies around a defect."""

NEVER = 1e4
"""What no logarithm of a distance reaches."""


@final
class Excess(nn.Module):
    """Patches of the image made small, compared with a `PatchBank`; lifts a map where they are farther than `limit`.

    Up to the limit a map stays what it is. Beyond, it is at a peak at least what good images reach and as much more as
    the excess e = log d - `limit`, where d is the distance, enlarged to the grid of the map G and blurred:

    log F = log G + (G / G_max)^`SHARPNESS` * min(`end` + power * e - log G, `STEEPNESS` * e), where that is positive,
    and by `MOST` at most; G_max is the largest of G within `WINDOW` places, `end` a standard deviation above the mean
    of the largest log G in good images. Both limits are of good images compared with others: two maps, each over what
    is usual, of which the larger counts.
    """

    limit: Tensor
    end: Tensor

    def __init__(self, channels: int, grid: tuple[int, int], size: tuple[int, int], sigma: float, power: float) -> None:
        super().__init__()
        self.bank = PatchBank(channels)
        self.grid, self.power = grid, power
        self.enlarge = Enlarge(grid, size, sigma)
        self.register_buffer("limit", torch.tensor(NEVER))
        self.register_buffer("end", torch.zeros(()))

    def distances(
        self, maps: Float[Tensor, "b c k l"], is_other: Bool[Tensor, " r"] | None = None
    ) -> Float[Tensor, "b i j"]:
        """Logarithms of the distances to the bank, or to some of its rows, on the grid of the map."""
        patches = as_vectors(maps)
        near = self.bank(patches) if is_other is None else self.bank.distances_to_others(patches, is_other)
        enlarged: Tensor = self.enlarge(near.reshape(-1, *self.grid))
        return enlarged.clamp_min(SMALLEST).log()

    @torch.no_grad()
    def fit(self, drawn: Draw, some: Sequence[Float[Tensor, "1 c k l"]]) -> None:
        """Keep rows of these patches; the limit follows from the first images, none compared with rows of its own."""
        image_of_row = self.bank.fit(*drawn.some(), ROWS)
        if len(some) < 2:  # no other to compare with
            return
        others = (self.distances(maps, image_of_row != number) for number, maps in enumerate(some))
        largest = torch.stack([distances.amax() for distances in others])
        self.limit = largest.mean() + STDS * largest.std()

    @torch.no_grad()
    def take_end(self, largest: Float[Tensor, " n"]) -> None:
        """Take over where maps of good images end, from the largest of the logarithms in each."""
        if len(largest) > 1:
            self.end = largest.mean() + largest.std()

    def forward(self, maps: Float[Tensor, "b c k l"], logs: Float[Tensor, "b i j"]) -> Float[Tensor, "b i j"]:
        """The logarithms of a map, lifted."""
        beyond = F.relu(self.distances(maps) - self.limit)
        lift = torch.minimum(self.end + self.power * beyond - logs, STEEPNESS * beyond).clamp(0.0, MOST)
        largest = F.max_pool2d(logs[:, None], WINDOW, stride=1, padding=WINDOW // 2)[:, 0]
        return logs + lift * (SHARPNESS * (logs - largest)).exp()
