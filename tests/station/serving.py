"""A station in a process of its own, for the tests of server and browser."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import urlopen

from typer.testing import CliRunner

from blemish.cli import app
from blemish.station.app import Station, make_app
from blemish.station.server import Listen, Server, configure
from station.waiting import WITHIN_S, wait_until

PASSWORD = "correct horse battery"


class Running(NamedTuple):
    """A station in a process of its own."""

    process: "subprocess.Popen[str]"
    address: str
    folder: Path

    def ready(self) -> bool:
        """Whether it judges at last."""
        return wait_until(lambda: self._says_yes("readyz"))

    def answers(self) -> bool:
        """Whether its pages are there at last."""
        return wait_until(lambda: self._says_yes("healthz"))

    def _says_yes(self, path: str) -> bool:
        try:
            with urlopen(f"{self.address}{path}", timeout=60) as answer:
                return bool(answer.status == 200)
        except URLError:
            return False


@contextmanager
def serve_pages(station: Station, certificate: Path | None = None) -> Iterator[tuple[str, int]]:
    """The pages of a station in this process: host and port; encrypted with a certificate beside its key."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        listen = Listen("127.0.0.1", 0, certificate, certificate and certificate.with_suffix(".key"))
        server = Server(configure(make_app(station), listen), station.stopping)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        assert wait_until(lambda: server.started)
        yield bound.getsockname()
        server.should_exit = True
        thread.join()


@contextmanager
def serve_line(tmp_path: Path, onnx_file: Path) -> Iterator[Running]:
    """A station with a product, the watched folder `camera` and the user admin."""
    with begin(*set_up(tmp_path, onnx_file)) as running:
        yield running


def set_up(tmp_path: Path, onnx_file: Path) -> tuple[Path, Path]:
    """The folder of a new station with a product, and the file with the password of the user admin."""
    folder, camera, secret = tmp_path / "station", tmp_path / "camera", tmp_path / "secret"
    camera.mkdir()
    secret.write_text(PASSWORD + "\n")
    arguments = ["station", "add", str(folder), "--product", "disc", "--model", str(onnx_file), "--watch", str(camera)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    return folder, secret


@contextmanager
def begin(folder: Path, secret: Path) -> Iterator[Running]:
    """A station in a process of its own, until the block ends or it is ended there."""
    command = [sys.executable, "-m", "blemish", "station", str(folder), "--port", "0", "--threads", "1"]
    process = subprocess.Popen(
        [*command, "--admin-password-file", str(secret)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "300"},
    )
    assert process.stderr is not None
    try:
        said = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert found is not None, said + process.stderr.read()
        yield Running(process, found[0], folder)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(WITHIN_S)
        process.stderr.close()
