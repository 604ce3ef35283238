"""Images of other aspects and sizes: padded beside their own pixels, strips in tiles, and what is said of either."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from blemish.data.folder import Sample, read_folder
from blemish.data.images import PixelPolicy, load_image, prepare
from blemish.data.notes import coarse_note, enlargement_note, reduction_note, stretch_note
from blemish.errors import DataError, SettingsError
from blemish.inference.predictor import scored_map
from blemish.inference.runtime import Runtime
from blemish.settings import RunSettings, ScoreSettings
from blemish.training.batches import GoodImages, Tiles
from blemish.training.policy import resolve_policy
from blemish.training.settings import make_settings

PAD = PixelPolicy(size_px=(32, 64), channels=1, fit="pad")


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    rows, columns = np.mgrid[:height, :width]
    return np.uint8(255 * (rows / height + columns / width) / 2)


@pytest.mark.parametrize("size_px", [(32, 64), (64, 64), (20, 200), (300, 20), (7, 9)])
def test_a_padded_image_keeps_its_aspect_and_its_border_goes_on_beside_it(size_px: tuple[int, int]) -> None:
    top, left, bottom, right = PAD.box(size_px)
    seen = load_image(ramp(*size_px), PAD)[0]
    assert seen.shape == (32, 64)
    assert (bottom - top, right - left).count(0) == 0
    assert bottom - top == 32 or right - left == 64
    own = load_image(ramp(*size_px), PixelPolicy(size_px=(32, 64), channels=1)) if size_px == (32, 64) else None
    if own is not None:
        np.testing.assert_array_equal(seen, own[0])
    inside = seen[top:bottom, left:right]
    assert abs((bottom - top) / (right - left) / (size_px[0] / size_px[1]) - 1) < 0.5 / min(inside.shape) + 0.01
    np.testing.assert_array_equal(seen[:top, left:right], np.broadcast_to(inside[:1], (top, inside.shape[1])))
    np.testing.assert_array_equal(seen[top:bottom, right:], np.broadcast_to(inside[:, -1:], (len(inside), 64 - right)))


class Brightness:
    """Calls what is bright a defect."""

    def maps(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return images.mean(axis=1)

    def reconstruct(self, images: NDArray[np.float32]) -> None:
        return None


def test_a_map_has_the_image_without_the_padding() -> None:
    picture = ramp(64, 64)
    picture[:, -1] = 255  # a bright border, which padding repeats
    prepared = prepare(picture, PAD)
    runtime: Runtime = Brightness()  # type: ignore[assignment]
    found = scored_map(runtime, prepared, ScoreSettings())
    assert found.shape == (32, 32)
    np.testing.assert_array_equal(found, prepared.pixels()[0, :, 16:48])


def write(path: Path, *size_px: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, size_px, np.uint8)).save(path)


def run(*assignments: str) -> RunSettings:
    return make_settings("conv_autoencoder", assignments=list(assignments))


def test_mixed_aspects_are_fitted_where_they_are_padded(tmp_path: Path) -> None:
    for place, size_px in enumerate([(64, 64), (64, 64), (64, 40), (30, 64)]):
        write(tmp_path / f"{place}.png", *size_px)
    samples = read_folder(tmp_path).train
    with pytest.raises(DataError, match=r"2\.png: 64 x 40 .*data\.fit=pad"):
        GoodImages(samples, resolve_policy(samples, run("data.side_px=64")))
    policy = resolve_policy(samples, run("data.side_px=64", "data.fit=pad"))
    assert (policy.size_px, policy.aspect) == ((64, 64), None)
    assert len(GoodImages(samples, policy)) == 4
    with pytest.raises(SettingsError, match=r"data\.roi: needs images of one aspect"):
        resolve_policy(samples, run("data.fit=pad", "data.roi=[[0, 0], [1, 0], [1, 1]]"))


def test_the_data_check_judges_other_aspects_by_how_they_are_fitted(tmp_path: Path) -> None:
    from blemish.evaluation.data_check.data_check import check_data

    for place, size_px in enumerate([(64, 64), (64, 64), (64, 64), (64, 40)]):
        write(tmp_path / f"{place}.png", *size_px)
    found = {}
    for fit in ("stretch", "pad"):
        checked = check_data(tmp_path, make_settings(assignments=["data.side_px=64", f"data.fit={fit}"]))
        [found[fit]] = [one for one in checked.findings if one.kind == "size"]
    assert (found["stretch"].severity, found["pad"].severity) == ("look", "note")
    assert "training refuses it unless data.fit=pad" in found["stretch"].message
    assert "another aspect, padded" in found["pad"].message


def test_a_strip_of_a_line_camera_is_fitted_in_tiles_and_its_reduction_is_said_without(tmp_path: Path) -> None:
    for place in range(2):
        write(tmp_path / f"{place}.png", 64, 20_000)
    samples = read_folder(tmp_path).train
    tiled = resolve_policy(samples, run("data.tile_px=[64, 256]", "data.tile_overlap_px=0"))
    assert tiled.size_px == (64, 20_000)
    tiles = Tiles(GoodImages(samples, tiled))
    assert len(tiles) == 2 * 79
    assert tiles[5].shape == (1, 64, 256)
    assert reduction_note(samples, tiled) == ""
    whole = resolve_policy(samples, run())
    assert "photos of up to 64 x 20000 px are seen at" in reduction_note(samples, whole)
    assert "data.tile_px" in reduction_note(samples, whole)


def test_photos_that_are_seen_much_larger_than_they_are_are_spoken_of(tmp_path: Path) -> None:
    for place in range(2):
        write(tmp_path / f"{place}.png", 16, 24)
    samples = read_folder(tmp_path).train
    enlarged, little = (resolve_policy(samples, run(f"data.side_px={side}")) for side in (128, 32))
    assert "photos of at most 16 x 24 px are seen at" in enlargement_note(samples, enlarged)
    assert enlargement_note(samples, little) == ""
    write(tmp_path / "large.png", 80, 120)  # in which there is more
    assert enlargement_note(read_folder(tmp_path).train, enlarged) == ""


@pytest.mark.slow
def test_sides_beyond_every_limit_are_an_error_and_no_traceback(tmp_path: Path) -> None:
    Image.new("1", (120_000, 8)).save(tmp_path / "a.png")
    with pytest.raises(SettingsError, match=r"the images' size_px\.1: should be less than or equal to 100000"):
        resolve_policy([Sample(tmp_path / "a.png", "a.png")], run("data.tile_px=[8, 64]", "data.tile_overlap_px=0"))
    with pytest.raises(SettingsError, match="more than 178956970 pixels"):
        resolve_policy(
            [Sample(tmp_path / "a.png", "a.png")],
            run("data.size_px=[90000, 90000]", "data.tile_px=[64, 64]", "data.tile_overlap_px=0"),
        )


def test_photos_of_other_aspects_that_are_stretched_are_told(tmp_path: Path) -> None:
    for name, size in (("a", (30, 20)), ("b", (20, 30)), ("c", (30, 20)), ("d", (61, 40))):
        Image.new("RGB", size).save(tmp_path / f"{name}.png")
    samples = read_folder(tmp_path).train
    stretched = PixelPolicy(size_px=(16, 16), channels=3)
    assert stretch_note(samples, stretched).startswith(
        "1 of 4 photos, among them b.png, of another aspect than 20 x 30"
    )
    for policy in (stretched.model_copy(update={"aspect": 2 / 3}), stretched.model_copy(update={"fit": "pad"})):
        assert stretch_note(samples, policy) == ""
    assert stretch_note(samples[2:], stretched) == ""


def test_grey_photos_among_those_in_colour_are_told(tmp_path: Path) -> None:
    for name, mode in (("a", "RGB"), ("b", "L"), ("c", "RGB")):
        Image.new(mode, (8, 8)).save(tmp_path / f"{name}.png")
    samples = read_folder(tmp_path).train

    def note(count: int, channels: int) -> str:
        readings = PixelPolicy(size_px=(8, 8), channels=channels).new_readings(is_training=True)
        for sample in samples[:count]:
            readings.add(sample.name, prepare(sample.path, PixelPolicy(size_px=(8, 8), channels=channels)).reading)
        return readings.grey

    assert note(3, 3).startswith("1 of 3 photos is grey (b.png), the others in colour; take out what is not from ")
    assert note(3, 1) == note(1, 3) == ""


def test_a_photo_of_less_detail_than_others_is_told(tmp_path: Path) -> None:
    for name, side in (("a", 64), ("b", 16), ("c", 64), ("d", 60)):
        Image.new("RGB", (side, side)).save(tmp_path / f"{name}.png")
    samples, policy = read_folder(tmp_path).train, PixelPolicy(size_px=(64, 64))
    assert coarse_note(samples, policy).startswith("1 of 4 photos, among them b.png, seen up to 4.0 times larger than")
    assert coarse_note([], policy) == coarse_note(samples, PixelPolicy(size_px=(16, 16))) == ""
    readings = policy.new_readings(photo_px=(64, 64))
    for sample in samples:
        readings.add(sample.name, prepare(sample.path, policy).reading)
    assert readings.notes == [
        "1 of 4 photos, b.png: enlarged 4.0 times to be seen, and the photos of the training were not: small defects "
        "may not show"
    ]
