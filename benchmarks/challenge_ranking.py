"""Does power against synthetic defects rank detectors as their real defects do?

    python benchmarks/challenge_ranking.py ../shared/data/hazelnut_toy ../shared/data/mvtec_toothbrush \
        --detectors padim,patchcore,feature_autoencoder,ae_ssim --defects 20

Trains each detector on each set (a model that stands in build/benchmarks/challenge_ranking is taken as it is),
evaluates it on the real defects, and challenges it with synthetic ones on the good test photos. Prints a table, and
for each set Kendall's tau between the share of synthetic defects found and (a) the share of real defective images
found at the same threshold, (b) the image AUROC. Writes build/benchmarks/challenge_ranking.json.
"""

import argparse
from pathlib import Path
from typing import Any

from machine import describe, write_json
from scipy.stats import kendalltau

from blemish.data.folder import Folder, read_folder
from blemish.evaluation.challenge.challenge import ChallengeSettings, challenge_model
from blemish.evaluation.evaluate import evaluate_model
from blemish.inference.predictor import Predictor
from blemish.training.settings import make_settings
from blemish.training.train import train_model

OUT = Path("build/benchmarks/challenge_ranking")


def row(folder: Folder, detector: str, assignments: list[str], settings: ChallengeSettings) -> dict[str, Any]:
    """One detector on one set: what it finds of the real defects and of the synthetic ones."""
    out = OUT / folder.root.name / detector
    out.mkdir(parents=True, exist_ok=True)
    model = out / "model.safetensors"
    train_model(folder.root, model, make_settings(detector, assignments=assignments), resume=True)
    predictor = Predictor.load(model)
    real = evaluate_model(predictor, folder, out).results
    curves = challenge_model(predictor, folder, out, settings).results["curves"]
    by_contrast = {
        contrast: share([curve for curve in curves if curve["contrast"] == contrast]) for contrast in settings.contrasts
    }
    return {
        "set": folder.root.name,
        "detector": detector,
        "real_defect_rate": real["image"]["defect_rate"],
        "real_auroc": real["image"]["auroc"],
        "false_alarms": real["realised_false_alarm_rate"]["rate"],
        "synthetic": share(curves),
        "by_contrast": by_contrast,
        "by_type": {kind: share([c for c in curves if c["defect_type"] == kind]) for kind in settings.defect_types},
    }


def share(curves: list[dict[str, Any]]) -> float:
    """The share of all these defects that was found."""
    return sum(curve["found"] for curve in curves) / max(1, sum(curve["defects"] for curve in curves))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--detectors", default="padim,patchcore,feature_autoencoder,feature_dictionary,ae_ssim,ae_l2")
    parser.add_argument("--defects", type=int, default=20, help="synthetic defects of each type and contrast")
    parser.add_argument("--set", action="append", default=[], help="a setting for all detectors")
    arguments = parser.parse_args()
    settings = ChallengeSettings(defects=arguments.defects, anywhere=True)
    rows, agreement = [], {}
    print(
        "| set | detector | synthetic found | real found | real image AUROC | false alarms |\n|---|---|---|---|---|---|"
    )
    for root in arguments.data:
        here = []
        for detector in arguments.detectors.split(","):
            one = row(read_folder(root), detector.strip(), arguments.set, settings)
            here.append(one)
            figures = (one[key] for key in ("synthetic", "real_defect_rate", "real_auroc", "false_alarms"))
            print(f"| {root.name} | {detector} | {' | '.join(f'{value:.3f}' for value in figures)} |", flush=True)
        agreement[root.name] = {
            key: float(kendalltau([one["synthetic"] for one in here], [one[key] for one in here]).statistic)
            for key in ("real_defect_rate", "real_auroc")
        }
        rows += here
    for name, tau in agreement.items():
        print(f"{name}: tau {tau['real_defect_rate']:.2f} to real defects found, {tau['real_auroc']:.2f} to real AUROC")
    write_json("challenge_ranking", {"machine": describe(), "rows": rows, "kendall_tau": agreement})


if __name__ == "__main__":
    main()
