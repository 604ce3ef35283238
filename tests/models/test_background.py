"""Background: the order within an image and its largest value stay; what images are compared by is drawn together."""

import pytest
import torch
from torch import Tensor

from blemish.models.background import LEAST, MOST, Background, background_of


def rough_and_smooth() -> Tensor:
    """Logarithms of two maps of 8 x 8 places: the same defect on a rough ground and on a smooth one."""
    ground = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    logs = 0.3 * ground + torch.tensor([0.4, 0.0])[:, None, None]
    logs[:, 3:5, 3:5] = torch.tensor([2.0, 1.5])[:, None, None]
    return logs


def moved(share: float, usual: float = 0.35) -> Tensor:
    background, logs = Background(share), rough_and_smooth()
    background.fit(torch.full((3, 8, 8), usual))
    return background(logs.exp(), background.power(logs, logs)).log()


def test_the_largest_value_and_the_order_of_the_others_stay() -> None:
    logs, found = rough_and_smooth(), moved(0.5)
    assert torch.equal(found.exp().amax(dim=(1, 2)), logs.exp().amax(dim=(1, 2)))
    assert torch.equal(found.flatten(1).argsort(dim=1, stable=True), logs.flatten(1).argsort(dim=1, stable=True))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_backgrounds_come_as_much_nearer_as_the_share_says(share: float) -> None:
    before, after = background_of(rough_and_smooth()) - 0.35, background_of(moved(share)) - 0.35
    torch.testing.assert_close(after, (1 - share) * before)


def test_one_threshold_then_marks_both_defects_alone() -> None:
    logs = rough_and_smooth()
    logs[1, 3:5, 3:5] = 0.6
    defect = torch.zeros(2, 8, 8, dtype=torch.bool)
    defect[:, 3:5, 3:5] = True
    assert logs[defect].min() < logs[~defect].max()
    background = Background(1.0)
    background.fit(torch.full((3, 8, 8), 0.3))
    found = background(logs.exp(), background.power(logs, logs))
    assert found[defect].min() > found[~defect].max()


def test_an_even_map_and_one_far_from_usual_move_within_bounds() -> None:
    background, logs = Background(1.0), torch.stack([torch.zeros(8, 8), torch.full((8, 8), -9.0)])
    logs[1, 0, 0] = 0.0
    background.fit(torch.full((3, 8, 8), 5.0))
    torch.testing.assert_close(background.power(logs, logs), torch.full((2,), LEAST))
    background.fit(torch.full((3, 8, 8), -50.0))
    torch.testing.assert_close(background.power(logs, logs), torch.full((2,), MOST))
    assert torch.isfinite(background(logs.exp(), background.power(logs, logs))).all()
