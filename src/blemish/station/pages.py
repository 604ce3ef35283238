"""The pages that people beside the line look at: live, image, review, audit lane."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import urlencode

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request
from numpy.typing import ArrayLike
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response, StreamingResponse

from blemish.errors import ArtifactError, SettingsError
from blemish.station import reviews, state
from blemish.station.access import allow, identity_of, is_from_script
from blemish.station.api import ImageId, check_shown
from blemish.station.app import At, Chosen, Number, NumberOrNone, Station, Text
from blemish.station.notes import LONGEST_NOTE, notes_of
from blemish.station.pictures import SIDES_PX, Show, draw
from blemish.station.products import header_of_model
from blemish.station.queue import queue_length
from blemish.station.render import render
from blemish.station.reports import audit_shares, utc_time
from blemish.station.sign_in import see_other
from blemish.station.tables import DOUBTFUL, Decision, Image, Model, Note, Product

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

STREAM_S, LOOK_EVERY_S, STATE_EVERY_S = 60.0, 0.5, 3.0
"""A stream ends after so long and is begun again by the browser: so it notices when a session has ended."""

IMAGES_A_PAGE = 60

LARGEST_ID = 2**63 - 1
DecisionId = Annotated[int, Query(ge=0, le=LARGEST_ID)]


@router.get("/")
@allow("viewer")
def live(request: Request, station: At, product: Chosen = None) -> Response:
    """Verdicts as they come."""
    with station.database.read() as session:
        rows = reviews.recent(session, product)
        hidden = reviews.hidden_of(session, rows)
        newest = rows[0].decision if rows else None
        last = newest.id if newest is not None else session.scalar(select(func.max(Decision.id))) or 0
        waits = reviews.hidden_counts(session, state.hour_of_late(), product, last)
        return render(
            request,
            "live.html.j2",
            rows=rows,
            hidden=hidden,
            notes=_notes_on(session, rows),
            last=last,
            counts=state.counts_of_late(session, product, waits),
            **head_of_page(session, station, product),
        )


def _notes_on(session: Session, rows: list[reviews.Row]) -> dict[int, list[Note]]:
    return notes_of(session, [row.image.id for row in rows])


def _hidden_at_first(station: Station, product: int | None, last: int) -> Counter[str]:
    with station.database.read() as session:
        return reviews.hidden_counts(session, state.hour_of_late(), product, last)


def head_of_page(session: Session, station: Station, product: int | None) -> dict[str, Any]:
    """What most pages say at their top."""
    all_products = state.products(session)
    chosen = [one for one in all_products if product in (None, one.id)]
    promises = [state.promise_of(session, one) for one in chosen]
    return {
        "products": all_products,
        "product": product,
        "promises": [one for one in promises if one is not None],
        "troubles": state.troubles(session, station),
        "waiting": queue_length(session, product),
        "growth": state.backlog(session, product).per_minute,
    }


@router.get("/live/events")
@allow("viewer")
async def live_events(request: Request, station: At, after: DecisionId, product: Chosen = None) -> Response:
    """The decisions after one, as server-sent events, each the card that the page shows; and the state when it changes.

    So the page turns amber by itself when drift withdraws a guarantee, and its counts are never those of hours ago.
    """
    resumed = request.headers.get("last-event-id", "")
    after = min(int(resumed), LARGEST_ID) if resumed.isdecimal() else after

    async def events() -> AsyncIterator[str]:
        clock, known, html, look_s = asyncio.get_running_loop().time, "", "", 0.0
        last, hidden = after, await run_in_threadpool(_hidden_at_first, station, product, after)
        begun = clock()
        yield "retry: 1000\n\n"
        while clock() < begun + STREAM_S and not station.stopping.is_set() and not await request.is_disconnected():
            found, last = await run_in_threadpool(_cards, request, station, last, product, hidden)
            for event in found:
                yield event
            if clock() >= look_s or found:
                if clock() >= look_s:
                    html, look_s = await run_in_threadpool(_state, request, station, product), clock() + STATE_EVERY_S
                told = json.dumps({"html": html, **await run_in_threadpool(_counts, station, product, hidden)})
                if told != known:
                    known = told
                    yield f"event: state\ndata: {told}\n\n"
            await asyncio.sleep(LOOK_EVERY_S)

    return StreamingResponse(events(), media_type="text/event-stream")


def _state(request: Request, station: Station, product: int | None) -> str:
    with station.database.read() as session:
        return bytes(render(request, "state.html.j2", **head_of_page(session, station, product)).body).decode()


def _counts(station: Station, product: int | None, hidden: Counter[str]) -> dict[str, Any]:
    with station.database.read() as session:
        backlog = state.backlog(session, product)
        counts = state.counts_of_late(session, product, hidden)
    return {"counts": {**counts, "waiting": backlog.waiting}, "growth": backlog.per_minute}


def _cards(
    request: Request, station: Station, after: int, product: int | None, counted: Counter[str]
) -> tuple[list[str], int]:
    """Those after a decision; the verdicts of hidden ones are counted in `counted`."""
    with station.database.read() as session:
        rows = reviews.since(session, after)
        hidden, notes = reviews.hidden_of(session, rows), _notes_on(session, rows)
        shown = {"products": state.products(session), "product": product, "notes": notes}
    found = []
    for row in rows:
        if product not in (None, row.image.product_id) or row.decision is None:
            continue
        html = bytes(render(request, "card.html.j2", row=row, is_hidden=row.image.id in hidden, **shown).body).decode()
        if row.image.id in hidden:
            counted[row.decision.verdict] += 1
        found.append(f"id: {row.decision.id}\ndata: {json.dumps({'html': html})}\n\n")
    last = rows[-1].decision.id if rows and rows[-1].decision is not None else after
    return found, last


@router.get("/images")
@allow("viewer")
def images(
    request: Request,
    station: At,
    product: Chosen = None,
    verdict: str = "",
    start: str = "",
    end: str = "",
    name: Annotated[str, Query(max_length=200, pattern=r"^[^\x00]*$")] = "",
    notes: bool = False,
    before: Annotated[int | None, Query(ge=-LARGEST_ID, le=LARGEST_ID)] = None,
) -> Response:
    """Every image that was decided, the newest first: of a verdict, a time, a name, with a note."""
    verdicts = (*reviews.SHOWN, DOUBTFUL)
    if verdict not in ("", *verdicts):
        raise SettingsError(f"verdict '{verdict[:40]}': expected one of {', '.join(verdicts)}")
    within = reviews.Within(utc_time(start), utc_time(end), name.strip(), notes)
    with station.database.read() as session:
        rows = reviews.recent(session, product, IMAGES_A_PAGE, before, verdict or None, within)
        asked = {"product": product, "verdict": verdict, **within._asdict()}
        last = rows[-1].decision if len(rows) == IMAGES_A_PAGE else None
        older = {} if last is None else {**asked, "before": last.id}
        return render(
            request,
            "images.html.j2",
            rows=rows,
            hidden=reviews.hidden_of(session, rows),
            notes=_notes_on(session, rows),
            asked=asked,
            verdicts=verdicts,
            older=urlencode({key: value for key, value in older.items() if value}),
            products=state.products(session),
        )


@router.get("/images/{image_id}")
@allow("viewer")
def image(request: Request, station: At, image_id: ImageId) -> Response:
    """One image: its picture, its regions, its score among the calibration scores, what people said of it."""
    with station.database.read() as session:
        row = reviews.row_of(session, image_id)
        if reviews.is_hidden(session, row):
            if not identity_of(request).may("operator"):
                raise HTTPException(403, "this image is in the audit lane: it is shown when a person has judged it")
            return see_other(f"/audit?image={image_id}")
        model = None if row.decision is None else session.get(Model, row.decision.model_id)
        score = None if row.decision is None else row.decision.score
        same_name = select(Image.id).where(Image.source_id == row.image.source_id, Image.name == row.image.name)
        return render(
            request,
            "image.html.j2",
            row=row,
            model=model,
            regions=[] if row.decision is None else json.loads(row.decision.regions),
            bars=None if model is None or score is None else _bars(model, score, row.decision),
            verdicts=reviews.verdicts_of(session, image_id),
            notes=notes_of(session, [image_id]).get(image_id, []),
            longest_note=LONGEST_NOTE,
            types=reviews.defect_types(session, row.image.product_id),
            history=session.scalars(same_name.where(Image.id != image_id).order_by(Image.id.desc()).limit(10)).all(),
            product=session.get_one(Product, row.image.product_id),
        )


def _bars(model: Model, score: float, decision: Decision | None) -> dict[str, Any] | None:
    """A histogram of the calibration scores, with the score and the threshold in it; places in 0 to 1000."""
    try:
        scores = np.asarray(header_of_model(model).calibration_scores)
    except ArtifactError:
        return None
    threshold = decision.threshold if decision is not None else score
    low, high = float(min(scores.min(), score)), float(max(scores.max(), score, threshold))
    scale = 1000.0 / ((high - low) or 1.0)
    return {
        "heights": bar_heights(scores, low, high or 1.0, 40),
        "score": round((score - low) * scale, 1),
        "threshold": round((threshold - low) * scale, 1),
        "n": len(scores),
    }


def bar_heights(scores: ArrayLike, low: float, high: float, bars: int) -> list[float]:
    """A histogram in percent of its highest bar; a score at a border counts left of it, as one that the threshold is.

    >>> bar_heights([1.0, 2.0, 2.0, 3.0], 1.0, 4.0, 3)
    [100.0, 33.3, 0.0]
    """
    inside = np.maximum(low, np.asarray(scores) - 1e-6 * (high - low))
    counts, _ = np.histogram(inside, bins=bars, range=(low, high))
    return [round(100.0 * int(count) / max(1, int(counts.max())), 1) for count in counts]


@router.get("/images/{image_id}/{show}.jpg")
@allow("viewer")
def picture(station: At, image_id: ImageId, show: Show, side: str = "full", model: int | None = None) -> Response:
    """A picture of an image; with a model, as that one sees it."""
    if side not in SIDES_PX:
        raise HTTPException(404, f"side: expected one of {', '.join(SIDES_PX)}")
    with station.database.read() as session:
        row = reviews.row_of(session, image_id)
        check_shown(session, row, show)
        decision = row.decision if model is None else _as_seen_by(session, model, row.image)
    try:
        content = draw(station.folder, station.judge, row.image, decision, show, side)
    except ArtifactError:  # of a record whose model is not here; the page of the image says so
        if side != "small":
            raise
        content = draw(station.folder, station.judge, row.image, decision, "photo", side)
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})


def _as_seen_by(session: Session, model_id: int, image: Image) -> Decision:
    model = session.get(Model, model_id)
    if model is None or model.product_id != image.product_id:
        raise HTTPException(404, f"model {model_id}: there is none")
    return Decision(model_sha256=model.sha256, threshold=header_of_model(model).threshold, score=0.0)


@router.get("/review")
@allow("viewer")
def review(request: Request, station: At, product: Chosen = None) -> Response:
    """Rejects and doubtful images that nobody has judged, the worst first."""
    with station.database.read() as session:
        rows = reviews.to_review(session, product)
        told: dict[str, Any] = {"left": reviews.left_to_review(session, product), "notes": _notes_on(session, rows)}
        told["types"] = reviews.defect_types(session, product)
        return render(request, "review.html.j2", rows=rows, **told, **head_of_page(session, station, product))


@router.post("/verdict")
@allow("operator")
def give_verdict(
    request: Request,
    station: At,
    image_id: Number,
    judgement: Text,
    defect_type: Text = "",
    back: Text = "/review",
) -> Response:
    """What a person says of an image."""
    who = identity_of(request).name
    reviews.give_verdict(station.database, who, image_id, judgement, defect_type=defect_type)
    if is_from_script(request):
        return Response(status_code=204)
    return see_other(back if back in ("/review", f"/images/{image_id}") else "/review")


@router.post("/note")
@allow("operator")
def write_note(request: Request, station: At, image_id: Number, text: Text) -> Response:
    """Write something about an image."""
    reviews.add_note(station.database, identity_of(request).name, image_id, text)
    return see_other(f"/images/{image_id}")


@router.get("/audit")
@allow("operator")
def audit(
    request: Request,
    station: At,
    product: Chosen = None,
    image: int | None = None,
    done: int | None = None,
    late: bool = False,
) -> Response:
    """A random sample of all images, judged by a person before our verdict is shown."""
    with station.database.read() as session:
        row = reviews.next_to_audit(session, product, identity_of(request).user_id)
        asked = None if image is None else reviews.find_row(session, image)
        if asked is not None and reviews.is_hidden(session, asked):
            row = asked
        before = None if done is None else reviews.find_row(session, done)
        if before is not None and reviews.is_hidden(session, before):
            before = None
        return render(
            request,
            "audit.html.j2",
            row=row,
            before=before,
            late=late,
            longest_note=LONGEST_NOTE,
            types=[] if row is None else reviews.defect_types(session, row.image.product_id),
            said=[] if before is None else reviews.verdicts_of(session, before.image.id),
            left=reviews.left_to_audit(session, product),
            shares=audit_shares(session, product),
            **head_of_page(session, station, product),
        )


@router.post("/audit")
@allow("operator")
def give_audit_verdict(
    request: Request,
    station: At,
    image_id: Number,
    judgement: Text = "",
    defect_type: Text = "",
    note: Text = "",
    product: NumberOrNone = None,
) -> Response:
    """What a person says of an image of the audit lane, of a defect its type alone; our verdict is shown afterwards."""
    who, its = identity_of(request).name, {"defect_type": defect_type, "note": note}
    judgement, shown = judgement or (defect_type and "defective"), f"&product={product}" if product else ""
    try:
        reviews.give_verdict(station.database, who, image_id, judgement, **its, is_audit=True)
    except reviews.JudgedAlreadyError:
        with station.database.read() as session:
            first = next(one for one in reversed(reviews.verdicts_of(session, image_id)) if one.lane == "audit")
        if (first.user_name, first.judgement) != (who, judgement):  # else it was sent twice
            return see_other(f"/audit?done={image_id}&late=true{shown}")
    return see_other(f"/audit?done={image_id}{shown}")
