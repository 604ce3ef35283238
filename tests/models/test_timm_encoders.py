"""Encoders of timm: real loading of random networks that timm saved itself; skipped where timm does not import."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from blemish.errors import ArtifactError, SettingsError
from blemish.inference.onnx_check import check_graph
from blemish.inference.runtime import graph_runtime
from blemish.inference.torch_runtime import TorchRuntime, restore_detector
from blemish.models import pin
from blemish.models.encoders import EncoderSettings, FrozenEncoder, choose
from blemish.training.onnx_graph import to_graph
from reference.tiny_encoders import SMALL, fit_small

try:
    import timm
except (ImportError, RuntimeError) as error:  # torchvision of another torch
    pytest.skip(f"timm does not import ({error}); pip install timm", allow_module_level=True)

STAGES = {
    "resnet18": 224,
    "wide_resnet50_2": 224,
    "convnext_atto": 224,
    "efficientnet_b0": 224,
    "mobilenetv3_small_100": 224,
    "swin_tiny_patch4_window7_224": 224,
}
TOKENS = {"vit_tiny_patch16_224": 224, "vit_small_patch14_reg4_dinov2": 518, "test_vit": 160}


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function: the folder of a random network, as timm writes it for a hub."""
    root = tmp_path_factory.mktemp("timm")

    def save(name: str) -> Path:
        if not (root / name).exists():
            with torch.random.fork_rng():
                torch.manual_seed(0)
                model = timm.create_model(name, pretrained=False)
                for weight in [*model.parameters(), *model.buffers()]:
                    if weight.is_floating_point():
                        weight.data.add_(0.02 * torch.rand_like(weight))
            timm.models.save_for_hf(model, root / name, safe_serialization=True)
        return root / name

    return save


def settings_of(folder: Path, **more: Any) -> EncoderSettings:
    return EncoderSettings(encoder=f"folder:{folder}", **more)


def ours(settings: EncoderSettings, *sizes_px: tuple[int, int]) -> FrozenEncoder:
    frozen = FrozenEncoder(settings, *sizes_px)
    frozen.prepare()
    return frozen


def theirs(folder: Path, images: Tensor, layers: tuple[int, ...], **options: Any) -> list[Tensor]:
    """Of the complete network of timm, through `forward_intermediates`."""
    model = timm.create_model(folder.name, pretrained=False, **options).eval()
    state = load_file(folder / "model.safetensors")
    own = {name: value for name, value in state.items() if value.shape == model.state_dict()[name].shape}
    model.load_state_dict(own, strict=not options)
    mean, std = (torch.tensor(model.pretrained_cfg[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    places = [layer - 1 for layer in layers]
    has_norm = folder.name in TOKENS
    with torch.no_grad():
        found: list[Tensor] = model.forward_intermediates(
            (images - mean) / std, indices=places, norm=has_norm, output_fmt="NCHW", intermediates_only=True
        )
    return found


def images_of(*size_px: int, count: int = 2) -> Tensor:
    return torch.rand(count, 3, *size_px, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [*STAGES.items(), *TOKENS.items()])
def test_maps_are_those_of_the_library(name: str, side: int, folder_of: Any) -> None:
    settings, images = settings_of(folder_of(name)), images_of(side, side, count=1)
    frozen = ours(settings, (side, side))
    expected = theirs(folder_of(name), images, frozen.encoder.layers)
    assert len(expected) >= 2
    for found, wanted, channels, stride in zip(frozen(images), expected, frozen.channels, frozen.strides, strict=True):
        assert found.shape == (1, channels, side // stride, side // stride)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_vit"])
def test_a_network_of_a_fixed_size_is_built_for_another(name: str, folder_of: Any) -> None:
    size_px = (256, 192)
    settings = settings_of(folder_of(name))
    frozen = ours(settings, size_px)
    maps = frozen(images_of(*size_px))
    assert [tuple(found.shape[2:]) for found in maps] == [(256 // s, 192 // s) for s in frozen.strides]
    if name not in TOKENS:  # no table of positions is resized
        for found, wanted in zip(
            maps, theirs(folder_of(name), images_of(*size_px), frozen.encoder.layers, img_size=size_px), strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    again = FrozenEncoder(settings, size_px)
    again.load_state_dict(frozen.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(again(images_of(*size_px)), maps, strict=True))
    with pytest.raises(SettingsError, match=r"sees images of one size in timm; take data\.speed=fast"):
        FrozenEncoder(settings, size_px, (128, 96))


def test_layers_by_rule_begin_at_stride_4(folder_of: Any) -> None:
    settings = settings_of(folder_of("test_resnet"))
    assert choose(settings).strides == (4, 8, 16)
    assert choose(settings_of(folder_of("test_resnet"), encoder_layers=(1, 2))).strides == (2, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "name"),
    [
        ("patchcore", "resnet18"),
        ("patchcore", "swin_tiny_patch4_window7_224"),
        ("patchcore", "vit_tiny_patch16_224"),
        ("patchcore", "vit_small_patch14_reg4_dinov2"),
        ("feature_autoencoder", "convnext_atto"),
        ("feature_ensemble", "mobilenetv3_small_100"),
        ("dinomaly", "vit_tiny_patch16_224"),
    ],
)
def test_detectors_are_restored_without_the_folder_and_exported(
    detector: str, name: str, folder_of: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folder_of(name), tmp_path / "carried"))
    made = fit_small(detector, folder)
    model = pin(detector, {"encoder": f"folder:{folder}", **SMALL.get(detector, {})}).model
    shutil.rmtree(folder)
    images = np.random.default_rng(1).random((2, *made.shape), np.float32)
    wanted = TorchRuntime(made).maps(images)
    state = {key: value.numpy() for key, value in made.state_dict().items()}
    restored = restore_detector(detector, json.loads(json.dumps(model)), made.shape, state).eval()
    assert np.array_equal(TorchRuntime(restored).maps(images), wanted)
    graph = to_graph(made, 18)
    check_graph(graph)  # nothing in it that is refused in a model file
    found = graph_runtime(graph).maps(images)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * float(wanted.max()))


def test_weights_that_lack_something_are_refused(folder_of: Any, tmp_path: Path) -> None:
    for name, missing in (("test_resnet", "layer1.0.conv1.weight"), ("test_vit", "blocks.1.attn.qkv.weight")):
        folder = Path(shutil.copytree(folder_of(name), tmp_path / name))
        state = load_file(folder / "model.safetensors")
        del state[missing]
        save_file(state, folder / "model.safetensors")
        with pytest.raises(ArtifactError, match=f"its weights cannot be loaded: .*{missing}"):
            ours(settings_of(folder), (160, 160))


def test_a_folder_of_a_network_that_was_trained_for_other_classes_is_read(folder_of: Any, tmp_path: Path) -> None:
    model = timm.create_model("test_vit", pretrained=False, num_classes=7)
    timm.models.save_for_hf(model, tmp_path / "seven", safe_serialization=True)
    frozen = ours(settings_of(tmp_path / "seven"), (160, 160))
    state = load_file(tmp_path / "seven" / "model.safetensors")
    assert torch.equal(frozen.encoder.network.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"])


def set_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "resnet17"}, r"timm .* has no network 'resnet17'"),
        ({"architecture": "hf_hub:timm/x"}, "has no network"),
        ({"architecture": "convmixer_768_32"}, "does not tell the channels and strides of its layers"),
    ],
)
def test_a_network_that_timm_does_not_have_or_tell_is_refused(
    change: dict[str, Any], message: str, folder_of: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folder_of("test_resnet"), tmp_path / "spoilt"))
    set_config(folder, **change)
    with pytest.raises(SettingsError, match=message):
        pin("patchcore", {"encoder": f"folder:{folder}"})


def test_what_timm_raises_for_a_size_is_an_error_about_the_encoder(
    folder_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(folder_of("test_resnet"))
    FrozenEncoder(settings, (64, 64))
    with pytest.raises(
        SettingsError, match=r"gives maps of .* for an image of 72 x 64 pixels, expected .*data\.size_px"
    ):
        FrozenEncoder(settings, (72, 64))

    def refuse(*_: object) -> None:
        raise AssertionError("Input height (256) doesn't match model (224).")

    monkeypatch.setattr("timm.layers.patch_embed.PatchEmbed.forward", refuse)
    with pytest.raises(SettingsError, match=r"refuses 'test_vit' for images of 64 x 64 pixels: Input height \(256\)"):
        FrozenEncoder(settings_of(folder_of("test_vit")), (64, 64))
