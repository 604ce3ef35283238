"""The bets of `blemish monitor` against change in the streams of one model, carried on image by image.

Watched are the score, and five numbers of the photo that no detector has a part in. Each has a bet against it, see
stats/martingale.py; together they raise a false alarm with the probability delta at most, however long one watches.
"""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np

from blemish.data.groups import pattern_of, read_groups
from blemish.data.photo_values import mean_values
from blemish.errors import CalibrationError, DataError, SettingsError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.monitor_state import Alarm, Bets, MonitorState, OpenGroup, calibration_id, model_id
from blemish.inspection.group_pattern import pattern_in_model
from blemish.stats.martingale import Martingale, Tolerance, drifted, observe, start_martingale

DELTA = 0.01
"""The probability that a false alarm is ever raised."""

PLACES = ("centre_x", "centre_y")
"""Streams that are shares of a side already."""

SCORE = "score"

RECENT = 20
"""So many of the last images say where a stream is now."""

DIGITS = 4
"""Values are rounded to so many significant digits, which bounds the memory of a long watch."""

CLOSED_GROUPS = 1000
"""So many groups are remembered, to notice when one comes back."""


REMEMBERED = 10_000
"""So many images are remembered by their content, to notice copies of them."""


@final
@dataclass(frozen=True)
class Stream:
    """Where the bet on one stream stands."""

    usual: float
    """Median of the good images that were calibrated on."""
    now: float | None
    """Median of the last images."""
    log10_capital: float
    log10_peak: float


@final
class Watch:
    """The bets on all streams of one model, carried on image by image.

    A change up to `smallest_change` does not count: a share of the stream's usual value, or, for the place of what
    stands out in the photo, of its side.

    Raises:
        CalibrationError: the model does not know how bright or sharp good photos are.
        SettingsError: the probability of a false alarm is not the one that the watch began with.
    """

    def __init__(
        self,
        header: ArtifactHeader,
        state: MonitorState | None,
        max_false_alarm_probability: float | None,
        groups: str | None = None,
        smallest_change: float | None = None,
    ) -> None:
        usual = reference(header)
        before = state if state is not None and state.calibration_id == calibration_id(header) else None
        self.is_restarted = state is not None and before is None
        if state is not None and state.model_id != model_id(header):
            raise SettingsError("--state: that is the watch over another model; give this one a file of its own")
        kept = None if before is None else before.max_false_alarm_probability
        self.delta = _as_before("--max-false-alarm-probability", kept, max_false_alarm_probability, DELTA)
        drifted({}, self.delta)  # refuses what is no probability
        kept = None if before is None else before.smallest_change
        self.smallest_change = _as_before("--smallest-change", kept, smallest_change, 0.0)
        self.groups = _pattern(header, groups)
        self.usual = {name: float(np.median(values)) for name, values in usual.items()}
        self.tolerances = {
            name: Tolerance(self.smallest_change * (1.0 if name in PLACES else self.usual[name]), np.sort(values))
            for name, values in usual.items()
        }
        self.state = before or MonitorState(
            model_id=model_id(header),
            calibration_id=calibration_id(header),
            max_false_alarm_probability=self.delta,
            smallest_change=self.smallest_change,
            streams={name: Bets.of(start_martingale(values, digits=DIGITS)) for name, values in usual.items()},
        )
        self.martingales: dict[str, Martingale] = {name: bets.martingale() for name, bets in self.state.streams.items()}
        self.recent = {name: deque(self.state.recent.get(name, ()), RECENT) for name in usual}
        self.alarms, self.images = list(self.state.alarms), self.state.images
        # Images of before a new calibration are not the line's present: they stay watched.
        self.seen = {} if state is None else {folder: set(keys) for folder, keys in state.seen.items()}
        self.ids = {} if state is None else dict.fromkeys(state.recent_ids)
        self.open_group = self.state.open_group
        self.closed = deque(self.state.closed_groups, CLOSED_GROUPS)

    def look(self, name: str, values: dict[str, float], rng: np.random.Generator) -> list[Alarm]:
        """Bet on one more image; the alarms it raises. With groups, on the group that it ends.

        Raises:
            DataError: the image has no group, or one that had ended before.
        """
        if self.groups is None:
            self.images += 1
            return self._bet(name, values, rng)
        (group,) = read_groups(self.groups, [name])
        if group in self.closed:
            raise DataError(
                f"{name}: its group {group} ended before; the images of a group must follow one another, or the "
                "groups cannot be compared"
            )
        self.images += 1
        done = self.open_group
        if done is not None and done.group == group:
            self.open_group = OpenGroup(group=group, values=(*done.values, values))
            return []
        self.open_group = OpenGroup(group=group, values=(values,))
        if done is None:
            return []
        self.closed.append(done.group)
        return self._bet(name, _as_one(done.values), rng)

    def remember(self, identity: str) -> None:
        """Know an image that was watched when it comes again; the one that came first is forgotten first."""
        self.ids[identity] = None
        while len(self.ids) > REMEMBERED:
            del self.ids[next(iter(self.ids))]

    def _bet(self, name: str, values: dict[str, float], rng: np.random.Generator) -> list[Alarm]:
        for stream, martingale in self.martingales.items():
            self.martingales[stream] = observe(martingale, values[stream], rng, self.tolerances[stream])
            self.recent[stream].append(values[stream])
        known = {alarm.stream for alarm in self.alarms}
        raised = [
            Alarm(stream=one, images=self.images, image=name, usual=self.usual[one], now=self._now(one))
            for one in drifted(self.martingales, self.delta)
            if one not in known
        ]
        self.alarms += raised
        return raised

    def _now(self, stream: str) -> float:
        return float(np.median(self.recent[stream]))

    def to_state(self) -> MonitorState:
        """What is kept until the next run."""
        return self.state.model_copy(
            update={
                "images": self.images,
                "streams": {name: Bets.of(martingale) for name, martingale in self.martingales.items()},
                "recent": {name: tuple(values) for name, values in self.recent.items()},
                "alarms": tuple(self.alarms),
                "seen": {folder: tuple(sorted(keys)) for folder, keys in self.seen.items()},
                "recent_ids": tuple(self.ids),
                "open_group": self.open_group,
                "closed_groups": tuple(self.closed),
            }
        )

    def streams(self) -> dict[str, Stream]:
        """Where each bet stands."""
        return {
            name: Stream(
                usual=self.usual[name],
                now=self._now(name) if self.recent[name] else None,
                log10_capital=martingale.log_capital / math.log(10),
                log10_peak=martingale.log_peak / math.log(10),
            )
            for name, martingale in self.martingales.items()
        }


def reference(header: ArtifactHeader) -> dict[str, tuple[float, ...]]:
    """The streams of a model, with their values among the good images.

    Raises:
        CalibrationError: the model does not know how bright or sharp good photos are.
    """
    card = header.calibration
    if not card.photo_values:
        raise CalibrationError(
            "the model file does not say how bright or sharp good photos are; calibrate again with: "
            "blemish certify MODEL --good FOLDER"
        )
    scores = tuple(score - card.margin for score in header.calibration_scores)
    # The smallest of all folds' scores is lower than the one of the fold an image was left out with.
    return dict(card.photo_values) if card.folds else {SCORE: scores, **card.photo_values}


def _as_one(values: Iterable[dict[str, float]]) -> dict[str, float]:
    """What counts for a group: its largest score, and the mean of the rest; as in the calibration."""
    members = list(values)
    return mean_values(members) | {SCORE: max(one[SCORE] for one in members)}


def _as_before(option: str, before: float | None, asked: float | None, otherwise: float) -> float:
    """What a watch began with, which no later run can change."""
    if before is None:
        return otherwise if asked is None else asked
    if asked is not None and asked != before:
        raise SettingsError(
            f"{option} {asked:g}: this watch began with {before:g}; a change on the way would void the promise. Leave "
            "it out, or calibrate again"
        )
    return before


def _pattern(header: ArtifactHeader, groups: str | None) -> str | None:
    card = header.calibration
    if not card.by_group and groups is not None:
        raise SettingsError("--groups: the model was not calibrated by group, so each image is watched on its own")
    found = groups or pattern_in_model(card)
    if card.by_group and found is None:
        raise SettingsError(
            "--groups: the model was calibrated by group, from a file; give a regular expression that tells the group "
            "of an image from its name"
        )
    if found is not None and pattern_of(found) is None:
        raise SettingsError(
            f"--groups {found}: a file names earlier images; give a regular expression that tells the group of an "
            "image to come from its name"
        )
    return found if card.by_group else None
