"""The page of a challenge: which synthetic defects were found, of which size, and what the limits look like."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from blemish.evaluation.challenge.content import Content, Curve, SizeRow
from blemish.evaluation.report.close_up import TRUE_COLOUR, outline, own_scale
from blemish.evaluation.report.figures import pod_chart
from blemish.evaluation.report.html import inline, page_environment
from blemish.evaluation.report.pictures import photo
from blemish.inference.overlay import Rgb, overlay

_CLOSE_UP_PX = 200
_LEAST_CUT_PX = 48
_FULL_VIEW_PX = 320


@final
@dataclass(frozen=True)
class Shown:
    """One defect with all it takes to draw it; everything at the photo's own size (h, w)."""

    name: str
    size_px: float
    outcome: str
    image: Rgb
    mask: NDArray[np.bool_]
    anomaly_map: NDArray[np.float32]


def render(results: Content, shown: Mapping[str, Mapping[str, Shown]]) -> str:
    """The page, from the content of `challenge.json` and the defects at the limits, by type and contrast."""
    types = {
        kind: [curve for curve in results["curves"] if curve["defect_type"] == kind]
        for kind in results["settings"]["defect_types"]
    }
    template = page_environment(sized=sized, px=pixels).get_template("challenge.html.j2")
    return template.render(
        r=results,
        sentences=verdict(results),
        types=types,
        charts={kind: _chart(kind, curves, results) for kind, curves in types.items()},
        pictures={key: {what: _pictures(one, results) for what, one in some.items()} for key, some in shown.items()},
    )


def verdict(results: Content) -> list[str]:
    """What was found, in plain sentences: in all, then the strongest and the weakest side."""
    curves = [curve for curve in results["curves"] if curve["defects"]]
    if not curves:
        return ["No synthetic defect could be put on these photos."]
    every, found = sum(curve["defects"] for curve in curves), sum(curve["found"] for curve in curves)
    sentences = [f"Finds {found:,} of {every:,} synthetic defects."]
    faintest = min(curve["contrast"] for curve in curves)
    for contrast in sorted({curve["contrast"] for curve in curves}, reverse=True):
        sure = {
            c["defect_type"]: px
            for c in curves
            if c["contrast"] == contrast and c["a90_95"] and (px := c["a90_95"]["px"]) is not None
        }
        if sure:
            by_size = sorted(sure.items(), key=lambda pair: pair[1])
            listed = ", ".join(f"{_name(defect_type)} from {px:.0f} px" for defect_type, px in by_size)
            confidence = f"{100 * results['settings']['confidence']:g} %"
            sentences.append(f"With {confidence} confidence it finds nine in ten at contrast {contrast:g}: {listed}.")
            break
    else:
        if not any(curve["found"] == curve["defects"] for curve in curves):
            sentences.append("Of no size tested can “nine in ten are found” be said for sure.")
    strongest = max(curve["contrast"] for curve in curves)
    blind = [_name(c["defect_type"]) for c in curves if c["contrast"] == strongest > faintest and not c["found"]]
    if blind:
        sentences.append(f"Blind to: {', '.join(dict.fromkeys(blind))}, even where they are not faint.")
    missed = [(px, c["defect_type"]) for c in curves if c["contrast"] == strongest and (px := c["largest_missed_px"])]
    if missed:
        px, defect_type = max(missed, key=lambda pair: pair[0])
        sentences.append(f"The largest missed at contrast {strongest:g}: a {_name(defect_type)} of {px:.0f} px.")
    return sentences


def sized(size: SizeRow | None) -> str:
    """A detectable size for a table.

    >>> sized({"px": 12.4, "status": "found"})
    '12 px'
    >>> sized({"px": None, "status": "never"})
    'never'
    """
    if size is None:
        return ""
    if size["status"] == "never":
        return "never"
    if size["status"] == "below_range":
        return "smaller"
    return f"{size['px']:.0f} px" if size["status"] == "found" else "larger"


def pixels(size: float | None) -> str:
    """An extent for a table.

    >>> pixels(3.2), pixels(None)
    ('3', '-')
    """
    return "-" if size is None else f"{size:.0f}"


def _name(defect_type: str) -> str:
    return defect_type.replace("_", " ")


def _chart(kind: str, curves: Sequence[Curve], results: Content) -> Markup | None:
    """None where no defect of this type could be put on the photos."""
    trials = {
        curve["contrast"]: [
            (row["size_px"], row["outcome"] == "hit")
            for row in results["defects"]
            if (row["defect_type"], row["contrast"]) == (kind, curve["contrast"]) and row["outcome"] != "alarmed_before"
        ]
        for curve in curves
    }
    if not any(trials.values()):
        return None
    low, high = results["sizes_px"]
    return inline(pod_chart({curve["contrast"]: curve["fit"] for curve in curves}, trials, (low, high)))


def _pictures(one: Shown, results: Content) -> dict[str, Any]:
    """A close-up without marks, the same with the defect outlined, and the photo under its heat map."""
    rows, columns = _around(one)
    cut, mask = one.image[rows, columns], one.mask[rows, columns]
    is_hit = one.outcome == "hit"
    heat = overlay(one.image, one.anomaly_map, results["threshold"])
    heat = heat if is_hit else own_scale(one.image, one.anomaly_map)
    return {
        "name": one.name,
        "size_px": one.size_px,
        "outcome": one.outcome,
        "pictures": [
            ("close-up", photo(_fitted(cut, _CLOSE_UP_PX))),
            ("where it is", photo(_outlined(cut, mask))),
            ("heat map" if is_hit else "heat, on its own scale", photo(_fitted(heat, _FULL_VIEW_PX))),
        ],
    }


def _around(one: Shown) -> tuple[slice, slice]:
    """A square of about three times the defect's extent around it, inside the photo."""
    side = int(max(_LEAST_CUT_PX, 2.5 * one.size_px))
    slices = []
    for axis in (0, 1):
        spots = np.flatnonzero(one.mask.any(axis=1 - axis))
        length = one.mask.shape[axis]
        start = min(max(0, (int(spots[0]) + int(spots[-1])) // 2 - side // 2), max(0, length - side))
        slices.append(slice(start, min(length, start + side)))
    return slices[0], slices[1]


def _outlined(cut: Rgb, mask: NDArray[np.bool_]) -> Rgb:
    """Enlarged first, so that the line stays thin and just outside of the defect."""
    large = _fitted(cut, _CLOSE_UP_PX)
    size = (large.shape[1], large.shape[0])
    grown = np.asarray(Image.fromarray(np.uint8(mask)).resize(size, Image.Resampling.NEAREST)) > 0
    return outline(large, grown, TRUE_COLOUR)


def _fitted(image: Rgb, longest_px: int) -> Rgb:
    scale = longest_px / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize(size, how))
