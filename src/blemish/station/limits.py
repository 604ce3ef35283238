"""What is true of every request and answer: how large a body may be, and what a browser may do with a page."""

from collections.abc import Callable
from typing import final

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIB = 1 << 20

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


Tell = Callable[[Request, int, str, dict[str, str]], Response]
"""The answer to a request that is refused: its status, what is said, and headers."""


@final
class TooLargeError(Exception):
    """A body is larger than it may be."""


@final
class Limits:
    """Refuses bodies that are too large before they are read, or while; adds the headers to every answer."""

    def __init__(self, app: ASGIApp, max_bytes: int, larger: dict[str, int], tell: Tell) -> None:
        self._app, self._max_bytes, self._larger, self._tell = app, max_bytes, larger, tell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit, got, has_begun = self._larger.get(scope["path"], self._max_bytes), 0, False

        async def bounded() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit:
                raise TooLargeError
            return message

        async def with_headers(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                if got > limit:  # whoever read the body took the error for one of its own
                    message["status"] = 413
                _add_headers(MutableHeaders(scope=message), is_https=scope["scheme"] == "https")
            await send(message)

        declared = HTTPConnection(scope).headers.get("content-length", "0")
        try:
            if not declared.isdigit() or int(declared) > limit:
                raise TooLargeError
            await self._app(scope, bounded, with_headers)
        except TooLargeError:
            if has_begun:
                raise
            said = f"what was sent is larger than {limit // MIB} MiB, which is the limit here"
            await self._tell(Request(scope), 413, said, {"Connection": "close"})(scope, receive, with_headers)


def _add_headers(headers: MutableHeaders, *, is_https: bool) -> None:
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers.setdefault("Cache-Control", "no-store")
    if is_https:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
