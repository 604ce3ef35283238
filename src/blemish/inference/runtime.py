"""What runs the network: images in, maps out. torch is imported only when a torch model is opened."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ArtifactError, SettingsError
from blemish.inference.artifact import ArtifactHeader, check_is_file, read_artifact, separate_folds, split_fixtures
from blemish.inference.onnx_file import FIXTURES_KEY, OnnxHeader, check_seal, read_header

if TYPE_CHECKING:
    from blemish.models.detector import Detector

Images = NDArray[np.float32]
"""`(b, c, h, w)` in [0, 1]"""


class Runtime(Protocol):
    """Runs a fitted detector."""

    def maps(self, images: Images) -> NDArray[np.float32]:
        """Anomaly maps `(b, h, w)` of images `(b, c, h, w)`."""
        ...

    def reconstruct(self, images: Images) -> NDArray[np.float32] | None:
        """How the images would look if they were good; None where the detector shows no image."""
        ...


@final
class TorchRuntime:
    """A detector in torch, in evaluation mode, without gradients."""

    def __init__(self, detector: "Detector", device: str = "cpu") -> None:
        import torch

        self._device = torch.device(device)
        self._detector = detector.to(self._device).eval()

    def maps(self, images: Images) -> NDArray[np.float32]:
        """Anomaly maps `(b, h, w)`."""
        return self._call(self._detector, images)

    def reconstruct(self, images: Images) -> NDArray[np.float32] | None:
        """Reconstructions, where the detector has them."""
        method = getattr(self._detector, "reconstruct", None)
        return None if method is None else self._call(method, images)

    def _call(self, function: Any, images: Images) -> NDArray[np.float32]:
        import torch

        with torch.no_grad():
            answer = function(torch.from_numpy(images).to(self._device))
        return np.ascontiguousarray(answer.float().cpu().numpy())


@final
class OnnxRuntime:
    """An exported graph in onnxruntime.

    >>> session_options(threads=1).intra_op_num_threads
    1
    """

    def __init__(self, session: Any) -> None:
        self._session = session

    def maps(self, images: Images) -> NDArray[np.float32]:
        """Anomaly maps `(b, h, w)`."""
        return cast("NDArray[np.float32]", self._session.run(["maps"], {"images": images})[0])

    def reconstruct(self, images: Images) -> None:
        """An exported graph gives maps alone."""

    def metadata(self) -> dict[str, str]:
        """What the file holds beside the graph."""
        return cast("dict[str, str]", self._session.get_modelmeta().custom_metadata_map)


def graph_runtime(graph: bytes) -> OnnxRuntime:
    """Runs a graph that is not a file yet, on the CPU, as an exported file would be run."""
    return OnnxRuntime(_session(graph, None, _providers("cpu")))


def _session(content: bytes, threads: int | None, providers: list[str]) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(content, session_options(threads), providers=providers)


def session_options(threads: int | None) -> Any:
    """How a graph is run, at its export as on the target: optimised, without threads that spin while they wait.

    `threads` is how many may work on one image; None: as many as there are cores.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Waiting threads would burn the processor time of the program around them, at hardly any gain for one image.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def open_model(
    path: Path, device: str = "auto", threads: int | None = None
) -> tuple[ArtifactHeader, tuple[Runtime, ...]]:
    """Header and runtime of a model file: of a trained model (several, for its folds), or of one exported to ONNX.

    `threads` is how many may work on one image, None as many as there are cores; torch takes it for the whole process.

    Raises:
        ArtifactError: missing, foreign, truncated or tampered with.
        SettingsError: a device this machine does not have.
    """
    if is_onnx(path):
        onnx = open_onnx(path, device, threads)
        return onnx.header.model, (onnx.runtime,)
    header, detectors, _ = _open_detectors(path)
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return header, tuple(TorchRuntime(detector, torch_device(device)) for detector in detectors)


def is_onnx(path: Path) -> bool:
    """Whether a file is to be read as ONNX: by its name, or because it starts like one."""
    if path.suffix.lower() == ".onnx" or not path.is_file():
        return path.suffix.lower() == ".onnx"
    with path.open("rb") as file:
        start = file.read(9)
    return start[:1] == b"\x08" and start[8:] != b"{"  # safetensors: eight bytes of length, then JSON


@final
@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file that has been opened."""

    header: OnnxHeader
    runtime: OnnxRuntime
    fixtures: str
    """JSON, see blemish.inference.parity."""


def open_onnx(path: Path, device: str = "auto", threads: int | None = None) -> OnnxModel:
    """Check and open an exported model.

    Raises:
        ArtifactError: missing, foreign, truncated, tampered with, of another format, or beyond this onnxruntime.
        SettingsError: a device this machine does not have.
    """
    check_is_file(path)
    content = path.read_bytes()
    check_seal(content, path)
    providers = _providers(device)
    try:
        runtime = OnnxRuntime(_session(content, threads, providers))
    except Exception as error:  # onnxruntime's own errors have no base of their own
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactError(
            f"{path}: onnxruntime {version('onnxruntime')} cannot load it ({reason}); "
            "upgrade onnxruntime, or export the model with a lower --opset"
        ) from None
    metadata = runtime.metadata()
    return OnnxModel(read_header(metadata, path), runtime, metadata.get(FIXTURES_KEY, ""))


def header_of(path: Path) -> ArtifactHeader:
    """The header of a model file, trained or exported.

    Raises:
        ArtifactError: missing, foreign, truncated or tampered with.
    """
    return open_onnx(path).header.model if is_onnx(path) else read_artifact(path)[0]


def _providers(device: str) -> list[str]:
    import onnxruntime

    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    has_gpu = gpu in onnxruntime.get_available_providers()
    _check_device(device, has_gpu, "this onnxruntime has no CUDA; install onnxruntime-gpu")
    return [gpu, cpu] if has_gpu and device != "cpu" else [cpu]


def open_detector(path: Path) -> "tuple[ArtifactHeader, Detector, dict[str, NDArray[Any]]]":
    """Header, detector and fixtures of a trained model.

    Raises:
        ArtifactError: missing, foreign, truncated or tampered with; several detectors; or torch is not installed.
    """
    header, detectors, fixtures = _open_detectors(path)
    if len(detectors) > 1:
        raise ArtifactError(
            f"{path}: {len(detectors)} detectors that judge together (score.calibration=cross), where one is needed; "
            "train it with score.calibration=held_out"
        )
    return header, detectors[0], fixtures


def _open_detectors(path: Path) -> "tuple[ArtifactHeader, list[Detector], dict[str, NDArray[Any]]]":
    header, tensors = read_artifact(path)
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise ArtifactError(
            f"{path}: a trained model needs torch to run; install it with: pip install 'blemish[train]', "
            "or export the model where torch is: blemish export MODEL -o model.onnx"
        ) from None
    state, fixtures = split_fixtures(tensors)
    return header, [_restored(header, part, path) for part in separate_folds(state, header.detectors)], fixtures


def _restored(header: ArtifactHeader, state: Mapping[str, NDArray[Any]], path: Path) -> "Detector":
    import torch

    from blemish.models import make_detector
    from blemish.models.detector import ImageShape

    shape = ImageShape(header.policy.channels, *header.policy.network_px)
    detector = make_detector(header.detector, header.run.model, shape)
    try:
        detector.restore({name: torch.from_numpy(tensor) for name, tensor in state.items()})
    except RuntimeError as error:
        raise ArtifactError(f"{path}: its tensors do not fit detector '{header.detector}': {error}") from None
    return detector


def torch_device(wanted: str) -> str:
    """`auto` is the GPU where there is one, else the CPU.

    Raises:
        SettingsError: not auto, cpu or cuda; or cuda on a machine without.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    _check_device(wanted, has_gpu, "torch finds no CUDA device here")
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"


def _check_device(wanted: str, has_gpu: bool, why_not: str) -> None:
    if wanted not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"--device {wanted}: expected auto, cpu or cuda")
    if wanted == "cuda" and not has_gpu:
        raise SettingsError(f"--device cuda: {why_not}; use --device cpu or auto")
