"""What training brings down: one number a batch, always in float32."""

import torch
from jaxtyping import Float
from torch import Tensor

from blemish.scoring.maps import ssim_residual


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
