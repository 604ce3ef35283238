"""Judge images and write what was found: one row an image, overlays and defect masks."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np
from PIL import Image

from blemish.calibration import batch_threshold, fewest_selected
from blemish.data.folder import image_files
from blemish.data.images import read_original
from blemish.errors import DataError
from blemish.files import make_folder, whole_file
from blemish.predictor import Prediction, Predictor
from blemish.report.overlay import overlay

FIELDS = ("path", "score", "p_value", "threshold", "is_anomalous")

Row = dict[str, str | float | bool]
OnImage = Callable[[int, int], None]
Format = Literal["table", "json", "csv"]


@final
@dataclass(frozen=True)
class Inspection:
    """The rows of the images that could be judged, and the reasons why others could not."""

    rows: tuple[Row, ...]
    skipped: dict[str, str]
    fewest: int = 1
    """So many images must stand out for any to be selected, where a rate of false discoveries was asked for."""

    @property
    def is_any_anomalous(self) -> bool:
        """Whether one image at least was flagged."""
        return any(row["is_anomalous"] for row in self.rows)


def inspect_images(
    predictor: Predictor,
    paths: Sequence[Path],
    out: Path | None = None,
    skip_bad: bool = False,
    on_image: OnImage = lambda _done, _total: None,
    max_false_discovery_rate: float | None = None,
) -> Inspection:
    """Judge every image in `paths`, files or folders (with the folders below them).

    Under `out`, if given, go `overlays/` and `masks/`, PNG files at each image's own size, under the image's name.

    With `max_false_discovery_rate` the images are judged as one batch, at a threshold that follows from all of them: of
    those called anomalous, the expected share of good ones is at most that. They are then looked at twice for `out`.

    Raises:
        DataError: no such file or folder, no images, or one that cannot be read (unless `skip_bad`).
        CalibrationError: too few calibration images for that rate of false discoveries.
    """
    images = list(_find(paths))
    if max_false_discovery_rate is None:
        return _judge(predictor, images, out, skip_bad, on_image)
    found = _judge(predictor, images, None, skip_bad, on_image)
    header, scores = predictor.header, [float(row["score"]) for row in found.rows]
    basis = header.calibration_scores, header.calibration
    threshold = batch_threshold(*basis, scores, max_false_discovery_rate)
    if out is not None:
        readable = [(path, name) for path, name in images if str(path) not in found.skipped]
        _judge(predictor.with_threshold(threshold), readable, out, skip_bad, on_image)
    rows = (
        {**row, "threshold": threshold, "is_anomalous": score > threshold}
        for row, score in zip(found.rows, scores, strict=True)
    )
    return Inspection(tuple(rows), found.skipped, fewest_selected(*basis, len(scores), max_false_discovery_rate))


def _judge(
    predictor: Predictor, images: Sequence[tuple[Path, str]], out: Path | None, skip_bad: bool, on_image: OnImage
) -> Inspection:
    rows: list[Row] = []
    skipped: dict[str, str] = {}
    for done, (path, name) in enumerate(images, start=1):
        try:
            prediction = predictor.predict(path)
            if out is not None:
                _write_pictures(predictor, prediction, path, out, name)
            rows.append(to_row(prediction))
        except DataError as error:
            if not skip_bad:
                raise DataError(f"{error}; --skip-bad leaves such files out") from None
            skipped[str(path)] = str(error)
        on_image(done, len(images))
    return Inspection(tuple(rows), skipped)


def to_row(prediction: Prediction) -> Row:
    """What is said of an image in a table, a JSON object or a CSV line."""
    return {
        "path": prediction.path or "",
        "score": prediction.score,
        "p_value": prediction.p_value,
        "threshold": prediction.threshold,
        "is_anomalous": prediction.is_anomalous,
    }


def to_json(rows: Sequence[Row]) -> str:
    """Rows as a JSON list."""
    return json.dumps(list(rows), indent=2, allow_nan=False) + "\n"


def to_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a header; booleans are `true` and `false`, as in JSON.

    >>> print(to_csv([{"path": "a.png", "score": 0.5, "p_value": 0.1, "threshold": 0.4, "is_anomalous": True}]))
    path,score,p_value,threshold,is_anomalous
    a.png,0.5,0.1,0.4,true
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "is_anomalous": str(row["is_anomalous"]).lower()} for row in rows)
    return text.getvalue()


def write_rows(rows: Sequence[Row], out: Path, form: Format) -> Path:
    """`inspect.csv` or `inspect.json` under `out`; a table on the screen leaves JSON on the disk."""
    path = make_folder(out) / ("inspect.csv" if form == "csv" else "inspect.json")
    with whole_file(path) as temporary:
        temporary.write_text(to_csv(rows) if form == "csv" else to_json(rows), encoding="utf-8")
    return path


def _find(paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Image files, each with a name of its own for what is written about it."""
    taken: set[str] = set()
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        files = image_files(path) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path}: no images in this folder")
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            name = name if name.lower().endswith(".png") else f"{name}.png"
            unique, count = name, 2
            while unique in taken:
                unique, count = f"{name[:-4]}-{count}.png", count + 1
            taken.add(unique)
            yield file, unique


def _write_pictures(predictor: Predictor, prediction: Prediction, path: Path, out: Path, name: str) -> None:
    policy = predictor.policy
    original = np.asarray(read_original(path, policy.max_image_px, policy.white_level))
    pictures = {
        "overlays": overlay(original, prediction.anomaly_map, prediction.threshold),
        "masks": prediction.defect_mask.astype(np.uint8) * np.uint8(255),
    }
    for folder, picture in pictures.items():
        target = out / folder / name
        make_folder(target.parent)
        with whole_file(target) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG")
