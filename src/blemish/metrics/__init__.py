"""Measures of how well defects were found. They know arrays only: no files, no models."""

from blemish.metrics.intervals import Interval, auroc_interval, bootstrap_images, rate_interval
from blemish.metrics.pixel import Counts, accuracy, count, defect_rate, f1, ok_rate, precision, recall
from blemish.metrics.pixel_scores import PixelHistogram, PixelScores
from blemish.metrics.ranking import RocCurve, auroc, average_precision, roc_curve
from blemish.metrics.regions import aupimo, aupro, label_regions

__all__ = [
    "Counts",
    "Interval",
    "PixelHistogram",
    "PixelScores",
    "RocCurve",
    "accuracy",
    "aupimo",
    "aupro",
    "auroc",
    "auroc_interval",
    "average_precision",
    "bootstrap_images",
    "count",
    "defect_rate",
    "f1",
    "label_regions",
    "ok_rate",
    "precision",
    "rate_interval",
    "recall",
    "roc_curve",
]
