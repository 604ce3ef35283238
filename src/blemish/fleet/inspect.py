"""`blemish fleet inspect`: judge an archive on many processors; killed anywhere, the same command goes on."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, final

import blemish
from blemish.data.files import absolute_path, exclusive_lock, folder_to_fill, remove_left_parts
from blemish.data.outputs import refuse_test_folder
from blemish.data.progress import Progress, Report, quiet
from blemish.errors import ArtifactError, SettingsError, plural
from blemish.fleet.archive import Archive, Shard, hash_text, open_archive
from blemish.fleet.batch import Batch, thresholds_of
from blemish.fleet.cluster import connected
from blemish.fleet.fetch import check_scheme
from blemish.fleet.judge import Job
from blemish.fleet.ledger import Ledger, read_results
from blemish.fleet.models import FleetModel, read_models, withdrawn
from blemish.fleet.pieces import Piece, choose
from blemish.fleet.registry import open_registry
from blemish.fleet.results import NOT_FETCHED, Counts, refuse_foreign_results, write_results, write_summary
from blemish.fleet.stream import Pool
from blemish.fleet.work import Work, make_pool

ARCHIVE, SHARDS, ABOVE, MASKS, LOCK = "archive.sqlite", "shards", "shards-fdr", "masks", ".fleet.lock"


@final
@dataclass(frozen=True)
class Request:
    """What is to be judged, with which models, where to, and how."""

    manifest: Path
    models: Path
    out: Path
    address: str | None = None
    workers: int | None = None
    threads: int = 1
    batch_size: int = 64
    shard_rows: int = 256
    max_false_discovery_rate: float | None = None
    masks: bool = False
    with_csv: bool = False
    withdrawn: bool = False
    """Judge also with models whose certificate is withdrawn."""


@final
@dataclass
class Summary:
    """What came of it."""

    counts: Counts
    images: int
    judged: int
    """In this run; the others were finished before."""
    seconds: float
    thresholds: dict[str, float]
    forgotten: int
    """Finished shards of an earlier manifest, model or setting, which were deleted."""
    models: dict[str, str] = field(default_factory=dict)
    """SHA-256 by product."""

    def total(self, verdict: str) -> int:
        """Images of a verdict, or of `NOT_FETCHED`, of all products."""
        return sum(found[verdict] for found in self.counts.values())


def inspect_archive(
    request: Request, report: Report = quiet, say: Callable[[str], None] = lambda _message: None
) -> Summary:
    """Judge every image of a manifest once; what is finished in `out` already, with the same models, is kept.

    Raises:
        DataError: the manifest, a product without a model, the folder, or lost work that cannot be made up for.
        SettingsError: no such cluster, a missing package, or a setting out of range.
        ArtifactError: a model is damaged, withdrawn, or was replaced meanwhile.
        CalibrationError: too few calibration images for the rate of false discoveries.
    """
    rate = request.max_false_discovery_rate
    if rate is not None and not 1e-12 <= rate < 1.0:
        raise SettingsError(f"--fdr: found {rate:g}; it must lie between 0 and 1")
    began, is_new = time.monotonic(), not request.out.exists()
    refuse_test_folder(request.out)
    registry = open_registry(request.models)
    with folder_to_fill(request.out):
        try:
            with exclusive_lock(request.out / LOCK, f"judging into {request.out}"):
                refuse_foreign_results(request.out)
                remove_left_parts(request.out)
                archive = _open(request, report)
                shards = archive.shards()
                models = read_models(registry, sorted({shard.product for shard in shards}))
                for product, why in withdrawn(models).items():
                    if not request.withdrawn:
                        raise ArtifactError(f"{product}: {why}; or judge all the same with --withdrawn")
                    say(f"{product}: {why}")
                return _Inspection(request, archive, shards, models, began, report, say).summary()
        except BaseException:
            _remove_unjudged(request.out, is_new)
            raise


def _remove_unjudged(out: Path, is_new: bool) -> None:
    """Leave nothing of a first run that judged nothing."""
    if is_new and not any((out / SHARDS).glob("*.parquet")):
        (out / ARCHIVE).unlink(missing_ok=True)
        if (out / SHARDS).is_dir() and not any((out / SHARDS).iterdir()):
            (out / SHARDS).rmdir()


def _open(request: Request, report: Report) -> Archive:
    def on_row(done: int) -> None:
        report(Progress("reading", done, 0))

    archive = open_archive(absolute_path(request.out / ARCHIVE), request.manifest, request.shard_rows, on_row)
    for scheme in archive.schemes():
        check_scheme(scheme)
    return archive


@final
@dataclass
class _Inspection:
    """An archive that is opened, and the models of its products."""

    request: Request
    archive: Archive
    shards: Sequence[Shard]
    models: dict[str, FleetModel]
    began: float
    report: Report
    say: Callable[[str], None]

    def summary(self) -> Summary:
        """Judge what is missing, write all results, and tell what came of it."""
        request, models = self.request, self.models
        ledger = Ledger(request.out / SHARDS)
        keyed = [(shard, self._key(shard, ledger)) for shard in self.shards]
        pieces = list(_missing(ledger, keyed))
        with ExitStack() as stack:
            pool = cache(lambda: self._connect(stack))
            if pieces:
                self._work(ledger, "judging", sum(shard.rows for shard in self.shards)).finish(pieces, pool())
            forgotten = ledger.forget_others([key for _, key in keyed])
            if request.max_false_discovery_rate is None:
                thresholds = {product: model.header.threshold for product, model in models.items()}
                counts = write_results(lambda: ledger.tables(keyed), request.out, request.with_csv)
            else:
                thresholds = thresholds_of(ledger.tables(keyed), models, request.max_false_discovery_rate)
                counts = self._as_one_batch(ledger, keyed, thresholds, pool)
        summary = Summary(
            counts,
            sum(shard.rows for shard in self.shards),
            sum(piece.rows for piece in pieces),
            time.monotonic() - self.began,
            thresholds,
            forgotten,
            {product: model.sha256 for product, model in models.items()},
        )
        write_summary(request.out, _content(summary, request))
        return summary

    def _as_one_batch(
        self,
        ledger: Ledger,
        keyed: Sequence[tuple[Shard, str]],
        thresholds: dict[str, float],
        pool: Callable[[], Pool],
    ) -> Counts:
        """The results at these thresholds; what lies above them is looked at once more, for its regions and masks."""
        above = Ledger(self.request.out / ABOVE)
        batch = Batch(ledger, keyed, above, thresholds)
        pieces = batch.pieces(self.request.masks)
        if missing := [piece for piece in pieces if piece.key not in above]:
            work = self._work(above, "finding regions", sum(piece.rows for piece in pieces), thresholds)
            again = plural(sum(piece.rows for piece in missing), "image")
            self.say(f"{again} above the threshold of the batch: judged once more, for regions and masks")
            work.finish(missing, pool())
        above.forget_others([piece.key for piece in pieces])
        return write_results(lambda: batch.tables(pieces), self.request.out, self.request.with_csv)

    def _key(self, shard: Shard, ledger: Ledger) -> str:
        """Of all that decides the results of a shard; where it was finished with masks, these results do without."""
        settings = {"version": blemish.__version__, "masks": True, "threads": self.request.threads}
        decided_by = [shard.sha256, self.models[shard.product].sha256]
        with_masks = hash_text([*decided_by, settings])[:24]
        if self._masks_at_once() or with_masks in ledger:
            return with_masks
        return hash_text([*decided_by, settings | {"masks": False}])[:24]

    def _masks_at_once(self) -> bool:
        """Of a batch masks come with the second look."""
        return self.request.masks and self.request.max_false_discovery_rate is None

    def _work(self, ledger: Ledger, what: str, images: int, thresholds: dict[str, float] | None = None) -> Work:
        request = self.request
        has_masks = request.masks if thresholds is not None else self._masks_at_once()
        masks = str(absolute_path(request.out / MASKS)) if has_masks else None
        paths = {product: (str(model.path), model.sha256) for product, model in self.models.items()}
        folder = str(absolute_path(request.manifest).parent)
        job = Job(paths, folder, masks, request.threads, thresholds)
        return Work(self.archive, ledger, job, what, images, self.report, self.say)

    def _connect(self, stack: ExitStack) -> Pool:
        workers, threads = self.request.workers, self.request.threads
        ray = stack.enter_context(connected(self.request.address, workers and workers * threads))
        return make_pool(ray, workers, threads, min(self.request.batch_size, self.request.shard_rows))


def _missing(ledger: Ledger, keyed: Sequence[tuple[Shard, str]]) -> Iterator[Piece]:
    """What is to be judged: shards, and images that could not be fetched, of shards that are finished but for them."""
    for shard, key in keyed:
        if key in ledger:
            continue
        if (path := ledger.kept(shard, key)) is None:
            yield Piece(shard, key, shard.rows)
        else:
            yield Piece(shard, key, sum(choose(read_results(path), None)), path)


def _content(summary: Summary, request: Request) -> dict[str, Any]:
    return {
        "written_by": "blemish fleet inspect",
        "version": blemish.__version__,
        "images": summary.images,
        "judged_in_this_run": summary.judged,
        "seconds": round(summary.seconds, 3),
        "images_per_second": round(summary.judged / summary.seconds, 3) if summary.judged else None,
        "max_false_discovery_rate": request.max_false_discovery_rate,
        "not_fetched": summary.total(NOT_FETCHED),
        "verdicts": {name: summary.total(name) for name in ("good", "anomalous", "unreadable")},
        "products": {
            product: {
                **{name: found[name] for name in ("good", "anomalous", "unreadable")},
                "threshold": summary.thresholds[product],
                "model_sha256": summary.models[product],
            }
            for product, found in summary.counts.items()
        },
    }
