"""Synthetic data sets, written as MVTec-style folders."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.outputs import new_folder
from blemish.data.progress import OnStep, tell_nobody
from blemish.data.synthetic.hazelnut import hazelnut, photograph
from blemish.data.synthetic.hazelnut_defects import HAZELNUT_DEFECTS
from blemish.errors import SettingsError

SMALLEST_PX, LARGEST_PX = 64, 1024
MOST_IMAGES = 1_000_000

KINDS = ("train/good", "test/good", *(f"test/{defect_type}" for defect_type in HAZELNUT_DEFECTS))
"""The folders of images. Their order seeds the images: append only."""


def write_hazelnuts(
    out: Path,
    good: int = 60,
    defects: int = 10,
    size_px: int = 256,
    seed: int = 0,
    test_good: int | None = None,
    on_image: OnStep = tell_nobody,
) -> dict[str, int]:
    """Draw hazelnuts into a new folder, and say how many images each of its folders got.

    The layout is MVTec AD's (Bergmann et al., 2019). The same arguments give the same bytes on one machine with
    the same numpy and Pillow, and an image depends on the size, the seed, its kind and its number only: asking
    for more keeps the earlier ones. The folder appears complete or not at all.

    Args:
        out: Must not exist yet, or be empty.
        good: Good images to train on, at least one; of each kind a million at most.
        defects: Images of each of the four defect types: crack, cut, hole, print.
        size_px: Height and width, 64 to 1024.
        seed: Any whole number from 0.
        test_good: Good images to test on. None: a quarter of `good`, but at least ten.
        on_image: Called after each image with the number done and the total.

    Raises:
        DataError: when `out` is not empty or cannot be written.
        SettingsError: a number is out of range.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_hazelnuts(Path(folder) / "nuts", good=2, defects=1, size_px=64, test_good=1)
    {'train/good': 2, 'test/good': 1, 'test/crack': 1, 'test/cut': 1, 'test/hole': 1, 'test/print': 1}
    """
    test_good = max(10, good // 4) if test_good is None else test_good
    _check_range("good", good, 1, MOST_IMAGES)
    _check_range("defects", defects, 0, MOST_IMAGES)
    _check_range("test_good", test_good, 0, MOST_IMAGES)
    _check_range("size_px", size_px, SMALLEST_PX, LARGEST_PX)
    _check_range("seed", seed, 0, None)
    counts = dict(zip(KINDS, (good, test_good, *[defects] * len(HAZELNUT_DEFECTS)), strict=True))
    with new_folder(out) as folder:
        _draw_all(folder, counts, size_px, seed, on_image)
    return counts


def _draw_all(folder: Path, counts: dict[str, int], size_px: int, seed: int, on_image: OnStep) -> None:
    jobs = [(kind, index) for kind, count in counts.items() for index in range(count)]
    for done, (kind, index) in enumerate(jobs, start=1):
        image, mask = draw_hazelnut(kind, index, size_px, seed)
        _save(folder / kind / f"{index:03d}.png", image)
        if mask is not None:
            defect_type = kind.removeprefix("test/")
            _save(folder / "ground_truth" / defect_type / f"{index:03d}_mask.png", np.uint8(255) * mask)
        on_image(done, len(jobs))


def draw_hazelnut(kind: str, index: int, size_px: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Image `index` of a kind in `KINDS`, as `write_hazelnuts` writes it, with its mask if it has a defect.

    >>> image, mask = draw_hazelnut("train/good", 0, size_px=64, seed=0)
    >>> image.shape, mask
    ((64, 64, 3), None)
    """
    nut_rng, defect_rng = (
        np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(KINDS.index(kind), index, part)))
        for part in (0, 1)
    )
    nut = hazelnut(nut_rng, size_px)
    if kind.endswith("/good"):
        return photograph(nut), None
    return HAZELNUT_DEFECTS[kind.removeprefix("test/")](nut, defect_rng)


def _check_range(name: str, value: int, least: int, most: int | None) -> None:
    if value < least or (most is not None and value > most):
        wanted = f"at least {least}" if most is None else f"{least} to {most}"
        raise SettingsError(f"{name}: found {value}; give a whole number, {wanted}")


def _save(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
