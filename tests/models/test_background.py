"""Background: the order within an image and its largest value stay; what images are compared by is drawn together."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.inference.onnx_check import check_graph
from blemish.inference.runtime import graph_runtime
from blemish.inference.torch_runtime import TorchRuntime
from blemish.models.background import LEAST, MOST, Background, background_of
from blemish.models.detector import Detector, ImageShape
from blemish.training.onnx_graph import to_graph


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
    before, after = background_of(rough_and_smooth().flatten(1)) - 0.35, background_of(moved(share).flatten(1)) - 0.35
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


JUDGED = torch.zeros(16, 16, dtype=torch.bool)
JUDGED[2:14, 2:7] = True
"""Of places of 2 x 2 pixels those of the columns 1 and 2 in full, and half of those of column 3."""


def grounds() -> tuple[Tensor, Tensor]:
    """Logarithms of two maps of 8 x 8 places, the same where they are judged: one blank beside that, one wild."""
    blank = rough_and_smooth()
    blank[:, 0], blank[:, 7], blank[:, :, 0], blank[:, :, 4:] = -5.0, -5.0, -5.0, -5.0
    wild = torch.where(blank == -5.0, 9.0, blank)
    return blank, wild


def pixels(logs: Tensor) -> Tensor:
    return logs.exp().repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)


def of_region(judged: Tensor = JUDGED) -> Background:
    background = Background(0.5)
    background.look_only_at(judged, (8, 8))
    return background


def test_only_what_is_judged_counts_and_its_largest_value_stays() -> None:
    blank, wild = grounds()
    first, second = of_region(), of_region()
    first.fit(blank)
    second.fit(wild)
    assert torch.equal(first.usual, second.usual)
    power = first.power(blank, blank)
    assert torch.equal(power, second.power(wild, wild))
    assert (power - 1).abs().min() > 1e-3
    moved = first(pixels(wild), power)
    assert torch.equal((moved * JUDGED).amax(dim=(1, 2)), (pixels(wild) * JUDGED).amax(dim=(1, 2)))
    assert torch.equal(moved * JUDGED, first(pixels(blank), power) * JUDGED)
    assert not torch.equal(power, Background(0.5).power(blank, blank))


def test_in_a_region_smaller_than_a_place_the_nearest_one_counts() -> None:
    judged = torch.zeros(16, 16, dtype=torch.bool)
    judged[5, 6] = True
    assert of_region(judged).places.tolist() == [8 * 2 + 3]
    assert of_region(JUDGED).places.tolist() == [8 * row + column for row in range(1, 7) for column in (1, 2, 3)]


def test_one_good_image_has_no_other_and_moves_nothing() -> None:
    background, logs = Background(0.5), rough_and_smooth()
    background.fit(torch.zeros(1, 8, 8))
    assert torch.equal(background.power(logs, logs), torch.ones(2))
    torch.testing.assert_close(background(logs.exp(), torch.ones(2)), logs.exp())


def test_earlier_files_keep_the_usual_background_alone_and_look_everywhere() -> None:
    earlier = Background(0.5, only_judged=False)
    earlier.look_only_at(JUDGED, (8, 8))
    assert list(earlier.state_dict()) == ["usual"]
    logs = rough_and_smooth()
    assert torch.equal(earlier.power(logs, logs), Background(0.5).power(logs, logs))


class Means(Detector):
    """The mean of the channels is the map, and blocks of it are the places."""

    def __init__(self, background: Background) -> None:
        super().__init__(ImageShape(3, 16, 16))
        self.background = background

    def fit(self, batches: Any, optimise: Any) -> None:
        """Nothing."""

    def forward(self, images: Tensor) -> Tensor:
        maps = images.mean(dim=1) + 0.01
        logs = F.avg_pool2d(maps[:, None], 2)[:, 0].log()
        return self.background(maps, self.background.power(logs, logs))


@pytest.mark.slow
def test_its_graph_draws_backgrounds_as_it_does() -> None:
    background = of_region()
    background.fit(torch.randn(3, 8, 8) - 1)
    detector = Means(background)
    images = torch.rand(5, 3, 16, 16).numpy()
    wanted = TorchRuntime(detector).maps(images)
    assert np.abs(wanted - images.mean(axis=1) - 0.01).max() > 0.05
    graph = to_graph(detector, 18)
    check_graph(graph)  # nothing in it that is refused in a model file
    np.testing.assert_allclose(graph_runtime(graph).maps(images), wanted, rtol=1e-5)
