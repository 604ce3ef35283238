"""Parts of a photo as settings give them: rectangles and polygons."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo
from pydantic_core import PydanticCustomError

Polygon = tuple[tuple[float, float], ...]
"""Corners (x, y), x to the right and y down."""

MAX_CORNERS = 1000
"""Of all polygons of a setting together."""

_EXPECTED = (
    "expected a mask image, a rectangle [left, top, right, bottom], a polygon of three or more corners [x, y], or a "
    "list of such"
)


def _as_polygons(value: object, info: ValidationInfo) -> object:
    """A rectangle, a polygon or a list of such as polygons; text and None as they are."""
    if value is None or (isinstance(value, str) and value and not value.startswith("[")):
        return value
    given = value[: MAX_CORNERS + 1] if isinstance(value, list) else []
    single = _polygon(given)
    shapes = [single] if single else [_polygon(one) for one in given]
    problem = f"found {given or value!r:.60}; {_EXPECTED}" if not shapes or None in shapes else ""
    if not problem and sum(len(shape) for shape in shapes if shape) > MAX_CORNERS:
        problem = f"more than {MAX_CORNERS} corners; give a mask image"
    if problem:
        raise PydanticCustomError("refused", "{message}", {"message": f"data.{info.field_name}: {problem}"})
    return tuple(shapes)


def _polygon(value: object) -> Polygon | None:
    """The corners of a rectangle or a polygon; None where it is neither."""
    if not isinstance(value, list):
        return None
    if len(value) == 4 and all(map(_is_number, value)):
        left, top, right, bottom = value
        return (left, top), (right, top), (right, bottom), (left, bottom)
    pairs = [corner for corner in value if isinstance(corner, list) and len(corner) == 2]
    if len(value) < 3 or len(pairs) < len(value) or not all(_is_number(part) for pair in pairs for part in pair):
        return None
    return tuple((float(x), float(y)) for x, y in pairs)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value


Area = Annotated[str | tuple[Polygon, ...] | None, BeforeValidator(_as_polygons)]
"""A part of the photos: text that names it, or polygons."""


def bounds(polygons: Sequence[Polygon]) -> tuple[float, float, float, float]:
    """left, top, right, bottom of them all.

    >>> bounds((((1, 2), (5, 2), (3, 4)),))
    (1, 2, 5, 4)
    """
    xs, ys = zip(*(corner for polygon in polygons for corner in polygon), strict=True)
    return min(xs), min(ys), max(xs), max(ys)
