"""LabelMe's annotations: a JSON file for each image, beside it or in folders below."""

import base64
import io
import math
import posixpath
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.annotation_shapes import (
    Annotations,
    Shape,
    polygon_of,
    read_json,
    rectangle_of,
    size_in,
    understood,
)
from blemish.data.decode import check_pixels
from blemish.data.image_files import list_entries
from blemish.errors import DataError
from blemish.settings import LARGEST_IMAGE_PX

_SIDES = 360
"""Of the polygon that a circle is drawn as."""


def is_labelme(content: Any) -> bool:
    """Whether the content of a JSON file is of LabelMe."""
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()


def has_labelme(folder: Path) -> bool:
    """Whether any file in a folder is of LabelMe; none is that cannot be read, which may lie beside those of others."""
    for file in _json_files(folder):
        with suppress(DataError):
            if is_labelme(read_json(file)):
                return True
    return False


def read_labelme(path: Path) -> Annotations:
    """LabelMe's JSON files, one an image: polygons, rectangles, circles and masks; also those of X-AnyLabeling.

    They lie in the folder, or in folders below it as their images do.
    """
    if not path.is_dir():
        raise DataError(f"{path}: LabelMe's of one image; name the folder with a file for each image")
    files = _json_files(path)
    if not files:
        raise DataError(f"{path}: no JSON files in it, of which LabelMe has one for each image")
    found: dict[str, list[Shape]] = {}
    for file in files:
        image, shapes = understood(file, "labelme", _labelme_image)
        name = posixpath.normpath(posixpath.join(file.relative_to(path).parent.as_posix(), image))
        if name in found:
            raise DataError(f"{file}: {name} is annotated in another file, too; keep one of them")
        found[name] = shapes
    return found


def _json_files(folder: Path) -> list[Path]:
    found = (Path(entry.path) for entry in list_entries(folder, deep=True))
    return sorted(path for path in found if path.suffix.lower() == ".json")


def _labelme_image(file: Path) -> tuple[str, list[Shape]]:
    """The path of the image from where the file lies, and what is marked in it; flags that are set are tags."""
    content = read_json(file)
    drawn_on = size_in(content, "imageHeight", "imageWidth")
    shapes = [_labelme_shape(file, shape, drawn_on) for shape in content["shapes"]]
    shapes += [Shape(name) for name, is_set in (content.get("flags") or {}).items() if is_set]
    return content["imagePath"].replace("\\", "/"), shapes


def _labelme_shape(file: Path, shape: Mapping[str, Any], drawn_on: tuple[int, int] | None) -> Shape:
    kind, label = shape.get("shape_type") or "polygon", str(shape.get("label") or "defect")
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if len(points) == 2 and kind in ("rectangle", "circle", "mask"):
        (left, top), (right, bottom) = points
        if kind == "mask":
            mask, corner = _labelme_mask(shape["mask"]), (round(top), round(left))
            if mask.shape != (wanted := (round(bottom) - corner[0] + 1, round(right) - corner[1] + 1)):
                raise ValueError(f"a mask of {mask.shape} pixels where {wanted} are marked")
            return Shape(label, mask=mask, corner=corner, drawn_on=drawn_on)
        if kind == "rectangle":
            return Shape(label, rectangle_of(left, top, right, bottom), drawn_on=drawn_on)
        radius, turn = math.dist(*points), 2 * math.pi / _SIDES  # a circle: its centre, and a point of its edge
        angles = [turn * side for side in range(_SIDES)]
        points = [(left + radius * math.cos(angle), top + radius * math.sin(angle)) for angle in angles]
    elif kind not in ("polygon", "rectangle", "rotation", "oriented_rectangle"):
        raise DataError(f"{file}: a {kind}; polygons, rectangles, circles and masks are understood")
    return Shape(label, polygon_of(number for point in points for number in point), drawn_on=drawn_on)


def _labelme_mask(text: str) -> NDArray[np.bool_]:
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as picture:
            check_pixels(picture.size[::-1], LARGEST_IMAGE_PX, "a mask")
            return np.asarray(picture.convert("L")) > 0
    except OSError:
        raise ValueError("a mask that is no whole PNG") from None
