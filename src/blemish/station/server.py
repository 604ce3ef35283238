"""The running station: the web server, and the worker beside it, which is started again when it ends."""

import asyncio
import logging
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
from blemish.inspection.moving import file_stamp
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
"""A connection is closed on which no whole request has begun for so long, or nothing more of one has come."""

SAYS_HTTPS = b"""HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\nConnection: close\r\n\r
<!doctype html><title>https</title><p>This station speaks HTTPS: begin its address with https://</p>
<script>location.protocol = "https:"</script>
"""
"""The answer to who speaks HTTP where connections are encrypted; a browser goes on to the right address by itself."""

LOG = logging.getLogger("uvicorn.error")


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
class Encryption:
    """How connections are encrypted: with a certificate and its key, as their files have them when one begins.

    Raises:
        SettingsError: they cannot be used.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._files = (certificate, key)
        self._stamps = list(map(file_stamp, self._files))
        self._context = _load(certificate, key)

    @property
    def context(self) -> ssl.SSLContext:
        """For a new connection; where the files were renewed and cannot be used, that of before."""
        stamps = list(map(file_stamp, self._files))
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._context = _load(*self._files)
            except SettingsError as error:  # at the next change it is tried again: one may be written after the other
                LOG.warning("%s; what they were before is used on", error)
        return self._context


@final
class Connection(H11Protocol):
    """Leaves no file handle to connections that are idle, or slow to say hello or what they want.

    It encrypts by itself where it is given how: what the server encrypts it tells of only once hands are shaken, and
    could neither be counted nor ended before.
    """

    def __init__(self, *arguments: Any, encryption: Encryption | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._encryption = encryption
        self._shaking: asyncio.Task[None] | None = None
        self._early = b""
        """What was asked before the server was told that hands are shaken."""
        self._ending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """One more; where there are enough, in the place of one on which nothing was asked, or not all yet."""
        if self._encryption is None:
            super().connection_made(transport)
        else:
            self.connections.add(self)
            self.transport = transport
            transport.pause_reading()
            self._shaking = self.loop.create_task(self._shake_hands(transport, self._encryption.context))
        if len(self.connections) > MOST_CONNECTIONS:
            others = [one for one in self.connections if isinstance(one, Connection) and one is not self]
            ends = [*(one for one in others if one.is_silent), *(one for one in others if one.is_sending), self]
            ends[0].transport.abort()
        if self._encryption is None:
            self._await_client()

    async def _shake_hands(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        secured = None
        # It may have gone away, take too long, or speak another language; the second handle outlives the first.
        with suppress(OSError), transport.get_extra_info("socket").dup() as second:
            try:
                secured = await self.loop.start_tls(
                    transport, self, context, server_side=True, ssl_handshake_timeout=HEADERS_S
                )
            except ssl.SSLError as error:
                if error.reason == "HTTP_REQUEST":
                    second.send(SAYS_HTTPS)
        if secured is None:
            transport.abort()
            self.connections.discard(self)
        else:
            super().connection_made(secured)
            self._await_client()
            if self._early:
                self.data_received(self._early)

    def data_received(self, data: bytes) -> None:
        """More was asked."""
        if self.flow is None:
            self._early += data
        else:
            super().data_received(data)
            if self.is_sending:
                self._await_client()

    @property
    def is_silent(self) -> bool:
        """Whether nothing was asked on it yet."""
        return self.cycle is None and not self.transport.is_closing()

    @property
    def is_sending(self) -> bool:
        """Whether what is asked on it was not sent to its end yet."""
        return self.cycle is not None and self.cycle.more_body and not self.transport.is_closing()

    def on_response_complete(self) -> None:
        """The next request may follow."""
        self._await_client()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, and its memory is free at once: that of an encrypted one is 0.3 MB."""
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)

    def _await_client(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        self._ending = self.loop.call_later(HEADERS_S, self._end_unless_asked, self.cycle)

    def _end_unless_asked(self, last: Any) -> None:
        is_late = last is None or last.response_complete or (last.more_body and not self.flow.read_paused)
        if self.cycle is last and is_late:
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
    _encryption(listen)
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
    protocol: Any = partial(Connection, encryption=_encryption(listen))
    made = uvicorn.Config(
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
    LOG.addFilter(_is_news)  # after the logging is set up
    return made


def _is_news(record: logging.LogRecord) -> bool:
    """Whether there is something to see: what is still asked for when the station ends, is ended."""
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def raise_handles() -> None:
    """Allow this process and the worker more file handles than a system often gives."""
    with suppress(ModuleNotFoundError, OSError, ValueError):  # Windows has no such limit
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST_HANDLES if hard == resource.RLIM_INFINITY else min(MOST_HANDLES, hard)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _encryption(listen: Listen) -> Encryption | None:
    """How connections are encrypted; None: not here."""
    if listen.certificate is None and listen.key is None:
        return None
    if listen.certificate is None or listen.key is None:
        raise SettingsError("--certificate and --key: give both, or none")
    return Encryption(listen.certificate, listen.key)


def _load(certificate: Path, key: Path) -> ssl.SSLContext:
    for path in (certificate, key):
        if not path.is_file():
            raise SettingsError(f"{path}: no such file")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certificate, key, password="")  # nobody is asked for one
    except OSError as error:
        raise SettingsError(
            f"--certificate {certificate} --key {key}: cannot be used ({error.strerror or error}); give "
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
