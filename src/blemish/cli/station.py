"""`blemish station`: the service beside the line."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from blemish.cli.console import log_console, out_console
from blemish.cli.options import Threads
from blemish.cli.stopping import when_asked_to_end
from blemish.errors import ArtifactError, DataError, SettingsError

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
        help="Address of a PostgreSQL database, postgresql://user@host/name. Default: SQLite in FOLDER.",
        envvar="BLEMISH_STATION_DATABASE",
        show_default=False,
    ),
]
OpcUa = Annotated[
    str | None,
    typer.Option(
        help="Serve the last results by OPC UA at opc.tcp://127.0.0.1:4840. Default: not.", show_default=False
    ),
]


def serve(
    folder: Folder,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the pages. 0: a free one.")] = 8742,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: every one this machine has.")] = "127.0.0.1",
    database: DatabaseOption = None,
    admin_password_file: Annotated[
        Path | None,
        typer.Option(help="File with the password for the user admin of a new station. Else it is asked for."),
    ] = None,
    language: Annotated[str, typer.Option(help="en, de, or auto: as the browser asks for.")] = "auto",
    certificate: Annotated[Path | None, typer.Option(help="Certificate (PEM) to serve HTTPS with.")] = None,
    key: Annotated[Path | None, typer.Option(help="Its private key (PEM).")] = None,
    behind_proxy: Annotated[
        str | None, typer.Option(help="Address of a proxy whose X-Forwarded headers are believed.", show_default=False)
    ] = None,
    opcua: OpcUa = None,
    threads: Threads = None,
) -> None:
    """Serve the pages of a station and judge what comes to it. The command's name may be left out. Ctrl-C ends it."""
    from blemish.station.accounts import add_user, has_users
    from blemish.station.server import Listen, check_port, serve_station

    listen = Listen(host, port, certificate, key, behind_proxy, opcua)
    if language not in ("auto", "en", "de"):
        raise SettingsError(f"--language {language}: expected auto, en or de")
    if not folder.exists():  # of one that is there, a station that runs already is the likelier reason
        check_port(listen)
    with opened(folder, database, create=True) as (station, store):
        if not has_users(store):
            add_user(store, "terminal", "admin", _first_password(folder, admin_password_file), "administrator")
        serve_station(store, station, listen, language, (threads, log_console.print))


def _first_password(folder: Path, file: Path | None) -> str:
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"--admin-password-file {file}: cannot be read ({error})") from None
    if not sys.stdin.isatty():
        raise SettingsError(f"{folder}: a new station needs a password for its user admin; give --admin-password-file")
    return str(typer.prompt("Password for the user admin", hide_input=True, confirmation_prompt=True))


class StationGroup(TyperGroup):
    """`blemish station FOLDER` is `blemish station serve FOLDER`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["serve", *args]
        return super().parse_args(ctx, args)


def add(
    folder: Folder,
    product: Annotated[str, typer.Option(help="Name of the product; a new one is begun where there is none.")],
    model: Annotated[
        Path | None, typer.Option(help="Model exported to ONNX, which judges this product from now on.")
    ] = None,
    watch: Annotated[Path | None, typer.Option(help="Folder that images of this product are written into.")] = None,
    camera: Annotated[
        str | None,
        typer.Option(help="Camera that this product is seen by: a device's number, rtsp://, http://, or a video file."),
    ] = None,
    every_frames: Annotated[int, typer.Option(help="Of the camera, every n-th frame is an image.")] = 1,
    every_s: Annotated[
        float, typer.Option(help="Of the camera, one frame in so many seconds. 0: as --every-frames says.")
    ] = 0.0,
    database: DatabaseOption = None,
) -> None:
    """Set up a product: its model, and where its images come from."""
    from blemish.station.cameras import Pace, add_camera, checked_camera, shown_address
    from blemish.station.folder import MARKER
    from blemish.station.products import (
        add_folder,
        add_model,
        folder_there,
        make_live,
        new_product_name,
        product_named,
    )

    checked = None if model is None else _check_model(model)  # what is wrong is said before anything is set up
    pace = Pace(every_frames, every_s)
    if watch is not None:
        folder_there(watch)
    if camera is not None:
        checked_camera(camera, pace)
    if not (folder / MARKER).exists():
        new_product_name(product)
    with opened(folder, database, create=True) as (station, store):
        product_id = product_named(store, "terminal", product)
        if model is not None and checked is not None:
            content, parity = checked
            added = add_model(store, station, "terminal", product_id, (model.name, content), parity=parity)
            make_live(store, "terminal", added.id, "set up from the terminal", parity)
            log_console.print(f"{product}: {model.name} is live; checked on {parity}")
        if watch is not None:
            add_folder(store, "terminal", product_id, watch)
            log_console.print(f"{product}: watching {watch}")
        if camera is not None:
            add_camera(store, "terminal", product_id, camera, pace)
            log_console.print(f"{product}: reading {shown_address(camera)}")


def tell(
    folder: Folder,
    address: Annotated[
        str, typer.Argument(help="https:// of a program, or mqtt:// or mqtts:// of a broker.", show_default=False)
    ],
    product: Annotated[
        str | None, typer.Option(help="Of this product alone. Default: of all.", show_default=False)
    ] = None,
    password_name: Annotated[str, typer.Option(help="Of the broker's password: a file in FOLDER/secrets.")] = "",
    authority_name: Annotated[str, typer.Option(help="Of its authority's certificate: a file there.")] = "",
    discovery: Annotated[
        str, typer.Option(help="Topic that Home Assistant learns from. Empty: none.")
    ] = "homeassistant",
    database: DatabaseOption = None,
) -> None:
    """Tell a program or a broker of MQTT of every decision. From now on, as the page Hooks does."""
    from blemish.station.brokers import Login, add_broker, is_broker
    from blemish.station.hooks import add_hook
    from blemish.station.products import find_product
    from blemish.station.spool import shown_url

    with opened(folder, database) as (_, store):
        product_id = None if product is None else find_product(store, product)
        if is_broker(address):
            add_broker(store, "terminal", address, product_id, Login(password_name, authority_name, discovery))
            log_console.print(f"{shown_url(address)}: is told from now on")
        else:
            secret = add_hook(store, "terminal", address, product_id)
            log_console.print(f"{shown_url(address)}: is told from now on; what it is signed with is printed this once")
            out_console.print(secret)


def work(
    folder: Folder,
    database: DatabaseOption = None,
    threads: Threads = None,
    settle: Annotated[
        float, typer.Option(min=0.0, help="Seconds without a change, after which a watched file is taken in.")
    ] = 1.0,
    until_idle: Annotated[
        float | None,
        typer.Option(
            min=0.0, help="Stop when nothing has come for so many seconds; exit code 2 where not all was judged."
        ),
    ] = None,
    opcua: OpcUa = None,
) -> None:
    """Judge what comes to a station, without its pages. Ctrl-C ends it, with exit code 0."""
    from blemish.station.opcua import check_opcua
    from blemish.station.queue import left_waiting
    from blemish.station.worker import Worker

    if opcua is not None:
        check_opcua(opcua)
    stop = threading.Event()
    with when_asked_to_end(lambda *_: stop.set()), opened(folder, database) as (station, store):

        def say(text: str) -> None:
            log_console.print(f"trouble: {text}")

        is_idle = Worker(store, station, say, threads, settle, opcua).run(stop, until_idle)
        if is_idle and (left := left_waiting(store)):
            raise DataError(f"{folder}: {left}")


def run(
    folder: Folder,
    number: Annotated[int, typer.Argument(help="Number of the run.", show_default=False)],
    database: DatabaseOption = None,
) -> None:
    """Do a run that was begun on a page. The pages start this by themselves."""
    from blemish.station.runs import perform

    if hasattr(os, "nice"):
        os.nice(10)  # what is judged comes first
    with opened(folder, database) as (station, store):
        perform(store, station, number)


@contextmanager
def opened(folder: Path, database: str | None, *, create: bool = False) -> Iterator[tuple["StationFolder", "Database"]]:
    """A station's folder and its store, which is closed in the end.

    Raises:
        DataError: the database fails, now or in the block.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from blemish.station.database import open_database, reason
    from blemish.station.folder import open_folder

    station = open_folder(folder, create=create)
    store = open_database(database or station.default_database, station.id)
    try:
        yield station, store
    except SQLAlchemyError as error:
        raise DataError(f"{folder}: the database fails: {reason(error)}") from None
    finally:
        store.close()


def _check_model(path: Path) -> tuple[bytes, str]:
    """An exported model's content, and how far it is from what is expected of it on this machine."""
    from blemish.inference.runtime import is_onnx
    from blemish.station.products import verified

    if not path.is_file():
        raise ArtifactError(f"{path}: no such model file")
    if not is_onnx(path):
        raise ArtifactError(f"{path}: a station runs exported models; export it: blemish export {path} -o model.onnx")
    return path.read_bytes(), verified(path)
