"""The watch over the line: the monitor's bets on every decision, and the alarms that withdraw a product's guarantee.

It follows the decisions in the store by their numbers, and is kept there with the number of the last one that it saw: a
worker that was killed goes on where it was.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, final

import numpy as np
from pydantic import ValidationError
from sqlalchemy import Exists, and_, exists, select
from sqlalchemy.orm import Session

from blemish.data.folder import ID_DIGITS
from blemish.errors import ArtifactError, BlemishError, DataError, SettingsError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.monitor_state import Alarm, MonitorState, WithdrawalCheck, default_state_path
from blemish.inference.score import score_text
from blemish.inspection.decisions import now
from blemish.inspection.monitor import SAVE_EVERY_S
from blemish.inspection.monitor_bets import SCORE
from blemish.inspection.monitor_bets import Watch as Bets
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.products import checked_reason, header_of_model, product_of
from blemish.station.tables import Decision, DriftAlarm, Model, Product, Watch
from blemish.station.trail import STATION, append

AT_ONCE = 200


@final
@dataclass
class _Open:
    """The watch that a model of a product is calibrated for, as it stands in memory."""

    product_id: int
    model_id: int
    bets: Bets | None
    known: frozenset[str]
    """Images that the model was fitted or calibrated on, which are not looked at."""
    beside: WithdrawalCheck
    """What `blemish monitor` may have found, run over the model's file by hand."""
    last: int
    trouble: str
    is_changed: bool = True
    saved_s: float = 0.0
    raised: dict[str, Alarm] = field(default_factory=dict)
    """By their streams, those that are not in the store yet."""
    told: set[str] = field(default_factory=set)
    """The streams of those that are."""


class _Live(NamedTuple):
    product_id: int
    model_id: int
    stops: bool


@final
class LineWatch:
    """Watches over the lines of a station; one a station, in the process that judges."""

    def __init__(self, database: Database, folder: StationFolder, say: Callable[[str], None]) -> None:
        self._database, self._folder, self._say = database, folder, say
        self._rng = np.random.default_rng()
        self._open: dict[tuple[int, int], _Open] = {}

    def look(self) -> set[int]:
        """Bet on the decisions that are new; returns the products whose images wait from now on."""
        stopped = set()
        with self._database.read() as session:
            query = select(Product.id, Product.model_id, Product.stops_when_withdrawn)
            rows = session.execute(query.where(Product.model_id.is_not(None)))
            live = [_Live(product_id, model_id or 0, stops) for product_id, model_id, stops in rows]
        for one in live:
            try:
                if self._follow(self._opened(one)) and one.stops:
                    stopped.add(one.product_id)
            except ArtifactError as error:  # of another version: it does not judge either
                self._say(str(error))
        return stopped

    def save(self) -> None:
        """Keep what was seen."""
        for one in self._open.values():
            if one.is_changed:
                self._keep(one)

    def _opened(self, live: _Live) -> _Open:
        key = (live.product_id, live.model_id)
        if key not in self._open:
            with self._database.read() as session:
                product, model = session.get_one(Product, live.product_id), session.get_one(Model, live.model_id)
                kept = session.get(Watch, key)
            header = header_of_model(model)
            bets, trouble = begin(header, product.smallest_change, "" if kept is None else kept.state)
            beside = WithdrawalCheck(header, default_state_path(self._folder.model_path(model.sha256)))
            last = 0 if kept is None else kept.last_decision_id
            self._open[key] = _Open(*key, bets, header.made_of(), beside, last, trouble)
        return self._open[key]

    def _follow(self, watch: _Open) -> bool:
        """Go on up to the last decision; whether an alarm was raised."""
        self._look_beside(watch)
        while decisions := self._next(watch):
            for decision in decisions:
                self._bet(watch, decision)
                watch.last, watch.is_changed = decision.id, True
            if len(decisions) < AT_ONCE:
                break
        if watch.raised or (watch.is_changed and time.monotonic() - watch.saved_s > SAVE_EVERY_S):
            return self._keep(watch)
        return False

    def _next(self, watch: _Open) -> list[Decision]:
        if watch.bets is None:
            return []
        query = (
            select(Decision)
            .where(Decision.id > watch.last, Decision.product_id == watch.product_id)
            .where(Decision.model_id == watch.model_id, Decision.score.is_not(None), Decision.photo_values != "{}")
            .order_by(Decision.id)
            .limit(AT_ONCE)
        )
        with self._database.read() as session:
            return list(session.scalars(query))

    def _bet(self, watch: _Open, decision: Decision) -> None:
        if watch.bets is None or decision.score is None or decision.image_sha256[:ID_DIGITS] in watch.known:
            return
        try:
            values = {SCORE: decision.score, **json.loads(decision.photo_values)}
            for alarm in watch.bets.look(decision.image_path, values, self._rng):
                watch.raised.setdefault(alarm.stream, alarm)
        except DataError as error:  # no group can be told from its name, or one that had ended
            watch.trouble = str(error)

    def _look_beside(self, watch: _Open) -> None:
        try:
            alarm = watch.beside.alarm()
        except DataError as error:
            watch.trouble, watch.is_changed = str(error), True
            return
        if alarm is not None and alarm.stream not in watch.told:
            watch.raised.setdefault(alarm.stream, alarm)

    def _keep(self, watch: _Open) -> bool:
        """Put the watch on the disk, and its alarms; whether there are some that were not there."""
        state = "" if watch.bets is None else watch.bets.to_state().model_dump_json()
        with self._database.write() as session:
            kept = Watch(product_id=watch.product_id, model_id=watch.model_id, state=state, trouble=watch.trouble)
            kept.last_decision_id, kept.images = watch.last, 0 if watch.bets is None else watch.bets.images
            session.merge(kept)
            known = select(DriftAlarm.stream).where(
                DriftAlarm.product_id == watch.product_id, DriftAlarm.model_id == watch.model_id
            )
            before = set(session.scalars(known))
            new = [alarm for stream, alarm in watch.raised.items() if stream not in before]
            name = session.get_one(Product, watch.product_id).name
            for alarm in new:
                _raise(session, watch, alarm)
        for alarm in new:
            change = f"{alarm.stream} has changed from {score_text(alarm.usual)} to {score_text(alarm.now)}"
            self._say(f"drift of '{name}': {change}; see the live page")
        watch.is_changed, watch.saved_s = False, time.monotonic()
        watch.told.update(before, watch.raised)
        watch.raised.clear()
        return bool(new)


def _raise(session: Session, watch: _Open, alarm: Alarm) -> None:
    product, model = session.get_one(Product, watch.product_id), session.get_one(Model, watch.model_id)
    row = DriftAlarm(product_id=product.id, model_id=model.id, stream=alarm.stream, usual=alarm.usual, found=alarm.now)
    row.images, row.image, row.raised_at = alarm.images, alarm.image[:1024], now()
    detail = {**alarm.model_dump(), "model_sha256": model.sha256, "stops": product.stops_when_withdrawn}
    row.trail_seq = append(session, STATION, "drift", product.name, detail)
    session.add(row)


def begin(header: ArtifactHeader, smallest_change: float, state: str) -> tuple[Bets | None, str]:
    """The bets for a model, as they were kept or new ones; or none, and why nothing can be watched."""
    try:
        kept = MonitorState.model_validate_json(state) if state else None
        return Bets(header, kept, None, None, smallest_change if kept is None else None), ""
    except ValidationError:
        return begin(header, smallest_change, "")  # kept by another version
    except BlemishError as error:
        return None, str(error)


def is_withdrawn() -> Exists:
    """Of a product in a query: whether drift has withdrawn the guarantee of its live model."""
    return exists().where(and_(DriftAlarm.product_id == Product.id, DriftAlarm.model_id == Product.model_id))


def alarms_of(session: Session, product: Product) -> list[DriftAlarm]:
    """The alarms over a product's live model, the first one first; none while its guarantee stands."""
    query = select(DriftAlarm).where(DriftAlarm.product_id == product.id, DriftAlarm.model_id == product.model_id)
    return list(session.scalars(query.order_by(DriftAlarm.id)))


def set_drift(
    database: Database, actor: str, product_id: int, *, stops: bool, smallest_change: float, reason: str
) -> None:
    """What happens when drift withdraws the guarantee, and which change does not count as drift.

    The change counts for watches that begin later, with another model or calibration: one that has begun would lose
    its bound on false alarms.

    Raises:
        SettingsError: the change is outside [0, 1), or no reason is given.
        DataError: there is no such product.
    """
    if not 0.0 <= smallest_change < 1.0:
        raise SettingsError(f"smallest change: found {smallest_change:g}; it must be at least 0 and less than 1")
    with database.write() as session:
        product = product_of(session, product_id)
        before = {"stops": product.stops_when_withdrawn, "smallest_change": product.smallest_change}
        detail = {"from": before, "to": {"stops": stops, "smallest_change": smallest_change}}
        product.stops_when_withdrawn, product.smallest_change = stops, smallest_change
        append(session, actor, "drift setting", product.name, {**detail, "reason": checked_reason(reason)})
