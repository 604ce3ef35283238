"""Encoders of timm (pytorch-image-models) from folders with config.json and model.safetensors.

Written against timm's documentation and not run with the library: it needs torchvision, which does not import beside
the build of torch that this project is tested with. See docs/howto/encoders.md.
"""

from pathlib import Path
from types import ModuleType
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from blemish.errors import ArtifactError, SettingsError
from blemish.hub.folder import CONFIG, WEIGHTS, read_json
from blemish.models.folder_encoder import FolderEncoder, describe_encoder
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
    return describe_encoder(network, name, folder)


@final
class TimmEncoder(FolderEncoder):
    """Some layers of a network of timm: `features_only` of stages, `forward_intermediates` of transformers."""

    def __init__(self, spec: EncoderSpec, layers: tuple[int, ...], name: str) -> None:
        super().__init__(spec, layers, name)
        assert isinstance(spec.network, Timm)
        self._network, self._places = spec.network, [layer - 1 for layer in layers]
        self._size_px: tuple[int, int] | None = None
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
        scaled = self.standardise(images)
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
        weights = self.find_weights() / WEIGHTS
        try:
            loaded = self._create(pretrained=True, pretrained_cfg_overlay={"file": str(weights)})
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
