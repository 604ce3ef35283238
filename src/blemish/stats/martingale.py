"""Has the line changed? A bet against "the images still come from where the good ones came from".

A capital of 1 is staked, image after image, on where the next score ranks among all scores so far. While the images
are exchangeable with the good images at the start, no betting scheme gains on average: the capital is a martingale,
and by Ville's inequality (1939) it ever reaches 1 / delta with probability delta at most, however long one watches.
A large capital is thus evidence of a change (conformal test martingales: Vovk, Nouretdinov & Gammerman 2003).

Each score is ranked among the calibration scores *and all scores since*. Ranks among the calibration scores alone are
dependent from image to image, as they share its luck, and the capital is then no martingale: with 30 calibration
scores, delta = 0.05 and 1000 images, 4 good streams in 10 raised an alarm. The price is that what comes after a change
slowly becomes the normal: a change too faint to be noticed within about as many images as came before it may never be.

The bets, both ways, two sizes: f(p) = 1 +- (1/2 - p), which is good at faint changes (the bets of the simple jumper,
Vovk et al. 2021), and f(p) = p^(-1/2) / 2 or the same of 1 - p, good at strong ones. A change may come at any time, so
the stake is not laid at once: after t images, 1 / (1 + log(1 + t)) of it is still in hand. The capital is then a
mixture over which bet was right and when it began, and never falls below what is in hand.

Several streams (score, brightness, sharpness): each capital is a martingale for those who see its own stream only, so
their average need not be one for those who see all (Choe & Ramdas 2025). `drifted` shares out delta instead.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import SettingsError
from blemish.stats.conformal import refuse_nan

_N_BETS = 4
_GRID = 2**32


@final
@dataclass(frozen=True, eq=False)
class Martingale:
    """The state of the bets on one stream; make one with `start_martingale`, carry it on with `observe`."""

    values: NDArray[np.float64]
    """All different scores so far, ascending, those of the calibration included."""
    counts: NDArray[np.int64]
    """How often each of them came."""
    digits: int | None
    """Scores are rounded to so many significant digits; None: not at all."""
    observed: int = 0
    """Images since the start."""
    log_stakes: tuple[float, ...] = field(default_factory=lambda: _laid((-math.inf,) * _N_BETS, 1))
    """Natural logarithm of what is laid on each bet, for the next image."""
    log_peak: float = 0.0
    """Natural logarithm of the largest capital so far: Ville's inequality is about this."""
    p_value: float | None = None
    """Of the last image: small for a high score, large for a low one."""

    @property
    def log_capital(self) -> float:
        """Natural logarithm of the capital; starts at 0."""
        return float(np.logaddexp.reduce([*self.log_stakes, math.log(_in_hand(self.observed + 1))]))

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists, for JSON; `from_dict` gives the same state again, to the bit."""
        return asdict(self) | {"values": self.values.tolist(), "counts": self.counts.tolist()}

    @staticmethod
    def from_dict(state: Mapping[str, Any]) -> "Martingale":
        """The state that `to_dict` wrote."""
        arrays = {
            "values": np.asarray(state["values"], dtype=np.float64),
            "counts": np.asarray(state["counts"], dtype=np.int64),
        }
        return Martingale(**{**state, **arrays, "log_stakes": tuple(state["log_stakes"])})


def start_martingale(scores: ArrayLike, *, digits: int | None = None) -> Martingale:
    """A capital of 1, before the first image; `scores` (n,) are those of good images not fitted on.

    All scores to come are kept. To bound the memory, let `digits` round them: at 3 digits there are 900 different
    values to each power of ten, whatever the number of images. Rounding is the same for all scores and so
    leaves them exchangeable; forgetting old scores, or stopping to add new ones, would not.

    >>> start_martingale([0.12345, 0.1231, 0.5], digits=3).to_dict()["values"]
    [0.123, 0.5]
    """
    array = np.asarray(scores, dtype=np.float64).ravel()
    refuse_nan(array)
    values, counts = np.unique([_rounded(score, digits) for score in array.tolist()], return_counts=True)
    return Martingale(values, counts.astype(np.int64), digits)


@final
@dataclass(frozen=True, eq=False)
class Tolerance:
    """A change that does not matter: how far scores may be off, and the scores it does not touch."""

    reach: float
    calibration: NDArray[np.float64]
    """Ascending; those that `start_martingale` was given."""


def observe(
    martingale: Martingale, score: float, rng: np.random.Generator, tolerance: Tolerance | None = None
) -> Martingale:
    """The state after one more image.

    With n scores so far, p = (#{greater} + theta (#{equal} + 1)) / (n + 1), theta uniform on (0, 1) from `rng`. These
    p-values are independent and uniform while scores are exchangeable, ties or not (Vovk, Gammerman & Shafer 2005).
    With theta = 1 they would only be too large: safe for bets on small p-values, but not for those on large ones.
    Do not seed `rng` alike at every restart.

    With a `tolerance`, each score may be off by its reach, this way or that, from one that is exchangeable. The score
    is then ranked as if it were lower by the reach and all since the start were higher, for the bets on high scores;
    and the other way round for those on low ones. So no p-value is smaller than the undisturbed scores would have
    given, no bet gains more, and the bound on a false alarm stays what it is.

    Raises:
        CalibrationError: when the score is not a number.

    >>> rng = np.random.default_rng(0)
    >>> martingale = start_martingale(np.arange(100.0))
    >>> for score in [200.0, 205.0, 203.0, 204.0, 201.0]:
    ...     martingale = observe(martingale, score, rng)
    >>> drifted({"score": martingale}, 0.01)
    ['score']
    """
    refuse_nan(np.asarray(score, dtype=np.float64))
    value = _rounded(float(score), martingale.digits)
    at = int(np.searchsorted(martingale.values, value))
    known = at < martingale.values.size and martingale.values[at] == value
    less, equal = int(martingale.counts[:at].sum()), int(martingale.counts[at]) if known else 0
    n = int(martingale.counts.sum())
    theta = (int(rng.integers(_GRID)) + 0.5) / _GRID  # never 0 or 1, where a bet would be infinite
    low = (n - less - equal + theta * (equal + 1)) / (n + 1)
    high = (less + (1 - theta) * (equal + 1)) / (n + 1)  # 1 - low, but never rounded to 0
    if tolerance is not None and tolerance.reach > 0:
        low, high = _tolerant_p_values(martingale, float(score), theta, tolerance)
    won = [stake + bet for stake, bet in zip(martingale.log_stakes, _log_bets(low, high), strict=True)]
    observed = martingale.observed + 1
    log_capital = float(np.logaddexp.reduce([*won, math.log(_in_hand(observed))]))
    counts = martingale.counts.copy() if known else np.insert(martingale.counts, at, 0)
    counts[at] += 1
    return Martingale(
        values=martingale.values if known else np.insert(martingale.values, at, value),
        counts=counts,
        digits=martingale.digits,
        observed=observed,
        log_stakes=_laid(won, observed + 1),
        log_peak=max(martingale.log_peak, log_capital),
        p_value=low,
    )


def drifted(streams: Mapping[str, Martingale], max_false_alarm_probability: float) -> list[str]:
    """The names of the streams whose capital has ever reached (number of streams) / delta.

    Raises:
        SettingsError: delta does not lie between 0 and 1.

    While nothing has changed, P(any stream is ever named) <= delta, whatever the dependence between them.

    >>> calm = start_martingale([1.0, 2.0])
    >>> drifted({"score": calm, "brightness": calm}, 0.01)
    []
    """
    if not 0 < max_false_alarm_probability < 1:
        raise SettingsError(
            f"max_false_alarm_probability: found {max_false_alarm_probability:g}; it must lie between 0 and 1"
        )
    log_limit = math.log(len(streams) / max_false_alarm_probability) if streams else math.inf
    return [name for name, martingale in streams.items() if martingale.log_peak >= log_limit]


def _log_bets(low: float, high: float) -> tuple[float, ...]:
    """log f of the p-value for high scores and of that for low ones: each f is >= 0, and over [0, 1] its integral is 1.

    With a tolerance the two add up to more than 1.
    """
    return (
        math.log(1.5 - low),
        math.log(1.5 - high),
        -math.log(2) - math.log(low) / 2,
        -math.log(2) - math.log(high) / 2,
    )


def _tolerant_p_values(martingale: Martingale, score: float, theta: float, tolerance: Tolerance) -> tuple[float, float]:
    """Upper bounds of the p-value for high scores and of that for low ones; see `observe`."""
    n, digits, reach = int(martingale.counts.sum()), martingale.digits, tolerance.reach
    slack = 0.0 if digits is None else 2 * abs(score) * 10.0 ** (1 - digits)  # what rounding may hide
    calibration = [_rounded(value, digits) for value in tolerance.calibration.tolist()]
    upto = np.concatenate([[0], np.cumsum(martingale.counts)])

    def below(limit: float, side: Literal["left", "right"]) -> tuple[int, int]:
        """How many are below: of all scores, and of the calibration scores."""
        everywhere = int(upto[np.searchsorted(martingale.values, limit, side=side)])
        return everywhere, int(np.searchsorted(calibration, limit, side=side))

    def both(direction: int) -> tuple[float, float]:
        """The limits for scores since the start, and for those of the calibration."""
        far, near = score + direction * (2 * reach + slack), score + direction * (reach + slack)
        return _rounded(far, digits), _rounded(near, digits)

    far, near = both(-1)
    everywhere, calibrated = below(far, "left")
    greater = (n - len(calibration)) - (everywhere - calibrated) + len(calibration) - below(near, "left")[1]
    far, near = both(1)
    everywhere, calibrated = below(far, "right")
    less = everywhere - calibrated + below(near, "right")[1]
    return (greater + theta) / (n + 1), (less + 1 - theta) / (n + 1)


def _in_hand(t: int) -> float:
    """The share of the first capital that is not yet laid on any bet on image t or before."""
    return 1 / (1 + math.log1p(t))


def _laid(log_stakes: tuple[float, ...] | list[float], t: int) -> tuple[float, ...]:
    """The stakes once the share due at image t has been laid on all bets alike."""
    share = math.log((_in_hand(t - 1) - _in_hand(t)) / _N_BETS)
    return tuple(float(np.logaddexp(stake, share)) for stake in log_stakes)


def _rounded(score: float, digits: int | None) -> float:
    return score if digits is None else float(f"{score:.{digits - 1}e}")
