"""Large images in tiles, and their maps put together again without seams. Arrays alone."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from blemish.errors import SettingsError

Box = tuple[int, int, int, int]
"""top, left, bottom, right in pixels, the last two not included"""


def tile_boxes(size_px: tuple[int, int], tile_px: tuple[int, int], overlap_px: int) -> list[Box]:
    """Tiles of one size that cover an image, row by row; the last of a row or column is moved inwards to fit.

    Raises:
        SettingsError: a tile larger than the image, or an overlap that leaves no way forward.

    >>> tile_boxes((4, 10), (4, 6), overlap_px=2)
    [(0, 0, 4, 6), (0, 4, 4, 10)]
    """
    for name, side, tile in zip(("height", "width"), size_px, tile_px, strict=True):
        if tile > side:
            raise SettingsError(
                f"data.tile_px: a tile's {name} of {tile} is larger than the image's, {side}; "
                "give smaller ones, or none"
            )
        if overlap_px >= tile:
            raise SettingsError(
                f"data.tile_overlap_px: {overlap_px} is not smaller than the tile's {name}, {tile}; set it to "
                f"{tile // 4}, or larger tiles"
            )
    tops, lefts = (
        sorted({*range(0, side - tile, tile - overlap_px), side - tile})
        for side, tile in zip(size_px, tile_px, strict=True)
    )
    return [(top, left, top + tile_px[0], left + tile_px[1]) for top in tops for left in lefts]


def join_tiles(
    size_px: tuple[int, int], boxes: list[Box], overlap_px: int, tile_map: Callable[[Box], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """The map `(h, w)` of an image from its tiles' maps, one at a time; 0 where there is no tile.

    Where tiles overlap, each one's weight falls to nothing towards its border, so that no seam shows. Memory: the map
    and its weights, whatever the number of tiles.

    >>> boxes = tile_boxes((8, 10), (8, 7), overlap_px=4)
    >>> joined = join_tiles((8, 10), boxes, 4, lambda box: np.full((8, 7), box[1], np.float32))
    >>> joined[0].tolist()
    [0.0, 0.0, 0.0, 0.0, 0.75, 2.25, 3.0, 3.0, 3.0, 3.0]
    """
    total = np.zeros(size_px, np.float32)
    weights = np.zeros(size_px, np.float32)
    for box in boxes:
        top, left, bottom, right = box
        rows = _ramp(bottom - top, overlap_px, top > 0, bottom < size_px[0])
        columns = _ramp(right - left, overlap_px, left > 0, right < size_px[1])
        weight = rows[:, None] * columns[None, :]
        total[top:bottom, left:right] += weight * tile_map(box)
        weights[top:bottom, left:right] += weight
    np.maximum(weights, np.finfo(np.float32).tiny, out=weights)  # of no tile: in place, which `where` is not
    np.divide(total, weights, out=total)
    return total


def _ramp(side: int, overlap: int, fades_in: bool, fades_out: bool) -> NDArray[np.float32]:
    """Weights along one side of a tile: rising from its start, falling to its end, where another tile goes on.

    A network knows least at a tile's border, where it sees padding instead of the image. So the outermost quarter of
    the overlap is left to the neighbour, and the two change over in the middle half.

    >>> _ramp(10, overlap=8, fades_in=True, fades_out=False).tolist()
    [0.0, 0.0, 0.125, 0.375, 0.625, 0.875, 1.0, 1.0, 1.0, 1.0]
    """
    weights = np.ones(side, np.float32)
    if overlap == 0:
        return weights
    middles = np.arange(side, dtype=np.float32) + np.float32(0.5)
    rising = np.clip((middles - overlap / 4) / (overlap / 2), 0.0, 1.0).astype(np.float32)
    if fades_in:
        weights = np.minimum(weights, rising)
    if fades_out:
        weights = np.minimum(weights, rising[::-1])
    return weights
