"""Probability of detection: how large a defect must be to be found nearly always.

Hit/miss analysis after MIL-HDBK-1823A (2009) and ASTM E2862: each defect of a known size was found (a hit) or not.
The chance of a hit is logistic in the size or its logarithm; a90 is the size found with probability 0.9, and a90/95
the size of which that can be said with 95 % confidence. The handbook asks for 60 defects at the least, spread over
the sizes where the curve rises.

Confidence comes from the likelihood ratio: of all (intercept, slope) pairs, those count as possible whose
log-likelihood lies within z^2 / 2 of the best, z = 1.645 for 95 % one-sided. The boundary of that region is traced
once; bounds on a90 and on the curve are extremes over it, which makes them profile-likelihood bounds.

Both documents maximise the likelihood itself. Its a90/95 falls short of the true a90 in 6 to 9 of 100 studies with 60
defects, not in 5. The default therefore adds Firth's penalty (1993), half the logarithm of the information
determinant, whose bound falls short in 4 at the most (Heinze & Schemper 2002 for its profile). It also has a maximum
where every miss is smaller than every hit and the likelihood alone has none.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from blemish.errors import CalibrationError, SettingsError

Floats = NDArray[np.float64]

_DIRECTIONS = 360
"""Rays on which the boundary is sought: a bound falls short by at most 4e-5 of its distance to the estimate."""
_HALVINGS = 20
_NEWTON_STEPS = 100
_SMALLEST_DETERMINANT = 1e-300


@final
@dataclass(frozen=True)
class DetectableSize:
    """A size, and whether the defects tested can speak for it.

    `found`: it lies among the sizes tested. `below_range`, `above_range`: it lies outside, by the model alone; test
    smaller or larger defects. `never`: the curve does not reach that probability, or not with that confidence.
    """

    size: float
    """In the unit of the sizes given; infinite where `never`."""
    status: Literal["found", "below_range", "above_range", "never"]


@final
@dataclass(frozen=True, eq=False)
class PodCurve:
    """P(hit) = 1 / (1 + exp(-(intercept + slope x))), x the size or its natural logarithm, with its uncertainty."""

    intercept: float
    slope: float
    scale: Literal["log", "linear"]
    method: Literal["maximum likelihood", "firth"]
    confidence: float
    """Of each one-sided bound; the band between two bounds has 2 x confidence - 1."""
    n_hits: int
    n_misses: int
    smallest: float
    largest: float
    """The range of sizes tested."""
    boundary: Floats
    """(m, 2): intercepts and slopes on the edge of what is possible with that confidence."""

    def pod(self, sizes: ArrayLike) -> Floats:
        """The probability of detection in [0, 1] at sizes in the unit of the fitted ones, of any shape (...)."""
        return _expit(self.intercept + self.slope * _abscissa(sizes, self.scale))

    def band(self, sizes: ArrayLike) -> tuple[Floats, Floats]:
        """Bounds of the probability of detection at sizes (n,), lower and upper (n,), each with the confidence."""
        x = _abscissa(sizes, self.scale)
        logits = self.boundary[:, 0] + x[..., None] * self.boundary[:, 1]  # (..., m)
        return _expit(logits.min(axis=-1)), _expit(logits.max(axis=-1))

    def size_at(self, pod: float) -> DetectableSize:
        """The size found with probability `pod`, as estimated."""
        if self.slope <= 0:
            return DetectableSize(math.inf, "never")
        return self._sized((_logit(pod) - self.intercept) / self.slope)

    def sure_size_at(self, pod: float) -> DetectableSize:
        """The size found with probability `pod` or more, with the curve's confidence: its lower bound reaches `pod`.

        `never` where a curve that does not rise is still possible: test more defects, over a wider range.
        """
        intercepts, slopes = self.boundary.T
        if slopes.min() <= 0:
            return DetectableSize(math.inf, "never")
        return self._sized(float(np.max((_logit(pod) - intercepts) / slopes)))

    @property
    def a50(self) -> DetectableSize:
        """Found half of the time."""
        return self.size_at(0.5)

    @property
    def a90(self) -> DetectableSize:
        """Found nine times in ten."""
        return self.size_at(0.9)

    @property
    def a90_95(self) -> DetectableSize:
        """Found nine times in ten, with the curve's confidence (the name is for 0.95)."""
        return self.sure_size_at(0.9)

    def _sized(self, x: float) -> DetectableSize:
        size = x if self.scale == "linear" else math.exp(x) if x < 700 else math.inf  # exp(710) overflows
        if size < self.smallest:
            return DetectableSize(size, "below_range")
        return DetectableSize(size, "found" if size <= self.largest else "above_range")


def fit_pod(
    sizes: ArrayLike,
    hits: ArrayLike,
    *,
    scale: Literal["log", "linear"] = "log",
    method: Literal["firth", "maximum likelihood"] = "firth",
    confidence: float = 0.95,
) -> PodCurve:
    """The probability-of-detection curve of defects of these sizes, `hits` True where one was found, each (n,).

    Sizes may have any unit; sizes asked of the curve have the same.

    Raises:
        CalibrationError: when there is no curve: all defects were found, or none, or all are of one size; or when
            maximum likelihood is asked for and a size parts all hits from all misses.

    >>> sizes_px = np.geomspace(1, 20, 80)
    >>> rng = np.random.default_rng(0)
    >>> curve = fit_pod(sizes_px, rng.random(80) < sizes_px**3 / (sizes_px**3 + 4**3))  # the true a90 is 8.3 px
    >>> curve.a90.status, round(curve.a90.size, 1), round(curve.a90_95.size, 1)
    ('found', 11.2, 19.4)
    """
    x = _abscissa(sizes, scale)
    if strange := int(np.count_nonzero(~np.isfinite(x))):
        raise CalibrationError(f"probability of detection: found {strange} sizes that are not finite; leave them out")
    found = np.asarray(hits, dtype=bool)
    _refuse_without_contrast(x, found)
    if not 0.5 < confidence < 1:
        raise SettingsError(f"confidence: found {confidence:g}; it must lie between 0.5 and 1, for example 0.95")
    centre, spread = float(x.mean()), float(x.std())
    design = np.stack([np.ones(x.size), (x - centre) / spread], axis=1)  # (n, 2), well conditioned
    firth = method == "firth"
    if not firth:
        _refuse_separation(x, found)
    best = _maximise(design, found, firth)
    edge = _trace(design, found, best, firth, NormalDist().inv_cdf(confidence) ** 2)
    unscaled = np.array([[1.0, 0.0], [-centre / spread, 1 / spread]])
    intercept, slope = best @ unscaled
    return PodCurve(
        intercept=float(intercept),
        slope=float(slope),
        scale=scale,
        method=method,
        confidence=confidence,
        n_hits=int(found.sum()),
        n_misses=int((~found).sum()),
        smallest=float(np.min(sizes)),
        largest=float(np.max(sizes)),
        boundary=edge @ unscaled,
    )


def _refuse_without_contrast(x: Floats, hits: NDArray[np.bool_]) -> None:
    if x.shape != hits.shape:
        raise CalibrationError(f"probability of detection: found {hits.size} hits for {x.size} sizes; give one each")
    if hits.all() or not hits.any():
        which, other = ("all", "smaller or fainter") if hits.any() else ("none", "larger or stronger")
        raise CalibrationError(
            f"probability of detection: {which} of the {hits.size} defects were found, so there is no curve; "
            f"add {other} ones"
        )
    if np.ptp(x) == 0:
        raise CalibrationError(
            "probability of detection: all defects are of one size, so there is no curve; add other sizes"
        )


def _refuse_separation(x: Floats, hits: NDArray[np.bool_]) -> None:
    if x[~hits].max() <= x[hits].min() or x[hits].max() <= x[~hits].min():
        raise CalibrationError(
            "probability of detection: one size parts the hits from the misses, so the likelihood has no maximum; "
            "add defects around that size, or use the method 'firth'"
        )


def _maximise(design: Floats, hits: NDArray[np.bool_], firth: bool) -> Floats:
    """Intercept and slope of the largest (penalised) likelihood, by Newton's method with halved steps."""
    parameters = np.zeros(2)
    value = _log_likelihood(parameters[None], design, hits, firth)[0]
    for _ in range(_NEWTON_STEPS):
        p = _expit(design @ parameters)
        weighted = design * (p * (1 - p))[:, None]
        information = design.T @ weighted
        residual = hits - p
        if firth:
            leverage = np.sum(weighted * np.linalg.solve(information, design.T).T, axis=1)
            residual = residual + leverage * (0.5 - p)
        step = np.linalg.solve(information, design.T @ residual)
        while (stepped := _log_likelihood((parameters + step)[None], design, hits, firth)[0]) < value - 1e-12:
            step = step / 2
        parameters, value = parameters + step, stepped
        if np.abs(step).max() < 1e-10:
            break
    return parameters


def _trace(design: Floats, hits: NDArray[np.bool_], best: Floats, firth: bool, drop: float) -> Floats:
    """Where, on each ray from the best parameters, twice the log-likelihood has fallen by `drop`: (m, 2)."""
    p = _expit(design @ best)
    information = design.T @ (design * (p * (1 - p))[:, None])
    angle = np.linspace(0, 2 * np.pi, _DIRECTIONS, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])  # (2, m)
    rays = np.linalg.solve(np.linalg.cholesky(information).T, circle).T  # even spacing where it is quadratic
    limit = _log_likelihood(best[None], design, hits, firth)[0] - drop / 2

    def inside(reach: Floats) -> NDArray[np.bool_]:
        return np.asarray(_log_likelihood(best + reach[:, None] * rays, design, hits, firth) > limit)

    low, high = np.zeros(_DIRECTIONS), np.full(_DIRECTIONS, 2 * math.sqrt(drop))
    while (short := inside(high)).any():
        high = np.where(short, 2 * high, high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        within = inside(middle)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    return np.asarray(best + high[:, None] * rays)


def _log_likelihood(parameters: Floats, design: Floats, hits: NDArray[np.bool_], firth: bool) -> Floats:
    """Of each row of parameters (m, 2); with Firth's penalty when asked."""
    logits = parameters @ design.T  # (m, n)
    value = np.sum(np.where(hits, logits, 0.0) - np.logaddexp(0.0, logits), axis=1)
    if not firth:
        return np.asarray(value)
    p = _expit(logits)
    weights = p * (1 - p)
    total, first, second = (weights @ design[:, 1] ** power for power in (0, 1, 2))
    return np.asarray(value + 0.5 * np.log(np.maximum(total * second - first**2, _SMALLEST_DETERMINANT)))


def _abscissa(sizes: ArrayLike, scale: Literal["log", "linear"]) -> Floats:
    values = np.asarray(sizes, dtype=np.float64)
    if scale == "linear":
        return values
    if values.size and values.min() <= 0:
        raise CalibrationError(
            f"probability of detection: found size {values.min():g}; the logarithm takes sizes above 0; "
            "leave it out or use the linear scale"
        )
    return np.log(values)


def _logit(probability: float) -> float:
    return math.log(probability) - math.log1p(-probability)


def _expit(logits: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(logits / 2)))
