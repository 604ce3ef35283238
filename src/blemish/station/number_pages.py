"""The pages of numbers: the threshold, the shift report, the audit trail."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from sqlalchemy import select
from starlette.responses import HTMLResponse, Response

from blemish.errors import SettingsError
from blemish.station import reviews, state, thresholds
from blemish.station.access import allow, identity_of
from blemish.station.app import At, Chosen, Number, Station, Text
from blemish.station.heads import read_head
from blemish.station.pages import bar_heights, head_of_page
from blemish.station.render import render
from blemish.station.reports import HourlyChart, shift_report, utc_time
from blemish.station.sign_in import check_signature, noted
from blemish.station.tables import Entry, Product
from blemish.station.trail import ACTIONS, verify_trail

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.get("/threshold")
@allow("viewer")
def threshold(request: Request, station: At, product: Chosen = None, at: int | None = None) -> Response:
    """What each threshold guarantees, and what it would have done to the last images."""
    with station.database.read() as session:
        head = head_of_page(session, station, product)
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
            heights=bar_heights(header.calibration_scores, low, high, 60),
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
    before: Annotated[float | None, Form()] = None,
) -> Response:
    """Move the threshold for good: signed with the password, with a reason."""
    who = identity_of(request).name
    check_signature(station, request, password)
    thresholds.set_threshold(station.database, who, product_id, expected, reason, model_id, before)
    return noted(f"/threshold?product={product_id}&at={at}")


@router.get("/report")
@allow("viewer")
def report(
    request: Request, station: At, product: Chosen = None, start: str | None = None, end: str | None = None
) -> Response:
    """Counts, defect types, escapes and false alarms of a shift."""
    now = datetime.now(UTC)
    first = utc_time(start) or (now - timedelta(hours=8)).isoformat(timespec="seconds")
    last = utc_time(end) or (now + timedelta(minutes=1)).isoformat(timespec="seconds")
    if first >= last:
        raise SettingsError(f"report: begins at {first[:16]} and ends at {last[:16]}; give an end after the beginning")
    with station.database.read() as session:
        found = shift_report(session, first, last, product)
        drawn = None if found.chart is None else _drawn(found.chart)
        return render(request, "report.html.j2", report=found, drawn=drawn, **head_of_page(session, station, product))


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


@router.get("/trail")
@allow("viewer")
def trail(
    request: Request,
    station: At,
    before: int | None = None,
    everything: bool = False,
    action: Annotated[str, Query(max_length=32)] = "",
    check: bool = False,
    head: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """The audit trail, the newest entry first, of one action or of all; decisions only where asked for."""
    query = select(Entry).order_by(Entry.seq.desc()).limit(100)
    if before is not None:
        query = query.where(Entry.seq < before)
    if action:
        query = query.where(Entry.action == action)
    elif not everything:
        query = query.where(Entry.action != "decision")
    with station.database.read() as session:
        entries = list(session.scalars(query))
        decided = [int(entry.subject) for entry in entries if entry.action == "decision"]
        hidden = {str(number) for number in reviews.hidden_of(session, reviews.find_rows(session, decided))}
        sought = _noted(station, head) if head.strip() else None
        verified = verify_trail(session, sought) if check else None
        last = session.execute(select(Entry.seq, Entry.sha256).order_by(Entry.seq.desc()).limit(1)).first()
    told = {
        "verified": verified,
        "head": last,
        "everything": everything,
        "noted": head,
        "action": action,
        "actions": ACTIONS,
    }
    return render(request, "trail.html.j2", entries=entries, hidden=hidden, **told)


def _noted(station: Station, head: str) -> str:
    """A head that was pasted: 64 digits or the document, and never the name of a file of this machine."""
    head = head.strip()
    if not head.startswith("{") and len(head) != 64:
        raise SettingsError("head: expected 64 hexadecimal digits, or what a saved head holds")
    return read_head(head, station.folder)
