"""Pictures of an image for pages: photo, heat map or defect mask; always drawn here, never sent as it came."""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from blemish.data.decode import open_image, read_content
from blemish.data.pixels import drawable
from blemish.errors import DataError
from blemish.inference.overlay import draw_contour, encode, overlay
from blemish.inference.score import resize_map
from blemish.settings import LARGEST_IMAGE_PX
from blemish.station.folder import StationFolder
from blemish.station.judge import Judge, keep_map, load_map, prepare_kept
from blemish.station.tables import Decision, Image

Show = Literal["photo", "map", "mask"]

SIDES_PX = {"small": 320, "full": 1600}
"""The longer side of what is sent, by its name in the address; nothing is enlarged."""


def draw(folder: StationFolder, judge: Judge, image: Image, decision: Decision | None, show: Show, side: str) -> bytes:
    """A JPEG of the image; a decision that is not in the store is another model's, and its map is computed.

    Raises:
        DataError: it cannot be read, or there is no map of it.
        ArtifactError: the map is missing, and the model to compute it again, too.
    """
    picture = read_photo(folder.image_path(image.sha256, image.suffix), image.name, side)
    photo = np.asarray(picture)
    if show == "photo":
        return encode(photo, "JPEG")
    if decision is None or decision.score is None:
        raise DataError(f"{image.name}: there is no map of it")
    anomaly_map = resize_map(_map_of(folder, judge, image, decision), (picture.height, picture.width))
    if show == "map":
        return encode(overlay(photo, anomaly_map, decision.threshold), "JPEG")
    mask = anomaly_map > np.float64(decision.threshold)
    return encode(draw_contour(np.where(mask[..., None], photo, photo // 4), mask), "JPEG")


def read_photo(path: Path, name: str, side: str) -> Pillow.Image:
    """A photo upright, in 8-bit RGB.

    Raises:
        DataError: it cannot be read; `name` is what the error calls it.
    """
    picture = drawable(open_image(path, LARGEST_IMAGE_PX, read_content(path)), None, name)
    picture.thumbnail((SIDES_PX[side], SIDES_PX[side]), Pillow.Resampling.BILINEAR)
    return picture


def _map_of(folder: StationFolder, judge: Judge, image: Image, decision: Decision) -> NDArray[np.float32]:
    """The map that was kept; where it is missing it is computed again, by the model that decided."""
    kept = load_map(folder.map_path(image.id)) if decision.id else None
    if kept is not None:
        return kept
    predictor = judge.predictor(decision.model_sha256)
    prepared = prepare_kept(predictor, folder.image_path(image.sha256, image.suffix), image.sha256)
    scored = predictor.predict_prepared(prepared, image.name).scored_map
    if decision.id:
        keep_map(folder, image.id, scored)
    return scored
