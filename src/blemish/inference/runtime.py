"""What runs the network: images in, maps out. torch is imported only when a torch model is opened."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast, final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ArtifactError, SettingsError
from blemish.inference.artifact import ArtifactHeader, parse_artifact, read_artifact, separate_folds, split_fixtures
from blemish.inference.devices import choose_device, graph_engine, installed_version
from blemish.inference.limits import run_bounded
from blemish.inference.onnx_check import check_graph
from blemish.inference.onnx_file import OnnxHeader, check_seal, read_metadata, unseal
from blemish.inference.processors import restricted_cores
from blemish.inference.trust import Trust, read_model_file

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
class OnnxRuntime:
    """An exported graph in onnxruntime.

    >>> session_options(threads=1).intra_op_num_threads
    1
    """

    def __init__(self, session: Any, takes_several: bool = False) -> None:
        self._session = session
        self.takes_several = takes_several
        """Whether several threads may have images judged at the same time."""

    def maps(self, images: Images) -> NDArray[np.float32]:
        """Anomaly maps `(b, h, w)`.

        Raises:
            ArtifactError: the network fails.
        """
        try:
            return cast("NDArray[np.float32]", self._session.run(["maps"], {"images": images})[0])
        except Exception as error:  # onnxruntime's own errors have no base of their own
            raise ArtifactError(f"the network fails: {_reason(error)}") from None

    def reconstruct(self, images: Images) -> None:
        """An exported graph gives maps alone."""


def graph_runtime(graph: bytes) -> OnnxRuntime:
    """Runs a graph that is not a file yet, on the CPU, as an exported file would be run."""
    return OnnxRuntime(_session(graph, None, "cpu"))


def _open_graph(content: bytes, device: str, threads: int | None) -> Runtime:
    if device == "openvino":
        from blemish.inference.openvino_runtime import OpenVinoRuntime

        return OpenVinoRuntime(content, threads)
    return OnnxRuntime(_session(content, threads, device), takes_several=device == "cpu")


def _session(content: bytes, threads: int | None, device: str) -> Any:
    """A session on the device, or none: where its libraries fail, onnxruntime would go on without a word."""
    import onnxruntime

    gpu, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    # TF32 has 10 bits of a float32's 23: with it maps would differ from the processor's by far more than is allowed.
    providers = [(gpu, {"use_tf32": "0"}), cpu] if device == "cuda" else [cpu]
    session = onnxruntime.InferenceSession(content, session_options(threads), providers=providers)
    if device == "cuda" and gpu not in session.get_providers():
        raise SettingsError(
            "--device cuda: onnxruntime was built for CUDA but cannot start it here; check that NVIDIA's driver, CUDA "
            f"and cuDNN have the versions that onnxruntime {onnxruntime.__version__} needs, or use --device cpu"
        )
    return session


def session_options(threads: int | None) -> Any:
    """How a graph is run, at its export as on the target: optimised, without threads that spin while they wait.

    `threads` is how many may work on one image; None: as many as there are cores to use.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or restricted_cores() or 0
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Waiting threads would burn the processor time of the program around them, at hardly any gain for one image.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


@final
class OpenModel(NamedTuple):
    """A model file that has been opened."""

    header: ArtifactHeader
    runtimes: tuple[Runtime, ...]
    """One; of a trained model with folds, one for each."""
    sha256: str
    """Of the file."""


def open_model(
    path: Path,
    device: str = "auto",
    threads: int | None = None,
    trust: Trust = Trust(),  # noqa: B008  # immutable
) -> OpenModel:
    """Header and runtime of a model file, trained or exported to ONNX.

    `threads` is how many work on one image; None: as many as there are cores.

    Raises:
        ArtifactError: missing, foreign, truncated, tampered with, or not the file that `trust` asks for.
        SettingsError: a device this machine does not have.
    """
    content = read_model_file(path, trust)
    sha256 = hashlib.sha256(content).hexdigest()
    if is_onnx(path):
        onnx = parse_onnx(content, path, device, threads)
        return OpenModel(onnx.header.model, (onnx.runtime,), sha256)
    header, detectors, _ = _open_detectors(content, path)
    from blemish.inference.torch_runtime import TorchRuntime, torch_device

    return OpenModel(header, tuple(TorchRuntime(one, torch_device(device), threads) for one in detectors), sha256)


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
    runtime: Runtime
    fixtures: str
    """JSON, see blemish.inference.fixtures."""


def open_onnx(
    path: Path,
    device: str = "auto",
    threads: int | None = None,
    trust: Trust = Trust(),  # noqa: B008  # immutable
) -> OnnxModel:
    """Check and open an exported model.

    Raises:
        ArtifactError: missing, foreign, truncated, tampered with, of another format, or beyond this onnxruntime.
        SettingsError: a device this machine does not have.
    """
    return parse_onnx(read_model_file(path, trust), path, device, threads)


def parse_onnx(content: bytes, path: Path, device: str = "auto", threads: int | None = None) -> OnnxModel:
    """Check and open an exported model whose bytes have been read.

    Raises:
        ArtifactError, SettingsError: as `open_onnx`.
    """
    check_seal(content, path)
    header, fixtures = read_metadata(content, path)
    policy, chosen = header.model.policy, choose_device(device, graph_engine())
    specimen = np.zeros((1, policy.channels, *policy.network_px), np.float32)

    def load() -> Runtime:
        runtime = _open_graph(content, chosen, threads)
        check_maps(runtime.maps(specimen), specimen)
        return runtime

    try:
        check_graph(unseal(content))
        runtime = run_bounded(load, is_on_cpu=chosen != "cuda")
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None
    except SettingsError:
        raise
    except Exception as error:  # neither engine's errors have a base of their own
        engine = "openvino" if chosen == "openvino" else "onnxruntime"
        raise ArtifactError(
            f"{path}: {engine} {installed_version(engine)} cannot load it ({_reason(error)}); "
            f"upgrade {engine}, or export the model with a lower --opset"
        ) from None
    return OnnxModel(header, runtime, fixtures)


def check_maps(maps: object, images: Images) -> None:
    """Refuse what is not one map `(h, w)` in float32 for each image.

    Raises:
        ArtifactError: what the network gives instead.
    """
    wanted = (len(images), *images.shape[2:])
    if not isinstance(maps, np.ndarray) or maps.dtype != np.float32 or maps.shape != wanted:
        found = f"{maps.dtype} {maps.shape}" if isinstance(maps, np.ndarray) else type(maps).__name__
        raise ArtifactError(f"the network gives {found}, where maps are float32 {wanted}; it is damaged or foreign")


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]


def header_of(path: Path) -> ArtifactHeader:
    """The header of a model file, trained or exported.

    Raises:
        ArtifactError: missing, foreign, truncated or tampered with.
    """
    return open_onnx(path).header.model if is_onnx(path) else read_artifact(path)[0]


def open_detector(path: Path) -> "tuple[ArtifactHeader, Detector, dict[str, NDArray[Any]]]":
    """Header, detector and fixtures of a trained model.

    Raises:
        ArtifactError: missing, foreign, truncated or tampered with; several detectors; or torch is not installed.
    """
    header, detectors, fixtures = _open_detectors(read_model_file(path), path)
    if len(detectors) > 1:
        raise ArtifactError(
            f"{path}: {len(detectors)} detectors that judge together (score.calibration=cross), where one is needed; "
            "train it with score.calibration=held_out"
        )
    return header, detectors[0], fixtures


def _open_detectors(content: bytes, path: Path) -> "tuple[ArtifactHeader, list[Detector], dict[str, NDArray[Any]]]":
    header, tensors = parse_artifact(content, path)
    try:
        from blemish.inference.torch_runtime import restore_detector
    except ModuleNotFoundError:
        raise ArtifactError(
            f"{path}: a trained model needs torch to run; install it with: pip install 'blemish[train]', "
            "or export the model where torch is: blemish export MODEL -o model.onnx"
        ) from None
    state, fixtures = split_fixtures(tensors)
    shape = (header.policy.channels, *header.policy.network_px)
    try:
        detectors = [
            restore_detector(header.detector, header.run.model, shape, part)
            for part in separate_folds(state, header.detectors)
        ]
    except (ArtifactError, SettingsError) as error:
        raise ArtifactError(f"{path}: {error}") from None
    return header, detectors, fixtures
