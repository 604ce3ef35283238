"""Chance-corrected localisation beside scikit-learn, and what it must be where a map knows nothing of its image."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from blemish.stats import PixelScores, localisation
from blemish.stats.localisation import localisation_gain


def drawn(seed: int) -> tuple[np.ndarray, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    masks = [rng.random((6, 9)) < 0.3 for _ in range(4)]
    return np.round(rng.random((6, 9)) + masks[0], 1), masks  # rounded: many values are equal


def test_it_is_what_scikit_learn_gives() -> None:
    anomaly_map, (own, *others) = drawn(0)
    crossed = [roc_auc_score(other.ravel(), anomaly_map.ravel()) for other in others]
    wanted = roc_auc_score(own.ravel(), anomaly_map.ravel()) - np.mean(crossed)
    assert localisation_gain(anomaly_map, own, others) == pytest.approx(wanted, abs=1e-12)


def test_only_valid_pixels_count() -> None:
    anomaly_map, (own, *others) = drawn(1)
    valid = np.zeros((6, 9), bool)
    valid[1:5, 2:8] = True
    cut = localisation_gain(anomaly_map[1:5, 2:8], own[1:5, 2:8], [other[1:5, 2:8] for other in others])
    changed = np.where(valid, anomaly_map, 9.0)
    assert localisation_gain(changed, own, others, valid) == pytest.approx(cut, abs=1e-12)


def test_a_map_of_where_defects_usually_are_gains_nothing() -> None:
    """In every image high in the middle, where every mask is: image by image nearly perfect, and worth nothing."""
    rng, middle = np.random.default_rng(2), np.zeros((32, 32), bool)
    middle[12:20, 12:20] = True
    masks = {f"{place}.png": middle & (rng.random((32, 32)) < 0.5) for place in range(8)}
    knowing, usual = PixelScores(others=masks), PixelScores(others=masks)
    for name, mask in masks.items():
        usual.add(name, middle + 0.01 * rng.random((32, 32)), mask)
        knowing.add(name, 1.0 * middle + mask + 0.01 * rng.random((32, 32)), mask)
    assert usual.auroc() > 0.98
    assert abs(np.mean(list(usual.localisation_gains().values()))) < 0.003
    assert np.mean(list(knowing.localisation_gains().values())) > 0.01


def test_masks_of_others_are_resized_to_the_map() -> None:
    own, other = np.eye(4, dtype=bool), np.eye(4, dtype=bool)[::-1]
    gains = []
    for scale in (1, 3):
        scores = PixelScores(others={"b.png": np.kron(other, np.ones((scale, scale), bool))})
        scores.add("a.png", own * 1.0, own)
        gains.append(scores.localisation_gains()["a.png"])
    assert gains[0] == gains[1] > 0.5


def test_there_is_none_without_masks_of_others() -> None:
    own = np.eye(4, dtype=bool)
    for others in ({}, {"a.png": own}, {"b.png": np.zeros((4, 4), bool)}):
        scores = PixelScores(others=others)
        scores.add("a.png", own * 1.0, own)
        scores.add("good.png", np.zeros((4, 4)))
        assert scores.localisation_gains() == {}


def test_large_maps_are_thinned_out(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    own, other = (np.kron(rng.random((8, 8)) < 0.4, np.ones((8, 8))).astype(bool) for _ in range(2))
    anomaly_map = own + rng.random((64, 64))
    exact = localisation_gain(anomaly_map, own, [other])
    monkeypatch.setattr(localisation, "MOST_PX", 1024)
    thinned = localisation_gain(anomaly_map, own, [other])
    assert thinned == localisation_gain(anomaly_map[::2, ::2], own[::2, ::2], [other[::2, ::2]])
    assert thinned == pytest.approx(exact, abs=0.05)
