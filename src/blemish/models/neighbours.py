"""Nearest neighbours in a bank of good patches, and which patches a bank keeps."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS_AT_ONCE = 512
"""Patches are compared with so many rows of the bank at a time, which bounds memory for large images.

The bank is cut and not the patches: its size is known when the detector becomes a graph, that of a batch is not.
"""


@torch.no_grad()
def coreset(points: Float[Tensor, "n d"], count: int) -> Int[Tensor, " count"]:
    """Greedy k-centre: starting from the first point, each next one is the farthest from those chosen.

    Costs n x d for each point chosen, in one matrix-vector product.

    >>> coreset(torch.tensor([[0.0], [1.0], [10.0], [6.0]]), 3)
    tensor([0, 2, 3])
    """
    squares = points.square().sum(dim=1)
    chosen = torch.zeros(count, dtype=torch.long, device=points.device)
    farness = torch.full_like(squares, torch.inf)
    for place in range(1, count):
        last = points[chosen[place - 1]]
        distance = torch.addmv(squares, points, last, alpha=-2).add_(last.dot(last))
        farness = torch.minimum(farness, distance, out=farness)
        chosen[place] = farness.argmax()
    return chosen


def nearest_distances(queries: Float[Tensor, "n c"], bank: Float[Tensor, "k c"]) -> Float[Tensor, " n"]:
    """Euclidean distance of each query to the nearest row of the bank.

    The nearest row is found by |x - b|^2 = |x|^2 - 2 x b + |b|^2, which is one matrix product; the distance to it is
    then taken again from x - b, because what little is left of large squares would be mostly rounding.

    >>> nearest_distances(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [30.0, 0.0]]))
    tensor([5.])
    """
    squares = bank.square().sum(dim=1)
    best = torch.full_like(queries[:, 0], torch.inf)
    nearest = torch.zeros_like(queries)
    for rows, row_squares in zip(torch.split(bank, ROWS_AT_ONCE), torch.split(squares, ROWS_AT_ONCE), strict=True):
        found = torch.addmm(row_squares, queries, rows.mT, alpha=-2).min(dim=1)
        nearest = torch.where((found.values < best)[:, None], rows[found.indices], nearest)
        best = torch.minimum(best, found.values)
    distances: Tensor = torch.linalg.vector_norm(queries - nearest, dim=1)
    return distances
