"""The 8-bit half of `blemish export`: recalibrate, and compare verdicts and AUROC with the trained model's.

In 8 bits the maps are others, so they are not compared. The threshold is set anew, on the very good images that were
held out for it, by the scores the 8-bit graph gives them; so its promise is the graph's own.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blemish.artifact import ArtifactHeader
from blemish.calibration import calibrate
from blemish.data.decode import ImageLike, image_size
from blemish.data.folder import Folder, Sample
from blemish.data.images import read_original
from blemish.errors import ArtifactError, DataError
from blemish.metrics.ranking import auroc
from blemish.parity import raised
from blemish.predictor import Predictor
from blemish.runtime import Images, Runtime
from blemish.train import distinct, files_sha256, groups_of, split_of

INT8_TOLERANCE = 0.02
"""Processors round 8-bit sums in ways of their own: their maps may differ by this much of value or threshold."""

LEAST_AGREEMENT = 0.95
"""Share of images that must get the same verdict."""

LARGEST_AUROC_LOSS = 0.01

RANGE_IMAGES = 64
"""Fitted good images on which the ranges of 8-bit numbers are measured."""

OnImage = Callable[[int, int], None]


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
    readable, _ = distinct([sample for sample in folder.train if _is_readable(sample, header)])
    parts = split_of(readable, folder, header.run)[0]
    fit, held_out = ([one for one in part if one.name not in header.data_card.skipped] for part in parts)
    kept = GoodSplit(fit, held_out)
    if files_sha256([*kept.fit, *kept.held_out]) != header.data_card.files_sha256:
        raise DataError(
            f"{folder.root}: not the good images that the model was trained on ({header.data_card.root}, "
            f"{header.data_card.fit_images + header.data_card.calibration_images} images); a new threshold needs "
            "images that were held out of the fitting, and only the training folder tells which"
        )
    return kept._replace(groups=groups_of(kept.held_out, folder, header.run.data.groups))


def seen_by_network(header: ArtifactHeader, samples: Sequence[Sample]) -> list[Images]:
    """What the network sees of these images, one of each or, where there are few, several tiles of each."""
    chosen = samples[:RANGE_IMAGES]
    each = max(1, RANGE_IMAGES // len(chosen))
    seen: list[Images] = []
    for sample in chosen:
        recorder = Recorder()
        Predictor(header, recorder).predict(sample.path)
        seen += recorder.seen[:: max(1, len(recorder.seen) // each)][:each]
    return seen


def recalibrated(header: ArtifactHeader, runtime: Runtime, split: GoodSplit, on_image: OnImage) -> ArtifactHeader:
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
    return raised(header.model_copy(update=moved._asdict()), INT8_TOLERANCE)


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
    if found.agreement >= LEAST_AGREEMENT and after >= before - LARGEST_AUROC_LOSS:
        return
    raise ArtifactError(
        f"not exported: in 8 bits {found.agreement:.1%} of {found.checked} images get the same verdict (at least "
        f"{LEAST_AGREEMENT:.0%} must) and AUROC goes from {before:.3f} to {after:.3f} (it may lose "
        f"{LARGEST_AUROC_LOSS:g}); the worst is {found.worst_image}, whose score moves by {found.worst:.0%} of the "
        "threshold; use --precision fp32".replace("%", " %")
    )


def labelled(folder: Folder, held_out: Sequence[Sample], header: ArtifactHeader) -> list[tuple[str, ImageLike, bool]]:
    """Held-out good images and defective ones: of the test folder, or, where it has none, spoiled good ones."""
    images: list[tuple[str, ImageLike, bool]] = [(sample.name, sample.path, False) for sample in held_out]
    defective = [(sample.name, sample.path, True) for sample in folder.test if sample.label]
    if defective:
        return images + defective
    policy = header.policy
    for place, sample in enumerate(held_out):
        original = np.asarray(read_original(sample.path, policy.max_image_px, policy.white_level))
        images.append((f"{sample.name} with an inverted square", spoiled(original, place), True))
    return images


def spoiled(image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    """The image with an inverted square, an eighth of its shorter side wide; each number has another place for it.

    >>> int((spoiled(np.zeros((64, 80), np.uint8), 1) == 255).sum())
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
        image_size(sample.path, header.policy.max_image_px)
    except DataError:
        return False
    return True
