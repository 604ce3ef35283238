"""`blemish fleet train`: every product of a plan becomes a model in a registry, many at a time."""

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, final

from blemish.data.files import absolute_path, exclusive_lock, make_folder
from blemish.data.image_files import image_files
from blemish.data.outputs import refuse_foreign, refuse_image_folder
from blemish.data.progress import Progress, Report, quiet
from blemish.errors import DataError
from blemish.fleet.cluster import connected
from blemish.fleet.overview import LEDGER, PAGE, write_overview
from blemish.fleet.plan import PlanRow
from blemish.fleet.product import RECORD, Record, Wish, entry_of, read_record, train_product
from blemish.fleet.registry import NAME, read_entries, write_entries
from blemish.fleet.tasks import Needs, check_needs, run_tasks

LOCK = ".lock"
WRITE_EVERY_S = 5.0
"""While products end, the list, the ledger and the page are written so often, and at the end."""

OnProduct = Callable[[Record, bool], None]
"""Told what came of each product, and whether it was kept from before."""


@final
class Machines(NamedTuple):
    """Where the work is done: at a cluster's address, or with so many processors here; so many products at once."""

    address: str | None = None
    needs: Needs = Needs()
    at_once: int | None = None


class _Tell(NamedTuple):
    report: Report
    on_product: OnProduct


def train_plan(
    plan: Sequence[PlanRow],
    registry: Path,
    wish: Wish,
    machines: Machines = Machines(),  # noqa: B008  # immutable
    report: Report = quiet,
    on_product: OnProduct = lambda _record, _is_kept: None,
) -> list[Record]:
    """Train every product of a plan into a registry; the records, in the plan's order.

    What is finished, with the same settings and images, is kept; what was cut off goes on. A product that cannot be
    trained is a record with its error. The list of products, the ledger and the page are written every few seconds and
    at the end, also after an interruption; with those that are there from other plans.

    Raises:
        DataError: the registry cannot be written, is another's folder, or is being trained into.
        SettingsError: Ray is missing or not at the address; no machine has what a product needs.
    """
    check_registry(registry, plan)
    with connected(machines.address) as ray:
        check_needs(ray, machines.needs)
        make_folder(registry)
        with exclusive_lock(registry / LOCK, f"training into {registry}"):
            if not (registry / NAME).exists():
                write_entries(registry, ())
            try:
                found = _train(ray, plan, registry, wish, machines, _Tell(report, on_product))
            finally:
                _write_registry(registry)
    return [found[row.product] for row in plan]


def _train(
    ray: Any, plan: Sequence[PlanRow], registry: Path, wish: Wish, machines: Machines, tell: _Tell
) -> dict[str, Record]:
    """The records by product, the largest folders first, so that none of them is left at the end."""
    records: dict[str, Record] = {}

    def on_wait() -> None:
        tell.report(Progress("products", len(records), len(plan)))

    work = functools.partial(_train_one, registry=absolute_path(registry), wish=wish)
    rows = sorted(plan, key=lambda row: -len(image_files(row.folder, unnamed=[])))
    written = time.monotonic()
    for done in run_tasks(ray, work, rows, machines.needs, machines.at_once, on_wait):
        row = rows[done.place]
        record, is_kept = done.result or (_died(registry, row, done.error), False)
        records[row.product] = record
        tell.on_product(record, is_kept)
        if time.monotonic() - written > WRITE_EVERY_S:
            _write_registry(registry)
            written = time.monotonic()
    return records


def check_registry(registry: Path, plan: Sequence[PlanRow]) -> None:
    """Refuse a folder that holds what the fleet did not write.

    Raises:
        DataError: naming what is there.
    """
    refuse_image_folder(registry)
    if registry.exists() and not registry.is_dir():
        raise DataError(f"{registry}: a file; name a folder for the registry")
    if not registry.is_dir():
        return
    inside = [path for path in registry.iterdir() if path.name != LOCK]
    if inside and not (registry / NAME).is_file():
        raise DataError(
            f"{registry}: holds {sorted(path.name for path in inside)[0]} and no {NAME}, so it is not a registry of "
            "`blemish fleet train`; name a new folder"
        )
    if inside:
        read_entries(registry)
    for name in (LEDGER, PAGE):
        refuse_foreign(registry / name, look_at=-1)
    for row in plan:
        folder = registry / row.product
        if folder.exists() and not (folder / RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: holds no {RECORD}, so blemish did not write it; move it, or rename the product")


def _train_one(row: PlanRow, registry: Path, wish: Wish) -> tuple[Record, bool]:
    if not (registry / NAME).is_file():
        raise DataError(f"{registry}: a machine of the cluster does not see it; name a folder that all of them share")
    return train_product(row, registry / row.product, wish)


def _died(registry: Path, row: PlanRow, error: str) -> Record:
    """What is said of a product whose process died: the record that is there stays, so that the next run goes on."""
    before = read_record(registry / row.product, row.product)
    return before.model_copy(update={"status": "failed", "error": error})


def _write_registry(registry: Path) -> None:
    """The list, the ledger and the page, from the records of all products that are there."""
    folders = sorted(path.parent for path in registry.glob(f"*/{RECORD}"))
    records = [read_record(folder, folder.name) for folder in folders]
    write_entries(registry, [entry for record in records if (entry := entry_of(record)) is not None])
    write_overview(registry, records)
