"""Do images look like several frames of few parts, each of which a promise would count as a part of its own?"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.data.duplicates import ONE_PART, alike_as_they_are, count_parts, median_likeness, near_duplicates
from blemish.errors import plural

FEW_PARTS_SHARE = 1 / 3
"""From this share of good images with a near duplicate on, they are called frames of few parts. Of six sets of photos
an image in eight has one at most."""

MAX_COMPARED, MAX_TURNED = 4000, 1000
"""So many images, evenly among them, are compared with each other at most; and so many, the first, turned as well."""

ADVICE = "say which images belong together (data.groups), or keep one image of each part, and add images of other parts"


def evenly(count: int) -> list[int]:
    """The places, evenly among so many, of the images that are compared.

    >>> evenly(3)
    [0, 1, 2]
    """
    return sorted({int(place) for place in np.linspace(0, count - 1, min(count, MAX_COMPARED))})


def frames_note(fingerprints: NDArray[np.float32], groups: Sequence[str] | None) -> str:
    """What is said where images, by their fingerprints `(n, side, side)`, look like frames of few parts; else nothing.

    Images of one of the groups, one for each image, may be frames of one part.
    """
    alike, parts = count_parts(alike_as_they_are(fingerprints, groups))
    count, unit = len(fingerprints), "images" if groups is None else "images of different groups"
    if alike >= FEW_PARTS_SHARE * count:
        found = (
            f"{alike} of {count} good {unit} nearly repeat another, as frames of one part do: they look like at "
            f"most {plural(parts, 'part')}"
        )
    elif median_likeness(fingerprints, groups) >= ONE_PART:
        found = f"{count} good {unit} hardly differ but for noise, as frames of a single part do"
    elif (turned := _count_turned(some := fingerprints[:MAX_TURNED], groups)) >= FEW_PARTS_SHARE * len(some):
        found = f"{turned} of {len(some)} good {unit} nearly repeat another one turned or mirrored, as made copies do"
    else:
        return ""
    return (
        f"{found}. The promise on false alarms counts each image as a part of its own, so a new part may be flagged "
        f"far more often; {ADVICE}"
    )


def _count_turned(fingerprints: NDArray[np.float32], groups: Sequence[str] | None) -> int:
    """How many images have a near duplicate of another group, turned, mirrored or as it is."""
    pairs = [(pair.first, pair.second) for pair in near_duplicates(fingerprints)]
    return len({one for pair in pairs for one in pair if groups is None or groups[pair[0]] != groups[pair[1]]})
