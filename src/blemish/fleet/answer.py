"""One image over HTTP becomes an answer: the request is read within bounds, and judged as `blemish inspect` does."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple, final

from starlette.requests import Request
from starlette.responses import JSONResponse

from blemish.data.images import prepare_content
from blemish.errors import DataError, SettingsError
from blemish.inference.monitor_state import withdrawn_message
from blemish.inference.predictor import Predictor
from blemish.inspection.answers import Answer, find_regions_in_shares
from blemish.inspection.decisions import now, to_decision

MIB = 1 << 20
LONGEST_NAME = 1000
READ_ON = 4
"""So many times the longest body is read of one that is too long."""
RETRY_AFTER = {"Retry-After": "1"}


@final
class Asked(NamedTuple):
    """What a request asks: the query of a station's `/api/v1/predict`."""

    product: str
    name: str
    wait_s: float


def read_query(request: Request) -> Asked:
    """The query of a request.

    Raises:
        SettingsError: product or name is missing, or a value will not do.
    """
    query = request.query_params
    for key in ("product", "name"):
        if not 0 < len(query.get(key, "")) <= LONGEST_NAME:
            raise SettingsError(f"{key}: give it in the address, 1 to {LONGEST_NAME} characters")
    try:
        wait_s = float(query.get("wait_s", "10"))
        if not 0.0 <= wait_s <= 60.0:
            raise ValueError
    except ValueError:
        raise SettingsError("wait_s: a number of seconds from 0 to 60") from None
    return Asked(query["product"], query["name"], wait_s)


async def read_body(request: Request, max_bytes: int, keep: bool = True) -> bytes | None:
    """The body of a request; None where it is longer, or not to be kept.

    Of a longer one nothing is kept, but some is read: many a sender listens for an answer only when it has sent all.
    """
    declared = request.headers.get("content-length", "0")
    is_too_long = not keep or not declared.isdigit() or int(declared) > max_bytes
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        is_too_long = is_too_long or size > max_bytes
        if is_too_long:
            parts.clear()
        else:
            parts.append(part)
        if size > READ_ON * max_bytes:
            break
    return None if is_too_long else b"".join(parts)


def judge_content(predictor: Predictor, name: str, content: bytes) -> dict[str, Any]:
    """The `Answer` about an image file; of one that cannot be read with `error`, too.

    Raises:
        ArtifactError: the model does not work.
    """
    asked_at, source = now(), predictor.source
    answer = Answer(
        name=name,
        sha256=hashlib.sha256(content).hexdigest(),
        received_at=asked_at,
        verdict="unreadable",
        threshold=predictor.threshold,
        model_sha256=None if source is None else source.sha256,
    )
    alarm = predictor.withdrawal
    messages = [] if alarm is None else [withdrawn_message(alarm)]
    try:
        prepared = prepare_content(content, Path(name), predictor.policy)[0]
        prediction = predictor.predict_prepared(prepared, name)
    except DataError as error:
        message = "; ".join([str(error), *messages])
        return answer.model_copy(update={"message": message, "decided_at": now()}).model_dump() | {"error": str(error)}
    decision = to_decision(predictor, prediction, prepared)
    columns = ("verdict", "score", "p_value", "decided_at")
    told: dict[str, Any] = {column: getattr(decision, column) for column in columns}
    told["message"] = "; ".join(filter(None, (*messages, decision.message)))
    told["regions"] = [list(one) for one in find_regions_in_shares(prediction.scored_map, prediction.threshold)]
    return answer.model_copy(update=told).model_dump()


def refuse(status: int, message: str) -> JSONResponse:
    """An error as a station tells it; of 503 with when to try again."""
    return JSONResponse({"error": message}, status, RETRY_AFTER if status == 503 else None)
