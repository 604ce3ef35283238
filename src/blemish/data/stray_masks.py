"""Masks among photos, which would be fitted or judged as if they were some: told by their names and what is drawn."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from blemish.data.deep import SIXTEEN_BIT_MODES
from blemish.data.image_files import name_below
from blemish.data.masks import open_mask, refuse_photo
from blemish.errors import DataError

_WORDS = "masks?|labels?|gt|ground[ _-]?truth|annotations?|seg|segmentation"
_FOLDER = re.compile(rf"(?:.+[ _.-])?(?:{_WORDS})(?:[ _.-].+)?", re.IGNORECASE)
_NAMED = re.compile(rf"^(.+?)[ _.-](?:{_WORDS})(?:[ _.-]?\d+)?$|^(?:{_WORDS})[ _.-](.+)$", re.IGNORECASE)
_DRAWN_AS = (".png", ".bmp", ".tif", ".tiff")
_MOST_VALUES = 16
"""Of a drawing that is stored as it was drawn; the plainest photo has more, by its noise."""
_LOOKED_AT = 3
"""So many are opened: photos may have such names, too; and so many others, which may be as black and white."""


def refuse_masks_among(paths: Sequence[Path], folders: Iterable[Path], root: Path) -> None:
    """Refuse a drawing that is named like a mask of another file or as one beside it, or lies in a folder of masks.

    Raises:
        DataError: there is one.
    """
    if found := masks_among(paths, folders):
        raise DataError(
            f"{name_below(found[0], root)}: a mask among the photos of {root}, which would count as one; move the "
            "masks of test images to ground_truth/<type>, and others out of the folder; where it is a photo, rename "
            "it or its folder"
        )


def masks_among(paths: Sequence[Path], folders: Iterable[Path]) -> list[Path]:
    """The files that are named like masks, the first that is a drawing first; none where the first few are none.

    None either where the other photos look like drawings: of boards, print or outlines in black and white. `paths` are
    in `folders` of photos or below.
    """
    suspects = list(_suspects(paths, set(folders)))
    drawn = next((path for path in suspects[:_LOOKED_AT] if _is_drawn(path)), None)
    if drawn is None:
        return []
    named_so = set(suspects)
    others = list(islice((path for path in paths if path not in named_so), _LOOKED_AT))
    if others and all(map(_is_drawn, others)):
        return []
    return [drawn, *(path for path in suspects if path != drawn)]


def _suspects(paths: Sequence[Path], folders: set[Path]) -> Iterator[Path]:
    stems = Counter((path.parent, path.stem) for path in paths)
    of_masks = {folder for folder in {path.parent for path in paths} if _is_of_masks(folder, folders)}
    for path in paths:
        match = _NAMED.match(path.stem)
        is_named = match is not None and (path.parent, match[1] or match[2]) in stems
        is_twin = stems[path.parent, path.stem] > 1 and path.suffix.lower() in _DRAWN_AS  # 007.png beside 007.jpg
        if path.parent in of_masks or is_named or is_twin:
            yield path


def _is_of_masks(folder: Path, folders: set[Path]) -> bool:
    below = [one for one in (folder, *folder.parents) if one not in folders and folders.intersection(one.parents)]
    return any(_FOLDER.fullmatch(one.name) for one in below)


def _is_drawn(path: Path) -> bool:
    try:
        mask = open_mask(path)
        values = np.asarray(mask if mask.mode in ("F", *SIXTEEN_BIT_MODES) else mask.convert("L"))
        _, counts = np.unique(values, return_counts=True)
        if not mask.info["lossy"]:
            return len(counts) <= _MOST_VALUES
        refuse_photo(mask, values, str(path))
        return bool(counts.max() >= values.size / 2)  # also black print on white paper is dark and bright
    except DataError:
        return False
