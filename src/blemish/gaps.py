"""Why a measure could not be computed."""

from collections.abc import Iterator, Mapping
from typing import Any

_GROUPS = ("image", "pixel", "at_threshold", "intervals")


def gaps(results: Mapping[str, Any]) -> dict[str, str]:
    """A sentence for each None among the measures, by its name.

    >>> count = {"good": 0, "defective": 5, "with_mask": 5}
    >>> empty = dict.fromkeys(("pixel", "at_threshold", "intervals"), {})
    >>> gaps({"count": count, "image": {"ok_rate": None}, "by_type": {}, **empty})["image.ok_rate"]
    'there are no good test images'
    """
    notes = {"images": "f1 is null for images without a known defective pixel, good images among them"}
    sections = {"": results, **{f"by_type.{name}.": part for name, part in results["by_type"].items()}}
    for prefix, section in sections.items():
        lacks = _lacks(section["count"])
        for group in _GROUPS:
            reasons = [reason for what, reason in lacks.items() if (what, group) != ("masks", "image")]
            reason = "; ".join(reasons) or "too few images, or too few pixels, for this measure"
            notes.update({f"{prefix}{path}": reason for path in _nulls(section[group], group)})
    return notes


def _lacks(total: Mapping[str, int]) -> dict[str, str]:
    lacks = {}
    if not total["good"]:
        lacks["good"] = "there are no good test images"
    if not total["defective"]:
        lacks["defective"] = "there are no defective test images: evaluated for false alarms only"
    elif not total["with_mask"]:
        lacks["masks"] = "no defective image has a mask: evaluated by image only"
    return lacks


def _nulls(value: Any, path: str) -> Iterator[str]:
    if value is None:
        yield path
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _nulls(inner, f"{path}.{name}")
