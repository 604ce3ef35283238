"""A client of a station's API in one file, of the standard library alone: copy it where blemish is not installed.

```
station = Station("http://127.0.0.1:8742", token="blm_...")
station.predict("hazelnut", "part-7.png", Path("part-7.png").read_bytes())["verdict"]
```
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, final
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen


class StationError(Exception):
    """The station has refused; the message is its own."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@final
@dataclass(frozen=True)
class Station:
    """A station at an address, asked with a token.

    Every method raises StationError where the station refuses, and OSError where it cannot be reached.
    """

    address: str
    token: str
    timeout_s: float = 70.0

    def predict(self, product: str, name: str, content: bytes, wait_s: float = 10.0) -> dict[str, Any]:
        """Judge an image; `verdict` is `waiting` where that takes longer. The same again asks for the same decision."""
        query = {"product": product, "name": name, "wait_s": wait_s}
        return self._ask("POST", "predict", query, content)  # type: ignore[no-any-return]

    def image(self, image_id: int) -> dict[str, Any]:
        """One image with its decision; `verdict` is `audit` while a person is to judge it unseen, unless the token may
        `predict`.
        """
        return self._ask("GET", f"images/{image_id}")  # type: ignore[no-any-return]

    def images(self, product_id: int | None = None, verdict: str | None = None) -> Iterator[dict[str, Any]]:
        """All images that were decided, the newest first, got in pages."""
        before: int | None = None
        while True:
            query = {"product_id": product_id, "verdict": verdict, "before": before, "limit": 500}
            page = self._ask("GET", "images", query)
            yield from page
            if len(page) < 500:
                return
            before = page[-1]["image_id"]

    def picture(self, image_id: int, show: str = "map") -> bytes:
        """A JPEG of an image: `photo`, `map` or `mask`."""
        with self._open("GET", f"images/{image_id}/{show}") as answer:
            return bytes(answer.read())

    def give_verdict(self, image_id: int, judgement: str, defect_type: str = "", note: str = "") -> dict[str, Any]:
        """Say of an image that it is `good`, `defective` or `unsure`; `note` says why, for instance."""
        said = {"image_id": image_id, "judgement": judgement, "defect_type": defect_type, "note": note}
        return self._say("verdicts", said)  # type: ignore[no-any-return]

    def write_note(self, image_id: int, text: str) -> list[dict[str, str]]:
        """Write something about an image; returns all that was written about it."""
        return self._say("notes", {"image_id": image_id, "text": text})  # type: ignore[no-any-return]

    def notes(self, image_id: int) -> list[dict[str, str]]:
        """What people wrote about an image, the oldest first: `text`, `user_name`, `given_at`."""
        return self._ask("GET", f"notes/{image_id}")  # type: ignore[no-any-return]

    def models(self) -> list[dict[str, Any]]:
        """Every model that was uploaded."""
        return self._ask("GET", "models")  # type: ignore[no-any-return]

    def report(self, start: str, end: str, product_id: int | None = None) -> dict[str, Any]:
        """The shift report of a time, ISO 8601 in UTC."""
        return self._ask("GET", "reports/shift", {"start": start, "end": end, "product_id": product_id})  # type: ignore[no-any-return]

    def sources(self) -> list[dict[str, Any]]:
        """Where images come from: folders, cameras, uploads; and what is wrong with each."""
        return self._ask("GET", "sources")  # type: ignore[no-any-return]

    def add_camera(self, product_id: int, address: str, every_frames: int = 1, every_s: float = 0.0) -> int:
        """Read a camera (a device number, or an address of rtsp or http); returns the number of the source."""
        said = {"product_id": product_id, "address": address, "every_frames": every_frames, "every_s": every_s}
        return int(self._say("sources", said)["source_id"])

    def switch_source(self, source_id: int, is_on: bool) -> None:
        """Take in images of a source no more, or again."""
        self._say(f"sources/{source_id}", {"is_on": is_on})

    def export(
        self, kind: str, start: str | None = None, end: str | None = None, product_id: int | None = None
    ) -> Iterator[bytes]:
        """The decisions of a time in pieces of a file: `csv`, `json`, `jsonl` or `parquet`."""
        query = {"start": start, "end": end, "product_id": product_id}
        with self._open("GET", f"exports/decisions.{kind}", query) as answer:
            while piece := answer.read(1 << 16):
                yield piece

    def _say(self, path: str, said: Mapping[str, Any]) -> Any:
        return self._ask("POST", path, content=json.dumps(said).encode(), kind="application/json")

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        kind: str = "application/octet-stream",
    ) -> Any:
        with self._open(method, path, query, content, kind) as answer:
            return json.loads(answer.read())

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        kind: str = "application/octet-stream",
    ) -> Iterator[Any]:
        wanted = urlencode({name: value for name, value in (query or {}).items() if value is not None})
        address = f"{self.address.rstrip('/')}/api/v1/{path}?{wanted}"
        request = Request(address, content, {"Content-Type": kind}, method=method)
        request.add_unredirected_header("Authorization", f"Bearer {self.token}")  # to nobody that an answer leads to
        try:
            with urlopen(request, timeout=self.timeout_s) as answer:
                yield answer
        except HTTPError as error:
            with error:
                raise StationError(error.code, _message_of(error.read())) from None
        except HTTPException as error:
            raise OSError(f"the answer of {self.address} broke off ({error!r})") from None


def _message_of(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
