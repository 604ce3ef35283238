"""The gallery of a comparison: chosen images, and their ground truth as the masks are meant."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.data.folder import Folder, Sample
from blemish.data.images import PixelPolicy
from blemish.evaluation.compare.gallery import Gallery
from blemish.evaluation.report.html import page_environment
from blemish.evaluation.report.pictures import photo


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


@pytest.mark.slow
def test_the_pictures_of_many_models_fit_a_phone_and_carry_their_names(chromium: Any, tmp_path: Path) -> None:
    picture = photo(np.zeros((64, 64, 3), np.uint8))
    names = ["ground truth", "seed", "conv_autoencoder", "feature_ensemble", "reverse_distillation"]
    rows = [{"name": f"test/cut/{place:03}.png", "pictures": [(name, picture) for name in names]} for place in range(2)]
    source = (
        '{% from "gallery.html.j2" import gallery, gallery_style %}<meta name="viewport" content="width=device-width">'
        '<style>{% include "style.css" %}{{ gallery_style() }}</style><main>{{ gallery(rows) }}</main>'
    )
    page_path = tmp_path / "page.html"
    page_path.write_text(page_environment().from_string(source).render(rows=rows))
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    page.goto(page_path.as_uri())
    boxes = [image.bounding_box() for image in page.locator("table.gallery img").all()]
    assert len(boxes) == 10
    assert all(box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["width"] > 120 for box in boxes)
    assert page.locator("table.gallery td span").all_inner_texts()[:5] == names
    page.set_viewport_size({"width": 1280, "height": 844})
    assert page.locator("table.gallery td span").first.is_hidden()
    assert page.locator("table.gallery thead").is_visible()
