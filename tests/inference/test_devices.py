"""Devices: one clear error for one that is not there, and the processor's verdicts on one that is.

OpenVINO runs here for real where it is installed. CUDA and Apple's GPU do not: what is handed to their libraries is
checked, not what they compute.
"""

import multiprocessing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
import torch

from blemish.errors import ArtifactError, SettingsError
from blemish.inference import devices, runtime, torch_runtime, trained_parity
from blemish.inference.parity import verify
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import open_onnx
from blemish.inference.torch_runtime import TorchRuntime
from blemish.inference.trained_parity import verify_trained
from reference.command import run

needs_openvino = pytest.mark.skipif(not devices.has_openvino(), reason="OpenVINO is not installed")

ABSENT = [
    ("model_file", "cuda", r"torch [^ ]+ has only cpu here; install NVIDIA's driver and a torch"),
    ("model_file", "mps", "it takes a Mac with an Apple processor"),
    ("model_file", "openvino", r"runs exported files \(blemish export MODEL -o model\.onnx\)"),
    ("onnx_file", "cuda", r"onnxruntime [^ ]+ has only cpu here; install onnxruntime-gpu"),
    ("onnx_file", "mps", "give the trained model"),
    ("onnx_file", "openvino", r"pip install 'blemish\[openvino\]'"),
]


@pytest.mark.parametrize(("model", "device", "message"), ABSENT)
def test_a_device_that_is_not_there(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, model: str, device: str, message: str
) -> None:
    path = request.getfixturevalue(model)
    monkeypatch.setattr(devices, "has_openvino", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(SettingsError, match=rf"--device {device}: .*{message}.*, or use --device cpu"):
        Predictor.load(path, device)


@pytest.mark.parametrize("command", ["train", "evaluate", "inspect", "watch", "verify"])
def test_every_command_says_it_in_one_line(command: str, model_file: Path, shared_parts: Path, tmp_path: Path) -> None:
    words = {
        "train": [shared_parts, "-o", tmp_path / "m"],
        "evaluate": [model_file, shared_parts, "-o", tmp_path / "out"],
        "inspect": [model_file, shared_parts],
        "watch": [model_file, shared_parts / "train/good", "-o", tmp_path / "out"],
        "verify": [model_file],
    }
    ran = run(command, *words[command], "--device", "openvino")
    assert ran.exit_code == 2
    assert "--device openvino: torch" in ran.output.replace("\n", " ")
    assert not list(tmp_path.iterdir())


class Session(NamedTuple):
    """Of an onnxruntime built for CUDA; where its libraries are missing it has the processor alone."""

    providers: list[Any]
    starts: bool = True

    def get_providers(self) -> list[str]:
        names = [one if isinstance(one, str) else one[0] for one in self.providers]
        return names if self.starts else names[1:]


@pytest.mark.parametrize("starts", [True, False])
def test_cuda_is_asked_for_in_full_precision_and_must_start(monkeypatch: pytest.MonkeyPatch, starts: bool) -> None:
    """Untested here: what CUDA computes."""

    def session(_content: bytes, _options: object, providers: list[Any]) -> Session:
        return Session(providers, starts)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    if starts:
        found = runtime._session(b"", None, "cuda")
        assert found.providers == [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"]
    else:
        with pytest.raises(SettingsError, match="built for CUDA but cannot start it here"):
            runtime._session(b"", None, "cuda")
    assert runtime._session(b"", None, "cpu").providers == ["CPUExecutionProvider"]


def test_auto_takes_cuda_and_nothing_else_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert torch_runtime.torch_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    assert torch_runtime.torch_device("mps") == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert torch_runtime.torch_device("auto") == "cuda"


def test_torch_on_a_gpu_computes_in_full_precision_for_the_call_only() -> None:
    """Untested here: what CUDA computes."""
    before = torch.backends.cudnn.allow_tf32
    with torch_runtime._as_on_the_processor("cuda"):
        assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.allow_tf32 == before
    with torch_runtime._as_on_the_processor("cpu"):
        assert torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("error", [0.0, 1e-2])
def test_a_trained_model_is_compared_with_the_processor(
    model_file: Path, monkeypatch: pytest.MonkeyPatch, error: float
) -> None:
    """The processor in the GPU's place, right or a little off."""

    class Gpu:
        def __init__(self, inner: TorchRuntime) -> None:
            self.inner = inner

        def maps(self, images: np.ndarray) -> np.ndarray:
            return self.inner.maps(images) * np.float32(1 + error)

    def opened(path: Path, device: str, *rest: Any) -> runtime.OpenModel:
        found = runtime.open_model(path, "cpu", *rest)
        return found if device == "cpu" else found._replace(runtimes=tuple(map(Gpu, found.runtimes)))

    monkeypatch.setattr(trained_parity, "open_model", opened)
    if error:
        with pytest.raises(ArtifactError, match=r"cuda judges otherwise than the processor: .* differs by 0\.0"):
            verify_trained(model_file, "cuda")
    else:
        found = verify_trained(model_file, "cuda")
        assert len(found.checks) > 5
        assert found.worst.difference == 0


@needs_openvino
def test_openvino_judges_as_the_processor_does(onnx_file: Path) -> None:
    found = verify(onnx_file, "openvino")
    assert found.is_within
    assert all(check.is_same for check in found.checks)
    images = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    expected, other = (open_onnx(onnx_file, device).runtime for device in ("cpu", "openvino"))
    np.testing.assert_allclose(other.maps(images), expected.maps(images), rtol=1e-4, atol=1e-5)
    assert getattr(other, "precision") == "f32"  # noqa: B009  # its own default would be bf16
    assert other.reconstruct(images) is None
    first = other.maps(images)
    kept = first.copy()
    other.maps(1 - images)
    np.testing.assert_array_equal(first, kept, "a map must not change with the next call")


@needs_openvino
def test_openvino_inspects(onnx_file: Path, shared_parts: Path) -> None:
    words = ["inspect", onnx_file, shared_parts / "test/bar", "--threads", "1"]
    ran, expected = (run(*words, "--device", device) for device in ("openvino", "cpu"))
    assert ran.exit_code == expected.exit_code == 1, ran.output


@needs_openvino
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the system has no fork")
def test_openvino_refuses_a_forked_process(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = open_onnx(onnx_file, "openvino", threads=1).runtime
    monkeypatch.setattr(opened, "_process", -1)  # as a forked child would find it
    with pytest.raises(SettingsError, match="forked process"):
        opened.maps(np.zeros((1, 3, 64, 64), np.float32))


@needs_openvino
def test_a_graph_that_openvino_cannot_load_is_its_fault(onnx_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("Check failed: unsupported operator")

    monkeypatch.setattr(runtime, "_open_graph", fail)
    with pytest.raises(ArtifactError, match=r"openvino \S+ cannot load it \(Check failed: unsupported"):
        open_onnx(onnx_file, "openvino")
