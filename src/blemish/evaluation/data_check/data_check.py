"""`blemish data check`: what to look at in a set of images before a model is trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.data.duplicates import Pair, clusters, near_duplicates
from blemish.data.folder import GOOD, PARTS, Folder, Sample, read_folder
from blemish.data.image_files import NOT_UTF8, image_files, told_name, unread_images
from blemish.data.images import PixelPolicy, read_original
from blemish.data.layouts import SUFFIXES, is_passed_over
from blemish.data.notes import name_note, text_note
from blemish.data.outputs import check_report_folder
from blemish.data.progress import Progress, Report, quiet
from blemish.data.split import groups_of
from blemish.errors import DataError, plural
from blemish.evaluation.data_check.check_page import Thumbnail, render
from blemish.evaluation.data_check.content import Content, ImageRow
from blemish.evaluation.data_check.findings import (
    MIN_TO_COMPARE,
    CheckedImage,
    Finding,
    channel_findings,
    count_findings,
    depth_findings,
    duplicate_findings,
    format_findings,
    lossy_findings,
    outlier_findings,
    outlier_limit,
    outline_findings,
    part_of,
    quality_findings,
    size_findings,
    sort_findings,
    still_findings,
    turned_findings,
)
from blemish.evaluation.data_check.leave_one_out import FeatureExtractor, Grids, leave_one_out
from blemish.evaluation.data_check.look import confirm_pairs, look_at_all, reason
from blemish.evaluation.report.files import to_json, write_report
from blemish.inference.overlay import overlay
from blemish.inference.score import resize_map
from blemish.models import DETECTORS
from blemish.models.encoders import EncoderSettings
from blemish.settings import DataSettings, RunSettings, validate
from blemish.training.policy import resolve_policy

RESULTS, REPORT = "check.json", "check.html"
SHOWN, MAX_SHOWN = 9, 240
"""So many of the strangest good images that are not flagged are on the page; and so many images in all."""
THUMBNAIL_PX, STRANGE_PX, COMPARED_PX = 320, 640, 1024
"""Longer side of the pictures, which can be enlarged; of those with a heat map beside them; of near duplicates, which
a person must tell apart."""
MAX_COMPARED = 60
"""So many near duplicates are shown at that size, which keeps the page below some 10 MB."""

_HARMLESS = frozenset({".txt", ".md", ".json", ".csv", ".toml", ".yaml", ".yml", ".xml", ".html", ""})


@final
@dataclass(frozen=True)
class DataCheck:
    """What `check_data` found. `oddness` has a score for each good image that could be judged, the strangest first."""

    root: Path
    policy: PixelPolicy
    findings: tuple[Finding, ...]
    images: tuple[CheckedImage, ...]
    oddness: dict[str, float]
    maps: "Maps"

    @property
    def must_look(self) -> bool:
        """Whether something must be looked at."""
        return any(finding.severity == "look" for finding in self.findings)


@final
@dataclass(frozen=True)
class Maps:
    """Where the good images are strange."""

    extractor: FeatureExtractor
    odd: NDArray[np.float64] | None  # (n, places)
    rows: dict[str, int]

    def of(self, name: str) -> Any:
        """The map `(h, w)` of one image, at the size the network sees; None where it was not judged."""
        return None if self.odd is None or name not in self.rows else self.extractor.to_map(self.odd[self.rows[name]])


def check_data(root: Path, settings: RunSettings, report: Report = quiet) -> DataCheck:
    """Look at every image below `root`, good and defective, and at the other files there.

    Sizes, channels and the region of interest are those that training with `settings` would take, but that it always
    looks as with `data.speed=fast`: what is odd among whole photos shows at that size.

    Raises:
        DataError: there are no images, or none of the good ones can be read.
        SettingsError: a size the encoder cannot take (multiples of its strides, 16 by default), or a region of interest
            without a pixel.
    """
    folder, findings = _folder(Path(root), settings.data)
    samples = [*folder.train, *folder.test]
    headed = [sample for sample in samples if not _refused(sample, settings, findings)]
    quick = settings.data.model_copy(update={"speed": "fast"})
    policy = resolve_policy(_to_fit(folder.root, headed), settings.model_copy(update={"data": quick}))
    extractor = FeatureExtractor(policy, _encoder(settings))
    images: list[CheckedImage] = []
    grids: dict[str, Grids] = {}
    for sample, (looked, found) in zip(headed, look_at_all(headed, extractor, report), strict=True):
        findings += found
        if looked is not None:
            images.append(looked.image)
            if looked.grids is not None:
                grids[sample.name] = looked.grids
    alike = near_duplicates(np.stack([one.fingerprint for one in images])) if images else []
    pairs = confirm_pairs(alike, images, policy, report)
    groups = _groups(images, folder, settings)
    together = clusters(len(images), [*pairs, *_pairs_of(images, groups)])
    names = (one.sample.name for one in images)
    maps, notes = _leave_one_out(extractor, grids, dict(zip(names, together, strict=True)), report)
    oddness = _rank_scores(maps)
    findings += [
        *notes,
        *size_findings(images, policy.fit),
        *channel_findings(images),
        *format_findings(images),
        *depth_findings(images, policy.white_level),
        *turned_findings(images),
        *lossy_findings(images),
        *outline_findings(images),
        *duplicate_findings(images, pairs, groups),
        *still_findings(images, groups),
        *outlier_findings(oddness),
        *quality_findings(images),
    ]
    return DataCheck(folder.root, policy, sort_findings(findings), tuple(images), oddness, maps)


def _encoder(settings: RunSettings) -> EncoderSettings:
    """The encoder that was asked for by `model.encoder`; the plain one where the detector's default stands."""
    default = DETECTORS[settings.detector].Settings.model_fields.get("encoder")
    asked = {name: settings.model[name] for name in EncoderSettings.model_fields if name in settings.model}
    if default is not None and asked.get("encoder") == default.default:
        del asked["encoder"]
    return validate(EncoderSettings, asked, prefix="model.")


def _folder(root: Path, data: DataSettings) -> tuple[Folder, list[Finding]]:
    """The images, and what is wrong with how they lie there."""
    findings = []
    try:
        folder = read_folder(root, data.mask_value, data.ignore_value)
    except DataError as error:
        train = root / "train" / GOOD
        good = image_files(train, unnamed=[]) if train.is_dir() else []
        if not good:
            raise
        folder = Folder(root, tuple(Sample(path, path.relative_to(root).as_posix()) for path in good))
        findings.append(Finding("layout", "look", (), f"{error}; until then only train/good is checked"))
    try:
        folder.check_good_masks(data.mask_value, data.ignore_value)
    except DataError as error:
        findings.append(Finding("mask", "look", (), str(error)))
    unnamed = dict.fromkeys(name for part in PARTS for name in folder.left_out(part, skip_bad=True))
    findings += [Finding("unreadable", "look", (name,), NOT_UTF8) for name in unnamed]
    findings += [Finding("odd file", "look", (), note) for note in folder.layout_notes]
    used = {*folder.good_masks, *folder.stray_masks} | {*folder.unnamed_train, *folder.unnamed_test}
    used |= {sample.path for sample in (*folder.train, *folder.test)}
    used |= {path for sample in folder.test for path in sample.mask_paths}
    if not any(finding.kind == "layout" for finding in findings):
        place = "below the flat folder, which is not read; move it up if it belongs to the others"
        findings += _odd_files(root, used, place if folder.is_flat else "in no folder of the data set, so not read")
        if told := text_note(folder.train, data.groups):
            findings.append(Finding("odd file", "note", (), told))
        if told := name_note(folder.train):
            findings.append(Finding("odd file", "look", (), told))
    return folder, findings


def _odd_files(root: Path, used: set[Path], place: str) -> list[Finding]:
    """Files that nothing reads; `place` says where images among them lie."""
    findings = []
    for path in sorted(path for path in root.rglob("*") if path.is_file() and path not in used):
        name = told_name(path.relative_to(root))
        if any(map(is_passed_over, path.relative_to(root).parts)):
            continue
        if path.suffix.lower() in SUFFIXES:
            findings.append(Finding("odd file", "look", (name,), f"an image {place}"))
        elif path.suffix.lower() not in _HARMLESS:
            findings.append(Finding("odd file", "note", (name,), "not a kind of image that is read; passed over"))
    for path in unread_images(root):
        if path.is_symlink() and path.is_dir():
            name = told_name(path.relative_to(root))
            findings.append(Finding("odd file", "look", (name,), "a link to a folder, which is not followed"))
    return findings


def _refused(sample: Sample, settings: RunSettings, findings: list[Finding]) -> bool:
    try:
        sample.size_px(settings.data.max_image_px)
        return False
    except DataError as error:
        findings.append(Finding("unreadable", "look", (sample.name,), reason(error)))
        return True


def _to_fit(root: Path, samples: Sequence[Sample]) -> list[Sample]:
    """The good images whose size decides; those to train on, where there are any."""
    good = [sample for sample in samples if not sample.label]
    if not good:
        raise DataError(f"{root}: none of its good images can be read")
    return [sample for sample in good if part_of(sample) == "train"] or good


def _groups(images: Sequence[CheckedImage], folder: Folder, settings: RunSettings) -> dict[str, str]:
    """Which of the images to train on belong together, by name, where the settings say so."""
    samples = [one.sample for one in images if one.sample in folder.train]
    found = groups_of(samples, folder, settings.data.groups)
    return {} if found is None else dict(zip((sample.name for sample in samples), found, strict=True))


def _pairs_of(images: Sequence[CheckedImage], groups: dict[str, str]) -> list[Pair]:
    first: dict[str, int] = {}
    pairs = []
    for place, one in enumerate(images):
        group = groups.get(one.sample.name)
        if group is not None and first.setdefault(group, place) != place:
            pairs.append(Pair(first[group], place, 1.0, ""))
    return pairs


def _leave_one_out(
    extractor: FeatureExtractor, grids: dict[str, Grids], groups: dict[str, int], report: Report
) -> tuple[Maps, list[Finding]]:
    """Each good image judged by the others; near duplicates, and images of a group, do not judge each other."""
    names = list(grids)
    own_groups = [groups[name] for name in names]
    if len(set(own_groups)) < MIN_TO_COMPARE:
        found = plural(len(set(own_groups)), "good image")
        but = ", copies and images of one group counted once" if len(names) > len(set(own_groups)) else ""
        message = f"{found}{but}: too few to say which is strange; {MIN_TO_COMPARE} are needed"
        return Maps(extractor, None, {}), [Finding("few", "note", (), message)]
    told = [grids[name] for name in names]
    odd = leave_one_out(extractor, told, own_groups, lambda done, of: report(Progress("comparing", done, of)))
    return Maps(extractor, odd, {name: row for row, name in enumerate(names)}), []


def _rank_scores(maps: Maps) -> dict[str, float]:
    if maps.odd is None:
        return {}
    scores = maps.odd.max(axis=1)
    return {name: float(scores[row]) for name, row in sorted(maps.rows.items(), key=lambda pair: -scores[pair[1]])}


def to_content(checked: DataCheck, settings: RunSettings) -> Content:
    """The content of `check.json`."""
    return {
        "root": checked.root.resolve().name,
        "must_look": checked.must_look,
        "to_look_at": count_findings(checked.findings),
        "findings": [
            {"kind": one.kind, "severity": one.severity, "paths": list(one.paths), "message": one.message}
            for one in checked.findings
        ],
        "oddness": checked.oddness,
        "odd_limit": outlier_limit(checked.oddness.values()) if checked.oddness else None,
        "images": [_row(one, checked) for one in checked.images],
        "size_px": list(checked.policy.size_px),
        "channels": checked.policy.channels,
        "has_roi": checked.policy.roi is not None,
        "settings": settings.data.model_dump(mode="json"),
        "versions": {"blemish": version("blemish"), "numpy": np.__version__},
    }


def _row(one: CheckedImage, checked: DataCheck) -> ImageRow:
    quality = one.quality
    return {
        "path": one.sample.name,
        "defect_type": one.sample.defect_type,
        "size_px": list(one.facts.size_px),
        "kind": one.facts.kind,
        "oddness": checked.oddness.get(one.sample.name),
        "sharpness": None if quality is None else quality.sharpness,
        "brightness": None if quality is None else quality.brightness,
        "clipped": None if quality is None else quality.clipped,
    }


def write_check(checked: DataCheck, settings: RunSettings, out: Path) -> tuple[Path, Path]:
    """`check.json` and `check.html` in `out`; both or neither.

    Raises:
        DataError: `out` cannot be written.
    """
    check_report_folder(out, RESULTS, REPORT)
    content = to_content(checked, settings)
    write_report(out, {RESULTS: to_json(content), REPORT: render(content, thumbnails(checked))})
    return out / RESULTS, out / REPORT


def thumbnails(checked: DataCheck) -> dict[str, Thumbnail]:
    """Small pictures of the images that findings name, and of the strangest others."""
    odd = [finding.paths[0] for finding in checked.findings if finding.kind == "odd one"]
    warm = [*odd, *[name for name in checked.oddness if name not in odd][:SHOWN]]
    named = [path for finding in checked.findings for path in finding.paths]
    limit = outlier_limit(checked.oddness.values()) if checked.oddness else 1.0
    compared = [path for finding in checked.findings if finding.kind == "near duplicate" for path in finding.paths]
    sides_px = dict.fromkeys(warm, STRANGE_PX) | dict.fromkeys(compared[:MAX_COMPARED], COMPARED_PX)
    by_name = {one.sample.name: one.sample.path for one in checked.images}
    names = [name for name in dict.fromkeys([*warm, *named]) if name in by_name]
    return {
        name: _thumbnail(by_name[name], checked, sides_px.get(name, THUMBNAIL_PX), limit if name in warm else None)
        for name in names[:MAX_SHOWN]
    }


def _thumbnail(path: Path, checked: DataCheck, side_px: int, limit: float | None) -> Thumbnail:
    policy = checked.policy
    original = read_original(path, policy.max_image_px, policy.white_level)
    original.thumbnail((side_px, side_px))
    small = np.asarray(original)
    seen = None if limit is None else checked.maps.of(path.relative_to(checked.root).as_posix())
    where = None if seen is None else policy.whole_map(seen)
    return Thumbnail(small, None if where is None else overlay(small, resize_map(where, small.shape[:2]), limit or 1.0))
