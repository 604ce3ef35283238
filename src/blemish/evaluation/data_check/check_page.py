"""The page of a data check: what must be looked at, with pictures of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from blemish.errors import plural
from blemish.evaluation.data_check.content import Content, coverage
from blemish.evaluation.report.html import page_environment
from blemish.evaluation.report.pictures import photo
from blemish.inference.overlay import Rgb

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
        "Far less or more sharp than the other good images, at the size they are seen here.",
    ),
    "exposure": ("Badly lit", "Far darker or brighter than the other good images, or clipped to black or white."),
    "duplicate": ("The same pixels twice", "Copies on two sides of a split make thresholds and figures too good."),
    "near duplicate": (
        "Nearly the same",
        "Copies saved again, or the same part photographed again; parts without texture or noise look like that, too.",
    ),
    "size": ("Sizes", "Images of another size than most are resized; of another aspect, refused."),
    "channels": ("Grey and colour", "Images of another kind than most."),
    "odd file": ("Other files and folders", "Nothing reads them."),
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
    flagged = {finding["paths"][0] for finding in findings if finding["kind"] == "odd one"}
    kinds = list(dict.fromkeys(finding["kind"] for finding in findings))
    pictures = {
        name: [photo(one.image), *([] if one.heat is None else [photo(one.heat)])] for name, one in thumbnails.items()
    }
    template = page_environment().get_template("check.html.j2")
    return template.render(
        c=content,
        sentence=verdict(content),
        coverage=coverage(content["images"]),
        groups={kind: [one for one in findings if one["kind"] == kind] for kind in kinds},
        titles=TITLES,
        pictures=pictures,
        others=[name for name in content["oddness"] if len(pictures.get(name, [])) > 1 and name not in flagged],
        most=_MOST_PICTURES,
    )


def verdict(content: Content) -> str:
    """What there is to say, in a sentence; the kinds follow with their counts.

    >>> verdict({"to_look_at": {}}), verdict({"to_look_at": {"blur": 1, "mask": 1}})
    ('Nothing stands out.', '2 things to look at:')
    """
    looks = sum(content["to_look_at"].values())
    return f"{plural(looks, 'thing')} to look at:" if looks else "Nothing stands out."
