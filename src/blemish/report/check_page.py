"""The page of a data check: what must be looked at, with pictures of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from blemish.report.html import pages
from blemish.report.overlay import Rgb
from blemish.report.pictures import photo

Content = Mapping[str, Any]
"""The content of check.json."""

TITLES = {
    "layout": ("How the folders lie", "An error that training would stop at."),
    "unreadable": ("Unreadable images", "Training stops at them, or leaves them out with --skip-bad."),
    "mask": ("Masks", "The ground truth of a defective image cannot be used."),
    "odd one": (
        "Good images that look like a defect",
        "Each good image is judged by the others. A defect among the images fitted teaches the model that it is good.",
    ),
    "blur": (
        "Out of focus, or noisy",
        "Far less or more sharp than the other good images, at the size the network sees.",
    ),
    "exposure": ("Badly lit", "Far darker or brighter than the other good images, or clipped to black or white."),
    "duplicate": ("The same pixels twice", "Copies on two sides of a split make thresholds and figures too good."),
    "near duplicate": ("Nearly the same", "Copies saved again, or the same part photographed again."),
    "size": ("Sizes", "Images of another size than most are resized; of another aspect, refused."),
    "channels": ("Grey and colour", "Images of another kind than most."),
    "odd file": ("Other files", "Nothing reads them."),
    "format": ("Unusual files", "They are read; it is good to know."),
    "few": ("Few images", ""),
}
"""A heading and a sentence for each kind of finding."""

_MOST_PICTURES = 24


@final
@dataclass(frozen=True)
class Thumbnail:
    """A small picture of an image, and where it is strange, if it was judged."""

    image: Rgb
    heat: Rgb | None


def render(content: Content, thumbnails: Mapping[str, Thumbnail]) -> str:
    """The page, from the content of `check.json` and small pictures by name."""
    findings = content["findings"]
    kinds = list(dict.fromkeys(finding["kind"] for finding in findings))
    pictures = {
        name: [photo(one.image), *([] if one.heat is None else [photo(one.heat)])] for name, one in thumbnails.items()
    }
    page = pages().get_template("check.html.j2")
    text = page.render(
        c=content,
        sentences=verdict(content),
        groups={kind: [one for one in findings if one["kind"] == kind] for kind in kinds},
        titles=TITLES,
        pictures=pictures,
        strangest=[name for name in content["oddness"] if name in pictures and len(pictures[name]) > 1],
        most=_MOST_PICTURES,
    )
    return text.rstrip() + "\n"


def verdict(content: Content) -> list[str]:
    """What must be looked at, in plain sentences.

    >>> verdict({"findings": [], "to_look_at": {}, "images": [1, 2]})
    ['Nothing stands out in 2 images.']
    """
    if not content["to_look_at"]:
        return [f"Nothing stands out in {len(content['images'])} images."]
    parts = [f"{count} x {TITLES[kind][0].lower()}" for kind, count in content["to_look_at"].items()]
    return [f"To be looked at in {len(content['images'])} images: {', '.join(parts)}."]
