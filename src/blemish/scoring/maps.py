"""From an image and its good counterpart to an anomaly map."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

SSIM_SIGMA_PX = 1.5
SSIM_RADIUS_PX = 5
"""A window of 11 x 11 pixels, after Wang et al. 2004."""

SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
"""The constants (K1 L)^2 and (K2 L)^2 of Wang et al. 2004, for images in [0, 1]."""


def max_over_channels(
    images: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b h w"]:
    """Absolute difference, of which each pixel keeps its worst channel.

    Source: Fadaeinejad, "Anomaly Detection in Images using Deep Encoder-Decoder Models", Algorithm 1.

    >>> image = torch.tensor([0.5, 0.25, 0.0]).reshape(1, 3, 1, 1)
    >>> max_over_channels(image, torch.zeros(1, 3, 1, 1))
    tensor([[[0.5000]]])
    """
    return (images - reconstructions).abs().amax(dim=1)


def gaussian_blur(maps: Float[Tensor, "b h w"], sigma_px: float) -> Float[Tensor, "b h w"]:
    """Weighted mean of each pixel's neighbourhood; sigma 0 leaves the maps as they are.

    Beyond its border a map goes on as its mirror image, the border pixel twice (`c b a | a b c d | d c b`), so
    that a constant map stays constant. The weights end at 4 sigma. As `scipy.ndimage.gaussian_filter` with its
    default `mode="reflect"`; sides smaller than the window are fine.

    >>> gaussian_blur(torch.tensor([[[0.0, 0.0, 1.0, 0.0, 0.0]]]), sigma_px=1.0)
    tensor([[[0.0584, 0.2421, 0.3989, 0.2421, 0.0584]]])
    """
    if sigma_px == 0:
        return maps
    return _blur(maps.unsqueeze(1), sigma_px, radius_px=math.floor(4 * sigma_px + 0.5)).squeeze(1)


def ssim_map(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Structural similarity of two images in [0, 1] around each pixel: 1 where they agree, never below -1.

    Gaussian window of 11 x 11 pixels, sigma 1.5, mirrored at the border. Source: Wang et al. 2004, eq. (13).

    >>> x = torch.linspace(0, 1, 256).reshape(1, 1, 16, 16)
    >>> ssim_map(x, x).min()
    tensor(1.)
    """
    return 1 - ssim_residual(x, y)


def ssim_residual(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """One minus the structural similarity, without the rounding that would make it negative.

    With a = (mean x - mean y)^2 / (mean x^2 + mean y^2 + C1) and b = var(x - y) / (var x + var y + C2), both
    >= 0, the similarity is (1 - a)(1 - b), so the residual is a + b (1 - a).

    >>> x = torch.zeros(1, 1, 16, 16)
    >>> ssim_residual(x, x + 1)[0, 0, 8, 8]  # 1 / (1 + C1)
    tensor(0.9999)
    """
    window = torch.stack((x, y, x**2 + y**2, (x - y) ** 2)).flatten(0, 2).unsqueeze(1)  # (4 b c, 1, h, w)
    blurred = _blur(window, SSIM_SIGMA_PX, SSIM_RADIUS_PX).reshape(4, *x.shape)
    mean_x, mean_y, mean_squares, mean_squared_difference = blurred.unbind()
    means = mean_x**2 + mean_y**2
    difference = (mean_x - mean_y) ** 2
    a = difference / (means + SSIM_C1)
    b = F.relu(mean_squared_difference - difference) / (F.relu(mean_squares - means) + SSIM_C2)
    return a + b * (1 - a)


def _blur(x: Float[Tensor, "n 1 h w"], sigma_px: float, radius_px: int) -> Float[Tensor, "n 1 h w"]:
    offsets = torch.arange(-radius_px, radius_px + 1, dtype=x.dtype, device=x.device)
    weights = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights = weights / weights.sum()
    rows = _mirrored(x.shape[2], radius_px, x.device)
    columns = _mirrored(x.shape[3], radius_px, x.device)
    x = F.conv2d(x.index_select(2, rows), weights.reshape(1, 1, -1, 1))
    return F.conv2d(x.index_select(3, columns), weights.reshape(1, 1, 1, -1))


def _mirrored(side: int, radius: int, device: torch.device) -> Int[Tensor, " padded"]:
    # torch's own "reflect" leaves the border pixel out and refuses a radius beyond the side.
    index = torch.arange(-radius, side + radius, device=device) % (2 * side)
    return torch.minimum(index, 2 * side - 1 - index)
