"""`blemish station verify`, `export`, `backup` and others: what a station has kept, checked, copied and brought."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import emit, log_console, out_console, progress
from blemish.cli.station import DatabaseOption, Folder, opened
from blemish.errors import SettingsError, plural


def verify(
    folder: Folder,
    database: DatabaseOption = None,
    head: Annotated[
        str | None,
        typer.Option(help="A head noted before, or its file; that nothing up to it was rewritten is checked too."),
    ] = None,
) -> None:
    """Check the audit trail. No entry, decision or verdict may be changed, left out or added. 1: one was."""
    from blemish.station.heads import read_head
    from blemish.station.trail import verify_trail

    with opened(folder, database) as (station, store), store.read() as session, progress(at_once=True) as report:
        found = verify_trail(session, None if head is None else read_head(head, station), report)
    if found.problem is not None:
        log_console.print(f"{folder}: {found.problem}; entries before it that hold: {found.entries}")
        raise typer.Exit(1)
    noted = "" if head is None else "; the head noted before is among them"
    out_console.print(f"entries that hold: {found.entries}; head {found.head}{noted}")


def export(
    folder: Folder,
    out: Annotated[Path, typer.Option("-o", "--out", help="New file: .csv, .json, .jsonl or .parquet.")],
    product: Annotated[
        str | None, typer.Option(help="Of this product alone. Default: of all.", show_default=False)
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="From this time on, ISO 8601 in UTC: 2026-11-26T06:00.", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option(help="Before this time.", show_default=False)] = None,
    database: DatabaseOption = None,
) -> None:
    """Write the decisions of a station into a file, while it runs. It is an entry of the audit trail."""
    from blemish.station.exports import Wanted, export_to
    from blemish.station.products import find_product

    with opened(folder, database) as (_, store):
        product_id = None if product is None else find_product(store, product)
        wanted = Wanted(product_id, _in_utc("--start", start), _in_utc("--end", end))
        with progress(at_once=True) as report:
            export_to(store, "terminal", out, wanted, report)
    log_console.print(f"{out}: written")


def import_record(
    folder: Folder,
    record: Annotated[
        Path, typer.Argument(help="Record (.sqlite) that `watch` or `inspect` has written.", show_default=False)
    ],
    product: Annotated[
        str | None,
        typer.Option(
            help="Product that it is of; a new one is begun where there is none. Default: the one with its model.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder that paths of the record are looked for in; may be repeated. Default: as they are.",
            metavar="FOLDER",
            show_default=False,
        ),
    ] = None,
    database: DatabaseOption = None,
) -> None:
    """Take the decisions of a record into a station. With the images still there. The same again adds nothing."""
    from blemish.station.records import import_record as take_in

    with opened(folder, database) as (station, store), progress() as report:
        done = take_in(store, station, record, images or [], product, report)
    log_console.print(
        f"{record}: {plural(done.decisions, 'decision')} taken in, without an image: {done.without_image}; "
        f"known before: {done.known}"
    )


def _in_utc(option: str, text: str | None) -> str | None:
    """A time as the store has it; without a zone it is in UTC."""
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{option} {text}: expected a time such as 2026-11-26T06:00") from None
    return (at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)).isoformat(timespec="microseconds")


def head(
    folder: Folder,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="File to write. Default: standard output.")] = None,
    database: DatabaseOption = None,
) -> None:
    """Print the head of the audit trail, to be kept elsewhere. It is given to `verify --head` later."""
    from blemish.data.files import atomic_write
    from blemish.data.outputs import check_output, refuse_foreign
    from blemish.station.heads import head_of

    with opened(folder, database) as (station, store), store.read() as session:
        text = head_of(session, station).to_json() + "\n"
    if out is None:
        emit(text)
        return
    check_output(out)
    refuse_foreign(out, [b'{"station": "'])
    with atomic_write(out) as temporary:
        temporary.write_text(text, encoding="utf-8")


def keep(
    folder: Folder,
    days: Annotated[float | None, typer.Option(help="Days that good images are kept; 0: forever.")] = None,
    days_rejects: Annotated[
        float | None,
        typer.Option(help="Days that rejects, doubtful, audit and judged images are kept; 0: forever."),
    ] = None,
    max_gb: Annotated[
        float | None, typer.Option(help="Gigabytes that image files may take in all; 0: no limit.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; goes into the audit trail.")] = "set from the terminal",
    now: Annotated[
        bool, typer.Option("--now", help="Remove expired images now, instead of leaving it to the worker.")
    ] = False,
    database: DatabaseOption = None,
) -> None:
    """Say how long images are kept, or set it. Their decisions stay; what was removed is in the audit trail."""
    from blemish.station.retention import make_retention, read_retention, set_retention, sweep

    with opened(folder, database) as (station, store):
        with store.read() as session:
            before = read_retention(session)
        asked = {"days": days, "days_rejects": days_rejects, "max_gb": max_gb}
        if any(value is not None for value in asked.values()):
            kept = {name: getattr(before, name) if value is None else value or None for name, value in asked.items()}
            before = make_retention(**kept)
            set_retention(store, "terminal", before, reason)
        for name, value in before.model_dump().items():
            out_console.print(f"{name}: {'no limit' if value is None else f'{value:g}'}")
        if now:
            with progress() as report:
                removed = sweep(store, station, report)
            log_console.print(f"{plural(removed.images, 'image')} removed, {removed.size_bytes / 1e6:.1f} MB")


def backup(
    folder: Folder,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, for example station.zip.")],
    database: DatabaseOption = None,
) -> None:
    """Write all of a station into one file, while it runs. Its store at one moment, its images and models."""
    from blemish.station.backup import back_up

    with opened(folder, database) as (station, store), progress(at_once=True) as report:
        kept = back_up(store, station, out, report)
    log_console.print(
        f"{out}: {plural(kept.rows, 'row')} and {plural(kept.files, 'file')}; not there any more: {kept.missing}"
    )


def restore(
    source: Annotated[Path, typer.Argument(help="File that `blemish station backup` wrote.", show_default=False)],
    folder: Annotated[Path, typer.Argument(help="Folder to make; new or empty.", show_default=False)],
    database: DatabaseOption = None,
) -> None:
    """Make a station from a backup, in a new folder. Its audit trail is checked. Exit code 1: the trail is broken."""
    from blemish.station.backup import restore as restore_backup

    with progress(at_once=True) as report:
        found = restore_backup(source, folder, database, report)
    if found.problem is not None:
        log_console.print(f"{folder}: {found.problem}")
        raise typer.Exit(1)
    log_console.print(f"{folder}: entries of the audit trail that hold: {found.entries}; head {found.head}")
