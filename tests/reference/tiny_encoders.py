"""Tiny random encoders of every family, saved as the library transformers saves them."""

import logging
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch

from blemish.models import make_detector, pin, side_multiple
from blemish.models.detector import Detector, ImageShape
from reference.plain_loop import ListOfBatches, PlainLoop

FAMILIES: dict[str, tuple[str, dict[str, Any], int]] = {
    "resnet": ("ResNet", {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}, 32),
    "convnext": ("ConvNext", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}, 32),
    "swin": (
        "Swin",
        {"image_size": 64, "embed_dim": 8, "depths": [2, 2, 2, 1], "num_heads": [1, 2, 2, 4], "window_size": 4},
        32,
    ),
    "dinov2": (
        "Dinov2",
        {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56, "patch_size": 14},
        14,
    ),
    "dinov2_with_registers": (
        "Dinov2WithRegisters",
        {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "image_size": 56, "patch_size": 14},
        14,
    ),
    "dinov3_vit": (
        "DINOv3ViT",
        {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 2,
            "image_size": 64,
            "num_register_tokens": 4,
        },
        16,
    ),
    "dinov3_convnext": ("DINOv3ConvNext", {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}, 32),
}
"""Of each family: what its classes are called, its configuration, and its coarsest stride."""

TRANSFORMERS = ["dinov2", "dinov2_with_registers", "dinov3_vit"]
"""Families whose layers all have one grid."""


@cache
def needed(detector: str) -> dict[str, Any]:
    """The settings without which a detector cannot be built here: of one for transformers alone, a tiny one."""
    if detector != "dinomaly":
        return {}
    pytest.importorskip("transformers")
    folder = TemporaryDirectory()
    _FOLDERS.append(folder)
    return {"encoder": f"folder:{save_tiny('dinov2', Path(folder.name) / 'tiny', patch_size=16, image_size=64)}"}


_FOLDERS: list[TemporaryDirectory[str]] = []
"""They are removed when the process ends."""


def save_tiny(family: str, folder: Path, kind: str = "Model", **changes: Any) -> Path:
    """A folder with a random encoder: seeded, with norms and biases that are not trivial."""
    logging.disable(logging.ERROR)
    try:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        stem, config, _ = FAMILIES[family]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = getattr(transformers, f"{stem}{kind}")(
                getattr(transformers, f"{stem}Config")(**{**config, **changes})
            )
            for name, weight in [*model.named_parameters(), *model.named_buffers()]:
                if weight.is_floating_point() and "inv_freq" not in name:
                    weight.data.add_(0.2 * torch.rand_like(weight))
        model.save_pretrained(str(folder))
    finally:
        logging.disable(logging.NOTSET)
    return folder


SMALL: dict[str, dict[str, Any]] = {"feature_autoencoder": {"latent": 4, "width": 8}}
"""Settings that make a detector small."""


def fit_small(detector: str, folder: Path) -> Detector:
    """A detector on the encoder of a folder, fitted for two steps to six random images."""
    model = pin(detector, {"encoder": f"folder:{folder}", **SMALL.get(detector, {})}).model
    multiple = side_multiple(detector, model)
    height, width = 2 * multiple, 3 * multiple
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = make_detector(detector, model, ImageShape(3, height, width))
        images = torch.rand(6, 3, height, width)
        made.fit(ListOfBatches([images]), PlainLoop(made, steps=2))
    return made.eval()
