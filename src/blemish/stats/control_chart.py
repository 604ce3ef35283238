"""Has the share of rejects changed from hour to hour by more than it always does? Laney's p'-chart.

A p-chart expects that shares spread as those of independent parts with one rate (binomially). With large subgroups
they seldom do: lots, shifts and lamps differ, and nearly every point lies outside. Laney (2002, "Improved control
charts for attributes", Quality Engineering 14, 531-537) widens the limits by how much neighbouring points differ beyond
that, and narrows them where they differ by less.
"""

from collections.abc import Sequence
from typing import NamedTuple, final

import numpy as np

from blemish.errors import SettingsError

MOVING_RANGE = 1.128
"""Mean range of two normal numbers with standard deviation 1."""

WIDTH = 3.0
"""Limits lie so many standard deviations from the centre."""


@final
class ControlPoint(NamedTuple):
    """One subgroup, such as an hour: its share, and its limits in [0, 1]."""

    share: float
    low: float
    high: float

    @property
    def is_outside(self) -> bool:
        """Whether something has changed, most likely."""
        return not self.low <= self.share <= self.high


@final
class ControlChart(NamedTuple):
    """A p'-chart."""

    centre: float
    """The share over all subgroups."""
    sigma_z: float
    """How much further neighbouring shares lie from each other than binomial ones would: 1 on a p-chart."""
    points: list[ControlPoint]


def laney_p_chart(hits: Sequence[int], of: Sequence[int]) -> ControlChart | None:
    """Laney's p'-chart of `hits` among `of` parts, one subgroup after the other; None with fewer than two.

    z_i = (p_i - p) / s_i with s_i = sqrt(p (1 - p) / n_i); sigma_z is the mean of |z_i - z_(i-1)| / 1.128, and the
    limits are p -+ 3 s_i sigma_z. Where all parts are hits, or none, there is no spread, and all limits are p.

    Raises:
        SettingsError: a subgroup without parts, or with more hits than parts.

    >>> chart = laney_p_chart([12, 15, 8, 10], [50, 50, 50, 50])
    >>> round(chart.centre, 3), round(chart.sigma_z, 3), chart.points[0].share
    (0.225, 1.201, 0.24)
    """
    if len(hits) != len(of) or any(not 0 <= hit <= n or n < 1 for hit, n in zip(hits, of, strict=False)):
        raise SettingsError("control chart: expected subgroups of at least one part, with no more hits than parts")
    if len(of) < 2:
        return None
    centre = sum(hits) / sum(of)
    n, shares = np.asarray(of, np.float64), np.asarray(hits, np.float64) / np.asarray(of, np.float64)
    spread = np.sqrt(centre * (1.0 - centre) / n)
    z = (shares - centre) / spread if 0.0 < centre < 1.0 else np.zeros(len(n))
    sigma_z = float(np.abs(np.diff(z)).mean()) / MOVING_RANGE
    reach = WIDTH * sigma_z * spread
    points = [
        ControlPoint(float(share), max(0.0, centre - far), min(1.0, centre + far))
        for share, far in zip(shares.tolist(), reach.tolist(), strict=True)
    ]
    return ControlChart(centre, sigma_z, points)
