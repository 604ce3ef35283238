"""What holds for every detector, on its own encoder and on a tiny random one of every family that it takes.

A new row in DETECTORS is tested here without more code.
"""

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.errors import SettingsError
from blemish.inference.onnx_check import check_graph
from blemish.inference.runtime import graph_runtime
from blemish.inference.torch_runtime import TorchRuntime, restore_detector
from blemish.models import DETECTORS, PRESETS, make_detector, pin, settings_of_name, side_multiple
from blemish.models.detector import Detector, ImageShape
from blemish.models.encoders import EncoderSettings
from blemish.settings import RunSettings, validate
from blemish.training.onnx_graph import to_graph
from reference.plain_loop import ListOfBatches, PlainLoop
from reference.tiny_encoders import FAMILIES, TRANSFORMERS, needed, save_tiny

SMALL: dict[str, dict[str, Any]] = {
    "conv_autoencoder": {"latent": 8},
    "vae": {"latent": 8},
    "anogan": {"latent": 8, "width": 4, "search_steps": 10},
    "reverse_distillation": {"width": 8},
    "patchcore": {"coreset_share": 1.0},
}
"""Settings that make a detector small enough to fit in a second; a detector without a row takes its defaults."""

SMALL_ON_A_FAMILY = {**SMALL, "feature_autoencoder": {"latent": 4, "width": 8}}

GOOD_ON_A_FAMILY = {"patchcore": 48, "feature_dictionary": 48}
"""Good images on tiny encoders, 4 for others. A random network tells a black hole from the part as it tells the ground
from the part, and one part from the next; detectors that compare with all places then find the hole only where all
that good images may show is among what they keep, every patch of many images."""


class Subject(NamedTuple):
    """A detector on its own encoder, or on a tiny random one."""

    name: str
    channels: int
    family: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.name, self.family, str(self.channels))))


def families_of(name: str) -> list[str]:
    if not issubclass(DETECTORS[name].Settings, EncoderSettings):
        return []
    return TRANSFORMERS if name == "dinomaly" else list(FAMILIES)


GREY = [pytest.param(Subject(name, 1), marks=pytest.mark.slow) for name in DETECTORS]
COLOUR = [Subject(name, 3) for name in DETECTORS]
ON_FAMILIES = [
    pytest.param(Subject(name, 3, family), marks=pytest.mark.slow) for name in DETECTORS for family in families_of(name)
]
every_detector = pytest.mark.parametrize("name", DETECTORS)
every_subject = pytest.mark.parametrize("subject", [*GREY, *COLOUR, *ON_FAMILIES], ids=str)
pytestmark = pytest.mark.usefixtures("offline")


def good_images(count: int, shape: ImageShape, seed: int = 0) -> Tensor:
    """A bright disc on a dark ground, never quite in the same place nor equally bright, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    top, left, light = torch.rand(3, count, 1, 1, 1, generator=generator)
    rows = torch.arange(shape.height).reshape(1, 1, -1, 1) - shape.height / 2 - 6 * (top - 0.5)
    columns = torch.arange(shape.width).reshape(1, 1, 1, -1) - shape.width / 2 - 6 * (left - 0.5)
    disc = torch.sigmoid((24 - torch.hypot(rows, columns)) / 2)  # (count, 1, h, w)
    tint = torch.linspace(1.0, 0.6, shape.channels).reshape(1, -1, 1, 1)
    noise = torch.rand(count, *shape, generator=generator)
    return 0.05 + (0.7 + 0.1 * light) * tint * disc + 0.02 * noise


def spoiled(shape: ImageShape) -> tuple[slice, slice]:
    """Rows and columns in the middle of the disc."""
    top, left = shape.height // 2 - 8, shape.width // 2 - 8
    return slice(top, top + 16), slice(left, left + 16)


def add_synthetic_defects(images: Tensor) -> Tensor:
    """The images with a square hole."""
    images = images.clone()
    images[(..., *spoiled(ImageShape(*images.shape[1:])))] = 0.0
    return images


class Fitted(NamedTuple):
    detector: Detector
    model: dict[str, Any]
    loop: PlainLoop
    good: Tensor
    """What it was fitted to."""


@cache
def fitted(subject: Subject) -> Fitted:
    """A detector after a few steps on one batch; the folder of its encoder is gone by then."""
    name, channels, family = subject
    model, shape, good = {**needed(name), **SMALL.get(name, {})}, ImageShape(channels, 64, 96), 4
    with TemporaryDirectory() as folder, torch.random.fork_rng():
        if family:
            pytest.importorskip("transformers")
            encoder = {"encoder": f"folder:{save_tiny(family, Path(folder) / 'tiny')}"}
            model = pin(name, {**SMALL_ON_A_FAMILY.get(name, {}), **encoder}).model
            height = 56 if FAMILIES[family][2] == 14 else 64
            shape, good = ImageShape(channels, height, height * 3 // 2), GOOD_ON_A_FAMILY.get(name, 4)
        torch.manual_seed(0)
        detector = make_detector(name, model, shape)
        loop = PlainLoop(detector, steps=64 if family else 32 if channels == 3 or name == "vae" else 12)
        batch = good_images(good, shape)
        detector.fit(ListOfBatches([batch]), loop)
    return Fitted(detector.eval(), model, loop, batch)


def unseen(subject: Subject, count: int) -> Tensor:
    return good_images(count, fitted(subject).detector.shape, seed=1)


def maps_of(subject: Subject, images: Tensor) -> Tensor:
    with torch.no_grad():
        return fitted(subject).detector(images)


@every_subject
def test_map_is_image_sized_float32_and_never_negative(subject: Subject) -> None:
    images = add_synthetic_defects(unseen(subject, 2))
    maps = maps_of(subject, images)
    assert maps.shape == (2, *images.shape[2:])
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert maps.min() >= 0


@every_subject
def test_map_does_not_depend_on_batch_mates(subject: Subject) -> None:
    images = unseen(subject, 3)
    alone, together = torch.cat([maps_of(subject, image[None]) for image in images]), maps_of(subject, images)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-4 * float(alone.max()) if subject.family else 1e-5)


@every_subject
def test_same_image_gives_the_same_map(subject: Subject) -> None:
    images = unseen(subject, 1)
    assert torch.equal(maps_of(subject, images), maps_of(subject, images))


@every_subject
def test_map_is_higher_where_an_image_is_spoiled(subject: Subject) -> None:
    images = unseen(subject, 1)
    good, bad = maps_of(subject, images)[0], maps_of(subject, add_synthetic_defects(images))[0]
    place = spoiled(fitted(subject).detector.shape)
    assert bad[place].mean() > good[place].mean()


@every_subject
def test_gradients_reach_every_trainable_weight(subject: Subject) -> None:
    assert fitted(subject).loop.without_gradient == []


@pytest.mark.parametrize("subject", [*COLOUR, *ON_FAMILIES], ids=str)
def test_one_batch_can_be_overfitted(subject: Subject) -> None:
    """The loss falls; where there is none, as the detector is solved in one pass, what it was fitted to is nearest."""
    curves = fitted(subject).loop.curves
    if len(curves) > 1:
        pytest.skip("losses that work against each other")
    if curves:
        assert min(curves[0][-3:]) < 0.7 * curves[0][0]
    else:
        known = fitted(subject).good
        assert maps_of(subject, known).mean() < maps_of(subject, unseen(subject, len(known))).mean()


@every_subject
def test_state_can_be_taken_over(subject: Subject) -> None:
    """Also where the folder of its encoder is gone."""
    images = unseen(subject, 2)
    detector, model, *_ = fitted(subject)
    state = {key: value.numpy() for key, value in detector.state_dict().items()}
    restored = restore_detector(subject.name, json.loads(json.dumps(model)), detector.shape, state).eval()
    with torch.no_grad():
        assert torch.equal(restored(images), maps_of(subject, images))


@pytest.mark.slow
@pytest.mark.parametrize("subject", ON_FAMILIES, ids=str)
def test_its_graph_judges_as_it_does(subject: Subject) -> None:
    """Those on their own encoders are exported in tests/training/test_export_detectors.py."""
    images = add_synthetic_defects(unseen(subject, 3)).numpy()
    detector = fitted(subject).detector
    wanted = TorchRuntime(detector).maps(images)
    graph = to_graph(detector, 18)
    check_graph(graph)  # nothing in it that is refused in a model file
    found = graph_runtime(graph).maps(images)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.max()))


@every_detector
def test_reconstructions_are_images(name: str) -> None:
    subject = Subject(name, 3)
    reconstruct = getattr(fitted(subject).detector, "reconstruct", None)
    if reconstruct is None:
        pytest.skip("shows no image")
    images = unseen(subject, 2)
    with torch.no_grad():
        assert reconstruct(images).shape == images.shape


@every_detector
def test_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match=r"model\.no_such_setting: unknown setting"):
        make_detector(name, {**needed(name), "no_such_setting": 1}, ImageShape(3, 64, 96))


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
