"""What annotations of other tools are made of: shapes, how they are drawn, and what their readers share."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.data.layouts import GOOD_NAMES, folded, is_named_bad
from blemish.errors import DataError, join_names
from blemish.settings import read_regular

MAX_BYTES = 1 << 28
"""Of a file of annotations."""

_FARTHEST = 1e9
"""From the image's corner to one of a polygon; what is farther away is drawn wrong."""

Points = Sequence[tuple[float, float]]


class Shape(NamedTuple):
    """What one annotation marks in an image: its label, and a polygon (x, y) or a mask."""

    label: str
    polygon: Points = ()
    mask: "NDArray[np.bool_] | Runs | None" = None
    corner: tuple[int, int] = (0, 0)
    """Row and column in the image of the mask's first pixel."""
    is_relative: bool = False
    """The polygon is in shares of the image's width and height."""
    drawn_on: tuple[int, int] | None = None
    """Height and width of the image in the tool; None where it does not say."""

    @property
    def is_tag(self) -> bool:
        """Whether nothing is drawn: the label is of the whole image."""
        return self.mask is None and not self.polygon


Annotations = Mapping[str, Sequence[Shape]]
"""Shapes by the image's name as the tool wrote it; an image without a shape is good, one that is not there unknown."""

ASPECT_TOLERANCE = 0.02
"""How far the aspect of an image may be from that of the one on which shares of its sides were drawn."""


def draw_shapes(shapes: Iterable[Shape], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (height, width) that any of the shapes covers; what lies outside of the image is cut off.

    >>> draw_shapes([Shape("scratch", [(0, 0), (2, 0), (2, 1), (0, 1)])], (3, 4)).astype(int)
    array([[1, 1, 1, 0],
           [1, 1, 1, 0],
           [0, 0, 0, 0]])
    """
    height, width = size_px
    canvas = Image.new("1", (width, height))
    masks = np.zeros(size_px, np.bool_)
    for shape in shapes:
        if shape.mask is not None:
            mask = shape.mask.decode() if isinstance(shape.mask, Runs) else shape.mask
            _stamp(masks, mask, shape.corner)
        elif shape.polygon:
            scale = (width, height) if shape.is_relative else (1, 1)
            points = [(x * scale[0], y * scale[1]) for x, y in shape.polygon]
            ImageDraw.Draw(canvas).polygon(points, fill=1, outline=1)
    return np.asarray(canvas, np.bool_) | masks


def refuse_other_size(shapes: Iterable[Shape], size_px: tuple[int, int], where: str) -> None:
    """Refuse shapes that were drawn on an image of another size, or of another aspect where they are shares of it.

    Raises:
        DataError: there is one; `where` is what the error calls the image.
    """
    for shape in shapes:
        drawn = shape.drawn_on
        if drawn is None or drawn == size_px or 0 in drawn:
            continue
        if shape.is_relative and abs(drawn[0] * size_px[1] / (drawn[1] * size_px[0]) - 1) <= ASPECT_TOLERANCE:
            continue
        turned = "; was it turned since (EXIF)?" if drawn == size_px[::-1] else ""
        raise DataError(
            f"{where}: annotated at {drawn[0]} x {drawn[1]}, the image is {size_px[0]} x {size_px[1]} (height x "
            f"width){turned}; give the images that were annotated"
        )


def refuse_shares(shapes: Iterable[Shape], where: str) -> None:
    """Refuse polygons in pixels that lie within the first one, as shares of the image's sides do.

    Raises:
        DataError: there is one; `where` is what the error calls the image.
    """
    for shape in shapes:
        if shape.polygon and not shape.is_relative and max(map(max, shape.polygon)) <= 1:
            raise DataError(
                f"{where}: a polygon within the first pixel; these look like shares of the image's sides, as Azure's "
                "export has them: multiply them by its width and height"
            )


def _stamp(canvas: NDArray[np.bool_], mask: NDArray[np.bool_], corner: tuple[int, int]) -> None:
    top, left = (max(0, place) for place in corner)
    part = mask[top - corner[0] :, left - corner[1] :]
    place = canvas[top : top + part.shape[0], left : left + part.shape[1]]
    place |= part[: place.shape[0], : place.shape[1]]


Given = TypeVar("Given")
Read = TypeVar("Read")


def understood(given: Given, form: str, reader: Callable[[Given], Read], where: object = None) -> Read:
    """What a reader finds in a tool's file or in a piece of it; `where` is what the error calls it.

    Raises:
        DataError: the file is not as the tool writes it.
    """
    try:
        return reader(given)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(f"{where or given}: not as {form} writes it ({type(error).__name__}: {error})") from None


def judge_labels(found: Annotations) -> tuple[Annotations, list[str]]:
    """What is marked as defective in each image, and what to say of it: good parts that are marked are no defects.

    Left out are images in which nothing is drawn and which as a whole are called bad, or what others have drawn or,
    where some are called good, anything else.
    """
    drawn = {name: [shape for shape in shapes if not shape.is_tag] for name, shapes in found.items()}
    tags = {name: {shape.label for shape in shapes if shape.is_tag} for name, shapes in found.items()}
    is_good = {name: any(map(_is_good, some)) for name, some in tags.items()}
    labels = {folded(shape.label) for shapes in drawn.values() for shape in shapes} - {*GOOD_NAMES}
    good_labels = {shape.label for shapes in drawn.values() for shape in shapes if _is_good(shape.label)}
    judged: dict[str, Sequence[Shape]] = {}
    beside: set[str] = set()
    for name, shapes in drawn.items():
        marks = [shape for shape in shapes if shape.label not in good_labels]
        if not marks and not is_good[name] and tags[name]:
            if any(is_named_bad(tag) or folded(tag) in labels for tag in tags[name]) or any(is_good.values()):
                continue
            beside |= tags[name]
        judged[name] = marks
    notes = []
    if good_labels:
        notes.append(f"what is labelled {join_names(sorted(good_labels))} is taken for good, not for a defect")
    if beside:
        notes.append(
            "images in which nothing is drawn are taken for good, though they are tagged "
            f"{join_names(sorted(beside))}; if that is a defect, keep them apart"
        )
    return judged, notes


def _is_good(label: str) -> bool:
    return folded(label.strip()) in GOOD_NAMES


def refuse_twice(path: Path, images: Iterable[str]) -> None:
    """Refuse a name or number of two images, as merged exports have it: which of them is marked cannot be told.

    Raises:
        DataError: there is one.
    """
    if twice := next((image for image, count in Counter(images).items() if count > 1), None):
        raise DataError(f"{path}: {twice} is there twice, as of two tasks; export each by itself")


def read_bytes(path: Path) -> bytes:
    """A file of annotations.

    Raises:
        DataError: it cannot be read, or is an archive, as tools hand out their exports.
    """
    try:
        content = read_regular(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotations: {error.strerror}") from None
    if content.startswith(b"PK\x03\x04"):
        raise DataError(f"{path}: a ZIP archive; unpack it, and name the annotations that are in it")
    return content


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        return json.loads(read_bytes(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None


def size_in(row: Mapping[str, Any], height: str, width: str) -> tuple[int, int] | None:
    """Height and width in the fields of those names; None where they say nothing."""
    return (int(row[height]), int(row[width])) if row.get(height) and row.get(width) else None


def polygon_of(numbers: Iterable[float | str]) -> Points:
    """A polygon from its numbers, x and y in turn.

    Raises:
        ValueError: too few, or one is missing, not finite or too far away.
    """
    flat = [float(number) for number in numbers]
    if len(flat) < 6 or len(flat) % 2 or not all(abs(number) < _FARTHEST for number in flat):
        raise ValueError(f"a polygon of {len(flat)} numbers; expected an even number of finite ones, six at least")
    return list(zip(flat[::2], flat[1::2], strict=True))


def rectangle_of(left: float, top: float, right: float, bottom: float) -> Points:
    """A rectangle as a polygon.

    Raises:
        ValueError: as `polygon_of`.
    """
    return polygon_of((left, top, right, top, right, bottom, left, bottom))


@final
class Runs(NamedTuple):
    """A mask as the lengths of its runs, the first of ground: of a large image a few bytes, until it is drawn."""

    lengths: NDArray[np.int64]
    size_px: tuple[int, int]
    by_column: bool

    def decode(self) -> NDArray[np.bool_]:
        """The mask (height, width)."""
        height, width = self.size_px
        flat = np.repeat(np.arange(len(self.lengths)) % 2 == 1, self.lengths)
        return flat.reshape(width, height).T if self.by_column else flat.reshape(height, width)


def from_runs(counts: Any, size_px: tuple[int, int], *, by_column: bool) -> Runs:
    """The lengths of a mask's runs, as a list or as COCO's text.

    Raises:
        ValueError: they are not of so many pixels.

    >>> from_runs([1, 2, 3], (2, 3), by_column=True).decode().astype(int)
    array([[0, 1, 0],
           [1, 0, 0]])
    """
    runs = np.array(list(_from_text(counts)) if isinstance(counts, str) else list(counts), np.int64)
    height, width = size_px
    is_odd = height < 0 or width < 0 or height * width > MAX_BYTES
    if is_odd or ((runs < 0) | (runs > height * width)).any() or runs.sum() != height * width:
        raise ValueError(f"run lengths of {int(runs.sum())} pixels in all, for {height} x {width}")
    return Runs(runs, size_px, by_column)


def _from_text(text: str) -> Iterator[int]:
    """COCO's compressed run lengths: six bits a letter, five of them digits; from the fourth on a difference.

    >>> list(_from_text("1232"))
    [1, 2, 3, 4]
    """
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            digit = ord(text[place]) - 48
            value |= (digit & 31) << shift
            more, place, shift = bool(digit & 32), place + 1, shift + 5
            if not more and digit & 16:
                value |= -1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        yield runs[-1]
