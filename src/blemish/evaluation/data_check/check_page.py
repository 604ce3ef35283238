"""The page of a data check: what must be looked at, with pictures of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from blemish.evaluation.report.html import page_environment
from blemish.evaluation.report.pictures import photo
from blemish.inference.overlay import Rgb

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

MAX_CARDS = 8
"""So many findings that say one thing are shown with pictures; the others are listed by name."""


@final
@dataclass(frozen=True)
class Fold:
    """Findings that say one thing: what all of them say, and of each what it says beside that."""

    severity: str
    message: str
    findings: tuple[Mapping[str, Any], ...]
    own: tuple[str, ...]


def fold(findings: Sequence[Mapping[str, Any]]) -> list[Fold]:
    """Findings of one kind, put together where their messages differ in nothing but numbers and names.

    >>> found = [{"severity": "look", "message": f"oddness {n}: a defect?", "paths": [f"{n}.png"]} for n in (2, 3)]
    >>> [(one.message, one.own) for one in fold(found)]
    [('a defect?', ('oddness 2', 'oddness 3'))]
    """
    groups: dict[tuple[str, str], list[tuple[Mapping[str, Any], str, str]]] = {}
    for one in findings:
        head, _, tail = str(one["message"]).partition(": ")
        own, shared = (head, tail) if tail and re.search(r"\d", head) else (tail, head)
        groups.setdefault((one["severity"], re.sub(r"\d+(\.\d+)?", "#", shared)), []).append((one, own, shared))
    folds = []
    for (severity, _), members in groups.items():
        message = members[0][2] if len({shared for _, _, shared in members}) == 1 else ""
        owns = tuple(text if message else str(one["message"]) for one, text, _ in members)
        folds.append(Fold(severity, message, tuple(one for one, _, _ in members), owns))
    return folds


def shown_paths(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The images that the page shows for findings of any kinds: not those that are only listed."""
    kinds = dict.fromkeys(one["kind"] for one in findings)
    folds = [part for kind in kinds for part in fold([one for one in findings if one["kind"] == kind])]
    return [path for part in folds for one in part.findings[:MAX_CARDS] for path in one["paths"][:MAX_CARDS]]


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
    page = page_environment().get_template("check.html.j2")
    text = page.render(
        c=content,
        sentence=verdict(content),
        groups={kind: fold([one for one in findings if one["kind"] == kind]) for kind in kinds},
        titles=TITLES,
        pictures=pictures,
        others=[name for name in content["oddness"] if len(pictures.get(name, [])) > 1 and name not in flagged],
        most=MAX_CARDS,
    )
    return text.rstrip() + "\n"


def verdict(content: Content) -> str:
    """What there is to say, in a sentence; the kinds follow with their counts.

    >>> verdict({"to_look_at": {}, "images": [1, 2]})
    'Nothing stands out in 2 images.'
    """
    looks, images = sum(content["to_look_at"].values()), len(content["images"])
    if not looks:
        return f"Nothing stands out in {images} images."
    return f"{looks} {'thing' if looks == 1 else 'things'} to look at in {images} images:"
