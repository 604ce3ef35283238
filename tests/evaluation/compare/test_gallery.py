"""The gallery of a comparison: chosen images, and their ground truth as the masks are meant."""

from pathlib import Path

import numpy as np
from PIL import Image

from blemish.data.folder import Folder, Sample
from blemish.data.images import PixelPolicy
from blemish.evaluation.compare.gallery import Gallery


def test_inverted_masks_are_drawn_as_mask_value_says(tmp_path: Path) -> None:
    marked = np.zeros((64, 64), bool)
    marked[20:40, 10:30] = True
    Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(tmp_path / "a.png")
    pages = []
    for name, mask, value in (("plain", marked, None), ("inverted", ~marked, 0)):
        Image.fromarray(np.uint8(mask) * 255).save(tmp_path / f"{name}.png")
        sample = Sample(tmp_path / "a.png", "a.png", "cut", (tmp_path / f"{name}.png",))
        gallery = Gallery(
            Folder(tmp_path, (), (sample,)), PixelPolicy(size_px=(8, 8)), mask_values={"mask_value": value}
        )
        pages.append(gallery.truth)
    assert pages[0] == pages[1]
    assert pages[0][0] is not None
