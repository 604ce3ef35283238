"""Ground-truth masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.decode import open_image, read_header
from blemish.data.deep import SIXTEEN_BIT_MODES, depth_of
from blemish.errors import DataError
from blemish.settings import LARGEST_IMAGE_PX, MaskValue

ASPECT_TOLERANCE = 0.05
"""How far an image's aspect may be from the wanted one, as a share of it, before that is an error."""


MAX_MARKED, MAX_MARKED_WITH_BORDER, MAX_BORDER = 0.9, 0.5, 0.8
"""A mask that marks a larger share of the image, or this share and most of the image's border, is taken for wrong."""

MAX_COLOURS = 64
"""A mask of colour has most of its marked pixels in so many of them."""

LOSSY_TOLERANCE = 32
"""Of 255; how far values in a JPEG may be from what was drawn."""

MAX_FAINT_VALUES, MAX_FAINT_SHARE = 16, 1 / 3
"""A white mask has at most so many darker values, or so many darker pixels for each of at least half the brightness."""


def load_mask(
    paths: Path | Sequence[Path],
    size_px: tuple[int, int],
    image_size_px: tuple[int, int] | None = None,
    mask_value: MaskValue = None,
) -> NDArray[np.bool_]:
    """A ground-truth mask `(h, w)`, True where defective, resized by nearest neighbour; several are united.

    Defective is what has the `mask_value`; without one, every visible value above 0, palettes looked up. A JPEG, which
    changes values, is taken to be drawn in white: above half of its highest value, or within 32 of the `mask_value`.

    Raises:
        DataError: unreadable, of another size than its image (`image_size_px`, height and width), without a single
            defective pixel although it stands under a defect type, or, without a `mask_value`, nearly all defective or
            with blurred edges as large as what is marked.
    """
    paths = [paths] if isinstance(paths, Path) else list(paths)
    full = np.logical_or.reduce([_marked(path, image_size_px, mask_value) for path in paths])
    if not full.any():
        wanted = "" if mask_value is None else f"; no pixel is {mask_value} (data.mask_value)"
        raise DataError(
            f"{paths[0]}: an empty mask under a defect type{wanted}; mark its defective pixels or move the image to "
            "good"
        )
    if mask_value is None:
        _refuse_nearly_all(full, paths[0])
    resized = Image.fromarray(np.uint8(full) * 255).resize((size_px[1], size_px[0]), Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def refuse_marks(path: Path, mask_value: MaskValue = None) -> None:
    """Refuse a good image's mask that marks anything.

    Raises:
        DataError: it does, or cannot be read.
    """
    if count := int(_marked(path, None, mask_value).sum()):
        raise DataError(f"{path}: marks {count} pixels of a good image; move the image to its defect type's folder")


def _marked(path: Path, image_size_px: tuple[int, int] | None, mask_value: MaskValue) -> NDArray[np.bool_]:
    if (pages := read_header(path).pages) > 1:
        raise DataError(f"{path}: a mask of {pages} pages or frames; save each defect as a mask of its own, _1, _2 ...")
    mask = open_image(path, LARGEST_IMAGE_PX, is_drawn=True)
    size_px = (mask.height, mask.width)
    if image_size_px is not None and size_px != image_size_px:
        turned = "; was it drawn before the photo was turned (EXIF)?" if size_px == image_size_px[::-1] else ""
        raise DataError(
            f"{path}: mask of {mask.height} x {mask.width}, its image is {image_size_px[0]} x {image_size_px[1]} "
            f"(height x width); a mask must have its image's size{turned}"
        )
    return np.asarray(_defective(mask, mask_value, path), np.bool_)


def _defective(mask: Image.Image, mask_value: MaskValue, path: Path) -> Any:
    is_lossy = mask.format in ("JPEG", "MPO") or mask.info.get("compression") == "jpeg"
    if mask_value is not None:
        is_coloured = isinstance(mask_value, tuple)
        values = np.asarray(mask.convert("RGB" if is_coloured else "L") if is_coloured or mask.mode == "1" else mask)
        if values.ndim == 3:
            values = values[:, :, : 1 if mask.mode == "LA" else 3]
        if mask.mode == "1" and mask_value == 1:  # which Pillow calls 255
            mask_value = 255
        equal = np.abs(values.astype(np.int64) - mask_value) <= LOSSY_TOLERANCE if is_lossy else values == mask_value
        return equal if equal.ndim == 2 else equal.all(axis=2)
    if mask.mode in ("1", "L", "F", *SIXTEEN_BIT_MODES) and not mask.has_transparency_data:
        values, depth = np.asarray(mask), depth_of(mask)
        if depth is not None and depth.is_min_white:
            values = depth.white - values
        marked = values > 0
    else:
        colours = np.asarray(mask.convert("RGBA"))
        values = colours[:, :, :3].max(axis=2)
        marked = (values > 0) & (colours[:, :, 3] > 0)
        _refuse_picture(colours[marked], path)
    if is_lossy:
        return values > values.max() / 2
    _refuse_blurred(values[marked], path)
    return marked


def _refuse_blurred(marked: NDArray[Any], path: Path) -> None:
    """Refuse marked values `(n,)` that are white with a wide dark rim, as JPEG and smoothing leave it."""
    if (
        not marked.size or marked.dtype == np.bool_ or marked.max() in range(2, 128)
    ):  # labels, 1 for each defect or type
        return
    faint = marked[marked <= marked.max() / 2]
    if len(np.unique(faint)) > MAX_FAINT_VALUES and len(faint) > MAX_FAINT_SHARE * (len(marked) - len(faint)):
        raise DataError(
            f"{path}: {len(marked) - len(faint)} pixels are bright and {len(faint)} are faint, of "
            f"{len(np.unique(faint))} values, as JPEG and smoothing leave them around a drawing; save the mask in two "
            "values, or say which means defective: data.mask_value (blemish evaluate: --set mask_value=...)"
        )


def _refuse_picture(colours: NDArray[np.uint8], path: Path) -> None:
    """Refuse marked pixels `(n, 4)` of so many colours that they are no drawing."""
    packed = colours[:, :3].astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
    found, counts = np.unique(packed, return_counts=True)
    if len(found) > MAX_COLOURS and np.sort(counts)[-MAX_COLOURS:].sum() < len(packed) / 2:
        raise DataError(
            f"{path}: a picture of {len(found)} colours, not a mask; draw the defects alone, or say which colour marks "
            "them: data.mask_value"
        )


def _refuse_nearly_all(marked: NDArray[np.bool_], path: Path) -> None:
    share = float(marked.mean())
    border = float(np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]]).mean())
    if share <= MAX_MARKED and (share <= MAX_MARKED_WITH_BORDER or border <= MAX_BORDER):
        return
    raise DataError(
        f"{path}: nearly everything is marked defective, {share:.0%} of the mask and {border:.0%} of its border, as "
        f"every value above 0 counts; found: {_describe_values(path)}. Is it inverted, or a picture of the part? Say "
        "which value means defective: data.mask_value (blemish evaluate: --set mask_value=...)"
    )


def _describe_values(path: Path) -> str:
    """The commonest values of a mask, as `data.mask_value` takes them, with their shares."""
    mask = open_image(path, LARGEST_IMAGE_PX, is_drawn=True)
    values = np.asarray(mask.convert("L") if mask.mode == "1" else mask)
    flat = values.reshape(-1, *values.shape[2:])
    found, counts = np.unique(flat, axis=0, return_counts=True)
    order = np.argsort(-counts)[:3]
    shares = [f"{np.asarray(found[one]).tolist()} ({counts[one] / len(flat):.0%})" for one in order]
    more = f" and {len(found) - 3} others" if len(found) > 3 else ""
    return ("palette indices " if mask.mode == "P" else "values ") + ", ".join(shares) + more
