"""`blemish export`: a trained model as one ONNX file that runs without torch, checked before it is put in place."""

import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blemish.data.decode import ImageLike
from blemish.data.folder import read_folder
from blemish.data.layouts import SUFFIXES
from blemish.data.outputs import check_model_name
from blemish.data.progress import OnStep, tell_nobody
from blemish.errors import ArtifactError, DataError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.fixtures import Expectation, Verdict, reduce_map, seeded_image, seeded_images, verdict_of
from blemish.inference.onnx_file import ExportCard
from blemish.inference.parity import LARGEST_TOLERANCE, decision, difference, fixture_predictor, with_margin, write_onnx
from blemish.inference.runtime import Runtime, graph_runtime, is_onnx, open_detector
from blemish.inference.torch_runtime import TorchRuntime
from blemish.settings import Settings
from blemish.training.onnx_graph import to_graph

SMALLEST_TOLERANCE = 1e-6
"""About ten roundings of a 32-bit float: another processor adds in another order."""


@final
class ExportSettings(Settings):
    """How a graph is made."""

    opset: Annotated[int, Field(ge=18, le=23)] = 18


@final
class Trained(NamedTuple):
    """A trained model that was opened to be exported."""

    header: ArtifactHeader
    runtime: Runtime
    kept: Mapping[str, NDArray[np.generic]]
    """The good images that travel with it."""


@final
class Export(NamedTuple):
    """What is to be written."""

    graph: bytes
    header: ArtifactHeader
    card: ExportCard
    fixtures: Sequence[Expectation]


@final
class ExportCheck(NamedTuple):
    """An image as the trained model judges it, and how far the export is from that."""

    name: str
    difference: float
    map: NDArray[np.float32]
    verdict: Verdict
    score: float
    """The export's."""


def export_model(
    model: Path,
    out: Path,
    settings: ExportSettings = ExportSettings(),  # noqa: B008  # frozen
    good: Path | None = None,
    on_image: OnStep = tell_nobody,
) -> ExportCard:
    """Write a trained model as an ONNX file if it judges as the trained model does; else write nothing.

    Compared are seeded images of awkward sizes, the good images that travel with the trained model, and those of the
    folder `good`.

    Raises:
        ArtifactError: the model cannot be read, its detector cannot be exported, or the export judges otherwise.
        DataError: an image of `good` cannot be read; `out` cannot be written.
    """
    check_model_name(out, SUFFIXES)
    if is_onnx(model):
        raise ArtifactError(f"{model}: exported already; give the model file that `blemish train` made")
    if out.exists() and model.exists() and out.samefile(model):
        raise DataError(f"{out}: the trained model itself, which would be lost; give the export another name")
    is_model = out.is_file() and not is_onnx(out)
    if is_model or out.suffix.lower() == ".safetensors":
        found = "a trained model, which would be lost" if is_model else "ends as trained models do"
        raise DataError(f"{out}: {found}; give the export a name that ends with .onnx")
    header, detector, kept = open_detector(model)
    graph = to_graph(detector, settings.opset)
    trained = Trained(header, TorchRuntime(detector), kept)
    folder = None if good is None else read_folder(good)
    if folder is not None:
        folder.left_out("train", skip_bad=False)
    images = {} if folder is None else {sample.name: sample.path for sample in folder.train}
    export = export_exact(trained, graph, settings.opset, images, on_image)
    write_onnx(out, export.graph, export.header, export.card, export.fixtures)
    return export.card


def export_exact(
    trained: Trained, graph: bytes, opset: int, images: Mapping[str, ImageLike], on_image: OnStep = tell_nobody
) -> Export:
    """The graph as it is, if its maps are those of the trained model within `LARGEST_TOLERANCE`.

    Raises:
        ArtifactError: they are not; with the worst image.
    """
    runtime = graph_runtime(graph)
    check_batch(trained, runtime)
    fixtures = {**seeded_images(trained.header.policy), **trained.kept}
    judged = list(judge(trained, runtime, [*fixtures.items(), *images.items()], on_image))  # names may be the same
    worst = max(judged, key=lambda one: one.difference)
    _refuse_beyond(worst.name, worst.difference)
    tolerance = stated_tolerance(worst.difference)
    header = with_margin(trained.header, tolerance)
    card = ExportCard(
        opset=opset,
        tolerance=tolerance,
        scale=header.threshold,
        checked=len(judged),
        worst=worst.difference,
        worst_image=worst.name,
        ties=sum(decision(header, one.score) != one.verdict.decision for one in judged),
        versions=_versions(),
    )
    expected = [Expectation(one.name, fixtures[one.name], one.map, one.verdict) for one in judged[: len(fixtures)]]
    return Export(graph, header, card, expected)


def judge(
    trained: Trained, runtime: Runtime, images: Sequence[tuple[str, ImageLike]], on_image: OnStep = tell_nobody
) -> Iterator[ExportCheck]:
    """Every image, by its name, judged by the trained model and by its export."""
    header = trained.header
    for done, (name, image) in enumerate(images, start=1):
        both = (fixture_predictor(header, one, isinstance(image, Path)) for one in (trained.runtime, runtime))
        wanted, found = (predictor.predict(image) for predictor in both)
        apart = difference(wanted.scored_map, found.scored_map, header.threshold)
        yield ExportCheck(name, apart, reduce_map(wanted.scored_map), verdict_of(wanted), found.score)
        on_image(done, len(images))


def check_batch(trained: Trained, runtime: Runtime) -> None:
    """A batch of three must give the maps that each image gives alone.

    Raises:
        ArtifactError: it does not.
    """
    (height, width), channels = trained.header.policy.network_px, trained.header.policy.channels
    tall = seeded_image(3 * height, width, channels).astype(np.float32) / np.float32(255.0)
    images = np.ascontiguousarray(tall.reshape(3, height, width, channels).transpose(0, 3, 1, 2))
    alone = np.concatenate([trained.runtime.maps(image[None]) for image in images])
    _refuse_beyond("a batch of three", difference(alone, runtime.maps(images), trained.header.threshold))


def stated_tolerance(worst: float) -> float:
    """What an export may differ on another machine: four times what it differed here, rounded up to one digit.

    >>> stated_tolerance(6e-7), stated_tolerance(0.0), stated_tolerance(9e-5)
    (3e-06, 1e-06, 0.0001)
    """
    wanted = min(max(4.0 * worst, SMALLEST_TOLERANCE), LARGEST_TOLERANCE)
    unit = 10.0 ** math.floor(math.log10(wanted))
    return float(f"{math.ceil(wanted / unit * (1 - 1e-9)) * unit:.0e}")


def _refuse_beyond(name: str, apart: float) -> None:
    if not apart <= LARGEST_TOLERANCE:
        raise ArtifactError(
            f"not exported, because the graph judges otherwise than the trained model: {name} differs by {apart:.2g} "
            f"of the value or the threshold, whichever is larger; allowed are {LARGEST_TOLERANCE:.0e}"
        )


def _versions() -> dict[str, str]:
    names = ("blemish", "torch", "onnx", "onnxruntime")
    return {**{name: version(name) for name in names}, "machine": platform.machine()}
