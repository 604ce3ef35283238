"""Charts of results, as SVG for a page: matplotlib's objects without its global state.

Lines and letters have the colour of the text around them (`currentColor`), so that one drawing serves light, dark and
printed pages. Letters stay letters: they can be searched and copied.
"""

import io
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from blemish.errors import plural
from blemish.evaluation.results import Rung
from blemish.stats.conformal import promised_percent

GOOD_COLOUR, DEFECTIVE_COLOUR, THIRD_COLOUR = "#2f86d6", "#e0662a", "#8d6bd1"
"""Blue, orange and violet of middling lightness: told apart by the colour-blind, legible on black and on white."""

COLOURS = (GOOD_COLOUR, DEFECTIVE_COLOUR, THIRD_COLOUR, "#3a9d5d")
INK = "#010203"
_MOST_NAMED_BARS = 40


def loss_curve(history: Mapping[str, Sequence[float]]) -> bytes:
    """Every loss of the training run over its epochs, after the paper's Figure 4.

    >>> loss_curve({"loss": [0.5, 0.2, 0.1]})[:4]
    b'<svg'
    """
    figure, axes = new_figure()
    for (name, values), colour in zip(history.items(), COLOURS, strict=False):
        epochs = np.arange(1, len(values) + 1)
        axes.plot(epochs, values, color=colour, label=name, marker="o" if len(values) < 3 else None)
    every = np.sort(np.concatenate([np.asarray(values, np.float64) for values in history.values()] or [np.zeros(1)]))
    if _is_wide(every):
        log_axis(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="loss")
    if len(history) > 1:
        small_legend(axes)
    return to_svg(figure)


def f1_bars(names: Sequence[str], f1: Sequence[float | None], label: str) -> bytes:
    """Pixel F1 of every image of one defect type and their mean, after the paper's Figures 5 to 8.

    >>> b"001" in f1_bars(["001", "002"], [0.5, None], "F1 at 0.2")
    True
    """
    figure, axes = new_figure(width=max(3.0, min(10.0, 1.2 + 0.24 * len(names))), height=2.6)
    heights = [0.0 if value is None else value for value in f1]
    axes.bar(range(len(names)), heights, color=DEFECTIVE_COLOUR, width=0.72)
    known = [value for value in f1 if value is not None]
    if known:
        axes.axhline(float(np.mean(known)), color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    if len(names) <= _MOST_NAMED_BARS:
        axes.set_xticks(range(len(names)), [_plain(name) for name in names], rotation=90, fontsize=7)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{plural(len(names), 'image')}, by name")
    axes.set(ylim=(0, 1), xlim=(-0.7, len(names) - 0.3), ylabel=label)
    return to_svg(figure)


def roc_curves(curves: Mapping[str, tuple[ArrayLike, ArrayLike, float]]) -> bytes:
    """Share of the defective found over share of the good flagged; for each name both shares and the AUROC.

    >>> b"images, AUROC 0.750" in roc_curves({"images": ([0, 0.5, 1], [0, 1, 1], 0.75)})
    True
    """
    figure, axes = new_figure(width=4.4, height=3.6)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=(0, (2, 3)), alpha=0.6)
    for (name, (flagged, found, area)), colour in zip(curves.items(), COLOURS, strict=False):
        axes.plot(
            np.asarray(flagged), np.asarray(found), color=colour, linewidth=1.8, label=f"{name}, AUROC {area:.3f}"
        )
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), xlabel="share of the good flagged")
    axes.set_ylabel("share of the defective found")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="lower right")
    return to_svg(figure)


def score_histogram(groups: Mapping[str, ArrayLike], threshold: float) -> bytes:
    """Which share of each group of images has which score, and where the threshold stands.

    Shares, not numbers: groups of different sizes compare. `calibration` is drawn as a line alone.

    >>> b"threshold" in score_histogram({"good": [0.1, 0.2], "defective": [0.3]}, threshold=0.25)
    True
    """
    figure, axes = new_figure(width=5.2, height=3.6)
    known = {name: np.asarray(scores, np.float64) for name, scores in groups.items() if np.size(scores)}
    edges = _score_edges(np.concatenate([*known.values(), [threshold]]))
    colours = {"good": GOOD_COLOUR, "defective": DEFECTIVE_COLOUR}
    for name, scores in known.items():
        colour, weights = colours.get(name, INK), np.full(scores.size, 1 / scores.size)
        label = f"{name}, {scores.size} image{'s' if scores.size > 1 else ''}"
        if name in colours:
            axes.hist(scores, list(edges), weights=weights, color=colour, alpha=0.5, label=label)
            label = ""
        axes.hist(
            scores, list(edges), weights=weights, color=colour, histtype="step", linewidth=1.2, label=label or None
        )
    axes.axvline(threshold, color=INK, linewidth=1.4, linestyle=(0, (4, 3)), label="threshold")
    if _is_wide(edges):
        log_axis(axes.xaxis)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set(xlabel="score", ylabel="share of its images")
    _legend_above(figure, 2)
    return to_svg(figure)


def ladder_chart(ladder: Sequence[Rung]) -> bytes:
    """The share of the defective images found for each false-alarm rate allowed, with its interval.

    The model's own rate is darker, one that the calibration images do not support is hatched.

    >>> counts = {"needed": 19, "defective": 4, "found": 2, "interval": (0.1, 0.9), "good": 3, "flagged": 0}
    >>> svg = ladder_chart([Rung(max_false_alarm_rate=0.05, is_chosen=True, threshold=1.0, **counts)])
    >>> b"5 %" in svg, b"2 of 4" in svg
    (True, True)
    """
    figure, axes = new_figure(width=4.9, height=3.2)
    for place, rung in enumerate(ladder):
        if rung.found is None or rung.interval is None:
            axes.bar(
                [place], [1.0], width=0.62, color="none", edgecolor="#808080", hatch="///", linewidth=0, alpha=0.35
            )
            axes.text(
                place,
                0.5,
                f"needs\n{rung.needed}\nheld\nout" if rung.needed else "too few\ngood\nimages",
                ha="center",
                va="center",
                color=INK,
                fontsize=8,
            )
            continue
        share = rung.found / rung.defective
        axes.bar([place], [share], width=0.62, color=DEFECTIVE_COLOUR, alpha=0.85 if rung.is_chosen else 0.5)
        axes.plot([place, place], rung.interval, color=INK, linewidth=1.3)
        axes.text(place, 1.03, f"{rung.found} of {rung.defective}", ha="center", color=INK, fontsize=8)
    axes.set_xticks(range(len(ladder)), [promised_percent(rung.max_false_alarm_rate) for rung in ladder])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.set(ylim=(0, 1.12), xlim=(-0.6, len(ladder) - 0.4), xlabel="false alarms allowed", ylabel="defective found")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    return to_svg(figure)


def threshold_curves(
    thresholds: ArrayLike, curves: Mapping[str, Sequence[float | None]], marks: Mapping[str, float | None]
) -> bytes:
    """Pixel precision, recall and F1 over the threshold, with the thresholds in use marked; None leaves a gap.

    >>> svg = threshold_curves([0.1, 0.2, 0.4], {"F1": [0.2, 0.6, 0.1]}, {"calibrated": 0.2, "oracle": None})
    >>> b"calibrated" in svg, b"oracle" in svg
    (True, False)
    """
    figure, axes = new_figure(width=5.8, height=3.2)
    levels = np.asarray(thresholds, np.float64)
    for (name, values), colour in zip(curves.items(), COLOURS, strict=False):
        axes.plot(
            levels, np.asarray(values, np.float64), color=colour, label=name, linewidth=2 if name == "F1" else 1.3
        )
    drawn = [(name, mark) for name, mark in marks.items() if mark is not None and levels[0] <= mark <= levels[-1]]
    drawn.sort(key=lambda pair: pair[1])
    is_wide = _is_wide(levels)
    if is_wide:
        log_axis(axes.xaxis)
    places = [math.log(mark) if is_wide else mark for _, mark in drawn]
    near = 0.13 * abs(np.diff([math.log(levels[0]), math.log(levels[-1])] if is_wide else levels[[0, -1]])[0])
    row = 0
    for place, (name, mark) in enumerate(drawn):
        row = row + 1 if place and places[place] - places[place - 1] < near else 0
        axes.axvline(mark, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.text(mark, 1.02 + 0.07 * row, name, ha="center", color=INK, fontsize=8)
    axes.set(ylim=(0, 1.01), xlabel="threshold")
    axes.legend(frameon=False, labelcolor=INK, fontsize=8, loc="center left")
    return to_svg(figure)


def measure_dots(names: Sequence[str], columns: Mapping[str, Mapping[str, tuple[float, float, float]]]) -> bytes:
    """For each measure (all from 0 to 1) a row of dots, one a name: its mean, and a line from its smallest to largest.

    >>> b"AUROC" in measure_dots(["seed", "vae"], {"AUROC": {"seed": (0.5, 0.4, 0.6)}})
    True
    """
    figure, axes = new_figure(width=8.4, height=0.9 + 0.24 * len(names))
    pitch = 1.12
    for column, (label, found) in enumerate(columns.items()):
        left = column * pitch
        axes.axvspan(left, left + 1, color="#808080", alpha=0.09, linewidth=0)
        axes.text(left + 0.5, -0.85, label, ha="center", va="center", color=INK, fontsize=9)
        for name, (mean, low, high) in found.items():
            row = names.index(name)
            axes.plot([left + low, left + high], [row, row], color=DEFECTIVE_COLOUR, linewidth=1.6)
            axes.plot([left + mean], [row], color=DEFECTIVE_COLOUR, marker="o", markersize=4.5)
    axes.grid(visible=False)
    ticks = [column * pitch + share for column in range(len(columns)) for share in (0.0, 0.5, 1.0)]
    axes.set_xticks(ticks, ["0", "0.5", "1"] * len(columns))
    axes.set_yticks(range(len(names)), [_plain(name) for name in names])
    axes.set(xlim=(-0.05, len(columns) * pitch - 0.07), ylim=(len(names) - 0.5, -0.55))
    axes.spines[["left", "bottom"]].set_visible(False)
    return to_svg(figure)


def setting_curves(
    values: Sequence[object],
    curves: Mapping[str, Sequence[tuple[float, float, float] | None]],
    setting: str,
    label: str,
) -> bytes:
    """A measure from 0 to 1 over the values of a setting, a line for each name.

    Means, and where there are several seeds a band from the smallest to the largest. Values that are not all numbers
    stand in the order given.

    >>> b"latent" in setting_curves([8, 32], {"F1": [(0.5, 0.4, 0.6), None]}, "latent", "F1")
    True
    """
    figure, axes = new_figure(width=5.6, height=3.4)
    numbers = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    is_scale = len(numbers) == len(values)
    places = np.array(numbers if is_scale else range(len(values)), np.float64)
    for (name, points), colour in zip(curves.items(), COLOURS, strict=False):
        known = sorted((place, *point) for place, point in zip(places, points, strict=True) if point is not None)
        if known:
            x, mean, low, high = np.array(known).T
            axes.plot(x, mean, color=colour, label=name, marker="o", markersize=4, linewidth=1.6)
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    if is_scale and _is_wide(np.sort(places)):
        log_axis(axes.xaxis)
    axes.set_xticks(places, [_plain(str(value)) for value in values])
    axes.set(xlabel=setting, ylabel=label, ylim=(0.0, 1.03))
    small_legend(axes)
    return to_svg(figure)


def new_figure(width: float = 5.2, height: float = 3.2) -> tuple[Figure, Axes]:
    """An empty chart, sides in inches, in the colours of the page."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0.0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=INK, fontsize=9)
    axes.grid(axis="y", color="#808080", alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _is_wide(ascending: NDArray[np.float64]) -> bool:
    """Whether equal ratios show more than equal steps."""
    return bool(ascending.size and 0 < 20 * ascending[0] < ascending[-1])


def log_axis(axis: XAxis | YAxis) -> None:
    """Equal steps for equal ratios, marked at 1, 2 and 5."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="both", color=INK)


def small_legend(axes: Axes) -> None:
    """What the lines mean."""
    axes.legend(frameon=False, labelcolor=INK, fontsize=8)


def _legend_above(figure: Figure, columns: int) -> None:
    """What the lines mean, where they reach everywhere in the chart."""
    figure.legend(loc="outside upper right", ncols=columns, frameon=False, labelcolor=INK, fontsize=8)


def _score_edges(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bins in equal steps, or in equal ratios where the largest score is far above the smallest."""
    low, high = float(scores.min()), float(scores.max())
    count = max(8, min(40, scores.size // 2))
    if high <= low:
        return np.linspace(low - 0.5, high + 0.5, count + 1)
    return (np.geomspace if _is_wide(np.array([low, high])) else np.linspace)(low, high, count + 1)


def _plain(name: str) -> str:
    """The end of the name, without matplotlib's formulas: a dollar sign would begin one."""
    return ("…" + name[-17:] if len(name) > 18 else name).replace("$", r"\$")


def to_svg(figure: Figure) -> bytes:
    """The chart as a part of a page; `INK` takes the colour of the text around it."""
    file = io.BytesIO()
    # Without a salt matplotlib numbers its parts at random, and one run's page would differ from the next one's.
    # A letter that matplotlib's own font lacks only makes its guess of the width worse; browsers have others.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "blemish"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        canvas: Any = FigureCanvasSVG(figure)  # its methods have no types
        # Not savefig, which draws everything twice to lay it out.
        canvas.print_svg(file, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = file.getvalue().decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # inside a page they say nothing
    return text.replace(INK, "currentColor").encode()


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
    _legend_above(figure, 4)
    return to_svg(figure)
