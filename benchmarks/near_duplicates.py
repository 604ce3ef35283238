"""Which near duplicates does `blemish data check` report among good images, and which of their copies does it find?

    python benchmarks/near_duplicates.py ../shared/data/*/train/good

Each folder's images, and 40 smooth discs drawn at 320 x 320 with noise of their own, are compared with each other, and
with copies of 12 of them: saved as JPEG of quality 85, moved by 1 or 2 pixels, 5 % brighter, and all of it. Prints the
pairs among the images and the copies found, each as by the structure at 64 x 64 pixels alone, and with the finest at
256 x 256.
"""

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageEnhance

from blemish.data.duplicates import (
    FINE_ALIKE,
    FINE_SIDE,
    Pair,
    fine_correlation,
    fine_spectrum,
    fingerprint,
    near_duplicates,
)

COPIED = 12
DISCS = ((1.0, 3.0), (3.0, 3.0), (3.0, 8.0))
"""Noise in grey levels, and by how many pixels the places differ."""


def draw_discs(noise: float, apart_px: float, count: int = 40, side: int = 320) -> list[Image.Image]:
    """Smooth discs, lit from one side."""
    rng, (rows, columns) = np.random.default_rng(0), np.mgrid[:side, :side].astype(np.float32)
    discs = []
    for _ in range(count):
        row, column = side / 2 + rng.normal(0, apart_px, 2)
        radius = 0.3 * side + rng.normal(0, 0.3)
        cover = 1 / (1 + np.exp(np.hypot(rows - row, columns - column) - radius))
        part = 150 + rng.normal(0, 2) - 0.15 * (columns - column) - 0.1 * (rows - row)
        values = 30 + (part - 30) * cover + rng.normal(0, noise, (side, side))
        discs.append(Image.fromarray(np.uint8(values.clip(0, 255))).convert("RGB"))
    return discs


def save_again(image: Image.Image) -> Image.Image:
    """As a JPEG of quality 85."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return Image.open(file).convert("RGB")


def brighten(image: Image.Image) -> Image.Image:
    """By 5 %."""
    return ImageEnhance.Brightness(image).enhance(1.05)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": save_again,
    "moved by 1": lambda image: ImageChops.offset(image, 0, 1),
    "moved by 2": lambda image: ImageChops.offset(image, 2, 1),
    "brighter": brighten,
    "all of it": lambda image: save_again(brighten(ImageChops.offset(image, 2, 1))),
}


def to_grey(image: Image.Image) -> NDArray[np.float32]:
    """As the data check makes it."""
    return np.asarray(image, np.float32).mean(axis=2) / np.float32(255)


def confirm(pairs: Sequence[Pair], greys: Sequence[NDArray[np.float32]]) -> list[Pair]:
    """Those that share their finest structure."""
    known: dict[tuple[int, str], NDArray[np.complex64]] = {}

    def spectrum(place: int, turn: str) -> NDArray[np.complex64]:
        if (place, turn) not in known:
            side = min(FINE_SIDE, *greys[place].shape) // 2 * 2
            known[place, turn] = fine_spectrum(greys[place], side, turn)
        return known[place, turn]

    def best(pair: Pair) -> float:
        return max(fine_correlation(spectrum(pair.first, turn), spectrum(pair.second, "")) for turn in ("", pair.turn))

    return [pair for pair in pairs if best(pair) >= FINE_ALIKE]


def count_pairs(title: str, images: Sequence[Image.Image]) -> None:
    """Print what is found among the images, and of the copies of some."""
    greys = [to_grey(image) for image in images]
    prints = [fingerprint(grey) for grey in greys]
    pairs = near_duplicates(np.stack(prints))
    some = np.random.default_rng(1).choice(len(images), min(COPIED, len(images)), replace=False).tolist()
    found = confirmed = 0
    for copy in COPIES.values():
        copied = [to_grey(copy(images[place])) for place in some]
        wanted = {(place, len(images) + number) for number, place in enumerate(some)}
        both = near_duplicates(np.stack([*prints, *map(fingerprint, copied)]))
        of_copies = [pair for pair in both if (pair.first, pair.second) in wanted]
        found, confirmed = found + len(of_copies), confirmed + len(confirm(of_copies, [*greys, *copied]))
    print(
        f"{title}: of {len(images)} images {len(pairs)} pairs, {len(confirm(pairs, greys))} with the finest structure; "
        f"of {len(some) * len(COPIES)} copies {found}, {confirmed} with it",
        flush=True,
    )


def main() -> None:
    """Compare each set of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="*", help="folders of good images")
    for folder in parser.parse_args().folders:
        count_pairs(str(folder), [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())])
    for noise, apart_px in DISCS:
        count_pairs(f"discs, noise {noise:g}, {apart_px:g} px apart", draw_discs(noise, apart_px))


if __name__ == "__main__":
    main()
