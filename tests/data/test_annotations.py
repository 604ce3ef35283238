"""Annotations as the tools write them, drawn as masks and copied into MVTec's layout."""

import base64
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from blemish.cli import app
from blemish.data.annotated_names import match_images
from blemish.data.annotation_shapes import Shape, draw_shapes
from blemish.data.annotations import FORMATS, read_annotations
from blemish.data.convert import convert_annotated, convert_dataset
from blemish.data.folder import read_folder
from blemish.errors import DataError, SettingsError

HEIGHT, WIDTH = 40, 60
BOX = np.zeros((HEIGHT, WIDTH), np.bool_)
BOX[10:21, 30:46] = True
"""What every file below marks in bad/1.png: rows 10 to 20, columns 30 to 45."""
NAMES = ("ok/0.png", "ok/1.png", "ok/2.png", "bad/1.png", "bad/2.png")


def runs_of(flat: NDArray[np.bool_]) -> list[int]:
    """Lengths of runs, the first of ground, by plain counting."""
    runs, current, count = [], False, 0
    for value in flat.tolist():
        if value is current or value == current:
            count += 1
        else:
            runs.append(count)
            current, count = value, 1
    return [*runs, count]


def as_text(runs: list[int]) -> str:
    """COCO's compression, written from its description."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        more = True
        while more:
            digit = value & 31
            value >>= 5
            more = value != (-1 if digit & 16 else 0)
            text += chr(48 + digit + (32 if more else 0))
    return text


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in NAMES:
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(path)
    return tmp_path / "images"


def coco(tmp_path: Path, segmentation: Any, **more: Any) -> Path:
    rows = [{"id": i, "file_name": name, "height": HEIGHT, "width": WIDTH} for i, name in enumerate(NAMES)]
    content = {
        "images": rows,
        "categories": [{"id": 7, "name": "Scratch / deep"}],
        "annotations": [{"image_id": i, "category_id": 7, "segmentation": segmentation} for i in (3, 4)],
    }
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(content | more))
    return path


def coco_polygon(tmp_path: Path) -> Path:
    return coco(tmp_path, [[30, 10, 45, 10, 45, 20, 30, 20]])


def coco_runs(tmp_path: Path) -> Path:
    return coco(tmp_path, {"size": [HEIGHT, WIDTH], "counts": runs_of(BOX.T.ravel())})


def coco_text(tmp_path: Path) -> Path:
    return coco(tmp_path, {"size": [HEIGHT, WIDTH], "counts": as_text(runs_of(BOX.T.ravel()))})


def yolo(tmp_path: Path) -> Path:
    folder = tmp_path / "labels"
    folder.mkdir()
    corners = " ".join(f"{x / WIDTH} {y / HEIGHT}" for x, y in ((30, 10), (45, 10), (45, 20), (30, 20)))
    (folder / "a.txt").write_text(f"0 {corners}\n")
    (folder / "b.txt").write_text("")
    (folder / "classes.txt").write_text("scratch\n")
    return folder


def studio(tmp_path: Path) -> Path:
    points = [[x / WIDTH * 100, y / HEIGHT * 100] for x, y in ((30, 10), (45, 10), (45, 20), (30, 20))]
    result = [{"type": "polygonlabels", "value": {"points": points, "polygonlabels": ["scratch"]}}]
    tasks = [{"data": {"image": f"/data/local-files/?d={name}"}, "annotations": [{"result": []}]} for name in NAMES[:3]]
    for task, name in zip(tasks, NAMES[:3], strict=True):
        task["data"] = {"image": f"/data/upload/3/{name}"}
    tasks += [{"data": {"image": f"/data/upload/3/{name}"}, "annotations": [{"result": result}]} for name in NAMES[3:]]
    path = tmp_path / "studio.json"
    path.write_text(json.dumps(tasks))
    return path


def cvat(tmp_path: Path) -> Path:
    polygon = '<polygon label="scratch" points="30.0,10.0;45.0,10.0;45.0,20.0;30.0,20.0"/>'
    runs = ",".join(map(str, runs_of(np.ones(11 * 16, np.bool_))))
    mask = f'<mask label="scratch" rle="{runs}" left="30" top="10" width="16" height="11"/>'
    marks = {"bad/1.png": polygon, "bad/2.png": mask}
    rows = "".join(
        f'<image id="{i}" name="{name}" width="60" height="40"><tag label="seen"/>{marks.get(name, "")}</image>'
        for i, name in enumerate(NAMES)
    )
    path = tmp_path / "cvat.xml"
    path.write_text(f'<?xml version="1.0"?><annotations><version>1.1</version>{rows}</annotations>')
    return path


def labelme(tmp_path: Path, *shapes: Any, **more: Any) -> Path:
    """As it writes them beside the images."""
    corners = [[30, 10], [45, 10], [45, 20], [30, 20]]
    content = base64.b64encode(as_png(BOX[10:21, 30:46])).decode()
    two: tuple[Any, ...] = (
        {"label": "scratch", "points": corners, "shape_type": "polygon", "flags": {}},
        {"label": "scratch", "points": [[30, 10], [45, 20]], "shape_type": "mask", "mask": content},
    )
    for name in NAMES:
        marked = [(shapes or two)[name == NAMES[4]]] if name.startswith("bad") else []
        rest = {"version": "5.4.1", "flags": {}, "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
        path = (tmp_path / "images" / name).with_suffix(".json")
        path.write_text(json.dumps(rest | {"shapes": marked, "imagePath": name.rpartition("/")[2]} | more))
    return tmp_path / "images"


def as_png(mask: NDArray[np.bool_]) -> bytes:
    Image.fromarray(mask.astype(np.uint8)).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    "write", [coco_polygon, coco_runs, coco_text, studio, cvat, labelme], ids=lambda each: each.__name__
)
def test_what_is_marked_becomes_a_mask(write: Callable[[Path], Path], images: Path, tmp_path: Path) -> None:
    counts = convert_annotated(images, write(tmp_path), tmp_path / "out", test_good=0.3)
    (defect_type,) = {name.partition("/")[2] for name in counts} - {"good"}
    assert defect_type == ("scratch_deep" if write in (coco_polygon, coco_runs, coco_text) else "scratch")
    assert counts == {"train/good": 2, "test/good": 1, f"test/{defect_type}": 2}
    folder = read_folder(tmp_path / "out")
    for sample in folder.test:
        if sample.label:
            mask = sample.load_mask((HEIGHT, WIDTH), (HEIGHT, WIDTH))
            assert mask is not None
            assert np.array_equal(mask, BOX)


@pytest.mark.parametrize("label", ["mask", "ground_truth"])
def test_a_label_may_be_called_as_the_folder_of_masks_is(label: str, images: Path, tmp_path: Path) -> None:
    file = studio(tmp_path)
    file.write_text(file.read_text().replace("scratch", label))
    convert_annotated(images, file, tmp_path / "out")
    folder = read_folder(tmp_path / "out")
    assert folder.defect_types == (label,)
    assert [len(sample.mask_paths) for sample in folder.test if sample.label] == [1, 1]


def test_run_lengths_of_many_large_images_take_no_memory(tmp_path: Path) -> None:
    side, count = 12_000, 200
    path = tmp_path / "a.json"
    rows = [{"id": n, "file_name": f"{n}.png", "height": side, "width": side} for n in range(count)]
    marked = {"size": [side, side], "counts": [5, 9, side * side - 14]}
    marks = [{"image_id": n, "category_id": 1, "segmentation": marked} for n in range(count)]
    path.write_text(json.dumps({"images": rows, "annotations": marks, "categories": []}))
    tracemalloc.start()
    try:
        found = read_annotations(path)[1]
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()
    assert len(found) == count


def test_yolo_has_a_text_file_for_each_image(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "unlabelled.jpg"):
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(tmp_path / name)
    (tmp_path / "photos").mkdir()
    for name in ("a.jpg", "b.jpg", "unlabelled.jpg"):
        (tmp_path / name).rename(tmp_path / "photos" / name)
    counts = convert_annotated(tmp_path / "photos", yolo(tmp_path), tmp_path / "out")
    assert counts == {"train/good": 1, "test/scratch": 1}  # the image without a file is left out
    (sample,) = [sample for sample in read_folder(tmp_path / "out").test if sample.label]
    mask = sample.load_mask((HEIGHT, WIDTH), (HEIGHT, WIDTH))
    assert mask is not None
    assert np.array_equal(mask, BOX)


def test_a_folder_of_images_and_labels_says_how_to_draw_its_masks(tmp_path: Path) -> None:
    for part in ("images/train", "labels/train"):
        (tmp_path / part).mkdir(parents=True)
    said = rf"annotations in labels; draw their masks: blemish data convert {tmp_path}/images -o FOLDER --annotations "
    with pytest.raises(DataError, match=said):
        read_folder(tmp_path)
    with pytest.raises(DataError, match=said):
        convert_dataset(tmp_path, tmp_path.parent / "out")


def test_the_format_is_recognised(images: Path, tmp_path: Path) -> None:
    found = {read_annotations(write(tmp_path))[0] for write in (coco_polygon, yolo, studio, cvat, labelme)}
    assert found == set(FORMATS)


def test_several_labels_are_combined_and_what_lies_outside_is_cut_off() -> None:
    marked = draw_shapes([Shape("a", [(-5, -5), (3, -5), (3, 3), (-5, 3)])], (8, 9))
    assert marked[:4, :4].all()
    assert marked.sum() == 16
    stamped = draw_shapes([Shape("a", mask=np.ones((3, 3), np.bool_), corner=(-1, 7))], (8, 9))
    assert stamped.sum() == 4
    assert stamped[:2, 7:].all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "format that is not known"),
        ("{", "not JSON"),
        ("PK\x03\x04 and more", "a ZIP archive; unpack it"),
        ('{"images": [], "annotations": [{"image_id": 1}]}', "not as coco writes it"),
        ('{"images": {}, "annotations": 7}', "not as coco writes it"),
        ('[{"data": {}}]', r"not as label_studio writes it \(ValueError: a task without an image\)"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_not_understood_is_refused(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_annotations(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "without a segmentation; boxes mark no pixels"),
        ([[1, 2, 3]], r"json: bad/1\.png: .* a polygon of 3 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "a polygon of 6 numbers"),
        ({"size": [HEIGHT, WIDTH], "counts": [1, 2]}, "run lengths of 3 pixels in all"),
        ({"size": [1, 2], "counts": [1, 1]}, "run lengths for"),
        ({"size": [HEIGHT, WIDTH], "counts": [1 << 62] * 4 + [HEIGHT * WIDTH]}, "run lengths of 2400 pixels in all"),
        ({"size": [-HEIGHT, -WIDTH], "counts": [HEIGHT * WIDTH]}, "run lengths for"),
        ([[1, 2, 3, 4, 5, 1e30]], "a polygon of 6 numbers"),
        ([[1000, 1000, 1001, 1000, 1001, 1001]], "lies outside of the image"),
        ([[0.1, 0.1, 0.5, 0.1, 0.5, 1]], "a polygon within the first pixel; these look like shares"),
    ],
)
def test_marks_that_mark_nothing_are_refused(segmentation: Any, message: str, images: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        convert_annotated(images, coco(tmp_path, segmentation), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("write", [coco_polygon, coco_runs, studio, cvat, labelme], ids=lambda each: each.__name__)
def test_marks_drawn_on_an_image_of_another_size_are_refused(
    write: Callable[[Path], Path], images: Path, tmp_path: Path
) -> None:
    file = write(tmp_path)
    if write is studio:
        text = file.read_text().replace('"result": [{', '"result": [{"original_height": 40, "original_width": 60, ')
        file.write_text(text)
    convert_annotated(images, file, tmp_path / "same")
    for name in NAMES[3:]:
        with Image.open(images / name) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(images / name)
    with pytest.raises(DataError, match=r"1\.png: annotated at 40 x 60, the image is 60 x 40 .* since \(EXIF\)\?"):
        convert_annotated(images, file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_shares_of_an_image_may_be_of_another_size(images: Path, tmp_path: Path) -> None:
    file = studio(tmp_path)
    file.write_text(
        file.read_text().replace('"result": [{', '"result": [{"original_height": 80, "original_width": 120, ')
    )
    assert convert_annotated(images, file, tmp_path / "out")["test/scratch"] == 2


@pytest.mark.parametrize("annotations", ["[]", '[{"was_cancelled": true, "result": []}]', '[{"result": [CHOICE]}]'])
def test_an_image_is_not_good_because_nobody_annotated_it(annotations: str, images: Path, tmp_path: Path) -> None:
    file, told = studio(tmp_path), list[str]()
    tasks = json.loads(file.read_text())
    choice = '{"type": "choices", "value": {"choices": ["Scratch"]}}'
    tasks[3]["annotations"] = json.loads(annotations.replace("CHOICE", choice))
    file.write_text(json.dumps(tasks))
    counts = convert_annotated(images, file, tmp_path / "out", on_note=told.append)
    assert counts == {"train/good": 2, "test/good": 1, "test/scratch": 1}
    assert "1 image of which the annotations say nothing" in told[0]
    assert told[0].endswith("bad/1.png")


def test_an_image_of_two_tasks_is_refused(tmp_path: Path) -> None:
    file = cvat(tmp_path)
    file.write_text(file.read_text().replace('name="bad/2.png"', 'name="bad/1.png"'))
    with pytest.raises(DataError, match=r"bad/1\.png is there twice"):
        read_annotations(file)
    one, other = {"id": 0, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}
    for again, message in (({"file_name": "a.png"}, r"a\.png"), ({"id": 0}, "the image id 0")):
        file = coco(tmp_path, [], images=[one, other | again])
        with pytest.raises(DataError, match=f"{message} is there twice"):
            read_annotations(file)


def test_an_image_tagged_as_bad_is_not_good_because_nothing_is_drawn(images: Path, tmp_path: Path) -> None:
    file = cvat(tmp_path)
    file.write_text(file.read_text().replace('<tag label="seen"/></image>', '<tag label="NOK"/></image>', 1))
    counts = convert_annotated(images, file, tmp_path / "out")
    assert counts["train/good"] + counts.get("test/good", 0) == 2


@pytest.mark.parametrize(
    ("of_good", "tagged", "good", "note"),
    [
        ("seen", "Kratzer", 3, "taken for good, though they are tagged Kratzer, seen; if that is a defect"),
        ("OK", "Kratzer", 2, "1 image of which the annotations say nothing, or only that they were skipped or are"),
    ],
)
def test_an_image_tagged_as_something_else_than_good_is_left_out_or_told(
    of_good: str, tagged: str, good: int, note: str, images: Path, tmp_path: Path
) -> None:
    file, told = cvat(tmp_path), list[str]()
    text = file.read_text().replace('<tag label="seen"/></image>', f'<tag label="{of_good}"/></image>')
    file.write_text(text.replace(f'label="{of_good}"', f'label="{tagged}"', 1))
    counts = convert_annotated(images, file, tmp_path / "out", on_note=told.append)
    assert counts["train/good"] + counts.get("test/good", 0) == good
    assert any(note in one for one in told)


def test_what_is_labelled_as_good_is_no_defect(images: Path, tmp_path: Path) -> None:
    file, told = cvat(tmp_path), list[str]()
    part = '<box label="OK" xtl="0" ytl="0" xbr="9" ybr="9"/>'
    file.write_text(file.read_text().replace("</image>", f"{part}</image>"))
    counts = convert_annotated(images, file, tmp_path / "out", on_note=told.append)
    assert counts == {"train/good": 2, "test/good": 1, "test/scratch": 2}
    assert told[0] == "what is labelled OK is taken for good, not for a defect"
    with Image.open(tmp_path / "out/ground_truth/scratch/bad/1_mask.png") as mask:
        assert not np.asarray(mask)[:9, :9].any()


@pytest.mark.parametrize("names", ["names: [OK, 'deep scratch']", "names:  # two\r\n- OK\r\n- deep scratch\r\nnc: 2"])
def test_classes_of_yolo_have_the_names_that_the_training_gave_them(names: str, tmp_path: Path) -> None:
    folder = yolo(tmp_path)
    (folder / "classes.txt").unlink()
    line = (folder / "a.txt").read_text()
    (folder / "a.txt").write_text(line + line.replace("0 ", "1 ", 1))
    (tmp_path / "data.yaml").write_bytes(b"\xef\xbb\xbftrain: images\r\n" + names.encode())
    assert [shape.label for shape in read_annotations(folder)[1]["a"]] == ["deep scratch"]


def test_an_image_is_found_beside_what_else_a_task_says_of_it(images: Path, tmp_path: Path) -> None:
    file = studio(tmp_path)
    file.write_text(file.read_text().replace('{"image": ', '{"part": "A17", "picture": '))
    assert convert_annotated(images, file, tmp_path / "out")["test/scratch"] == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.1 0.1", r"b\.txt, line 2: a box"),
        ("0.0 .1 .1 .2 .1 .2 .2", r"b\.txt, line 2: invalid literal"),
        ("0 12 12 50 12 50 30", r"b\.txt, line 2: numbers far above 1"),
        ("0 .5 .5 .1 .1 .4 .4 2 .6 .6 2", r"b\.txt, line 2: .* points of a pose mark no pixels"),
        ("0 .1 .1 .5 .1 .5 .3 .9", r"b\.txt, line 2: a polygon of 7 numbers"),
    ],
)
def test_lines_that_are_not_yolos_are_named(line: str, message: str, tmp_path: Path) -> None:
    folder = yolo(tmp_path)
    (folder / "b.txt").write_text(f"  \n{line}\n")
    with pytest.raises(DataError, match=message):
        read_annotations(folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="in a format that is not known"):
        read_annotations(tmp_path / "none")
    with pytest.raises(DataError, match="no text files in it"):
        read_annotations(tmp_path / "none", "yolo")


@pytest.mark.parametrize("name", ["README.roboflow.txt", "__MACOSX/train/._1.txt", ".old/1.txt", "train.txt", "a.json"])
def test_what_lies_beside_yolos_files_is_passed_over(name: str, tmp_path: Path) -> None:
    folder = yolo(tmp_path)
    (path := folder / name).parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff no polygon")
    assert read_annotations(folder)[1].keys() == {"a", "b"}


def test_yolos_files_may_lie_in_folders_as_the_images_do(tmp_path: Path) -> None:
    folder = yolo(tmp_path)
    for part in ("train", "val"):
        (folder / part).mkdir()
        (folder / part / "1.txt").write_text("")
    (folder / "train/1.txt").write_text((folder / "a.txt").read_text())
    for name in ("a.txt", "b.txt"):
        (folder / name).unlink()
    found = read_annotations(folder)[1]
    images = {name: Path(name) for name in ("train/1.jpg", "val/1.jpg", "1.jpg")}
    matched = match_images(found, images, folder)
    assert {name: len(shapes) for name, shapes in matched.items()} == {"train/1.jpg": 1, "val/1.jpg": 0}


ROUND = [[x, y] for x, y in ((38, 10), (43, 15), (38, 20), (33, 15))]


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        ({"shape_type": "rectangle", "points": [[45, 20], [30, 10]]}, (176, 176)),
        ({"shape_type": "rectangle", "points": [[30, 10], [45, 10], [45, 20], [30, 20]]}, (176, 176)),
        ({"shape_type": "rotation", "points": ROUND}, (61, 61)),
        ({"shape_type": "circle", "points": [[38, 15], [38, 20]]}, (78, 90)),
        ({"points": ROUND, "label": None}, (61, 61)),  # of an old version
    ],
)
def test_what_labelme_draws_is_filled(shape: Any, pixels: tuple[int, int], images: Path, tmp_path: Path) -> None:
    found = read_annotations(labelme(tmp_path, *([{"label": "hole"} | shape] * 2)))[1]["bad/1.png"]
    assert pixels[0] <= draw_shapes(found, (HEIGHT, WIDTH)).sum() <= pixels[1]
    assert found[0].label == (shape.get("label", "hole") or "defect")


def test_polygons_and_boxes_that_are_none_are_refused_of_every_tool(tmp_path: Path) -> None:
    for points in ([[1, 2]], [[1, 2], [float("nan"), 3], [50, 50]]):
        marks = [{"type": "polygonlabels", "value": {"points": points}}]
        path = tmp_path / "studio.json"
        path.write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": marks}]}]))
        with pytest.raises(
            DataError, match=rf"json: a\.png: not as label_studio writes it .* a polygon of {2 * len(points)} numbers"
        ):
            read_annotations(path)
    box = '<box label="a" xtl="1" ytl="nan" xbr="5" ybr="9"/>'
    (tmp_path / "a.xml").write_text(f'<annotations><image name="a.png">{box}</image></annotations>')
    with pytest.raises(DataError, match=r"xml: a\.png: not as cvat writes it .* a polygon of 8 numbers"):
        read_annotations(tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            {"shape_type": "line", "points": [[1, 1], [2, 2]]},
            r"1\.json: a line; polygons, rectangles, circles and masks",
        ),
        ({"shape_type": "point", "points": [[1, 1]]}, r"1\.json: a point; "),
        ({"points": [[1, 1], [2, 2]]}, r"1\.json: not as labelme writes it .* a polygon of 4 numbers"),
        ({"points": [[1, 1], [2, 2], [3, 1e999]]}, r"1\.json: not as labelme writes it .* a polygon of 6 numbers"),
        ({"points": [[1, 1], [2]]}, r"1\.json: not as labelme writes it"),
        ({}, r"1\.json: not as labelme writes it .*points"),
        (
            {"shape_type": "mask", "points": [[1, 1], [2, 1e999]], "mask": ""},
            r"1\.json: not as labelme .* no whole PNG",
        ),
        (
            {"shape_type": "mask", "points": [[1, 1], [2, 2]], "mask": "PNG"},
            r"1\.json: not as labelme .* a mask of \(2, 3",
        ),
    ],
)
def test_shapes_of_labelme_that_mark_nothing_are_refused(
    shape: Any, message: str, images: Path, tmp_path: Path
) -> None:
    if shape.get("mask"):
        shape = shape | {"mask": base64.b64encode(as_png(np.ones((2, 3), np.bool_))).decode()}
    with pytest.raises(DataError, match=message):
        read_annotations(labelme(tmp_path, shape, shape))


def test_images_of_labelme_are_those_beside_its_files_or_where_these_say(images: Path, tmp_path: Path) -> None:
    folder = labelme(tmp_path)
    assert set(read_annotations(folder)[1]) == set(NAMES)
    content = json.loads((folder / "bad/1.json").read_text())
    good = {"imagePath": "0.png", "shapes": []}
    (folder / "ok/0.json").write_text(json.dumps(content | good | {"flags": {"NG": True}}))
    (folder / "ok/1.json").write_text(json.dumps(content | {"imagePath": "..\\ok\\1.png"}))
    found = read_annotations(folder)[1]
    assert set(found) == {*NAMES} - {"ok/0.png"}  # flagged as bad, and nothing is drawn
    assert found["ok/1.png"]
    (folder / "bad/1.png.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"1\.png\.json: bad/1\.png is annotated in another file, too"):
        read_annotations(folder)
    with pytest.raises(DataError, match="LabelMe's of one image; name the folder"):
        read_annotations(folder / "bad/1.json")
    (folder / "bad/1.png.json").write_text('{"version": 1}')
    (empty := tmp_path / "none").mkdir()
    with pytest.raises(DataError, match=r"1\.png\.json: not as labelme writes it \(KeyError: 'shapes'\)"):
        read_annotations(folder)
    with pytest.raises(DataError, match="no JSON files in it"):
        read_annotations(empty, "labelme")


@pytest.mark.parametrize(
    ("given", "image"),
    [
        ("/data/local-files/?d=line%203%5Ca%20b.png", "line 3/a b.png"),
        ("/data/upload/1/0a1b2c3d-a_b.png", "line 3/a b.png"),
        ("pru\u0308f.png", "pr\u00fcf.png"),
        ("pr\u00fcf.png", "pru\u0308f.png"),
        ("a%20b?c.png", "a%20b?c.png"),
        ("x/part.png", "part.png"),
    ],
)
def test_names_are_those_of_their_images_as_tools_write_them(given: str, image: str) -> None:
    images = {name: Path(name) for name in (image, "part.png.jpg")}
    assert list(match_images({given: []}, images, Path("f"))) == [image]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation><filename>1.png</filename><object><bndbox/></object></annotation>", "Pascal VOC's marks boxes"),
        ("<annotations><track><polygon/></track></annotations>", "films of CVAT are not read"),
        ("<?xml version='1.0' encoding='none'?><annotations/>", "not XML"),
    ],
)
def test_xml_that_is_not_of_images_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(DataError, match=rf"a\.xml: .*{message}"):
        read_annotations(tmp_path / "a.xml")
    with pytest.raises(DataError, match="in a format that is not known; known are coco"):
        read_annotations(tmp_path)


def test_an_entity_in_xml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE x [<!ENTITY a "aa">]><annotations>&a;</annotations>')
    with pytest.raises(DataError, match="a document type or an entity"):
        read_annotations(path)


def test_names_that_fit_no_image_or_several_are_refused() -> None:
    images = {"a/1.png": Path("a/1.png"), "b/1.png": Path("b/1.png"), "b/2.png": Path("b/2.png")}
    assert match_images({"x/b/1.png": [], "0a1b2c3d-2.png": []}, images, Path("f")) == {"b/1.png": [], "b/2.png": []}
    with pytest.raises(DataError, match=r"several images of that name: a/1\.png, b/1\.png"):
        match_images({"1.png": []}, images, Path("f"))
    with pytest.raises(DataError, match=r"3\.png: no such image"):
        match_images({"3.png": []}, images, Path("f"))
    with pytest.raises(DataError, match="annotated twice"):
        match_images({"b/2.png": [], "c/2.png": []}, images, Path("f"))


def test_every_image_marked_leaves_nothing_to_train_on(images: Path, tmp_path: Path) -> None:
    rows = [{"id": 0, "file_name": NAMES[3], "height": HEIGHT, "width": WIDTH}]
    path = coco(tmp_path, [[30, 10, 45, 10, 45, 20]], images=rows, annotations=[])
    content = json.loads(path.read_text())
    content["annotations"] = [{"image_id": 0, "category_id": 7, "segmentation": [[30, 10, 45, 10, 45, 20]]}]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"something is marked in every image.* \(4 images of which .* bad/2\.png"):
        convert_annotated(images, path, tmp_path / "out")


def test_no_mask_is_written_over_another(tmp_path: Path) -> None:
    for name in ("ok/0.png", "bad/1.png", "bad/1.bmp"):
        (path := tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(path)
    marks = [{"image_id": place, "category_id": 7, "segmentation": [[30, 10, 45, 10, 45, 20]]} for place in range(2)]
    content = {
        "images": [
            {"id": place, "file_name": name, "height": HEIGHT, "width": WIDTH}
            for place, name in enumerate(("1.png", "1.bmp", "0.png"))
        ],
        "categories": [{"id": 7, "name": "scratch"}],
        "annotations": marks,
    }
    (file := tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"would be written to ground_truth/scratch/bad/1_mask\.png, as .*; rename one"):
        convert_annotated(tmp_path / "images", file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(images: Path, tmp_path: Path) -> None:
    file, out = coco_polygon(tmp_path), tmp_path / "out"
    ran = CliRunner().invoke(app, ["data", "convert", str(images), "-o", str(out), "--annotations", str(file)])
    assert ran.exit_code == 0, ran.output
    assert "test/scratch_deep: 2" in ran.output
    ran = CliRunner().invoke(app, ["data", "convert", str(images), "-o", str(out), "--format", "coco"])
    assert ran.exit_code == 2
    with pytest.raises(SettingsError, match="--format cocoa: unknown"):
        read_annotations(file, "cocoa")
