"""What can be set of FeatureEnsemble, and which of it goes together."""

from typing import Annotated, ClassVar, Literal, final

from pydantic import Field

from blemish.errors import SettingsError
from blemish.models.encoders import EncoderSettings
from blemish.models.feature_maps import PatchSettings

MOST_ROWS_BETWEEN = 4096
"""Of the bank, where patches are compared with what lies between rows: distances of all to all take 64 MiB."""

Weight = Annotated[float, Field(gt=0.0)]


@final
class FeatureEnsembleSettings(PatchSettings):
    """Settings of FeatureEnsemble."""

    coarsest_stride: ClassVar[int] = 32
    encoder: Annotated[str, Field(max_length=4096)] = Field(
        "efficientnet_lite0_deep", description=EncoderSettings.model_fields["encoder"].description
    )
    rows: Annotated[int, Field(ge=2, le=100_000)] = Field(
        2000, description="Rows of the bank, at most; fewer in large images, for the time it takes."
    )
    candidates: Annotated[int, Field(ge=64, le=10_000_000)] = Field(
        100_000, description="The bank is chosen among so many patches, drawn at random where there are more."
    )
    weights: tuple[Weight, Weight, Weight] = Field(
        (8.0, 1.0, 1.0),
        description="Weights of the nearest neighbour, the fine and the coarse Gaussians in the mean. The second is a "
        "minimum: it grows to 8 where parts always lie in the same place.",
    )
    mean_at: Literal["places", "pixels"] = Field(
        "pixels",
        description="Where the mean is taken: at the encoder's places in new models, at pixels in older model files.",
    )
    level_at: Literal["places", "image"] = Field(
        "image",
        description="A share of the nearest distances around each place is taken off in new models, of those in the "
        "image in older model files.",
    )
    near: Annotated[int, Field(ge=1, le=16)] = Field(
        1,
        description="A patch is compared with the nearest point between so many of its nearest rows; 1: with the "
        "nearest row. 8 outlines defects better and takes more time. More than 1: with at most 4096 rows.",
    )
    fine_cells: Annotated[int, Field(ge=1, le=4096)] = Field(
        512,
        description="Fine Gaussians, at most: each serves 2 x 2 places of the grid, or more where that would be too "
        "many, and takes 6 KiB of the file. 1024 in new models, 512 in older model files.",
    )
    excess: Annotated[float, Field(ge=0.0, le=8.0)] = Field(
        0.0,
        description="If an image, reduced in size, is odder than good images ever are, its map is raised above theirs "
        "by this power of the excess, which finds parts that are wrong as a whole. Only where images are clearly "
        "reduced. 0: never, as in older model files.",
    )
    background: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.0,
        description="The share of the difference between an image's background and that of good images which is taken "
        "off its map; the largest value of the map stays. 0: not at all, as in older model files.",
    )
    background_of: Literal["region", "image"] = Field(
        "image",
        description="Where the background is looked for: in the region of interest in new models, in all of what the "
        "network sees in older model files.",
    )


def check_combination(settings: FeatureEnsembleSettings) -> None:
    """Refuse settings that do not go together.

    Raises:
        SettingsError: they do not.
    """
    if settings.near > 1 and settings.rows > MOST_ROWS_BETWEEN:
        raise SettingsError(
            f"model.rows: found {settings.rows}; model.near of more than 1 needs {MOST_ROWS_BETWEEN} at most"
        )
    off = {"excess": 0.0, "background": 0.0, "level_at": "image"} if settings.mean_at == "pixels" else {}
    if wrong := [name for name, value in off.items() if getattr(settings, name) != value]:
        found = ", ".join(f"model.{name}: found {getattr(settings, name)}" for name in wrong)
        mended = " ".join(f"model.{name}={off[name]}" for name in wrong)
        raise SettingsError(f"{found}; this needs model.mean_at=places, or set {mended}")
