"""`blemish inspect`: judge images, one row each, as they come; what is finished outlives an interruption."""

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import final

from blemish.data.files import fit_name, make_folder, remove_left_parts
from blemish.data.image_files import NOT_UTF8, PICTURES, photo_files, told_name, utf8_only
from blemish.data.images import PixelPolicy
from blemish.data.outputs import refuse_file, refuse_foreign, refuse_test_folder
from blemish.data.progress import OnStep, tell_nobody
from blemish.errors import BadFileError, DataError, SettingsError
from blemish.inference.calibration import batch_threshold, fewest_selected
from blemish.inference.predictor import Predictor
from blemish.inspection.decisions import PAGE, Decision, Verdict
from blemish.inspection.index_page import INDEX, write_index
from blemish.inspection.pipeline import Line, Source
from blemish.inspection.record import WRITTEN_BY, Record
from blemish.inspection.rows import FORMATS, Row, to_row, write_rows

NAME = "inspect.sqlite"
"""The record, under `out`."""

EARLIER = "inspect.journal.jsonl"
"""What earlier versions kept instead."""

SLOW_S, LONG_S = 5.0, 600.0
"""An image that takes longer, or a folder of images in tiles, is spoken of."""


@final
@dataclass(frozen=True)
class Request:
    """What is wanted beside the rows.

    Under `out`, if given, go `overlays/` and `masks/`, PNG files at each image's own size, under the image's name, and
    the rows: as they come into a record, and, when all are there, in `form`, in what an earlier inspection left of the
    other formats, and as a page, `index.html`. Nothing is replaced but what an inspection wrote. With `resume`, images
    whose row is in the record, with the same content, are not judged again; `model` then tells models apart, by its
    content. With `skip_bad`, an image that cannot be read has a row that says so.

    With `max_false_discovery_rate` the images are judged as one batch, at a threshold that follows from all of them: of
    those called anomalous, the expected share of good ones is at most that. They are then looked at twice for `out`.

    With `doubt_rate`, rows say of each image whether it is doubtful: see `Prediction.is_doubtful`.
    """

    model: Path
    out: Path | None = None
    form: str = "table"
    """One of `FORMATS`."""
    skip_bad: bool = False
    max_false_discovery_rate: float | None = None
    resume: bool = False
    workers: int = 1
    doubt_rate: float | None = None


@final
@dataclass
class Inspection:
    """An inspection: iterate over `rows()` once, and it is done; then ask what was left out."""

    predictor: Predictor
    images: Sequence[Source]
    request: Request
    on_image: OnStep = tell_nobody
    on_slow: Callable[[str], None] = lambda _message: None
    """Told once, where it will take long."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Why images could not be read, by path."""
    fewest: int = 1
    """So many images must stand out for any to be selected, where a rate of false discoveries was asked for."""
    paged: int = 0
    """How many images have several pages or frames, of which the first was judged."""
    twice: int = 0
    """How many images were given again, as a file and in a folder for example; each is judged once."""

    def __post_init__(self) -> None:
        self.readings = self.predictor.header.new_readings()
        """How the images that were judged were read."""
        self._numbers = array("q")
        """Of the decisions of this run, in the order of the images."""
        self._is_slow_said = False

    def rows(self) -> Iterator[Row]:
        """The row of each image, in order, as soon as it is judged and its pictures are written.

        Raises:
            DataError: an image cannot be read (unless `skip_bad`), or something cannot be written.
            CalibrationError: too few calibration images for the rate of false discoveries.
            SettingsError: to be resumed, but the rows that are there were made by another model, threshold or rate.
        """
        request = self.request
        with _record(self.predictor, request) as record:
            if request.max_false_discovery_rate is None:
                yield from self._pass(self.predictor, record, request.out)
            else:
                yield from self._as_one_batch(request.max_false_discovery_rate, record)
            if request.out is not None and record is not None:
                for form in _forms_to_write(request.out, request.form):
                    write_rows(map(to_row, record.numbered(self._numbers)), request.out, form)
                rows = ((one.picture, to_row(one)) for one in record.numbered(self._numbers))
                write_index(rows, request.out, FORMATS[request.form].file, request.model.name)

    def _as_one_batch(self, max_false_discovery_rate: float, record: Record | None) -> Iterator[Row]:
        rows = self._pass(self.predictor, record, None)
        scores = array("d", (row["score"] for row in rows if row["score"] is not None))
        basis = self.predictor.header.calibration_scores, self.predictor.header.calibration
        threshold = batch_threshold(*basis, list(scores), max_false_discovery_rate)
        self.fewest = fewest_selected(*basis, len(scores), max_false_discovery_rate)
        if record is not None:
            yield from self._pass(self.predictor.with_threshold(threshold), record, self.request.out)
            return
        left = iter(scores)
        for source in self.images:
            path = str(source.path)
            if (message := self.skipped.get(path)) is not None:
                yield to_row(Decision(path, "", "unreadable", message=message))
                continue
            score = next(left)
            verdict: Verdict = "anomalous" if score > threshold else "good"
            yield to_row(Decision(path, "", verdict, score, self.predictor.p_value(score), threshold))

    def _pass(self, predictor: Predictor, record: Record | None, out: Path | None) -> Iterator[Row]:
        """Judge all images once, with pictures where there is a folder for them."""
        del self._numbers[:]
        self.paged, self.readings = 0, predictor.header.new_readings()  # a batch is looked at twice
        line = Line(predictor, record, out, self.request.workers, self.request.skip_bad, self.request.doubt_rate)
        with closing(line.decided(self.images)) as all_decided:
            for done, one in enumerate(all_decided, start=1):
                if one.error is not None:
                    self._leave_out(one.source, one.error)
                if one.prediction is not None:
                    self.readings.add(str(one.source.path), one.reading)
                    self._warn_if_slow(one.prediction.latency_ms, len(self.images) - done, line.at_once)
                self.paged += one.decision.score is not None and one.decision.message.startswith(PAGE)
                self._numbers.append(one.decision.id)
                self.on_image(done, len(self.images))
                yield to_row(one.decision)

    def _warn_if_slow(self, took_ms: float, left: int, at_once: int) -> None:
        policy = self.predictor.policy
        if not self._is_slow_said and (message := slow_message(policy, took_ms / 1000.0, left, at_once)):
            self._is_slow_said = True
            self.on_slow(message)

    def _leave_out(self, source: Source, error: DataError) -> None:
        if not self.request.skip_bad:
            raise BadFileError(error) from None
        self.skipped[str(source.path)] = str(error)


def inspect_images(
    predictor: Predictor,
    paths: Sequence[Path],
    request: Request,
    on_image: OnStep = tell_nobody,
    on_slow: Callable[[str], None] = lambda _message: None,
) -> Inspection:
    """The inspection of every image in `paths`, files or folders (with the folders below them).

    Raises:
        DataError: no such file or folder, or no images in one.
        SettingsError: to be resumed, but without a folder that keeps anything; or a rate out of range.
    """
    if request.doubt_rate is not None:
        predictor.check_doubt_rate(request.doubt_rate)
    rate = request.max_false_discovery_rate
    if rate is not None and not 1e-12 <= rate < 1.0:
        raise SettingsError(f"--fdr: found {rate:g}; it must lie between 0 and 1")
    if request.resume and request.out is None:
        raise SettingsError("--resume: goes on from the rows that -o OUT keeps; give that folder too")
    sources, twice = _find(paths, request.skip_bad)
    if request.out is not None:
        _check_out(request.out, request.form, sources)
    return Inspection(predictor, sources, request, on_image, on_slow, twice=twice)


def _check_out(out: Path, form: str, sources: Sequence[Source]) -> None:
    """Refuse a folder in which something would be replaced that no inspection wrote; tidy up after a killed one."""
    refuse_test_folder(out)
    refuse_file(out)
    if (out / EARLIER).exists() and not (out / NAME).exists():
        raise DataError(f"{out / EARLIER}: of an earlier version, whose rows are not gone on with; give another folder")
    for one in _forms_to_write(out, form):
        refuse_foreign(out / FORMATS[one].file, FORMATS[one].begins)
        remove_left_parts(out, FORMATS[one].file)
    refuse_foreign(out / INDEX)
    remove_left_parts(out, INDEX)
    for folder in PICTURES:
        if (out / folder).exists():
            make_folder(out / folder)  # refuses a file of that name
        if not (out / NAME).exists() and (out / folder).is_dir() and any((out / folder).iterdir()):
            raise DataError(f"{out / folder}: not of an inspection, and would be mixed with one; give another folder")
        for below in {(out / folder / source.name).parent for source in sources}:
            remove_left_parts(below)
        for source in sources:
            refuse_foreign(out / folder / source.name)


def _forms_to_write(out: Path, form: str) -> list[str]:
    """The format that was asked for, and those of earlier inspections, whose rows would look like this one's."""
    there = {kept.file: name for name, kept in FORMATS.items() if (out / kept.file).exists()}
    return list((there | {FORMATS[form].file: form}).values())


def slow_message(policy: PixelPolicy, took_s: float, left: int, at_once: int = 1) -> str:
    """What is said where the model takes long for an image, or will for the `left` others, in tiles; else nothing.

    So many are judged `at_once`.

    >>> slow_message(PixelPolicy(size_px=(3000, 4000), tile_px=(256, 256)), took_s=38.0, left=99)
    'the model took 38 s for an image of 3000 x 4000 pixels in tiles of 256 x 256: about 63 min for the 99 left; ...
    >>> slow_message(PixelPolicy(size_px=(64, 64)), took_s=6.0, left=0, at_once=2)
    'the model took 6 s for an image of 64 x 64 pixels; ...
    >>> slow_message(PixelPolicy(size_px=(64, 64)), took_s=38.0, left=99, at_once=2)
    'the model took 38 s for an image of 64 x 64 pixels: about 31 min for the 99 left; ...
    """
    left_s = took_s * left / at_once
    if took_s <= SLOW_S and (policy.tile_px is None or left_s <= LONG_S):
        return ""
    height, width = policy.size_px
    tiles = "" if policy.tile_px is None else " in tiles of {} x {}".format(*policy.tile_px)
    rest = f": about {max(1.0, left_s / 60.0):.0f} min for the {left} left" if left else ""
    return (
        f"the model took {took_s:.2g} s for an image of {height} x {width} pixels{tiles}{rest}; train with a smaller "
        "data.size_px or data.side_px, or another detector, where that is too slow"
    )


def _record(predictor: Predictor, request: Request) -> AbstractContextManager[Record | None]:
    if request.out is None:
        return nullcontext()
    made_by = {
        WRITTEN_BY: "inspect",
        "model_sha256": hashlib.sha256(request.model.read_bytes()).hexdigest(),
        "threshold": predictor.threshold,
        "max_false_discovery_rate": request.max_false_discovery_rate,
        "doubt_rate": request.doubt_rate,
        "version": version("blemish"),
    }
    return Record.open(make_folder(request.out) / NAME, made_by, request.resume)


def _find(paths: Sequence[Path], skip_bad: bool) -> tuple[list[Source], int]:
    """Image files, each once and with a name of its own for what is written about it; how many were given again."""
    sources: list[Source] = []
    taken: set[str] = set()
    found: set[Path] = set()
    twice, resolved = 0, cache(Path.resolve)
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
        unnamed: list[Path] = []
        left_out = unnamed if skip_bad else None
        files = photo_files(path, left_out) if path.is_dir() else utf8_only([path], left_out)
        if not files and not unnamed:
            raise DataError(f"{path}: no images in this folder")
        odd = set(unnamed)
        for file in (*unnamed, *files):
            if (place := resolved(file.parent) / file.name) in found:
                twice += 1
                continue
            found.add(place)
            if file in odd:
                sources.append(Source(Path(told_name(file)), f"not-utf-8-{len(sources)}.png", NOT_UTF8))
                continue
            name = file.relative_to(path).as_posix() if path.is_dir() else file.name
            name = name if name.lower().endswith(".png") else f"{name}.png"
            unique, count = _fitted(name), 2
            while unique.lower() in taken:  # also where the file system takes 0.png and 0.PNG for one
                unique, count = _fitted(f"{name[:-4]}-{count}.png"), count + 1
            taken.add(unique.lower())
            sources.append(Source(file, unique))
    return sources, twice


def _fitted(name: str) -> str:
    """The name of a picture, below the same folders."""
    folders, slash, last = name.rpartition("/")
    return f"{folders}{slash}{fit_name(last)}"
