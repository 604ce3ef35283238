"""The layers against torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.models.blocks import TransposedConv2d

SHAPES = [(5, 3, (2, 3), 1, 0), (4, 6, 3, 1, 1), (4, 3, 4, 2, 1)]
"""Channels in and out, kernel, stride, padding: the three kinds of rows there are."""


def layer_and_input(ci: int, co: int, kernel: int, stride: int, padding: int) -> tuple[TransposedConv2d, Tensor]:
    generator = torch.Generator().manual_seed(0)
    layer = TransposedConv2d(ci, co, kernel, stride, padding).double()
    return layer, torch.randn(2, ci, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_transposed_convolution_has_the_right_gradients(shape: tuple[int, int, int, int, int]) -> None:
    layer, x = layer_and_input(*shape)

    def function(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(function, (x, layer.weight, layer.bias))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES)
def test_transposed_convolution_equals_torchs(
    shape: tuple[int, int, int, int, int], layout: torch.memory_format
) -> None:
    layer, x = layer_and_input(*shape)
    layer, x = layer.to(memory_format=layout), x.to(memory_format=layout)
    ours = layer(x)
    theirs = F.conv_transpose2d(x, layer.weight, layer.bias, layer.stride, layer.padding)
    torch.testing.assert_close(ours, theirs)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), theirs)
    direction = torch.cos(torch.arange(ours.numel(), dtype=torch.float64)).reshape(ours.shape)
    inputs = (x, layer.weight, layer.bias)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(theirs, inputs, direction), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_transposed_convolution_obeys_autocast() -> None:
    layer = TransposedConv2d(4, 3, 4, 2, 1)
    x = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        ours = layer(x)
        theirs = F.conv_transpose2d(x, layer.weight, layer.bias, 2, 1)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, theirs)
    ours.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype == torch.float32
