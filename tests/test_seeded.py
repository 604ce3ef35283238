"""The tests' own generators: what a test draws without a seed of its own is the same in every run."""

import random

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("time", range(2))
def test_every_test_draws_the_same(time: int) -> None:
    assert torch.rand(1).item() == pytest.approx(0.49625658988952637)
    assert torch.initial_seed() == 0
    del time


@pytest.fixture(scope="module")
def drawn() -> tuple[float, float]:
    return random.random(), float(np.random.random())  # noqa: NPY002


def test_fixtures_draw_the_same_whoever_asks_first(drawn: tuple[float, float]) -> None:
    assert drawn == (0.8444218515250481, 0.5488135039273248)
