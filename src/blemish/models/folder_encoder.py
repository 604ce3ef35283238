"""What encoders from folders have in common: layers, the scale of their pixels, and weights that must be theirs."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blemish.errors import ArtifactError
from blemish.hub.folder import hash_weights, read_licence, read_pixels
from blemish.hub.licences import check_accepted
from blemish.hub.store import home, locate, parse_name
from blemish.models.networks import EncoderSpec, Network


def describe_encoder(network: Network, name: str, folder: Path) -> EncoderSpec:
    """What a folder holds, whose network is known; its weights are hashed, not loaded."""
    pixels = read_pixels(folder, name)
    return EncoderSpec(network=network, mean=pixels.mean, std=pixels.std, sha256=hash_weights(folder))


class FolderEncoder(nn.Module):
    """Some layers of the network of a folder. A new instance is random: `load_pretrained` or a saved state fills it."""

    mean: Tensor
    std: Tensor

    def __init__(self, spec: EncoderSpec, layers: tuple[int, ...], name: str) -> None:
        super().__init__()
        self.spec, self.name, self.layers = spec, name, layers
        self.channels = tuple(spec.network.channels[layer - 1] for layer in layers)
        self.strides = tuple(spec.network.strides[layer - 1] for layer in layers)
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(3, 1, 1), persistent=False)

    def standardise(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
        """Images in [0, 1] as the network was trained on them."""
        return (images - self.mean) / self.std

    def find_weights(self) -> Path:
        """The folder, whose weights are those that the encoder was described by.

        Raises:
            SettingsError: the folder is not on this machine, or its licence was not accepted.
            ArtifactError: its weights are others.
        """
        named = parse_name(self.name)
        assert named is not None
        folder = locate(named, self.name)
        check_accepted(read_licence(folder, self.name)[0], self.name, home())
        found = hash_weights(folder)
        if found != self.spec.sha256:
            raise ArtifactError(f"{self.name}: its weights have SHA-256 {found}, expected {self.spec.sha256}")
        return folder
