"""What works beside a test, in threads that end with it; and waiting for what they do, however slow the machine."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from typing import Any

WITHIN_S = 240.0
"""A machine with too much to do takes a minute to start a process; what comes at all comes within this."""


def wait_until(is_so: Callable[[], Any], within_s: float = WITHIN_S) -> bool:
    """Whether it is so at last."""
    deadline = time.monotonic() + within_s
    while not (found := is_so()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(found)


@contextmanager
def beside(run: Callable[..., None], *arguments: Any) -> Iterator[list[str]]:
    """What `run(*arguments, say, stop)` says, in a thread of its own until the block ends; what it raises is raised."""
    stop, said, failed = threading.Event(), list[str](), list[BaseException]()

    def work() -> None:
        try:
            run(*arguments, said.append, stop)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield said
    finally:
        stop.set()
        thread.join()
    if failed:
        raise failed[0]


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """A server of the standard library answers until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
