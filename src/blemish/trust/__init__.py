"""Statistics on arrays of scores: what is promised, how it is kept, what would go unseen.

The plain-words account, with every assumption and source, is docs/explain/guarantees.md.
"""

from blemish.trust.batch import any_dependence, benjamini_hochberg
from blemish.trust.certificate import (
    Certificate,
    certify,
    conformal_threshold,
    images_needed,
    more_images_needed,
    one_per_group,
    p_value,
    smallest_rate,
    worst_of_groups,
)
from blemish.trust.cross import (
    certify_cross,
    cross_bound,
    cross_p_value,
    smallest_cross_rate,
    smallest_score_p_value,
)
from blemish.trust.martingale import Martingale, drifted, observe, start_martingale
from blemish.trust.power import DetectableSize, PodCurve, fit_pod

__all__ = [
    "Certificate",
    "DetectableSize",
    "Martingale",
    "PodCurve",
    "any_dependence",
    "benjamini_hochberg",
    "certify",
    "certify_cross",
    "conformal_threshold",
    "cross_bound",
    "cross_p_value",
    "drifted",
    "fit_pod",
    "images_needed",
    "more_images_needed",
    "observe",
    "one_per_group",
    "p_value",
    "smallest_cross_rate",
    "smallest_rate",
    "smallest_score_p_value",
    "start_martingale",
    "worst_of_groups",
]
