"""Annotations of other tools, drawn as masks; a reader for each of them is one function and one row."""

import base64
import io
import json
import math
import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from blemish.data.decode import check_pixels
from blemish.data.image_files import list_entries
from blemish.data.layouts import BAD_NAMES, GOOD_NAMES
from blemish.errors import DataError, SettingsError, nearest
from blemish.settings import LARGEST_IMAGE_PX, read_regular

MAX_BYTES = 1 << 28
"""Of a file of annotations."""

Points = Sequence[tuple[float, float]]

_YOLO_LISTS = ("classes.txt", "train.txt", "val.txt", "test.txt")
_MAX_SHARE = 2
"""Polygons that leave the image do so by less."""
_SIDES = 360
"""Of the polygon that a circle is drawn as."""
_OF_IMAGES = ("choices", "taxonomy", "textarea", "rating", "number", "datetime")
"""What Label Studio says of a whole image, or of a shape that has a row of its own."""


class Shape(NamedTuple):
    """What one annotation marks in an image: its label, and a polygon (x, y) or a mask."""

    label: str
    polygon: Points = ()
    mask: NDArray[np.bool_] | None = None
    corner: tuple[int, int] = (0, 0)
    """Row and column in the image of the mask's first pixel."""
    is_relative: bool = False
    """The polygon is in shares of the image's width and height."""
    drawn_on: tuple[int, int] | None = None
    """Height and width of the image in the tool; None where it does not say."""


Annotations = Mapping[str, Sequence[Shape]]
"""Shapes by the image's name as the tool wrote it; an image without a shape is good, one that is not there unknown."""

ASPECT_TOLERANCE = 0.02
"""How far the aspect of an image may be from that of the one on which shares of its sides were drawn."""


def read_annotations(path: Path, form: str | None = None) -> tuple[str, Annotations]:
    """Which format it is, and the shapes of each image.

    `path` is a file, or for YOLO and LabelMe the folder of the files.

    Raises:
        DataError: it cannot be read, is none of the formats, or marks in a way that is not understood.
        SettingsError: there is no format of that name.
    """
    if form is not None and form not in FORMATS:
        raise SettingsError(f"--format {form}: unknown; {nearest(form, FORMATS)}")
    name = form or _recognise(path)
    return name, _understood(path, name, FORMATS[name])


Read = TypeVar("Read")


def _understood(path: Path, form: str, reader: Callable[[Path], Read]) -> Read:
    try:
        return reader(path)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(f"{path}: not as {form} writes it ({type(error).__name__}: {error})") from None


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
            _stamp(masks, shape.mask, shape.corner)
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


def _stamp(canvas: NDArray[np.bool_], mask: NDArray[np.bool_], corner: tuple[int, int]) -> None:
    top, left = (max(0, place) for place in corner)
    part = mask[top - corner[0] :, left - corner[1] :]
    place = canvas[top : top + part.shape[0], left : left + part.shape[1]]
    place |= part[: place.shape[0], : place.shape[1]]


def read_coco(path: Path) -> Annotations:
    """COCO's instances: polygons, and run lengths as a list or as text."""
    content = _json(path)
    labels = {row["id"]: str(row["name"]) for row in content.get("categories", ())}
    sizes = {row["id"]: _size(row, "height", "width") for row in content["images"]}
    names = {row["id"]: str(row["file_name"]) for row in content["images"]}
    _refuse_twice(path, [str(row["file_name"]) for row in content["images"]])
    _refuse_twice(path, [f"the image id {row['id']}" for row in content["images"]])
    found: dict[str, list[Shape]] = {name: [] for name in names.values()}
    for row in content["annotations"]:
        image, marked = row["image_id"], row.get("segmentation")
        label = labels.get(row.get("category_id"), "defect")
        size = sizes[image]
        if isinstance(marked, dict):
            runs_px = (int(marked["size"][0]), int(marked["size"][1]))
            if size is not None and runs_px != size:
                raise DataError(f"{path}: {names[image]}: run lengths for {marked['size']}, an image of {list(size)}")
            mask = _from_runs(marked["counts"], runs_px, by_column=True)
            found[names[image]].append(Shape(label, mask=mask, drawn_on=runs_px))
        elif marked:
            found[names[image]] += [Shape(label, _pairs(polygon), drawn_on=size) for polygon in marked]
        else:
            raise DataError(f"{path}: {names[image]}: an annotation without a segmentation; boxes mark no pixels")
    return found


def read_yolo(path: Path) -> Annotations:
    """YOLO's segmentation: a text file an image, each line a class and a polygon in shares of the sides.

    They lie in the folder or, as `train` and `val`, in folders below it.
    """
    if not path.is_dir():
        raise DataError(f"{path}: not a folder; name the folder with a text file for each image")
    labels = _yolo_labels(path)
    texts = sorted(Path(entry.path) for entry in list_entries(path, deep=True) if entry.name.endswith(".txt"))
    files = [text for text in texts if text.name not in _YOLO_LISTS and not text.name.lower().startswith("readme")]
    if not files:
        raise DataError(f"{path}: no text files in it, of which YOLO has one for each image")
    return {file.relative_to(path).with_suffix("").as_posix(): list(_yolo_shapes(file, labels)) for file in files}


def _yolo_labels(path: Path) -> dict[int, str]:
    """What `classes.txt` in the folder or the one above it says; classes without a name are numbered."""
    for place in (path / "classes.txt", path.parent / "classes.txt"):
        if place.is_file():
            lines = _content(place).decode("utf-8-sig").splitlines()
            return {number: line.strip() for number, line in enumerate(lines) if line.strip()}
    return {}


def _yolo_shapes(file: Path, labels: Mapping[int, str]) -> Iterator[Shape]:
    for number, line in enumerate(_content(file).decode("utf-8-sig").splitlines(), start=1):
        row = line.split()
        if row and len(row) < 7:
            raise DataError(f"{file}, line {number}: a box, or fewer than three points; boxes mark no pixels")
        try:
            polygon = _pairs(row[1:]) if row else ()
        except ValueError as error:
            raise DataError(f"{file}, line {number}: {error}") from None
        if any(max(point) > _MAX_SHARE for point in polygon):
            raise DataError(f"{file}, line {number}: numbers far above 1; YOLO's are shares of the image's sides")
        if row:
            yield Shape(labels.get(int(row[0]), f"class_{int(row[0])}"), polygon, is_relative=True)


def read_label_studio(path: Path) -> Annotations:
    """Label Studio's JSON export: polygons and rectangles, in percent; brushes are not understood.

    Left out are tasks that nobody has annotated, or everybody has skipped.
    """
    found: dict[str, list[Shape]] = {}
    tags: dict[str, set[str]] = {}
    for task in _json(path):
        data = task["data"]
        name = next(str(data[key]) for key in ("image", "img", "photo", *data) if key in data)
        given = task.get("annotations") or task.get("completions") or ()
        for annotation in given:
            if not annotation.get("was_cancelled"):
                results = [result for result in annotation["result"] if "value" in result]
                drawn = [one for one in results if one.get("type") not in _OF_IMAGES]
                found.setdefault(name, []).extend(_studio_shape(path, name, result) for result in drawn)
                chosen = (one["value"].get("choices") or () for one in results)
                tags.setdefault(name, set()).update(str(choice) for choices in chosen for choice in choices)
    return _without_tagged(found, tags)


def _without_tagged(found: Mapping[str, list[Shape]], tags: Mapping[str, Iterable[str]]) -> Annotations:
    """Without images in which nothing is drawn and which as a whole are called bad, or what others have drawn."""
    bad = {*BAD_NAMES, *(shape.label.lower() for shapes in found.values() for shape in shapes)} - {*GOOD_NAMES}
    return {
        name: shapes
        for name, shapes in found.items()
        if shapes or bad.isdisjoint(tag.lower() for tag in tags.get(name, ()))
    }


def _studio_shape(path: Path, name: str, result: Mapping[str, Any]) -> Shape:
    value, kind = result["value"], str(result.get("type", ""))
    size = _size(result, "original_height", "original_width")
    if result.get("image_rotation"):
        raise DataError(f"{path}: {name}: drawn on the image turned by {result['image_rotation']}; save it upright")
    label = next((str(value[key][0]) for key in value if key.endswith("labels") and value[key]), "defect")
    if kind.startswith("polygon"):
        return Shape(label, [(x / 100, y / 100) for x, y in value["points"]], is_relative=True, drawn_on=size)
    if kind.startswith("rectangle"):
        if value.get("rotation"):
            raise DataError(f"{path}: {name}: a rectangle that is turned; draw it as a polygon")
        x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        return Shape(label, corners, is_relative=True, drawn_on=size)
    raise DataError(f"{path}: {name}: an annotation of type {kind or 'unknown'}; export brushes as PNG masks instead")


def read_cvat(path: Path) -> Annotations:
    """CVAT for images 1.1: polygons, boxes, and masks as run lengths.

    Left out are images without a shape that are tagged as bad.
    """
    content = _content(path)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataError(f"{path}: a document type or an entity, which CVAT never writes")
    try:
        root = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not XML ({error})") from None
    _refuse_twice(path, [str(image.attrib["name"]) for image in root.iter("image")])
    images = {str(image.attrib["name"]): image for image in root.iter("image")}
    found = {
        name: [_cvat_shape(path, image, part) for part in image if part.tag != "tag"] for name, image in images.items()
    }
    tags = {name: [part.attrib.get("label", "") for part in image.iter("tag")] for name, image in images.items()}
    return _without_tagged(found, tags)


def _cvat_shape(path: Path, image: ElementTree.Element, part: ElementTree.Element) -> Shape:
    given, label = part.attrib, part.attrib.get("label", "defect")
    drawn_on = _size(image.attrib, "height", "width")
    if part.tag == "polygon":
        return Shape(label, _pairs(given["points"].replace(";", ",").split(",")), drawn_on=drawn_on)
    if part.tag == "box" and not float(given.get("rotation", 0)):
        left, top, right, bottom = (float(given[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return Shape(label, corners, drawn_on=drawn_on)
    if part.tag == "mask":
        size, corner = (int(given["height"]), int(given["width"])), (int(given["top"]), int(given["left"]))
        runs = [int(run) for run in given["rle"].split(",")]
        return Shape(label, mask=_from_runs(runs, size, by_column=False), corner=corner, drawn_on=drawn_on)
    raise DataError(
        f"{path}: {image.attrib.get('name')}: a {part.tag}; polygons, upright boxes and masks are understood"
    )


def read_labelme(path: Path) -> Annotations:
    """LabelMe's JSON files, one an image: polygons, rectangles, circles and masks; also those of X-AnyLabeling.

    They lie in the folder, or in folders below it as their images do. Left out are images without a shape that are
    flagged as bad.
    """
    if not path.is_dir():
        raise DataError(f"{path}: LabelMe's of one image; name the folder with a file for each image")
    files = _json_files(path)
    if not files:
        raise DataError(f"{path}: no JSON files in it, of which LabelMe has one for each image")
    found: dict[str, list[Shape]] = {}
    tags: dict[str, list[str]] = {}
    for file in files:
        image, shapes, flags = _understood(file, "labelme", _labelme_image)
        name = posixpath.normpath(posixpath.join(file.relative_to(path).parent.as_posix(), image))
        if name in found:
            raise DataError(f"{file}: {name} is annotated in another file, too; keep one of them")
        found[name], tags[name] = shapes, flags
    return _without_tagged(found, tags)


def _json_files(folder: Path) -> list[Path]:
    found = (Path(entry.path) for entry in list_entries(folder, deep=True))
    return sorted(path for path in found if path.suffix.lower() == ".json")


def _labelme_image(file: Path) -> tuple[str, list[Shape], list[str]]:
    """The path of the image from where the file lies, what is marked in it, and the flags that are set."""
    content = _json(file)
    drawn_on = _size(content, "imageHeight", "imageWidth")
    shapes = [_labelme_shape(file, shape, drawn_on) for shape in content["shapes"]]
    flags = [name for name, is_set in (content.get("flags") or {}).items() if is_set]
    return content["imagePath"].replace("\\", "/"), shapes, flags


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
            points = [(left, top), (right, top), (right, bottom), (left, bottom)]
        else:  # its centre, and a point of its edge
            radius, turn = math.dist(*points), 2 * math.pi / _SIDES
            angles = [turn * side for side in range(_SIDES)]
            points = [(left + radius * math.cos(angle), top + radius * math.sin(angle)) for angle in angles]
    elif kind not in ("polygon", "rectangle", "rotation", "oriented_rectangle"):
        raise DataError(f"{file}: a {kind}; polygons, rectangles, circles and masks are understood")
    return Shape(label, _pairs(number for point in points for number in point), drawn_on=drawn_on)


def _labelme_mask(text: str) -> NDArray[np.bool_]:
    try:
        with Image.open(io.BytesIO(base64.b64decode(text)), formats=["PNG"]) as picture:
            check_pixels(picture.size[::-1], LARGEST_IMAGE_PX, "a mask")
            return np.asarray(picture.convert("L")) > 0
    except OSError:
        raise ValueError("a mask that is no whole PNG") from None


Reader = Callable[[Path], Annotations]
FORMATS: dict[str, Reader] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "label_studio": read_label_studio,
    "cvat": read_cvat,
    "labelme": read_labelme,
}


def _refuse_twice(path: Path, images: Iterable[str]) -> None:
    """Refuse a name or number of two images, as merged exports have it: which of them is marked cannot be told."""
    if twice := next((image for image, count in Counter(images).items() if count > 1), None):
        raise DataError(f"{path}: {twice} is there twice, as of two tasks; export each by itself")


def _recognise(path: Path) -> str:
    if path.is_dir():
        return "labelme" if any(map(_holds_labelme, _json_files(path))) else "yolo"
    if path.suffix.lower() == ".xml":
        return "cvat"
    content = _json(path)
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        return "coco"
    if isinstance(content, list) and content and isinstance(content[0], dict) and "data" in content[0]:
        return "label_studio"
    if _is_labelme(content):
        return "labelme"
    raise DataError(f"{path}: annotations in a format that is not known; known are {', '.join(FORMATS)} (--format)")


def _holds_labelme(file: Path) -> bool:
    """False of what cannot be read, too, which may lie beside the files of another format."""
    with suppress(DataError):
        return _is_labelme(_json(file))
    return False


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and {"shapes", "imagePath"} <= content.keys()


def _content(path: Path) -> bytes:
    try:
        return read_regular(path, MAX_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot read the annotations: {error.strerror}") from None


def _json(path: Path) -> Any:
    try:
        return json.loads(_content(path).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error})") from None


def _size(row: Mapping[str, Any], height: str, width: str) -> tuple[int, int] | None:
    return (int(row[height]), int(row[width])) if row.get(height) and row.get(width) else None


def _pairs(numbers: Iterable[float | str]) -> Points:
    flat = [float(number) for number in numbers]
    if len(flat) < 6 or len(flat) % 2 or not all(map(math.isfinite, flat)):
        raise ValueError(f"a polygon of {len(flat)} numbers; expected an even number, six at least")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _from_runs(counts: Any, size_px: tuple[int, int], *, by_column: bool) -> NDArray[np.bool_]:
    """A mask from the lengths of its runs, the first of ground.

    >>> _from_runs([1, 2, 3], (2, 3), by_column=True).astype(int)
    array([[0, 1, 0],
           [1, 0, 0]])
    """
    runs = np.array(list(_from_text(counts)) if isinstance(counts, str) else list(counts), np.int64)
    height, width = size_px
    if (runs < 0).any() or runs.sum() != height * width or height * width > MAX_BYTES:
        raise ValueError(f"run lengths of {int(runs.sum())} pixels in all, for {height} x {width}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T if by_column else flat.reshape(size_px)


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
