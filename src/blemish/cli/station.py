"""`blemish station`: the service beside the line, and its record."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.cli.console import log_console, out_console
from blemish.cli.options import Threads

if TYPE_CHECKING:
    from blemish.station.database import Database
    from blemish.station.folder import StationFolder

Folder = Annotated[
    Path, typer.Argument(help="Folder that the station keeps everything in; made if there is none.", show_default=False)
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="Address of a PostgreSQL database, postgresql://user@host/name. None: SQLite in FOLDER.",
        show_default=False,
    ),
]


def add(
    folder: Folder,
    product: Annotated[str, typer.Option(help="Name of the product; a new one is begun where there is none.")],
    model: Annotated[
        Path | None, typer.Option(help="Model exported to ONNX, which judges this product from now on.")
    ] = None,
    watch: Annotated[Path | None, typer.Option(help="Folder that images of this product are written into.")] = None,
    database: DatabaseOption = None,
) -> None:
    """Set up a product of a station from the terminal: its model, and where its images come from."""
    from blemish.station.products import add_folder, add_model, go_live, product_named

    with _opened(folder, database, create=True) as (station, store):
        product_id = product_named(store, "terminal", product)
        if model is not None:
            added = add_model(store, station, "terminal", product_id, (model.name, _read_model(model)))
            go_live(store, "terminal", added.id, "set up from the terminal")
            log_console.print(f"{product}: {model.name} is live; checked on {added.parity}", markup=False)
        if watch is not None:
            add_folder(store, "terminal", product_id, watch)
            log_console.print(f"{product}: watching {watch}", markup=False)


def work(
    folder: Folder,
    database: DatabaseOption = None,
    threads: Threads = None,
    settle: Annotated[
        float, typer.Option(min=0.0, help="Seconds without a change, after which a watched file is taken in.")
    ] = 1.0,
    until_idle: Annotated[
        float | None, typer.Option(min=0.0, help="Stop when nothing has come for so many seconds.")
    ] = None,
) -> None:
    """Judge what comes to a station, without its pages. Ctrl-C ends it, with exit code 0."""
    from blemish.station.worker import Worker

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with _opened(folder, database) as (station, store):

        def say(text: str) -> None:
            log_console.print(f"trouble: {text}", markup=False)

        Worker(store, station, say, threads, settle).run(stop, until_idle)


def verify(
    folder: Folder,
    database: DatabaseOption = None,
    head: Annotated[
        str | None, typer.Option(help="A head noted before; that it is still in the chain is checked too.")
    ] = None,
) -> None:
    """Check the audit trail: that no entry, decision or verdict was changed, left out or put in. 1: something was."""
    from blemish.station.trail import verify_trail

    with _opened(folder, database) as (_, store), store.read() as session:
        found = verify_trail(session, head)
    if found.problem is not None:
        log_console.print(f"{folder}: {found.problem}; {found.entries} entries before it hold", markup=False)
        raise typer.Exit(1)
    out_console.print(f"{found.entries} entries hold; head {found.head}", markup=False)


@contextmanager
def _opened(
    folder: Path, database: str | None, *, create: bool = False
) -> Iterator[tuple["StationFolder", "Database"]]:
    from blemish.station.database import open_database
    from blemish.station.folder import open_folder

    station = open_folder(folder, create=create)
    store = open_database(database or station.default_database, station.id)
    try:
        yield station, store
    finally:
        store.close()


def _read_model(path: Path) -> bytes:
    from blemish.errors import ArtifactError
    from blemish.inference.runtime import is_onnx

    if not path.is_file():
        raise ArtifactError(f"{path}: no such model file")
    if not is_onnx(path):
        raise ArtifactError(f"{path}: a station runs exported models; export it: blemish export {path} -o model.onnx")
    return path.read_bytes()
