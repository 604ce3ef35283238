"""The pixel policy of a run: which size, channels, region and tiles follow from the settings and the good images."""

from collections import Counter
from collections.abc import Sequence

from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy
from blemish.data.masks import encode_roi, load_roi
from blemish.data.tiles import tile_boxes
from blemish.errors import DataError, SettingsError
from blemish.models import DETECTORS
from blemish.models.detector import nearest_multiple
from blemish.settings import RunSettings, validate

MAX_LONGER = 4
"""So many times `data.side_px` at most is the longer side, where the shorter has it."""


def resolve_policy(samples: Sequence[Sample], settings: RunSettings) -> PixelPolicy:
    """The pixel policy of a run: what the settings leave open follows from the images' headers.

    Without `data.size_px` the commonest image size counts: its aspect is kept, its longer or shorter side (`data.side`)
    becomes `data.side_px`, and both are rounded to what the detector needs; with tiles it is kept as it is.

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
        sizes = Counter(sample.size_px(data.max_image_px) for sample in samples)
        height, width = min(sizes, key=lambda size: (-sizes[size], size))
        aspect = height / width
        size_px = (height, width)
        if data.tile_px is None:
            scale, multiple = data.side_px / max(size_px), DETECTORS[settings.detector].side_multiple
            if data.side == "shorter":
                scale *= min(max(size_px) / min(size_px), MAX_LONGER)
            size_px = (nearest_multiple(height * scale, multiple), nearest_multiple(width * scale, multiple))
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
