"""Does an exported graph judge as the trained model does? Fixtures, and the comparison; no torch.

The same comparison runs three times: between torch and onnxruntime before an export is put in place, on the file that
was written, and with `blemish verify` on the machine it was brought to.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.files import atomic_write
from blemish.data.images import PixelPolicy, Prepared
from blemish.errors import ArtifactError, DataError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.onnx_file import FIXTURES_KEY, HEADER_KEY, ExportCard, OnnxHeader, plain_metadata, seal
from blemish.inference.predictor import Prediction, Predictor
from blemish.inference.runtime import OnnxModel, Runtime, open_onnx
from blemish.inference.score import resize_map
from blemish.inference.trust import Trust

LARGEST_TOLERANCE = 1e-4
"""Maps must not differ by a larger share of value or threshold (whichever is larger), wherever they are computed."""

EXPECTED_SIDE_PX = 128
"""Expected maps travel at most this large; larger ones as the maxima of blocks, which keep the score."""

FIXTURES = 4
"""How many good images travel with a trained model, at most."""

UNPACKED_BYTES = 1 << 30
"""A fixture or map in a file that would be larger is refused; seeded images are half as large again as the model's."""

MAX_FIXTURES = 32
"""No more are looked at in a file."""

FIXTURE_BYTES = 1 << 24
"""No more than this, all together."""


@final
@dataclass(frozen=True)
class Verdict:
    """What is compared of a prediction, beside its map."""

    score: float
    p_value: float
    is_anomalous: bool

    @property
    def decision(self) -> tuple[float, bool]:
        """What must be equal, whatever the rounding of the score."""
        return self.p_value, self.is_anomalous


@final
@dataclass(frozen=True, eq=False)
class Expectation:
    """A fixture's name and image, and what the model that was exported says of it."""

    name: str
    image: NDArray[np.generic]
    map: NDArray[np.float32]  # the scored map, at most EXPECTED_SIDE_PX
    verdict: Verdict


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
) -> Verification:
    """Judge the fixtures in an exported file, and compare with what is expected of it.

    Raises:
        ArtifactError: the file is not intact, or this machine judges otherwise; with the worst image.
    """
    found = check_fixtures(open_onnx(path, device, threads, trust))
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


def check_fixtures(model: OnnxModel) -> Verification:
    """Judge the fixtures of an exported model as it is run here."""
    predictor = fixture_predictor(model.header.model, model.runtime)
    scale = model.header.export.scale or predictor.threshold
    try:
        checks = [compare(one, predictor.predict(one.image), scale) for one in read_expectations(model.fixtures)]
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


def verdict_of(prediction: Prediction) -> Verdict:
    """What is compared of a prediction, beside its map."""
    return Verdict(prediction.score, prediction.p_value, prediction.is_anomalous)


def expectation(name: str, image: NDArray[np.generic], prediction: Prediction) -> Expectation:
    """What the model says of an image, to be written into the file."""
    return Expectation(name, image, reduce_map(prediction.scored_map), verdict_of(prediction))


def fixture_predictor(
    header: ArtifactHeader, runtime: Runtime | tuple[Runtime, ...], is_photo: bool = False
) -> Predictor:
    """The model for images of any aspect, as fixtures have awkward ones on purpose.

    They show what the model sees of a photo, or a photo, of which it takes its part.
    """
    update: dict[str, Any] = {"aspect": None} if is_photo else {"aspect": None, "map_px": None, "at_px": (0, 0)}
    policy = header.policy.model_copy(update=update)
    return Predictor(header.model_copy(update={"policy": policy}), runtime)


def seeded_images(policy: PixelPolicy) -> dict[str, NDArray[np.uint8]]:
    """Images of awkward sizes that are the same everywhere: as large as the model's, larger, smaller, thin, one pixel.

    >>> [image.shape for image in seeded_images(PixelPolicy(size_px=(64, 32), channels=1)).values()]
    [(64, 32), (97, 49), (21, 11), (3, 65), (1, 1)]
    """
    height, width = policy.size_px
    sizes = ((height, width), (height * 3 // 2 + 1, width * 3 // 2 + 1), (height // 3, width // 3 | 1))
    return {
        f"seeded image of {rows} x {columns}": seeded_image(rows, columns, policy.channels)
        for rows, columns in (*sizes, (3, 2 * width + 1), (1, 1))
    }


def seeded_image(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Blocks of 8 x 8 pixels with values from integers alone, so that no random generator has to stay as it is.

    >>> seeded_image(9, 9, 1)[[0, 0, 8], [0, 8, 8]].tolist()
    [156, 106, 54]
    """
    rows, columns, planes = np.ogrid[:height, :width, :channels]
    mixed = ((rows // 8) * 73_856_093 ^ (columns // 8) * 19_349_663 ^ (planes + 1) * 83_492_791) & 0xFFFF_FFFF
    for shift in (15, 13):
        mixed = ((mixed ^ mixed >> shift) * 0x2C1B_3C6D) & 0xFFFF_FFFF
    image: NDArray[np.uint8] = (mixed >> 24).astype(np.uint8)
    return image[:, :, 0] if channels == 1 else image


def choose_fixtures(scores: Sequence[float]) -> list[int]:
    """Places of the good images to keep, the one with the highest score first: its verdict is the most delicate.

    >>> choose_fixtures([0.3, 0.9, 0.1, 0.2, 0.8, 0.4])
    [1, 4, 0, 2]
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    return [int(order[place]) for place in np.unique(np.linspace(0, len(scores) - 1, FIXTURES).astype(int))]


def keep_fixtures(images: Iterable[tuple[str, Prepared]]) -> dict[str, NDArray[Any]]:
    """Good images by name, resized as the model sees them, as many as there is room for."""
    kept: dict[str, NDArray[Any]] = {}
    for name, prepared in images:
        image = prepared.values
        if sum(other.nbytes for other in kept.values()) + image.nbytes <= FIXTURE_BYTES:
            kept[name] = image
    return kept


def write_expectations(expected: Iterable[Expectation]) -> str:
    """Fixtures and what is expected of them, as JSON."""
    rows = [
        {"name": one.name, "image": _packed(one.image), "map": _packed(one.map), **asdict(one.verdict)}
        for one in expected
    ]
    return json.dumps(rows, allow_nan=False)


def read_expectations(text: str) -> Iterator[Expectation]:
    """What `write_expectations` wrote.

    Raises:
        ArtifactError: it is something else, or nothing.
    """
    try:
        for row in json.loads(text)[:MAX_FIXTURES]:
            verdict = Verdict(row["score"], row["p_value"], row["is_anomalous"])
            yield Expectation(row["name"], _unpacked(row["image"]), _unpacked(row["map"]), verdict)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, zlib.error):
        raise ArtifactError("the images to check the model with are missing or damaged; export it again") from None


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


def reduce_map(scored: NDArray[np.float32]) -> NDArray[np.float32]:
    """A map as it travels."""
    height, width = scored.shape
    return resize_map(scored, (min(height, EXPECTED_SIDE_PX), min(width, EXPECTED_SIDE_PX)))


def _packed(array: NDArray[np.generic]) -> dict[str, Any]:
    content = base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes())).decode()
    return {"type": array.dtype.newbyteorder("<").str, "shape": array.shape, "zlib": content}


def _unpacked(packed: Mapping[str, Any]) -> NDArray[Any]:
    """The array; what it says of its own size is checked before it is unpacked.

    Raises:
        ValueError: it is larger than a fixture can be, or of another size than it says.
    """
    kind, shape = np.dtype(packed["type"]), tuple(packed["shape"])
    size = math.prod(shape) * kind.itemsize
    if kind.kind not in "buif" or any(type(side) is not int or side < 0 for side in shape) or size > UNPACKED_BYTES:
        raise ValueError
    unpacking = zlib.decompressobj()
    content = unpacking.decompress(base64.b64decode(packed["zlib"]), size + 1)
    if len(content) != size:
        raise ValueError
    return np.frombuffer(content, dtype=kind).reshape(shape)
