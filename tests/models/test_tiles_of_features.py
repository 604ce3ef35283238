"""A map put together from tiles is the map of the whole image, and takes no more memory than that."""

import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from blemish.data.tiles import join_tiles, tile_boxes
from blemish.models.detector import ImageShape
from blemish.models.feature_autoencoder import FeatureAutoencoder, FeatureAutoencoderSettings
from reference.plain_loop import ListOfBatches, PlainLoop

SIZE_PX, TILE_PX, OVERLAP_PX = (640, 768), (384, 384), 256
BOXES = tile_boxes(SIZE_PX, TILE_PX, OVERLAP_PX)


def cloth(seed: int) -> Tensor:
    """A texture that looks alike everywhere, coarse and fine."""
    generator = torch.Generator().manual_seed(seed)
    layers = [F.interpolate(torch.rand(1, 3, 640 // k, 768 // k, generator=generator), SIZE_PX) for k in (2, 8, 32)]
    return torch.stack(layers).mean(dim=0)


def tile(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    top, left, bottom, right = box
    return image[:, :, top:bottom, left:right]


@pytest.fixture(scope="module")
def fitted() -> FeatureAutoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = FeatureAutoencoderSettings(latent=16, width=32, by_place=False)
        detector = FeatureAutoencoder(settings, ImageShape(3, *TILE_PX))
        tiles = [torch.cat([tile(cloth(seed), box) for box in BOXES]) for seed in range(2)]
        detector.fit(ListOfBatches(tiles), PlainLoop(detector, steps=20))
    return detector.eval()


@torch.no_grad()
def joined(detector: FeatureAutoencoder, image: Tensor) -> NDArray[np.float32]:
    return join_tiles(SIZE_PX, BOXES, OVERLAP_PX, lambda box: detector(tile(image, box))[0].numpy())


@pytest.mark.slow
@torch.no_grad()
def test_map_of_tiles_is_the_map_of_the_whole_away_from_borders(fitted: FeatureAutoencoder) -> None:
    """Within 1 % on average and 5 % anywhere: no seam that could be taken for a defect."""
    whole = FeatureAutoencoder(fitted.settings, ImageShape(3, *SIZE_PX))
    whole.load_state_dict(fitted.state_dict())
    image = cloth(seed=9)
    image[:, :, 300:330, 350:400] = 0.9
    untiled = whole.eval()(image)[0].numpy()
    relative = np.abs(joined(fitted, image) / untiled - 1)[64:-64, 64:-64]
    assert relative.mean() < 0.01, relative.mean()
    assert relative.max() < 0.05, relative.max()


@pytest.mark.slow
def test_memory_is_that_of_the_map_and_its_weights() -> None:
    side, tile_px = 4096, 256
    boxes = tile_boxes((side, side), (tile_px, tile_px), 64)
    tracemalloc.start()
    joined_map = join_tiles((side, side), boxes, 64, lambda _box: np.ones((tile_px, tile_px), np.float32))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (joined_map == 1).all()
    assert peak < 2 * joined_map.nbytes + 16 * tile_px**2 * 4, peak / joined_map.nbytes
