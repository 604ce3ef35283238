"""Numbers on arrays: measures of quality, certificates, drift, probability of detection.

The plain-words account, with every assumption and source, is docs/explain/guarantees.md.
"""

from blemish.stats.conformal import (
    Certificate,
    certify,
    images_needed,
    more_images_needed,
    p_value,
    smallest_rate,
    worst_of_groups,
)
from blemish.stats.conformal_folds import (
    certify_cross,
    smallest_cross_rate,
    smallest_score_p_value,
)
from blemish.stats.control_chart import ControlChart, ControlPoint, laney_p_chart
from blemish.stats.counts import Counts, accuracy, count, defect_rate, f1, ok_rate, precision, recall
from blemish.stats.false_discovery import any_dependence, benjamini_hochberg, largest_selected
from blemish.stats.intervals import Interval, auroc_interval, rate_interval
from blemish.stats.martingale import Martingale, drifted, observe, start_martingale
from blemish.stats.pixel_scores import PixelHistogram, PixelScores
from blemish.stats.pod import DetectableSize, PodCurve, fit_pod
from blemish.stats.ranking import RocCurve, auroc, average_precision, roc_curve
from blemish.stats.regions import label_regions

__all__ = [
    "Certificate",
    "ControlChart",
    "ControlPoint",
    "Counts",
    "DetectableSize",
    "Interval",
    "Martingale",
    "PixelHistogram",
    "PixelScores",
    "PodCurve",
    "RocCurve",
    "accuracy",
    "any_dependence",
    "auroc",
    "auroc_interval",
    "average_precision",
    "benjamini_hochberg",
    "certify",
    "certify_cross",
    "count",
    "defect_rate",
    "drifted",
    "f1",
    "fit_pod",
    "images_needed",
    "label_regions",
    "laney_p_chart",
    "largest_selected",
    "more_images_needed",
    "observe",
    "ok_rate",
    "p_value",
    "precision",
    "rate_interval",
    "recall",
    "roc_curve",
    "smallest_cross_rate",
    "smallest_rate",
    "smallest_score_p_value",
    "start_martingale",
    "worst_of_groups",
]
