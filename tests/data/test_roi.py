"""The region of interest: which part of a photo is seen and judged, and what is refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFilter
from pydantic import ValidationError

from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy, load_image
from blemish.data.roi import MAX_MAP_PX, AreaOfPhoto, Window, encode_roi, place_window, read_area, window_of
from blemish.errors import DataError, SettingsError
from blemish.settings import DataSettings, validate
from blemish.settings.shapes import MAX_CORNERS
from blemish.training.policy import region_notes, resolve_policy
from blemish.training.settings import make_settings

SQUARE = ((10, 10), (20, 10), (20, 20), (10, 20))


def samples(folder: Path, *sizes: tuple[int, int]) -> list[Sample]:
    """Grey photos of these heights and widths."""
    paths = [folder / f"{place}.png" for place in range(len(sizes))]
    for path, (height, width) in zip(paths, sizes, strict=True):
        Image.new("L", (width, height), 99).save(path)
    return [Sample(path, path.name) for path in paths]


def policy(good: Sequence[Sample], *assignments: str) -> PixelPolicy:
    return resolve_policy(good, make_settings("patchcore", assignments=list(assignments)))


def test_the_box_around_the_region_is_seen_at_full_size(tmp_path: Path) -> None:
    good = samples(tmp_path, (1000, 2000))
    found = policy(good, "data.roi=[800, 400, 1000, 600]")
    top, left, bottom, right = found.part_px((1000, 2000)) or (0, 0, 0, 0)
    assert found.size_px == (256, 256)
    assert (top, left, bottom, right) == pytest.approx((387, 787, 613, 1013), abs=1)  # 200 px and 1/16 of it all round
    assert found.roi is not None
    assert found.roi.mean() == pytest.approx((200 / 226) ** 2, abs=0.02)
    assert policy(good).size_px == (256, 512)  # two and a half times coarser per pixel of the photo
    whole = found.whole_map(found.roi)
    rows, columns = np.flatnonzero(whole.any(axis=1)), np.flatnonzero(whole.any(axis=0))
    height, width = whole.shape
    edges = (rows[0] / height, columns[0] / width, (rows[-1] + 1) / height, (columns[-1] + 1) / width)
    assert edges == pytest.approx((0.4, 0.4, 0.6, 0.5), abs=0.001)


@given(
    st.tuples(st.integers(40, 3000), st.integers(40, 3000)),
    st.tuples(*[st.floats(0, 1) for _ in range(4)]),
    st.sampled_from([16, 32]),
)
def test_the_window_holds_the_region_wherever_it_lies(
    photo_px: tuple[int, int], edges: tuple[float, ...], least: int
) -> None:
    (left, right), (top, bottom) = sorted(edges[:2]), sorted(edges[2:])
    area = AreaOfPhoto((((left, top), (right, top), (right, bottom), (left, bottom)),))
    part = place_window(area, photo_px, (least, least))
    assert 0 <= part[0] <= top * photo_px[0] <= bottom * photo_px[0] <= part[2] <= photo_px[0]
    assert 0 <= part[1] <= left * photo_px[1] <= right * photo_px[1] <= part[3] <= photo_px[1]
    assert min(part[2] - part[0], part[3] - part[1]) >= least
    window = window_of(part, photo_px, (64, 96))
    at = window.box
    assert 0 <= at[0] <= at[2] <= window.map_px[0]
    assert 0 <= at[1] <= at[3] <= window.map_px[1]
    for place, photo in enumerate((*photo_px, *photo_px)):
        scale = photo / window.map_px[place % 2]
        assert at[place] * scale == pytest.approx(part[place], abs=2 + scale)


def test_the_part_is_what_the_resized_photo_shows_there() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    whole = load_image(photo, PixelPolicy(size_px=(100, 150)))
    part = load_image(photo, PixelPolicy(size_px=(32, 64), map_px=(100, 150), at_px=(50, 80)))
    assert np.abs(part - whole[:, 50:82, 80:144]).max() <= 1.001 / 255


def test_what_lies_around_is_shown_up_to_the_margin_and_what_is_ignored_is_not(tmp_path: Path) -> None:
    good = samples(tmp_path, (256, 256))
    found = policy(good, "data.roi=[[0,0,64,256],[192,0,256,256]]", "data.ignore=[[0,0],[32,0],[32,32],[0,32]]")
    assert found.map_px is None
    assert found.roi is not None
    assert found.shown is not None
    assert not found.roi[:32, :32].any()
    assert not found.shown[:32, :32].any()
    assert found.roi[33:, :64].all()
    assert found.roi[:, 192:].all()
    assert not found.roi[:, 64:192].any()
    assert found.shown[40:, 64:80].all()  # a sixteenth of 256
    assert not found.shown[:, 80:176].any()
    pixels = load_image(np.full((256, 256), 255, np.uint8), found)
    assert np.array_equal(pixels[0] > 0, found.shown)


def test_ignoring_alone_leaves_the_photo_whole(tmp_path: Path) -> None:
    found = policy(samples(tmp_path, (64, 64)), "data.ignore=[0.5, 0, 1, 1]", "data.size_px=[64, 64]")
    assert found.map_px is None
    assert found.roi is not None
    assert found.roi[:, :32].all()
    assert not found.roi[:, 32:].any()
    assert np.array_equal(found.roi, found.shown)


def test_a_mask_file_is_a_region(tmp_path: Path) -> None:
    mask = np.zeros((128, 128), np.uint8)
    mask[:64] = 1
    Image.fromarray(mask).save(tmp_path / "roi.png")
    good = samples(tmp_path, (64, 64))
    found = policy(good, f"data.roi={tmp_path / 'roi.png'}", "data.size_px=[32, 64]")
    assert found.part_px((64, 64)) == pytest.approx((0, 0, 36, 64), abs=1)  # drawn at twice the photos' size
    whole = found.whole_map(found.roi) if found.roi is not None else np.zeros((1, 1))
    assert np.flatnonzero(whole.any(axis=1))[-1] + 1 == pytest.approx(len(whole) / 2, abs=1)


def test_pixels_and_shares_are_the_same_region(tmp_path: Path) -> None:
    good = samples(tmp_path, (200, 400), (200, 400), (100, 200))  # pixels are those of the commonest size
    in_pixels = policy(good, "data.roi=[[100, 50], [200, 50], [200, 150]]")
    assert in_pixels == policy(good, "data.roi=[[0.25, 0.25], [0.5, 0.25], [0.5, 0.75]]")
    assert in_pixels.aspect == 0.5
    with pytest.raises(DataError, match=r"The region of interest lies elsewhere in it"):
        load_image(np.zeros((200, 200), np.uint8), in_pixels)


def test_tiles_lie_inside_the_part(tmp_path: Path) -> None:
    good = samples(tmp_path, (300, 400))
    tiles = ("data.tile_px=[64, 64]", "data.tile_overlap_px=16")
    found = policy(good, "data.roi=[100, 100, 200, 200]", *tiles)
    assert (found.size_px, found.map_px, found.at_px) == ((114, 114), (300, 400), (93, 93))
    small = policy(good, "data.roi=[100, 100, 110, 110]", *tiles)  # no smaller than a tile
    assert min(small.size_px) >= 64


def test_a_small_region_of_a_large_photo_makes_no_giant_map(tmp_path: Path) -> None:
    good = samples(tmp_path, (3000, 3000))
    found = policy(good, "data.roi=[100, 100, 120, 120]", "data.speed=thorough")
    assert found.map_px is not None
    assert found.map_px[0] * found.map_px[1] <= 1.1 * MAX_MAP_PX
    with pytest.raises(SettingsError, match=r"data\.size_px: at 2048 x 2048 the region of interest, .* at most"):
        policy(good, "data.roi=[100, 100, 120, 120]", "data.size_px=[2048, 2048]")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (((10, 10), (20, 20), (20, 10), (10, 20)), "data.roi: polygon 1 of 1 crosses itself"),
        (((10, 10), (20, 20), (30, 30)), "polygon 1 of 1 has no area"),
        (((0.5, 0.5), (1.5, 0.5), (1.5, 1.5)), "polygon 1 of 1 covers at most one pixel: as a number is above 1, all"),
        (((10, 10), (340, 10), (20, 20)), r"a corner lies outside the photo: found x from 10 to 340 .* 64 wide and 48"),
        (((-0.1, 0), (1, 0), (1, 1)), "a corner lies outside the photo: found x from -0.1"),
    ],
)
def test_odd_polygons_are_refused(given: tuple[tuple[float, float], ...], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_area("data.roi", (given,), (48, 64))


@pytest.mark.parametrize("value", ["5", "[[1, 2], [3]]", "[]", "[1, 2, 3]", "[[nan, 0], [1, 1], [0, 1]]", "{braces]"])
@pytest.mark.parametrize("name", ["roi", "ignore"])
def test_what_is_no_area_is_said_once(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises((SettingsError, DataError), match=f"^data.{name}: ") as refused:
        policy(samples(tmp_path, (64, 64)), f"data.{name}={value}")
    assert len(str(refused.value)) < 300


def test_many_corners_are_refused() -> None:
    corners = [[place, place % 7] for place in range(10**5)]
    with pytest.raises(SettingsError, match=f"data.roi: more than {MAX_CORNERS} corners; give a mask image"):
        validate(DataSettings, {"roi": corners}, "data.")


def test_bad_masks_are_refused(tmp_path: Path) -> None:
    Image.new("L", (128, 64), 255).save(tmp_path / "wide.png")
    Image.new("L", (64, 64)).save(tmp_path / "empty.png")
    for name, message in (
        ("wide.png", r"data.roi: .*wide\.png: a mask of 64 x 128 .* the photos are 64 x 64"),
        ("none.png", r"data.roi: .*none\.png: no such file"),
        ("empty.png", r"data.roi: .*empty\.png: a mask without a single pixel above 0"),
    ):
        with pytest.raises((DataError, SettingsError), match=message):
            read_area("data.roi", str(tmp_path / name), (64, 64))
    good = samples(tmp_path, (64, 64))
    with pytest.raises(SettingsError, match=r"no pixel of the .* image lies inside it, as data\.ignore covers it"):
        policy(good, "data.roi=[0, 0, 0.5, 0.5]", "data.ignore=[0, 0, 0.6, 0.6]")
    with pytest.raises(SettingsError, match=r"data\.ignore: needs images of one aspect"):
        policy(good, "data.fit=pad", "data.ignore=[0, 0, 0.6, 0.6]")


def test_a_mask_that_leaves_nothing_to_judge_is_refused(tmp_path: Path) -> None:
    Image.new("L", (64, 64), 255).save(tmp_path / "white.png")
    good, whole = samples(tmp_path, (64, 64)), tmp_path / "white.png"
    for ignored in (str(whole), "[0, 0, 1, 1]"):
        with pytest.raises(SettingsError, match=r"^data\.ignore: covers every pixel of the 256 x 256 image; .* white"):
            policy(good, f"data.ignore={ignored}")


def drawn(mode: str, ground: int, over: int, alpha: tuple[int, int]) -> Image.Image:
    """A mask with a ground and a square, each with its alpha."""
    colour, opacity = Image.new("L", (64, 64), ground), Image.new("L", (64, 64), alpha[0])
    colour.paste(over, (16, 16, 48, 48))
    opacity.paste(alpha[1], (16, 16, 48, 48))
    return Image.merge(mode, [colour] * (len(mode) - 1) + [opacity])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize(("ground", "over", "alpha"), [(255, 255, (0, 255)), (0, 255, (0, 255)), (0, 200, (255, 255))])
def test_what_is_transparent_in_a_mask_of_a_region_is_black(
    tmp_path: Path, mode: str, ground: int, over: int, alpha: tuple[int, int]
) -> None:
    drawn(mode, ground, over, alpha).save(tmp_path / "m.png")
    assert read_area("data.roi", str(tmp_path / "m.png"), (64, 64)).box() == (0.25, 0.25, 0.75, 0.75)
    drawn(mode, ground, 0, alpha).save(tmp_path / "black.png")  # on what is transparent, or black itself
    with pytest.raises(SettingsError, match=r"without a single pixel above 0; .*; is the drawing in its transparency"):
        read_area("data.ignore", str(tmp_path / "black.png"), (64, 64))


def test_a_mask_of_a_region_is_read_as_one_of_a_defect_is(tmp_path: Path) -> None:
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).ellipse((20, 20, 40, 40), fill=255)
    mask.save(tmp_path / "m.webp", quality=50)
    left, _, right, _ = read_area("data.roi", str(tmp_path / "m.webp"), (64, 64)).box() or (0, 0, 0, 0)
    assert (left, right) == pytest.approx((20 / 64, 41 / 64), abs=2 / 64)
    mask.save(tmp_path / "m.tif", save_all=True, append_images=[mask])
    with pytest.raises(DataError, match=r"^data\.roi: .*m\.tif: a mask of 2 pages or frames; .* a region as one image"):
        read_area("data.roi", str(tmp_path / "m.tif"), (64, 64))


PHOTO = np.random.default_rng(0).normal(120, 40, (64, 64)).clip(0, 255).astype(np.uint8)


def on_ground(ground: int, colour: str) -> Image.Image:
    """A photo of a part that covers a sixth of it."""
    pixels = np.full((64, 64), ground, np.uint8)
    pixels[20:46, 20:46] = PHOTO[20:46, 20:46]
    return Image.merge("RGB", [Image.fromarray(np.roll(pixels, shift, axis=0)) for shift in range(3)]).convert(colour)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("photo", [Image.fromarray(PHOTO), *(on_ground(0, mode) for mode in ("L", "RGB"))])
@pytest.mark.parametrize("name", ["data.roi", "data.ignore"])
def test_a_photo_is_no_mask(tmp_path: Path, name: str, photo: Image.Image, suffix: str) -> None:
    photo.save(tmp_path / f"photo.{suffix}")
    with pytest.raises(
        DataError, match=rf"{name}: .*photo\.{suffix}: a (photo|picture of .*), not a mask.*; draw the area"
    ):
        read_area(name, str(tmp_path / f"photo.{suffix}"), (64, 64))


@pytest.mark.parametrize("quality", [30, 95])
@pytest.mark.parametrize("radius", [2, 20])
def test_a_drawing_stays_a_mask_as_a_jpeg(tmp_path: Path, radius: int, quality: int) -> None:
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).ellipse((32 - radius, 32 - radius, 32 + radius, 32 + radius), fill=255)
    mask.filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "m.jpg", quality=quality)
    assert read_area("data.ignore", str(tmp_path / "m.jpg"), (64, 64)).box() is not None


def test_how_much_is_not_judged_is_said(tmp_path: Path) -> None:
    good = samples(tmp_path, (64, 64))
    said = "25 % of each photo is not judged, as it lies outside data.roi or in data.ignore: no defect is found there"
    for setting in ("data.roi=[0, 0, 1, 0.75]", "data.ignore=[0, 0.75, 1, 1]"):
        found = policy(good, setting, "data.size_px=[64, 64]")
        assert region_notes(found, (64, 64), None)[-1] == said.replace("25", f"{100 * (1 - found.judged_share):.3g}")
        assert found.judged_share == pytest.approx(0.75, abs=0.01)
    assert region_notes(policy(good), (64, 64), None) == []


def test_a_part_outside_the_map_is_refused() -> None:
    for more in ({"map_px": (64, 64), "at_px": (40, 0)}, {"at_px": (1, 0)}, {"map_px": (100_000, 100_000)}):
        with pytest.raises(ValidationError):
            PixelPolicy.model_validate({"size_px": (32, 32), **more})


def test_polygons_are_drawn_by_their_pixels_centres() -> None:
    area = AreaOfPhoto((((0, 0), (0.5, 0), (0.5, 1), (0, 1)), ((0.75, 0), (1, 0), (1, 1), (0.75, 1))))
    assert area.draw(Window((2, 4), (2, 4), (0, 0))).tolist() == [[True, True, False, True]] * 2
    assert area.draw(Window((1, 2), (2, 4), (1, 2))).tolist() == [[False, True]]


def test_old_policies_mean_what_they_meant() -> None:
    """Files of before hold a region alone, outside of which all is black."""
    roi = np.eye(8, dtype=bool)
    old = PixelPolicy(size_px=(8, 8), channels=1, roi_png=encode_roi(roi))
    assert load_image(np.full((64, 64), 255, np.uint8), old)[0].tolist() == roi.astype(float).tolist()
