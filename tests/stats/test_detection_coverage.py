"""a90/95 keeps its 95 % over studies whose truth is known."""

import numpy as np
import pytest

from reference.chance import fewest_of
from reference.detection import covered

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("n", "half_size", "slope"),
    [(60, 6.0, 3.0), (200, 6.0, 3.0), (60, 2.0, 3.0), (60, 15.0, 3.0), (60, 6.0, 8.0), (60, 6.0, 1.5), (30, 6.0, 3.0)],
)
def test_a90_95_is_not_below_the_true_a90_in_95_of_100_studies(n: int, half_size: float, slope: float) -> None:
    studies = 800
    coverage = covered(n, half_size, slope, studies, np.random.default_rng(n))
    assert coverage >= fewest_of(studies, 0.95)
