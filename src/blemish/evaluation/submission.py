"""What a benchmark's server wants to be sent: maps and masks of test images whose truth it keeps to itself."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.image_files import image_files
from blemish.data.layouts import PRIVATE, find_child
from blemish.data.outputs import new_folder
from blemish.data.progress import OnStep, tell_nobody
from blemish.errors import DataError, SettingsError, nearest
from blemish.inference.predictor import Predictor

BENCHMARKS = {"mvtec_ad_2": PRIVATE}
"""For each benchmark, the folders of images to be sent."""

MAPS, MASKS = "anomaly_images", "anomaly_images_thresholded"


def write_submission(
    predictor: Predictor,
    data: Path,
    out: Path,
    benchmark: str = "mvtec_ad_2",
    on_image: OnStep = tell_nobody,
) -> list[Path]:
    """Judge the private test images of one object, and write them as MVTec AD 2's server reads them.

    `OUT/anomaly_images/OBJECT/SPLIT/NAME.tiff` are maps in half precision and `OUT/anomaly_images_thresholded/...png`
    masks of 0 and 255, both (height, width) of the photo; OBJECT is the name of the folder `data`. Several objects go
    into one `out`. Both folders of an object appear complete or not at all.

    Returns the two folders.

    Raises:
        SettingsError: there is no benchmark of that name, or tifffile is not installed.
        DataError: the object has no private test images; it is in `out` already; an image cannot be read.
    """
    if benchmark not in BENCHMARKS:
        raise SettingsError(f"--benchmark {benchmark}: unknown; {nearest(benchmark, BENCHMARKS)}")
    images = _private_images(data, BENCHMARKS[benchmark])
    folders = [out / part / data.resolve().name for part in (MAPS, MASKS)]
    with ExitStack() as both:
        maps, masks = (both.enter_context(new_folder(folder)) for folder in folders)
        for done, (split, path) in enumerate(images, start=1):
            prediction = predictor.predict(path)
            target = maps / split / f"{path.stem}.tiff"
            target.parent.mkdir(exist_ok=True)
            write_map(target, prediction.anomaly_map)
            drawn = masks / split / f"{path.stem}.png"
            drawn.parent.mkdir(exist_ok=True)
            Image.fromarray(np.uint8(prediction.defect_mask) * 255).save(drawn)
            on_image(done, len(images))
    return folders


def _private_images(data: Path, splits: Sequence[str]) -> list[tuple[str, Path]]:
    found = [(split, path) for split in splits if (place := find_child(data, split)) for path in image_files(place)]
    if not found:
        raise DataError(f"{data}: no images in {' or '.join(splits)}; name the folder of one object, such as can")
    return found


def write_map(path: Path, anomaly_map: NDArray[np.floating]) -> None:
    """A map (height, width) as a TIFF file in half precision; what is too large for that is its largest number.

    Raises:
        SettingsError: tifffile is not installed.
    """
    try:
        import tifffile
    except ModuleNotFoundError:
        raise SettingsError(
            "--benchmark: writes TIFF in half precision with tifffile: pip install 'blemish[benchmark]'"
        ) from None
    tifffile.imwrite(path, np.minimum(anomaly_map, np.finfo(np.float16).max).astype(np.float16), compression="zlib")
