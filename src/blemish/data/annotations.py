"""Annotations of other tools: which format it is, and a reader for each of them, one function and one row."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from blemish.data.annotation_shapes import (
    Annotations,
    Shape,
    from_runs,
    polygon_of,
    read_bytes,
    read_json,
    rectangle_of,
    refuse_twice,
    size_in,
    understood,
    without_tagged,
)
from blemish.data.image_files import list_entries
from blemish.data.labelme import has_labelme, is_labelme, read_labelme
from blemish.errors import DataError, SettingsError, nearest

_YOLO_LISTS = ("classes.txt", "train.txt", "val.txt", "test.txt")
_MAX_SHARE = 2
"""Polygons that leave the image do so by less."""
_OF_IMAGES = ("choices", "taxonomy", "textarea", "rating", "number", "datetime")
"""What Label Studio says of a whole image, or of a shape that has a row of its own."""


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
    return name, understood(path, name, FORMATS[name])


def read_coco(path: Path) -> Annotations:
    """COCO's instances: polygons, and run lengths as a list or as text."""
    content = read_json(path)
    labels = {row["id"]: str(row["name"]) for row in content.get("categories", ())}
    sizes = {row["id"]: size_in(row, "height", "width") for row in content["images"]}
    names = {row["id"]: str(row["file_name"]) for row in content["images"]}
    refuse_twice(path, [str(row["file_name"]) for row in content["images"]])
    refuse_twice(path, [f"the image id {row['id']}" for row in content["images"]])
    found: dict[str, list[Shape]] = {name: [] for name in names.values()}
    for row in content["annotations"]:
        image, marked = row["image_id"], row.get("segmentation")
        label = labels.get(row.get("category_id"), "defect")
        size = sizes[image]
        if isinstance(marked, dict):
            runs_px = (int(marked["size"][0]), int(marked["size"][1]))
            if size is not None and runs_px != size:
                raise DataError(f"{path}: {names[image]}: run lengths for {marked['size']}, an image of {list(size)}")
            mask = from_runs(marked["counts"], runs_px, by_column=True)
            found[names[image]].append(Shape(label, mask=mask, drawn_on=runs_px))
        elif marked:
            found[names[image]] += [Shape(label, polygon_of(polygon), drawn_on=size) for polygon in marked]
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
            lines = read_bytes(place).decode("utf-8-sig").splitlines()
            return {number: line.strip() for number, line in enumerate(lines) if line.strip()}
    return {}


def _yolo_shapes(file: Path, labels: Mapping[int, str]) -> Iterator[Shape]:
    for number, line in enumerate(read_bytes(file).decode("utf-8-sig").splitlines(), start=1):
        row = line.split()
        if row and len(row) < 7:
            raise DataError(f"{file}, line {number}: a box, or fewer than three points; boxes mark no pixels")
        try:
            polygon = polygon_of(row[1:]) if row else ()
        except ValueError as error:
            raise DataError(f"{file}, line {number}: {error}") from None
        if any(max(point) >= _MAX_SHARE for point in polygon):
            raise DataError(
                f"{file}, line {number}: numbers far above 1; YOLO's polygons are shares of the image's sides (and "
                "points of a pose mark no pixels)"
            )
        if row:
            yield Shape(labels.get(int(row[0]), f"class_{int(row[0])}"), polygon, is_relative=True)


def read_label_studio(path: Path) -> Annotations:
    """Label Studio's JSON export: polygons and rectangles, in percent; brushes are not understood.

    Left out are tasks that nobody has annotated, or everybody has skipped.
    """
    found: dict[str, list[Shape]] = {}
    tags: dict[str, set[str]] = {}
    for task in read_json(path):
        data = task["data"]
        if not data:
            raise ValueError("a task without an image")
        name = next(str(data[key]) for key in ("image", "img", "photo", *data) if key in data)
        given = task.get("annotations") or task.get("completions") or ()
        for annotation in given:
            if not annotation.get("was_cancelled"):
                results = [result for result in annotation["result"] if "value" in result]
                drawn = [one for one in results if one.get("type") not in _OF_IMAGES]
                found.setdefault(name, []).extend(_studio_shape(path, name, result) for result in drawn)
                chosen = (one["value"].get("choices") or () for one in results)
                tags.setdefault(name, set()).update(str(choice) for choices in chosen for choice in choices)
    return without_tagged(found, tags)


def _studio_shape(path: Path, name: str, result: Mapping[str, Any]) -> Shape:
    value, kind = result["value"], str(result.get("type", ""))
    size = size_in(result, "original_height", "original_width")
    if result.get("image_rotation"):
        raise DataError(f"{path}: {name}: drawn on the image turned by {result['image_rotation']}; save it upright")
    label = next((str(value[key][0]) for key in value if key.endswith("labels") and value[key]), "defect")
    if kind.startswith("polygon"):
        polygon = polygon_of(side / 100 for x, y in value["points"] for side in (x, y))
        return Shape(label, polygon, is_relative=True, drawn_on=size)
    if kind.startswith("rectangle"):
        if value.get("rotation"):
            raise DataError(f"{path}: {name}: a rectangle that is turned; draw it as a polygon")
        x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
        return Shape(label, rectangle_of(x, y, x + width, y + height), is_relative=True, drawn_on=size)
    raise DataError(f"{path}: {name}: an annotation of type {kind or 'unknown'}; export brushes as PNG masks instead")


def read_cvat(path: Path) -> Annotations:
    """CVAT for images 1.1: polygons, boxes, and masks as run lengths.

    Left out are images without a shape that are tagged as bad.
    """
    content = read_bytes(path)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataError(f"{path}: a document type or an entity, which CVAT never writes")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, LookupError) as error:
        raise DataError(f"{path}: not XML ({error})") from None
    if root.tag != "annotations" or root.find("image") is None:
        raise DataError(
            f"{path}: XML without <annotations> of images as CVAT for images 1.1 has them; Pascal VOC's marks boxes, "
            "which mark no pixels, and films of CVAT are not read: export them for images"
        )
    refuse_twice(path, [str(image.attrib["name"]) for image in root.iter("image")])
    images = {str(image.attrib["name"]): image for image in root.iter("image")}
    found = {
        name: [_cvat_shape(path, image, part) for part in image if part.tag != "tag"] for name, image in images.items()
    }
    tags = {name: [part.attrib.get("label", "") for part in image.iter("tag")] for name, image in images.items()}
    return without_tagged(found, tags)


def _cvat_shape(path: Path, image: ElementTree.Element, part: ElementTree.Element) -> Shape:
    given, label = part.attrib, part.attrib.get("label", "defect")
    drawn_on = size_in(image.attrib, "height", "width")
    if part.tag == "polygon":
        return Shape(label, polygon_of(given["points"].replace(";", ",").split(",")), drawn_on=drawn_on)
    if part.tag == "box" and not float(given.get("rotation", 0)):
        corners = rectangle_of(*(float(given[key]) for key in ("xtl", "ytl", "xbr", "ybr")))
        return Shape(label, corners, drawn_on=drawn_on)
    if part.tag == "mask":
        size, corner = (int(given["height"]), int(given["width"])), (int(given["top"]), int(given["left"]))
        runs = [int(run) for run in given["rle"].split(",")]
        return Shape(label, mask=from_runs(runs, size, by_column=False), corner=corner, drawn_on=drawn_on)
    raise DataError(
        f"{path}: {image.attrib.get('name')}: a {part.tag}; polygons, upright boxes and masks are understood"
    )


Reader = Callable[[Path], Annotations]
FORMATS: dict[str, Reader] = {
    "coco": read_coco,
    "yolo": read_yolo,
    "label_studio": read_label_studio,
    "cvat": read_cvat,
    "labelme": read_labelme,
}


def _recognise(path: Path) -> str:
    content = None
    if path.is_dir():
        if has_labelme(path):
            return "labelme"
        if any(entry.name.endswith(".txt") for entry in list_entries(path, deep=True)):
            return "yolo"
    elif path.suffix.lower() == ".xml":
        return "cvat"
    else:
        content = read_json(path)
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        return "coco"
    if isinstance(content, list) and content and isinstance(content[0], dict) and "data" in content[0]:
        return "label_studio"
    if is_labelme(content):
        return "labelme"
    raise DataError(f"{path}: annotations in a format that is not known; known are {', '.join(FORMATS)} (--format)")
