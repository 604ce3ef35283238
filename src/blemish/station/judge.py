"""One image of the queue becomes a decision: judged, committed, and only then is its map kept."""

import json
import threading
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, final
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from blemish.data.decode import read_content
from blemish.data.files import atomic_write, make_folder
from blemish.data.folder import ID_DIGITS
from blemish.data.images import Prepared, prepare_content
from blemish.data.named_errors import DiskError
from blemish.data.photo_values import photo_values
from blemish.errors import ArtifactError, BlemishError, DataError
from blemish.inference.predictor import Prediction, Predictor
from blemish.inspection.answers import find_regions_in_shares
from blemish.inspection.decisions import now, reading_message
from blemish.inspection.pipeline import images_at_once, judge_ahead
from blemish.station.database import Database
from blemish.station.folder import StationFolder, sha256_of
from blemish.station.queue import MAX_ATTEMPTS, Task
from blemish.station.tables import Decision, Job, Product, Tally
from blemish.station.trail import STATION, append, canonical, decision_detail


@final
class Judged(NamedTuple):
    """What the model says of an image; no prediction where it cannot be read."""

    prediction: Prediction | None
    threshold: float
    message: str = ""
    photo_values: Mapping[str, float] = MappingProxyType({})
    """For the watch over the line; empty where there is no prediction."""
    is_known: bool = False
    """Whether the model was fitted or calibrated on it."""


@final
class Judge:
    """Judges with the models in the station's folder; the last ones used stay open."""

    def __init__(self, folder: StationFolder, threads: int | None = None, keep: int = 4) -> None:
        self._folder, self._threads, self._keep = folder, threads, keep
        self._predictors: dict[str, Predictor] = {}
        self._lock = threading.Lock()  # pages ask from several threads; a model is read once

    def predictor(self, model_sha256: str) -> Predictor:
        """The model with that content.

        Raises:
            ArtifactError: it is missing, or was changed since it was uploaded.
        """
        with self._lock:
            found = self._predictors.pop(model_sha256, None)
            if found is None:
                path = self._folder.model_path(model_sha256)
                if not path.is_file() or sha256_of(path.read_bytes()) != model_sha256:
                    raise ArtifactError(f"{path}: missing, or changed since it was uploaded; upload the model again")
                found = Predictor.load(path, "cpu", self._threads)
            self._predictors[model_sha256] = found  # the last one used comes last
            while len(self._predictors) > self._keep:
                self._predictors.pop(next(iter(self._predictors)))
            return found

    def judge_all(self, tasks: Sequence[Task]) -> Generator[tuple[Task, Callable[[], Judged]], None, None]:
        """Images of the queue in order, each with what gives or raises what `judge` does; several at once if it can be.

        Not where one was tried before: it may end the worker, and should not take with it what came before.
        """
        yield from judge_ahead(self.judge, tasks, self._at_once(tasks), self._path_of)

    def _at_once(self, tasks: Sequence[Task]) -> int:
        models = {task.model_sha256 for task in tasks}
        if len(models) > self._keep or any(task.attempts > 1 for task in tasks):
            return 1
        try:
            return min((images_at_once(self.predictor(model)) for model in models), default=1)
        except BlemishError:  # whoever judges with it says so
            return 1

    def _path_of(self, task: Task) -> Path:
        return self._folder.image_path(task.sha256, task.suffix)

    def judge(self, task: Task) -> Judged:
        """Judge an image of the queue.

        Raises:
            ArtifactError, DiskError: the model does not work, or the disk; the image is not to blame.
        """
        predictor = self.predictor(task.model_sha256)
        if task.threshold is not None:
            predictor = predictor.with_threshold(task.threshold)
        if task.attempts > MAX_ATTEMPTS:
            return Judged(None, predictor.threshold, f"judging it ended the worker {MAX_ATTEMPTS} times")
        try:
            prepared = prepare_kept(predictor, self._path_of(task), task.sha256)
            prediction = predictor.predict_prepared(prepared, task.name)
        except DiskError:
            raise
        except DataError as error:
            return Judged(None, predictor.threshold, str(error).replace(str(self._path_of(task)), task.name))
        values = photo_values(prepared.pixels(), predictor.policy.roi)
        is_known = task.sha256[:ID_DIGITS] in predictor.header.made_of()
        return Judged(prediction, predictor.threshold, reading_message(prepared, predictor.header), values, is_known)


def prepare_kept(predictor: Predictor, path: Path, sha256: str) -> Prepared:
    """An image that the station keeps, as a model sees it.

    Raises:
        DataError: it cannot be read, does not fit the model, or was changed since it came.
    """
    content = read_content(path)
    if sha256_of(content) != sha256:
        raise DataError(f"{path}: changed since it came")
    return prepare_content(content, path, predictor.policy)[0]


def commit(database: Database, owner: str, task: Task, judged: Judged) -> int | None:
    """Put a decision on the disk and take the image off the queue, both or none; None where the lease was lost."""
    prediction = judged.prediction
    with database.write() as session:
        gone = session.execute(delete(Job).where(Job.image_id == task.image_id, Job.owner == owner))
        if gone.rowcount != 1:  # type: ignore[attr-defined]
            return None
        decision = Decision(
            image_id=task.image_id,
            product_id=task.product_id,
            image_path=task.name,
            image_sha256=task.sha256,
            model_id=task.model_id,
            model_sha256=task.model_sha256,
            score=None if prediction is None else prediction.score,
            p_value=None if prediction is None else prediction.p_value,
            threshold=judged.threshold,
            verdict=verdict_of(prediction),
            is_doubtful=prediction is not None
            and prediction.is_doubtful(session.get_one(Product, task.product_id).doubt_rate),
            is_known=judged.is_known,
            message=judged.message,
            regions=json.dumps(
                [] if prediction is None else find_regions_in_shares(prediction.scored_map, judged.threshold)
            ),
            photo_values=canonical(dict(judged.photo_values)),
            latency_ms=0.0 if prediction is None else prediction.latency_ms,
            decided_at=now(),
        )
        if database.is_sqlite and session.scalar(select(Decision.id).where(Decision.id > 0).limit(1)) is None:
            decision.id = 1  # where there are only those of a record, SQLite would go on with 0
        put_down(session, STATION, decision)
        return decision.id


def put_down(session: Session, actor: str, decision: Decision) -> None:
    """Add a decision and its entry of the audit trail, and count it in its hour."""
    decision.trail_seq = append(session, actor, "decision", decision.image_id, decision_detail(decision))
    session.add(decision)
    where = {"product_id": decision.product_id, "hour": decision.decided_at[:13], "verdict": decision.verdict}
    tally = session.get(Tally, where) or Tally(**where, images=0)
    tally.images += 1
    session.add(tally)
    session.flush()


def verdict_of(prediction: Prediction | None) -> str:
    """good, anomalous or unreadable."""
    if prediction is None:
        return "unreadable"
    return "anomalous" if prediction.is_anomalous else "good"


def keep_map(folder: StationFolder, image_id: int, scored_map: NDArray[np.float32]) -> None:
    """Keep the map of an image that was decided on, in half precision.

    Raises:
        DataError: it cannot be written.
    """
    path = folder.map_path(image_id)
    make_folder(path.parent)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, map=scored_map.astype(np.float16))


def load_map(path: Path) -> NDArray[np.float32] | None:
    """What `keep_map` kept; None where there is nothing, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file) as content:  # numpy leaves a damaged one open
            found: NDArray[Any] = content["map"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error):
        return None
    return found.astype(np.float32)
