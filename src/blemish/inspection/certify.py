"""`blemish certify`: what a model promises, what more good images would allow, and a new promise without training."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, final

from blemish.data.files import check_writable
from blemish.data.photo_values import gather_values
from blemish.data.progress import OnStep, tell_nobody
from blemish.errors import ArtifactError, CalibrationError, SettingsError
from blemish.inference.artifact import ArtifactHeader, parse_artifact, read_artifact, write_artifact
from blemish.inference.calibration import DEFAULT_RATE, CalibrationCard, calibrate_kept
from blemish.inference.fixtures import Verdict, read_expectations
from blemish.inference.monitor_state import Alarm, withdrawal, withdrawn_message
from blemish.inference.onnx_file import read_metadata, unseal
from blemish.inference.parity import decision, scores_with_margin, with_margin, write_onnx
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import OnnxModel, is_onnx, open_onnx
from blemish.inference.trust import read_model_file, signature_notes
from blemish.inspection.new_images import (
    NewImages,
    changed_message,
    few_parts_message,
    groups_of_new,
    raised_message,
    refuse_known_groups,
    sample_message,
    score_new_images,
    suspects,
)
from blemish.stats.conformal import more_images_needed, rounded_up, worst_of_groups
from blemish.stats.outliers import suspicious_message

RATES = (0.05, 0.01, 0.001)
"""False-alarm rates for which the missing images are counted."""


@final
@dataclass(frozen=True)
class CertifyRequest:
    """What a certificate is to be; what is left out stays as it is."""

    max_false_alarm_rate: float | None = None
    confidence: float | None = None
    """With a rate but without a confidence, the promise is one on average."""
    good: Path | None = None
    """New good images; they replace those calibrated on so far."""
    add: bool = False
    """They are added instead."""
    groups: str | None = None
    """As `data.groups`, for the new images."""
    skip_bad: bool = False
    dry_run: bool = False

    @property
    def is_new(self) -> bool:
        """Whether anything is to be other than it is."""
        return any(value is not None for value in (self.max_false_alarm_rate, self.confidence, self.good))


@final
class Need(NamedTuple):
    """How many more good images (or groups) a false-alarm rate takes; 0 where there are enough.

    Where the certificate is withdrawn, only images of after the change count, of which there are none yet.
    """

    max_false_alarm_rate: float
    on_average: int
    with_confidence: int | None
    """None: folds cannot promise it."""


@final
@dataclass(frozen=True)
class Certified:
    """A model's header with its certificate, and what there is to say about it."""

    header: ArtifactHeader
    needs: tuple[Need, ...]
    needs_confidence: float
    withdrawn: Alarm | None = None
    suspects: Mapping[str, float] = field(default_factory=dict)
    """Good images that score as if they were not, with a p-value."""
    raised: str | None = None
    """Which good images lift the threshold, where it rises."""
    sample: str | None = None
    """What sample added images must be, where some were added."""
    changed: str | None = None
    """That most of the new images are unlike those before, where they are."""
    notes: tuple[str, ...] = ()
    """On images that were perhaps not read as they were meant, and on a signature of the file as it was."""
    skipped: Mapping[str, str] = field(default_factory=dict)
    new_images: int = 0
    """How many were scored."""
    is_written: bool = False

    @property
    def warnings(self) -> list[str]:
        """What a user should look at before the promise is relied on."""
        found = [] if self.withdrawn is None else [withdrawn_message(self.withdrawn)]
        found += [suspicious_message(name, p) for name, p in self.suspects.items()]
        return [
            *found,
            *(message for message in (self.sample, self.changed, self.raised) if message is not None),
            *self.notes,
        ]


def to_json(found: Certified) -> str:
    """All that `blemish certify` says, as JSON."""
    certificate = found.header.certificate
    return json.dumps(
        {
            "promise": certificate.promise,
            "threshold": certificate.threshold,
            "max_false_alarm_rate": certificate.alpha,
            "confidence": certificate.confidence,
            "kind": certificate.kind,
            "good_images": certificate.n,
            "groups": certificate.groups,
            "withdrawn": None if found.withdrawn is None else found.withdrawn.model_dump(),
            "more_needed": [need._asdict() for need in found.needs],
            "more_needed_confidence": found.needs_confidence,
            "suspects": dict(found.suspects),
            "raised": found.raised,
            "changed": found.changed,
            "sample": found.sample,
            "notes": list(found.notes),
            "new_images": found.new_images,
            "skipped": dict(found.skipped),
            "written": found.is_written,
        },
        indent=2,
    )


def certify_model(
    model: Path,
    asked: CertifyRequest = CertifyRequest(),  # frozen
    state: Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    on_image: OnStep = tell_nobody,
) -> Certified:
    """The certificate of a model file, trained or exported; or another one, which is written into the file.

    Without new images this takes no data and no torch: the scores are in the file. New good images are scored, which a
    trained model needs torch for; an exported file does not.

    `state` is the file of the watch over this model, where it is not beside it.

    Raises:
        ArtifactError: the model cannot be read, or another command has changed its file meanwhile.
        CalibrationError: too few good images for what is asked; or the certificate is withdrawn, and the images that
            would lift it are missing.
        DataError: a new image cannot be read, was fitted on, or is there twice.
        SettingsError: settings that contradict each other.
    """
    onnx = open_onnx(model, device, threads) if is_onnx(model) else None
    header = onnx.header.model if onnx else read_artifact(model)[0]
    alarm = withdrawal(model, header, state)
    _refuse(asked, header, alarm, model)
    confidence = asked.confidence or header.calibration.confidence or 0.95
    if not asked.is_new:
        return Certified(header, _needs(header, confidence, alarm), confidence, alarm)
    if not asked.dry_run:
        check_writable(model)
    if asked.good is None:
        found = _with_rate(header, asked)
        notes = () if asked.dry_run else _write(model, header, found, onnx)
        return Certified(found, _needs(found, confidence), confidence, notes=notes, is_written=not asked.dry_run)
    predictor = Predictor(header, onnx.runtime) if onnx else Predictor.load(model, device, threads)
    good = score_new_images(predictor, asked.good, _not_new(header, asked.add, alarm), asked.skip_bad, on_image)
    found = _with_good(header, asked, good, onnx)
    few_parts = few_parts_message(good, groups_of_new(header, asked.groups, asked.add, good)[1])
    notes = (
        *filter(None, [few_parts]),
        *_smaller_rate(found, asked),
        *(() if asked.dry_run else _write(model, header, found, onnx)),
    )
    return Certified(
        header=found,
        needs=_needs(found, confidence),
        needs_confidence=confidence,
        suspects=suspects(header, good),
        raised=raised_message(header, found, good),
        sample=sample_message(header, good) if asked.add else None,
        changed=changed_message(header, good),
        notes=(*good.readings.notes, *notes),
        skipped=good.skipped,
        new_images=len(good.names),
        is_written=not asked.dry_run,
    )


def _smaller_rate(found: ArtifactHeader, asked: CertifyRequest) -> tuple[str, ...]:
    """What is said where a rate that was the smallest once is kept, and its threshold promises a smaller one by now."""
    if asked.max_false_alarm_rate is not None or found.calibration.confidence is not None:
        return ()
    rate = max(DEFAULT_RATE, rounded_up(found.p_value(math.nextafter(found.threshold, math.inf))))
    if rate > 0.9 * found.max_false_alarm_rate:
        return ()
    return (
        f"these images promise {rate:g} too, at no higher a threshold: --max-false-alarm-rate {rate:g} writes that",
    )


def _refuse(asked: CertifyRequest, header: ArtifactHeader, alarm: Alarm | None, model: Path) -> None:
    """What contradicts itself, or the state of the model."""
    for name, value in (("--add", asked.add), ("--groups", asked.groups)):
        if value and asked.good is None:
            raise SettingsError(f"{name}: goes with --good, the folder of new good images")
    if alarm is not None and asked.is_new and (asked.good is None or asked.add):
        raise CalibrationError(
            f"{model}: {withdrawn_message(alarm)}; images from before the change, alone or with others, cannot promise "
            "anything"
        )
    if asked.add and header.calibration.folds:
        raise SettingsError(
            "--add: this model was calibrated fold by fold, which new images cannot be added to; leave --add out to "
            "calibrate on them alone"
        )


def _not_new(header: ArtifactHeader, is_added: bool, alarm: Alarm | None) -> tuple[str, ...]:
    """Images calibrated on before that must not come again: none counts twice, and none tells how things are now."""
    card = header.calibration
    return (*card.known_ids, *card.earlier_ids) if alarm else card.known_ids if is_added else ()


def _promised(header: ArtifactHeader, asked: CertifyRequest) -> tuple[float, float | None]:
    """Rate and confidence; a new rate stands for itself, a new confidence for the rate there is."""
    if asked.max_false_alarm_rate is not None:
        return asked.max_false_alarm_rate, asked.confidence
    before = header.calibration.confidence
    return header.max_false_alarm_rate, before if asked.confidence is None else asked.confidence


def _with_rate(header: ArtifactHeader, asked: CertifyRequest) -> ArtifactHeader:
    """Another promise from the same scores."""
    rate, confidence = _promised(header, asked)
    card = header.calibration.model_copy(update={"confidence": confidence})
    return header.model_copy(update=calibrate_kept(header.calibration_scores, rate, card)._asdict())


def _with_good(
    header: ArtifactHeader, asked: CertifyRequest, good: NewImages, onnx: OnnxModel | None
) -> ArtifactHeader:
    """The header calibrated on new images, alone or added to those before.

    The promise of an exported file holds on other machines, too, where scores may be off by its tolerance.
    """
    before, (rate, confidence) = header.calibration, _promised(header, asked)
    pattern, groups = groups_of_new(header, asked.groups, asked.add, good)
    if groups is not None:
        refuse_known_groups(header, asked.add, dict(zip(groups, good.names, strict=True)))
    scores = good.scores if groups is None else worst_of_groups(good.scores, groups).tolist()
    card = CalibrationCard(
        confidence=confidence,
        images=len(good.names),
        by_group=groups is not None,
        group_pattern=pattern,
        group_names=tuple(sorted(set(groups or ()))),
        origin="certify",
        image_ids=tuple(good.ids),
        pixel_ids=tuple(good.pixel_ids),
        earlier_ids=tuple(dict.fromkeys((*before.earlier_ids, *(() if asked.add else before.known_ids)))),
        photo_values=gather_values(good.values, groups),
    )
    if not asked.add:
        found = header.model_copy(update=calibrate_kept(sorted(scores), rate, card)._asdict())
        return with_margin(found, onnx.header.export.tolerance) if onnx else found
    scores = list(scores_with_margin(scores, before.margin, onnx.header.export.tolerance)) if onnx else scores
    added = _added(before, len(header.calibration_scores), card)
    return header.model_copy(
        update=calibrate_kept(sorted([*header.calibration_scores, *scores]), rate, added)._asdict()
    )


def _added(before: CalibrationCard, n: int, card: CalibrationCard) -> CalibrationCard:
    """The card of old and new images together."""
    values = {
        name: tuple(sorted((*before.photo_values.get(name, ()), *new))) for name, new in card.photo_values.items()
    }
    return card.model_copy(
        update={
            "images": (before.images or n) + (card.images or 0),
            "image_ids": (*before.image_ids, *card.image_ids),
            "pixel_ids": (*before.pixel_ids, *card.pixel_ids),
            "group_names": tuple(sorted((*before.group_names, *card.group_names))),
            "photo_values": values,
            "margin": before.margin,
        }
    )


def _write(path: Path, before: ArtifactHeader, header: ArtifactHeader, onnx: OnnxModel | None) -> tuple[str, ...]:
    """The model file with another header, completely or not at all; through a link, the file that it leads to.

    What is to be said of that is returned.

    Raises:
        ArtifactError: it is gone, or not the file any more that the header was `before`.
    """
    model = path.resolve()
    content = read_model_file(model)
    found, tensors = parse_artifact(content, path) if onnx is None else (read_metadata(content, path)[0].model, {})
    if found.model_dump_json() != before.model_dump_json():
        raise ArtifactError(f"{path}: another command has changed it meanwhile, so it is left as it is; run this again")
    if onnx is None:
        write_artifact(model, header, tensors)
    else:
        expected = [
            replace(one, verdict=Verdict(one.verdict.score, *decision(header, one.verdict.score)))
            for one in read_expectations(onnx.fixtures)
        ]
        write_onnx(model, unseal(content), header, onnx.header.export, expected)
    return signature_notes(path)


def _needs(header: ArtifactHeader, confidence: float, withdrawn: Alarm | None = None) -> tuple[Need, ...]:
    n, has_folds = 0 if withdrawn else len(header.calibration_scores), bool(header.calibration.folds)
    return tuple(
        Need(rate, more_images_needed(n, rate), None if has_folds else more_images_needed(n, rate, confidence))
        for rate in RATES
    )
