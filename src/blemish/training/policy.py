"""The pixel policy of a run: which size, channels, region and tiles follow from the settings and the good images."""

import math
from collections import Counter
from collections.abc import Sequence

from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy
from blemish.data.roi import encode_roi, load_roi
from blemish.data.tiles import tile_boxes
from blemish.errors import DataError, SettingsError
from blemish.models import side_multiple
from blemish.models.detector import nearest_multiple
from blemish.settings import FAST_SIDE_PX, DataSettings, RunSettings, validate

MAX_LONGER = 4
"""So many times the shorter side at most is the longer one, where the shorter one is given."""

THOROUGH_SIDE_PX = 512
"""The shorter side at most with `data.speed=thorough`: photos of more detail gained little on six sets."""

MAX_THOROUGH_PX = 512 * 768
"""Pixels at most with `data.speed=thorough`: the default detector judges so many in about 60 ms on two cores (ONNX)."""

WORTH_SAYING = 1.5
"""Times as fast or slow, from which on the other speed is mentioned."""


def resolve_policy(samples: Sequence[Sample], settings: RunSettings) -> PixelPolicy:
    """The pixel policy of a run: what the settings leave open follows from the images' headers.

    Without `data.size_px` the commonest image size counts: see `network_size`; with tiles it is kept as it is.

    Raises:
        DataError: a header that cannot be read.
        SettingsError: an unknown detector; a side or a region of interest that does not go with the images.
    """
    data = settings.data
    if not samples:
        raise DataError("good images: none can be read")
    channels = data.channels
    if channels is None:
        channels = 1 if all(sample.header.is_grey for sample in samples) else 3
    size_px, aspect = data.size_px, None
    if size_px is None:
        size_px = commonest_size(samples, settings)
        aspect = size_px[0] / size_px[1]
        if data.tile_px is None:
            size_px = network_size(size_px, data, side_multiple(settings.detector, settings.model))
    if data.fit == "pad":
        if data.roi is not None:
            raise SettingsError("data.roi: needs images of one aspect; with data.fit=pad each lies elsewhere")
        aspect = None
    if data.tile_px is not None:
        tile_boxes(size_px, data.tile_px, data.tile_overlap_px)  # refuses what cannot be tiled
    given = {
        "size_px": size_px,
        "fit": data.fit,
        "channels": channels,
        "white_level": data.white_level,
        "max_image_px": data.max_image_px,
        "aspect": aspect,
        "roi_png": None if data.roi is None else encode_roi(load_roi(data.roi, size_px, aspect)),
        "tile_px": data.tile_px,
        "tile_overlap_px": 0 if data.tile_px is None else data.tile_overlap_px,
    }
    return validate(PixelPolicy, given, "the images' ")


def commonest_size(samples: Sequence[Sample], settings: RunSettings) -> tuple[int, int]:
    """The height and width that most of the images have; of several the smallest."""
    sizes = Counter(sample.size_px(settings.data.max_image_px) for sample in samples)
    return min(sizes, key=lambda size: (-sizes[size], size))


def network_size(photo_px: tuple[int, int], data: DataSettings, multiple: int) -> tuple[int, int]:
    """Height and width that a network sees of photos of this size, their aspect kept, both sides multiples.

    The longer or shorter side (`data.side`) becomes `data.side_px`. Where that is None it follows from `data.speed`.

    >>> network_size((1000, 1500), DataSettings(side="shorter"), multiple=32)
    (256, 384)
    >>> thorough = DataSettings(speed="thorough")
    >>> [network_size(photo_px, thorough, 32) for photo_px in ((1000, 1500), (300, 300), (700, 700), (100, 80))]
    [(512, 768), (288, 288), (512, 512), (320, 256)]
    """
    height, width = photo_px
    shorter, longer = min(photo_px), max(photo_px)
    if data.side_px is None and data.speed == "thorough":
        side_px = min(max(shorter, FAST_SIDE_PX), THOROUGH_SIDE_PX)
        scale = min(
            side_px / shorter, MAX_LONGER * THOROUGH_SIDE_PX / longer, math.sqrt(MAX_THOROUGH_PX / (height * width))
        )
        size_px = nearest_multiple(height * scale, multiple), nearest_multiple(width * scale, multiple)
        if math.prod(size_px) <= MAX_THOROUGH_PX:
            return size_px
        return int(height * scale / multiple) * multiple, int(width * scale / multiple) * multiple
    scale = (data.side_px or FAST_SIDE_PX) / longer
    if data.side == "shorter":
        scale *= min(longer / shorter, MAX_LONGER)
    return nearest_multiple(height * scale, multiple), nearest_multiple(width * scale, multiple)


def say_other_speed(photo_px: tuple[int, int], settings: RunSettings) -> str:
    """What `data.speed` gave, and what its other value would cost and give; empty where it is not what decides.

    >>> say_other_speed((1000, 1000), RunSettings(data=DataSettings(speed="thorough")))
    'seen at 512 x 512 px; data.speed=fast would see 256 x 256: about 4 times as fast, small defects may be lost'
    """
    data = settings.data
    if data.size_px or data.side_px or data.tile_px:
        return ""
    multiple = side_multiple(settings.detector, settings.model)
    other = "fast" if data.speed == "thorough" else "thorough"
    seen = network_size(photo_px, data, multiple)
    would = network_size(photo_px, data.model_copy(update={"speed": other}), multiple)
    times = round(max(math.prod(seen) / math.prod(would), math.prod(would) / math.prod(seen)), 1)
    if times < WORTH_SAYING:
        return ""
    effect = "fast, small defects may be lost" if other == "fast" else "slow, smaller defects may be found"
    return "seen at {} x {} px; data.speed={} would see {} x {}: about {:g} times as {}".format(
        *seen, other, *would, times, effect
    )
