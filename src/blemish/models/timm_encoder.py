"""Encoders of timm (pytorch-image-models) from folders with config.json and model.safetensors.

Written against timm's documentation and not run with the library: it needs torchvision, which does not import beside
the build of torch that this project is tested with. See docs/howto/encoders.md.
"""

from pathlib import Path
from types import ModuleType
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from blemish.errors import ArtifactError, SettingsError
from blemish.hub.folder import CONFIG, WEIGHTS, hash_weights, read_json, read_licence, read_pixels
from blemish.hub.licences import check_accepted
from blemish.hub.store import home, locate, parse_name
from blemish.models.networks import EncoderSpec, Timm


def read_spec(name: str, folder: Path) -> EncoderSpec:
    """What an encoder's folder holds; its weights are hashed, not loaded.

    Raises:
        SettingsError: a network that timm does not have, or timm is not installed.
    """
    timm, architecture = import_timm(), str(read_json(folder / CONFIG, name).get("architecture"))
    if not timm.is_model(architecture):
        raise SettingsError(f"model.encoder: {name}: timm {timm.__version__} has no network '{architecture}'")
    with torch.device("meta"):
        model = timm.create_model(architecture, pretrained=False, num_classes=0)
    info = list(model.feature_info)
    strides = [int(one["reduction"]) for one in info]
    network = Timm(
        name=architecture,
        all_channels=tuple(int(one["num_chs"]) for one in info),
        all_strides=tuple(strides),
        has_tokens=len(set(strides)) == 1 and hasattr(model, "forward_intermediates"),
    )
    pixels = read_pixels(folder, name)
    return EncoderSpec(network=network, mean=pixels.mean, std=pixels.std, sha256=hash_weights(folder))


@final
class TimmEncoder(nn.Module):
    """Some layers of a network of timm: `features_only` of stages, `forward_intermediates` of transformers.

    A new instance is random: `load_pretrained` or a saved state fills it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: EncoderSpec, layers: tuple[int, ...], name: str) -> None:
        super().__init__()
        assert isinstance(spec.network, Timm)
        self.spec, self.name, self._network = spec, name, spec.network
        self._places = [layer - 1 for layer in layers]
        self._size_px: tuple[int, int] | None = None
        self.channels = tuple(spec.network.channels[place] for place in self._places)
        self.strides = tuple(spec.network.strides[place] for place in self._places)
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(3, 1, 1), persistent=False)
        self.network = self._create(pretrained=False)

    def _create(self, **options: Any) -> Any:
        timm = import_timm()
        if not self._network.has_tokens:
            return timm.create_model(self._network.name, features_only=True, out_indices=tuple(self._places), **options)
        if self._size_px is not None:
            options["img_size"] = self._size_px
        return timm.create_model(self._network.name, num_classes=0, **options)

    def fix_sizes(self, *sizes_px: tuple[int, int]) -> None:
        """Build a transformer for images of this height and width.

        Raises:
            SettingsError: for images of several sizes, which timm's transformers do not take.
        """
        if not self._network.has_tokens or not sizes_px:
            return
        if len({*sizes_px, self._size_px or sizes_px[0]}) > 1:
            raise SettingsError(
                f"model.encoder: {self.name}: a transformer of timm sees images of one size; take data.speed=fast, "
                "another detector, or the same weights as hf:NAME"
            )
        self._size_px = sizes_px[0]
        self.network = self._create(pretrained=False).requires_grad_(False).eval()

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        scaled = (images - self.mean) / self.std
        if self._network.has_tokens:
            return tuple(
                self.network.forward_intermediates(
                    scaled, indices=self._places, norm=True, output_fmt="NCHW", intermediates_only=True
                )
            )
        return tuple(self.network(scaled))

    def load_pretrained(self) -> None:
        """Take the weights of the folder, which must be those that the encoder was described by.

        Raises:
            SettingsError: the folder is not on this machine.
            ArtifactError: its weights are others, or do not fit.
        """
        named = parse_name(self.name)
        assert named is not None
        folder = locate(named, self.name)
        check_accepted(read_licence(folder, self.name)[0], self.name, home())
        if hash_weights(folder) != self.spec.sha256:
            raise ArtifactError(f"{self.name}: its weights are not those that it was described by")
        try:
            loaded = self._create(pretrained=True, pretrained_cfg_overlay={"file": str(folder / WEIGHTS)})
        except Exception as error:  # timm raises whatever it has
            reason = str(error).strip().partition("\n")[0]
            raise ArtifactError(f"{self.name}: its weights cannot be loaded: {reason}") from None
        self.network.load_state_dict(loaded.state_dict())


def import_timm() -> ModuleType:
    """The library.

    Raises:
        SettingsError: it is not installed, or cannot be imported.
    """
    try:
        import timm
    except (ImportError, RuntimeError) as error:
        raise SettingsError(
            f"model.encoder: encoders of timm need the package 'timm' ({error}); install it with: pip install timm"
        ) from None
    return timm  # type: ignore[no-any-return]
