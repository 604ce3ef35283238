"""Excess: it lifts what good images never reach above their maps, at a peak, and leaves everything else."""

import math

import pytest
import torch
from torch import Tensor

from blemish.models.excess import MOST, STEEPNESS, Excess
from blemish.models.patch_bank import Draw

GRID, FINE = (4, 6), (16, 24)


def good_maps(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 5, *GRID, generator=torch.Generator().manual_seed(seed))


def fit(maps: Tensor, power: float = 1.0) -> Excess:
    excess, drawn = Excess(5, GRID, FINE, sigma=0.5, power=power), Draw(1000)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn.add(maps, torch.zeros(maps[:, 0].numel()), first=0, images=len(maps))
        excess.fit(drawn, maps.split(1))
    excess.take_end(torch.tensor([0.2, 0.3, 0.4]))
    return excess.eval()


@pytest.fixture(scope="module")
def fitted() -> Excess:
    return fit(good_maps(8))


def odd_at(row: int, column: int, by: float) -> Tensor:
    maps = good_maps(1, seed=1)
    maps[0, :, row, column] += by
    return maps


@torch.no_grad()
def test_the_map_of_an_image_within_the_limit_stays(fitted: Excess) -> None:
    maps, logs = good_maps(1, seed=1), torch.randn(1, *FINE, generator=torch.Generator().manual_seed(2))
    assert fitted.distances(maps).max() < fitted.limit
    assert torch.equal(fitted(maps, logs), logs)


@torch.no_grad()
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_peak_is_lifted_to_where_good_maps_end_and_by_the_excess(power: float) -> None:
    excess, maps = fit(good_maps(8), power), odd_at(1, 4, by=20)
    logs = torch.zeros(1, *FINE)
    logs[0, 6, 18] = 0.2
    beyond = excess.distances(maps)[0] - excess.limit
    assert excess.end == pytest.approx(0.4)
    assert 0.2 < beyond[6, 18] < MOST
    found = excess(maps, logs)[0]
    assert found[6, 18] == pytest.approx(0.4 + power * beyond[6, 18].item())
    assert found[6, 19] == pytest.approx((0.4 + power * beyond[6, 19].item()) * math.exp(-8 * 0.2))  # beside the peak
    assert found[6, 6] == 0


@torch.no_grad()
def test_a_peak_that_is_higher_stays(fitted: Excess) -> None:
    logs = torch.full((1, *FINE), 5.0)
    assert torch.equal(fitted(odd_at(1, 4, by=20), logs), logs)


@torch.no_grad()
def test_the_lift_begins_without_a_jump_and_ends_at_tenfold(fitted: Excess) -> None:
    logs, limit = torch.zeros(1, *FINE), fitted.limit
    maps = odd_at(1, 4, by=20)
    fitted.limit = fitted.distances(maps).max() - 0.01
    try:
        assert fitted(maps, logs).max() == pytest.approx(STEEPNESS * 0.01, rel=1e-3)
    finally:
        fitted.limit = limit
    assert fitted(odd_at(1, 4, by=1e6), logs).max() == pytest.approx(MOST)


@torch.no_grad()
def test_no_image_is_compared_with_rows_of_its_own(fitted: Excess) -> None:
    alone = good_maps(8)
    alone[3] += 50  # in the bank with it, odd to all others
    excess = fit(alone)
    assert excess.distances(alone[3:4]).max() < fitted.limit + 0.5  # by its own rows
    assert excess.limit > fitted.limit + 1


@torch.no_grad()
def test_of_a_single_good_image_nothing_is_known_and_nothing_lifted() -> None:
    logs = torch.zeros(1, *FINE)
    assert torch.equal(fit(good_maps(1))(odd_at(1, 4, by=20), logs), logs)
