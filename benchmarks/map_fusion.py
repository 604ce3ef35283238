"""How should the feature auto-encoder's terms become one map? Its own way beside others, without any new training.

    blemish train DATA --detector feature_autoencoder -o model.safetensors
    python benchmarks/map_fusion.py DATA model.safetensors [MORE.safetensors ...]

Scores the test images with each of the models (one a seed, say) and joins the terms in several ways. Prints medians
over the models; writes build/benchmarks/map_fusion.json. The test masks are used: this is for designing a detector,
with several sets, not for setting up a model.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import describe, write_json
from torch import Tensor

from blemish.data.folder import read_folder
from blemish.data.images import load_image
from blemish.inference.runtime import open_detector
from blemish.models.feature_autoencoder import FeatureAutoencoder
from blemish.stats.pixel_scores import PixelScores
from blemish.stats.ranking import auroc

WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "geometric mean": lambda terms: terms.log().mean(dim=0).exp(),
    "mean of roots": lambda terms: terms.sqrt().mean(dim=0).square(),
    "mean": lambda terms: terms.mean(dim=0),
    "root mean square": lambda terms: terms.square().mean(dim=0).sqrt(),
    "maximum": lambda terms: terms.amax(dim=0),
    "residual at stride 4 alone": lambda terms: terms[0],
    "residual at stride 8 alone": lambda terms: terms[1],
    "both residuals, geometric": lambda terms: terms[:2].log().mean(dim=0).exp(),
    "distance at stride 16 alone": lambda terms: terms[2],
}
MEASURES = ("image AUROC", "pixel AUROC", "AUPRO", "oracle F1")


@torch.inference_mode()
def measure(model: Path, data: Path) -> dict[str, list[float]]:
    """The four measures of each way of joining the terms of one model."""
    header, detector, _ = open_detector(model)
    assert isinstance(detector, FeatureAutoencoder), f"{model}: not a feature auto-encoder"
    detector.eval()
    scores = {way: PixelScores() for way in WAYS}
    maxima: dict[str, list[float]] = {way: [] for way in WAYS}
    labels = []
    for sample in read_folder(data).test:
        terms = detector.terms(torch.from_numpy(load_image(sample.path, header.policy))[None])[:, 0]  # (t, h, w)
        mask = sample.load_mask(header.policy.size_px)
        labels.append(sample.label)
        for way, join in WAYS.items():
            joined = join(terms).numpy()
            scores[way].add(sample.name, joined, mask)
            maxima[way].append(float(joined.max()))
    return {
        way: [auroc(np.array(maxima[way]), np.array(labels)), found.auroc(), found.aupro(), found.oracle_f1()[0]]
        for way, found in scores.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("models", nargs="+", type=Path)
    arguments = parser.parse_args()
    each = [measure(model, arguments.data) for model in arguments.models]
    found = {way: np.median([one[way] for one in each], axis=0).tolist() for way in WAYS}
    print(f"| {arguments.data.name} | {' | '.join(MEASURES)} |\n|---|{'---|' * len(MEASURES)}")
    for way, values in found.items():
        print(f"| {way} | {' | '.join(f'{value:.3f}' for value in values)} |")
    write_json("map_fusion", {"machine": describe(), "set": arguments.data.name, "models": len(each), "found": found})


if __name__ == "__main__":
    main()
