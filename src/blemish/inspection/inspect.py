"""`blemish inspect`: judge images, one row each, as they come; what is finished outlives an interruption."""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import blemish
from blemish.data.files import fit_name, make_folder, refuse_foreign, refuse_good_folder, remove_left_parts
from blemish.data.folder import image_files
from blemish.errors import DataError, SettingsError
from blemish.inference.calibration import batch_threshold, fewest_selected
from blemish.inference.predictor import Predictor
from blemish.inspection.index_page import INDEX, write_index
from blemish.inspection.journal import NAME, Journal
from blemish.inspection.pipeline import FOLDERS, Line, Source
from blemish.inspection.rows import FORMATS, Row, score_row, unreadable_row, write_rows

OnImage = Callable[[int, int], None]


@final
@dataclass(frozen=True)
class Request:
    """What is wanted beside the rows.

    Under `out`, if given, go `overlays/` and `masks/`, PNG files at each image's own size, under the image's name, and
    the rows: as they come into a journal, and, when all are there, in `form` and as a page, `index.html`. Nothing is
    replaced but what an inspection wrote. With `resume`, images whose row is in the journal, with the same content,
    are not judged again; `model` then tells models apart, by its content. With `skip_bad`, an image that cannot be read
    has a row that says so.

    With `max_false_discovery_rate` the images are judged as one batch, at a threshold that follows from all of them: of
    those called anomalous, the expected share of good ones is at most that. They are then looked at twice for `out`.
    """

    model: Path
    out: Path | None = None
    form: str = "table"
    """One of `FORMATS`."""
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
    """Why images could not be read, by path."""
    slowest_ms: float = 0.0
    """The longest that the network worked on an image."""
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
                write_index(journal.named_rows(), request.out)

    def _as_one_batch(self, max_false_discovery_rate: float, journal: Journal | None) -> Iterator[Row]:
        rows = self._pass(self.predictor, self.images, journal, None)
        scores = array("d", (row["score"] for row in rows if row["score"] is not None))
        basis = self.predictor.header.calibration_scores, self.predictor.header.calibration
        threshold = batch_threshold(*basis, list(scores), max_false_discovery_rate)
        self.fewest = fewest_selected(*basis, len(scores), max_false_discovery_rate)
        if journal is not None:
            yield from self._pass(self.predictor.with_threshold(threshold), self.images, journal, self.request.out)
            return
        left = iter(scores)
        for source in self.images:
            if (message := self.skipped.get(str(source.path))) is not None:
                yield unreadable_row(source.path, message)
            else:
                score = next(left)
                yield score_row(source.path, score, self.predictor.p_value(score), threshold)

    def _pass(
        self, predictor: Predictor, images: Sequence[Source], journal: Journal | None, out: Path | None
    ) -> Iterator[Row]:
        """Judge all images once, with pictures where there is a folder for them."""
        if journal is not None:
            journal.start()
        line = Line(predictor, journal, out, self.request.workers)
        with closing(line.judged(images)) as all_judged:
            for done, judged in enumerate(all_judged, start=1):
                if judged.error is not None:
                    self._leave_out(judged.source, judged.error)
                elif judged.prediction is not None:
                    self.grey_images += judged.is_grey
                    self.colour_images += not judged.is_grey
                    self.slowest_ms = max(self.slowest_ms, judged.prediction.latency_ms)
                row = line.row(judged)
                self.on_image(done, len(images))
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
    sources = list(_find(paths, request.out))
    if request.out is not None:
        _check_out(request.out, request.form, sources)
    return Inspection(predictor, sources, request, on_image)


def _check_out(out: Path, form: str, sources: Sequence[Source]) -> None:
    """Refuse a folder in which something would be replaced that no inspection wrote; tidy up after a killed one."""
    refuse_good_folder(out)
    refuse_foreign(out / FORMATS[form].file, FORMATS[form].begins)
    refuse_foreign(out / INDEX)
    refuse_foreign(out / NAME)
    for folder in FOLDERS:
        if (out / folder).exists():
            make_folder(out / folder)  # refuses a file of that name
        if not (out / NAME).exists() and (out / folder).is_dir() and any((out / folder).iterdir()):
            raise DataError(f"{out / folder}: not of an inspection, and would be mixed with one; give another folder")
        for below in {(out / folder / source.name).parent for source in sources}:
            remove_left_parts(below)
        for source in sources:
            refuse_foreign(out / folder / source.name)
    for name in (NAME, INDEX, FORMATS[form].file):
        remove_left_parts(out, name)


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
