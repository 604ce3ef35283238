"""Does a trained model judge on another device as on the processor? `blemish verify` of a trained model."""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from blemish.data.progress import OnStep, counted, tell_nobody
from blemish.errors import ArtifactError, SettingsError
from blemish.inference.artifact import read_artifact, split_fixtures
from blemish.inference.fixtures import expectation, seeded_images
from blemish.inference.parity import LARGEST_TOLERANCE, Verification, compare, fixture_predictor
from blemish.inference.runtime import open_model
from blemish.inference.trust import Trust


def verify_trained(
    path: Path,
    device: str,
    threads: int | None = None,
    trust: Trust = Trust(),  # noqa: B008  # immutable
    on_image: OnStep = tell_nobody,
) -> Verification:
    """Judge seeded images, and the good ones that travel with the model, on the processor and on a device.

    Of several detectors that judge together each is compared.

    Raises:
        ArtifactError: the file is not intact, or the device judges otherwise; with the worst image.
        SettingsError: a device that is not there, or the processor, which is what others are compared with.
    """
    opened = open_model(path, "cpu", threads, trust)
    device = _other_device(path, device)
    other = open_model(path, device, threads, trust)
    images: dict[str, NDArray[Any]] = {
        **seeded_images(opened.header.policy),
        **split_fixtures(read_artifact(path)[1])[1],
    }
    pairs = [
        (fixture_predictor(opened.header, cpu), fixture_predictor(opened.header, there))
        for cpu, there in zip(opened.runtimes, other.runtimes, strict=True)
    ]
    tasks = [(cpu, there, name, image) for cpu, there in pairs for name, image in images.items()]
    checks = tuple(
        compare(expectation(name, image, cpu.predict(image)), there.predict(image), cpu.threshold)
        for cpu, there, name, image in counted(tasks, on_image)
    )
    found = Verification(LARGEST_TOLERANCE, checks)
    if not found.is_within:
        raise ArtifactError(
            f"{path}: {device} judges otherwise than the processor: {found.worst.name} differs by "
            f"{found.worst.difference:.2g}, allowed are {LARGEST_TOLERANCE:.0e}; use --device cpu"
        )
    return found


def _other_device(path: Path, device: str) -> str:
    from blemish.inference.torch_runtime import torch_device

    found = torch_device(device) if device == "auto" else device
    if found == "cpu":
        raise SettingsError(
            f"--device {device}: {path} is a trained model, and on the processor there is nothing to compare it with; "
            f"give --device cuda or mps, or export it and verify that file: blemish export {path} -o model.onnx"
        )
    return found
