"""The chart of a challenge: the probability of detection against the size of the defect."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from blemish.report.figures import COLOURS, INK, log_axis, new_figure, small_legend, to_svg


def pod_chart(
    fits: Mapping[float, Mapping[str, Any] | None],
    trials: Mapping[float, Sequence[tuple[float, bool]]],
    sizes_px: tuple[float, float],
) -> bytes:
    """A curve with its band for each contrast, and every defect as a stroke: found ones at the top, missed at the foot.

    `fits` has `sizes_px`, `pod`, `low` and `high` by contrast, None where no curve could be fitted.

    >>> fit = {"sizes_px": [4.0, 40.0], "pod": [0.1, 0.9], "low": [0.0, 0.7], "high": [0.3, 1.0]}
    >>> b"contrast 0.1" in pod_chart({0.1: fit}, {0.1: [(4.0, False), (40.0, True)]}, (4.0, 40.0))
    True
    """
    figure, axes = new_figure(width=4.9, height=3.1)
    axes.axhline(0.9, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), alpha=0.6)
    ordered = sorted(fits)
    for row, (contrast, colour) in enumerate(zip(ordered, COLOURS * 3, strict=False)):
        fit = fits[contrast]
        if fit is not None:
            axes.fill_between(fit["sizes_px"], fit["low"], fit["high"], color=colour, alpha=0.16, linewidth=0)
        line = ([], []) if fit is None else (fit["sizes_px"], fit["pod"])
        axes.plot(*line, color=colour, linewidth=1.8, label=f"contrast {contrast:g}")
        for is_hit, height in ((True, 1.04 + 0.045 * row), (False, -0.04 - 0.045 * row)):
            sizes = [size for size, hit in trials[contrast] if hit is is_hit]
            axes.plot(sizes, np.full(len(sizes), height), "|", color=colour, markersize=4, markeredgewidth=0.8)
    log_axis(axes.xaxis)
    reach = 0.045 * len(ordered) + 0.04
    axes.set(xlim=(sizes_px[0] * 0.93, sizes_px[1] * 1.08), ylim=(-reach, 1 + reach))
    axes.set_yticks([0, 0.5, 0.9, 1], ["0", "50 %", "90 %", "100 %"])
    axes.set(xlabel="extent of the defect in the photo's pixels", ylabel="found")
    small_legend(axes)
    return to_svg(figure)
