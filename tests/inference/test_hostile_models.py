"""Model files made by an attacker, sealed with a checksum that fits: each ends in an ArtifactError, soon and small."""

import base64
import json
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from blemish.data.roi import encode_roi
from blemish.errors import ArtifactError, SettingsError
from blemish.inference import limits
from blemish.inference.artifact import read_artifact
from blemish.inference.calibration import CalibrationCard
from blemish.inference.onnx_check import check_graph
from blemish.inference.onnx_file import FIXTURES_KEY, HEADER_KEY, seal, unseal
from blemish.inference.parity import verify
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import OnnxRuntime, open_onnx
from blemish.inference.tensor_file import write_tensors
from blemish.inference.torch_runtime import TorchRuntime
from blemish.inspection.group_pattern import pattern_in_model
from blemish.models import DETECTORS, make_detector, pin
from blemish.models.detector import ImageShape
from reference.tiny_encoders import needed

SIDE = 64


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte is soon full."""
    monkeypatch.setattr(limits, "MAX_MEMORY_BYTES", 1 << 30)


def refused(path: Path, message: str, load: Callable[[Path], object] = Predictor.load) -> None:
    started = time.process_time()  # not the clock's, which tells how busy the machine is
    with pytest.raises(ArtifactError, match=message) as error:
        load(path)
    assert str(path) in str(error.value) or load is verify
    assert time.process_time() - started < 60


@pytest.fixture(scope="module")
def metadata(onnx_file: Path) -> dict[str, str]:
    """What surrounds the graph of the small model."""
    model = onnx.load(onnx_file)
    return {entry.key: entry.value for entry in model.metadata_props if entry.key != "blemish.sha256"}


def graph(
    nodes: list[onnx.NodeProto], *constants: onnx.TensorProto, functions: list[Any] = (), **more: Any
) -> onnx.ModelProto:
    shape = [1, 3, SIDE, SIDE]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("maps", more.pop("output", TensorProto.FLOAT), None)],
        list(constants),
        **more,
    )
    imports = (
        [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)] if functions else [helper.make_opsetid("", 18)]
    )
    return helper.make_model(made, opset_imports=imports, ir_version=10, functions=list(functions))


def constant(name: str, values: Any, kind: type = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, kind), name)


MEAN = helper.make_node("ReduceMean", ["images", "axis"], ["maps"], keepdims=0)
AXIS = constant("axis", [1])


def external(name: str) -> onnx.TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.UINT8, dims=[32], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "etc/passwd"), ("offset", "0"), ("length", "32")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def looped() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["x", "x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["n", "true", "mean"], ["maps"], body=body)
    mean = helper.make_node("ReduceMean", ["images", "axis"], ["mean"], keepdims=0)
    return graph([mean, loop], AXIS, constant("n", 2**62), constant("true", True, np.bool_))


def with_functions(depth: int) -> onnx.ModelProto:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    functions = [
        helper.make_function(
            "local",
            f"f{place}",
            ["x"],
            ["y"],
            [
                helper.make_node(
                    f"f{place + 1}" if place < depth else "Abs", ["x"], ["a"], domain="local" if place < depth else ""
                ),
                helper.make_node("Add", ["a", "a"], ["y"]),
            ],
            opsets,
        )
        for place in range(depth + 1)
    ]
    call = helper.make_node("f0", ["mean"], ["maps"], domain="local")
    mean = helper.make_node("ReduceMean", ["images", "axis"], ["mean"], keepdims=0)
    return graph([mean, call], AXIS, functions=functions)


def sized_by_pixels(order: int = 1) -> onnx.ModelProto:
    nodes = [
        helper.make_node("ReduceMax", ["images"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["size"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["size", "one"], ["sizes"]),
        helper.make_node("Expand", ["most", "sizes"], ["maps"]),
    ]
    return graph(nodes[::order], constant("one", [1]))


NOT_ALLOWED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "weights in another file": (
        lambda: graph([helper.make_node("Cast", ["w"], ["maps"], to=1)], external("w")),
        "its weights lie in another file",
    ),
    "a constant in another file": (
        lambda: graph([helper.make_node("Constant", [], ["maps"], value=external("w"))]),
        "its weights lie in another file",
    ),
    "a loop": (looped, "'Loop', which no detector is exported to|attribute of its graph has the field 6"),
    "nested functions": (lambda: with_functions(40), "model of its graph has the field 25|the operator 'f0'"),
    "a function's name without the function": (
        lambda: graph([helper.make_node("f0", ["images"], ["maps"], domain="local")]),
        "'f0', which no detector",
    ),
    "operators of another domain": (
        lambda: graph([helper.make_node("Gelu", ["images"], ["maps"], domain="com.microsoft")]),
        "of 'com.microsoft', not of ONNX itself",
    ),
    "random numbers": (
        lambda: graph([helper.make_node("RandomNormalLike", ["images"], ["maps"])]),
        "'RandomNormalLike', which no detector",
    ),
    "too many operators": (
        lambda: graph([helper.make_node("Abs", ["images"], [f"a{place}"]) for place in range(5001)] + [MEAN], AXIS),
        "5002 operators",
    ),
    "a size that follows from the pixels": (sized_by_pixels, "Expand has a size that depends on the pixels"),
    "a size that follows from what comes later": (lambda: sized_by_pixels(-1), "Reshape comes after one that needs it"),
    "a sparse weight": (
        lambda: graph(
            [MEAN],
            AXIS,
            sparse_initializer=[
                helper.make_sparse_tensor(constant("s", [1.0], np.float32), constant("i", [0]), [10**9])
            ],
        ),
        "graph of its graph has the field 15",
    ),
}

TOO_MUCH: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "an expansion": (
        lambda: graph(
            [
                helper.make_node("Expand", ["x", "sizes"], ["much"]),
                helper.make_node("ReduceMax", ["much"], ["most"], keepdims=0),
                helper.make_node("Add", ["images", "most"], ["maps"]),
            ],
            constant("x", [1.0], np.float32),
            constant("sizes", [300_000, 300_000]),
        ),
        "cannot load it|the network fails",
    ),
    "doubled and doubled": (
        lambda: graph(
            [
                helper.make_node("Concat", [f"c{place}" if place else "images"] * 2, [f"c{place + 1}"], axis=0)
                for place in range(40)
            ]
            + [helper.make_node("ReduceMax", ["c40"], ["maps"], keepdims=0)]
        ),
        "cannot load it|the network fails",
    ),
    "maps of another shape": (
        lambda: graph([helper.make_node("Abs", ["images"], ["maps"])]),
        r"gives float32 \(1, 3, 64",
    ),
    "maps of another type": (
        lambda: graph(
            [
                helper.make_node("ReduceMean", ["images", "axis"], ["mean"], keepdims=0),
                helper.make_node("Cast", ["mean"], ["maps"], to=TensorProto.DOUBLE),
            ],
            AXIS,
            output=TensorProto.DOUBLE,
        ),
        "gives float64",
    ),
    "another input": (
        lambda: graph([helper.make_node("ReduceMean", ["pixels", "axis"], ["maps"], keepdims=0)], AXIS),
        "cannot load it",
    ),
}


@pytest.mark.parametrize("name", [*NOT_ALLOWED, *TOO_MUCH])
def test_a_graph_that_could_do_more_or_takes_too_much_is_refused(
    name: str, metadata: dict[str, str], tmp_path: Path
) -> None:
    make, message = {**NOT_ALLOWED, **TOO_MUCH}[name]
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(make().SerializeToString(), metadata))
    refused(path, message)


def test_an_operator_of_two_names_is_refused() -> None:
    """A reader of protobuf takes the last one."""
    node = helper.make_node("Abs", ["images"], ["maps"]).SerializeToString()
    content = graph([]).SerializeToString()
    names = b"\x22\x08Identity" + node
    check_graph(content + field(7, field(1, node)))
    with pytest.raises(ArtifactError, match="'Identity Abs', which no detector"):
        check_graph(content + field(7, field(1, names)))


def field(number: int, content: bytes) -> bytes:
    """A short field of protobuf."""
    return bytes([number << 3 | 2, len(content)]) + content


def test_a_graph_that_takes_too_long_is_left_behind(
    metadata: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(OnnxRuntime, "maps", lambda _self, _images: ended.wait())
    monkeypatch.setattr(limits.run_bounded, "__defaults__", (0.1,))
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(graph([MEAN], AXIS).SerializeToString(), metadata))
    refused(path, r"takes more than 0\.1 s")
    ended.set()


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_maps_that_are_no_numbers_are_refused(value: float, metadata: dict[str, str], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["images", "axis"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "odd"], ["maps"]),
    ]
    path = tmp_path / "m.onnx"
    content = graph(nodes, AXIS, constant("odd", value, np.float32)).SerializeToString()
    path.write_bytes(seal(content, metadata))
    with pytest.raises(ArtifactError, match="the model gives no number for it"):
        Predictor.load(path).predict(np.zeros((SIDE, SIDE, 3)))


def test_damage_anywhere_in_the_graph_is_an_artifact_error(onnx_file: Path) -> None:
    content = bytearray(unseal(onnx_file.read_bytes()))
    check_graph(bytes(content))
    rng, refusals = np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[int(rng.integers(min(4000, len(content))))] ^= int(rng.integers(1, 256))
        try:
            check_graph(bytes(damaged))
        except ArtifactError:
            refusals += 1
    assert refusals > 30  # a letter of a name may be another one


def test_two_headers_or_other_plain_numbers_are_refused(metadata: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    content = graph([MEAN], AXIS).SerializeToString()
    again = onnx.StringStringEntryProto(key=HEADER_KEY, value="{}").SerializeToString()
    path.write_bytes(seal(content + b"\x72" + bytes([len(again)]) + again, metadata))
    refused(path, "what surrounds its graph is damaged")
    path.write_bytes(seal(content, {**metadata, "blemish.threshold": "1e9"}))
    refused(path, "its header and the plain numbers beside it disagree")


def _set(*names: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for name in names[:-1]:
            content = content[name]
        content[names[-1]] = to

    return change


HEADERS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "many detectors": (_set("detectors", to=10**9), "detectors"),
    "more detectors than tensors": (_set("detectors", to=999), "999 detectors in"),
    "no detector": (_set("detectors", to=0), "detectors"),
    "a huge image": (_set("policy", "size_px", to=[16384, 16384]), "more than 178956970 pixels|too large"),
    "a huge network": (_set("policy", "size_px", to=[8192, 8192]), "too large"),
    "an endless number of tiles": (
        lambda content: content["policy"].update(size_px=[8192, 8192], tile_px=[64, 64], tile_overlap_px=63),
        "tiles of",
    ),
    "tiles that never end": (
        lambda content: content["policy"].update(tile_px=[32, 32], tile_overlap_px=32),
        "tiles of",
    ),
    "tiles larger than the image": (_set("policy", "tile_px", to=[128, 128]), "tiles of"),
    "a region that is no picture": (
        _set("policy", "roi_png", to=base64.b64encode(b"x" * 40).decode()),
        "no PNG of the size",
    ),
    "a region of another size": (
        _set("policy", "roi_png", to=encode_roi(np.ones((9000, 9000), bool))),
        "no PNG of the size",
    ),
    "a region that is no base64": (_set("policy", "roi_png", to="\u00e4"), "policy|ASCII|header"),
    "a threshold below 0": (_set("threshold", to=-1.0), "threshold"),
    "a rate of 2": (_set("max_false_alarm_rate", to=2.0), "max_false_alarm_rate"),
    "folds without scores": (_set("calibration", "folds", to=[1, 2, 3, 4, 5]), "folds"),
    "a wide network": (_set("run", "model", "latent", to=4096), "do not fit detector"),
    "an unknown detector": (_set("detector", to="__import__"), "unknown detector '__import__'"),
    "settings of another detector": (_set("run", "model", "search_steps", to=10**9), "search_steps: unknown setting"),
    "a number of 6,000 digits": (_set("threshold", to=10**4000), "header|threshold"),
    "nested lists": (_set("history", to={"loss": json.loads("[" * 400 + "]" * 400)}), "does not fit this version"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_asks_for_too_much_is_refused(name: str, model_file: Path, tmp_path: Path) -> None:
    header, tensors = read_artifact(model_file)
    content = header.model_dump(mode="json")
    change, message = HEADERS[name]
    change(content)
    write_tensors(tmp_path / "m.safetensors", "artifact", content, tensors)
    refused(tmp_path / "m.safetensors", message)


@pytest.mark.parametrize("text", ["[]", "null", '"text"', "3", "[" * 100_000, "{", "9" * 6000])
def test_content_that_is_no_object_is_refused(
    text: str, model_file: Path, metadata: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tensors = read_artifact(model_file)
    monkeypatch.setattr("blemish.inference.artifact.json.dumps", lambda *_args, **_options: text)
    write_tensors(tmp_path / "m.safetensors", "artifact", {}, tensors)
    monkeypatch.undo()
    refused(tmp_path / "m.safetensors", "its header is missing or damaged")
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(graph([MEAN], AXIS).SerializeToString(), {**metadata, HEADER_KEY: text}))
    refused(path, "its header is missing or damaged")


TENSORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "another shape": lambda tensor: tensor[:1],
    "another number of dimensions": lambda tensor: tensor.reshape(-1),
    "another type": lambda tensor: tensor.astype(np.float64),
    "infinite": lambda tensor: np.full_like(tensor, np.inf),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_that_do_not_fit_are_refused(name: str, model_file: Path, tmp_path: Path) -> None:
    header, tensors = read_artifact(model_file)
    weight = next(name for name, tensor in tensors.items() if tensor.ndim == 4 and len(tensor) > 1)
    tensors[weight] = TENSORS[name](tensors[weight])
    write_tensors(tmp_path / "m.safetensors", "artifact", header.model_dump(mode="json"), tensors)
    refused(tmp_path / "m.safetensors", f"do not fit detector 'conv_autoencoder': {weight}")


SMALL: dict[str, dict[str, int]] = {
    "conv_autoencoder": {"latent": 2},
    "vae": {"latent": 2},
    "anogan": {"latent": 8, "width": 4, "search_steps": 2},
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name.startswith("feature_") else ()) for name in DETECTORS],
)
def test_a_buffer_of_any_size_gives_an_artifact_error_at_the_latest_with_an_image(
    name: str, model_file: Path, tmp_path: Path
) -> None:
    """Buffers whose sizes follow from the good images cannot all be checked before the first image."""
    header, _ = read_artifact(model_file)
    settings = pin(name, {**needed(name), **SMALL.get(name, {})}).model
    with torch.device("meta"):  # as restoring does it, to learn the sizes without memory
        make_detector(name, settings, ImageShape(3, SIDE, SIDE))
    detector = make_detector(name, settings, ImageShape(3, SIDE, SIDE))
    state = {key: tensor.numpy() for key, tensor in detector.state_dict().items()}
    run = {**header.run.model_dump(mode="json"), "detector": name, "model": settings}
    content = {**header.model_dump(mode="json"), "detector": name, "run": run}
    path = tmp_path / "m.safetensors"
    write_tensors(path, "artifact", content, state)
    Predictor.load(path, device="cpu")
    # No map needs the losses in the notes of AnoGAN.
    buffers = [key for key, _ in detector.named_buffers() if key in state]  # those that are saved
    kinds = {}  # one of each: a network of many layers has the same buffers in each
    for key in [key for key in buffers if state[key].ndim and key != "search_losses"]:
        owner, _, own_name = key.rpartition(".")
        kinds[type(detector.get_submodule(owner)), own_name] = key
    for key in kinds.values():
        write_tensors(path, "artifact", content, {**state, key: np.repeat(state[key], 3, axis=-1)})
        with pytest.raises(ArtifactError):
            Predictor.load(path, device="cpu").predict(np.zeros((SIDE, SIDE, 3)))


def _fixture(**changes: Any) -> str:
    packed = {"type": "|u1", "shape": [4, 4, 3], "zlib": base64.b64encode(zlib.compress(bytes(48))).decode(), **changes}
    row = {"name": "a", "image": packed, "map": packed, "score": 1.0, "p_value": 0.5, "is_anomalous": False}
    return json.dumps([row])


FIXTURES: dict[str, str] = {
    "a zlib bomb": _fixture(zlib=base64.b64encode(zlib.compress(bytes(30_000_000), 1)).decode()),
    "a size that is not kept": _fixture(shape=[4000, 4000, 3]),
    "a size beyond memory": _fixture(shape=[10**9, 10**9]),
    "a size below 0": _fixture(shape=[-4, -4, 3]),
    "objects": _fixture(type="|O"),
    "text": _fixture(type="<U99"),
    "no base64": _fixture(zlib="*"),
    "no list": "{}",
    "numbers": "[1, 2]",
    "nested": "[" * 100_000,
}


@pytest.mark.parametrize("name", FIXTURES)
def test_fixtures_are_bounded_before_they_are_unpacked(
    name: str, onnx_file: Path, metadata: dict[str, str], tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(unseal(onnx_file.read_bytes()), {**metadata, FIXTURES_KEY: FIXTURES[name]}))
    refused(path, "the images to check the model with are missing or damaged|no image in the file", verify)


def test_fixtures_that_are_no_images_are_refused(onnx_file: Path, metadata: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    odd = _fixture(shape=[48])
    path.write_bytes(seal(unseal(onnx_file.read_bytes()), {**metadata, FIXTURES_KEY: odd}))
    refused(path, "are no images", verify)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a|a)*b",
        "(.*.*.*.*x)",
        "(a?a?a?a?aaaa)",
        r"(a)\1+",
        "(" + "a" * 300 + ")",
        "((?:a{1,9}){1,9})",
        "(?P<x>a)(?P=x)",
    ],
)
def test_a_pattern_that_could_take_for_ever_is_not_used(pattern: str) -> None:
    with pytest.raises(SettingsError, match="could take for ever; give it yourself with --groups"):
        pattern_in_model(CalibrationCard(by_group=True, group_pattern=pattern))


@pytest.mark.parametrize("pattern", [r"part(\d+)_", r"^([^_]+)_", r"(?:day|night)/(\w+)", r"part\(([0-9]+)\)", None])
def test_plain_patterns_are_used(pattern: str | None) -> None:
    assert pattern_in_model(CalibrationCard(by_group=True, group_pattern=pattern)) == pattern


def test_a_device_or_a_pipe_is_no_model() -> None:
    for path in (Path("/dev/zero"), Path("/dev/null")):
        if path.exists():
            refused(path, "a device or a pipe, not a model file")


def test_the_small_model_itself_is_opened(onnx_file: Path) -> None:
    assert open_onnx(onnx_file).header.export.checked > 0


def test_a_torch_model_that_takes_too_long_for_its_first_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, wait_s = threading.Event(), None

    class Slow(torch.nn.Module):
        def forward(self, images: Any) -> Any:
            if images.max():
                ended.wait(wait_s)
            return images[:, 0]

    monkeypatch.setattr(limits, "MAX_FIRST_TORCH_S", 0.1)
    slow, quick = np.full((1, 1, 2, 2), 1.0, np.float32), np.zeros((1, 1, 2, 2), np.float32)
    runtime = TorchRuntime(Slow(), threads=1)
    with pytest.raises(ArtifactError, match=r"it takes more than 0\.1 s to judge one image"):
        runtime.maps(slow)
    ended.set()
    monkeypatch.setattr(limits, "MAX_FIRST_TORCH_S", 600.0)
    assert runtime.maps(quick).shape == (1, 2, 2)
    monkeypatch.setattr(limits, "MAX_FIRST_TORCH_S", 0.01)
    ended.clear()
    wait_s = 0.1
    assert runtime.maps(slow).shape == (1, 2, 2)  # the first alone is timed
