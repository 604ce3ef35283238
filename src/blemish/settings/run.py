"""All settings of a run: frozen and typed.

A detector brings settings of its own (`model.*`); they are defined beside it, in its file.
"""

from typing import Annotated, Literal, Self, TypedDict

from pydantic import Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from blemish.settings.base import Settings
from blemish.settings.shapes import Area

LARGEST_NETWORK_PX = 4096 * 4096
"""What a network sees at once, an image or a tile."""

FAST_SIDE_PX = 256
"""One side of what a network sees with `data.speed=fast`."""

LARGEST_IMAGE_PX = 178_956_970
"""Pillow's own hard limit against decompression bombs; `data.max_image_px` cannot be set above it."""


Side = Annotated[int, Field(ge=8, le=16_384)]
ImageSide = Annotated[int, Field(ge=8, le=100_000)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Level = Annotated[int, Field(ge=0, le=255)]


MaskValue = Annotated[int, Field(ge=0, le=65_535)] | tuple[Level, Level, Level] | None
"""A value or palette index, or a colour, in a mask: what means defective, or what is not to be judged."""


class MaskValues(TypedDict, total=False):
    """What a set's masks mean, as the settings of these names say."""

    mask_value: MaskValue
    ignore_value: MaskValue


class DataSettings(Settings):
    """How images become arrays, and how the good ones are split."""

    size_px: tuple[ImageSide, ImageSide] | None = Field(
        None, description="Height and width the network sees. None: from the images, their aspect kept."
    )
    fit: Literal["stretch", "pad"] = Field(
        "stretch",
        description="How images of another aspect than size_px get there. pad: the aspect is kept, and border pixels "
        "are repeated beside the image, where nothing counts, so that aspects may differ. stretch: they may differ by "
        "5 %, or at will where size_px is set.",
    )
    side_px: Side | None = Field(
        None, description="One side where size_px is None; the other keeps the images' aspect. None: see speed."
    )
    side: Literal["longer", "shorter"] = Field(
        "longer", description="Which side has side_px. shorter: the longer one is at most four times as long."
    )
    speed: Literal["fast", "thorough"] = Field(
        "fast",
        description="How large images are seen where size_px, side_px and tile_px are None. fast: one side 256 px. "
        "thorough: the shorter side as the images have it, from 256 to 512 px, the area at most that of 512 x 768 px; "
        "finds smaller defects, takes up to four times as long.",
    )
    channels: Literal[1, 3] | None = Field(None, description="1 is grey, 3 is colour. None: as the images.")
    white_level: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        None, description="The value of white in 16-bit images, e.g. 4095 for 12-bit cameras. None: 65535."
    )
    max_image_px: Annotated[int, Field(ge=64, le=LARGEST_IMAGE_PX)] = Field(
        100_000_000, description="Refuse images of more pixels than this (decompression bombs)."
    )
    roi: Area = Field(
        None,
        description="Region of interest, whose surroundings the network does not see: a rectangle [left, top, right, "
        "bottom], a polygon [[x, y], ...], a list of such, or a mask image (inside where above 0). Numbers are shares "
        "of width and height where none is above 1, else pixels of the photos. auto: the part, where it lies on a "
        "plain ground. None: the whole image.",
    )
    ignore: Area = Field(
        None, description="What is neither shown to the network nor judged, as roi, but for auto. None: nothing."
    )
    tile_px: tuple[Side, Side] | None = Field(
        None,
        description="Height and width of tiles, for images too large for one pass. Without size_px the images then "
        "keep their own size. None: in one piece.",
    )
    tile_overlap_px: Annotated[int, Field(ge=0)] = Field(
        64, description="How far neighbouring tiles overlap; their maps fade into each other there."
    )
    mask_value: MaskValue = Field(
        None,
        description="What marks a defective pixel in the masks of ground_truth: a grey value or palette index, or a "
        "colour [r, g, b]. None: every value above 0, and a mask that marks nearly everything is refused.",
    )
    ignore_value: MaskValue = Field(
        None,
        description="What marks a pixel in the masks of ground_truth that is not to be judged, such as 255 (void) "
        "beside labels; as mask_value. None: nothing, and a mask with 255 beside small labels is refused.",
    )
    skip_bad: bool = Field(False, description="Leave out unreadable images, and count them, instead of stopping.")
    calibration_fraction: Annotated[float, Field(ge=0.001, le=0.999)] | None = Field(
        None,
        description="Share of the good images held out of fitting, for the threshold. None: about 0.3, in a number "
        "that the threshold makes full use of, at 5 % 19, 39, 59 and so on; 0.2 where none leaves two thirds to fit.",
    )
    groups: str | None = Field(
        None,
        description="Images that belong together, such as several photos of one part: a regular expression with one "
        "group in brackets, found in the image's name, or a CSV file with the columns image and group. None: each "
        "image is on its own.",
    )

    @model_validator(mode="after")
    def _fits_the_memory(self) -> Self:
        side_px = self.side_px or FAST_SIDE_PX
        height, width = self.tile_px or self.size_px or (side_px, side_px)
        if height * width > LARGEST_NETWORK_PX:
            name = "tile_px" if self.tile_px else "size_px" if self.size_px else "side_px"
            raise PydanticCustomError(
                "refused",
                f"data.{name}: {height} x {width} in one piece takes more memory than machines have; the limit is "
                f"{LARGEST_NETWORK_PX} pixels: set data.tile_px, or smaller tiles",
            )
        return self


class AugmentSettings(Settings):
    """Changes that keep a good image good, after the paper, section 3.2."""

    images_of_one: Annotated[int, Field(ge=1, le=100)] = Field(
        5, description="How many images an epoch makes of each good one, itself included. 1: only itself."
    )
    rotation_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = Field(
        180.0, description="Rotate by up to this angle, either way."
    )
    flip_horizontal: bool = Field(True, description="Mirror left and right, half of the time.")
    flip_vertical: bool = Field(True, description="Mirror top and bottom, half of the time.")
    noise_std: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.02, description="Standard deviation of added Gaussian noise; 1 is the full range."
    )


class TrainSettings(Settings):
    """The gradient loop."""

    epochs: Annotated[int, Field(ge=1)] = Field(60, description="Passes over the (augmented) good images.")
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        800, description="Stop after this many steps, if earlier. None: never."
    )
    batch_size: Annotated[int, Field(ge=2)] = Field(16, description="Images per step.")
    learning_rate: Annotated[float, Field(gt=0.0)] = Field(1e-3, description="Peak learning rate of Adam.")
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(0.0, description="Decoupled weight decay (AdamW).")
    betas: tuple[Share, Share] = Field((0.9, 0.999), description="Adam's two decay rates.")
    schedule: Literal["constant", "one_cycle"] = Field("constant", description="Learning rate over the steps.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor computes in it, else float32."
    )
    channels_last: bool = Field(True, description="Memory layout that convolutions are fastest in.")
    compile: bool = Field(False, description="torch.compile: pays for itself in long runs only; needs a C++ compiler.")
    save_every_s: Annotated[float, Field(ge=0.0)] = Field(
        60.0, description="Write the state to resume from this often."
    )


class ScoreSettings(Settings):
    """From a map to a decision."""

    min_defect_px: Annotated[int, Field(ge=1, le=255)] = Field(
        1, description="Nothing smaller than this many pixels square can raise an alarm (grey-scale opening)."
    )
    max_false_alarm_rate: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None,
        description="Share of good images that may be flagged. None: 0.05, or the smallest that the good images can "
        "promise where they are too few for that.",
    )
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="How surely this threshold keeps that rate, e.g. 0.95. None: it is kept on average."
    )
    calibration: Literal["held_out", "cross"] = Field(
        "held_out",
        description="cross: every good image is held out once, fold by fold; as many detectors are fitted and judge "
        "together, and an image is flagged when all of them would.",
    )
    folds: Annotated[int, Field(ge=2)] = Field(
        10,
        description="Folds of calibration=cross. k folds of n images promise 1 / (k + 1) or 2 k / (n + k) "
        "at the least, whichever is smaller.",
    )


class RunSettings(Settings):
    """Everything that decides what a training run gives."""

    detector: str = Field("feature_ensemble", description="Which detector; `blemish detectors` lists them.")
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = Field(0, description="Makes a run repeatable.")
    data: DataSettings = DataSettings()
    augment: AugmentSettings = AugmentSettings()
    train: TrainSettings = TrainSettings()
    score: ScoreSettings = ScoreSettings()
    model: dict[str, JsonValue] = Field(default_factory=dict, description="The detector's own settings.")
