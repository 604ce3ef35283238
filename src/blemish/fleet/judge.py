"""What an actor of the fleet does with images: fetch, decode and judge them; what comes back has no pixels."""

import hashlib
import json
import os
import socket
from collections import OrderedDict
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, final

from PIL import Image

import blemish
from blemish.data.files import atomic_write, make_folder
from blemish.data.images import prepare_content
from blemish.errors import ArtifactError, BlemishError, DataError, SettingsError
from blemish.fleet.fetch import fetch, resolve
from blemish.fleet.ledger import FIELDS, result_schema
from blemish.fleet.manifest import load_pyarrow
from blemish.inference.predictor import Prediction, Predictor
from blemish.inspection.decisions import Decision, to_decision
from blemish.inspection.pipeline import Bound, work_ahead

FETCHED_AHEAD = 8
"""Images whose bytes wait for the network, at most; so many are fetched at once."""
FAILED = "failed"
"""In the place of a verdict: nothing can be judged here, and the message says why."""
Columns = dict[str, Any]


@final
class Job(NamedTuple):
    """What every actor is told."""

    models: Mapping[str, tuple[str, str]]
    """Path and SHA-256 by product."""
    folder: str
    """Relative paths are taken from it."""
    masks: str | None = None
    """Folder for the masks of anomalous images."""
    threads: int = 1
    """Of one network."""
    thresholds: Mapping[str, float] | None = None
    """By product; None: each model's own."""
    held: int = 4
    """Models that an actor keeps open."""
    device: str = "auto"
    version: str = blemish.__version__


@final
class Judge:
    """Judges tables of images; made once in each actor, and keeps the models that it used last open.

    A table has the columns shard, number, id, path and product; the answer has shard, number and `FIELDS`. The only
    error raised is one that another attempt may not meet; all others are a row whose verdict is `FAILED`.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._held: OrderedDict[str, Predictor] = OrderedDict()

    def __call__(self, table: Any) -> Any:
        """The rows of a table, judged."""
        pyarrow = load_pyarrow()
        rows = table.to_pylist()
        judged: list[Columns] = []
        try:
            if blemish.__version__ != self._job.version:
                raise SettingsError(f"blemish {blemish.__version__} is installed, the command's is {self._job.version}")
            with closing(work_ahead(self._fetch, rows, FETCHED_AHEAD, Bound(FETCHED_AHEAD, FETCHED_AHEAD))) as fetched:
                judged.extend(self._judge(row, future) for row, future in fetched)
        except (BlemishError, ModuleNotFoundError) as error:
            judged = [self._failed(row, str(error)) for row in rows]
        return pyarrow.Table.from_pylist(judged, schema=result_schema("shard", "number"))

    def _fetch(self, row: Columns) -> bytes:
        return fetch(resolve(row["path"], Path(self._job.folder)))

    def _judge(self, row: Columns, future: "Future[bytes]") -> Columns:
        path, sha256 = row["path"], ""
        predictor = self._predictor(row["product"])
        prediction = None
        try:
            content = future.result()
            sha256 = hashlib.sha256(content).hexdigest()
            prepared, _ = prepare_content(content, Path(path), predictor.policy)
            prediction = predictor.predict_prepared(prepared, path)
            decision = to_decision(predictor, prediction, prepared)
        except DataError as error:
            message = str(error).replace(str(Path(path)), path)  # a URI is no path
            decision = Decision(path, sha256, "unreadable", message=message)
        if self._job.masks is not None and prediction is not None and prediction.is_anomalous:
            folder = self._job.models[row["product"]][1][:12]
            if self._job.thresholds is not None:
                folder += f"-{float(predictor.threshold)!r}"
            write_mask(prediction, Path(self._job.masks) / folder, sha256)
        return self._row(row, decision, sha256)

    def _row(self, row: Columns, decision: Decision, sha256: str) -> Columns:
        regions = None if decision.regions is None else json.dumps(decision.regions)
        found = {name: getattr(decision, name, None) for name in FIELDS}
        told = {
            "regions": regions,
            "image_sha256": sha256,
            "model_sha256": self._job.models[row["product"]][1],
            "latency_ms": None if decision.score is None else decision.latency_ms,
        }
        return found | row | told

    def _failed(self, row: Columns, message: str) -> Columns:
        return row | {"verdict": FAILED, "message": f"{socket.gethostname()}: {message}"}

    def _predictor(self, product: str) -> Predictor:
        """The model of a product, opened unless it is one of those used last.

        Raises:
            ArtifactError: its file is not here, or not the one the command was started with.
        """
        if product in self._held:
            self._held.move_to_end(product)
            return self._held[product]
        path, sha256 = self._job.models[product]
        if not os.path.exists(path):  # noqa: PTH110
            raise ArtifactError(f"{path}: no such model file here; the registry must be seen by every machine")
        while len(self._held) >= self._job.held:
            self._held.popitem(last=False)
        predictor = Predictor.load(path, self._job.device, self._job.threads, sha256=sha256)
        if self._job.thresholds is not None:
            predictor = predictor.with_threshold(self._job.thresholds[product])
        self._held[product] = predictor
        return predictor


def write_mask(prediction: Prediction, folder: Path, image_sha256: str) -> Path:
    """The defect mask at the image's own size as a PNG of one bit a pixel, named by the image.

    Raises:
        DataError: it cannot be written.
    """
    path = folder / image_sha256[:2] / f"{image_sha256}.png"
    if not path.exists():
        make_folder(path.parent)
        with atomic_write(path) as temporary:
            Image.fromarray(prediction.defect_mask).save(temporary, format="PNG")
    return path
