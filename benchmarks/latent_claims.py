"""Does section 7.2 of the paper hold? It says that the latent must be neither too small nor too large.

    blemish sweep setting DATA --detector paper --set model.latent=8,32,100,500,2000 --seeds 3 -o sweep
    python benchmarks/latent_claims.py DATA sweep

From the models of a sweep over `model.latent`: for each size the mean of the anomaly map on good and on defective
pixels (for the paper's detector the reconstruction error), and of each of the paper's claims whether it holds.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish.data.folder import Folder, Sample, read_folder
from blemish.data.split import split_good
from blemish.errors import DataError
from blemish.inference.calibration import DEFAULT_RATE
from blemish.inference.predictor import Predictor

Nested = dict[str, Any]
PIXELS = ("good_held_out", "good_test", "defective_test")
"""Whose map values are averaged: good images that were not fitted on, good pixels of test images, defective ones."""

Order = Literal["higher", "lower", "alike"]


def claims(summary: Sequence[Nested]) -> list[Nested]:
    """Each claim with `holds` (None: cannot be told) and its evidence in one sentence; none of fewer than three values.

    Two means differ where they lie further apart than their standard deviations over the seeds together. With one seed
    any difference counts, and the evidence says so.
    """
    known = [each for each in summary if each["seeds"] and isinstance(each["value"], int | float)]
    known.sort(key=lambda each: each["value"])
    if len(known) < 3:
        return []
    found = [_small(known), _large(known), _optimum(known)]
    if max(each["seeds"] for each in known) == 1:
        for claim in found:
            claim["evidence"] += " One seed: small differences may be chance."
    return found


def compared(one: Nested, other: Nested) -> Order:
    """How the mean of one spread stands to that of another.

    >>> compared({"mean": 0.5, "std": 0.1}, {"mean": 0.4, "std": 0.1})
    'alike'
    """
    margin = (one["std"] or 0.0) + (other["std"] or 0.0)
    if abs(one["mean"] - other["mean"]) <= margin:
        return "alike"
    return "higher" if one["mean"] > other["mean"] else "lower"


def _small(known: Sequence[Nested]) -> Nested:
    name = "good_held_out" if known[0]["map_means"]["good_held_out"] else "good_test"
    text = "Too small a latent cannot hold the details of good images: the error on good pixels rises."
    smallest, least = known[0], min(known[1:], key=_mean("map_means", name))
    return _judged(text, smallest, least, ("map_means", name), "higher", "error on good pixels")


def _large(known: Sequence[Nested]) -> Nested:
    text = "Too large a latent reproduces defects, too: the error on defective pixels falls."
    if any(each["map_means"]["defective_test"] is None for each in known):
        return {"claim": text, "holds": None, "evidence": "No defective pixels are known."}
    most = max(known[:-1], key=_mean("map_means", "defective_test"))
    return _judged(text, known[-1], most, ("map_means", "defective_test"), "lower", "error on defective pixels")


def _optimum(known: Sequence[Nested]) -> Nested:
    text = "In between lies the best size: F1 (oracle) is lower at both ends."
    path = ("measures", "pixel.oracle_f1")
    if any(each["measures"]["pixel.oracle_f1"] is None for each in known):
        return {"claim": text, "holds": None, "evidence": "There is no F1 without known defective pixels."}
    best = max(known[1:-1], key=_mean(*path))
    orders = [compared(_at(end, path), _at(best, path)) for end in (known[0], known[-1])]
    holds = None if "alike" in orders and "higher" not in orders else orders == ["lower", "lower"]
    values = ", ".join(f"{_at(each, path)['mean']:.3g} at {each['label']}" for each in (known[0], best, known[-1]))
    return {"claim": text, "holds": holds, "evidence": f"F1 {values}."}


def _judged(text: str, end: Nested, other: Nested, path: tuple[str, str], wanted: Order, what: str) -> Nested:
    order = compared(_at(end, path), _at(other, path))
    holds = None if order == "alike" else order == wanted
    values = ", ".join(f"{_at(each, path)['mean']:.3g} at {each['label']}" for each in (end, other))
    return {"claim": text, "holds": holds, "evidence": f"Mean {what}: {values}."}


def _at(point: Nested, path: tuple[str, str]) -> Any:
    return point[path[0]][path[1]]


def _mean(*path: str) -> Callable[[Nested], float]:
    return lambda point: float(point[path[0]][path[1]]["mean"])


def map_means(predictor: Predictor, folder: Folder) -> dict[str, float | None]:
    """Mean map value over all pixels of each kind in `PIXELS`; None where there are none.

    Only pixels inside the region of interest count, and defective images without a mask are left out. The images taken
    as held out must give the model's calibration scores again; where they do not, it is not known which they were.
    """
    run = predictor.header.run
    rng = np.random.default_rng(run.seed)
    held_out = split_good(folder.train, run.data.calibration_fraction, rng, rate=DEFAULT_RATE)[1]
    known = [sample for sample in folder.test if sample.mask_paths or not sample.label]
    sums = {name: np.zeros(2) for name in PIXELS}  # of the values, and their number
    for sample in known:
        _add_map(predictor, sample, sums["good_test"], sums["defective_test"])
    with suppress(DataError):  # an unreadable image that training was told to leave out
        scores = [_add_map(predictor, sample, sums["good_held_out"], np.zeros(2)) for sample in held_out]
        calibrated = predictor.header.calibration_scores
        if len(scores) == len(calibrated) and np.allclose(sorted(scores), calibrated, rtol=1e-3):
            return _means(sums)
    return {**_means(sums), "good_held_out": None}


def _means(sums: dict[str, NDArray[np.float64]]) -> dict[str, float | None]:
    return {name: float(total / number) if number else None for name, (total, number) in sums.items()}


def _add_map(predictor: Predictor, sample: Sample, good: Any, defective: Any) -> float:
    """Adds to both sums; returns the score."""
    prediction = predictor.predict(sample.path)
    scored, policy = prediction.scored_map.astype(np.float64), predictor.policy
    valid = np.ones(scored.shape, np.bool_) if policy.roi is None else policy.whole_map(policy.roi)
    mask = np.zeros(scored.shape, np.bool_)
    if sample.mask_paths:
        mask = sample.load_mask(policy.window.map_px, prediction.image_size_px)
    for sums, where in ((good, valid & ~mask), (defective, valid & mask)):
        sums += scored[where].sum(), where.sum()
    return prediction.score


def spread(values: Sequence[float | None]) -> Nested | None:
    """Mean and standard deviation of the known values."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"mean": statistics.fmean(known), "std": statistics.stdev(known) if len(known) > 1 else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("sweep", type=Path)
    asked = parser.parse_args()
    folder, content = read_folder(asked.data), json.loads((asked.sweep / "sweep.json").read_text(encoding="utf-8"))
    summary = []
    for each in content["summary"]:
        models = sorted(
            (asked.sweep / "runs" / each["detector"] / f"model.latent={each['label']}").glob("seed*/model.safetensors")
        )
        means = [map_means(Predictor.load(model), folder) for model in models]
        row = {**each, "map_means": {name: spread([one[name] for one in means]) for name in PIXELS}}
        summary.append(row)
        values = (row["map_means"][name] for name in PIXELS)
        print(f"{each['label']:>8}", *(f"{part['mean']:.4f}" if part else "-" for part in values))
    for claim in claims(summary):
        verdict = {True: "holds", False: "does not hold", None: "cannot be told"}[claim["holds"]]
        print(f"{verdict}: {claim['claim']} {claim['evidence']}")


if __name__ == "__main__":
    main()
