"""AUPRO and pixel AUROC beside two implementations by others, where these are installed."""

import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from blemish.stats import PixelScores

LIMITS = (0.3, 0.05)


def some_maps() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Six maps with ties among their values, four of them with two defects that stand out more or less."""
    rng = np.random.default_rng(7)
    masks = np.zeros((6, 40, 60), np.bool_)
    masks[2:, 3:9, 5:9] = masks[2:, 25:27, 40:55] = True
    values = rng.random(masks.shape) + masks * rng.uniform(0.0, 0.9, (6, 1, 1))
    return np.round(values / 2, 3).astype(np.float32), masks


def ours() -> PixelScores:
    scores = PixelScores()
    for number, (values, mask) in enumerate(zip(*some_maps(), strict=True)):
        scores.add(str(number), values, mask if mask.any() else None)
    return scores


@pytest.mark.parametrize("limit", LIMITS)
def test_aupro_is_pyaupros(limit: float) -> None:
    pyaupro = pytest.importorskip("pyaupro", reason="pip install pyaupro")
    values, masks = some_maps()
    theirs = pyaupro.PerRegionOverlap(thresholds=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells of the memory that it takes
        for value, mask in zip(values, masks, strict=True):
            theirs.update(torch.from_numpy(value)[None], torch.from_numpy(mask)[None].long())
        false_positive_rate, overlap = theirs.compute()
        area = pyaupro.auc_compute(false_positive_rate, overlap, limit)
    assert ours().aupro(limit) == pytest.approx(float(area), abs=2e-3)


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # where its threshold leaves no pixel
def test_aupro_and_auroc_are_adevals(monkeypatch: pytest.MonkeyPatch) -> None:
    adeval = pytest.importorskip("adeval", reason="pip install --no-deps adeval opencv-python-headless")
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # as ADEval 1.1.0 calls it; numpy 2.4 does not
    values, masks = some_maps()
    theirs = adeval.EvalAccumulator(float(values.min()), float(values.max()), nstrips=4000)
    for value, mask in zip(values, masks, strict=True):
        theirs.add_anomap(value, mask.astype(np.uint8))
        theirs.add_image(float(value.max()), bool(mask.any()))
    found = theirs.summary()
    assert ours().aupro(0.3) == pytest.approx(found["p_aupro"], abs=2e-3)
    assert ours().auroc() == pytest.approx(found["p_auroc"], abs=1e-3)
