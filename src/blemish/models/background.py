"""The background of every map is drawn towards the usual one, and its largest value stays."""

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

BRIGHTEST = 0.2
"""A map's background is the least of this share of its places, those with the largest values: above most of a good
image, and below any defect that covers less."""

NARROWEST = 0.05
"""The largest value lies at least so much above the background (in logarithms), which an even map has not."""

LEAST, MOST = 0.67, 1.5
"""Powers, at least and at most: for a defect that covers most of the image, and so is its background. Test images of
the five sets with masks have .88 to 1.45 (docs/log.md)."""


@final
class Background(nn.Module):
    """Takes off a share of the difference between a map's background and that of good images.

    With the largest value G_max of a map G, its background B and the usual one U, all of them logarithms on the grid of
    patches: F = F_max * (f / F_max)^p, where f is the map at pixels, F_max its largest value, and

    p = (G_max - B - share * (U - B)) / (G_max - B), from `LEAST` to `MOST`.

    The order of the pixels of a map and its largest value stay what they are, and so does the score, unless the largest
    value is not what is scored: it may lie in padding, or an opening takes it off. What changes is how pixels of one
    image compare with those of others: where a good part of a rough image exceeds a defect of a smooth one, one
    threshold cannot mark the defect alone.

    Only what is judged counts (`look_only_at`): outside a region of interest the ground is blank. A tile is no image:
    each would be drawn by a power of its own, so that detectors leave tiles alone. One good image has no other to be
    compared with, and `fit` then takes nothing off any map.

    >>> background = Background(0.5)
    >>> background.fit(torch.zeros(3, 2, 5))
    >>> logs = torch.tensor([[[4.0, 2.0, 2.0, 2.0, 2.0], [2.0, 2.0, 2.0, 2.0, 2.0]]])
    >>> power = background.power(logs, logs)
    >>> power, background(logs.exp(), power).log().round()[0, 0]
    (tensor([1.5000]), tensor([4., 1., 1., 1., 1.]))
    """

    share: Tensor
    usual: Tensor
    places: Tensor
    judged: Tensor

    def __init__(self, share: float, only_judged: bool = True) -> None:
        """`only_judged` False: all of the map counts, and the file keeps `usual` alone, as older ones do."""
        super().__init__()
        self.register_buffer("usual", torch.zeros(()))
        self.register_buffer("share", torch.tensor(share), persistent=only_judged)
        self.register_buffer("places", torch.zeros(0, dtype=torch.int64), persistent=only_judged)
        self.register_buffer("judged", torch.zeros(0, 0, dtype=torch.bool), persistent=only_judged)
        self.only_judged = only_judged

    def look_only_at(self, judged: Bool[Tensor, "h w"], grid: tuple[int, int]) -> None:
        """Let these pixels count alone, and of the grid of patches the places that are judged by half or more.

        Where no place is, as in a region smaller than it, those that come nearest to it count.
        """
        if self.only_judged:
            shares = F.interpolate(judged[None, None].float(), grid, mode="area").flatten()
            self.judged, self.places = judged, (shares >= shares.max().clamp_max(0.5)).nonzero()[:, 0]

    @torch.no_grad()
    def fit(self, logs: Float[Tensor, "n i j"]) -> None:
        """The usual background is the mean of that of these maps: good images, each compared with others."""
        if len(logs) < 2:
            self.share = torch.zeros_like(self.share)
        self.usual = background_of(self.inside(logs)).mean()

    def inside(self, logs: Float[Tensor, "b i j"]) -> Float[Tensor, "b p"]:
        """The places of each map that count."""
        return logs.flatten(1)[:, self.places] if len(self.places) else logs.flatten(1)

    def power(self, logs: Float[Tensor, "b i j"], lifted: Float[Tensor, "b i j"]) -> Float[Tensor, " b"]:
        """To which power each map is taken, over its largest value; `lifted` has that, `logs` the background."""
        level = background_of(self.inside(logs))
        above = (self.inside(lifted).amax(dim=1) - level).clamp_min(NARROWEST)
        return (1 + self.share * (level - self.usual) / above).clamp(LEAST, MOST)

    def forward(self, maps: Float[Tensor, "b h w"], power: Float[Tensor, " b"]) -> Float[Tensor, "b h w"]:
        """The maps with their backgrounds moved; none of their values is 0."""
        largest = (maps * self.judged if len(self.judged) else maps).amax(dim=(1, 2), keepdim=True)
        moved: Tensor = largest * (maps / largest).pow(power[:, None, None])
        return moved


def background_of(places: Float[Tensor, "b p"]) -> Float[Tensor, " b"]:
    """The least of the `BRIGHTEST` share of each map.

    >>> background_of(torch.arange(10.0).reshape(1, 10))
    tensor([8.])
    """
    return places.topk(max(1, round(BRIGHTEST * places.shape[1])), dim=1).values[:, -1]
