"""The content of `check.json`, typed: plain values, as the file has them."""

from collections.abc import Sequence
from typing import Any, TypedDict

from blemish.data.folder import GOOD
from blemish.errors import plural
from blemish.evaluation.data_check.findings import Severity


class FindingRow(TypedDict):
    """One thing found; see `Finding`."""

    kind: str
    severity: Severity
    paths: list[str]
    message: str


class ImageRow(TypedDict):
    """One image. `oddness` is None where it was not judged, the last three where its aspect is not the others'."""

    path: str
    defect_type: str
    size_px: list[int]
    kind: str
    oddness: float | None
    sharpness: float | None
    brightness: float | None
    clipped: float | None


class Content(TypedDict):
    """The file. `to_look_at` counts the findings that must be looked at, by kind; `oddness` has the strangest first."""

    root: str
    must_look: bool
    to_look_at: dict[str, int]
    findings: list[FindingRow]
    oddness: dict[str, float]
    odd_limit: float | None
    images: list[ImageRow]
    size_px: list[int]
    channels: int
    has_roi: bool
    settings: dict[str, Any]
    versions: dict[str, str]


def coverage(images: Sequence[ImageRow]) -> str:
    """Which of the images were judged for what: defective ones are not compared with good ones.

    >>> rows = [{"defect_type": "good", "oddness": 0.5}] * 3 + [{"defect_type": "bent", "oddness": None}]
    >>> coverage(rows)
    '3 good images were compared with each other for defects, blur and light; 1 defective image was looked at for its
    file, size, mask and copies alone'
    >>> coverage(rows[3:] + [{"defect_type": "good", "oddness": None}])
    '1 good image: too few to compare for defects, blur and light; 1 defective image was looked at for its file, size,
    mask and copies alone'
    """
    good = [one for one in images if one["defect_type"] == GOOD]
    compared = sum(one["oddness"] is not None for one in good)
    parts = [f"{plural(len(good), 'good image')}: too few to compare for defects, blur and light"]
    if compared:
        parts = [f"{plural(compared, 'good image')} were compared with each other for defects, blur and light"]
    if 0 < compared < len(good):
        parts.append(f"{len(good) - compared} of another aspect not")
    if defective := len(images) - len(good):
        were, its = ("was", "its file, size, mask") if defective == 1 else ("were", "their files, sizes, masks")
        parts.append(f"{plural(defective, 'defective image')} {were} looked at for {its} and copies alone")
    return "; ".join(parts)
