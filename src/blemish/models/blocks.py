"""Stacks of (transposed) convolutions, built from tables."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_weight

from blemish.models.detector import ImageShape

Row = tuple[int, int, int]
"""One row of a table of layers: channels, kernel in pixels, stride. Its input channels are those of the row before.

Padding is 1, so a kernel of 4 with stride 2 halves (or, transposed, doubles) each side, and a kernel of 3 with
stride 1 keeps it.
"""


@final
class Finish(NamedTuple):
    """What follows each convolution of a stack: BatchNorm, where asked for, and LeakyReLU."""

    batch_norm: bool
    slope: float


def grid_of(shape: ImageShape, rows: Sequence[Row]) -> tuple[int, int]:
    """Height and width that is left of an image after `rows`.

    >>> grid_of(ImageShape(channels=3, height=256, width=128), [(8, 4, 2), (8, 3, 1), (8, 4, 2)])
    (64, 32)
    """
    shrink = math.prod(stride for _, _, stride in rows)
    return shape.height // shrink, shape.width // shrink


def convolutions(channels: int, rows: Sequence[Row], finish: Finish) -> list[nn.Module]:
    """The layers of a table, each row finished."""
    layers: list[nn.Module] = []
    for channels_out, kernel_px, stride in rows:
        layers += [nn.Conv2d(channels, channels_out, kernel_px, stride, padding=1)]
        layers += finishing(channels_out, finish)
        channels = channels_out
    return layers


def encoder(channels: int, rows: Sequence[Row], latent: int, grid: tuple[int, int], finish: Finish) -> nn.Sequential:
    """Images -> latents `(b, latent, 1, 1)`: the rows, then one convolution as large as the `grid` they leave.

    Its output keeps the BatchNorm of the finish but not the LeakyReLU.
    """
    last = nn.Conv2d(rows[-1][0], latent, grid)
    return nn.Sequential(*convolutions(channels, rows, finish), last, *finishing(latent, finish)[:-1])


def decoder(latent: int, rows: Sequence[Row], grid: tuple[int, int], finish: Finish, last: nn.Module) -> nn.Sequential:
    """Latents `(b, latent, 1, 1)` -> images: the first row opens the latent to the `grid`, the others follow.

    The last row is finished by `last` alone.
    """
    layers: list[nn.Module] = [TransposedConv2d(latent, rows[0][0], grid)]
    for (channels, _, _), (channels_out, kernel_px, stride) in pairwise(rows):
        layers += finishing(channels, finish)
        layers += [TransposedConv2d(channels, channels_out, kernel_px, stride, padding=1)]
    return nn.Sequential(*layers, last)


def finishing(channels: int, finish: Finish) -> list[nn.Module]:
    """The layers that follow a convolution.

    BatchNorm has momentum 0.1 and eps 1e-6. Source: Fadaeinejad, section 4.

    >>> len(finishing(8, Finish(batch_norm=True, slope=0.01)))
    2
    """
    activation = nn.LeakyReLU(finish.slope)
    return [nn.BatchNorm2d(channels, eps=1e-6, momentum=0.1), activation] if finish.batch_norm else [activation]


@final
class TransposedConv2d(nn.ConvTranspose2d):
    """torch's own layer, whose gradients take half the time on a processor without GPU.

    torch hands the gradients to kernels that are made for transposed convolutions, and slow. They are plain
    convolutions themselves: the input's is one of the output's gradient, the weight's is that of a convolution
    whose input and output have changed places.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """As torch's."""
        if self.bias is None or input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input, output_size)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
        tensors = (tensor.to(dtype) for tensor in (input, self.weight, self.bias))
        output: Tensor = _TransposedConvolution.apply(*tensors, self.stride, self.padding)  # type: ignore[no-untyped-call]
        return output


class _TransposedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, stride: Any, padding: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv_transpose2d(x, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x = F.conv2d(gradient, weight, None, ctx.stride, ctx.padding)
        of_weight = conv2d_weight(gradient, weight.shape, x, ctx.stride, ctx.padding)  # type: ignore[no-untyped-call]
        return of_x, of_weight, gradient.sum((0, 2, 3)), None, None
