"""What holds for every detector. A new row in DETECTORS is tested here without more code."""

from functools import cache
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from blemish.errors import SettingsError
from blemish.models import DETECTORS, PRESETS, make_detector, settings_of_name, side_multiple
from blemish.models.detector import Detector, ImageShape
from blemish.settings import RunSettings, validate
from reference.plain_loop import ListOfBatches, PlainLoop
from reference.tiny_encoders import needed

SMALL: dict[str, dict[str, Any]] = {
    "conv_autoencoder": {"latent": 8},
    "vae": {"latent": 8},
    "anogan": {"latent": 8, "width": 4, "search_steps": 10},
    "reverse_distillation": {"width": 8},
}
"""Settings that make a detector small enough to fit in a second; a detector without a row takes its defaults."""


def small(name: str) -> dict[str, Any]:
    return {**needed(name), **SMALL.get(name, {})}


HEIGHT, WIDTH = 64, 96
SPOILED = (slice(24, 40), slice(40, 56))

every_detector = pytest.mark.parametrize("name", DETECTORS)
grey_and_colour = pytest.mark.parametrize("channels", [1, 3])


def good_images(count: int, channels: int, seed: int = 0) -> Tensor:
    """A bright disc on a dark ground, never quite in the same place nor equally bright, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    top, left, light = torch.rand(3, count, 1, 1, 1, generator=generator)
    rows = torch.arange(HEIGHT).reshape(1, 1, -1, 1) - HEIGHT / 2 - 6 * (top - 0.5)
    columns = torch.arange(WIDTH).reshape(1, 1, 1, -1) - WIDTH / 2 - 6 * (left - 0.5)
    disc = torch.sigmoid((24 - torch.hypot(rows, columns)) / 2)  # (count, 1, h, w)
    tint = torch.linspace(1.0, 0.6, channels).reshape(1, -1, 1, 1)
    noise = torch.rand(count, channels, HEIGHT, WIDTH, generator=generator)
    return 0.05 + (0.7 + 0.1 * light) * tint * disc + 0.02 * noise


def add_synthetic_defects(images: Tensor) -> Tensor:
    """The images with a square hole."""
    images = images.clone()
    images[..., SPOILED[0], SPOILED[1]] = 0.0
    return images


def shape_of(channels: int) -> ImageShape:
    return ImageShape(channels, HEIGHT, WIDTH)


class Fitted(NamedTuple):
    detector: Detector
    loop: PlainLoop


@cache
def fitted(name: str, channels: int) -> Fitted:
    """A detector after a few steps on one batch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = make_detector(name, small(name), shape_of(channels))
        loop = PlainLoop(detector, steps=32 if channels == 3 or name == "vae" else 12)
        detector.fit(ListOfBatches([good_images(4, channels)]), loop)
    return Fitted(detector.eval(), loop)


def maps_of(name: str, images: Tensor) -> Tensor:
    detector = fitted(name, images.shape[1]).detector
    with torch.no_grad():
        return detector(images)


@every_detector
@grey_and_colour
def test_map_is_image_sized_float32_and_never_negative(name: str, channels: int) -> None:
    maps = maps_of(name, add_synthetic_defects(good_images(2, channels, seed=1)))
    assert maps.shape == (2, HEIGHT, WIDTH)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert maps.min() >= 0


@every_detector
@grey_and_colour
def test_map_does_not_depend_on_batch_mates(name: str, channels: int) -> None:
    images = good_images(3, channels, seed=1)
    alone = torch.cat([maps_of(name, image[None]) for image in images])
    torch.testing.assert_close(maps_of(name, images), alone, rtol=1e-5, atol=1e-5)


@every_detector
def test_same_image_gives_the_same_map(name: str) -> None:
    images = good_images(1, 3, seed=1)
    assert torch.equal(maps_of(name, images), maps_of(name, images))


@every_detector
@grey_and_colour
def test_map_is_higher_where_an_image_is_spoiled(name: str, channels: int) -> None:
    images = good_images(1, channels, seed=1)
    good, bad = maps_of(name, images)[0], maps_of(name, add_synthetic_defects(images))[0]
    assert bad[SPOILED].mean() > good[SPOILED].mean()


@every_detector
def test_gradients_reach_every_trainable_weight(name: str) -> None:
    assert fitted(name, 3).loop.without_gradient == []


@every_detector
def test_one_batch_can_be_overfitted(name: str) -> None:
    curves = fitted(name, 3).loop.curves
    if len(curves) != 1:
        pytest.skip("nothing to bring down: solved in one pass, or losses that work against each other")
    assert min(curves[0][-3:]) < 0.7 * curves[0][0]


@every_detector
@grey_and_colour
def test_state_can_be_taken_over(name: str, channels: int) -> None:
    images = good_images(2, channels, seed=1)
    saved = {key: value.clone() for key, value in fitted(name, channels).detector.state_dict().items()}
    other = make_detector(name, small(name), shape_of(channels))
    other.restore(saved)
    with torch.no_grad():
        assert torch.equal(other.eval()(images), maps_of(name, images))


@every_detector
def test_reconstructions_are_images(name: str) -> None:
    reconstruct = getattr(fitted(name, 3).detector, "reconstruct", None)
    if reconstruct is None:
        pytest.skip("shows no image")
    images = good_images(2, 3, seed=1)
    with torch.no_grad():
        assert reconstruct(images).shape == images.shape


@every_detector
def test_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"model\.no_such_setting: unknown setting"):
        make_detector(name, {**needed(name), "no_such_setting": 1}, shape_of(3))


@every_detector
def test_sides_it_cannot_take_are_refused(name: str) -> None:
    multiple = side_multiple(name, needed(name))
    if multiple == 1:
        pytest.skip("takes any side")
    with pytest.raises(SettingsError, match=f"both must be multiples of {multiple}, the nearest is"):
        make_detector(name, needed(name), ImageShape(3, 2 * multiple, 2 * multiple + 1))


@every_detector
def test_detector_is_final_and_its_settings_are_described(name: str) -> None:
    kind = DETECTORS[name]
    assert getattr(kind, "__final__", False)
    assert all(field.description for field in kind.Settings.model_fields.values())


@pytest.mark.parametrize("name", [*DETECTORS, *PRESETS])
def test_named_settings_are_valid(name: str) -> None:
    settings = validate(RunSettings, settings_of_name(name))
    assert validate(DETECTORS[settings.detector].Settings, settings.model)
