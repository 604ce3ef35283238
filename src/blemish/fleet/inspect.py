"""`blemish fleet inspect`: judge an archive on many processors; killed anywhere, the same command goes on."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import blemish
from blemish.data.files import exclusive_lock, make_folder, refuse_good_folder, remove_left_parts
from blemish.data.progress import Progress, Report, quiet
from blemish.errors import ArtifactError, DataError, SettingsError
from blemish.fleet.archive import Archive, Shard, hash_text, open_archive
from blemish.fleet.cluster import connected, wait_for_processors
from blemish.fleet.fetch import check_scheme
from blemish.fleet.judge import FAILED, Job
from blemish.fleet.ledger import Ledger, result_schema
from blemish.fleet.models import FleetModel, read_models, withdrawn
from blemish.fleet.registry import open_registry
from blemish.fleet.results import Counts, batch_of, refuse_foreign_results, write_results, write_summary
from blemish.fleet.stream import LostWorkError, Pool, judged

ARCHIVE, SHARDS, MASKS, LOCK = "archive.sqlite", "shards", "masks", ".fleet.lock"
WAVE = 4096
"""Shards that Ray is told of at once: it keeps something of each. A million images; new workers then take seconds."""
ROUNDS = 3
"""So often in a row may everything be lost before a shard is finished."""


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
        """Images of a verdict, of all products."""
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
    if rate is not None and request.masks:
        raise SettingsError("--fdr and --masks: masks follow from a threshold that --fdr only finds at the end")
    began = time.monotonic()
    refuse_good_folder(request.out)
    registry = open_registry(request.models)
    is_new = not request.out.exists()
    make_folder(request.out)
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
            return _judge(request, archive, shards, models, began, report, say)
    except BaseException:
        if is_new:
            _remove_empty(request.out)
        raise


def _remove_empty(out: Path) -> None:
    """Leave nothing of a run that judged nothing."""
    if not any((out / SHARDS).glob("*.parquet")):
        for name in (ARCHIVE, LOCK):
            (out / name).unlink(missing_ok=True)
        for folder in (out / SHARDS, out):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _open(request: Request, report: Report) -> Archive:
    def on_row(done: int) -> None:
        report(Progress("reading", done, done))

    archive = open_archive(request.out / ARCHIVE, request.manifest, request.shard_rows, on_row)
    for scheme in archive.schemes():
        check_scheme(scheme)
    return archive


def _judge(
    request: Request,
    archive: Archive,
    shards: Sequence[Shard],
    models: dict[str, FleetModel],
    began: float,
    report: Report,
    say: Callable[[str], None],
) -> Summary:
    settings = {"version": blemish.__version__, "masks": request.masks, "threads": request.threads}
    keyed = [(shard, hash_text([shard.sha256, models[shard.product].sha256, settings])[:24]) for shard in shards]
    ledger = Ledger(request.out / SHARDS)
    missing = [(shard, key) for shard, key in keyed if key not in ledger]
    if missing:
        work = _Work(request, archive, models, ledger, sum(shard.rows for shard in shards), report, say)
        work.finish(missing)
    forgotten = ledger.forget_others([key for _, key in keyed])
    thresholds = None
    if (rate := request.max_false_discovery_rate) is not None:
        thresholds = batch_of(ledger.tables(keyed), models, rate)
    counts = write_results(lambda: ledger.tables(keyed), request.out, thresholds, request.with_csv)
    summary = Summary(
        counts,
        sum(shard.rows for shard in shards),
        sum(shard.rows for shard, _ in missing),
        time.monotonic() - began,
        thresholds or {product: model.header.threshold for product, model in models.items()},
        forgotten,
        {product: model.sha256 for product, model in models.items()},
    )
    write_summary(request.out, _content(summary, request))
    return summary


def _content(summary: Summary, request: Request) -> dict[str, Any]:
    return {
        "written_by": "blemish fleet inspect",
        "version": blemish.__version__,
        "images": summary.images,
        "judged_in_this_run": summary.judged,
        "seconds": round(summary.seconds, 3),
        "images_per_second": round(summary.judged / summary.seconds, 3) if summary.judged else None,
        "max_false_discovery_rate": request.max_false_discovery_rate,
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


@final
@dataclass
class _Work:
    """Judges what is missing in the ledger."""

    request: Request
    archive: Archive
    models: dict[str, FleetModel]
    ledger: Ledger
    images: int
    report: Report
    say: Callable[[str], None]

    def finish(self, missing: Sequence[tuple[Shard, str]]) -> None:
        """Round by round, until every shard is in the ledger."""
        lost = 0
        with connected(
            self.request.address, self.request.workers and self.request.workers * self.request.threads
        ) as ray:
            pool = self._pool(ray)
            while left := [(shard, key) for shard, key in missing if key not in self.ledger]:
                try:
                    self._round(left, pool)
                except LostWorkError as error:
                    is_further = sum(key not in self.ledger for _, key in left) < len(left)
                    lost = 1 if is_further else lost + 1
                    if lost >= ROUNDS:
                        raise DataError(
                            f"{lost} times in a row workers were lost before they had finished anything, last at shard "
                            f"{left[0][0].place} ({left[0][0].product}): {error}; the same command goes on from here"
                        ) from None
                    self.say(f"workers or machines were lost, what they had not finished is judged again ({error})")

    def _pool(self, ray: Any) -> Pool:
        threads = self.request.threads
        found = wait_for_processors(ray, threads)
        workers = min(self.request.workers or found // threads, found // threads)
        return Pool(workers, threads, min(self.request.batch_size, self.request.shard_rows))

    def _round(self, left: Sequence[tuple[Shard, str]], pool: Pool) -> None:
        by_place = {shard.place: (shard, key) for shard, key in left}
        waiting: dict[int, list[Any]] = defaultdict(list)
        done = self.images - sum(shard.rows for shard, _ in left)
        masks = str((self.request.out / MASKS).absolute()) if self.request.masks else None
        paths = {product: (str(model.path), model.sha256) for product, model in self.models.items()}
        job = Job(paths, str(self.request.manifest.absolute().parent), masks, pool.threads)
        self.report(Progress("judging", done, self.images))
        for table in judged(self.archive, [shard for shard, _ in left[:WAVE]], job, pool):
            for place, part in () if table is None else _by_shard(table):
                _refuse_failed(part)
                waiting[place].append(part)
                done += part.num_rows
                shard, key = by_place[place]
                if sum(one.num_rows for one in waiting[place]) == shard.rows:
                    self.ledger.add(shard, key, _joined(waiting.pop(place)))
            self.report(Progress("judging", done, self.images))


def _by_shard(table: Any) -> list[tuple[int, Any]]:
    import pyarrow.compute as pc

    places = table.column("shard").unique().to_pylist()
    return [(place, table.filter(pc.equal(table.column("shard"), place))) for place in places]


def _refuse_failed(table: Any) -> None:
    for row in table.select(["verdict", "message"]).to_pylist():
        if row["verdict"] == FAILED:
            raise DataError(row["message"])


def _joined(tables: Sequence[Any]) -> Any:
    import pyarrow

    return pyarrow.concat_tables(tables).sort_by("number").select(result_schema().names).cast(result_schema())
