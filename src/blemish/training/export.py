"""`blemish export`: a trained model as one ONNX file that runs without torch, checked before it is put in place."""

import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from blemish.data.decode import ImageLike
from blemish.data.files import check_model_name
from blemish.data.folder import SUFFIXES, Folder, Sample, hash_samples, read_folder
from blemish.data.images import read_original
from blemish.data.split import drop_copies, groups_of
from blemish.errors import ArtifactError, DataError, SettingsError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.calibration import calibrate
from blemish.inference.onnx_file import ExportCard
from blemish.inference.parity import (
    Expectation,
    Verdict,
    decision,
    difference,
    expectation,
    fixture_predictor,
    reduce_map,
    seeded_image,
    seeded_images,
    verdict_of,
    with_margin,
    write_onnx,
)
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import Images, Runtime, TorchRuntime, graph_runtime, is_onnx, open_detector
from blemish.settings import Settings
from blemish.stats.ranking import auroc
from blemish.training.onnx_graph import to_graph, to_int8
from blemish.training.train import split_of

LARGEST_TOLERANCE = 1e-4
"""An fp32 export is refused when its maps differ by a larger share of value or threshold (whichever is larger)."""

SMALLEST_TOLERANCE = 1e-6
"""About ten roundings of a 32-bit float: another processor adds in another order."""

OnImage = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    """Tell nobody."""


@final
class ExportSettings(Settings):
    """How a graph is made."""

    precision: Literal["fp32", "int8"] = "fp32"
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
    on_image: OnImage = _silent,
) -> ExportCard:
    """Write a trained model as an ONNX file if it judges as the trained model does; else write nothing.

    Compared are seeded images of awkward sizes, the good images that travel with the trained model, and those of the
    folder `good`. int8 needs that folder, and it must be the one the model was trained on.

    Raises:
        ArtifactError: the model cannot be read, its detector cannot be exported, or the export judges otherwise.
        DataError: an image of `good` cannot be read; `out` cannot be written.
        SettingsError: int8 without `good`.
    """
    check_model_name(out, SUFFIXES)
    if is_onnx(model):
        raise ArtifactError(f"{model}: exported already; give the model file that `blemish train` made")
    if out.exists() and model.exists() and out.samefile(model):
        raise DataError(f"{out}: the trained model itself, which would be lost; give the export another name")
    if settings.precision == "int8" and good is None:
        raise SettingsError("--precision int8 needs --good, the folder the model was trained on")
    header, detector, kept = open_detector(model)
    graph = to_graph(detector, settings.opset)
    trained = Trained(header, TorchRuntime(detector), kept)
    folder = None if good is None else read_folder(good)
    if settings.precision == "int8" and folder is not None:
        export = export_int8(trained, graph, settings.opset, folder, on_image)
    else:
        images = {} if folder is None else {sample.name: sample.path for sample in folder.train}
        export = export_exact(trained, graph, settings.opset, images, on_image)
    write_onnx(out, export.graph, export.header, export.card, export.fixtures)
    return export.card


def export_exact(
    trained: Trained, graph: bytes, opset: int, images: Mapping[str, ImageLike], on_image: OnImage = _silent
) -> Export:
    """The graph as it is, if its maps are those of the trained model within `LARGEST_TOLERANCE`.

    Raises:
        ArtifactError: they are not; with the worst image.
    """
    runtime = graph_runtime(graph)
    check_batch(trained, runtime)
    fixtures = {**seeded_images(trained.header.policy), **trained.kept}
    judged = list(judge(trained, runtime, {**fixtures, **images}, on_image))
    worst = max(judged, key=lambda one: one.difference)
    _refuse_beyond(worst.name, worst.difference)
    tolerance = stated_tolerance(worst.difference)
    header = with_margin(trained.header, tolerance)
    card = ExportCard(
        precision="fp32",
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


def export_int8(trained: Trained, graph: bytes, opset: int, folder: Folder, on_image: OnImage = _silent) -> Export:
    """The graph in 8 bits, with a threshold of its own, if it gives the verdicts of the trained model.

    Raises:
        ArtifactError: too many verdicts are others, or AUROC falls; with the worst image.
        DataError: `folder` is not the one the model was trained on.
    """
    header = trained.header
    split = split_again(folder, header)
    small = to_int8(graph, network_inputs(header, split.fit))
    runtime = graph_runtime(small)
    moved = recalibrate(header, runtime, split, on_image)
    images = label_images(folder, split.held_out, header)
    found = compare_verdicts(Predictor(header, trained.runtime), Predictor(moved, runtime), images, on_image)
    refuse_worse(found)
    card = ExportCard(
        precision="int8",
        opset=opset,
        tolerance=INT8_TOLERANCE,
        scale=moved.threshold,
        versions=_versions(),
        **found._asdict(),
    )
    predictor = fixture_predictor(moved, runtime)
    fixtures = {**seeded_images(header.policy), **trained.kept}
    expected = [expectation(name, image, predictor.predict(image)) for name, image in fixtures.items()]
    return Export(small, moved, card, expected)


def judge(
    trained: Trained, runtime: Runtime, images: Mapping[str, ImageLike], on_image: OnImage = _silent
) -> Iterator[ExportCheck]:
    """Every image, judged by the trained model and by its export."""
    header = trained.header
    before, after = fixture_predictor(header, trained.runtime), fixture_predictor(header, runtime)
    for done, (name, image) in enumerate(images.items(), start=1):
        wanted, found = before.predict(image), after.predict(image)
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


INT8_TOLERANCE = 0.02
"""Processors round 8-bit sums in ways of their own: their maps may differ by this much of value or threshold."""

MIN_AGREEMENT = 0.95
"""Share of images that must get the same verdict."""

LARGEST_AUROC_LOSS = 0.01

RANGE_IMAGES = 64
"""Fitted good images on which the ranges of 8-bit numbers are measured."""


@final
class GoodSplit(NamedTuple):
    """The good images as the training split them."""

    fit: list[Sample]
    held_out: list[Sample]
    groups: tuple[str, ...] | None = None
    """The group of each image held out."""


@final
class Comparison(NamedTuple):
    """An 8-bit graph beside the trained model, on the same images."""

    checked: int
    agreement: float
    auroc: tuple[float, float]
    worst: float
    worst_image: str


@final
class Recorder:
    """A runtime that notes what a network would see."""

    def __init__(self) -> None:
        self.seen: list[Images] = []

    def maps(self, images: Images) -> NDArray[np.float32]:
        """Zeros."""
        self.seen.append(images)
        return np.zeros((len(images), *images.shape[2:]), np.float32)

    def reconstruct(self, images: Images) -> None:
        """Nothing."""


def split_again(folder: Folder, header: ArtifactHeader) -> GoodSplit:
    """The good images as the training split them.

    Raises:
        DataError: they are not the images the model was trained on.
        ArtifactError: the model was calibrated on others since.
    """
    if header.calibration.origin != "training":
        raise ArtifactError(
            "the model was calibrated on other images than those it was trained with; export it as it was trained, "
            "and calibrate the 8-bit file with: blemish certify FILE --good FOLDER"
        )
    readable, _ = drop_copies([sample for sample in folder.train if _is_readable(sample, header)])
    parts = split_of(readable, folder, header.run)[0]
    fit, held_out = ([one for one in part if one.name not in header.data_card.skipped] for part in parts)
    kept = GoodSplit(fit, held_out)
    if hash_samples([*kept.fit, *kept.held_out]) != header.data_card.files_sha256:
        raise DataError(
            f"{folder.root}: not the good images that the model was trained on ({header.data_card.root}, "
            f"{header.data_card.fit_images + header.data_card.calibration_images} images); a new threshold needs "
            "images that were held out of the fitting, and only the training folder tells which"
        )
    return kept._replace(groups=groups_of(kept.held_out, folder, header.run.data.groups))


def network_inputs(header: ArtifactHeader, samples: Sequence[Sample]) -> list[Images]:
    """What the network sees of these images, one of each or, where there are few, several tiles of each."""
    chosen = samples[:RANGE_IMAGES]
    each = max(1, RANGE_IMAGES // len(chosen))
    seen: list[Images] = []
    for sample in chosen:
        recorder = Recorder()
        Predictor(header, recorder).predict(sample.path)
        seen += recorder.seen[:: max(1, len(recorder.seen) // each)][:each]
    return seen


def recalibrate(header: ArtifactHeader, runtime: Runtime, split: GoodSplit, on_image: OnImage) -> ArtifactHeader:
    """The header with scores and threshold of another runtime, for the same promise."""
    predictor, before = Predictor(header, runtime), header.calibration
    scores = []
    for done, sample in enumerate(split.held_out, start=1):
        scores.append(predictor.predict(sample.path).score)
        on_image(done, len(split.held_out))
    found = calibrate(scores, header.max_false_alarm_rate, before.confidence, split.groups)
    same = ("image_ids", "pixel_ids", "earlier_ids", "photo_values", "group_pattern", "group_names")
    kept = {name: getattr(before, name) for name in same}
    moved = found._replace(calibration=found.calibration.model_copy(update=kept))
    return with_margin(header.model_copy(update=moved._asdict()), INT8_TOLERANCE)


def compare_verdicts(
    before: Predictor, after: Predictor, images: Sequence[tuple[str, ImageLike, bool]], on_image: OnImage
) -> Comparison:
    """Verdicts and AUROC of two models on the same images, given as name, image and label."""
    scores = np.empty((2, len(images)))
    for place, (_, image, _label) in enumerate(images):
        scores[:, place] = before.predict(image).score, after.predict(image).score
        on_image(place + 1, len(images))
    thresholds = np.array([before.threshold, after.threshold])
    labels = np.array([label for *_, label in images])
    verdicts = scores > thresholds[:, None]
    same = verdicts[0] == verdicts[1]
    relative = scores / thresholds[:, None]
    worst = int(np.argmax(np.abs(relative[1] - relative[0]) + 1e9 * ~same))
    return Comparison(
        checked=len(images),
        agreement=float(same.mean()),
        auroc=(auroc(scores[0], labels), auroc(scores[1], labels)),
        worst=float(np.abs(relative[1] - relative[0])[worst]),
        worst_image=images[worst][0],
    )


def refuse_worse(found: Comparison) -> None:
    """Refuse a graph that gives other verdicts, or tells good from defective less well.

    Raises:
        ArtifactError: with both figures and the worst image.

    >>> refuse_worse(Comparison(40, agreement=0.9, auroc=(0.97, 0.97), worst=0.3, worst_image="test/cut/1.png"))
    Traceback (most recent call last):
    blemish.errors.ArtifactError: not exported: in 8 bits 90.0 % of 40 images get the same verdict (at least 95 % must)
    and AUROC goes from 0.970 to 0.970 (it may lose 0.01); the worst is test/cut/1.png, whose score moves by 30 % of
    the threshold; use --precision fp32
    """
    before, after = found.auroc
    if found.agreement >= MIN_AGREEMENT and after >= before - LARGEST_AUROC_LOSS:
        return
    raise ArtifactError(
        f"not exported: in 8 bits {found.agreement:.1%} of {found.checked} images get the same verdict (at least "
        f"{MIN_AGREEMENT:.0%} must) and AUROC goes from {before:.3f} to {after:.3f} (it may lose "
        f"{LARGEST_AUROC_LOSS:g}); the worst is {found.worst_image}, whose score moves by {found.worst:.0%} of the "
        "threshold; use --precision fp32".replace("%", " %")
    )


def label_images(
    folder: Folder, held_out: Sequence[Sample], header: ArtifactHeader
) -> list[tuple[str, ImageLike, bool]]:
    """Held-out good images and defective ones: of the test folder, or, where it has none, spoiled good ones."""
    images: list[tuple[str, ImageLike, bool]] = [(sample.name, sample.path, False) for sample in held_out]
    defective = [(sample.name, sample.path, True) for sample in folder.test if sample.label]
    if defective:
        return images + defective
    policy = header.policy
    for place, sample in enumerate(held_out):
        original = np.asarray(read_original(sample.path, policy.max_image_px, policy.white_level))
        images.append((f"{sample.name} with an inverted square", add_synthetic_defects(original, place), True))
    return images


def add_synthetic_defects(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The image with an inverted square, an eighth of its shorter side wide; each number has another place for it.

    >>> int((add_synthetic_defects(np.zeros((64, 80), np.uint8), 1) == 255).sum())
    64
    """
    height, width = image.shape[:2]
    side = max(1, min(height, width) // 8)
    # Multiples of two irrational numbers fill the square evenly.
    top, left = (int(number * step % 1.0 * (room - side)) for step, room in ((0.7549, height), (0.5698, width)))
    image = image.copy()
    image[top : top + side, left : left + side] = 255 - image[top : top + side, left : left + side]
    return image


def _is_readable(sample: Sample, header: ArtifactHeader) -> bool:
    try:
        sample.size_px(header.policy.max_image_px)
    except DataError:
        return False
    return True
