"""All products of a registry at a glance, the worst first: `ledger.json` and `registry.html`."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypedDict

from jinja2 import ChoiceLoader, PackageLoader

from blemish.errors import DataError, plural
from blemish.evaluation.report.files import to_json, write_report
from blemish.evaluation.report.html import page_environment
from blemish.fleet.product import Challenged, Model, Record
from blemish.inference.monitor_state import default_state_path, read_state

LEDGER, PAGE = "ledger.json", "registry.html"
DAY_S = 86400.0


class Drift(TypedDict):
    """What the watch over a product's line says, from `MODEL.monitor.json` beside its model."""

    status: Literal["none", "steady", "changed", "unreadable"]
    """none: there is no watch, or one of an earlier model."""
    images: int
    message: str


class Row(TypedDict):
    """A product in `ledger.json`; `model` and `challenge` as in its `product.json`."""

    product: str
    status: Literal["trained", "running", "failed"]
    error: str
    is_current: bool
    """Whether the model is of the settings and images that were asked for last."""
    model: dict[str, Any] | None
    age_days: float | None
    check: dict[str, Any] | None
    challenge: dict[str, Any] | None
    challenge_told: str
    drift: Drift


class Ledger(TypedDict):
    """`ledger.json`."""

    written_by: str
    version: str
    written_at: str
    products: list[Row]


def write_overview(registry: Path, records: Iterable[Record], now: datetime | None = None) -> Ledger:
    """Write both files, both or neither; `now` is from when ages are counted.

    Raises:
        DataError: they cannot be written.
    """
    ledger = ledger_of(registry, records, now or datetime.now(UTC))
    write_report(registry, {LEDGER: to_json(ledger), PAGE: render(ledger, registry.resolve().name)})
    return ledger


def read_ledger(registry: Path) -> Ledger:
    """What `write_overview` wrote."""
    ledger: Ledger = json.loads((registry / LEDGER).read_text(encoding="utf-8"))
    return ledger


def ledger_of(registry: Path, records: Iterable[Record], now: datetime) -> Ledger:
    """All products, the worst first."""
    rows = sorted((_row(registry, record, now) for record in records), key=lambda row: row["product"])
    return {
        "written_by": "blemish fleet",
        "version": version("blemish"),
        "written_at": now.isoformat(timespec="seconds"),
        "products": sorted(rows, key=badness, reverse=True),
    }


def badness(row: Row) -> tuple[float, ...]:
    """What rows are ordered by: without a model, failed, changed line, then the promised rate, the good images that
    are missing, the size from which on defects are found, and the age.
    """
    model, challenge = row["model"] or {}, row["challenge"] or {"a90_px": 0.0, "defects": 0, "found": 0}
    size = challenge["a90_px"] or (0.0 if challenge["found"] == challenge["defects"] > 0 else float("inf"))
    return (
        row["model"] is None,
        row["status"] != "trained",
        row["drift"]["status"] in ("changed", "unreadable"),
        model.get("max_false_alarm_rate") or 0.0,
        model.get("still_needed") or 0,
        size if row["challenge"] else 0.0,
        row["age_days"] or 0.0,
    )


def _row(registry: Path, record: Record, now: datetime) -> Row:
    model, challenge = record.model, record.challenge
    row: Row = {
        "product": record.product,
        "status": record.status,
        "error": record.error,
        "is_current": model is not None and record.job == record.model_job,
        "model": None,
        "age_days": None,
        "check": None if record.check is None else record.check.model_dump(),
        "challenge": None if challenge is None else challenge.model_dump(),
        "challenge_told": "" if challenge is None else told(challenge),
        "drift": {"status": "none", "images": 0, "message": ""},
    }
    if model is not None:
        row["model"] = model.model_dump(mode="json")
        row["age_days"] = max(0.0, (now - datetime.fromisoformat(model.trained_at)).total_seconds() / DAY_S)
        row["drift"] = drift_of(registry / record.product / model.file, model)
    return row


def told(challenge: Challenged) -> str:
    """What is said of a challenge.

    >>> told(Challenged(defects=60, found=41, a90_px=12.4)), told(Challenged(defects=9, found=9, a90_px=None, note="x"))
    ('90 % found from 12 px on; 41 of 60 found', 'x; 9 of 9 found')
    """
    size = [] if challenge.a90_px is None else [f"90 % found from {challenge.a90_px:.0f} px on"]
    counts = [f"{challenge.found} of {challenge.defects} found"] if challenge.defects else []
    return "; ".join([*size, *([challenge.note] if challenge.note else []), *counts])


def drift_of(path: Path, model: Model) -> Drift:
    """Whether the watch over this model's line has seen a change."""
    try:
        state = read_state(default_state_path(path))
    except DataError as error:
        return {"status": "unreadable", "images": 0, "message": str(error)}
    if state is None or (state.calibration_id, state.model_id) != (model.calibration_id, model.model_id):
        return {"status": "none", "images": 0, "message": ""}
    if state.alarms:
        alarm = state.alarms[0]
        said = f"{alarm.stream} has changed after {plural(alarm.images, 'image')}, at {alarm.image}"
        return {"status": "changed", "images": state.images, "message": said}
    return {"status": "steady", "images": state.images, "message": f"no change in {plural(state.images, 'image')}"}


def render(ledger: Ledger, name: str) -> str:
    """The page, from the content of `ledger.json`."""
    pages = page_environment()
    environment = pages.overlay(
        loader=ChoiceLoader([PackageLoader("blemish.fleet", "."), *filter(None, [pages.loader])])
    )
    rows = ledger["products"]
    return environment.get_template("registry.html.j2").render(c=ledger, name=name, sentences=verdict(rows))


def verdict(rows: Sequence[Row]) -> list[str]:
    """What there is to do, in plain sentences, the most urgent first."""
    failed = [row for row in rows if row["status"] == "failed"]
    changed = [row for row in rows if row["drift"]["status"] == "changed"]
    missing = [needed for row in rows if row["model"] and (needed := row["model"]["still_needed"])]
    with_model = sum(row["model"] is not None for row in rows)
    sentences = [f"With a model: {with_model} of {plural(len(rows), 'product')}."]
    if failed:
        old = sum(row["model"] is not None for row in failed)
        kept = f"; the model from before is kept of {old}" if old else ""
        sentences.append(f"Not trained because of an error: {len(failed)}{kept}.")
    if changed:
        sentences.append(f"The line has changed, and the guarantee is withdrawn: {len(changed)}.")
    if missing:
        most = plural(max(missing), "more good image")
        sentences.append(f"Cannot promise 1 % false alarms yet: {len(missing)}; up to {most} must be held out.")
    return sentences
