"""A threshold that keeps its promise: from the scores of good images to a limit on false alarms.

The good images ranked here must not have been fitted on, and must be exchangeable with the images to come:
any order of all of them equally likely. Nothing else is assumed, no shape of the distribution in particular.

An image is flagged when `score > threshold`. Two promises are on offer:

- *on average* (`confidence=None`): a new good image is flagged with probability <= alpha, the draw of the
  calibration images included (Vovk, Gammerman & Shafer 2005; Lei et al. 2018, theorem 2.2).
- *with confidence* 1 - delta: for all but a share delta of calibration sets, the false-alarm rate of this
  threshold, over all good images to come, is <= alpha (Vovk 2012; the bound of Clopper & Pearson 1934).

Equal scores only make both promises safer. Too few images raise; no promise is ever quietly weakened.
"""

import math
from dataclasses import dataclass
from typing import Literal, final, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import CalibrationError, SettingsError, plural

_SMALLEST = 1e-12
"""No rate, and no distance of a confidence from 1, is smaller: nobody has so many images."""

_ROUNDING = 1e-12
"""What float arithmetic may add to the logarithm of a binomial tail without it counting as too much."""


@final
@dataclass(frozen=True)
class Certificate:
    """A threshold with its guarantee.

    >>> certificate = certify(range(100), 0.05)
    >>> certificate.threshold, certificate.promise
    (95.0, 'On average at most 5 % of new good images are flagged (from 100 good images).')
    """

    alpha: float
    """The promised false-alarm rate."""
    confidence: float | None
    """How surely this threshold keeps it; None: it is kept on average over calibration sets."""
    threshold: float
    """An image is flagged when its score is greater."""
    n: int
    """How many held-out good images stand behind it."""
    kind: Literal["average", "confidence", "cross"]
    """cross: the images were held out fold by fold, and the score is the smallest of all folds' detectors."""
    groups: int | None = None
    """How many groups they form, when the promise is made for groups; None: it is made for images."""

    @property
    def promise(self) -> str:
        """The guarantee as one sentence, its rate in three digits and never less than it is."""
        sure = "On average" if self.confidence is None else f"With confidence {100 * self.confidence:.12g} %"
        unit = "new good images are" if self.groups is None else "new groups of good images have an image"
        source = plural(self.n, "good image") + ("" if self.groups is None else f" in {plural(self.groups, 'group')}")
        return f"{sure} at most {100 * rounded_up(self.alpha):.3g} % of {unit} flagged (from {source})."


def certify(
    scores: ArrayLike,
    max_false_alarm_rate: float,
    *,
    confidence: float | None = None,
    groups: ArrayLike | None = None,
) -> Certificate:
    """The lowest threshold for which the promise can be kept.

    On average: the k-th smallest of n scores, k = ceil((n + 1) (1 - alpha)); `score > threshold` exactly when
    `p_value(scores, score) <= alpha`, rounding included. With confidence 1 - delta: the smallest k-th smallest score
    with P(Beta(n + 1 - k, k) <= alpha) >= 1 - delta, the exact law of the rate above it where scores never tie.

    `groups` has an id for each image, such as the part or the day: images of a group may depend on each other, only
    the groups need be exchangeable. The promise is then for a new group: that none of its images is flagged. It holds
    for any one image of a new group, too, if more cautiously than need be: for that alone, certify the scores of one
    image drawn from each group (Dunn, Wasserman & Ramdas 2023).

    Raises:
        CalibrationError: when there are too few images (or groups), or a score is not a number; never is a weaker
            promise made instead.

    >>> certify([3.0, 1.0, 2.0, 4.0], 0.4).threshold  # k = ceil(5 x 0.6) = 3
    3.0
    >>> certify([3.0, 1.0, 2.0, 4.0], 0.05)
    Traceback (most recent call last):
    blemish.errors.CalibrationError: score.max_false_alarm_rate: 0.05 needs 19 good images that were not fitted on,
    found 4; add 15, or ask for 0.2 or more
    >>> certify(range(100), 0.05, confidence=0.95).threshold  # one may exceed it, of five on average
    98.0
    >>> certify([1, 9, 2, 3, 4, 5], 0.4, groups=["a", "a", "b", "b", "c", "c"])  # ranks 9, 3 and 5
    Certificate(alpha=0.4, confidence=None, threshold=9.0, n=6, kind='average', groups=3)
    """
    ordered = _ordered(scores)
    n_images = ordered.size
    if groups is not None:
        ordered = np.sort(worst_of_groups(scores, groups))
    unit = "good image" if groups is None else "group"
    rank = _rank(ordered.size, max_false_alarm_rate, confidence, unit)
    return Certificate(
        alpha=max_false_alarm_rate,
        confidence=confidence,
        threshold=float(ordered[rank - 1]),
        n=n_images,
        kind="average" if confidence is None else "confidence",
        groups=None if groups is None else ordered.size,
    )


@overload
def p_value(scores: ArrayLike, score: float) -> float: ...
@overload
def p_value(scores: ArrayLike, score: NDArray[np.floating]) -> NDArray[np.float64]: ...
def p_value(scores: ArrayLike, score: float | NDArray[np.floating]) -> float | NDArray[np.float64]:
    """How unusual a score is among good ones: (1 + #{good scores >= score}) / (n + 1).

    For a good image, P(p <= alpha) <= alpha for every alpha (Vovk, Gammerman & Shafer 2005).
    Images ranked against the same good scores share their luck: their p-values are dependent.

    Raises:
        CalibrationError: when a score is not a number.

    >>> p_value([1.0, 2.0, 2.0, 3.0], 2.0)  # three of four are as high
    0.8
    >>> p_value([1.0, 2.0, 2.0, 3.0], np.array([0.5, 3.5]))
    array([1. , 0.2])
    """
    ordered = _ordered(scores)
    wanted = np.asarray(score, dtype=np.float64)
    refuse_nan(wanted)
    as_high = ordered.size - np.searchsorted(ordered, wanted, side="left")
    p_values = (1 + as_high) / (ordered.size + 1)
    return p_values if wanted.ndim else float(p_values)


def smallest_rate(n: int, confidence: float | None = None) -> float:
    """The smallest false-alarm rate that n good images can promise: 1 / (n + 1), or 1 - delta^(1 / n).

    >>> smallest_rate(99)
    0.01
    >>> round(smallest_rate(59, confidence=0.95), 4)
    0.0495
    """
    if confidence is None:
        return 1 / (n + 1)
    return -math.expm1(math.log(_delta(confidence)) / n) if n else 1.0


def images_needed(max_false_alarm_rate: float, confidence: float | None = None) -> int:
    """How many good images, not fitted on, a promise takes at the least.

    >>> images_needed(0.01), images_needed(0.01, confidence=0.95)
    (99, 299)
    """
    alpha = check_rate(max_false_alarm_rate)
    rough = 1 / alpha if confidence is None else math.log(_delta(confidence)) / math.log1p(-alpha)
    n = math.ceil(rough) + 1
    while n > 1 and _is_enough(n - 1, alpha, confidence):
        n -= 1
    return n


def more_images_needed(n: int, max_false_alarm_rate: float, confidence: float | None = None) -> int:
    """How many good images to add to the n there are.

    >>> more_images_needed(40, 0.01), more_images_needed(40, 0.1)
    (59, 0)
    """
    return max(0, images_needed(max_false_alarm_rate, confidence) - n)


def worst_of_groups(scores: ArrayLike, groups: ArrayLike) -> NDArray[np.float64]:
    """The largest of the scores (n,) of each of the groups (n,), in the order of the sorted group ids.

    >>> worst_of_groups([1.0, 9.0, 2.0], ["b", "b", "a"])
    array([2., 9.])
    """
    values, members = paired(scores, groups)
    ids, group_of = np.unique(members, return_inverse=True)
    worst = np.full(ids.size, -np.inf)
    np.maximum.at(worst, group_of, values)
    return worst


def _is_enough(n: int, alpha: float, confidence: float | None) -> bool:
    """Whether the promise holds for the highest threshold there is, the largest of n scores."""
    if confidence is None:
        return 1 / (n + 1) <= alpha
    return n * math.log1p(-alpha) <= math.log(_delta(confidence)) + _ROUNDING


def _rank(n: int, alpha: float, confidence: float | None, unit: str) -> int:
    allowed = _allowed_above(n, check_rate(alpha), confidence)
    if allowed < 0:
        raise CalibrationError(_too_few(n, alpha, confidence, unit))
    return n - allowed


def _allowed_above(n: int, alpha: float, confidence: float | None) -> int:
    """How many of the n scores may lie above the threshold; -1 when even none is too many."""
    if confidence is None:
        allowed = math.floor(alpha * (n + 1)) + 1
        while allowed / (n + 1) > alpha:  # divided as in p_value, so that both round alike
            allowed -= 1
        return allowed - 1
    log_delta = math.log(_delta(confidence)) + _ROUNDING
    return int(np.searchsorted(log_binomial_cdf(n, alpha), log_delta, side="right")) - 1


def log_binomial_cdf(n: int, probability: float) -> NDArray[np.float64]:
    """log P(Bin(n, probability) <= j) for j = 0 .. n.

    P(Bin(n, alpha) <= j) = P(Beta(j + 1, n - j) > alpha): the chance that the rate above the (n - j)-th smallest
    of n scores exceeds alpha.
    """
    j = np.arange(n + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log((n - j[1:] + 1) / j[1:]))])
    log_mass = log_choose + j * math.log(probability) + (n - j) * math.log1p(-probability)
    return np.asarray(np.logaddexp.accumulate(log_mass))


def _too_few(n: int, alpha: float, confidence: float | None, unit: str) -> str:
    needed = images_needed(alpha, confidence)
    kind, verb = " of good images" if unit == "group" else "", "was" if needed == 1 else "were"
    sure = "" if confidence is None else f" with confidence {confidence:.14g}"
    other_rate = f", or ask for {rounded_up(smallest_rate(n, confidence)):g} or more" if n else ""
    return (
        f"score.max_false_alarm_rate: {alpha:g}{sure} needs {plural(needed, unit)}{kind} that {verb} not fitted on, "
        f"found {n}; add {needed - n}{other_rate}"
    )


def rounded_up(rate: float) -> float:
    """Three digits, never less than the rate, so that what a message suggests is accepted.

    >>> rounded_up(1 / 41)
    0.0244
    """
    digits = 2 - math.floor(math.log10(rate))
    short = round(rate, digits)
    return short if short >= rate else round(short + 10.0**-digits, digits)


def promised_percent(rate: float | None) -> str:
    """A promised rate as it is shown everywhere: in three digits, and never less than it is; a dash for none.

    >>> promised_percent(1 / 9), promised_percent(0.05), promised_percent(0.0), promised_percent(None)
    ('11.2 %', '5 %', '0 %', '-')
    """
    if rate is None:
        return "-"
    return f"{100 * rounded_up(rate) if rate > 0.0 else 0.0:.3g} %"


def _ordered(scores: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(scores, dtype=np.float64).ravel()
    refuse_nan(array)
    return np.sort(array)


def paired(
    scores: ArrayLike, groups: ArrayLike, what: str = "groups"
) -> tuple[NDArray[np.float64], NDArray[np.generic]]:
    values, members = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(groups).ravel()
    if values.size != members.size:
        raise CalibrationError(
            f"{what}: found {members.size} ids for {plural(values.size, 'score')}; give one for each"
        )
    return values, members


def refuse_nan(scores: NDArray[np.floating]) -> None:
    bad = np.flatnonzero(np.isnan(scores))
    if bad.size:
        raise CalibrationError(
            f"scores: number {bad[0] + 1} of {scores.size} is not a number (nan); "
            "look at that image and at the training loss"
        )


def check_rate(alpha: float) -> float:
    if not _SMALLEST <= alpha < 1:
        raise SettingsError(f"score.max_false_alarm_rate: found {alpha:g}; it must lie between 0 and 1")
    return alpha


def _delta(confidence: float) -> float:
    if not 1e-6 <= confidence <= 1 - _SMALLEST:
        raise SettingsError(f"score.confidence: found {confidence:g}; it must lie between 0 and 1, for example 0.95")
    return 1 - confidence
