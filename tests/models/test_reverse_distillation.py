"""ReverseDistillation: its loss and map by hand, and that its parts are what the paper says of them."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from blemish.errors import SettingsError
from blemish.models.detector import ImageShape
from blemish.models.feature_maps import cosine_distance
from blemish.models.reverse_distillation import (
    Residual,
    ReverseDistillation,
    ReverseDistillationSettings,
    Student,
    doublings,
)

SHAPE = ImageShape(3, 64, 96)
SMALL = ReverseDistillationSettings(width=4, smoothing_sigma_px=0.0)


def detector() -> ReverseDistillation:
    torch.manual_seed(0)
    return ReverseDistillation(SMALL, SHAPE).eval()


def test_distance_is_that_of_plain_loops() -> None:
    x, y = torch.randn(2, 2, 5, 3, 4, dtype=torch.float64)
    for b, i, j in np.ndindex(2, 3, 4):
        u, v = x[b, :, i, j], y[b, :, i, j]
        cosine = float(sum(u * v)) / math.sqrt(float(sum(u * u)) * float(sum(v * v)))
        assert cosine_distance(x, y)[b, i, j].item() == pytest.approx(1 - cosine, abs=1e-6)


def test_the_loss_is_the_mean_over_places_and_the_sum_over_scales() -> None:
    made, images = detector(), torch.rand(2, *SHAPE)
    maps = made.encoder(images)
    by_hand = sum(cosine_distance(seen, given).mean() for seen, given in zip(maps, made.student(maps), strict=True))
    torch.testing.assert_close(made.distances_loss(made.pack(images)), by_hand)


def test_packing_loses_nothing() -> None:
    made, images = detector(), torch.rand(1, *SHAPE)
    for packed, seen in zip(made.unpack(made.pack(images)), made.encoder(images), strict=True):
        assert torch.equal(packed, seen)


def test_the_map_is_the_sum_of_interpolated_distances() -> None:
    made, images = detector(), torch.rand(2, *SHAPE)
    with torch.no_grad():
        parts = made.distances(made.encoder(images))
        by_hand = sum(F.interpolate(part[:, None], (64, 96), mode="bilinear")[:, 0] for part in parts)
        torch.testing.assert_close(made(images), by_hand, rtol=1e-4, atol=1e-5)


def test_everything_passes_through_one_narrow_grid() -> None:
    student = Student((24, 40, 112), (1, 1), SMALL).eval()
    sizes: list[torch.Size] = []
    student.embed.register_forward_hook(lambda _module, _given, made: sizes.append(made.shape))
    student([torch.rand(1, 24, 16, 24), torch.rand(1, 40, 8, 12), torch.rand(1, 112, 4, 6)])
    assert sizes == [torch.Size([1, 32, 2, 3])]  # half the coarsest grid: 192 numbers for 15,456


def test_a_finer_scale_is_made_from_the_coarser_alone() -> None:
    """The decoder has no shortcut from the encoder: with the embedding held still, its maps do not change."""
    student = Student((24, 40, 112), (1, 1), SMALL).eval()
    held = torch.rand(1, 32, 2, 3)
    student.embed.register_forward_hook(lambda *_: held)
    with torch.no_grad():
        one, other = (
            student([torch.rand(1, 24, 16, 24), torch.rand(1, 40, 8, 12), torch.rand(1, 112, 4, 6)]) for _ in range(2)
        )
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_residual_block_is_two_convolutions_beside_a_shortcut() -> None:
    block, x = Residual(6, 6).eval(), torch.randn(2, 6, 5, 7)
    first, norm, _, second, last = block.inner
    with torch.no_grad():
        torch.testing.assert_close(block(x), F.relu(last(second(F.relu(norm(first(x))))) + x))


@pytest.mark.parametrize(("strides", "wanted"), [((4, 8, 16), [1, 1]), ((4, 16), [2]), ((14, 14, 14), [0, 0])])
def test_strides_of_convolutional_networks_and_of_tokens(strides: tuple[int, ...], wanted: list[int]) -> None:
    assert doublings(strides) == wanted
    maps = [torch.rand(1, 8, 64 // stride, 64 // stride) for stride in strides if 64 % stride == 0]
    if len(maps) == len(strides):
        given = Student([8] * len(maps), wanted, SMALL).eval()(maps)
        assert [one.shape for one in given] == [one.shape for one in maps]


def test_other_strides_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"model\.encoder: strides 4, 12"):
        doublings((4, 12))
