"""The pages on which models are made and compared: runs, recalibration, the shadow."""

import json
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from sqlalchemy import select
from starlette.responses import HTMLResponse, JSONResponse, Response

from blemish.errors import SettingsError
from blemish.station import runs, shadow, state
from blemish.station.access import allow, identity_of
from blemish.station.api import ImageId
from blemish.station.app import At, Chosen, Number, NumberOrNone, Station, Text
from blemish.station.products import header_of_model, product_of
from blemish.station.recalibrate import propose
from blemish.station.render import render, say_of
from blemish.station.sign_in import noted, see_other
from blemish.station.tables import Model, Product, Run
from blemish.station.train_pages import allowed_folder, begin_run

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)


@router.post("/products/challenge")
@allow("engineer")
def challenge(request: Request, station: At, product_id: Number, model_id: Number, path: Text = "") -> Response:
    """Put synthetic defects on good images, and see which a model misses."""
    folder = str(allowed_folder(station, identity_of(request), path)) if path.strip() else ""
    return begin_run(request, station, product_id, "challenge", {"model_id": model_id, "path": folder})


@router.get("/runs/{run_id}")
@allow("viewer")
def run(request: Request, station: At, run_id: ImageId) -> Response:
    """How a run stands."""
    runs.settle(station.database, station.folder)
    with station.database.read() as session:
        found = _run(session.get(Run, run_id), run_id)
        result = json.loads(found.result) if found.state == "done" else None
        return render(
            request,
            "run.html.j2",
            run=found,
            product=session.get_one(Product, found.product_id),
            asked=json.loads(found.asked),
            result=result,
            model=None if result is None else session.get(Model, result["model_id"]),
            progress=runs.progress_of(station.folder, run_id),
            log=_log(request, station, run_id),
            is_open=found.state in runs.OPEN,
        )


def _log(request: Request, station: Station, run_id: int) -> str:
    """The end of a run's log, in the language of the page where a line is ours."""
    say = say_of(request)
    return "\n".join(say.told(line) for line in runs.log_of(station.folder, run_id).split("\n"))


def _run(run: Run | None, run_id: int) -> Run:
    if run is None:
        raise HTTPException(404, f"run {run_id}: there is none")
    return run


@router.get("/runs/{run_id}/state")
@allow("viewer")
def run_state(request: Request, station: At, run_id: ImageId) -> Response:
    """How a run stands, for the script of its page."""
    runs.settle(station.database, station.folder)
    with station.database.read() as session:
        found = _run(session.get(Run, run_id), run_id)
    progress = runs.progress_of(station.folder, run_id)
    told: dict[str, Any] = {"state": found.state, "is_open": found.state in runs.OPEN, "progress": None}
    if progress is not None:
        say = say_of(request)
        told["progress"] = progress._asdict() | {"what": say.told(progress.what), "note": say.told(progress.note)}
    return JSONResponse({**told, "log": _log(request, station, run_id)})


@router.post("/runs/cancel")
@allow("engineer")
def cancel(request: Request, station: At, run_id: Number) -> Response:
    """End a run."""
    runs.cancel(station.database, station.folder, identity_of(request).name, run_id)
    return see_other(f"/runs/{run_id}")


@router.get("/recalibrate")
@allow("viewer")
def recalibrate(request: Request, station: At, product: Chosen = None) -> Response:
    """What the images that were confirmed good would allow, and what was made of them so far."""
    runs.settle(station.database, station.folder)
    with station.database.read() as session:
        all_products = state.products(session)
        wanted = [one for one in all_products if product in (None, one.id)]
        chosen = next((one for one in wanted if one.model_id is not None), next(iter(wanted), None))
        made = select(Run).where(Run.kind == "recalibrate").order_by(Run.id.desc()).limit(10)
        made = made.where(Run.product_id == (chosen.id if chosen is not None else 0))
        rows = [(one, json.loads(one.result) if one.state == "done" else None) for one in session.scalars(made)]
        promise = None if chosen is None else state.promise_of(session, chosen)
        models = [] if chosen is None else session.scalars(select(Model).where(Model.product_id == chosen.id)).all()
        live = next((model for model in models if chosen is not None and model.id == chosen.model_id), None)
        return render(
            request,
            "recalibrate.html.j2",
            products=all_products,
            product=None if chosen is None else chosen.id,
            chosen=chosen,
            promise=promise,
            proposal=None if chosen is None or promise is None else propose(session, chosen),
            rate=None if live is None or promise is None else header_of_model(live).max_false_alarm_rate,
            runs=rows,
            models={model.id: model for model in models},
        )


@router.post("/recalibrate")
@allow("engineer")
def begin_recalibration(request: Request, station: At, product_id: Number, rate: Text = "") -> Response:
    """Work out another calibration; it is not live yet."""
    asked: dict[str, Any] = {}
    if rate.strip():
        try:
            asked["max_false_alarm_rate"] = float(rate.replace(",", ".")) / 100.0
        except ValueError:
            raise SettingsError(f"rate '{rate[:20]}': give percent, for example 5") from None
        if not 0.0 < asked["max_false_alarm_rate"] < 1.0:
            raise SettingsError(f"rate '{rate[:20]}': must lie between 0 and 100 percent")
    return begin_run(request, station, product_id, "recalibrate", asked)


@router.get("/shadow")
@allow("viewer")
def in_the_shadow(request: Request, station: At, product: Chosen = None) -> Response:
    """The live model and the one in its shadow, side by side on the same images."""
    with station.database.read() as session:
        all_products = state.products(session)
        wanted = [one for one in all_products if product in (None, one.id)]
        chosen = next((one for one in wanted if one.shadow_model_id is not None), next(iter(wanted), None))
        has_both = chosen is not None and chosen.shadow_model_id is not None and chosen.model_id is not None
        models = session.scalars(select(Model).order_by(Model.id.desc())).all()
        return render(
            request,
            "shadow.html.j2",
            products=all_products,
            product=None if chosen is None else chosen.id,
            chosen=chosen,
            models=[one for one in models if chosen is not None and one.product_id == chosen.id],
            by_id={one.id: one for one in models},
            found=shadow.compare(session, chosen) if chosen is not None and has_both else None,
            last=shadow.LAST,
        )


@router.post("/shadow")
@allow("engineer")
def set_shadow(
    request: Request, station: At, product_id: Number, reason: Text, model_id: NumberOrNone = None
) -> Response:
    """Put a model into the shadow of the live one, or none."""
    with station.database.read() as session:
        product_of(session, product_id)
    shadow.set_shadow(station.database, identity_of(request).name, product_id, model_id, reason)
    return noted(f"/shadow?product={product_id}")
