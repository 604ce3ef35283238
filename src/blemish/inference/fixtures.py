"""Images that travel with a model, and what is expected of them: chosen, packed into its file, read within bounds."""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.images import PixelPolicy, Prepared
from blemish.errors import ArtifactError
from blemish.inference.predictor import Prediction
from blemish.inference.score import resize_map

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


def verdict_of(prediction: Prediction) -> Verdict:
    """What is compared of a prediction, beside its map."""
    return Verdict(prediction.score, prediction.p_value, prediction.is_anomalous)


def expectation(name: str, image: NDArray[np.generic], prediction: Prediction) -> Expectation:
    """What the model says of an image, to be written into the file."""
    return Expectation(name, image, reduce_map(prediction.scored_map), verdict_of(prediction))


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
