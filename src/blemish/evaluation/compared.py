"""At which size maps and masks are compared, which pixels count, and with whose masks besides."""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from blemish.data.folder import Sample
from blemish.data.images import PixelPolicy
from blemish.errors import DataError, plural
from blemish.evaluation.judged import plain_name
from blemish.evaluation.results import Results
from blemish.stats.localisation import at_size

MOST_OTHERS = 16
"""With the masks of so many images each map is compared besides its own."""


def describe_sizes(results: Results) -> str:
    """At which size pixels were compared, in a sentence for the tables; empty where they were not.

    >>> from types import SimpleNamespace as Part
    >>> def sizes(with_mask, **data):
    ...     return describe_sizes(Part(count=Part(with_mask=with_mask), data=Part(**data)))
    >>> sizes(1, compared_px=(64, 64), photo_px=(128, 128))
    "pixels are compared at the model's 64 x 64 (height x width), masks of 128 x 128 reduced: ...full_size=true..."
    >>> sizes(1, compared_px=(128, 96), photo_px=(128, 96), of_other_sizes=3)
    'pixels are compared with masks in full resolution, 128 x 96 (height x width), and 3 images at theirs'
    >>> sizes(0, compared_px=(128, 96), photo_px=(128, 96), of_other_sizes=0)
    ''
    """
    data = results.data
    if not results.count.with_mask or data.compared_px is None or data.photo_px is None:
        return ""
    compared, photo = (" x ".join(map(str, size)) for size in (data.compared_px, data.photo_px))
    if compared == photo:
        others = f", and {plural(data.of_other_sizes, 'image')} at theirs" if data.of_other_sizes else ""
        return f"pixels are compared with masks in full resolution, {compared} (height x width){others}"
    return (
        f"pixels are compared at the model's {compared} (height x width), masks of {photo} reduced: "
        "not the full resolution, which full_size=true takes"
    )


def valid_px(policy: PixelPolicy, size_px: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Which pixels of a map of this height and width lie in the region of interest, (h, w); None: all."""
    if policy.roi is None:
        return None
    return at_size(policy.whole_map(policy.roi), size_px)


def masks_of_some(samples: Sequence[Sample], size_px: tuple[int, int]) -> dict[str, NDArray[np.bool_]]:
    """Masks of up to 16 test images, spread over all of them: what maps of other images are compared with.

    One that cannot be read is left out here; its own image's turn tells of it.
    """
    with_mask = [sample for sample in samples if sample.mask_paths]
    chosen = with_mask[:: max(1, -(-len(with_mask) // MOST_OTHERS))]
    found = {}
    for sample in chosen:
        with suppress(DataError):
            mask = sample.load_mask(size_px)
            if mask is not None and mask.any():
                found[plain_name(sample.name)] = mask
    return found
