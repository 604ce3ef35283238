"""Does an exported graph judge as the trained model does? Fixtures, and the comparison; no torch.

The same comparison runs three times: between torch and onnxruntime before an export is put in place, on the file that
was written, and with `blemish verify` on the machine it was brought to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.files import atomic_write
from blemish.data.progress import OnStep, counted, tell_nobody
from blemish.errors import ArtifactError, DataError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.fixtures import Expectation, read_expectations, reduce_map, verdict_of, write_expectations
from blemish.inference.onnx_file import FIXTURES_KEY, HEADER_KEY, ExportCard, OnnxHeader, plain_metadata, seal
from blemish.inference.predictor import Prediction, Predictor
from blemish.inference.runtime import OnnxModel, Runtime, open_onnx
from blemish.inference.trust import Trust

LARGEST_TOLERANCE = 1e-4
"""Maps must not differ by a larger share of value or threshold (whichever is larger), wherever they are computed."""


@final
@dataclass(frozen=True)
class Check:
    """One image, judged twice."""

    name: str
    difference: float
    """The largest of its map, relative to the value or to the threshold, whichever is larger."""
    is_same: bool
    """p-value and verdict are equal."""


@final
@dataclass(frozen=True)
class Verification:
    """That a file judges here as it did where it was made."""

    tolerance: float
    checks: tuple[Check, ...]

    @property
    def worst(self) -> Check:
        """The image on which the maps differ most."""
        return max(self.checks, key=lambda check: check.difference)

    @property
    def is_within(self) -> bool:
        """No map differs by more than is allowed."""
        return self.worst.difference <= self.tolerance


def verify(
    path: Path,
    device: str = "auto",
    threads: int | None = None,
    trust: Trust = Trust(),  # noqa: B008  # immutable
    on_image: OnStep = tell_nobody,
) -> Verification:
    """Judge the fixtures in an exported file, and compare with what is expected of it.

    Raises:
        ArtifactError: the file is not intact, or this machine judges otherwise; with the worst image.
    """
    found = check_fixtures(open_onnx(path, device, threads, trust), on_image)
    if not found.is_within:
        where = "this machine" if device in ("auto", "cpu") else f"this machine's {device}"
        raise ArtifactError(
            f"{path}: {where} judges otherwise than the one it was exported on: {found.worst.name} differs by "
            f"{found.worst.difference:.2g}, allowed are {found.tolerance:.0e}; upgrade onnxruntime, "
            "use --device cpu, or export the model on a machine like this one"
        )
    return found


def write_onnx(
    out: Path, graph: bytes, header: ArtifactHeader, card: ExportCard, expected: Iterable[Expectation]
) -> None:
    """Write an exported model, open it again, and let it judge its own fixtures before it is put in place.

    Raises:
        ArtifactError: the file does not give what is expected of it.
        DataError: it cannot be written there.
    """
    metadata = {
        HEADER_KEY: OnnxHeader(model=header, export=card).model_dump_json(),
        **plain_metadata(header),
        FIXTURES_KEY: write_expectations(expected),
    }
    with atomic_write(out) as temporary:
        temporary.write_bytes(seal(graph, metadata))
        found = check_fixtures(open_onnx(temporary, device="cpu"))
        if not found.is_within:
            raise ArtifactError(f"{out}: not written: {found.worst.name} differs by {found.worst.difference:.2g} in it")


def check_fixtures(model: OnnxModel, on_image: OnStep = tell_nobody) -> Verification:
    """Judge the fixtures of an exported model as it is run here."""
    predictor = fixture_predictor(model.header.model, model.runtime)
    scale = model.header.export.scale or predictor.threshold
    try:
        fixtures = counted(read_expectations(model.fixtures), on_image)
        checks = [compare(one, predictor.predict(one.image), scale) for one in fixtures]
    except DataError as error:
        raise ArtifactError(f"the images to check the model with are no images ({error}); export it again") from None
    if not checks:
        raise ArtifactError("there is no image in the file to check the model with; export it again")
    return Verification(model.header.export.tolerance, tuple(checks))


def compare(expected: Expectation, found: Prediction, threshold: float) -> Check:
    """How far a prediction is from what is expected of it."""
    apart = difference(expected.map, reduce_map(found.scored_map), threshold)
    return Check(expected.name, apart, verdict_of(found).decision == expected.verdict.decision)


def difference(expected: NDArray[np.float32], found: NDArray[np.float32], threshold: float) -> float:
    """The largest difference of two maps, relative to the value or to the threshold, whichever is larger.

    Below the threshold an error counts for what it could do to a verdict; above it, for what it is of the value.

    >>> difference(np.array([1.0, 10.0]), np.array([1.5, 10.0]), threshold=5.0)
    0.1
    >>> difference(np.array([0.0]), np.array([np.nan]), threshold=5.0)
    inf
    """
    if expected.shape != found.shape:
        return float("inf")
    apart = np.abs(found.astype(np.float64) - expected)
    scale = np.maximum(np.abs(expected.astype(np.float64)), threshold)
    relative = np.divide(apart, scale, out=np.zeros_like(apart), where=apart > 0)
    return float(np.where(np.isfinite(found) & np.isfinite(relative), relative, np.inf).max())


def fixture_predictor(
    header: ArtifactHeader, runtime: Runtime | tuple[Runtime, ...], is_photo: bool = False
) -> Predictor:
    """The model for images of any aspect, as fixtures have awkward ones on purpose.

    They show what the model sees of a photo, or a photo, of which it takes its part.
    """
    update: dict[str, Any] = {"aspect": None} if is_photo else {"aspect": None, "map_px": None, "at_px": (0, 0)}
    policy = header.policy.model_copy(update=update)
    return Predictor(header.model_copy(update={"policy": policy}), runtime)


def with_margin(header: ArtifactHeader, tolerance: float) -> ArtifactHeader:
    """The header with threshold and calibration scores raised by what an export may differ.

    A good image above the new threshold is above the old one in the trained model, so the export flags no more good
    images than was promised; and the image that set the threshold, whose score is equal to it, is not flagged
    for a rounding in the last digit.
    """
    margin = tolerance * header.threshold
    scores = scores_with_margin(header.calibration_scores, margin, tolerance)
    card = header.calibration.model_copy(update={"margin": header.calibration.margin + margin})
    threshold = _up(header.threshold + margin)
    return header.model_copy(update={"calibration_scores": scores, "threshold": threshold, "calibration": card})


def scores_with_margin(scores: Iterable[float], margin: float, tolerance: float) -> tuple[float, ...]:
    """Scores that much higher, or by that share of themselves if it is more; then the next number a map can hold.

    >>> scores_with_margin([1.0, 4.0], margin=0.5, tolerance=0.25)
    (1.5, 5.0)
    """
    return tuple(_up(score + max(margin, tolerance * score)) for score in scores)


def decision(header: ArtifactHeader, score: float) -> tuple[float, bool]:
    """p-value and verdict of a score."""
    return header.p_value(score), score > header.threshold


def _up(value: float) -> float:
    """The next number upwards that a map, in 32 bits, can hold too."""
    single = np.float32(value)
    # Compared as a 64-bit number: numpy would round the other side to 32 bits first.
    return float(single if float(single) >= value else np.nextafter(single, np.float32(np.inf)))
