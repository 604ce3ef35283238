"""How far good parts lie where they always lie: what places explain, and how narrow their Gaussians are."""

from jaxtyping import Float
from torch import Tensor

EXPLAINS_LITTLE, EXPLAINS_MUCH = 0.3, 0.5
"""The share that places explain up to which parts lie anywhere, and from which they lie where they always lie: it is
at most .35 for parts that lie or are turned at random, .43 and more for parts held in place, and for one part that is
turned on a plain ground: the place tells where the ground is."""

NARROW_LITTLE, NARROW_MUCH = 0.25, 0.35
"""So much (in logarithms) Gaussians of places alone may raise the largest distance of good images that they have not
seen over Gaussians four fifths alike; from the second on parts lie anywhere, whatever places explain. It is .12 to .27
for parts held in place, .33 to .52 for parts that are turned or scattered, of which each lies where none has lain."""


def how_aligned(explained: float, narrow: float) -> float:
    """0 where places explain little of the distances or their Gaussians are much too narrow, 1 where neither is so.

    >>> [round(how_aligned(explained, 0.1), 2) for explained in (0.1, 0.4, 0.9)]
    [0.0, 0.5, 1.0]
    >>> [round(how_aligned(0.9, narrow), 2) for narrow in (0.1, 0.3, 0.5)]
    [1.0, 0.5, 0.0]
    """
    much = (explained - EXPLAINS_LITTLE) / (EXPLAINS_MUCH - EXPLAINS_LITTLE)
    wide = (NARROW_MUCH - narrow) / (NARROW_MUCH - NARROW_LITTLE)
    return min(1.0, max(0.0, much)) * min(1.0, max(0.0, wide))


def narrowness(own: Float[Tensor, "b i j"], alike: Float[Tensor, "b i j"]) -> Float[Tensor, ""]:
    """The logarithm of the largest distance to Gaussians of places over that to those drawn together; mean over images.

    All distances are above 0.

    >>> import torch
    >>> narrowness(torch.tensor([[[1.0, 8.0]]]), torch.tensor([[[2.0, 1.0]]])).exp()
    tensor(4.)
    """
    return (own.flatten(1).amax(dim=1) / alike.flatten(1).amax(dim=1)).log().mean()


def explained_by_place(values: Float[Tensor, "n p"]) -> float:
    """The share of the variance over images and places that the place explains, at most 1; 0 of fewer than 4 images.

    The means of the places are taken from one half of the images and explain the other half, and the other way round;
    the share is the mean of both, and may be below 0 where the halves have nothing in common.

    >>> import torch
    >>> places = torch.tensor([1.0, 5.0, 2.0, 9.0])
    >>> explained_by_place(places.repeat(6, 1))
    1.0
    """
    half = len(values) // 2
    if half < 2:
        return 0.0

    def explain(some: Tensor, others: Tensor) -> float:
        left, variance = (others - some.mean(dim=0)).var(), others.var()
        return float(1 - left / variance) if variance > 0 else 0.0

    return (explain(values[:half], values[half:]) + explain(values[half:], values[:half])) / 2
