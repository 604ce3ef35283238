"""Masks as annotation tools write them: read right, or refused with what was found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from blemish.data.folder import Sample, read_folder
from blemish.data.masks import VOID_COLOUR, load_ignored, load_mask
from blemish.data.notes import lossy_note, turned_note
from blemish.errors import DataError, SettingsError
from blemish.settings import DataSettings, parse_assignment, validate

SIDE = 32
TRUE = np.zeros((SIDE, SIDE), bool)
TRUE[4:9, 20:28] = True
LARGE = np.zeros((96, 128), bool)
LARGE[30:60, 40:100] = True
PHOTO = np.random.default_rng(0).integers(1, 255, (SIDE, SIDE, 3), np.uint8)


def grey(background: int, defect: int) -> Image.Image:
    return Image.fromarray(np.where(TRUE, defect, background).astype(np.uint8))


def palette(background: tuple[int, ...], defect: tuple[int, ...], defect_index: int = 1) -> Image.Image:
    image = Image.fromarray(np.where(TRUE, defect_index, 1 - defect_index).astype(np.uint8)).convert("P")
    colours = [background, defect] if defect_index else [defect, background]
    image.putpalette([value for colour in colours for value in colour])
    return image


def rgba(colour: tuple[int, int, int], under: tuple[int, int, int]) -> Image.Image:
    pixels = np.where(TRUE[..., None], colour, under)
    return Image.fromarray(np.dstack([pixels, TRUE * 255]).astype(np.uint8))


RIGHT: dict[str, Callable[[], Image.Image]] = {
    "0 and 255": lambda: grey(0, 255),
    "0 and 1": lambda: grey(0, 1),
    "bilevel": lambda: grey(0, 255).convert("1"),
    "16 bits": lambda: Image.fromarray(np.uint16(TRUE) * np.uint16(40_000)),
    "colour on black": lambda: Image.fromarray(np.where(TRUE[..., None], np.uint8([0, 0, 200]), np.uint8(0))),
    "palette, black first": lambda: palette((0, 0, 0), (255, 0, 0)),
    "palette, black second": lambda: palette((0, 0, 0), (255, 0, 0), defect_index=0),
    "transparent": lambda: rgba((255, 0, 0), (0, 0, 0)),
    "white under transparency": lambda: rgba((255, 0, 0), (255, 255, 255)),
    "grey with transparency": lambda: rgba((255, 255, 255), (255, 255, 255)).convert("LA"),
}


@pytest.mark.parametrize("kind", RIGHT)
def test_masks_of_every_kind_with_a_black_or_transparent_background_are_read(kind: str, tmp_path: Path) -> None:
    RIGHT[kind]().save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", (SIDE, SIDE), (SIDE, SIDE)), TRUE)


WRONG: dict[str, tuple[Callable[[], Image.Image], str, str | None]] = {
    "inverted": (lambda: grey(255, 0), r"values 255 \(96 %\), 0 \(4 %\)", "0"),
    "background 127": (lambda: grey(127, 255), r"values 127 \(96 %\), 255 \(4 %\)", "255"),
    "background 1": (lambda: grey(1, 2), r"values 1 \(96 %\), 2 \(4 %\)", "2"),
    "palette, white first": (lambda: palette((255, 255, 255), (255, 0, 0)), r"indices 0 \(96 %\), 1 \(4 %\)", "1"),
    "palette, by colour": (lambda: palette((255, 255, 255), (255, 0, 0)), r"indices 0 \(96 %\)", "[255, 0, 0]"),
    "red on white": (
        lambda: Image.fromarray(np.where(TRUE[..., None], np.uint8([255, 0, 0]), np.uint8(255))),
        r"values \[255, 255, 255\] \(96 %\), \[255, 0, 0\] \(4 %\)",
        "[255, 0, 0]",
    ),
    "opaque white behind": (
        lambda: Image.fromarray(np.dstack([np.where(TRUE, 0, 255)] * 3 + [np.full_like(TRUE, 255, int)]).astype("u1")),
        r"values \[255, 255, 255, 255\] \(96 %\)",
        "0",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_mask_that_marks_nearly_everything_is_refused_until_its_value_is_told(kind: str, tmp_path: Path) -> None:
    draw, found, value = WRONG[kind]
    draw().save(tmp_path / "m.png")
    with pytest.raises(
        DataError, match=rf"m\.png: nearly everything is marked defective, (96|100) % .*{found}.*convert: --mask-value"
    ):
        load_mask(tmp_path / "m.png", (SIDE, SIDE))
    told = validate(DataSettings, parse_assignment(f"mask_value={value}"), "data.").mask_value
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", (SIDE, SIDE), None, told), TRUE)


@pytest.mark.parametrize("is_dark", [False, True])
def test_a_defect_painted_on_the_photo_is_no_mask(is_dark: bool, tmp_path: Path) -> None:
    photo = PHOTO.copy()
    if is_dark:
        photo[:, : SIDE // 2] = 0  # a black background alone does not make it a mask
    Image.fromarray(np.where(TRUE[..., None], np.uint8([255, 0, 0]), photo)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: a picture of \d+ colours, not a mask; .*data\.mask_value"):
        load_mask(tmp_path / "m.png", (SIDE, SIDE))
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", (SIDE, SIDE), None, (255, 0, 0)), TRUE)


def test_a_defect_on_a_smooth_grey_photo_is_told_as_a_picture_and_not_as_soft_edges(tmp_path: Path) -> None:
    smooth = np.broadcast_to(70 + np.arange(SIDE), (SIDE, SIDE))
    Image.fromarray(np.where(TRUE, 255, smooth).astype(np.uint8)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: nearly everything is marked .* Is it inverted, or a picture of the "):
        load_mask(tmp_path / "m.png", (SIDE, SIDE))


def marked(region: NDArray[np.bool_], path: Path) -> Path:
    Image.fromarray(np.uint8(region) * 255).save(path)
    return path


def test_a_large_defect_is_no_inverted_mask_and_an_inverted_large_one_is(tmp_path: Path) -> None:
    disc = np.hypot(*np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]) < 0.98
    assert 0.7 < disc.mean() < 0.8
    assert load_mask(marked(disc, tmp_path / "disc.png"), (SIDE, SIDE)).sum() == disc.sum()
    small = np.hypot(*np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]) < 0.6
    with pytest.raises(DataError, match="nearly everything"):
        load_mask(marked(~small, tmp_path / "inverted.png"), (SIDE, SIDE))
    everything = marked(np.ones_like(disc), tmp_path / "all.png")
    assert load_mask(everything, (SIDE, SIDE), None, 255).all()  # where it is meant


def test_a_value_that_no_pixel_has_is_said(tmp_path: Path) -> None:
    grey(0, 255).save(tmp_path / "m.png")
    with pytest.raises(
        DataError, match=r"m\.png: an empty mask under a defect type; no pixel is 7 \(data.mask_value\)"
    ):
        load_mask(tmp_path / "m.png", (SIDE, SIDE), None, 7)
    with pytest.raises(SettingsError, match=r"data\.mask_value"):
        validate(DataSettings, {"mask_value": [300, 0, 0]}, "data.")


def test_several_masks_of_one_image_are_united(tmp_path: Path) -> None:
    parts = [np.zeros((SIDE, SIDE), bool) for _ in range(2)]
    parts[0][2:4, 2:4], parts[1][20:22, 5:9] = True, True
    paths = [marked(part, tmp_path / f"{place}.png") for place, part in enumerate(parts)]
    np.testing.assert_array_equal(load_mask(paths, (SIDE, SIDE)), parts[0] | parts[1])
    marked(parts[1][:-2], paths[1])
    for load in (lambda: load_mask(paths, (SIDE, SIDE)), lambda: load_ignored(paths, (SIDE, SIDE), None, 7)):
        with pytest.raises(DataError, match=r"1\.png: of another size than .*0\.png; all masks of an image"):
            load()


RING = np.zeros((SIDE, SIDE), bool)
RING[2:11, 18:30] = True
RING &= ~TRUE


def voc(void: int | tuple[int, int, int], label: int | tuple[int, int, int]) -> Image.Image:
    depth = np.uint16 if void == 65_535 else np.uint8
    is_colour = isinstance(void, tuple)
    truth, ring = (TRUE[..., None], RING[..., None]) if is_colour else (TRUE, RING)
    return Image.fromarray(np.where(ring, depth(void), np.where(truth, depth(label), depth(0))))


def voc_palette() -> Image.Image:
    image = voc(255, 7).convert("P")
    image.putpalette([0, 0, 0] + [200, 10, 10] * 254 + [*VOID_COLOUR])
    return image


VOID: dict[str, tuple[Callable[[], Image.Image], int | tuple[int, int, int], str]] = {
    "grey": (lambda: voc(255, 7), 255, "255 beside 7"),
    "palette": (voc_palette, 255, "255 beside 7"),
    "16 bits": (lambda: voc(65_535, 7), 65_535, "65535 beside 7"),
    "grey as colour": (lambda: voc(255, 7).convert("RGB"), 255, "255 beside 7"),
    "VOC's colours": (lambda: voc(VOID_COLOUR, (128, 0, 0)), VOID_COLOUR, r"\[224, 224, 192\] beside other colours"),
}


@pytest.mark.parametrize("kind", VOID)
def test_a_value_that_may_mean_not_judged_is_refused_until_it_is_told(kind: str, tmp_path: Path) -> None:
    draw, void, found = VOID[kind]
    path = tmp_path / "m.png"
    draw().save(path)
    with pytest.raises(DataError, match=rf"m\.png: {found}, as label masks .* say data\.ignore_value="):
        load_mask(path, (SIDE, SIDE))
    np.testing.assert_array_equal(load_mask(path, (SIDE, SIDE), ignore_value=void), TRUE)
    np.testing.assert_array_equal(load_ignored([path], (SIDE, SIDE), None, void), RING)
    sample = Sample(path, "m.png", "cut", (path,), None, void)
    np.testing.assert_array_equal(sample.load_ignored((SIDE, SIDE)), RING)
    assert Sample(path, "m.png", "cut", (path,)).load_ignored((SIDE, SIDE)) is None


PART = np.zeros((SIDE, SIDE), bool)
PART[2:28, 3:30] = True
DISC = np.hypot(*np.mgrid[-31:33, -31:33]) < 26
LABELS: dict[str, Callable[[], Image.Image]] = {
    "labels": lambda: Image.fromarray(np.uint8(PART) + np.uint8(TRUE)),
    "grey": lambda: Image.fromarray(np.where(TRUE, 255, PART * 128).astype(np.uint8)),
    "16 bits": lambda: Image.fromarray(np.where(TRUE, 40_000, PART * 900).astype(np.uint16)),
    "colours": lambda: Image.fromarray(
        np.where(TRUE[..., None], [255, 0, 0], PART[..., None] * [0, 255, 0]).astype("u1")
    ),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_of_the_part_around_its_defects_is_refused_until_the_defects_is_told(kind: str, tmp_path: Path) -> None:
    mask = LABELS[kind]()
    mask.save(tmp_path / "m.png")
    with pytest.raises(
        DataError, match=r"m\.png: a value with 6\d % of the image around the others, as that of the part"
    ):
        load_mask(tmp_path / "m.png", (SIDE, SIDE))
    defect = mask.getpixel((24, 6))
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", (SIDE, SIDE), mask_value=defect), TRUE)


def test_labels_of_several_defects_are_no_part(tmp_path: Path) -> None:
    beside = np.uint8(PART) + np.uint8(TRUE)
    beside[30:32] = 2
    small = np.uint8(TRUE)
    small[5:7, 22:24] = 2
    in_a_corner = np.where(np.tri(SIDE, dtype=bool), 1, TRUE * np.uint8(2))
    rim = np.asarray(Image.fromarray(np.uint8(DISC) * 255).reduce(2))  # of 5 values, as some programs draw it
    for labels in (beside, small, in_a_corner, rim):
        Image.fromarray(labels).save(tmp_path / "m.png")
        np.testing.assert_array_equal(load_mask(tmp_path / "m.png", (SIDE, SIDE)), labels > 0)


def test_white_that_was_disturbed_is_white_in_every_kind_of_mask(tmp_path: Path) -> None:
    white = Image.fromarray(np.uint8(PART) * 255 - np.uint8(TRUE))
    red = Image.merge("RGB", (white, *2 * [Image.new("L", white.size)]))
    deep = Image.fromarray(np.asarray(white).astype(np.uint16) * 257)
    others = (white.convert(mode) for mode in ("LA", "RGB", "RGBA"))
    for mask in (white, white.quantize(3), red, deep, *others):
        mask.save(tmp_path / "m.png")
        np.testing.assert_array_equal(load_mask(tmp_path / "m.png", (SIDE, SIDE)), PART)
    for labels in (np.uint8(PART) * 101 - TRUE, np.uint16(PART) * 26_001 - TRUE):
        Image.fromarray(labels).save(tmp_path / "m.png")
        with pytest.raises(DataError, match="as that of the part around its defects"):
            load_mask(tmp_path / "m.png", (SIDE, SIDE))


def test_what_one_mask_calls_defective_no_other_leaves_unjudged(tmp_path: Path) -> None:
    voc(255, 7).save(tmp_path / "0.png")
    marked(RING, tmp_path / "1.png")
    paths = [tmp_path / "0.png", tmp_path / "1.png"]
    assert not load_ignored(paths, (SIDE, SIDE), 255, 255).any()


@pytest.mark.parametrize("values", [(255, 254), (255, 200), (100, 255)])
def test_255_beside_high_values_is_a_defect(values: tuple[int, int], tmp_path: Path) -> None:
    voc(*values).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", (SIDE, SIDE)), TRUE | RING)


LOSSY = {
    "jpg": {"quality": 75},
    "webp": {"quality": 75},
    "tif": {"compression": "jpeg", "quality": 75},
}


@pytest.mark.parametrize("background", [(0, 0, 0), (255, 255, 255), (0, 0, 200)])
@pytest.mark.parametrize("kind", LOSSY)
def test_a_red_lossy_mask_keeps_its_edges_and_is_talked_about(
    kind: str, background: tuple[int, int, int], tmp_path: Path
) -> None:
    drawn = Image.fromarray(np.where(LARGE[..., None], np.uint8([255, 0, 0]), np.uint8(background)))
    path = tmp_path / f"m.{kind}"
    drawn.save(path, **LOSSY[kind])
    found = load_mask(path, LARGE.shape, None, (255, 0, 0))
    rim = np.hypot(*np.gradient(LARGE.astype(float))) > 0
    assert not ((found != LARGE) & ~rim).any()
    assert (found != LARGE).sum() < 0.3 * rim.sum()
    note = lossy_note([Sample(path, "a.png", "cut", (path,), (255, 0, 0))])
    assert note.startswith("1 photo, among them a.png, has a mask stored as JPEG or lossy WebP, which blurs edges")


def test_a_mask_without_loss_is_not_talked_about(tmp_path: Path) -> None:
    marked(LARGE, tmp_path / "m.png")
    Image.fromarray(np.uint8(LARGE) * 255).save(tmp_path / "m.webp", lossless=True)
    paths = tmp_path / "m.png", tmp_path / "m.webp", tmp_path / "gone.png"
    assert lossy_note([Sample(path, path.name, "cut", (path,)) for path in paths]) == ""


def test_a_lossy_mask_of_labels_or_on_a_photo_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.uint8(LARGE) * 3).save(tmp_path / "labels.jpg")
    with pytest.raises(DataError, match=r"labels\.jpg: a JPEG of labels up to \d, which it changes"):
        load_mask(tmp_path / "labels.jpg", LARGE.shape)
    photo = np.random.default_rng(0).integers(0, 255, (96, 128, 3), np.uint8)
    Image.fromarray(np.where(LARGE[..., None], np.uint8([255, 0, 0]), photo)).save(tmp_path / "m.jpg", quality=95)
    with pytest.raises(DataError, match=r"m\.jpg: a JPEG of many colours, .* \(255, 0, 0\) cannot be told"):
        load_mask(tmp_path / "m.jpg", LARGE.shape, None, (255, 0, 0))


NAMES = {
    "as the image": ["a.png"],
    "mvtec": ["a_mask.png"],
    "loco": ["a/000.png", "a/001.png"],
    "numbered": ["a_mask_1.png", "a_mask_2.png"],
    "numbered alone": ["a_1.png", "a_2.png"],
    "numbered without a mark": ["a_mask0.png", "a_mask1.png"],
    "first without a number": ["a_mask.png", "a_mask_1.png"],
    "ground truth": ["a_GT.png"],
    "label": ["a-label.tif"],
    "with the image's ending": ["a.jpg.png"],
    "label after the image's ending": ["a.jpg_label.png"],
    "word in front": ["mask_a.png"],
    "several words (Segments.ai, Cellpose)": ["a_label_ground-truth_semantic.png"],
    "LabelMe": ["a_json/label.png"],
    "Roboflow": ["a_jpg.rf.0123456789abcdef0123456789abcdef_mask.png"],
    "the number before the word": ["a_0_mask.png", "a_1_mask.png"],
    "numbers in brackets": ["a (1).png", "a_mask(2).png"],
    "CVAT": ["a_instance_color_RGB.png"],
    "two words": ["a_defect_mask.png"],
    "Supervisely, as a number": ["a.jpg_0.png", "a.jpg_1.png"],
}


@pytest.mark.parametrize("kind", NAMES)
def test_masks_are_paired_by_the_names_that_tools_give(kind: str, tmp_path: Path) -> None:
    masks = [tmp_path / "ground_truth/cut" / name for name in NAMES[kind]]
    for path in (tmp_path / "train/good/0.png", tmp_path / "test/cut/a.jpg", *masks):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    [sample] = read_folder(tmp_path, mask_value=3).test
    assert sample.mask_paths == tuple(masks)
    assert sample.mask_value == 3


def test_a_word_is_taken_off_only_where_no_image_has_it(tmp_path: Path) -> None:
    for name in ("train/good/0.png", "test/cut/a.png", "test/cut/a_color.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("a_mask.png", "a_color_mask.png"):
        (tmp_path / "ground_truth/cut").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ground_truth/cut" / name).touch()
    found = {sample.path.name: [path.name for path in sample.mask_paths] for sample in read_folder(tmp_path).test}
    assert found == {"a.png": ["a_mask.png"], "a_color.png": ["a_color_mask.png"]}


def test_an_image_whose_name_ends_with_a_number_keeps_its_own_mask(tmp_path: Path) -> None:
    for name in (
        "train/good/0.png",
        "test/cut/a.png",
        "test/cut/a_1.png",
        "ground_truth/cut/a.png",
        "ground_truth/cut/a_1.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = {sample.path.name: [path.name for path in sample.mask_paths] for sample in read_folder(tmp_path).test}
    assert found == {"a.png": ["a.png"], "a_1.png": ["a_1.png"]}


def turned(tmp_path: Path, orientation: int) -> Path:
    for folder in ("train/good", "test/cut", "ground_truth/cut"):
        (tmp_path / folder).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide = Image.fromarray(PHOTO[: SIDE // 2])
    for name in ("train/good/0.jpg", "test/cut/a.jpg"):
        wide.save(tmp_path / name, exif=exif)
    marked(TRUE[: SIDE // 2], tmp_path / "ground_truth/cut/a.png")
    return tmp_path


def test_photos_with_masks_that_exif_turns_are_counted(tmp_path: Path) -> None:
    folder = read_folder(turned(tmp_path, 3))
    assert turned_note(folder.test).startswith("1 photo with masks, among them test/cut/a.jpg, is turned or mirrored")
    assert turned_note(folder.train) == ""


def test_masks_that_exif_turns_and_not_their_photos_are_counted(tmp_path: Path) -> None:
    folder = read_folder(turned(tmp_path, 1))
    assert turned_note(folder.test) == ""
    exif = Image.Exif()
    exif[0x0112] = 3
    path = tmp_path / "ground_truth/cut/a.png"
    Image.open(path).save(path, exif=exif)
    assert turned_note(folder.test).startswith(
        "1 photo, among them test/cut/a.jpg, not turned by EXIF orientation, but"
    )


def test_labels_that_a_palette_shows_as_the_ground_are_refused_until_told(tmp_path: Path) -> None:
    labels = np.uint8(TRUE)
    labels[-4:] = 2
    image = Image.frombytes("P", (SIDE, SIDE), labels.tobytes())
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 0])
    image.save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: the palette shows the indices 0, 2 as black"):
        load_mask(tmp_path / "m.png", (SIDE, SIDE))
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", (SIDE, SIDE), None, 1), TRUE)


def test_a_mask_of_the_stored_size_of_a_turned_photo_is_refused_with_the_reason(tmp_path: Path) -> None:
    [sample] = read_folder(turned(tmp_path, 6)).test
    with pytest.raises(DataError, match=r"a\.png: mask of 16 x 32, its image is 32 x 16 .*before the photo was turned"):
        sample.load_mask((8, 8), sample.size_px(10_000))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_jpeg_mask_has_no_ringing(mode: str, quality: int, tmp_path: Path) -> None:
    image = Image.fromarray(np.uint8(LARGE) * 255).convert("RGB").convert(mode)
    image.save(tmp_path / "m.jpg", quality=quality)
    np.testing.assert_array_equal(load_mask(tmp_path / "m.jpg", LARGE.shape), LARGE)
    image.convert("L").point(lambda value: 255 - value).save(tmp_path / "inverted.jpg", quality=quality)
    with pytest.raises(DataError, match=r"nearly everything|bright"):
        load_mask(tmp_path / "inverted.jpg", LARGE.shape)
    np.testing.assert_array_equal(load_mask(tmp_path / "inverted.jpg", LARGE.shape, None, 0), LARGE)


def test_a_mask_with_wide_dim_edges_is_refused_and_labels_are_not(tmp_path: Path) -> None:
    soft = Image.fromarray(np.uint8(LARGE) * 255).resize((8, 6), Image.Resampling.BILINEAR).resize((128, 96))
    soft.save(tmp_path / "soft.png")
    with pytest.raises(DataError, match=r"soft\.png: bright pixels: \d+, and faint ones: \d+.*mask_value"):
        load_mask(tmp_path / "soft.png", LARGE.shape)
    labels = np.uint8(LARGE) * (np.arange(128) // 3 + 1).astype(np.uint8)
    Image.fromarray(labels).save(tmp_path / "labels.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "labels.png", LARGE.shape), LARGE)


def test_a_thin_defect_smoothed_until_it_is_dim_is_no_label(tmp_path: Path) -> None:
    line = np.zeros((96, 128), np.uint8)
    line[40:43, 20:100] = 255
    Image.fromarray(line).filter(ImageFilter.GaussianBlur(4)).save(tmp_path / "soft.png")  # 75 at most
    with pytest.raises(DataError, match=r"soft\.png: bright pixels: \d+, and faint ones: \d+.*mask_value"):
        load_mask(tmp_path / "soft.png", line.shape)
    specks = np.zeros((96, 128), np.uint8)
    specks[::16, ::16] = np.arange(1, 49).reshape(6, 8)
    Image.fromarray(specks).save(tmp_path / "specks.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "specks.png", specks.shape), specks > 0)


@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("quality", [75, 90, 95])
def test_a_small_defect_that_was_a_jpeg_once_is_refused(size: int, quality: int, tmp_path: Path) -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[30 : 30 + size, 21 : 21 + 2 * size] = 255
    Image.fromarray(mask).save(tmp_path / "m.jpg", quality=quality)
    with Image.open(tmp_path / "m.jpg") as lossy:
        lossy.save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: (bright pixels|255 beside)"):
        load_mask(tmp_path / "m.png", mask.shape)


def test_small_labels_of_many_types_are_no_smoothing(tmp_path: Path) -> None:
    labels = np.zeros((96, 128), np.uint8)
    for n, value in enumerate(range(40, 256, 20)):
        labels[8 * n : 8 * n + 4, 10:14] = value
    Image.fromarray(labels).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png", labels.shape), labels > 0)


def test_masks_in_pages_are_refused(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.roll(TRUE, shift)) for shift in (0, 5))
    for kind in ("tif", "png", "webp"):
        path = tmp_path / f"m.{kind}"
        first.convert("RGB").save(path, save_all=True, append_images=[second.convert("RGB")])
        with pytest.raises(DataError, match=rf"m\.{kind}: a mask of 2 pages or frames; save each defect"):
            load_mask(path, (SIDE, SIDE))


def test_one_bit_is_called_1_or_255_and_0_may_be_white(tmp_path: Path) -> None:
    marked(TRUE, tmp_path / "m.png")
    Image.fromarray(TRUE).save(tmp_path / "bit.png")
    for value in (1, 255):
        np.testing.assert_array_equal(load_mask(tmp_path / "bit.png", (SIDE, SIDE), None, value), TRUE)
    deep = (65_535 - np.uint16(TRUE) * 65_535).astype(np.uint16)
    tifffile.imwrite(tmp_path / "m.tif", deep, photometric="miniswhite")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.tif", (SIDE, SIDE)), TRUE)


UNREAD = {
    "of another name": (
        "ground_truth/cuts/a_mask.png",
        r"cuts/a_mask\.png: belongs to no folder below test; masks of 'cut",
    ),
    "in no folder": ("ground_truth/a_mask.png", r"ground_truth/a_mask\.png: belongs to no folder below test"),
    "of a kind that is not read": ("ground_truth/cut/a_mask.npy", r"cut/a_mask\.npy: not a mask that is read, and no"),
    "annotations": ("ground_truth/cut/a.json", r"cut/a\.json: not a mask that is read, .* blemish data convert"),
    "of a good image": ("ground_truth/good/b.png", r"good/b\.png: marks 40 pixels of a good image; move the image"),
}


@pytest.mark.parametrize("kind", UNREAD)
def test_masks_that_nobody_would_read_are_an_error(kind: str, tmp_path: Path) -> None:
    place, message = UNREAD[kind]
    for name in ("train/good/a.png", "test/good/b.png", "test/cut/a.png", place):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        marked(TRUE, tmp_path / name) if name.endswith("png") else (tmp_path / name).touch()
    with pytest.raises(DataError, match=message):
        read_folder(tmp_path).check_good_masks(None)
    if "good" in place:
        read_folder(tmp_path).check_good_masks(77)  # which no pixel is
    (tmp_path / place).unlink()
    assert len(read_folder(tmp_path).test) == 2


def test_a_drawing_that_is_in_the_transparency_alone_is_asked_about(tmp_path: Path) -> None:
    drawn = Image.new("RGBA", (SIDE, SIDE))
    drawn.putalpha(Image.fromarray(np.uint8(TRUE) * 255))
    drawn.save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"an empty mask .* is the drawing in its transparency\? Save it as white on"):
        load_mask(tmp_path / "m.png", (SIDE, SIDE))
