"""The pages that people beside the line look at: live, image, review, audit lane, threshold, report, audit trail."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Form, HTTPException, Query, Request
from sqlalchemy import func, select
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, Response, StreamingResponse

from blemish.errors import ArtifactError, SettingsError
from blemish.station import reviews, state, thresholds
from blemish.station.access import allow, identity_of
from blemish.station.api import ImageId, check_shown
from blemish.station.app import At, Chosen, Number, Station, Text
from blemish.station.heads import read_head
from blemish.station.pictures import SIDES_PX, Show, draw
from blemish.station.products import header_of_model
from blemish.station.queue import queue_length
from blemish.station.render import render
from blemish.station.reports import HourlyChart, audit_shares, shift_report
from blemish.station.sign_in import check_signature, see_other
from blemish.station.tables import Decision, Entry, Image, Model, Product
from blemish.station.trail import verify_trail

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)

STREAM_S, LOOK_EVERY_S, STATE_EVERY_S = 60.0, 0.5, 3.0
"""A stream ends after so long and is begun again by the browser: so it notices when a session has ended."""

LARGEST_ID = 2**63 - 1
DecisionId = Annotated[int, Query(ge=0, le=LARGEST_ID)]


@router.get("/")
@allow("viewer")
def live(request: Request, station: At, product: Chosen = None) -> Response:
    """Verdicts as they come."""
    with station.database.read() as session:
        rows = reviews.recent(session, product)
        hidden = reviews.hidden_of(session, rows)
        today = datetime.now(UTC) - timedelta(hours=8)
        return render(
            request,
            "live.html.j2",
            rows=rows,
            hidden=hidden,
            last=rows[0].decision.id if rows and rows[0].decision is not None else _last_decision(session),
            counts=state.counts_since(session, today.isoformat(), product),
            **_head(session, station, product),
        )


def _head(session: Session, station: Station, product: int | None) -> dict[str, Any]:
    """What most pages say at their top."""
    all_products = state.products(session)
    chosen = [one for one in all_products if product in (None, one.id)]
    promises = [state.promise_of(session, one) for one in chosen]
    return {
        "products": all_products,
        "product": product,
        "promises": [one for one in promises if one is not None],
        "troubles": state.troubles(session, station),
        "waiting": queue_length(session),
        "growth": state.backlog(session).per_minute,
    }


def _last_decision(session: Session) -> int:
    return session.scalar(select(func.max(Decision.id))) or 0


@router.get("/live/events")
@allow("viewer")
async def live_events(request: Request, station: At, after: DecisionId, product: Chosen = None) -> Response:
    """The decisions after one, as server-sent events, each the card that the page shows; and the state when it changes.

    So the page turns amber by itself when drift withdraws a guarantee.
    """
    resumed = request.headers.get("last-event-id", "")
    after = min(int(resumed), LARGEST_ID) if resumed.isdecimal() else after

    async def events() -> AsyncIterator[str]:
        clock, known, look_s = asyncio.get_running_loop().time, "", 0.0
        last, ends = after, clock() + STREAM_S
        yield "retry: 1000\n\n"
        while clock() < ends and not await request.is_disconnected():
            if clock() >= look_s:
                html, look_s = await run_in_threadpool(_state, request, station, product), clock() + STATE_EVERY_S
                if html != known:
                    known = html
                    yield f"event: state\ndata: {json.dumps({'html': html})}\n\n"
            found, last = await run_in_threadpool(_cards, request, station, last, product)
            for event in found:
                yield event
            await asyncio.sleep(LOOK_EVERY_S)

    return StreamingResponse(events(), media_type="text/event-stream")


def _state(request: Request, station: Station, product: int | None) -> str:
    with station.database.read() as session:
        return bytes(render(request, "state.html.j2", **_head(session, station, product)).body).decode()


def _cards(request: Request, station: Station, after: int, product: int | None) -> tuple[list[str], int]:
    with station.database.read() as session:
        rows = reviews.since(session, after)
        hidden = reviews.hidden_of(session, rows)
        backlog = state.backlog(session) if rows else state.Backlog(0, 0)
    found = []
    for row in rows:
        if product not in (None, row.image.product_id) or row.decision is None:
            continue
        html = bytes(render(request, "card.html.j2", row=row, is_hidden=row.image.id in hidden).body).decode()
        verdict = reviews.HIDDEN if row.image.id in hidden else row.decision.verdict
        data = json.dumps({"html": html, "verdict": verdict, "waiting": backlog.waiting, "growth": backlog.per_minute})
        found.append(f"id: {row.decision.id}\ndata: {data}\n\n")
    last = rows[-1].decision.id if rows and rows[-1].decision is not None else after
    return found, last


@router.get("/images/{image_id}")
@allow("viewer")
def image(request: Request, station: At, image_id: ImageId) -> Response:
    """One image: its picture, its regions, its score among the calibration scores, what people said of it."""
    with station.database.read() as session:
        row = _found(session, image_id)
        if reviews.is_hidden(session, row):
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
            types=reviews.defect_types(session, row.image.product_id),
            history=session.scalars(same_name.where(Image.id != image_id).order_by(Image.id.desc()).limit(10)).all(),
            product=session.get_one(Product, row.image.product_id),
        )


def _found(session: Session, image_id: int) -> reviews.Row:
    row = reviews.find_row(session, image_id)
    if row is None:
        raise HTTPException(404, f"image {image_id}: there is none")
    return row


def _bars(model: Model, score: float, decision: Decision | None) -> dict[str, Any] | None:
    """A histogram of the calibration scores, with the score and the threshold in it; places in 0 to 1000."""
    try:
        scores = np.asarray(header_of_model(model).calibration_scores)
    except ArtifactError:
        return None
    threshold = decision.threshold if decision is not None else score
    low, high = float(min(scores.min(), score)), float(max(scores.max(), score, threshold))
    scale = 1000.0 / ((high - low) or 1.0)
    counts, _ = np.histogram(scores, bins=40, range=(low, high or 1.0))
    return {
        "heights": [round(100.0 * float(count) / max(1, counts.max()), 1) for count in counts],
        "score": round((score - low) * scale, 1),
        "threshold": round((threshold - low) * scale, 1),
        "n": len(scores),
    }


@router.get("/images/{image_id}/{show}.jpg")
@allow("viewer")
def picture(station: At, image_id: ImageId, show: Show, side: str = "full", model: int | None = None) -> Response:
    """A picture of an image; with a model, as that one sees it."""
    if side not in SIDES_PX:
        raise HTTPException(404, f"side: expected one of {', '.join(SIDES_PX)}")
    with station.database.read() as session:
        row = _found(session, image_id)
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
    """Rejects that nobody has judged, the worst first."""
    with station.database.read() as session:
        rows = reviews.rejects(session, product)
        types = reviews.defect_types(session, product)
        return render(request, "review.html.j2", rows=rows, types=types, **_head(session, station, product))


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
    return see_other(back if back in ("/review", f"/images/{image_id}") else "/review")


@router.get("/audit")
@allow("operator")
def audit(
    request: Request, station: At, product: Chosen = None, image: int | None = None, done: int | None = None
) -> Response:
    """A random sample of all images, judged by a person before our verdict is shown."""
    with station.database.read() as session:
        row = reviews.next_to_audit(session, product)
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
            said=[] if before is None else reviews.verdicts_of(session, before.image.id),
            left=reviews.left_to_audit(session, product),
            types=reviews.defect_types(session, product),
            shares=audit_shares(session, product),
            **_head(session, station, product),
        )


@router.post("/audit")
@allow("operator")
def give_audit_verdict(
    request: Request, station: At, image_id: Number, judgement: Text, defect_type: Text = ""
) -> Response:
    """What a person says of an image of the audit lane; our verdict is shown afterwards."""
    who = identity_of(request).name
    reviews.give_verdict(station.database, who, image_id, judgement, defect_type=defect_type, is_audit=True)
    return see_other(f"/audit?done={image_id}")


@router.get("/threshold")
@allow("viewer")
def threshold(request: Request, station: At, product: Chosen = None, at: int | None = None) -> Response:
    """What each threshold guarantees, and what it would have done to the last images."""
    with station.database.read() as session:
        head = _head(session, station, product)
        chosen = product if product is not None else next((one.product.id for one in head["promises"]), None)
        live = None if chosen is None else thresholds.live_model(session, chosen)
        if chosen is None or live is None:
            return render(request, "threshold.html.j2", model=None, **head)
        model, header = live
        promise = state.promise_of(session, session.get_one(Product, chosen))
        current = header.threshold if promise is None else promise.threshold
        scores = thresholds.last_scores(session, chosen, model.id)
        options = thresholds.choices(header, scores, current)
        now_at = next(place for place, one in enumerate(options) if one.threshold == current)
        low, high = options[0].threshold, options[-1].threshold
        counts, _ = np.histogram(header.calibration_scores, bins=60, range=(low, high))
        places = [round(1000.0 * (one.threshold - low) / (high - low)) for one in options]
        shown_at = places[now_at] if at is None else at
        return render(
            request,
            "threshold.html.j2",
            model=model,
            options=options,
            now_at=now_at,
            at=min(range(len(options)), key=lambda place: (abs(places[place] - shown_at), place != now_at)),
            judged=len(scores),
            heights=[round(100.0 * float(count) / max(1, counts.max()), 1) for count in counts],
            places=places,
            highest=max(header.calibration_scores),
            confidence=header.calibration.confidence,
            n=header.certificate.n,
            is_withdrawn=promise is not None and bool(promise.alarms),
            **{**head, "product": chosen},
        )


@router.post("/threshold")
@allow("engineer")
def move_threshold(
    request: Request,
    station: At,
    product_id: Number,
    model_id: Number,
    at: Number,
    expected: Annotated[float, Form()],
    reason: Text,
    password: Text,
) -> Response:
    """Move the threshold for good: signed with the password, with a reason."""
    who = identity_of(request).name
    check_signature(station, request, password)
    thresholds.set_threshold(station.database, who, product_id, expected, reason, model_id)
    return see_other(f"/threshold?product={product_id}&at={at}")


@router.get("/report")
@allow("viewer")
def report(
    request: Request, station: At, product: Chosen = None, start: str | None = None, end: str | None = None
) -> Response:
    """Counts, defect types, escapes and false alarms of a shift."""
    now = datetime.now(UTC)
    first, last = _time(start, now - timedelta(hours=8)), _time(end, now + timedelta(minutes=1))
    with station.database.read() as session:
        found = shift_report(session, first, last, product)
        drawn = None if found.chart is None else _drawn(found.chart)
        return render(request, "report.html.j2", report=found, drawn=drawn, **_head(session, station, product))


def _drawn(found: HourlyChart) -> dict[str, Any]:
    """The control chart in a box of 1000 x 200."""
    points = found.chart.points
    top = max((*(max(point.share, point.high) for point in points), 1e-9)) * 1.05
    step = 1000.0 / len(points)

    def across(place: float) -> float:
        return round(place * step, 1)

    def up(share: float) -> float:
        return round(200.0 * (1.0 - share / top), 1)

    def stairs(values: list[float]) -> str:
        return " ".join(f"{across(place)},{up(at)} {across(place + 1)},{up(at)}" for place, at in enumerate(values))

    return {
        "points": [(across(place + 0.5), up(point.share), point.is_outside) for place, point in enumerate(points)],
        "line": " ".join(f"{across(place + 0.5)},{up(point.share)}" for place, point in enumerate(points)),
        "low": stairs([point.low for point in points]),
        "high": stairs([point.high for point in points]),
        "centre": up(found.chart.centre),
        "before": across(found.first_shown),
        "top": top,
        "outside": [
            (hour, of, point)
            for hour, of, point in zip(found.hours, found.of, points, strict=True)
            if point.is_outside and hour >= found.hours[min(found.first_shown, len(points) - 1)]
        ],
    }


def _time(text: str | None, default: datetime) -> str:
    """A time of a form, in UTC."""
    if not text:
        return default.isoformat(timespec="seconds")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"time '{text[:40]}': expected for example 2026-11-26T06:00") from None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="seconds")


@router.get("/trail")
@allow("viewer")
def trail(
    request: Request,
    station: At,
    before: int | None = None,
    everything: bool = False,
    check: bool = False,
    head: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """The audit trail, the newest entry first; decisions only where asked for."""
    query = select(Entry).order_by(Entry.seq.desc()).limit(100)
    if before is not None:
        query = query.where(Entry.seq < before)
    if not everything:
        query = query.where(Entry.action != "decision")
    with station.database.read() as session:
        entries = list(session.scalars(query))
        decided = [int(entry.subject) for entry in entries if entry.action == "decision"]
        hidden = {str(number) for number in reviews.hidden_of(session, reviews.find_rows(session, decided))}
        noted = _noted(station, head) if head.strip() else None
        verified = verify_trail(session, noted) if check else None
        last = session.execute(select(Entry.seq, Entry.sha256).order_by(Entry.seq.desc()).limit(1)).first()
    told = {"verified": verified, "head": last, "everything": everything, "noted": head}
    return render(request, "trail.html.j2", entries=entries, hidden=hidden, **told)


def _noted(station: Station, head: str) -> str:
    """A head that was pasted: 64 digits or the document, and never the name of a file of this machine."""
    head = head.strip()
    if not head.startswith("{") and len(head) != 64:
        raise SettingsError("head: expected 64 hexadecimal digits, or what a saved head holds")
    return read_head(head, station.folder)
