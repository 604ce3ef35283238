"""Nearest neighbours in a bank of good patches, and which patches a bank keeps."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROWS_AT_ONCE = 128
"""Patches are compared with so many rows of the bank at a time, which bounds memory for large images.

The bank is cut and not the patches: its size is known when the detector becomes a graph, that of a batch is not.
"""

RIDGE = 0.1
"""How much the weights of the nearest rows are held back, in squares of the spacing: from .01 to .1 hardly anything
changes."""

TINY = 1e-6
"""What is divided by is at least so much."""

QUERIES_AT_ONCE = 4096
"""Patches are compared with all rows so many at a time while a detector is fitted."""


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

    It is taken from x - b, not from the squares of `nearest_rows`: what little is left of large squares would be
    mostly rounding.

    >>> nearest_distances(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [30.0, 0.0]]))
    tensor([5.])
    """
    distances: Tensor = torch.linalg.vector_norm(queries - bank[nearest_rows(queries, bank)], dim=1)
    return distances


def relative_distances(
    queries: Float[Tensor, "n c"],
    bank: Float[Tensor, "k d"],
    spacing: Float[Tensor, " k"],
    beyond: Float[Tensor, " k"] | None = None,
) -> Float[Tensor, " n"]:
    """The smallest, over the rows of the bank, of a query's Euclidean distance to the row over the row's spacing.

    Of rows of fewer channels than the queries the others are known by their sum of squares `beyond` alone: what query
    and row have in common there is taken for nothing.

    |x - b|^2 / s^2 = |x|^2 / s^2 - 2 x b / s^2 + |b|^2 / s^2 is one matrix product with |x|^2 for one more channel. It
    has an absolute error of about 1e-6 |x|^2 / s^2: what matters is far above. No row is looked up, because of two
    that are equally far another processor may take the other.

    >>> relative_distances(torch.tensor([[3.0], [8.0]]), torch.tensor([[0.0], [9.0]]), torch.tensor([2.0, 1.0]))
    tensor([1.5000, 1.0000])
    >>> row, spacing = torch.tensor([[1.0]]), torch.ones(1)
    >>> relative_distances(torch.tensor([[1.0, 3.0]]), row, spacing, beyond=torch.tensor([16.0]))
    tensor([5.])
    """
    extended, products, offsets = _as_product(queries, bank, spacing, beyond)
    best = torch.full_like(queries[:, 0], torch.inf)
    for rows, row_offsets in zip(torch.split(products, ROWS_AT_ONCE), torch.split(offsets, ROWS_AT_ONCE), strict=True):
        best = torch.minimum(best, torch.addmm(row_offsets, extended, rows.mT).amin(dim=1))
    return best.clamp_min(0).sqrt()


def distances_between(
    queries: Float[Tensor, "n c"],
    bank: Float[Tensor, "k d"],
    spacing: Float[Tensor, " k"],
    beyond: Float[Tensor, " k"] | None,
    count: int,
) -> Float[Tensor, " n"]:
    """As `relative_distances`, but to the nearest point between the `count` nearest rows, over the spacing there.

    That is the sum of w_i b_i, the weights of sum 1, which makes |x - sum w_i b_i|^2 + `RIDGE` s^2 sum w_i^2 / f_i
    smallest; s^2 is the mean of these rows' squared spacings, f_i = 1 - e_i / e, where e_i is the squared relative
    distance of row i and e that of the next row, which is not among them. So a row that may as well be another has no
    weight: where two change places the distance does not jump, and another processor finds the same.

    >>> rows, spacing = torch.tensor([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]]), torch.ones(3)
    >>> query = torch.tensor([[1.0, 1.0]])
    >>> distances_between(query, rows, spacing, None, 2), relative_distances(query, rows, spacing)
    (tensor([1.]), tensor([1.4142]))
    """
    extended, products, offsets = _as_product(queries, bank, spacing, beyond)
    found = torch.addmm(offsets, extended, products.mT).topk(count + 1, dim=1, largest=False)
    relative, near = found.values.clamp_min(TINY).mT, found.indices[:, :count].mT  # from here on the queries come last
    free = (1 - relative[:count] / relative[count]).clamp_min(TINY)
    units = spacing[near]
    squares = relative[:count] * units.square()
    between = torch.take(_squares_between(bank, beyond), near[:, None] * len(bank) + near)
    gram = (squares[:, None] + squares - between) / 2
    held = RIDGE * units.square().mean(dim=0) / free
    weights = _solve_ones(gram + torch.eye(count).to(held)[:, :, None] * held)
    weights = weights / weights.sum(dim=0)
    total = (weights[:, None] * gram * weights).sum(dim=(0, 1))
    return total.clamp_min(0).sqrt() / (weights * units).sum(dim=0).clamp_min(TINY)


def _solve_ones(matrices: Float[Tensor, "k k n"]) -> Float[Tensor, "k n"]:
    """M^-1 times ones, of positive definite matrices; by elimination, as a graph has no solver.

    >>> _solve_ones(torch.tensor([[[2.0], [0.0]], [[0.0], [4.0]]])).flatten()
    tensor([0.5000, 0.2500])
    """
    unit = torch.eye(len(matrices)).to(matrices)
    both = torch.cat([matrices, torch.ones_like(matrices[:, :1])], dim=1)
    for place in range(len(matrices)):
        row = both[place] / both[place, place]
        both = both - (both[:, place] - unit[place, :, None])[:, None] * row
    return both[:, -1]


def _squares_between(bank: Float[Tensor, "k d"], beyond: Float[Tensor, " k"] | None) -> Float[Tensor, "k k"]:
    """Squared distances between rows."""
    squares = bank.square().sum(dim=1) + (0 if beyond is None else beyond)
    found = squares[:, None] + squares - 2 * bank @ bank.mT
    return found * (1 - torch.eye(len(bank)).to(bank))


def _as_product(
    queries: Float[Tensor, "n c"], bank: Float[Tensor, "k d"], spacing: Float[Tensor, " k"], beyond: Tensor | None
) -> tuple[Float[Tensor, "n e"], Float[Tensor, "k e"], Float[Tensor, " k"]]:
    """Queries, rows and offsets, whose product plus offsets is the squared relative distance."""
    squares = spacing.square()
    products = torch.cat([bank * (-2 / squares)[:, None], (1 / squares)[:, None]], dim=1)
    offsets = (bank.square().sum(dim=1) + (0 if beyond is None else beyond)) / squares
    return torch.cat([queries[:, : bank.shape[1]], queries.square().sum(dim=1, keepdim=True)], dim=1), products, offsets


def nearest_rows(queries: Float[Tensor, "n c"], bank: Float[Tensor, "k c"]) -> Int[Tensor, " n"]:
    """Which row of the bank is nearest to each query: |x - b|^2 = |x|^2 - 2 x b + |b|^2 is one matrix product.

    >>> nearest_rows(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 0.0], [30.0, 0.0]]))
    tensor([0])
    """
    squares = bank.square().sum(dim=1)
    best = torch.full_like(queries[:, 0], torch.inf)
    nearest = torch.zeros_like(best, dtype=torch.long)
    pairs = zip(torch.split(bank, ROWS_AT_ONCE), torch.split(squares, ROWS_AT_ONCE), strict=True)
    for part, (rows, row_squares) in enumerate(pairs):
        found = torch.addmm(row_squares, queries, rows.mT, alpha=-2).min(dim=1)
        nearest = torch.where(found.values < best, found.indices + part * ROWS_AT_ONCE, nearest)
        best = torch.minimum(best, found.values)
    return nearest


@torch.no_grad()
def nearest_of_others(
    queries: Float[Tensor, "n c"], image: Int[Tensor, " n"], rows: Float[Tensor, "k c"], image_of_row: Int[Tensor, " k"]
) -> Int[Tensor, " n"]:
    """Which row is nearest to each query among those of other images; any row where all are of the query's own image.

    >>> rows, images = torch.tensor([[0.0], [5.0], [9.0]]), torch.tensor([0, 0, 1])
    >>> nearest_of_others(torch.tensor([[1.0], [1.0]]), torch.tensor([0, 1]), rows, images)
    tensor([2, 0])
    """
    squares = rows.square().sum(dim=1)
    found = []
    for some, whose in zip(torch.split(queries, QUERIES_AT_ONCE), torch.split(image, QUERIES_AT_ONCE), strict=True):
        far = torch.addmm(squares, some, rows.mT, alpha=-2)
        found.append(far.masked_fill_(whose[:, None] == image_of_row, torch.inf).argmin(dim=1))
    return torch.cat(found)
