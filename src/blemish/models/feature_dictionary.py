"""FeatureDictionary: the distance of each patch to the nearest centres of clusters of good patches."""

from typing import Annotated, ClassVar, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from blemish.models.detector import Batches, Detector, ImageShape, Optimise, identities
from blemish.models.encoders import FrozenEncoder
from blemish.models.feature_maps import (
    PATCH_DEFAULTS,
    FeatureBatches,
    PatchSettings,
    as_vectors,
    concat_scales,
    map_of_patches,
)


@final
class FeatureDictionarySettings(PatchSettings):
    """Settings of FeatureDictionary."""

    atoms: Annotated[int, Field(ge=1, le=100_000)] = Field(
        500, description="Entries of the dictionary; all patches where there are fewer."
    )
    variance_share: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.95, description="Share of the variance that the principal components keep."
    )
    nearest: Annotated[int, Field(ge=1, le=1000)] = Field(
        5, description="The distance is the mean over so many nearest entries."
    )
    patches: Annotated[int, Field(ge=2, le=10_000_000)] = Field(
        50_000, description="Learn from so many patches, drawn at random where there are more."
    )


@final
class FeatureDictionary(Detector):
    """Centres of clusters of good patches; the map is the mean distance to the nearest of them.

    Features are standardised, brought to the principal components that keep `variance_share` of the variance,
    and clustered by k-means. Other than in the paper, the features are three scales of EfficientNet-Lite0
    instead of one of ResNet-18, the entries are the centres themselves instead of the patches
    nearest to them, and a map is smoothed.

    Source: Napoletano et al. 2018, "Anomaly detection in nanofibrous materials by CNN-based self-similarity".

    >>> detector = FeatureDictionary(FeatureDictionarySettings(), ImageShape(channels=3, height=32, width=48)).eval()
    >>> detector(torch.rand(2, 3, 32, 48)).shape
    torch.Size([2, 32, 48])
    """

    Settings = FeatureDictionarySettings
    defaults: ClassVar = PATCH_DEFAULTS
    mean: Tensor
    components: Tensor
    atoms: Tensor

    def __init__(self, settings: FeatureDictionarySettings, shape: ImageShape) -> None:
        super().__init__(shape, settings)
        self.settings = settings
        self.features = FrozenEncoder(settings, shape[1:])
        channels = sum(self.features.channels)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("components", identities(1, channels)[0])
        self.register_buffer("atoms", torch.zeros(1, channels))

    def fit(self, batches: Batches, optimise: Optimise) -> None:  # noqa: ARG002  # solved without gradients
        """Standardise, reduce and cluster the patches."""
        self.features.prepare()
        patches = torch.cat(list(FeatureBatches(batches, self.patches)))  # (n, c)
        drawn = torch.randperm(len(patches))[: self.settings.patches].to(patches.device)
        patches = patches[drawn]
        self.mean, self.components = principal_components(patches, self.settings.variance_share)
        self.atoms = cluster_centres((patches - self.mean) @ self.components, self.settings.atoms)

    def patches(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "n f"]:
        """The features of every place of every image."""
        return as_vectors(concat_scales(self.features(images)))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b h w"]:
        """Mean distance to the nearest atoms, brought to the pixels and smoothed."""
        reduced = (self.patches(images) - self.mean) @ self.components  # (n, k)
        distances = mean_nearest_distance(reduced, self.atoms, self.settings.nearest)
        return map_of_patches(distances, self.shape, self.features.patch_stride, self.settings.smoothing_sigma_px)


@torch.no_grad()
def principal_components(
    points: Float[Tensor, "n c"], variance_share: float
) -> tuple[Float[Tensor, " c"], Float[Tensor, "c k"]]:
    """The mean, and the matrix that brings standardised differences from it to the fewest principal components.

    >>> points = torch.tensor([[1.0, 1.0], [-1.0, -1.0], [3.0, 3.0], [-3.0, -3.0]])
    >>> principal_components(points, 0.9)[1].shape
    torch.Size([2, 1])
    """
    mean = points.mean(dim=0)
    std = points.std(dim=0, correction=0).clamp_min(1e-6)
    standard = ((points - mean) / std).double()
    variances, vectors = torch.linalg.eigh(standard.mT @ standard / len(points))
    shares = variances.flip(0).clamp_min(0).cumsum(0) / variances.clamp_min(0).sum()
    count = int((shares < variance_share - 1e-9).sum()) + 1
    components = vectors.flip(1)[:, :count].float() / std[:, None]
    return mean, components.contiguous()  # as it is read back from a file: another layout would round otherwise


def cluster_centres(points: Float[Tensor, "n k"], count: int) -> Float[Tensor, "m k"]:
    """k-means centres; the points themselves where there are no more of them than that."""
    from sklearn.cluster import KMeans  # takes a second, which inspection need not wait for

    if len(points) <= count:
        return points
    seed = int(torch.randint(2**31 - 1, ()))
    fitted = KMeans(count, n_init=1, max_iter=50, random_state=seed).fit(points.cpu().numpy())
    return torch.as_tensor(fitted.cluster_centers_, dtype=points.dtype, device=points.device)


def mean_nearest_distance(
    queries: Float[Tensor, "n k"], atoms: Float[Tensor, "m k"], nearest: int
) -> Float[Tensor, " n"]:
    """Mean Euclidean distance of each query to its `nearest` nearest atoms.

    Which are nearest is found by |q - a|^2 = |q|^2 - 2 q a + |a|^2; how near, from q - a, as in `nearest_distances`.

    >>> mean_nearest_distance(torch.tensor([[0.0]]), torch.tensor([[1.0], [-3.0], [9.0]]), 2)
    tensor([2.])
    """
    squares = torch.addmm(atoms.square().sum(dim=1), queries, atoms.mT, alpha=-2)  # less |q|^2, the same for all atoms
    few = squares.topk(min(nearest, len(atoms)), dim=1, largest=False).indices  # (n, few)
    total = torch.zeros_like(queries[:, 0])
    for places in few.unbind(dim=1):  # one at a time: all differences at once would be large
        total = total + torch.linalg.vector_norm(queries - atoms[places], dim=1)
    return total / few.shape[1]
