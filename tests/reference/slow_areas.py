"""AUPRO and AUPIMO as their papers say them: every threshold, every region, every image, one after the other."""

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]
Mask = NDArray[np.bool_]


def flood_regions(mask: Mask) -> list[list[tuple[int, int]]]:
    """The pixels of each 8-connected region."""
    waiting = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    regions = []
    while waiting:
        region, front = [], [waiting.pop()]
        while front:
            row, column = front.pop()
            region.append((row, column))
            for near in [(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)]:
                if near in waiting:
                    waiting.remove(near)
                    front.append(near)
        regions.append(region)
    return regions


def slow_aupro(maps: list[Map], masks: list[Mask], max_fpr: float, valid: list[Mask] | None = None) -> float:
    """Walk down all thresholds; trapezoids up to `max_fpr`."""
    valid = valid or [np.ones_like(mask) for mask in masks]
    regions = [
        [anomaly_map[pixel] for pixel in region if inside[pixel]]
        for anomaly_map, mask, inside in zip(maps, masks, valid, strict=True)
        for region in flood_regions(mask)
    ]
    regions = [region for region in regions if region]
    good = np.concatenate([m[~mask & inside] for m, mask, inside in zip(maps, masks, valid, strict=True)])
    fprs, overlaps = [0.0], [0.0]
    for threshold in _descending(maps):
        fprs.append(float(np.mean(good >= threshold)))
        overlaps.append(float(np.mean([np.mean(np.array(region) >= threshold) for region in regions])))
    return area_up_to(fprs, overlaps, max_fpr) / max_fpr


def area_up_to(x: list[float], y: list[float], limit: float) -> float:
    """The area under straight lines between points, from 0 to `limit`."""
    area = 0.0
    for left, right, low, high in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        if left >= limit or right == left:
            continue
        end = min(right, limit)
        height = low + (high - low) * (end - left) / (right - left)
        area += (end - left) * (low + height) / 2
    return area


def slow_aupimo(maps: list[Map], masks: list[Mask], fpr_range: tuple[float, float]) -> list[float]:
    """Walk down all thresholds; then the mean recall at 200,001 rates, spaced evenly in their logarithm."""
    good = [anomaly_map for anomaly_map, mask in zip(maps, masks, strict=True) if not mask.any()]
    fprs = [0.0] + [float(np.mean([np.mean(m >= t) for m in good])) for t in _descending(maps)]
    rates = np.geomspace(*fpr_range, 200_001)
    results = []
    for anomaly_map, mask in zip(maps, masks, strict=True):
        if not mask.any():
            results.append(np.nan)
            continue
        recalls = [0.0] + [float(np.mean(anomaly_map[mask] >= t)) for t in _descending(maps)]
        results.append(float(np.mean(np.interp(rates, fprs, recalls))))
    return results


def _descending(maps: list[Map]) -> list[float]:
    return sorted({float(value) for anomaly_map in maps for value in anomaly_map.ravel()}, reverse=True)
