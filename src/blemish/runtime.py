"""What runs the network: images in, maps out. torch is imported only when a torch model is opened."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from blemish.artifact import ArtifactHeader, read_artifact
from blemish.errors import ArtifactError, SettingsError

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


def open_model(path: Path, device: str = "auto") -> tuple[ArtifactHeader, Runtime]:
    """Header and runtime of a model file.

    Raises:
        ArtifactError: missing, foreign, truncated or tampered with.
        SettingsError: a device this machine does not have.
    """
    header, tensors = read_artifact(path)
    try:
        import torch
    except ModuleNotFoundError:
        raise ArtifactError(
            f"{path}: a trained model needs torch to run; install it with: pip install 'blemish[train]'"
        ) from None
    from blemish.models import make_detector
    from blemish.models.detector import ImageShape

    shape = ImageShape(header.policy.channels, *header.policy.network_px)
    detector = make_detector(header.detector, header.run.model, shape)
    try:
        detector.restore({name: torch.from_numpy(tensor) for name, tensor in tensors.items()})
    except RuntimeError as error:
        raise ArtifactError(f"{path}: its tensors do not fit detector '{header.detector}': {error}") from None
    return header, TorchRuntime(detector, torch_device(device))


def torch_device(wanted: str) -> str:
    """`auto` is the GPU where there is one, else the CPU.

    Raises:
        SettingsError: not auto, cpu or cuda; or cuda on a machine without.
    """
    import torch

    if wanted not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"--device {wanted}: expected auto, cpu or cuda")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SettingsError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
