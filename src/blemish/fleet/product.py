"""One product of a plan: trained, exported, looked through and challenged in its folder of the registry."""

import hashlib
import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, final

from pydantic import ValidationError

from blemish.data.files import atomic_write, make_folder
from blemish.data.folder import Folder, hash_samples, read_folder
from blemish.errors import ArtifactError, BlemishError, DataError, SettingsError
from blemish.evaluation.challenge.challenge import ChallengeSettings, challenge_model
from blemish.evaluation.challenge.content import PowerFit
from blemish.evaluation.challenge.curves import fit_power
from blemish.evaluation.challenge.photos import MIN_PHOTOS
from blemish.evaluation.compare.runs import named_files
from blemish.evaluation.data_check.data_check import check_data, write_check
from blemish.fleet.plan import PlanRow
from blemish.fleet.registry import MODELS, Entry
from blemish.inference.artifact import ArtifactHeader, made_with
from blemish.inference.monitor_state import calibration_id, model_id
from blemish.inference.predictor import Predictor
from blemish.models import pin
from blemish.settings import Settings, hash_file
from blemish.stats.conformal import images_needed
from blemish.training.export import export_model
from blemish.training.train import state_path, train_model

RECORD = "product.json"
EXPORTED, TRAINED = MODELS
CONTRAST = 0.2
"""Mean change of a defect's pixels in the challenge of a fleet; 1 is from black to white."""


@final
class Wish(NamedTuple):
    """What is done beside training: the data check, and so many defects of each type as a challenge; 0: none."""

    check: bool = True
    challenge: int = 0
    device: str = "cpu"
    threads: int = 1


@final
class Challenged(Settings):
    """How large a synthetic defect, of any type, must be to be found in nine of ten cases."""

    defects: int
    found: int
    a90_px: float | None
    note: str = ""
    """Why there is no size, or what is odd about it."""


@final
class Checked(Settings):
    """How many findings of the data check must be looked at; None with why it could not be done."""

    to_look_at: int | None
    note: str = ""


@final
class Model(Settings):
    """What a product's model is and promises."""

    file: Literal["model.onnx", "model.safetensors"]
    sha256: str
    bytes: int
    trained_at: str
    detector: str
    encoder: str | None
    size_px: tuple[int, int]
    fit_images: int
    calibration_images: int
    max_false_alarm_rate: float
    promise: str
    threshold: float
    still_needed: int | None
    """Good images, or groups, to hold out beside those that were, for a promise of 1 %; None with folds."""
    parity: float | None
    """The largest difference between the export and the trained model; None where it was not exported."""
    calibration_id: str
    model_id: str
    fit_seconds: float
    notes: tuple[str, ...] = ()


@final
class Record(Settings):
    """`product.json`: where a product stands. After a failure `model` is the one before, if there was any."""

    written_by: Literal["blemish fleet"] = "blemish fleet"
    product: str
    job: str = ""
    """A hash of the settings and the images: of another one the product is trained again."""
    status: Literal["running", "trained", "failed"] = "running"
    error: str = ""
    is_replacing: bool = False
    """Whether a training has begun that has not ended well: the files may be newer than `model`."""
    model: Model | None = None
    model_job: str = ""
    check: Checked | None = None
    challenge: Challenged | None = None
    challenge_asked: int = 0


def train_product(row: PlanRow, folder: Path, wish: Wish) -> tuple[Record, bool]:
    """Train a product into its folder, unless that was done; the record, and whether it was kept from before.

    What was cut off goes on from its checkpoint. An error of training is a record with status `failed`, and the model
    that was there before stays.

    Raises:
        DataError: the folder or the record cannot be written.
    """
    make_folder(folder)
    before = read_record(folder, row.product)
    try:
        _refuse_exchanged(before, folder)
        job = job_of(row)
    except BlemishError as error:
        return _written(folder, _failed(before, error)), False
    if before.job != job:
        state_path(folder / TRAINED).unlink(missing_ok=True)
    elif _is_complete(before, folder, wish):
        return before, True
    running = before.model_copy(update={"job": job, "status": "running", "error": "", "is_replacing": True})
    _written(folder, running)
    try:
        return _written(folder, _train(row, folder, wish, running)), False
    except Exception as error:
        return _written(folder, _failed(running, error)), False


def job_of(row: PlanRow) -> str:
    """A hash of all that decides a product's model: its settings, the encoder, files they name, and the images.

    Raises:
        DataError: an image cannot be read.
        SettingsError, ArtifactError: the encoder is not here.
    """
    images = hash_samples(read_folder(row.folder).train)
    pinned = pin(row.settings.detector, row.settings.model).model
    settings = row.settings.model_copy(update={"model": pinned}).model_dump(mode="json")
    return hashlib.sha256(json.dumps([settings, named_files(row.settings), images]).encode()).hexdigest()


def read_record(folder: Path, product: str) -> Record:
    """Where a product stands; as at the beginning where there is no record, a damaged one, or another product's."""
    with suppress(OSError, ValidationError):
        found = Record.model_validate_json((folder / RECORD).read_text(encoding="utf-8"))
        if found.product == product:
            return found
    return Record(product=product)


def entry_of(record: Record) -> Entry | None:
    """What the registry says of a product; None while it has no model."""
    model = record.model
    return None if model is None else Entry(product=record.product, file=model.file, sha256=model.sha256)


def _written(folder: Path, record: Record) -> Record:
    with atomic_write(folder / RECORD) as temporary:
        temporary.write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return record


def _failed(record: Record, error: Exception) -> Record:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return record.model_copy(update={"status": "failed", "error": text})


def _refuse_exchanged(record: Record, folder: Path) -> None:
    """Refuse to write over a model that was put in the place of ours: it may be dear to somebody."""
    model = record.model
    path = folder / ("" if model is None else model.file)
    if model is not None and not record.is_replacing and path.exists() and not _has(path, model.sha256):
        raise DataError(f"{path}: not the file that was written here; move it away to have the product trained again")


def _is_complete(record: Record, folder: Path, wish: Wish) -> bool:
    """Whether nothing is left to do; what was asked for earlier is kept."""
    model = record.model
    if record.status != "trained" or model is None or not _has(folder / model.file, model.sha256):
        return False
    return wish.challenge in (0, record.challenge_asked) and (record.check is not None or not wish.check)


def _has(path: Path, sha256: str) -> bool:
    try:
        return hash_file(path) == sha256
    except OSError:
        return False


def _train(row: PlanRow, folder: Path, wish: Wish, record: Record) -> Record:
    """The finished record."""
    model = record.model
    if record.model_job != record.job or model is None or not _has(folder / model.file, model.sha256):
        model = _fit(row, folder, wish.device)
        forgotten = {"check": None, "challenge": None, "challenge_asked": 0}
        record = record.model_copy(update={"model": model, "model_job": record.job, **forgotten})
        _written(folder, record)
    if wish.check and record.check is None:
        record = record.model_copy(update={"check": _check(row, folder)})
    if wish.challenge not in (0, record.challenge_asked):
        found = _challenge(row, folder, model, wish)
        record = record.model_copy(update={"challenge": found, "challenge_asked": wish.challenge})
    return record.model_copy(update={"status": "trained", "is_replacing": False})


def _fit(row: PlanRow, folder: Path, device: str) -> Model:
    """Trained and exported; a detector that cannot be exported stays as it is, and that is noted."""
    trained, exported = folder / TRAINED, folder / EXPORTED
    try:
        header = train_model(row.folder, trained, row.settings, device, resume=True)
    except (ArtifactError, SettingsError):  # the state to resume from is damaged, or of an earlier version
        state_path(trained).unlink(missing_ok=True)
        raise
    file, parity, notes = EXPORTED, None, list(header.data_card.notes)
    try:
        parity = export_model(trained, exported).worst
    except ArtifactError as error:
        exported.unlink(missing_ok=True)
        file = TRAINED
        notes.append(f"not exported: {error}")
    return _model_of(folder / file, header, parity, notes)


def _model_of(path: Path, header: ArtifactHeader, parity: float | None, notes: list[str]) -> Model:
    content, card, certificate = path.read_bytes(), header.data_card, header.certificate
    judged = Predictor.load(path, "cpu", 1).header  # an export has a higher threshold
    units = certificate.n if certificate.groups is None else certificate.groups
    needed = None if header.calibration.folds else images_needed(0.01, header.calibration.confidence)
    return Model(
        file=EXPORTED if path.name == EXPORTED else TRAINED,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        trained_at=datetime.now(UTC).isoformat(timespec="seconds"),
        detector=header.detector,
        encoder=None if header.encoder is None else header.encoder.name,
        size_px=header.policy.size_px,
        fit_images=card.fit_images,
        calibration_images=certificate.n,
        max_false_alarm_rate=header.max_false_alarm_rate,
        promise=certificate.promise,
        threshold=judged.threshold,
        still_needed=None if needed is None else max(0, needed - units),
        parity=parity,
        calibration_id=calibration_id(judged),
        model_id=model_id(judged),
        fit_seconds=header.fit_seconds,
        notes=tuple(notes),
    )


def _check(row: PlanRow, folder: Path) -> Checked:
    try:
        checked = check_data(row.folder, row.settings)
        write_check(checked, row.settings, folder)
    except BlemishError as error:
        return Checked(to_look_at=None, note=f"not checked: {error}")
    return Checked(to_look_at=sum(one.severity == "look" for one in checked.findings))


def _challenge(row: PlanRow, folder: Path, model: Model, wish: Wish) -> Challenged:
    """Synthetic defects on good photos that were not fitted: the test set's, or those held out to calibrate."""
    predictor = Predictor.load(folder / model.file, "cpu", wish.threads)
    settings = ChallengeSettings(contrasts=(CONTRAST,), defects=wish.challenge, skip_bad=row.settings.data.skip_bad)
    try:
        photos = _unseen(read_folder(row.folder), predictor.header)
        found = challenge_model(predictor, photos, folder, settings).results["defects"]
    except (DataError, SettingsError) as error:
        return Challenged(defects=0, found=0, a90_px=None, note=f"not challenged: {error}")
    some = [one for one in found if one["outcome"] != "alarmed_before"]
    hits = [one["outcome"] == "hit" for one in some]
    power = fit_power([one["size_px"] for one in some], hits, settings.confidence)
    size = None if power["a90"] is None else power["a90"]["px"]
    return Challenged(defects=len(some), found=sum(hits), a90_px=size, note=_note(power))


def _note(power: PowerFit) -> str:
    """Why there is no size, where there is none."""
    if power["a90"] is None or power["a90"]["status"] == "found":
        return power["note"]
    told = {"below_range": "smaller than all tried", "above_range": "larger than all tried", "never": "never"}
    return told[power["a90"]["status"]]


def _unseen(folder: Folder, header: ArtifactHeader) -> Folder:
    """The folder with the good photos that the model was not fitted on as its test images."""
    good = tuple(sample for sample in folder.test if not sample.label)
    if len(good) < MIN_PHOTOS:
        known = made_with(header, {sample.name: sample for sample in folder.train})
        good = tuple(sample for sample in folder.train if known.get(sample.name) == "calibrated")
    return replace(folder, train=(), test=good)
