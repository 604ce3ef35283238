"""Encoders of timm (pytorch-image-models) from folders with config.json and model.safetensors.

Tried with timm 1.0.29 and random weights, and not part of CI: timm needs torchvision, which does not import beside the
build of torch that this project is tested with. See docs/howto/encoders.md.
"""

from pathlib import Path
from types import ModuleType
from typing import Any, cast, final

import torch
from jaxtyping import Float
from torch import Tensor

from blemish.errors import ArtifactError, SettingsError
from blemish.hub.folder import CONFIG, WEIGHTS, read_json
from blemish.models.folder_encoder import FolderEncoder, describe_encoder
from blemish.models.networks import EncoderSpec, Timm

_OTHER_SIDES = "other sides (data.size_px) or another network"


def read_spec(name: str, folder: Path) -> EncoderSpec:
    """What an encoder's folder holds; its weights are hashed, not loaded.

    Raises:
        SettingsError: a network that timm does not have or that tells no layers, or timm is not installed.
    """
    timm, architecture = import_timm(), str(read_json(folder / CONFIG, name).get("architecture"))
    if not timm.is_model(architecture):
        raise SettingsError(f"model.encoder: {name}: timm {timm.__version__} has no network '{architecture}'")
    try:
        with torch.device("meta"):
            model = timm.create_model(architecture, pretrained=False, num_classes=0)
        strides = [int(one["reduction"]) for one in model.feature_info]
        network = Timm(
            name=architecture,
            all_channels=tuple(int(one["num_chs"]) for one in model.feature_info),
            all_strides=tuple(strides),
            has_tokens=len(set(strides)) == 1 and hasattr(model, "forward_intermediates"),
        )
    except Exception as error:  # timm's networks raise whatever they have, or lack what most of them tell
        raise SettingsError(
            f"model.encoder: {name}: timm's '{architecture}' does not tell the channels and strides of its layers "
            f"({_reason(error)}); take another network"
        ) from None
    return describe_encoder(network, name, folder)


@final
class TimmEncoder(FolderEncoder):
    """Some layers of a network of timm: `features_only` of stages, `forward_intermediates` of transformers.

    Raises:
        SettingsError: timm cannot build it.
    """

    def __init__(self, spec: EncoderSpec, layers: tuple[int, ...], name: str) -> None:
        super().__init__(spec, layers, name)
        assert isinstance(spec.network, Timm)
        self._network, self._places = spec.network, [layer - 1 for layer in layers]
        self._size_px: tuple[int, int] | None = None
        self.network = self._build()

    def _build(self) -> Any:
        """The network with random weights, for images of the size that was fixed, if any."""
        try:
            return self._create()
        except Exception as error:  # timm raises whatever it has
            raise self._refusal(error) from None

    def _create(self, **options: Any) -> Any:
        network = self._network
        if not network.has_tokens:
            return self._call_timm(features_only=True, out_indices=tuple(self._places), **options)
        model = self._call_timm(num_classes=0, **options)
        if hasattr(model, "prune_intermediate_layers"):  # what comes after the last layer
            model.prune_intermediate_layers(self._places, prune_norm=False, prune_head=True)
        return model

    def _call_timm(self, **options: Any) -> Any:
        if self._size_px is not None:
            options["img_size"] = self._size_px
        return import_timm().create_model(self._network.name, **options)

    def _refusal(self, error: Exception) -> SettingsError:
        size = "" if self._size_px is None else f" for images of {self._size_px[0]} x {self._size_px[1]} pixels"
        return SettingsError(
            f"model.encoder: {self.name}: timm {import_timm().__version__} refuses '{self._network.name}'{size}: "
            f"{_reason(error)}; take {_OTHER_SIDES}"
        )

    def fix_sizes(self, *sizes_px: tuple[int, int]) -> None:
        """Build a network of a fixed input size for images of this height and width, and try every network once.

        Raises:
            SettingsError: images of several sizes for a network of a fixed size, a size that timm refuses, or maps
                that are no grids of the strides which timm tells.
        """
        if sizes_px and import_timm().get_pretrained_cfg_value(self._network.name, "fixed_input_size"):
            if len({*sizes_px, self._size_px or sizes_px[0]}) > 1:
                raise SettingsError(
                    f"model.encoder: {self.name}: '{self._network.name}' sees images of one size in timm; take "
                    "data.speed=fast, another detector, or the same weights as hf:NAME"
                )
            self._size_px = sizes_px[0]
            self.network = self._build().requires_grad_(False).eval()
        for size_px in sizes_px:
            self._try(size_px)

    def _try(self, size_px: tuple[int, int]) -> None:
        """Compute the maps of one image, so that what a network cannot do is said before training."""
        height, width = size_px
        was_training = self.network.training
        try:
            with torch.no_grad():
                maps = self.eval()(torch.zeros(1, 3, height, width, device=self.mean.device))
        except Exception as error:  # as above
            raise self._refusal(error) from None
        finally:
            self.train(was_training)
        wanted = [(1, c, height // s, width // s) for c, s in zip(self.channels, self.strides, strict=True)]
        if (found := [tuple(one.shape) for one in maps]) != wanted:
            raise SettingsError(
                f"model.encoder: {self.name}: timm's '{self._network.name}' gives maps of {found} for an image of "
                f"{height} x {width} pixels, expected {wanted}; take {_OTHER_SIDES}"
            )

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        scaled = self.standardise(images)
        if self._network.has_tokens:
            return tuple(
                self.network.forward_intermediates(
                    scaled, indices=self._places, norm=True, output_fmt="NCHW", intermediates_only=True
                )
            )
        is_last = getattr(self.network, "output_fmt", "NCHW") == "NHWC"  # channels, of Swin and its like
        return tuple(one.permute(0, 3, 1, 2) if is_last else one for one in self.network(scaled))

    def load_pretrained(self) -> None:
        """Take the weights of the folder, which must be those that the encoder was described by.

        Raises:
            SettingsError: the folder is not on this machine.
            ArtifactError: its weights are others, or do not fit.
        """
        folder = self.find_weights()
        # timm's own files of weights are in other formats for some networks, and have as many classes as it says
        overlay: dict[str, Any] = {"file": str(folder / WEIGHTS), "custom_load": False}
        if isinstance(classes := read_json(folder / CONFIG, self.name).get("num_classes"), int):
            overlay["num_classes"] = classes
        try:
            self._call_timm(pretrained=True, pretrained_cfg_overlay=dict(overlay))  # all of it: here timm is strict
            loaded = self._create(pretrained=True, pretrained_cfg_overlay=overlay)
        except Exception as error:  # as above
            raise ArtifactError(f"{self.name}: its weights cannot be loaded: {_reason(error)}") from None
        self.network.load_state_dict(loaded.state_dict())


def _reason(error: Exception) -> str:
    """What an error of timm says, in a line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


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
    return cast(ModuleType, timm)
