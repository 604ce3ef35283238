"""Power against size: how many synthetic defects of one type and contrast were found, and from which size on."""

from collections.abc import Sequence

import numpy as np

from blemish.errors import CalibrationError
from blemish.evaluation.challenge.content import PodLine, Power, PowerFit, SizeRow
from blemish.evaluation.challenge.trials import TrialResult
from blemish.stats import rate_interval
from blemish.stats.pod import DetectableSize, PodCurve, fit_pod


def power_curve(every: Sequence[TrialResult], confidence: float) -> Power:
    """Counts, the smallest found, the largest missed, and the fitted curve of trials of one type and contrast."""
    some = [one for one in every if one.outcome != "alarmed_before"]
    found, missed = ([one.size_px for one in some if one.is_hit is wanted] for wanted in (True, False))
    return {
        "defects": len(some),
        "found": len(found),
        "elsewhere": sum(one.outcome == "elsewhere" for one in some),
        "alarmed_before": len(every) - len(some),
        "smallest_found_px": min(found, default=None),
        "largest_missed_px": max(missed, default=None),
        "interval": list(rate_interval(len(found), len(some), confidence)) if some else None,
        **fit_power([one.size_px for one in some], [one.is_hit for one in some], confidence),
    }


def fit_power(sizes: Sequence[float], hits: Sequence[bool], confidence: float) -> PowerFit:
    """The curve of defects of these sizes that were found or not; where none can be fitted, `note` says why."""
    if not sizes:
        return _no_fit("none could be put on these photos")
    try:
        curve = fit_pod(sizes, hits, confidence=confidence)
    except CalibrationError:
        if all(hits):
            return _no_fit(f"all found, from {min(sizes):.0f} px on")
        return _no_fit(f"none found, up to {max(sizes):.0f} px")
    return {
        "fit": _line(curve),
        "a50": _sized(curve.a50),
        "a90": _sized(curve.a90),
        "a90_95": _sized(curve.a90_95),
        "note": "" if curve.slope > 0 else "larger ones are not found more often",
    }


def _no_fit(note: str) -> PowerFit:
    return {"fit": None, "a50": None, "a90": None, "a90_95": None, "note": note}


def _line(curve: PodCurve) -> PodLine:
    """The curve and its band, at sizes to draw them by."""
    sizes = np.geomspace(curve.smallest, curve.largest, 41)
    low, high = curve.band(sizes)
    return {
        "intercept": curve.intercept,
        "slope": curve.slope,
        "scale": curve.scale,
        "method": curve.method,
        "sizes_px": sizes.tolist(),
        "pod": curve.pod(sizes).tolist(),
        "low": low.tolist(),
        "high": high.tolist(),
    }


def _sized(size: DetectableSize) -> SizeRow:
    """A size beyond what was tested is the model's guess: it is not told."""
    return {"px": size.size if size.status == "found" else None, "status": size.status}
