"""Near duplicates: found when copied, and not when only alike."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from blemish.data.duplicates import (
    FINE_ALIKE,
    FRAMES_ALIKE,
    TURNS,
    alike_as_they_are,
    count_parts,
    fine_correlation,
    fine_spectrum,
    fingerprint,
    median_likeness,
    near_duplicates,
)
from blemish.data.synthetic.texture import blur
from conftest import draw_discs

Grey = NDArray[np.float32]


def aligned_parts(count: int, seed: int = 0) -> list[Image.Image]:
    """Photos that share strong structure in the same place, each with some texture of its own."""
    rng = np.random.default_rng(seed)
    shared = Image.fromarray(np.uint8(rng.integers(0, 2, (10, 10)) * 120 + 60)).resize((240, 240), 0)
    photos = []
    for _ in range(count):
        own = Image.fromarray(np.uint8(rng.integers(0, 255, (60, 60)))).resize((240, 240))
        photos.append(Image.blend(shared, own.filter(ImageFilter.GaussianBlur(2)), 0.3))
    return photos


def prints(photos: list[Image.Image]) -> NDArray[np.float32]:
    return np.stack([fingerprint(np.asarray(photo, np.float32) / 255) for photo in photos])


def as_jpeg(photo: Image.Image, quality: int = 40) -> Image.Image:
    file = io.BytesIO()
    photo.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize("count", [4, 30])
def test_parts_that_are_only_alike_are_not_duplicates(count: int) -> None:
    assert near_duplicates(prints(aligned_parts(count))) == []


@pytest.mark.parametrize("count", [4, 30])
def test_copies_are_found(count: int) -> None:
    photos = aligned_parts(count)
    photos += [
        as_jpeg(photos[0]),
        photos[1].resize((120, 120)),
        photos[2].point(lambda value: min(255, int(1.2 * value))),
    ]
    pairs = near_duplicates(prints(photos))
    assert [(pair.first, pair.second, pair.turn) for pair in pairs] == [(i, count + i, "") for i in range(3)]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_turned_and_mirrored_copies_are_found_and_nothing_else(quarters: int, mirrored: bool) -> None:
    photos = aligned_parts(20)
    turned = np.asarray(photos[6])[:, ::-1] if mirrored else np.asarray(photos[6])
    photos.append(Image.fromarray(np.rot90(turned, quarters)))
    (pair,) = near_duplicates(prints(photos))
    assert (pair.first, pair.second) == (6, 20)
    assert pair.turn == ", ".join(word for word in ("mirrored" if mirrored else "", TURNS[quarters]) if word)


def test_blank_images_are_no_duplicates_by_structure() -> None:
    assert near_duplicates(np.zeros((5, 64, 64), np.float32)) == []


def test_parts_are_counted_along_chains_of_frames() -> None:
    """Frames that drift are alike from one to the next, and still of one part; groups are not told against."""
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(12, 64, 64))
    drift = rng.normal(size=(12, 64, 64))
    frames = [part + 0.3 * step * way for part, way in zip(parts, drift, strict=True) for step in range(5)]
    prints = np.stack(frames).astype(np.float32)
    assert count_parts(alike_as_they_are(prints)) == (60, 12)
    assert count_parts(alike_as_they_are(prints, [str(place // 5) for place in range(60)])) == (0, 60)
    assert count_parts(alike_as_they_are(prints[::5])) == (0, 12)


def test_frames_of_few_parts_are_counted_as_few_parts() -> None:
    """Single frames, moved and noisy, are less alike than copies are; together they are one part."""
    rng, prints = np.random.default_rng(0), []
    for _ in range(4):
        part = blur(rng.normal(0.5, 1.0, (128, 128)).astype(np.float32), 4.0)
        part = (part - part.mean()) / part.std() * 0.2 + 0.5
        for _ in range(15):
            frame = np.roll(part, rng.integers(-1, 2, 2), (0, 1)) + rng.normal(0, 0.05, part.shape)
            prints.append(fingerprint(np.asarray(frame, np.float32)))
    correlation = alike_as_they_are(np.stack(prints))
    assert np.median(correlation[:15, :15][np.triu_indices(15, 1)]) < FRAMES_ALIKE
    assert count_parts(correlation)[1] == 4


def fine_alike(first: Image.Image, second: Image.Image) -> float:
    one, other = (fine_spectrum(np.asarray(photo, np.float32) / 255, 256) for photo in (first, second))
    return fine_correlation(one, other)


def test_the_noise_of_a_smooth_part_tells_its_copies_from_other_parts() -> None:
    discs = draw_discs(4)
    assert max(fine_alike(discs[0], other) for other in discs[1:]) < 0.75 * FINE_ALIKE
    moved = Image.fromarray(np.roll(np.asarray(discs[0]), 2, axis=1))
    brighter = discs[0].point(lambda value: min(255, round(1.05 * value)))
    for copy in (as_jpeg(discs[0], quality=85), moved, brighter, as_jpeg(brighter, quality=85)):
        assert fine_alike(discs[0], copy) > 1.25 * FINE_ALIKE


def test_of_many_images_only_some_are_compared_for_a_single_part(monkeypatch: pytest.MonkeyPatch) -> None:
    prints = np.random.default_rng(0).normal(size=(8, 64, 64)).astype(np.float32)
    prints[::2] = prints[0]
    assert median_likeness(prints) < 0.1
    monkeypatch.setattr("blemish.data.duplicates._BLOCK", 4)  # all of 100,000 would take 80 GB
    assert median_likeness(prints) == pytest.approx(1)
    assert median_likeness(prints, ["one"] * 8) == 0
