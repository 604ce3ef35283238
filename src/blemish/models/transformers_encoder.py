"""Encoders from folders as the library transformers writes them: config.json and model.safetensors."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from blemish.errors import ArtifactError, SettingsError, join_names, nearest
from blemish.hub.folder import CONFIG, read_json
from blemish.models.folder_encoder import FolderEncoder, describe_encoder
from blemish.models.networks import NETWORKS, EncoderSpec, Network
from blemish.settings import validate

MAX_NUMBER, MAX_PARTS = 65_536, 64
"""In a configuration: of a number, and of the numbers in a list."""

NORMS = "hidden_states_norms."
"""Norms that transformers adds behind the stages; folders do not have them, and new ones change no channel's weight."""


def read_spec(name: str, folder: Path) -> EncoderSpec:
    """What an encoder's folder holds; its weights are hashed, not loaded.

    Raises:
        SettingsError: a family that is not known, a network out of bounds, or transformers is not installed.
    """
    raw = read_json(folder / CONFIG, name)
    family = str(raw.get("model_type", ""))
    if family not in NETWORKS:
        raise SettingsError(
            f"model.encoder: {name}: its {CONFIG} names model_type '{family}'; {nearest(family, NETWORKS)}"
        )
    kind = NETWORKS[family]
    for field, value in raw.items():  # before transformers makes as many names
        is_much = (isinstance(value, int) and value > MAX_NUMBER) or (
            isinstance(value, list) and len(value) > MAX_PARTS
        )
        if is_much and field in kind.model_fields:
            raise SettingsError(f"model.encoder: {name}: {CONFIG}: {field}: more than any network has")
    with _quiet_transformers() as transformers:
        try:
            config = transformers.AutoConfig.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # transformers raises whatever its checks have
            reason = str(error).strip().partition("\n")[0]
            raise SettingsError(f"model.encoder: {name}: {CONFIG} is refused by transformers: {reason}") from None
    told = {field: getattr(config, field) for field in kind.model_fields if hasattr(config, field)}
    network = validate(kind, {**told, "family": family}, f"model.encoder: {name}: {CONFIG}: ")
    return describe_encoder(network, name, folder)


@final
class TransformersEncoder(FolderEncoder):
    """Some layers of a backbone of transformers; what comes after the last of them is not built."""

    def __init__(self, spec: EncoderSpec, layers: tuple[int, ...], name: str) -> None:
        super().__init__(spec, layers, name)
        with _quiet_transformers() as transformers:
            self.network = _kind(transformers, spec.network)(_config(transformers, spec.network, layers))
        if spec.network.grid is not None:
            self.network.embeddings.interpolate_pos_encoding = self._positions

    def fix_sizes(self, *sizes_px: tuple[int, int]) -> None:
        """Prepare for images of these heights and widths: how learned positions are interpolated, as two matrices."""
        grid, patch = self.spec.network.grid, self.spec.network.strides[0]
        if grid is None:
            return
        for side in {side_px // patch for size in sizes_px for side_px in size}:
            self.register_buffer(
                f"positions_{side}", interpolation(grid, side, self.spec.network.smooth_positions), persistent=False
            )

    def _positions(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        """The learned positions on the grid of an image of this size, after that of the class token: (1, 1 + n, d)."""
        del embeddings
        grid, patch = self.spec.network.grid, self.spec.network.strides[0]
        learned = self.network.embeddings.position_embeddings
        square = learned[0, 1:].reshape(grid, grid, -1)  # (g, g, d)
        rows, columns = (getattr(self, f"positions_{side // patch}") for side in (height, width))
        placed = torch.einsum("yi,xj,ijd->yxd", rows, columns, square)
        return torch.cat([learned[:, :1], placed.flatten(0, 1)[None]], dim=1)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> tuple[Tensor, ...]:
        return tuple(self.network(self.standardise(images)).feature_maps)

    def load_pretrained(self) -> None:
        """Take the weights of the folder, which must be those that the encoder was described by.

        Raises:
            SettingsError: the folder is not on this machine.
            ArtifactError: its weights are others, or do not fit.
        """
        folder = self.find_weights()
        with _quiet_transformers() as transformers:
            config = _config(transformers, self.spec.network, self.layers)
            try:
                loaded, told = _kind(transformers, self.spec.network).from_pretrained(
                    str(folder),
                    config=config,
                    use_safetensors=True,
                    local_files_only=True,
                    output_loading_info=True,
                    dtype=torch.float32,
                )
            except Exception as error:  # transformers and safetensors raise whatever they have
                reason = str(error).strip().partition("\n")[0]
                raise ArtifactError(f"{self.name}: its weights cannot be loaded: {reason}") from None
        missing = sorted(one for one in told["missing_keys"] if not one.startswith(NORMS))
        wrong = sorted(str(one[0] if isinstance(one, tuple) else one) for one in told["mismatched_keys"])
        if missing or wrong:
            what = f"lack {join_names(missing)}" if missing else f"have another size at {join_names(wrong)}"
            raise ArtifactError(f"{self.name}: its weights {what}; they are not those of its {CONFIG}")
        self.network.load_state_dict(loaded.state_dict())


def interpolation(old: int, new: int, is_smooth: bool = False) -> Float[Tensor, "new old"]:
    """The matrix of bicubic interpolation from `old` to `new` places in a row, as `torch.nn.functional.interpolate`.

    `is_smooth` is its `antialias`.

    >>> interpolation(3, 3)
    tensor([[1., 0., 0.],
            [0., 1., 0.],
            [0., 0., 1.]])
    """
    with torch.device("cpu"):
        rows = torch.eye(old)[None, None]  # (1, 1, old, old)
        resized: Tensor = F.interpolate(rows, size=(new, old), mode="bicubic", antialias=is_smooth)
        return resized[0, 0]


def _config(transformers: ModuleType, network: Network, layers: tuple[int, ...]) -> Any:
    """The configuration of the network up to the last of the layers, which gives the maps of all of them."""
    config = getattr(transformers, f"{network.stem}Config")(**network.first(layers[-1]), out_indices=list(layers))
    if network.attention is not None:
        config._attn_implementation = network.attention
    return config


def _kind(transformers: ModuleType, network: Network) -> Any:
    """The class of the backbone."""
    return getattr(transformers, f"{network.stem}Backbone")


@contextmanager
def _quiet_transformers() -> Iterator[ModuleType]:
    """The library, which reports its own loading as it goes: nothing of that is for the user.

    Raises:
        SettingsError: it is not installed.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        import transformers
        from transformers.utils import logging as reports
    except ModuleNotFoundError as error:
        logging.disable(disabled)
        raise SettingsError(
            f"model.encoder: encoders of folders need the package '{error.name}'; "
            "install it with: pip install 'blemish[encoders]'"
        ) from None
    has_bars = reports.is_progress_bar_enabled()
    reports.disable_progress_bar()
    try:
        yield cast(ModuleType, transformers)
    finally:
        logging.disable(disabled)
        if has_bars:
            reports.enable_progress_bar()
