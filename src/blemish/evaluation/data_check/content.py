"""The content of `check.json`, typed: plain values, as the file has them."""

from typing import Any, TypedDict

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
