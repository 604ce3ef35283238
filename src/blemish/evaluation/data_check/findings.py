"""Findings of a data check: what each kind means, from facts of the images."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from blemish.data.deep_photos import DeepPhotos
from blemish.data.duplicates import ONE_PART, Fingerprint, Pair, clusters, median_likeness
from blemish.data.folder import Sample
from blemish.data.masks import ASPECT_TOLERANCE
from blemish.data.notes import lossy_note, outline_note, turned_note
from blemish.data.photo_values import Quality, tukey_fences
from blemish.data.profiles import is_plain
from blemish.errors import plural

_FORMAT_OF = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
_KINDS = {"1": "black and white", "L": "grey", "LA": "grey", "F": "grey, floats", "I": "grey, 16 bits"}


@final
@dataclass(frozen=True)
class PhotoFacts:
    """`kind` is grey, colour or such; `oddities` are plain words on what is unusual in the file."""

    size_px: tuple[int, int]
    kind: str
    oddities: tuple[str, ...]


def photo_facts(sample: Sample) -> PhotoFacts:
    """The facts of a file that can be decoded; its size is the one after EXIF orientation.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> file = Path(tempfile.mkdtemp()) / "photo.jpg"
    >>> Image.new("L", (4, 3)).save(file, format="PNG")
    >>> photo_facts(Sample(file, "photo.jpg"))
    PhotoFacts(size_px=(3, 4), kind='grey', oddities=('named .jpg, but a PNG file',))
    """
    header, oddities = sample.header, []
    if header.image_format != _FORMAT_OF[sample.path.suffix.lower()]:
        oddities.append(f"named {sample.path.suffix}, but a {header.image_format} file")
    if header.pages > 1:
        oddities.append(f"{header.pages} pages or frames, of which the first is used")
    if header.is_turned:
        oddities.append(f"turned or mirrored by its EXIF orientation, {header.orientation}")
    if header.has_alpha:
        oddities.append("transparent pixels or an alpha channel, laid over black")
    if header.unread_channels:
        oddities.append(f"{plural(header.unread_channels, 'channel')} more than grey or colour, not read")
    if not is_plain(header.profile):
        oddities.append(f"the colour profile {header.profile!r}, which is not applied")
    kind = "grey, 16 bits" if header.mode.startswith("I;") else _KINDS.get(header.mode, "colour")
    return PhotoFacts(header.size_px, kind, tuple(oddities))


Severity = Literal["look", "note"]

KINDS = (
    "layout", "unreadable", "mask", "odd one", "blur", "exposure", "duplicate", "near duplicate", "size", "channels",
    "odd file", "format", "few",
)  # fmt: skip
"""In the order they are told."""

MIN_TO_COMPARE = 8
"""Of fewer good images none is called strange, blurred or badly lit: there is nothing to go by."""

_TINY = 1e-12
_FAR_ODD = 2.0
_LEAST_ODD = math.log(1.25)
_LEAST_SHARPNESS, _LEAST_BRIGHTNESS, _LEAST_CLIPPED = 0.15, 0.05, 0.05


@final
@dataclass(frozen=True)
class Finding:
    """One thing found: `look` must be looked at, `note` is good to know. `paths` are below the root."""

    kind: str
    severity: Severity
    paths: tuple[str, ...]
    message: str


@final
@dataclass(frozen=True, eq=False)
class CheckedImage:
    """What is kept of an image. `quality` is None where its aspect is not the others'."""

    sample: Sample
    facts: PhotoFacts
    pixels_sha256: str
    fingerprint: Fingerprint
    quality: Quality | None
    brightest: int | None = None


def part_of(sample: Sample) -> str:
    """`train` or `test`; all images of a flat folder are there to train on."""
    return "test" if sample.name.lower().startswith("test") and "/" in sample.name else "train"


def size_findings(images: Sequence[CheckedImage], fit: str = "stretch") -> list[Finding]:
    """Images of another size than most."""
    by_size: dict[tuple[int, int], list[str]] = defaultdict(list)
    for one in images:
        by_size[one.facts.size_px].append(one.sample.name)
    if len(by_size) < 2:
        return []
    usual = min(by_size, key=lambda size: (-len(by_size[size]), size))  # as training has it
    findings = []
    for size, names in sorted(by_size.items()):
        stretch = (size[0] / size[1]) / (usual[0] / usual[1])
        if size != usual:
            is_other = abs(stretch - 1) > ASPECT_TOLERANCE
            how = "padded" if fit == "pad" else "so training refuses it unless data.fit=pad or data.size_px is set"
            findings.append(
                Finding(
                    "size",
                    "look" if is_other and fit != "pad" else "note",
                    tuple(names),
                    f"{size[0]} x {size[1]} px (height x width), {_how_many(by_size[usual], names, images)} are "
                    f"{usual[0]} x {usual[1]}" + (f": another aspect, {how}" if is_other else ""),
                )
            )
    return findings


def channel_findings(images: Sequence[CheckedImage]) -> list[Finding]:
    """Grey among colour, 16 bits among 8."""
    by_kind: dict[str, list[str]] = defaultdict(list)
    for one in images:
        by_kind[one.facts.kind].append(one.sample.name)
    if len(by_kind) < 2:
        return []
    usual = min(by_kind, key=lambda kind: (-len(by_kind[kind]), kind))
    return [
        Finding(
            "channels",
            "look",
            tuple(names),
            f"{kind}, {_how_many(by_kind[usual], names, images)} are {usual}: are they from the same camera?",
        )
        for kind, names in sorted(by_kind.items())
        if kind != usual
    ]


def _how_many(usual: Sequence[str], names: Sequence[str], images: Sequence[CheckedImage]) -> str:
    if len(usual) == len(names):
        return "as many"
    return "most" if 2 * len(usual) > len(images) else "more"


def format_findings(images: Sequence[CheckedImage]) -> list[Finding]:
    """What is unusual in the files themselves."""
    by_oddity: dict[str, list[str]] = defaultdict(list)
    for one in images:
        for oddity in one.facts.oddities:
            by_oddity[oddity].append(one.sample.name)
    return [Finding("format", "note", tuple(names), oddity) for oddity, names in sorted(by_oddity.items())]


def depth_findings(images: Sequence[CheckedImage], white_level: int | None) -> list[Finding]:
    """16-bit photos whose values do not fit the value of white."""
    deep = DeepPhotos(white_level, shown=None)
    for one in images:
        deep.add(one.sample.name, one.brightest)
    return [Finding("format", "look", doubt.names, doubt.message) for doubt in deep.doubts()]


def turned_findings(images: Sequence[CheckedImage]) -> list[Finding]:
    """Photos with masks that are turned by EXIF."""
    some = [one.sample for one in images if one.sample.mask_paths and one.sample.header.is_turned]
    return [Finding("mask", "look", tuple(one.name for one in some), turned_note(some))] if some else []


def lossy_findings(images: Sequence[CheckedImage]) -> list[Finding]:
    """Photos whose masks have blurred edges as they are stored."""
    note = lossy_note([one.sample for one in images])
    return [Finding("mask", "note", (), note)] if note else []


def outline_findings(images: Sequence[CheckedImage]) -> list[Finding]:
    """Masks that are outlines of areas."""
    note = outline_note([one.sample for one in images])
    return [Finding("mask", "look", (), note)] if note else []


def duplicate_findings(
    images: Sequence[CheckedImage], pairs: Sequence[Pair], groups: Mapping[str, str] | None = None
) -> list[Finding]:
    """Images with the same pixels, and images that `pairs` say are nearly the same.

    `groups` says, by name, which images are known to belong together: those are never parted in training.
    """
    groups = groups or {}
    by_pixels: dict[str, list[int]] = defaultdict(list)
    for place, one in enumerate(images):
        by_pixels[one.pixels_sha256].append(place)
    same = [members for members in by_pixels.values() if len(members) > 1]
    findings = [
        _repeated("duplicate", "the same pixels", [images[place] for place in members], groups) for members in same
    ]
    alike = [pair for pair in pairs if images[pair.first].pixels_sha256 != images[pair.second].pixels_sha256]
    for members in _groups(len(images), alike):
        among = [pair for pair in alike if pair.first in members]
        least = min(pair.correlation for pair in among)
        turns = sorted({pair.turn for pair in among} - {""})
        how = f"nearly the same (correlation {least:.3f}{', ' + '; '.join(turns) if turns else ''})"
        findings.append(_repeated("near duplicate", how, [images[place] for place in members], groups))
    return findings


def still_findings(images: Sequence[CheckedImage], groups: Mapping[str, str]) -> list[Finding]:
    """Good images of different groups that all show the same but for noise, which no pair of them tells."""
    good = [one for one in images if not one.sample.label]
    names = [groups.get(one.sample.name, one.sample.name) for one in good]
    if len(good) < MIN_TO_COMPARE or median_likeness(np.stack([one.fingerprint for one in good]), names) < ONE_PART:
        return []
    message = (
        f"{len(good)} good images hardly differ but for noise, as frames of a single part do: the promise on false "
        "alarms would count each as a part; say which images belong together (data.groups), and add other parts"
    )
    return [Finding("near duplicate", "look", (), message)]


def _groups(count: int, pairs: Sequence[Pair]) -> Iterable[list[int]]:
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(clusters(count, pairs)):
        members[group].append(place)
    return [some for some in members.values() if len(some) > 1]


def _repeated(kind: str, how: str, some: Sequence[CheckedImage], groups: Mapping[str, str]) -> Finding:
    parts = {part_of(one.sample) for one in some}
    names = tuple(one.sample.name for one in some)
    if len({one.sample.label for one in some}) > 1:
        return Finding(kind, "look", names, f"{how}, but some are called good and others defective")
    if parts == {"train", "test"}:
        return Finding(kind, "look", names, f"{how} in train and in test: figures on test images come out too good")
    if parts == {"train"} and len({groups.get(name, name) for name in names}) == 1:
        return Finding(kind, "note", names, f"{how}, and of one group: they are fitted or held out together")
    if parts == {"train"}:
        why = "else one may be fitted and the other calibrated on, which makes the threshold too low"
        return Finding(kind, "look", names, f"{how}: keep one, {why}")
    return Finding(kind, "note", names, f"{how}: they count as several in every figure")


def outlier_limit(scores: Iterable[float]) -> float:
    """The leave-one-out score above which a good image is far stranger than the others, by their logarithms."""
    logs = [math.log(max(score, _TINY)) for score in scores]
    return math.exp(tukey_fences(logs, _LEAST_ODD, _FAR_ODD)[1])


def outlier_findings(scores: Mapping[str, float]) -> list[Finding]:
    """Good images, by name, that are far stranger than the others, the strangest first."""
    if not scores:
        return []
    limit = outlier_limit(scores.values())
    return [
        Finding("odd one", "look", (name,), f"oddness {scores[name]:.3g}, up to {limit:.3g} is usual here: a defect?")
        for name in sorted(scores, key=lambda name: -scores[name])
        if scores[name] > limit
    ]


def quality_findings(images: Sequence[CheckedImage]) -> list[Finding]:
    """Good images that are far less sharp, noisier, darker, brighter or more clipped than the others."""
    known = {one.sample.name: one.quality for one in images if one.quality is not None and not one.sample.label}
    if len(known) < MIN_TO_COMPARE:
        return []
    return [
        *_outliers("blur", ("less sharp", "sharper or noisier"), known, "sharpness", _LEAST_SHARPNESS),
        *_outliers("exposure", ("darker", "brighter"), known, "brightness", _LEAST_BRIGHTNESS),
        *_outliers("exposure", ("", "more clipped to black or white"), known, "clipped", _LEAST_CLIPPED),
    ]


def _outliers(
    kind: str, words: tuple[str, str], known: Mapping[str, Quality], measure: str, least: float
) -> list[Finding]:
    values = {name: float(getattr(quality, measure)) for name, quality in known.items()}
    low, high = tukey_fences(list(values.values()), least)
    typical = sorted(values.values())[len(values) // 2]
    return [
        Finding(
            kind,
            "look",
            (name,),
            f"far {words[value > high]} than the others: {measure} {value:.2f}, typical is {typical:.2f}",
        )
        for name, value in values.items()
        if (value < low and words[0]) or value > high
    ]


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """What must be looked at first, then by kind."""
    return tuple(sorted(findings, key=lambda one: (one.severity == "note", KINDS.index(one.kind))))


def count_findings(findings: Sequence[Finding]) -> dict[str, int]:
    """How many findings of each kind must be looked at."""
    found = Counter(finding.kind for finding in findings if finding.severity == "look")
    return {kind: found[kind] for kind in KINDS if found[kind]}
