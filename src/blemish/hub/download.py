"""Downloads over HTTP that go on where they were cut off, end at a size, and follow no redirect to anything unsafe."""

import os
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, cast, final
from urllib.parse import urlsplit

TIMEOUT_S = 60.0
_CHUNK = 1 << 20


def ask(request: urllib.request.Request, start: int = 0) -> HTTPResponse:
    """The answer of a server, from byte `start` on where it takes ranges.

    Raises:
        HTTPError: it refuses.
        OSError, HTTPException, ValueError: it cannot be reached, or leads elsewhere than to http or https.
    """
    request.add_header("User-Agent", "blemish")
    request.add_header("Accept-Encoding", "identity")
    if start:
        request.add_header("Range", f"bytes={start}-")
    return cast(HTTPResponse, urllib.request.build_opener(Redirects()).open(request, timeout=TIMEOUT_S))


def append_answer(
    answer: HTTPResponse, path: Path, start: int, size: int | None, on_bytes: Callable[[int], None]
) -> int:
    """Write an answer behind the first `start` bytes of a file, up to `size` bytes; how many there are then.

    Where the server has begun from the start, so does the file. Fewer bytes than `size`: the connection broke.

    Raises:
        OSError: the file cannot be written; without a `size`, the connection broke.
        HTTPException: likewise.
    """
    got = start if answer.status == HTTPStatus.PARTIAL_CONTENT else 0
    with path.open("r+b" if got else "wb") as target:
        target.seek(got)
        while size is None or got < size:
            try:
                chunk = answer.read(_CHUNK if size is None else min(_CHUNK, size - got))
            except (HTTPException, OSError):
                if size is None:
                    raise
                break
            if not chunk:
                break
            target.write(chunk)
            got += len(chunk)
            on_bytes(got)
        target.flush()
        os.fsync(target.fileno())
    return got


@final
class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        old, new = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise urllib.error.URLError(f"a redirect from {old} to {new}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
