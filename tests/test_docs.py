"""The examples in the documentation run as they are printed."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from blemish.models.detector import ImageShape
from reference.plain_loop import ListOfBatches

DOCS = Path(__file__).parents[1] / "docs"


def code_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("block", "name"), [(0, "MeanImage"), (1, "MeanFeatures")])
def test_a_detector_of_the_how_to_works(block: int, name: str) -> None:
    names: dict[str, Any] = {"__name__": name}
    exec(compile(code_blocks("howto/add-a-detector.md")[block], "add-a-detector.md", "exec"), names)
    kind, shape = names[name], ImageShape(3, 32, 48)
    detector, images = kind(kind.Settings(), shape).eval(), torch.rand(4, *shape)
    detector.fit(ListOfBatches([images[:2], images[2:]]), None)
    with torch.no_grad():
        maps = detector(images)
        assert maps.shape == (4, 32, 48)
        assert 0 <= maps.min() < maps.max()
        restored = kind(kind.Settings(), shape).eval()
        restored.restore(detector.state_dict())
        assert torch.equal(restored(images), maps)
