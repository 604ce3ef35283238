"""Draw docs/img/example.png, the picture in the README, from what `make demo` left in build/demo."""

from pathlib import Path

import numpy as np
from PIL import Image

from blemish.data.folder import Sample, read_folder
from blemish.data.images import read_original
from blemish.inference.overlay import Rgb, draw_contour, overlay
from blemish.inference.predictor import Predictor

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "build" / "demo"
PLACE = 3  # one image of each type, the same place in each folder: not picked for its looks
GAP_PX = 6


def main() -> None:
    """One column a defect type: photo, heat map with the defect pixels outlined, and ground truth."""
    folder = read_folder(DEMO / "hazelnuts")
    predictor = Predictor.load(DEMO / "model.safetensors")
    samples = [[sample for sample in folder.test if sample.defect_type == kind][PLACE] for kind in folder.defect_types]
    good = [sample for sample in folder.test if not sample.label][PLACE]
    columns = [column(predictor, sample) for sample in (good, *samples)]
    gap = np.full((columns[0].shape[0], GAP_PX, 3), 255, np.uint8)
    rows = [part for picture in columns for part in (picture, gap)][:-1]
    target = ROOT / "docs" / "img" / "example.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=1)).quantize(256).save(target, optimize=True)


def column(predictor: Predictor, sample: Sample) -> np.ndarray:
    """The pictures of one image, one above the other."""
    prediction = predictor.predict(sample.path)
    photo = np.asarray(read_original(sample.path))
    truth = sample.load_mask(prediction.image_size_px)
    truth = np.zeros(photo.shape[:2], bool) if truth is None else truth
    pictures = [
        photo,
        overlay(photo, prediction.anomaly_map, prediction.threshold),
        draw_contour(black_and_white(prediction.defect_mask), truth),
        black_and_white(truth),
    ]
    gap = np.full((GAP_PX, photo.shape[1], 3), 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (picture, gap)][:-1], axis=0)


def black_and_white(mask: np.ndarray) -> Rgb:
    """A mask as one to look at: defects white, all else black."""
    return np.repeat(np.uint8(255) * mask[..., None], 3, axis=2)


if __name__ == "__main__":
    main()
