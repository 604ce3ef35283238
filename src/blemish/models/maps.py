"""Differences of images as anomaly maps, their blurring, and the same differences as losses."""

import math
from typing import Annotated, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

SigmaPx = Annotated[float, Field(ge=0.0, le=64.0, description="Blur the anomaly map by this much. 0: not at all.")]
"""The setting of all detectors."""

ROWS_AT_ONCE = 32
"""Rows, or columns, of a reduced image that are made at a time: they see but a band of the image's."""

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
    return _blur(maps, sigma_px, radius_px=math.floor(4 * sigma_px + 0.5))


def upsample_and_blur(maps: Float[Tensor, "b i j"], height: int, width: int, sigma_px: float) -> Float[Tensor, "b h w"]:
    """A coarse map interpolated to this size and then blurred, as one product from either side.

    >>> maps = torch.rand(2, 4, 6)
    >>> slowly = gaussian_blur(F.interpolate(maps[:, None], size=(16, 24), mode="bilinear")[:, 0], sigma_px=2.0)
    >>> torch.allclose(upsample_and_blur(maps, 16, 24, sigma_px=2.0), slowly, atol=1e-6)
    True
    """
    rows = _enlarging(maps.shape[1], height, sigma_px, maps.device)
    columns = _enlarging(maps.shape[2], width, sigma_px, maps.device)
    return rows @ maps.float() @ columns.T


@final
class Enlarge(nn.Module):
    """`upsample_and_blur` from one grid to one size: a graph then holds the two matrices, not how they are made.

    >>> maps = torch.rand(2, 4, 6)
    >>> torch.equal(Enlarge((4, 6), (16, 24), sigma_px=2.0)(maps), upsample_and_blur(maps, 16, 24, sigma_px=2.0))
    True
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, grid: tuple[int, int], size_px: tuple[int, int], sigma_px: float) -> None:
        super().__init__()
        for name, side, side_px in zip(("rows", "columns"), grid, size_px, strict=True):
            self.register_buffer(name, _enlarging(side, side_px, sigma_px, torch.device("cpu")), persistent=False)

    def forward(self, maps: Float[Tensor, "b i j"]) -> Float[Tensor, "b h w"]:
        return self.rows @ maps.float() @ self.columns.T


@final
class Reduce(nn.Module):
    """Pillow's bilinear reduction of images from one size to another, band by band: most of `reducing` is zeros.

    >>> Reduce((4, 4), (2, 2))(torch.ones(1, 3, 4, 4)).shape
    torch.Size([1, 3, 2, 2])
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, size_px: tuple[int, int], small_px: tuple[int, int]) -> None:
        super().__init__()
        for name, side_px, small in zip(("rows", "columns"), size_px, small_px, strict=True):
            self.register_buffer(name, reducing(side_px, small), persistent=False)
        self.row_bands, self.column_bands = (_bands(*sides) for sides in zip(size_px, small_px, strict=True))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c i j"]:
        rows = [self.rows[to, seen] @ images[:, :, seen] for to, seen in self.row_bands]
        shorter = torch.cat(rows, dim=2)
        columns = [shorter[..., seen] @ self.columns[to, seen].mT for to, seen in self.column_bands]
        return torch.cat(columns, dim=3)


def _bands(side_px: int, small_px: int) -> list[tuple[slice, slice]]:
    """Places of a reduced side, `ROWS_AT_ONCE` at a time, and all places of the side that they are made of."""
    factor, found = side_px / small_px, []
    for start in range(0, small_px, ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, small_px)
        first, last = math.floor((start - 0.5) * factor), math.ceil((stop + 0.5) * factor)
        found.append((slice(start, stop), slice(max(0, first), min(side_px, last))))
    return found


def reducing(side_px: int, small_px: int) -> Float[Tensor, "small side"]:
    """Pillow's bilinear reduction of one side as a matrix: `reducing(h, i) @ images @ reducing(w, j).mT`.

    >>> reducing(4, 2)
    tensor([[0.4286, 0.4286, 0.1429, 0.0000],
            [0.0000, 0.1429, 0.4286, 0.4286]])
    """
    size, places = (small_px, side_px), torch.zeros(side_px, side_px).fill_diagonal_(1.0)
    if places.is_meta:  # its shape is all that matters, for which torch would import sympy
        return places.new_empty(size)
    return F.interpolate(places[None, None], size, mode="bilinear", antialias=True)[0, 0]


def _enlarging(side: int, side_px: int, sigma_px: float, device: torch.device) -> Float[Tensor, "pixels places"]:
    places = torch.eye(side, device=device)[None]
    pixels = F.interpolate(places, size=side_px, mode="linear")[0].T
    if sigma_px == 0:
        return pixels
    return _band(side_px, sigma_px, math.floor(4 * sigma_px + 0.5), device) @ pixels


def ssim_residual(x: Float[Tensor, "b c h w"], y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """One minus the structural similarity of two images in [0, 1] around each pixel: 0 where they agree, 2 at most.

    Gaussian window of 11 x 11 pixels, sigma 1.5, mirrored at the border. Source: Wang et al. 2004, eq. (13), without
    the rounding that would make the residual negative: with a = (mean x - mean y)^2 / (mean x^2 + mean y^2 + C1) and
    b = var(x - y) / (var x + var y + C2), both >= 0, the similarity is (1 - a)(1 - b),
    so the residual is a + b (1 - a).

    >>> x = torch.zeros(1, 1, 16, 16)
    >>> ssim_residual(x, x + 1)[0, 0, 8, 8]  # 1 / (1 + C1)
    tensor(0.9999)
    """
    moments = torch.stack((x, y, x**2 + y**2, (x - y) ** 2))  # (4, b, c, h, w)
    mean_x, mean_y, mean_squares, mean_squared_difference = _blur(moments, SSIM_SIGMA_PX, SSIM_RADIUS_PX).unbind()
    means = mean_x**2 + mean_y**2
    difference = (mean_x - mean_y) ** 2
    a = difference / (means + SSIM_C1)
    b = F.relu(mean_squared_difference - difference) / (F.relu(mean_squares - means) + SSIM_C2)
    return a + b * (1 - a)


def _blur(x: Float[Tensor, "*n h w"], sigma_px: float, radius_px: int) -> Float[Tensor, "*n h w"]:
    # Two products with banded matrices: for few channels a convolution is slower, up to 1024 pixels and more.
    height, width = x.shape[-2:]
    with torch.autocast(x.device.type, enabled=False):  # SSIM's variances are lost in bfloat16
        x = x if x.dtype == torch.float64 else x.float()
        rows = _band(height, sigma_px, radius_px, x.device).to(x.dtype)
        columns = _band(width, sigma_px, radius_px, x.device).to(x.dtype)
        blurred: Tensor = rows @ x @ columns.T
    return blurred


def _band(side: int, sigma_px: float, radius_px: int, device: torch.device) -> Float[Tensor, "side side"]:
    """Row i holds the weights that pixel i gives to each pixel, those beyond the border mirrored back inside."""
    offsets = torch.arange(-radius_px, radius_px + 1, device=device)
    weights = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    places = (torch.arange(side, device=device).unsqueeze(1) + offsets) % (2 * side)  # (side, window)
    inside = torch.minimum(places, 2 * side - 1 - places)
    shares = (weights / weights.sum()).expand(side, -1)
    return torch.zeros(side, side, device=device).scatter_add(1, inside, shares)


def mean_l2_norm(images: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]) -> Float[Tensor, ""]:
    """Mean over images of the L2 norm, not its square, of the difference.

    Source: Fadaeinejad, equation (5).

    >>> images = torch.zeros(2, 1, 1, 2)
    >>> mean_l2_norm(images, torch.tensor([[3.0, 4.0], [0.0, 1.0]]).reshape(2, 1, 1, 2))  # (5 + 1) / 2
    tensor(3.)
    """
    norms: Tensor = torch.linalg.vector_norm(images - reconstructions.float(), dim=(1, 2, 3))  # (b,)
    return norms.mean()


def mean_squared_error(
    images: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Mean over images, channels and pixels of the squared difference: Bergmann et al. 2018, eq. (2), a pixel.

    >>> mean_squared_error(torch.zeros(1, 1, 1, 2), torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2))
    tensor(5.)
    """
    return (reconstructions.float() - images).square().mean()


def mean_ssim_residual(
    images: Float[Tensor, "b c h w"], reconstructions: Float[Tensor, "b c h w"]
) -> Float[Tensor, ""]:
    """Mean over images, channels and pixels of one minus the structural similarity (Bergmann et al. 2018).

    >>> mean_ssim_residual(torch.ones(1, 1, 16, 16), torch.ones(1, 1, 16, 16))
    tensor(0.)
    """
    return ssim_residual(images, reconstructions.float()).mean()
