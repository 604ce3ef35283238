"""`blemish inspect`: judge images, one row each, as they come; what is finished outlives an interruption."""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import blemish
from blemish.data.files import fit_name
from blemish.data.folder import image_files
from blemish.errors import DataError, SettingsError
from blemish.inference.calibration import batch_threshold, fewest_selected
from blemish.inference.predictor import Predictor
from blemish.inspection.journal import Journal
from blemish.inspection.pipeline import FOLDERS, Line, Source
from blemish.inspection.rows import Format, Row, write_rows

OnImage = Callable[[int, int], None]


@final
@dataclass(frozen=True)
class Request:
    """What is wanted beside the rows.

    Under `out`, if given, go `overlays/` and `masks/`, PNG files at each image's own size, under the image's name, and
    the rows: as they come into a journal, and whole, in `form`, when all are there. With `resume`, images whose row is
    in the journal, with the same content, are not judged again; `model` then tells models apart, by its content.

    With `max_false_discovery_rate` the images are judged as one batch, at a threshold that follows from all of them: of
    those called anomalous, the expected share of good ones is at most that. They are then looked at twice for `out`.
    """

    model: Path
    out: Path | None = None
    form: Format = "table"
    skip_bad: bool = False
    max_false_discovery_rate: float | None = None
    resume: bool = False
    workers: int = 1


@final
@dataclass
class Inspection:
    """An inspection: iterate over `rows()` once, and it is done; then ask what was left out."""

    predictor: Predictor
    images: Sequence[Source]
    request: Request
    on_image: OnImage = lambda _done, _total: None
    skipped: dict[str, str] = field(default_factory=dict)
    """Why images were left out, by path."""
    colour_images: int = 0
    """How many of those that were judged are stored in colour; `grey_images` likewise."""
    grey_images: int = 0
    fewest: int = 1
    """So many images must stand out for any to be selected, where a rate of false discoveries was asked for."""

    def rows(self) -> Iterator[Row]:
        """The row of each image, in order, as soon as it is judged and its pictures are written.

        Raises:
            DataError: an image cannot be read (unless `skip_bad`), or something cannot be written.
            CalibrationError: too few calibration images for the rate of false discoveries.
            SettingsError: to be resumed, but the rows that are there were made by another model or threshold.
        """
        request = self.request
        with _journal(self.predictor, request) as journal:
            if request.max_false_discovery_rate is None:
                yield from self._pass(self.predictor, self.images, journal, request.out)
            else:
                yield from self._as_one_batch(request.max_false_discovery_rate, journal)
            if request.out is not None and journal is not None:
                write_rows(journal.rows(), request.out, request.form)

    def _as_one_batch(self, max_false_discovery_rate: float, journal: Journal | None) -> Iterator[Row]:
        scores = array("d", (float(row["score"]) for row in self._pass(self.predictor, self.images, journal, None)))
        basis = self.predictor.header.calibration_scores, self.predictor.header.calibration
        threshold = batch_threshold(*basis, list(scores), max_false_discovery_rate)
        self.fewest = fewest_selected(*basis, len(scores), max_false_discovery_rate)
        readable = [source for source in self.images if str(source.path) not in self.skipped]
        if journal is not None:
            yield from self._pass(self.predictor.with_threshold(threshold), readable, journal, self.request.out)
            return
        for source, score in zip(readable, scores, strict=True):
            fixed: Row = {"path": str(source.path), "score": score, "p_value": self.predictor.p_value(score)}
            yield {**fixed, "threshold": threshold, "is_anomalous": score > threshold}

    def _pass(
        self, predictor: Predictor, images: Sequence[Source], journal: Journal | None, out: Path | None
    ) -> Iterator[Row]:
        """Judge all images once, with pictures where there is a folder for them."""
        if journal is not None:
            journal.start()
        line = Line(predictor, journal, out, self.request.workers)
        with closing(line.judged(images)) as all_judged:
            for done, judged in enumerate(all_judged, start=1):
                row = None if judged.error is not None else line.row(judged)
                if judged.error is not None:
                    self._leave_out(judged.source, judged.error)
                elif judged.prediction is not None:
                    self.grey_images += judged.is_grey
                    self.colour_images += not judged.is_grey
                self.on_image(done, len(images))
                if row is not None:
                    yield row

    def _leave_out(self, source: Source, error: DataError) -> None:
        if not self.request.skip_bad:
            raise DataError(f"{error}; --skip-bad leaves such files out") from None
        self.skipped[str(source.path)] = str(error)


def inspect_images(
    predictor: Predictor,
    paths: Sequence[Path],
    request: Request,
    on_image: OnImage = lambda _done, _total: None,
) -> Inspection:
    """The inspection of every image in `paths`, files or folders (with the folders below them).

    Raises:
        DataError: no such file or folder, or no images in one.
        SettingsError: to be resumed, but without a folder that keeps anything.
    """
    rate = request.max_false_discovery_rate
    if rate is not None and not 1e-12 <= rate < 1.0:
        raise SettingsError(f"--fdr: found {rate:g}; it must lie between 0 and 1")
    if request.resume and request.out is None:
        raise SettingsError("--resume: goes on from the rows that -o OUT keeps; give that folder too")
    return Inspection(predictor, list(_find(paths, request.out)), request, on_image)


def _journal(predictor: Predictor, request: Request) -> AbstractContextManager[Journal | None]:
    if request.out is None:
        return nullcontext()
    made_by = {
        "model_sha256": hashlib.sha256(request.model.read_bytes()).hexdigest(),
        "threshold": predictor.threshold,
        "max_false_discovery_rate": request.max_false_discovery_rate,
        "version": blemish.__version__,
    }
    return Journal.open(request.out, made_by, request.resume)


def _find(paths: Sequence[Path], out: Path | None) -> Iterator[Source]:
    """Image files, each with a name of its own for what is written about it; none of what was written about others."""
    taken: set[str] = set()
    written = [] if out is None else [(out / name).resolve() for name in FOLDERS]
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        files = image_files(path) if path.is_dir() else [path]
        if any(path.resolve() in folder.parents for folder in written):
            files = [file for file in files if not set(written) & set(file.resolve().parents)]
        if not files:
            raise DataError(f"{path}: no images in this folder")
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            name = name if name.lower().endswith(".png") else f"{name}.png"
            unique, count = _fitted(name), 2
            while unique in taken:
                unique, count = _fitted(f"{name[:-4]}-{count}.png"), count + 1
            taken.add(unique)
            yield Source(file, unique)


def _fitted(name: str) -> str:
    """The name of a picture, below the same folders."""
    folders, slash, last = name.rpartition("/")
    return f"{folders}{slash}{fit_name(last)}"
