"""The way of many images through a model: read and decoded ahead of the network, drawn and written behind it.

Reading and drawing have threads of their own. Where a network takes several images at once, the thread that has read an
image judges it; else the network sees one after the other, in the caller's thread. Each is judged alone, as
`Predictor.predict` does it, so the scores are the same bit for bit, and so is the order.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar, final

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from blemish.data.decode import read_content, read_header
from blemish.data.files import atomic_write, fit_name, make_folder
from blemish.data.image_files import PICTURES
from blemish.data.images import Prepared, prepare_content
from blemish.data.outputs import refuse_foreign
from blemish.data.pixels import drawable
from blemish.data.readings import READ_AS_MEANT, Reading
from blemish.errors import DataError
from blemish.inference.overlay import draw_at_full_size
from blemish.inference.predictor import Prediction, Predictor
from blemish.inference.processors import usable_cores
from blemish.inspection.decisions import Decision, model_sha256, to_decision
from blemish.inspection.record import Record

MAX_PX_AHEAD = 48_000_000
"""Of images that are being decoded or wait for the network; one at least always is."""

MAX_PX_BEHIND = 32_000_000
"""Of pictures that are being drawn; one at least always is."""

AHEAD = 4
"""So many images for each that may be judged at once are at most begun and not decided, and end with a process."""


class Source(NamedTuple):
    """An image file, the name of its pictures, and why it is not to be opened, if so."""

    path: Path
    name: str
    trouble: str = ""


class Read(NamedTuple):
    """An image that has been read; or what was decided about it before."""

    sha256: str
    prepared: Prepared | None = None
    original: Image.Image | None = None
    known: Decision | None = None


class InspectedImage(NamedTuple):
    """An image that has been decided about; without a prediction where that was before, or where it cannot be read."""

    source: Source
    decision: Decision
    prediction: Prediction | None = None
    original: Image.Image | None = None
    reading: Reading = READ_AS_MEANT
    error: DataError | None = None


@final
class Line:
    """One pass over images, with pictures under `out` if given, and with decisions in `record` if given.

    Images that cannot be read are decided to be so where `skip_bad`; else they are in no record.
    """

    def __init__(
        self,
        predictor: Predictor,
        record: Record | None,
        out: Path | None,
        workers: int,
        skip_bad: bool,
        doubt_rate: float | None = None,
    ) -> None:
        self._predictor, self._record, self._out, self._workers = predictor, record, out, workers
        self._skip_bad, self._doubt_rate = skip_bad, doubt_rate
        self._drawn_at = None if out is None else predictor.threshold
        self.at_once = images_at_once(predictor, workers)
        """So many images may be in the network."""

    def decided(self, images: Sequence[Source]) -> Generator[InspectedImage, None, None]:
        """Each image in order, when its pictures are written and its decision is on the disk.

        Raises:
            DataError: something cannot be written.
        """
        first, after = self._careful(images)
        yield from self._ahead(images[:first])
        for source in images[first:after]:
            yield self._keep(self._read_and_judge(source))
        yield from self._ahead(images[after:])

    def _careful(self, images: Sequence[Source]) -> tuple[int, int]:
        """After a process that was killed, from which image to which one may have been its end.

        Those are decided one by one, so that it does not take with it at every start what came before.
        """
        record = self._record
        if record is None or not record.was_left:
            return 0, 0
        is_done = (self._found(one) or record.find(str(one.path), "") for one in images)  # the latter if unreadable
        first = next((number for number, found in enumerate(is_done) if found is None), len(images))
        return first, first + AHEAD * self._workers

    def _ahead(self, images: Sequence[Source]) -> Generator[InspectedImage, None, None]:
        bound = Bound(self._workers + 1, MAX_PX_BEHIND)
        with closing(self._through_the_network(images)) as judged:
            if self._record is None:
                yield from judged
                return
            with closing(work_ahead(self._keep, judged, self._workers, bound, _pixels)) as all_kept:
                for _, kept in all_kept:
                    yield kept.result()

    def _through_the_network(self, images: Sequence[Source]) -> Generator[InspectedImage, None, None]:
        if self.at_once > 1:
            with closing(judge_ahead(self._read_and_judge, images, self.at_once, _path_of)) as all_judged:
                for _, judge in all_judged:
                    yield judge()
            return
        bound = Bound(2 * self._workers, MAX_PX_AHEAD)
        with closing(
            work_ahead(self._read, images, self._workers, bound, lambda one: _decoded_px(one.path))
        ) as all_read:
            for source, future in all_read:
                yield self._judge(source, future.result)

    def _read_and_judge(self, source: Source) -> InspectedImage:
        return self._judge(source, partial(self._read, source))

    def _judge(self, source: Source, read_it: Callable[[], Read]) -> InspectedImage:
        path = str(source.path)
        try:
            read = read_it()
        except DataError as error:
            bad = Decision(path, "", "unreadable", message=str(error), model_sha256=model_sha256(self._predictor))
            return InspectedImage(source, bad, error=error)
        if read.known is not None:
            return InspectedImage(source, read.known)
        assert read.prepared is not None
        prediction = self._predictor.predict_prepared(read.prepared, source.path)
        decision = to_decision(self._predictor, prediction, read.prepared, self._doubt_rate)
        decision = replace(decision, image_sha256=read.sha256, picture=source.name, drawn_at=self._drawn_at)
        return InspectedImage(source, decision, prediction, read.original, read.prepared.reading)

    def _read(self, source: Source) -> Read:
        if source.trouble:
            raise DataError(f"{source.path}: {source.trouble}")
        content = read_content(source.path)
        sha256 = ""
        if self._record is not None:
            sha256 = hashlib.sha256(content).hexdigest()
            if (known := self._known(source, sha256)) is not None:
                return Read(sha256, known=known)
        prepared, original = prepare_content(content, source.path, self._predictor.policy)
        return Read(sha256, prepared, None if self._out is None else original)

    def _known(self, source: Source, sha256: str) -> Decision | None:
        """What was decided about this image, if its pictures are there, too."""
        found = self._found(source)
        if found is None or found.image_sha256 != sha256:
            return None
        folders = () if self._out is None else [self._out / folder for folder in PICTURES]
        return found if all((folder / source.name).is_file() for folder in folders) else None

    def _found(self, source: Source) -> Decision | None:
        """What was decided about an image of this name for this threshold."""
        assert self._record is not None
        found = self._record.find_picture(str(source.path), source.name)
        return None if found is None or self._drawn_at not in (None, found.drawn_at) else found

    def _keep(self, judged: InspectedImage) -> InspectedImage:
        """Draw an image, and then put the decision into the record."""
        assert self._record is not None
        if judged.prediction is not None and judged.original is not None and self._out is not None:
            where = str(judged.source.path)
            original = drawable(judged.original, self._predictor.policy.white_level, where)
            write_pictures(original, judged.prediction, self._out, judged.source.name)
        if judged.prediction is not None or (judged.error is not None and self._skip_bad):
            judged = judged._replace(decision=self._record.add(judged.decision, is_again=True))
        return judged._replace(original=None)


def write_pictures(original: Image.Image, prediction: Prediction, out: Path, name: str) -> None:
    """The overlay and the defect mask of an image in 8-bit RGB, each completely or not at all.

    Raises:
        DataError: the folder is not writable, or the disk is full.
    """
    pictures = draw_at_full_size(np.asarray(original), prediction.scored_map, prediction.threshold)
    for folder, picture in zip(PICTURES, pictures, strict=True):
        target = out / folder / name
        make_folder(target.parent)
        refuse_foreign(target)
        with atomic_write(target) as temporary:
            Image.fromarray(picture).save(temporary, format="PNG", pnginfo=_written_by_us())


def picture_name(name: str, sha256: str) -> str:
    """The name of an image's pictures, the same for the same content.

    >>> picture_name("day/a.png", "0123456789abcdef")
    'day/a.png-0123456789ab.png'
    """
    path = Path(name)
    return (path.parent / f"{fit_name(path.name, room=40)}-{sha256[:12]}.png").as_posix()


def _written_by_us() -> PngInfo:
    """Tells a picture of ours from another, which is never replaced."""
    info = PngInfo()
    info.add_text("Software", "blemish")
    return info


def _path_of(source: Source) -> Path:
    return source.path


def _decoded_px(path: Path) -> int:
    """Pixels as the file's header says: a few bytes of it may become gigabytes."""
    if not path.is_file():
        return 0
    try:
        height, width = read_header(path).size_px
    except DataError:
        return 0  # whoever reads it says why
    return height * width


def _pixels(judged: InspectedImage) -> int:
    return 0 if judged.original is None else judged.original.width * judged.original.height


T = TypeVar("T")
R = TypeVar("R")

MAX_WORKERS = 4
"""More would hold more pictures in memory than they would save time."""


@final
@dataclass(frozen=True)
class Bound:
    """How much may be begun and not yet asked for: so many things, and so much weight in all."""

    things: int
    weight: int


def worker_count(threads: int | None) -> int:
    """Workers beside a network that runs in `threads`; None: as many as `usable_cores`."""
    return max(1, min(MAX_WORKERS, threads or usable_cores()))


def images_at_once(predictor: Predictor, workers: int | None = None) -> int:
    """How many images may be in the network; `workers` None: as many as there are threads for the model."""
    if not predictor.takes_several:
        return 1
    return workers or worker_count(None if predictor.source is None else predictor.source.threads)


def threads_each(images: Sequence[Path]) -> int | None:
    """How many threads work on one image where as many images as there are workers are judged at once; None: all."""
    is_one = len(images) == 1 and images[0].is_file()
    return None if is_one else max(1, usable_cores() // worker_count(None))


def judge_ahead(
    judge: Callable[[T], R], images: Sequence[T], at_once: int, path_of: Callable[[T], Path]
) -> Generator[tuple[T, Callable[[], R]], None, None]:
    """Every image in order, with what gives or raises `judge(image)`: so many at once, or in the caller's thread."""
    if at_once == 1 or len(images) == 1:  # torch would begin threads of its own for each new one
        yield from ((image, partial(judge, image)) for image in images)
        return
    bound = Bound(2 * at_once, MAX_PX_AHEAD)
    with closing(work_ahead(judge, images, at_once, bound, lambda image: _decoded_px(path_of(image)))) as all_judged:
        for image, judged in all_judged:
            yield image, judged.result


def work_ahead(
    function: Callable[[T], R],
    things: Iterable[T],
    workers: int,
    bound: Bound,
    weight: Callable[[T], int] = lambda _thing: 1,
) -> Generator[tuple[T, Future[R]], None, None]:
    """Every thing with the future of `function(thing)`, in order; `things` is drawn from in the caller's thread.

    A single thing may weigh more than the bound: it is then worked on alone. What has been begun is finished, and what
    has not is dropped, when the caller stops half way. The futures hold what `function` raised.

    Close it (`contextlib.closing`). Otherwise the garbage collector does, in any thread: also in one that is just being
    started and holds the lock which waiting for the workers takes.

    >>> [future.result() for _, future in work_ahead(abs, [-1, 2, -3], workers=2, bound=Bound(2, 10))]
    [1, 2, 3]
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="blemish")
    waiting: deque[tuple[T, Future[R], int]] = deque()
    held = 0
    try:
        for thing in things:
            heavy = weight(thing)
            while waiting and (len(waiting) >= bound.things or held + heavy > bound.weight):
                first, future, its = waiting.popleft()
                yield first, future
                held -= its
            waiting.append((thing, pool.submit(function, thing), heavy))
            held += heavy
        while waiting:
            first, future, _ = waiting.popleft()
            yield first, future
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
