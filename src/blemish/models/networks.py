"""What a network of a folder is, in few bounded numbers: enough to build it again where the folder is not.

A row of `NETWORKS` for each family; its fields are those of the family's configuration in transformers.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, SerializeAsAny, field_validator, model_validator

from blemish.hub.folder import Three
from blemish.settings import Settings

Size = Annotated[int, Field(ge=1, le=8192)]
Depth = Annotated[int, Field(ge=1, le=64)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1, max_length=8)]
Depths = Annotated[tuple[Depth, ...], Field(min_length=1, max_length=8)]
Ratio = Annotated[float, Field(gt=0.0, le=16.0)]
Epsilon = Annotated[float, Field(gt=0.0, le=1.0)]
Scale = Annotated[float, Field(ge=-1e3, le=1e3)]
Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "swish"]


class Network(Settings):
    """A network and its size. Layers are counted from 1: stages, finest first, or the blocks of a transformer."""

    stem: ClassVar[str]
    """What the names of transformers' classes of this family begin with."""
    attention: ClassVar[str | None] = None
    """How transformers computes attention; None where there is none."""
    smooth_positions: ClassVar[bool] = False
    """Whether learned positions are interpolated with `antialias`."""

    family: str
    num_channels: Literal[3] = 3

    @property
    def channels(self) -> tuple[int, ...]:
        """Of the map of each layer."""
        raise NotImplementedError

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels from one place to the next in the map of each layer."""
        raise NotImplementedError

    def first(self, layers: int) -> dict[str, Any]:
        """The fields of the same network that ends after so many layers."""
        raise NotImplementedError

    @property
    def grid(self) -> int | None:
        """Places a side of the grid of learned positions; None where there are none that depend on the size."""
        return None


class Stages(Network):
    """Stages of blocks, each with half the places a side of the one before."""

    depths: Depths
    hidden_act: Activation

    by_stage: ClassVar[tuple[str, ...]] = ("depths", "hidden_sizes")
    """The fields that have a value for each stage."""

    @model_validator(mode="after")
    def _fit_together(self) -> "Stages":
        if len({len(getattr(self, name)) for name in self.by_stage}) > 1:
            raise ValueError(f"{' and '.join(self.by_stage)} are of different numbers of stages")
        return self

    @property
    def finest_stride(self) -> int:
        """Of the first stage."""
        return 4

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(self.finest_stride << stage for stage in range(len(self.depths)))

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(getattr(self, "hidden_sizes"))  # noqa: B009  # of the families that have them

    def first(self, layers: int) -> dict[str, Any]:
        fields = self.model_dump(exclude={"family"})
        return {**fields, **{name: list(fields[name][:layers]) for name in self.by_stage}}


class ResNet(Stages):
    """He et al. 2016."""

    stem: ClassVar[str] = "ResNet"
    family: Literal["resnet"] = "resnet"
    embedding_size: Size
    hidden_sizes: Sizes
    layer_type: Literal["basic", "bottleneck"]
    downsample_in_first_stage: bool
    downsample_in_bottleneck: bool

    @property
    def finest_stride(self) -> int:
        return 8 if self.downsample_in_first_stage else 4


class ConvNext(Stages):
    """Liu et al. 2022, "A ConvNet for the 2020s"."""

    stem: ClassVar[str] = "ConvNext"
    family: Literal["convnext"] = "convnext"
    hidden_sizes: Sizes
    patch_size: Annotated[int, Field(ge=2, le=16)]
    layer_norm_eps: Epsilon
    layer_scale_init_value: Scale

    @property
    def finest_stride(self) -> int:
        return self.patch_size

    def first(self, layers: int) -> dict[str, Any]:
        return {**super().first(layers), "num_stages": layers}


class Dinov3ConvNext(Stages):
    """A ConvNeXt distilled from DINOv3 (Siméoni et al. 2025)."""

    stem: ClassVar[str] = "DINOv3ConvNext"
    family: Literal["dinov3_convnext"] = "dinov3_convnext"
    hidden_sizes: Sizes
    layer_norm_eps: Epsilon
    layer_scale_init_value: Scale


class Swin(Stages):
    """Liu et al. 2021."""

    stem: ClassVar[str] = "Swin"
    attention: ClassVar[str | None] = "eager"  # nothing else can be exported
    by_stage: ClassVar[tuple[str, ...]] = ("depths", "num_heads")
    family: Literal["swin"] = "swin"
    embed_dim: Size
    num_heads: Depths
    patch_size: Annotated[int, Field(ge=2, le=16)]
    window_size: Annotated[int, Field(ge=1, le=64)]
    image_size: Annotated[int, Field(ge=8, le=4096)]
    mlp_ratio: Ratio
    qkv_bias: bool
    layer_norm_eps: Epsilon
    use_absolute_embeddings: bool = False

    @field_validator("use_absolute_embeddings")
    @classmethod
    def _relative(cls, value: bool) -> bool:
        if value:
            raise ValueError("absolute positions of Swin are not supported")
        return value

    @property
    def finest_stride(self) -> int:
        return self.patch_size

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(self.embed_dim << stage for stage in range(len(self.depths)))

    def first(self, layers: int) -> dict[str, Any]:  # noqa: ARG002
        return super().first(len(self.depths))  # its last norm is as wide as the last stage


class Tokens(Network):
    """A vision transformer: the maps of all blocks have one stride, that of its patches."""

    attention: ClassVar[str | None] = "eager"  # what else there is exports to operators that model files may not have
    hidden_size: Size
    num_hidden_layers: Depth
    num_attention_heads: Depth
    hidden_act: Activation
    layer_norm_eps: Epsilon
    layerscale_value: Scale
    patch_size: Annotated[int, Field(ge=2, le=64)]
    image_size: Annotated[int, Field(ge=8, le=4096)]

    @field_validator("image_size", "patch_size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        if isinstance(value, list | tuple) and len(set(value)) == 1:
            return value[0]
        if isinstance(value, list | tuple):
            raise ValueError(f"expected a square, found {value}")
        return value

    @property
    def channels(self) -> tuple[int, ...]:
        return (self.hidden_size,) * self.num_hidden_layers

    @property
    def strides(self) -> tuple[int, ...]:
        return (self.patch_size,) * self.num_hidden_layers

    def first(self, layers: int) -> dict[str, Any]:
        return {**self.model_dump(exclude={"family"}), "num_hidden_layers": layers}


class Dinov2(Tokens):
    """Oquab et al. 2023."""

    stem: ClassVar[str] = "Dinov2"
    family: Literal["dinov2"] = "dinov2"
    mlp_ratio: Annotated[int, Field(ge=1, le=16)]
    qkv_bias: bool
    use_swiglu_ffn: bool
    use_mask_token: bool = True

    @property
    def grid(self) -> int | None:
        return self.image_size // self.patch_size


class Dinov2WithRegisters(Tokens):
    """DINOv2 with registers (Darcet et al. 2024)."""

    stem: ClassVar[str] = "Dinov2WithRegisters"
    smooth_positions: ClassVar[bool] = True
    family: Literal["dinov2_with_registers"] = "dinov2_with_registers"
    mlp_ratio: Annotated[int, Field(ge=1, le=16)]
    qkv_bias: bool
    use_swiglu_ffn: bool
    num_register_tokens: Annotated[int, Field(ge=0, le=64)]

    @property
    def grid(self) -> int | None:
        return self.image_size // self.patch_size


class Dinov3(Tokens):
    """DINOv3 (Siméoni et al. 2025): rotary positions, which follow from the size."""

    stem: ClassVar[str] = "DINOv3ViT"
    family: Literal["dinov3_vit"] = "dinov3_vit"
    intermediate_size: Annotated[int, Field(ge=1, le=65_536)]
    num_register_tokens: Annotated[int, Field(ge=0, le=64)]
    rope_theta: Annotated[float, Field(gt=0.0, le=1e9)]
    query_bias: bool
    key_bias: bool
    value_bias: bool
    proj_bias: bool
    mlp_bias: bool
    use_gated_mlp: bool


class Timm(Network):
    """A network of timm, by its name there; channels and strides as timm tells them."""

    stem: ClassVar[str] = "timm"
    family: Literal["timm"] = "timm"
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$", max_length=200)]
    all_channels: Annotated[tuple[Size, ...], Field(min_length=1, max_length=64)]
    all_strides: Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(min_length=1, max_length=64)]
    has_tokens: bool
    """Whether it is a transformer of one stride, built for a size."""

    @property
    def channels(self) -> tuple[int, ...]:
        return self.all_channels

    @property
    def strides(self) -> tuple[int, ...]:
        return self.all_strides


NETWORKS: dict[str, type[Network]] = {
    "resnet": ResNet,
    "convnext": ConvNext,
    "swin": Swin,
    "dinov2": Dinov2,
    "dinov2_with_registers": Dinov2WithRegisters,
    "dinov3_vit": Dinov3,
    "dinov3_convnext": Dinov3ConvNext,
}
"""The families of transformers that are known, by the `model_type` of their configurations."""


def _network(value: object) -> object:
    """A network from its fields: those of its family."""
    if not isinstance(value, dict):
        return value
    family = value.get("family")
    kind = Timm if family == "timm" else NETWORKS.get(str(family))
    if kind is None:
        raise ValueError(f"family {family!r} is none of {', '.join([*NETWORKS, 'timm'])}")
    return kind.model_validate(value)


class EncoderSpec(Settings):
    """An encoder of a folder, as a model file keeps it: the network, its pixels, and which weights."""

    network: Annotated[SerializeAsAny[Network], BeforeValidator(_network)]
    mean: Three
    std: tuple[Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)], Annotated[float, Field(gt=0.0)]]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
