"""The pixel policy of a run: which size, channels, region and tiles follow from the settings and the good images."""

import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

from blemish.data.folder import Sample, commonest_size
from blemish.data.images import PixelPolicy
from blemish.data.roi import (
    MAX_MAP_PX,
    AreaOfPhoto,
    Region,
    Window,
    encode_roi,
    place_window,
    read_area,
    window_of,
)
from blemish.data.tiles import tile_boxes
from blemish.errors import DataError, SettingsError
from blemish.models import side_multiple
from blemish.models.detector import nearest_multiple
from blemish.settings import FAST_SIDE_PX, DataSettings, RunSettings, validate
from blemish.training.auto_region import AUTO, find_part

MAX_LONGER = 4
"""So many times the shorter side at most is the longer one, where the shorter one is given."""

THOROUGH_SIDE_PX = 512
"""The shorter side at most with `data.speed=thorough`: photos of more detail gained little on six sets."""

MAX_THOROUGH_PX = 512 * 768
"""Pixels at most with `data.speed=thorough`: at 448 x 672 the default takes a quarter less and loses too much (log)."""

WORTH_SAYING = 1.5
"""Times as fast or slow, from which on the other speed is mentioned."""


def resolve_policy(samples: Sequence[Sample], settings: RunSettings) -> PixelPolicy:
    """The pixel policy of a run: what the settings leave open follows from the images' headers.

    Without `data.size_px` the commonest image size counts, or that of the part of it that holds the region of interest:
    see `network_size`; with tiles it is kept as it is. With `data.roi=auto` good images are looked at.

    Raises:
        DataError: a header, or the mask of a region, that cannot be read.
        SettingsError: an unknown detector; a side or a region of interest that does not go with the images.
    """
    data = settings.data
    if not samples:
        raise DataError("good images: none can be read")
    channels = data.channels
    if channels is None:
        channels = 1 if all(sample.header.is_grey for sample in samples) else 3
    photo_px = commonest_size(sample.size_px(data.max_image_px) for sample in samples)
    decoding: dict[str, Any] = {
        "channels": channels,
        "white_level": data.white_level,
        "max_image_px": data.max_image_px,
    }
    region = _read_region(samples, data, photo_px, PixelPolicy(size_px=(8, 8), **decoding))
    window = _window(region, settings, photo_px)
    if data.tile_px is not None:
        tile_boxes(window.size_px, data.tile_px, data.tile_overlap_px)  # refuses what cannot be tiled
    of_one_aspect = region is not None or (data.size_px is None and data.fit != "pad")
    given: dict[str, Any] = {
        "size_px": window.size_px,
        "fit": data.fit,
        **decoding,
        "aspect": photo_px[0] / photo_px[1] if of_one_aspect else None,
        "tile_px": data.tile_px,
        "tile_overlap_px": 0 if data.tile_px is None else data.tile_overlap_px,
    }
    if window.size_px != window.map_px:
        given |= {"map_px": window.map_px, "at_px": window.at_px}
    if region is not None:
        roi, shown = region.draw(window)
        given |= {"roi_png": encode_roi(roi), "shown_png": encode_roi(shown)}
    return validate(PixelPolicy, given, "the images' ")


def _read_region(
    samples: Sequence[Sample], data: DataSettings, photo_px: tuple[int, int], decoding: PixelPolicy
) -> Region | None:
    """Where defects are looked for; None: everywhere."""
    areas: dict[str, AreaOfPhoto | None] = {}
    for name in ("roi", "ignore"):
        value = getattr(data, name)
        if value is not None and data.fit == "pad":
            raise SettingsError(f"data.{name}: needs images of one aspect; with data.fit=pad each lies elsewhere")
        if name == "roi" and value == AUTO:
            areas[name] = find_part(samples, decoding)
        else:
            areas[name] = None if value is None else read_area(f"data.{name}", value, photo_px)
    return Region(**areas) if any(areas.values()) else None


def _window(region: Region | None, settings: RunSettings, photo_px: tuple[int, int]) -> Window:
    """What the network sees of photos of this height and width, and at which size."""
    data, multiple = settings.data, side_multiple(settings.detector, settings.model)
    roi = None if region is None else region.roi
    part = (0, 0, *photo_px) if roi is None else place_window(roi, photo_px, data.tile_px or (multiple, multiple))
    part_px = part[2] - part[0], part[3] - part[1]
    size_px = data.size_px or (part_px if data.tile_px else network_size(part_px, data, multiple))
    if part_px == photo_px:
        return Window(size_px, size_px, (0, 0))
    window = window_of(part, photo_px, size_px)
    most, found = max(MAX_MAP_PX, math.prod(photo_px)), math.prod(window.map_px)
    if found <= most:
        return window
    if data.size_px is not None:
        raise SettingsError(
            f"data.size_px: at {size_px[0]} x {size_px[1]} the region of interest, {part_px[0]} x {part_px[1]} px with "
            f"its margin, makes a map of {found} pixels of the photo, at most {most}; give a smaller size"
        )
    scale = math.sqrt(most / found) / multiple
    smaller = max(1, int(size_px[0] * scale)) * multiple, max(1, int(size_px[1] * scale)) * multiple
    return window_of(part, photo_px, smaller)


def region_notes(policy: PixelPolicy, photo_px: tuple[int, int], roi: object) -> list[str]:
    """Which part of photos of this height and width is seen, and how much is not judged, where that is not all."""
    part, notes = policy.part_px(photo_px), []
    if part is None and roi == AUTO:
        found = "the part lies on no plain ground in nearly all of them, or fills them"
        notes.append(f"data.roi=auto: the photos are seen whole, as {found}")
    if part is not None:
        top, left, bottom, right = map(round, part)
        notes.append(
            f"{'data.roi=auto' if roi == AUTO else 'region of interest'}: of photos of {photo_px[0]} x {photo_px[1]} "
            f"px the rows {top} to {bottom} and the columns {left} to {right} are seen; nothing outside can be found"
        )
    if policy.judged_share < 1.0:
        notes.append(
            f"{100 * (1 - policy.judged_share):.3g} % of each photo is not judged, as it lies outside data.roi or in "
            "data.ignore: no defect is found there"
        )
    return notes


def without_paths(settings: RunSettings) -> RunSettings:
    """The settings as a model file keeps them: of a mask of a region the file's name, but not the folder it is in."""
    data = settings.data
    names = {name: Path(value).name for name in ("roi", "ignore") if isinstance(value := getattr(data, name), str)}
    return settings.model_copy(update={"data": data.model_copy(update=names)}) if names else settings


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
        sides = ({math.floor(s * scale / multiple), math.ceil(s * scale / multiple)} for s in photo_px)
        sizes = ((down * multiple, across * multiple) for down, across in product(*sides))
        return max((size for size in sizes if math.prod(size) <= MAX_THOROUGH_PX), key=math.prod)
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
