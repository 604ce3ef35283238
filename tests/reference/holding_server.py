"""Files over HTTP, whose answers can be held back: what asks for them is then known to be at work."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WAIT_S = 180.0
"""A busy machine starts processes slowly."""


class Server:
    """The files of a folder; from the request number `hold_from` on, answers wait until `release`."""

    def __init__(self, root: Path) -> None:
        self.asked: Counter[str] = Counter()
        self.hold_from, self._go = 10**9, threading.Event()
        self.waiting, self._lock = 0, threading.Lock()
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(root))

            def do_GET(self) -> None:
                outer.asked[self.path.lstrip("/")] += 1
                if outer.asked.total() > outer.hold_from:
                    with outer.counted():
                        outer._go.wait(WAIT_S)
                try:
                    super().do_GET()
                except OSError:  # who asked was killed
                    self.close_connection = True

            def log_message(self, *_args: Any) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)
        self._thread.start()

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self._lock:
            self.waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self.waiting -= 1

    def hold(self, after: int) -> None:
        self._go.clear()
        self.hold_from = self.asked.total() + after

    def release(self) -> None:
        self.hold_from = 10**9
        self._go.set()

    def close(self) -> None:
        self.release()
        self._http.shutdown()
        self._http.server_close()
