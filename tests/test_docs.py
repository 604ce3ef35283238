"""The examples in the documentation run as they are printed."""

import re
from pathlib import Path
from typing import Any

import torch

from blemish.models.detector import ImageShape

DOCS = Path(__file__).parents[1] / "docs"


def code_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def test_the_detector_of_the_how_to_works() -> None:
    names: dict[str, Any] = {"__name__": "mean_image"}
    exec(compile(code_blocks("howto/add-a-detector.md")[0], "add-a-detector.md", "exec"), names)
    kind = names["MeanImage"]
    detector = kind(kind.Settings(), ImageShape(3, 16, 24))
    images = torch.rand(4, 3, 16, 24)
    detector.fit([images[:2], images[2:]], None)
    torch.testing.assert_close(detector.mean, images.mean(dim=0))
    maps = detector(images)
    assert maps.shape == (4, 16, 24)
    assert maps.min() >= 0
    again = kind(kind.Settings(), ImageShape(3, 16, 24))
    again.restore(detector.state_dict())
    assert torch.equal(again(images), maps)
