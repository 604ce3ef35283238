"""Annotations of other tools: which format it is, and a reader for each of them, one function and one row."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from blemish.data.annotation_shapes import (
    Annotations,
    Shape,
    from_runs,
    judge_labels,
    polygon_of,
    read_bytes,
    read_json,
    rectangle_of,
    refuse_twice,
    size_in,
    understood,
)
from blemish.data.image_files import list_entries
from blemish.data.labelme import has_labelme, is_labelme, read_labelme
from blemish.errors import DataError, SettingsError, nearest

_YOLO_CLASSES = ("classes.txt", "data.yaml")
_YOLO_LISTS = ("classes.txt", "train.txt", "val.txt", "test.txt")
_MAX_SHARE = 2
"""Polygons that leave the image do so by less."""
_OF_IMAGES = ("choices", "taxonomy", "textarea", "rating", "number", "datetime")
"""What Label Studio says of a whole image, or of a shape that has a row of its own."""


def read_annotations(
    path: Path, form: str | None = None, on_note: Callable[[str], None] = lambda _: None
) -> tuple[str, Annotations]:
    """Which format it is, and what is marked as defective in each image.

    `path` is a file, or for YOLO and LabelMe the folder of the files. `on_note` is told what labels are taken for.

    Raises:
        DataError: it cannot be read, is none of the formats, or marks in a way that is not understood.
        SettingsError: there is no format of that name.
    """
    if form is not None and form not in FORMATS:
        raise SettingsError(f"--format {form}: unknown; {nearest(form, FORMATS)}")
    name = form or _recognise(path)
    found, notes = judge_labels(understood(path, name, FORMATS[name]))
    for note in notes:
        on_note(note)
    return name, found


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
        image, label = row["image_id"], labels.get(row.get("category_id"), "defect")
        where = f"{path}: {names[image]}"
        read = partial(_coco_shapes, where=where, label=label, size=sizes[image])
        found[names[image]] += understood(row, "coco", read, where)
    return found


def _coco_shapes(row: Mapping[str, Any], where: str, label: str, size: tuple[int, int] | None) -> list[Shape]:
    marked = row.get("segmentation")
    if isinstance(marked, dict):
        runs_px = (int(marked["size"][0]), int(marked["size"][1]))
        if size is not None and runs_px != size:
            raise DataError(f"{where}: run lengths for {marked['size']}, an image of {list(size)}")
        return [Shape(label, mask=from_runs(marked["counts"], runs_px, by_column=True), drawn_on=runs_px)]
    if not marked:
        raise DataError(f"{where}: an annotation without a segmentation; boxes mark no pixels")
    return [Shape(label, polygon_of(polygon), drawn_on=size) for polygon in marked]


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
    """What `classes.txt` or `data.yaml` in the folder or one above it says; classes without a name are numbered."""
    for file in (place / name for place in (path, path.parent, path.parent.parent) for name in _YOLO_CLASSES):
        if file.is_file():
            text = read_bytes(file).decode("utf-8-sig")
            lines = {number: line.strip() for number, line in enumerate(text.splitlines()) if line.strip()}
            return lines if file.suffix == ".txt" else _names_in_yaml(text)
    return {}


def _names_in_yaml(text: str) -> dict[int, str]:
    """The `names` of a `data.yaml`: a list or a mapping, on one line or with a line for each.

    >>> _names_in_yaml("nc: 2\\nnames: ['a b', c]")
    {0: 'a b', 1: 'c'}
    >>> _names_in_yaml("names:\\r\\n  0: a b  # worn\\r\\n  1: c\\r\\nnc: 2")
    {0: 'a b', 1: 'c'}
    """
    plain = re.sub(r"\n\s*(?=\n)", "", re.sub(r"(^|\s)#.*", "", text, flags=re.MULTILINE))
    told = re.search(r"^names:\s*(\[[^]]*]|{[^}]*}|(?:[^\S\n]*(?:-|\d+:).*(?:\n|\Z))+)", plain, re.MULTILINE)
    listed = told[1] if told else ""
    names = dict[int, str]()
    for piece in re.split(r"[,\n]" if listed.startswith(("[", "{")) else r"\n", listed.strip("[]{}\r\n ")):
        if found := re.match(r"\s*(?:-|(\d+)\s*:)?\s*(\S.*)", piece):
            names[int(found[1] or len(names))] = found[2].strip("'\" \r")
    return names


def _yolo_shapes(file: Path, labels: Mapping[int, str]) -> Iterator[Shape]:
    for number, line in enumerate(read_bytes(file).decode("utf-8-sig").splitlines(), start=1):
        row = line.split()
        if row and len(row) < 7:
            raise DataError(f"{file}, line {number}: a box, or fewer than three points; boxes mark no pixels")
        try:
            number_of, polygon = (int(row[0]), polygon_of(row[1:])) if row else (0, ())
        except ValueError as error:
            raise DataError(f"{file}, line {number}: {error}") from None
        if any(max(point) >= _MAX_SHARE for point in polygon):
            raise DataError(
                f"{file}, line {number}: numbers far above 1; YOLO's polygons are shares of the image's sides (and "
                "points of a pose mark no pixels)"
            )
        if row:
            yield Shape(labels.get(number_of, f"class_{number_of}"), polygon, is_relative=True)


def read_label_studio(path: Path) -> Annotations:
    """Label Studio's JSON export: polygons and rectangles, in percent; brushes are not understood.

    Left out are tasks that nobody has annotated, or everybody has skipped.
    """
    found: dict[str, list[Shape]] = {}
    for task in read_json(path):
        name = _studio_image(task["data"])
        where = f"{path}: {name}"
        for annotation in task.get("annotations") or task.get("completions") or ():
            if not annotation.get("was_cancelled"):
                shapes = found.setdefault(name, [])
                for result in (result for result in annotation["result"] if "value" in result):
                    shapes += understood(result, "label_studio", partial(_studio_shapes, where=where), where)
    return found


def _studio_image(data: Mapping[str, Any]) -> str:
    """The address of a task's image: under a usual name, or else the first that looks like one."""
    if not data:
        raise ValueError("a task without an image")
    given = [str(data[key]) for key in ("image", "img", "photo", *data) if key in data]
    return next((one for one in given if re.search(r"\.(png|jpe?g|bmp|tiff?|webp)\b", one, re.IGNORECASE)), given[0])


def _studio_shapes(result: Mapping[str, Any], where: str) -> list[Shape]:
    value, kind = result["value"], str(result.get("type", ""))
    if kind in _OF_IMAGES:
        return [Shape(str(choice)) for choice in value.get("choices") or ()]
    size = size_in(result, "original_height", "original_width")
    if result.get("image_rotation"):
        raise DataError(f"{where}: drawn on the image turned by {result['image_rotation']}; save it upright")
    label = next((str(value[key][0]) for key in value if key.endswith("labels") and value[key]), "defect")
    if kind.startswith("polygon"):
        polygon = polygon_of(side / 100 for x, y in value["points"] for side in (x, y))
        return [Shape(label, polygon, is_relative=True, drawn_on=size)]
    if kind.startswith("rectangle"):
        if value.get("rotation"):
            raise DataError(f"{where}: a rectangle that is turned; draw it as a polygon")
        x, y, width, height = (float(value[key]) / 100 for key in ("x", "y", "width", "height"))
        return [Shape(label, rectangle_of(x, y, x + width, y + height), is_relative=True, drawn_on=size)]
    raise DataError(
        f"{where}: an annotation of type {kind or 'unknown'}; polygons and upright rectangles are understood; export "
        "brushes as PNG masks instead"
    )


def read_cvat(path: Path) -> Annotations:
    """CVAT for images 1.1: polygons, boxes, and masks as run lengths."""
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
    found: dict[str, list[Shape]] = {}
    for name, image in images.items():
        where = f"{path}: {name}"
        read = partial(_cvat_shape, where=where, drawn_on=size_in(image.attrib, "height", "width"))
        found[name] = [understood(part, "cvat", read, where) for part in image]
    return found


def _cvat_shape(part: ElementTree.Element, where: str, drawn_on: tuple[int, int] | None) -> Shape:
    given, label = part.attrib, part.attrib.get("label", "defect")
    if part.tag == "tag":
        return Shape(label)
    if part.tag == "polygon":
        return Shape(label, polygon_of(given["points"].replace(";", ",").split(",")), drawn_on=drawn_on)
    if part.tag == "box" and not float(given.get("rotation", 0)):
        corners = rectangle_of(*(float(given[key]) for key in ("xtl", "ytl", "xbr", "ybr")))
        return Shape(label, corners, drawn_on=drawn_on)
    if part.tag == "mask":
        size, corner = (int(given["height"]), int(given["width"])), (int(given["top"]), int(given["left"]))
        runs = [int(run) for run in given["rle"].split(",")]
        return Shape(label, mask=from_runs(runs, size, by_column=False), corner=corner, drawn_on=drawn_on)
    turned = " that is turned" if part.tag == "box" else ""
    raise DataError(f"{where}: marked by {part.tag}{turned}; polygons, upright boxes and masks are understood")


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
