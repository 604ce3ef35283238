"""Which devices there are for what runs a model, and one error for a device that is not there."""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import NamedTuple, final

from blemish.errors import SettingsError

DEVICES = ("auto", "cpu", "cuda", "mps", "openvino")
"""What `--device` may be. auto: cuda where it is there, else cpu; the others only where they are asked for."""


@final
class Engine(NamedTuple):
    """What runs a model."""

    name: str
    found: tuple[str, ...]
    """The devices it has here."""
    missing: Mapping[str, str]
    """For each other device, what would have to be done."""


def choose_device(wanted: str, engine: Engine) -> str:
    """The device that was asked for, or the best of what is there for `auto`.

    Raises:
        SettingsError: an unknown device, or one that is not there; with what is there, and what to install.

    >>> engine = Engine("torch 2.13", ("cpu",), {"cuda": "install a torch with CUDA"})
    >>> choose_device("auto", engine)
    'cpu'
    >>> choose_device("cuda", engine)
    Traceback (most recent call last):
    blemish.errors.SettingsError: --device cuda: torch 2.13 has only cpu here; install a torch with CUDA, or use ...
    """
    if wanted not in DEVICES:
        raise SettingsError(f"--device {wanted}: expected {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    if wanted == "auto":
        return "cuda" if "cuda" in engine.found else "cpu"
    if wanted not in engine.found:
        found = " and ".join(engine.found)
        raise SettingsError(
            f"--device {wanted}: {engine.name} has only {found} here; {engine.missing[wanted]}, or use --device cpu"
        )
    return wanted


def graph_engine() -> Engine:
    """What runs exported files: onnxruntime, and OpenVINO where it is installed."""
    import onnxruntime

    name, found = f"onnxruntime {onnxruntime.__version__}", ["cpu"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        found.append("cuda")
    if has_openvino():
        name += f" with OpenVINO {installed_version('openvino')}"
        found.append("openvino")
    missing = {
        "cuda": "install onnxruntime-gpu in the place of onnxruntime, and NVIDIA's driver",
        "mps": "give the trained model, as Apple's GPU runs no exported file",
        "openvino": "pip install 'blemish[openvino]'",
    }
    return Engine(name, tuple(found), missing)


def has_openvino() -> bool:
    """Whether OpenVINO's runtime is installed."""
    return find_spec("openvino") is not None


def installed_version(package: str) -> str:
    """The version of a package, `unknown` where it has no metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
