"""Encoders of folders: real loading of tiny random networks of every family, without a network connection."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.errors import ArtifactError, SettingsError
from blemish.hub.licences import accept
from blemish.hub.store import home
from blemish.inference.torch_runtime import restore_detector
from blemish.models import make_detector, pin
from blemish.models.detector import ImageShape
from blemish.models.encoders import EncoderSettings, FrozenEncoder, choose
from blemish.models.transformers_encoder import interpolation
from reference.tiny_encoders import FAMILIES, fit_small, save_tiny

pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("offline")

every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("encoders")
    return {family: save_tiny(family, root / f"tiny-{family}") for family in FAMILIES}


def settings_of(folder: Path, **more: Any) -> EncoderSettings:
    return EncoderSettings(encoder=f"folder:{folder}", **more)


def sides(family: str) -> tuple[int, int]:
    """Height and width, not the same, of at most 96 pixels."""
    return (56, 84) if FAMILIES[family][2] == 14 else (64, 96)


def images_for(family: str, count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, *sides(family), generator=torch.Generator().manual_seed(seed))


@every_family
def test_maps_are_those_of_the_library(family: str, folders: dict[str, Path]) -> None:
    import transformers

    frozen = FrozenEncoder(settings_of(folders[family]), sides(family))
    frozen.prepare()
    images = images_for(family, 2)
    found = frozen(images)
    kind = getattr(transformers, f"{FAMILIES[family][0]}Backbone")
    layers = (1, 2, 3, 4) if len(found) == 4 else (1, 2, 3)
    theirs = kind.from_pretrained(str(folders[family]), out_indices=list(layers), attn_implementation="eager").eval()
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, None, :, None, None]
    with torch.no_grad():
        expected = theirs((images - mean) / std).feature_maps
    assert len(found) == len(expected)
    for ours, wanted, channels, stride in zip(found, expected, frozen.channels, frozen.strides, strict=True):
        assert ours.shape == (2, channels, *(side // stride for side in sides(family)))
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)
    assert choose(settings_of(folders[family])).strides == frozen.strides


def test_an_encoder_is_found_by_the_name_that_anomalib_has_for_it(folders: dict[str, Path]) -> None:
    here = home() / "hf" / "facebook--dinov2-with-registers-base"
    shutil.copytree(folders["dinov2_with_registers"], here)
    theirs, ours = (
        choose(EncoderSettings(encoder=name))
        for name in ("dinov2reg_vit_base_14", "hf:facebook/dinov2-with-registers-base")
    )
    assert theirs[:3] == ours[:3]
    with pytest.raises(SettingsError, match="not on this machine; get it with: blemish encoders fetch wide_resnet50_2"):
        choose(EncoderSettings(encoder="wide_resnet50_2"))


@pytest.mark.parametrize(("old", "new"), [(4, 6), (37, 18), (5, 5), (3, 40)])
@pytest.mark.parametrize("is_smooth", [False, True])
def test_positions_are_interpolated_as_torch_does(old: int, new: int, is_smooth: bool) -> None:
    square = torch.randn(1, 2, old, old, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(square, size=(new, old + 3), mode="bicubic", antialias=is_smooth)
    rows, columns = interpolation(old, new, is_smooth), interpolation(old, old + 3, is_smooth)
    torch.testing.assert_close(rows @ square @ columns.mT, expected, rtol=1e-4, atol=1e-5)


def test_layers_may_be_chosen(folders: dict[str, Path]) -> None:
    blocks = choose(settings_of(folders["dinov2"], encoder_layers=(2, 3)))
    stages = choose(settings_of(folders["resnet"], encoder_layers=(3, 4)))
    assert (blocks.channels, blocks.strides) == ((16, 16), (14, 14))
    assert (stages.channels, stages.strides) == ((24, 32), (16, 32))
    frozen = FrozenEncoder(settings_of(folders["dinov2"], encoder_layers=(2, 3)), (28, 28))
    assert not any("layer.3" in name for name in frozen.state_dict())  # what comes after the last layer is not kept
    with pytest.raises(SettingsError, match=r"model\.encoder_layers: 5 of 'folder:.*', which has 1 to 4"):
        choose(settings_of(folders["dinov2"], encoder_layers=(5,)))


def test_pixels_are_scaled_as_the_folder_says(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["resnet"], tmp_path / "told"))
    told = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.25, 0.1], "rescale_factor": 1 / 255}
    (folder / "preprocessor_config.json").write_text(json.dumps(told))
    pinned = pin("patchcore", {"encoder": f"folder:{folder}"})
    assert pinned.model["encoder_spec"]["mean"] == pytest.approx([0.5, 0.4, 0.3])
    assert not any("ImageNet" in note for note in pinned.notes)
    unsaid = pin("patchcore", {"encoder": f"folder:{folders['resnet']}"})
    assert any("ImageNet's mean and deviation are taken" in note for note in unsaid.notes)


def test_the_card_has_name_hash_and_licence_and_no_path(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["convnext"], tmp_path / "mine"))
    (folder / "README.md").write_text("---\nlicense: mit\ntags:\n- vision\n---\n# A model\n")
    (folder / "LICENSE").write_text("MIT License\n\nPermission is hereby granted")
    card = pin("padim", {"encoder": f"folder:{folder}"}).card
    assert card is not None
    assert (card.name, card.licence) == ("folder:mine", "mit")
    assert card.licence_text.startswith("MIT License\n\nPermission")
    assert len(card.sha256) == 64
    unknown = pin("padim", {"encoder": f"folder:{folders['convnext']}"})
    assert unknown.card is not None
    assert unknown.card.licence == "unknown"
    assert any("licence is unknown" in note for note in unknown.notes)
    packaged = pin("patchcore", {}).card
    assert packaged is not None
    assert (packaged.name, packaged.licence) == ("efficientnet_lite0", "apache-2.0")
    assert "Apache" in packaged.licence_text


def test_dinov3_needs_its_licence_accepted(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLEMISH_ENCODERS", str(tmp_path))
    encoder = f"folder:{folders['dinov3_vit']}"
    with pytest.raises(SettingsError, match=r"licence \(DINOv3 License\) must be .* blemish encoders accept dinov3"):
        pin("patchcore", {"encoder": encoder})
    with pytest.raises(SettingsError, match="must be accepted once"):
        FrozenEncoder(EncoderSettings(encoder=encoder), (64, 64)).prepare()
    accept("dinov3-license", tmp_path)
    card = pin("patchcore", {"encoder": encoder}).card
    assert card is not None
    assert "DINOv3 License" in card.licence_text
    with pytest.raises(SettingsError, match="none that must be accepted; those are: dinov3-license"):
        accept("mit", tmp_path)


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def sharded(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model.safetensors.index.json")


def set_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, r"model\.encoder: folder:.*: no such folder"),
        (pickled, r"found pytorch_model\.bin, but no model\.safetensors; pickled weights .* never read"),
        (sharded, "weights in several files"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"no model\.safetensors in the folder"),
        (lambda folder: (folder / "config.json").unlink(), r"no config\.json in the folder"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json cannot be read"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json is no JSON object"),
        (lambda folder: set_config(folder, model_type="bert"), r"names model_type 'bert'; known: convnext, dinov2"),
        (lambda folder: set_config(folder, hidden_size=1 << 20), r"config\.json: .*hidden_size"),
        (lambda folder: set_config(folder, num_hidden_layers=10**6), r"config\.json: num_hidden_layers: more than any"),
        (lambda folder: set_config(folder, num_hidden_layers=65), r"config\.json: .*num_hidden_layers"),
        (lambda folder: set_config(folder, hidden_act="exec"), r"config\.json"),
        (lambda folder: set_config(folder, image_size=[56, 70]), r"config\.json: .*image_size: .*expected a square"),
        (
            lambda folder: (folder / "preprocessor_config.json").write_text('{"image_std": [0, 1, 1]}'),
            "mean and deviation of its pixels: expected three numbers",
        ),
    ],
)
def test_a_folder_that_holds_no_encoder_is_refused(
    spoil: Any, message: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folders["dinov2"], tmp_path / "spoiled"))
    spoil(folder)
    with pytest.raises(SettingsError, match=message):
        pin("patchcore", {"encoder": f"folder:{folder}"})


def test_weights_that_are_not_those_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(folders["dinov2"], tmp_path / "other"))
    settings = EncoderSettings.model_validate(
        {
            "encoder": f"folder:{folder}",
            "encoder_spec": pin("padim", {"encoder": f"folder:{folder}"}).model["encoder_spec"],
        }
    )
    frozen = FrozenEncoder(settings, (28, 28))
    shutil.copy(folders["resnet"] / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"its weights have SHA-256 .*, expected"):
        frozen.prepare()
    with pytest.raises(SettingsError, match=r"model\.encoder_spec: another encoder than"):
        pin("padim", {"encoder": settings.encoder, "encoder_spec": settings.model_dump(mode="json")["encoder_spec"]})
    swapped = FrozenEncoder(settings_of(folder), (28, 28))
    with pytest.raises(ArtifactError, match=r"its weights lack .*; they are not those of its config"):
        swapped.prepare()
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ArtifactError, match="its weights cannot be loaded"):
        FrozenEncoder(settings_of(folder), (28, 28)).prepare()


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (
            "hf:facebook/dinov2-small",
            r"not on this machine; .*: blemish encoders fetch hf:facebook/dinov2-small; .*folder:PATH",
        ),
        ("timm:wide_resnet50_2", "blemish encoders fetch timm:wide_resnet50_2"),
        ("hf:../../etc", "hf: is followed by a name like"),
        ("folder:", "name the folder after folder:"),
        ("http://example.com/x", "'http:' is none of hf:, timm:, folder:"),
        ("efficientnet_lite3", "did you mean"),
    ],
)
def test_an_encoder_that_is_missing_is_named_with_how_to_get_it(encoder: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        pin("patchcore", {"encoder": encoder})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"family": "bert"}, "none of resnet"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"hidden_size": 10**6}, "hidden_size"),
        ({"num_hidden_layers": 5}, "do not fit"),
        ({"auto_map": {"x": "y"}}, "auto_map"),
    ],
)
def test_a_hostile_description_in_a_model_file_is_refused(
    change: dict[str, Any], message: str, folders: dict[str, Path]
) -> None:
    detector = fit_small("patchcore", folders["dinov2"])
    model = pin("patchcore", {"encoder": f"folder:{folders['dinov2']}"}).model
    spec = model["encoder_spec"]
    model["encoder_spec"] = {**spec, "network": {**spec["network"], **change}}
    state = {key: value.numpy() for key, value in detector.state_dict().items()}
    with pytest.raises((SettingsError, ArtifactError), match=message):
        restore_detector("patchcore", model, detector.shape, state)


@pytest.mark.parametrize("name", ["feature_autoencoder", "feature_ensemble"])
def test_gaussians_of_wide_encoders_stay_small(name: str, folders: dict[str, Path]) -> None:
    model = pin(name, {"encoder": f"folder:{folders['dinov2']}"}).model
    network = {**model["encoder_spec"]["network"], "hidden_size": 768, "num_attention_heads": 12}
    model["encoder_spec"] = {**model["encoder_spec"], "network": network}
    with torch.device("meta"):
        detector = make_detector(name, model, ImageShape(3, 224, 224))
    sizes = {key: value.numel() * 4 for key, value in detector.state_dict().items() if "whitening" in key}
    assert sizes
    assert max(sizes.values()) <= 32 << 20
