"""From a trained model to an ONNX file that judges alike, or to none."""

from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import blemish
from blemish.errors import ArtifactError, CalibrationError, DataError, SettingsError
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import graph_runtime, open_detector, open_onnx
from blemish.inference.torch_runtime import TorchRuntime
from blemish.models import DETECTORS
from blemish.models.detector import Batches, Detector, ImageShape, Optimise
from blemish.settings import Settings, validate
from blemish.training.export import (
    ExportSettings,
    Trained,
    export_exact,
    export_model,
    stated_tolerance,
)
from blemish.training.onnx_graph import to_graph


@pytest.fixture(scope="module")
def trained(model_file: Path) -> Predictor:
    return Predictor.load(model_file, device="cpu")


@pytest.fixture(scope="module")
def exported(onnx_file: Path) -> Predictor:
    return Predictor.load(onnx_file)


def graph_of(path: Path) -> onnx.ModelProto:
    model = onnx.load(str(path))
    del model.metadata_props[:]
    return model


def opened(model_file: Path) -> Trained:
    header, detector, kept = open_detector(model_file)
    return Trained(header, TorchRuntime(detector), kept)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_maps_are_the_trained_models_at_any_batch_size(model_file: Path, onnx_file: Path, count: int) -> None:
    images = np.random.default_rng(count).random((count, 3, 64, 64), dtype=np.float32)
    expected, found = opened(model_file).runtime.maps(images), open_onnx(onnx_file).runtime.maps(images)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_every_image_is_judged_alike(shared_parts: Path, trained: Predictor, exported: Predictor) -> None:
    """The good images calibrated on are among them: their scores tie with the calibration scores."""
    for path in sorted(shared_parts.glob("t*/*/*.png")):
        expected, found = trained.predict(path), exported.predict(path)
        assert found.score == pytest.approx(expected.score, rel=1e-5)
        assert (found.p_value, found.is_anomalous) == (expected.p_value, expected.is_anomalous)
        np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_images_may_have_the_names_of_those_in_the_model(model_file: Path) -> None:
    model, other = opened(model_file), np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    graph, name = to_graph(open_detector(model_file)[1], 18), next(iter(model.kept))
    alone, found = (export_exact(model, graph, 18, images) for images in ({}, {name: other}))
    assert found.card.checked == alone.card.checked + 1
    for one, expected in zip(found.fixtures, alone.fixtures, strict=True):
        np.testing.assert_array_equal(one.map, expected.map)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (200, 64)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "CMYK", "1"])
def test_images_of_other_sizes_and_channels_are_judged_alike(
    trained: Predictor, exported: Predictor, size: tuple[int, int], mode: str
) -> None:
    image = Image.new(mode, size, (1, 1, 1, 255) if mode == "RGBA" else 1)
    assert exported.predict(image).score == pytest.approx(trained.predict(image).score, rel=1e-5)


@pytest.mark.parametrize("channels", [2, 5])
def test_an_array_of_odd_channels_is_refused(exported: Predictor, channels: int) -> None:
    with pytest.raises(DataError, match=f"shape \\(64, 64, {channels}\\); expected"):
        exported.predict(np.zeros((64, 64, channels), np.uint8))


def test_the_threshold_still_moves(trained: Predictor, exported: Predictor) -> None:
    assert exported.threshold == pytest.approx(trained.threshold, rel=1e-4)
    assert exported.with_threshold(0.5).threshold == 0.5
    rate = 2 / 3
    assert exported.with_false_alarm_rate(rate).threshold == pytest.approx(
        trained.with_false_alarm_rate(rate).threshold, rel=1e-4
    )
    with pytest.raises(CalibrationError, match="add"):
        exported.with_false_alarm_rate(0.001)


def test_what_surrounds_the_graph_travels_along(trained: Predictor, exported: Predictor, onnx_file: Path) -> None:
    moved = {"threshold": True, "calibration_scores": True, "calibration": {"margin"}}
    assert exported.header.model_dump(exclude=moved) == trained.header.model_dump(exclude=moved)
    np.testing.assert_allclose(exported.header.calibration_scores, trained.header.calibration_scores, rtol=1e-4)
    margin = open_onnx(onnx_file).header.export.tolerance * trained.threshold
    assert exported.header.calibration.margin == margin
    assert exported.threshold >= trained.threshold + margin


def test_the_file_says_nothing_of_the_machine_it_was_made_on(onnx_file: Path) -> None:
    content = onnx_file.read_bytes()
    for path in (Path(blemish.__file__).parent, Path(onnx.__file__).parent, Path.cwd()):
        assert str(path).encode() not in content


def test_a_graph_of_other_weights_is_refused_with_the_worst_image(model_file: Path, onnx_file: Path) -> None:
    graph = graph_of(onnx_file)
    for weight in graph.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(np.asarray(values * np.float32(1.01)), weight.name))
    model = opened(model_file)
    with pytest.raises(ArtifactError, match=r"not exported, .* (batch of three|seeded image|train/good).* differs by"):
        export_exact(model, graph.SerializeToString(), 18, {})


def test_a_graph_that_mixes_its_batch_is_refused(model_file: Path) -> None:
    """It gives the right map for every image alone."""
    header, _, _ = open_detector(model_file)
    apart, mixed = graph_runtime(greatest([1])), greatest([0, 1])
    image = np.random.default_rng(0).random((1, 3, 64, 64), dtype=np.float32)
    assert np.array_equal(apart.maps(image), graph_runtime(mixed).maps(image))
    with pytest.raises(ArtifactError, match="a batch of three differs by"):
        export_exact(Trained(header, apart, {}), mixed, 18, {})


def test_a_ten_thousandth_of_the_threshold_is_allowed_and_no_more(model_file: Path) -> None:
    """All images are below the threshold, so that what is added to a map is its share of the threshold."""
    header = open_detector(model_file)[0].model_copy(update={"threshold": 2.0})
    trained = Trained(header, graph_runtime(greatest([1])), {})
    assert export_exact(trained, greatest([1], more=1.9e-4), 18, {}).card.tolerance == 1e-4
    with pytest.raises(ArtifactError, match=r"a batch of three differs by 0\.0001\d* of the"):
        export_exact(trained, greatest([1], more=2.1e-4), 18, {})


def greatest(axes: list[int], more: float = 0.0) -> bytes:
    """A graph that takes the maximum over these axes, and adds a number to it."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 64, 64])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["batch", 64, 64])
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], axes=axes, keepdims=1),
        helper.make_node("Mul", ["images", "zero"], ["nothing"]),
        helper.make_node("Add", ["most", "nothing"], ["all"]),
        helper.make_node("ReduceMax", ["all"], ["greatest"], axes=[1], keepdims=0),
        helper.make_node("Add", ["greatest", "more"], ["maps"]),
    ]
    numbers = [numpy_helper.from_array(np.float32(n), name) for name, n in (("zero", 0.0), ("more", more))]
    graph = helper.make_graph(nodes, "greatest", [images], [maps], numbers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def test_the_image_that_differs_most_is_named(model_file: Path, onnx_file: Path) -> None:
    """The first pixel of one image is white, and the graph adds a little to what is white there."""
    graph = graph_of(onnx_file)
    graph.graph.node[-1].output[0] = "raw"
    steps = [
        helper.make_node("Slice", ["images", "start", "stop", "axes"], ["corner"]),  # (b, c, 1, 1)
        helper.make_node("ReduceMin", ["corner", "channel"], ["light"], keepdims=0),  # (b, 1, 1)
        helper.make_node("Floor", ["light"], ["is_white"]),
        helper.make_node("Mul", ["is_white", "little"], ["addend"]),
        helper.make_node("Add", ["raw", "addend"], ["maps"]),
    ]
    constants = {"start": [0, 0], "stop": [1, 1], "axes": [2, 3], "channel": [1]}
    graph.graph.node.extend(steps)
    graph.graph.initializer.extend(numpy_helper.from_array(np.array(v, np.int64), n) for n, v in constants.items())
    graph.graph.initializer.append(numpy_helper.from_array(np.float32(1e-3), "little"))
    white = np.full((64, 64, 3), 255, np.uint8)
    with pytest.raises(ArtifactError, match="the trained model: white differs by"):
        export_exact(opened(model_file), graph.SerializeToString(), 18, {"white": white})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"opset": 17}, r"--opset: should be greater than or equal to 18; found 17"),
        ({"precision": "int8"}, "--precision: unknown setting"),
    ],
)
def test_bad_settings_are_named_as_options(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        validate(ExportSettings, settings, prefix="--")


def test_where_it_cannot_be_written_is_said_before_the_work(model_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none/m\.onnx: cannot be written: its folder does not exist"):
        export_model(model_file, tmp_path / "none" / "m.onnx")


def test_an_exported_model_is_not_exported_again(onnx_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"model\.onnx: exported already; give the model file"):
        export_model(onnx_file, tmp_path / "m.onnx")


def test_a_search_cannot_be_exported() -> None:
    kind = DETECTORS["anogan"]
    with pytest.raises(ArtifactError, match="AnoGan cannot be exported: it scores an image by a search"):
        to_graph(kind(kind.Settings(latent=4, width=4), ImageShape(3, 32, 32)), 18)


@final
class Counting(Detector):
    """Does something else for each number of images."""

    Settings = Settings

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Nothing."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([image.amax(dim=0, keepdim=True) for image in images])


@pytest.mark.slow
def test_a_detector_that_counts_its_images_cannot_be_exported() -> None:
    with pytest.raises(ArtifactError, match="Counting cannot be exported: "):
        to_graph(Counting(ImageShape(3, 8, 8)), 18)


@final
class TwoSizes(Detector):
    """Sees the images at their own size and at half of it."""

    Settings = Settings

    def fit(self, batches: Batches, optimise: Optimise) -> None:
        """Nothing."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        small = F.interpolate(images, scale_factor=0.5, mode="bilinear").amax(dim=1, keepdim=True)
        large = F.interpolate(small, size=images.shape[2:], mode="bilinear")
        return images.amax(dim=1) * large[:, 0]


@pytest.mark.slow
def test_a_detector_that_resizes_inside_becomes_a_graph() -> None:
    detector, images = TwoSizes(ImageShape(3, 32, 48)), torch.rand(3, 3, 32, 48)
    maps = graph_runtime(to_graph(detector, 18)).maps(images.numpy())
    np.testing.assert_allclose(maps, detector(images).numpy(), rtol=1e-5, atol=1e-6)


def test_good_images_of_ones_own_are_compared_too(model_file: Path, onnx_file: Path, shared_parts: Path) -> None:
    told: list[tuple[int, int]] = []
    images = {path.name: path for path in sorted(shared_parts.glob("train/good/*.png"))}
    graph = graph_of(onnx_file).SerializeToString()
    export = export_exact(opened(model_file), graph, 18, images, lambda *done: told.append(done))
    assert export.card.checked == 5 + 2 + 12
    assert told == [(done, 19) for done in range(1, 20)]
    assert len(export.fixtures) == 5 + 2


def test_stated_tolerance_has_room_for_four_times_the_difference() -> None:
    for worst in np.geomspace(1e-9, 2.4e-5, 50):
        assert stated_tolerance(worst) >= 4 * worst
        assert 1e-6 <= stated_tolerance(worst) <= 1e-4


def test_the_trained_model_is_not_replaced_by_its_export(model_file: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes(model_file.read_bytes())
    (tmp_path / "link").symlink_to(model)
    for out in (model, tmp_path / "link"):
        with pytest.raises(DataError, match="the trained model itself"):
            export_model(model, out)
    with pytest.raises(DataError, match=r"new\.safetensors: ends as trained models do; give the export a name that"):
        export_model(model, tmp_path / "new.safetensors")
    assert model.read_bytes() == model_file.read_bytes()
