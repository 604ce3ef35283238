"""What a request may be: read within bounds, refused in words."""

import asyncio
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="pip install 'blemish[fleet]'")

from starlette.requests import Request
from starlette.types import Message

from blemish.errors import SettingsError
from blemish.fleet.answer import READ_ON, Asked, judge_content, read_body, read_query, refuse
from blemish.fleet.serve import Front, Serving
from blemish.inference.predictor import Predictor


def request(parts: Sequence[bytes] = (), query: str = "", declared: str | None = None) -> tuple[Request, list[bytes]]:
    """A request that sends its body in parts, and the parts that were not read."""
    left = list(parts)

    async def receive() -> Message:
        body = left.pop(0) if left else b""
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    headers = [] if declared is None else [(b"content-length", declared.encode())]
    return Request({"type": "http", "query_string": query.encode(), "headers": headers}, receive), left


@pytest.mark.parametrize(
    ("parts", "declared", "found"),
    [
        ([b"abc", b"de"], "5", b"abcde"),
        ([b"abc", b"de"], None, b"abcde"),
        ([b"abc", b"def"], None, None),
        ([b"a"], "6", None),
        ([b"a"], "-1", None),
        ([], None, b""),
    ],
)
def test_a_body_is_read_up_to_a_limit(parts: list[bytes], declared: str | None, found: bytes | None) -> None:
    asked, left = request(parts, declared=declared)
    assert asyncio.run(read_body(asked, 5)) == found
    assert not left  # all is read, so that the sender listens for the answer


def test_a_body_without_end_is_left() -> None:
    asked, left = request([b"abcde"] * 1000)
    assert asyncio.run(read_body(asked, 5)) is None
    assert len(left) == 1000 - READ_ON - 1


def test_a_body_that_nobody_wants_is_read_and_not_kept() -> None:
    asked, left = request([b"abc", b"de"])
    assert asyncio.run(read_body(asked, 5, keep=False)) is None
    assert not left


def test_the_query_is_that_of_a_station() -> None:
    asked, _ = request(query="product=a%20b&name=c.png&wait_s=0.5")
    assert read_query(asked) == Asked("a b", "c.png", 0.5)
    assert read_query(request(query="product=a&name=b")[0]).wait_s == 10.0


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("name=b", "product: give it"),
        ("product=a&name=", "name: give it"),
        (f"product=a&name={'b' * 1001}", "name: give it"),
        ("product=a&name=b&wait_s=x", "wait_s: a number of seconds from 0 to 60"),
        ("product=a&name=b&wait_s=nan", "wait_s: a number"),
        ("product=a&name=b&wait_s=61", "wait_s: a number"),
    ],
)
def test_a_query_at_fault_is_refused(query: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        read_query(request(query=query)[0])


def test_only_who_may_come_again_is_told_when() -> None:
    assert json.loads(bytes(refuse(404, "gone").body)) == {"error": "gone"}
    assert "retry-after" not in refuse(404, "gone").headers
    assert refuse(503, "busy").headers["retry-after"] == "1"


def test_a_registry_that_is_gone_is_said_with_503(tmp_path: Path) -> None:
    front = Front(None, Serving(tmp_path / "gone"))
    answer = asyncio.run(front._products())
    assert answer.status_code == 503
    assert f"{tmp_path / 'gone'}: cannot be read" in bytes(answer.body).decode()


def test_a_model_is_served_that_comes_into_the_folder_of_a_product_later(tmp_path: Path) -> None:
    front, product = Front(None, Serving(tmp_path)), tmp_path / "nut"
    product.mkdir()
    (tmp_path / "bolt.onnx").touch()
    assert front._open().products == ("bolt",)
    os.utime(product, (1, 1))
    (product / "model.onnx").touch()
    assert front._open().products == ("bolt", "nut")


def test_an_answer_says_how_a_photo_was_read(onnx_file: Path) -> None:
    """As the rows of an archive do: here that parts of it are transparent."""
    pixels = np.random.default_rng(0).integers(1, 256, (64, 64, 4), np.uint8)
    Image.fromarray(pixels).save(content := io.BytesIO(), format="PNG")
    answer = judge_content(Predictor.load(onnx_file, threads=1), "a.png", content.getvalue())
    assert answer["message"] == "transparent in part, and laid over black"
    assert (answer["verdict"] in ("good", "anomalous"), answer["decided_at"] >= answer["received_at"]) == (True, True)
