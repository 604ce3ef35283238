"""A fitted detector run in torch. Imported when a trained model is opened; nothing else in this package imports torch.

torch and the OpenMP library beneath it keep state for the process: how many threads work, how long idle ones spin, and
a pool of threads that a forked child does not have. What is set here is set for one call, and put back after it.
"""

import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ArtifactError, SettingsError
from blemish.inference import limits
from blemish.inference.devices import Engine, choose_device
from blemish.inference.limits import run_bounded
from blemish.inference.processors import usable_cores

if TYPE_CHECKING:
    from blemish.models.detector import Detector

_IMPORTED_IN = os.getpid()
"""The process in which torch's pool of threads is; a child that is forked from it must do without."""


def _import_torch() -> None:
    """Import torch with OpenMP threads that sleep while they wait, no more than cores to use, if nobody has before.

    OpenMP (GNU's, which torch's packages bring) reads its environment once, when it is loaded. With its usual setting
    threads that wait burn their core, and on busy cores all others wait for them: 10 to 20 times slower.
    """
    is_first = "torch" not in sys.modules
    names = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}
    chosen = {} if names & os.environ.keys() else {"OMP_WAIT_POLICY": "PASSIVE"}
    os.environ.update(chosen)
    try:
        import torch
    finally:
        for name in chosen:
            del os.environ[name]
    if is_first and usable_cores() < torch.get_num_threads():
        torch.set_num_threads(usable_cores())


_import_torch()

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402


@final
class _Threads:
    """How many threads work on an image, set for the calls inside a block and put back when the last one leaves.

    OpenMP keeps the number for each thread of the program, so calls that overlap may ask for different ones.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._usual = threading.Lock(), 0, 0

    @contextmanager
    def limited_to(self, threads: int | None) -> Iterator[None]:
        """None: as many as torch is set to; in a forked child always one, as the others are not there."""
        wanted = 1 if os.getpid() != _IMPORTED_IN else threads
        if wanted is None:
            yield
            return
        with self._lock:
            if self._inside == 0:
                self._usual = torch.get_num_threads()
            self._inside += 1
            torch.set_num_threads(wanted)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                torch.set_num_threads(self._usual)


THREADS = _Threads()
"""Of this process: `with THREADS.limited_to(1):` around whatever torch computes."""

if hasattr(os, "register_at_fork"):  # a thread of the parent may hold the lock, and is not there to let go of it
    os.register_at_fork(after_in_child=lambda: THREADS.__init__())


@final
class TorchRuntime:
    """A detector in evaluation mode, without gradients; `threads` work on an image, None: as many as torch is set to.

    >>> import torch
    >>> before = torch.get_num_threads()
    >>> runtime = TorchRuntime(torch.nn.Flatten(1, 2), threads=before + 1)
    >>> runtime.maps(np.zeros((1, 1, 4, 6), np.float32)).shape, torch.get_num_threads() == before
    ((1, 4, 6), True)
    """

    def __init__(self, detector: "Detector", device: str = "cpu", threads: int | None = None) -> None:
        self._device, self._threads, self._is_timed = torch.device(device), threads, False
        self._detector = detector.to(self._device).eval()

    def maps(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Anomaly maps `(b, h, w)` of images `(b, c, h, w)`.

        Raises:
            ArtifactError: the network fails.
            SettingsError: in a process that was forked after the model was put on a GPU.
        """
        return self._call(self._detector, images)

    def reconstruct(self, images: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """How the images would look if they were good; None where the detector shows no image."""
        method = getattr(self._detector, "reconstruct", None)
        return None if method is None else self._call(method, images)

    def _call(self, function: Any, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """The first image of a model has a time limit, as the file may be anyone's."""

        def run() -> NDArray[np.float32]:
            with THREADS.limited_to(self._threads), _as_on_the_processor(self._device.type), torch.no_grad():
                answer = function(torch.from_numpy(images).to(self._device))
                return np.ascontiguousarray(answer.float().cpu().numpy())

        if self._device.type != "cpu" and os.getpid() != _IMPORTED_IN:
            raise SettingsError("a model on a GPU cannot be used in a forked process; load it there, or spawn instead")
        try:
            answer = run() if self._is_timed else run_bounded(run, False, limits.MAX_FIRST_TORCH_S)
            self._is_timed = True
            return answer
        except Exception as error:  # torch raises whatever Python has, for tensors that do not belong together
            reason = str(error).strip().partition("\n")[0]
            raise ArtifactError(f"the network fails: {reason}") from None


@contextmanager
def _as_on_the_processor(device_type: str) -> Iterator[None]:
    """On an NVIDIA GPU: float32 in full, not in TF32 with 10 of its 23 bits; and the same sums in every call."""
    if device_type != "cuda":
        yield
        return
    # TF32 is torch's own setting for convolutions, and off for products of matrices.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def describe_torch() -> str:
    """Version, threads and devices of torch here, in words."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    gpus += ["Apple (mps)"] if torch.backends.mps.is_available() else []
    devices = f"GPU {', '.join(gpus)}" if gpus else "no GPU"
    return f"{torch.__version__}, {torch.get_num_threads()} threads, {devices}"


def restore_detector(
    name: str, model: Mapping[str, Any], shape: tuple[int, int, int], state: Mapping[str, NDArray[Any]]
) -> "Detector":
    """A fitted detector from its settings and the tensors of a model file; `shape` is channels, height, width.

    It is built without memory first, so that settings that do not belong to the tensors cost nothing.

    Raises:
        ArtifactError: the tensors are not those of this detector.
        SettingsError: an unknown detector, or settings that it does not have.
    """
    from blemish.models import make_detector
    from blemish.models.detector import ImageShape

    image_shape = ImageShape(*shape)
    tensors = {key: torch.from_numpy(tensor) for key, tensor in state.items()}
    with torch.device("meta"), _LeaveWeights():
        wanted = make_detector(name, model, image_shape)
    problem = _misfit(wanted, tensors)
    if problem is not None:
        raise ArtifactError(f"its tensors do not fit detector '{name}': {problem}")
    with _LeaveWeights():
        detector = make_detector(name, model, image_shape)
    try:
        detector.restore(tensors)
    except RuntimeError as error:
        raise ArtifactError(f"its tensors do not fit detector '{name}': {error}") from None
    return detector


@final
class _LeaveWeights(TorchFunctionMode):
    """While it is entered, `torch.nn.init` leaves weights as they are, for those that are overwritten at once."""

    def __torch_function__(self, function: Any, _types: Any, given: Any = (), named: Any = None) -> Any:
        named = named or {}
        if getattr(function, "__module__", "") == "torch.nn.init":
            return given[0] if given else named["tensor"]
        return function(*given, **named)


def _misfit(detector: "Detector", tensors: Mapping[str, Tensor]) -> str | None:
    """Why tensors are not those of a detector; None where they may be. Sizes of buffers follow from the good images."""
    wanted, parameters = detector.state_dict(), dict(detector.named_parameters())
    for name in wanted.keys() ^ tensors.keys():
        return f"{name} is {'missing' if name in wanted else 'unknown'}"
    for name, one in wanted.items():
        found = tensors[name].squeeze() if one.ndim == 0 else tensors[name]  # as files keep a single number
        same = found.shape == one.shape if name in parameters else found.ndim == one.ndim
        if not same or found.dtype != one.dtype:
            return f"{name} is {found.dtype} {tuple(found.shape)}, expected {one.dtype} {tuple(one.shape)}"
        if found.is_floating_point() and bool(found.isinf().any()):
            return f"{name} holds infinite numbers"
    return None


def torch_device(wanted: str) -> str:
    """`auto` is the NVIDIA GPU where there is one, else the processor; Apple's only where `mps` is asked for.

    Raises:
        SettingsError: an unknown device, one that is not here, or one that torch does not run on.
    """
    return choose_device(wanted, torch_engine())


def torch_engine() -> Engine:
    """torch, which trains, and runs trained models."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    missing = {
        "cuda": "install NVIDIA's driver and a torch that is built for CUDA (pytorch.org)",
        "mps": "it takes a Mac with an Apple processor and a torch that is built for it",
        "openvino": "OpenVINO runs exported files (blemish export MODEL -o model.onnx)",
    }
    return Engine(f"torch {torch.__version__}", tuple(name for name, is_there in there.items() if is_there), missing)
