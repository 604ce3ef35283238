"""What runs do: train a model from a folder, challenge a model, calibrate the live one again."""

import json
import shutil
from pathlib import Path
from typing import Any

from blemish.data.folder import ID_DIGITS
from blemish.errors import BadFileError, BlemishError, DataError, plural
from blemish.settings import RunSettings
from blemish.station.kept_images import NO_IMAGE, Own, confirmed_good, own_images, put_images
from blemish.station.products import add_model
from blemish.station.recalibrate import counting, recalibrate
from blemish.station.runs import Doing, Kind
from blemish.station.tables import Model

CHALLENGE_DEFECTS = 20
"""Of each type and contrast: fewer than the command puts, for the line goes on beside it."""


AREAS = ("roi", "ignore")
"""Settings of training that say where to look."""


def check_training(asked: dict[str, Any]) -> None:
    """Refuse a detector that there is not; only where one is named, for to know them takes a second or two.

    Raises:
        SettingsError: as `make_settings`.
    """
    if asked.get("detector"):
        _training_settings(asked)


def _training_settings(asked: dict[str, Any]) -> RunSettings:
    from blemish.training.settings import make_settings

    assignments = ["data.skip_bad=true"] if asked.get("skip_bad") else []
    assignments += [f"data.{name}={asked[name]}" for name in AREAS if asked.get(name)]
    return make_settings(asked.get("detector") or None, None, assignments)


def train(doing: Doing) -> dict[str, Any]:
    """Train on a folder as `blemish train` does, export, and keep the model; it is not live yet.

    Raises:
        BlemishError: as `blemish train`.
    """
    from blemish.training.export import export_model
    from blemish.training.memory import keep_freed_memory
    from blemish.training.train import train_model

    keep_freed_memory()
    trained, exported = doing.out / "model.safetensors", doing.out / "model.onnx"
    settings = _training_settings(doing.asked)
    folder, what = _good_images(doing)
    doing.say(f"training on {what}")
    try:
        header = train_model(folder, trained, settings, "auto", False, doing.report)
    except BlemishError as error:
        advice = "; set the tick that leaves out such images" if isinstance(error, BadFileError) else ""
        raise BlemishError(doing.without_paths(error.why, what) + advice) from None
    doing.say(f"{header.detector}: {header.certificate.promise}")
    for name, why in header.data_card.skipped.items():
        doing.say(f"left out: {name}: {why.removeprefix(f'{folder / name}: ')}")
    export_model(trained, exported)
    origin = f"trained here on {what}"
    named = (f"{doing.asked['name']}.onnx", exported.read_bytes())
    model = add_model(doing.database, doing.folder, doing.actor, doing.product_id, named, origin=origin)
    exported.unlink()
    return {
        "model_id": model.id,
        "detector": header.detector,
        "promise": header.certificate.promise,
        "fitted": header.data_card.fit_images,
        "calibrated": header.data_card.calibration_images,
        "notes": list(header.data_card.notes),
    }


def _good_images(doing: Doing) -> tuple[Path, str]:
    """The folder to train on, and what is in it: one of this machine, or images that the station has.

    Raises:
        DataError: it has none.
    """
    which: Own | None = doing.asked.get("images") or None
    if which is None:
        return Path(doing.asked["path"]), doing.asked["path"]
    with doing.database.read() as session:
        images = own_images(session, doing.product_id, which)
    placed = put_images(doing.folder, images, doing.images)
    if not placed:
        raise DataError(NO_IMAGE[which])
    number = plural(len(placed), "image")
    told = {"waiting": f"{number} that waited to be judged", "confirmed": f"{number} confirmed good in the audit lane"}
    return doing.images, told[which]


def challenge(doing: Doing) -> dict[str, Any]:
    """Which synthetic defects a model misses, put on images confirmed good in the audit lane or on a folder's.

    Raises:
        BlemishError: as `blemish challenge`.
    """
    from blemish.data.folder import read_folder
    from blemish.evaluation.challenge.challenge import ChallengeSettings, challenge_model
    from blemish.inference.predictor import Predictor

    with doing.database.read() as session:
        model = session.get(Model, doing.asked["model_id"])
        if model is None or model.product_id != doing.product_id:
            raise DataError(f"model {doing.asked['model_id']}: there is none of this product")
        images = confirmed_good(session, doing.product_id, "")
    predictor = Predictor.load(doing.folder.model_path(model.sha256), "cpu", 1)
    good = Path(doing.asked["path"]) if doing.asked.get("path") else doing.images
    if not doing.asked.get("path"):
        fitted = set(predictor.header.data_card.fit_ids)
        unseen = [image for image in images if image.sha256[:ID_DIGITS] not in fitted]
        if not put_images(doing.folder, unseen[-100:], good):
            raise DataError(NO_IMAGE["unseen" if images else "confirmed"])
    settings = ChallengeSettings(defects=CHALLENGE_DEFECTS, skip_bad=True)
    report = counting(doing, "challenging")
    found = challenge_model(predictor, read_folder(good), doing.out / "challenge", settings, report)
    results = json.loads(found.results_path.read_text(encoding="utf-8"))
    shutil.rmtree(doing.out / "challenge")
    names = ("defect_type", "contrast", "found", "defects", "largest_missed_px", "a90")
    curves = [{name: curve.get(name) for name in names} for curve in results["curves"]]
    return {"model_id": model.id, "photos": results["data"]["photos"], "curves": curves, "notes": results["notes"]}


KINDS = {
    "train": Kind(train, ("torch", "onnx", "onnxscript"), check_training),
    "challenge": Kind(challenge, ("matplotlib",)),
    "recalibrate": Kind(recalibrate),
}
"""By their names in the store."""
