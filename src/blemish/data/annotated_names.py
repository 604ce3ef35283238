"""Which image of a folder a name in annotations means."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from blemish.data.annotation_shapes import Annotations, Shape
from blemish.data.layouts import composed
from blemish.errors import DataError, join_names


def match_images(annotations: Annotations, images: Mapping[str, Path], where: Path) -> dict[str, Sequence[Shape]]:
    """The shapes of each image, by its path below the folder; names match whole, by their end, or without folders.

    Images that the annotations say nothing of are left out.

    Raises:
        DataError: an annotated image that is not there, or that several have the name of.
    """
    by_end: dict[str, list[str]] = {}
    by_loose_end: dict[str, list[str]] = {}
    for name in images:
        plain = PurePosixPath(composed(name))
        for end in {str(plain), plain.name}:
            by_end.setdefault(end, []).append(name)
        # YOLO's, and Label Studio's of an upload
        for end in {str(plain.with_suffix("")), plain.stem, plain.name.replace(" ", "_")}:
            by_loose_end.setdefault(end, []).append(name)
    found: dict[str, Sequence[Shape]] = {}
    for given, shapes in annotations.items():
        fits = next(filter(None, (_fitting(one, by_end, by_loose_end) for one in _spellings(given))), [])
        if len(fits) != 1:
            what = "no such image" if not fits else f"several images of that name: {join_names(fits)}"
            raise DataError(f"{where}: {given}: {what} in the folder of images")
        if fits[0] in found:
            raise DataError(f"{where}: {fits[0]} is annotated twice, the second time as {given}")
        found[fits[0]] = shapes
    return found


def _fitting(name: str, by_end: Mapping[str, list[str]], by_loose_end: Mapping[str, list[str]]) -> list[str]:
    parts = name.split("/")
    ends = ("/".join(parts[place:]) for place in range(len(parts)))  # the longest first
    if fits := next((by_end[end] for end in ends if end in by_end), []):
        return fits
    last = parts[-1]
    upload = last[9:] if len(last) > 9 and last[8] == "-" else last  # Label Studio puts eight digits and a dash before
    return by_end.get(upload) or next(
        (by_loose_end[end] for end in (name, last, upload, PurePosixPath(last).stem) if end in by_loose_end), []
    )


def _spellings(given: str) -> Sequence[str]:
    """What a tool's name may stand for: itself, or an address with a query, its letters as percent signs.

    >>> _spellings("/data/local-files/?d=line%203/1.png")[-1]
    'line 3/1.png'
    """
    whole = given.replace("\\", "/")
    path, _, query = whole.partition("?")
    named = query.removeprefix("d=") if query.startswith("d=") else path  # Label Studio's local files
    readings = [whole, named, unquote(named)]
    return list(dict.fromkeys(composed(one.replace("\\", "/")) for one in readings))
