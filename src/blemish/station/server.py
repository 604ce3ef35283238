"""The running station: the web server, and the worker beside it, which is started again when it ends."""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, final

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from blemish.errors import DataError, SettingsError
from blemish.station.app import Station, make_app
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.opcua import check_opcua
from blemish.station.worker import PARENT

Say = Callable[[str], None]

LOCAL = ("127.0.0.1", "::1", "localhost")
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0

MOST_CONNECTIONS = 700
"""For one more another is closed: each takes a file handle, of which a process often has 1,024."""
MOST_HANDLES = 8192
"""So many are asked for where the system allows them."""
HEADERS_S = 30.0
"""A connection is closed on which no whole request has begun for so long."""


@final
class Listen(NamedTuple):
    """Where and how the pages are served."""

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None
    proxy: str | None = None
    opcua: str | None = None
    """Where the worker serves OPC UA; None: nowhere."""


@final
class Connection(H11Protocol):
    """Leaves no file handle to connections that are idle, or slow to say hello or what they want.

    It encrypts by itself where it is given how: what the server encrypts it tells of only once hands are shaken, and
    could neither be counted nor ended before.
    """

    def __init__(self, *arguments: Any, context: ssl.SSLContext | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._context = context
        self._shaking: asyncio.Task[None] | None = None
        self._early = b""
        """What was asked before the server was told that hands are shaken."""
        self._ending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One more; where there are enough, in the place of one on which nothing was asked, if there is one."""
        if self._context is None:
            super().connection_made(transport)
        else:
            self.connections.add(self)
            self.transport = transport
            transport.pause_reading()
            self._shaking = self.loop.create_task(self._shake_hands(transport, self._context))
        if len(self.connections) > MOST_CONNECTIONS:
            others = (one for one in self.connections if isinstance(one, Connection) and one is not self)
            next((one for one in others if one.is_silent), self).transport.abort()
        if self._context is None:
            self._await_request()

    async def _shake_hands(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        secured = None
        if not transport.is_closing():
            with suppress(OSError):  # it went away, took too long, or speaks another language
                secured = await self.loop.start_tls(
                    transport, self, context, server_side=True, ssl_handshake_timeout=HEADERS_S
                )
        if secured is None:
            self.connections.discard(self)
        else:
            super().connection_made(secured)
            self._await_request()
            if self._early:
                super().data_received(self._early)

    def data_received(self, data: bytes) -> None:
        """More was asked."""
        if self.flow is None:
            self._early += data
        else:
            super().data_received(data)

    @property
    def is_silent(self) -> bool:
        """Whether nothing was asked on it yet."""
        return self.cycle is None and not self.transport.is_closing()

    def on_response_complete(self) -> None:
        """The next request may follow."""
        self._await_request()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, and its memory is free at once: that of an encrypted one is 0.3 MB."""
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)

    def _await_request(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self.loop.call_later(HEADERS_S, self._end_unless_asked, self.cycle)

    def _end_unless_asked(self, last: Any) -> None:
        if self.cycle is last and (last is None or last.response_complete):
            self.transport.abort()


@final
class Server(uvicorn.Server):
    """Sets an event when it begins to end: it waits for open streams, which do not end by themselves."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End politely."""
        self._stopping.set()
        await super().shutdown(sockets)


def serve_station(
    database: Database, folder: StationFolder, listen: Listen, language: str, worker: tuple[int | None, Say]
) -> None:
    """Serve until Ctrl-C or a polite kill; `worker` is how many threads judge, and who is told what happens.

    Raises:
        DataError: the port is occupied, or the station runs already.
        SettingsError: a certificate without its key, or none of both can be read.
    """
    threads, say = worker
    _context(listen)
    raise_handles()
    if listen.opcua is not None and check_opcua(listen.opcua) not in LOCAL:
        say(f"warning: {listen.opcua} is served without a password; whoever is on the network can read verdicts")
    with folder.lock("station", "serving this station"), _bind(listen) as bound:
        address = _address(listen, bound.getsockname()[1])
        if listen.host not in LOCAL and listen.certificate is None and listen.proxy is None:
            say(f"warning: {listen.host} is served without HTTPS; whoever is on the network can read passwords")
        stop = threading.Event()
        supervisor = threading.Thread(
            target=_keep_working, args=(database, folder, (threads, listen.opcua), say, stop), daemon=True
        )
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with suppress(KeyboardInterrupt):  # uvicorn ends politely, and then passes the signal on
                supervisor.start()
                say(f"station {folder.root} at {address}; Ctrl-C ends it")
                pages = Station(database, folder, language)
                Server(configure(make_app(pages), listen), pages.stopping).run(sockets=[bound])
        finally:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
            stop.set()
            supervisor.join()


def check_port(listen: Listen) -> None:
    """Refuse a port that is occupied, before anything is written.

    Raises:
        DataError: it is.
    """
    with _bind(listen):
        pass


def configure(app: FastAPI, listen: Listen) -> uvicorn.Config:
    """How the web server works; what requests say of where they come from is believed of the proxy alone.

    Raises:
        SettingsError: the certificate or its key cannot be used.
    """
    protocol: Any = partial(Connection, context=_context(listen))
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=listen.proxy is not None,
        forwarded_allow_ips=listen.proxy,
        timeout_graceful_shutdown=2,
        http=protocol,
        loop="asyncio",  # a connection of uvloop reads on where it is told to wait before it is encrypted
        ws="none",
    )


def raise_handles() -> None:
    """Allow this process and the worker more file handles than a system often gives."""
    with suppress(ModuleNotFoundError, OSError, ValueError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_HANDLES if hard == resource.RLIM_INFINITY else min(MOST_HANDLES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _context(listen: Listen) -> ssl.SSLContext | None:
    """How connections are encrypted; None: not here."""
    if listen.certificate is None and listen.key is None:
        return None
    if listen.certificate is None or listen.key is None:
        raise SettingsError("--certificate and --key: give both, or none")
    for path in (listen.certificate, listen.key):
        if not path.is_file():
            raise SettingsError(f"{path}: no such file")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(listen.certificate, listen.key, password="")  # nobody is asked for one
    except OSError as error:
        raise SettingsError(
            f"--certificate {listen.certificate} --key {listen.key}: cannot be used ({error.strerror or error}); give "
            "PEM files, the certificate with those that it is signed with, and its own key, without a password"
        ) from None
    return context


def _bind(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((listen.host, listen.port))
        bound.listen()  # who comes before the pages are served waits for them
    except OSError as error:
        bound.close()
        raise DataError(
            f"--port {listen.port}: cannot listen at {listen.host} ({error.strerror}); "
            "stop what uses it, or give another port"
        ) from None
    return bound


def _address(listen: Listen, port: int) -> str:
    host = f"[{listen.host}]" if ":" in listen.host else listen.host
    return f"http{'s' if listen.certificate else ''}://{host}:{port}/"


def _keep_working(
    database: Database, folder: StationFolder, options: tuple[int | None, str | None], say: Say, stop: threading.Event
) -> None:
    """Run the worker, again and again where it ends, with longer and longer pauses where it ends at once."""
    command = [sys.executable, "-m", "blemish", "station", "work", str(folder.root)]
    for name, value in zip(("--threads", "--opcua"), options, strict=True):
        command += [] if value is None else [name, str(value)]
    # Not as an argument: everybody on the machine can read those.
    url = database.engine.url.render_as_string(hide_password=False)
    environment = {**os.environ, "BLEMISH_STATION_DATABASE": url, PARENT: f"{os.getpid()}"}
    pause_s = FIRST_PAUSE_S
    while not stop.is_set():
        try:
            trouble = f"ended with {_work(command, environment, stop)}"
        except OSError as error:
            trouble = f"cannot be begun: {error.strerror}"
        if not stop.is_set():
            say(f"the worker {trouble}; started again in {pause_s:g} s")
            stop.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _work(command: list[str], environment: dict[str, str], stop: threading.Event) -> int:
    """Run the worker until it ends or is to end; its exit code."""
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    while process.poll() is None and not stop.wait(0.2):
        pass
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20.0)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
