"""Ground-truth masks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.decode import PAGES, open_image, read_content, read_header
from blemish.data.deep import SIXTEEN_BIT_MODES, depth_of
from blemish.errors import DataError, join_names, plural
from blemish.settings import LARGEST_IMAGE_PX, MaskValue

ASPECT_TOLERANCE = 0.05
"""How far an image's aspect may be from the wanted one, as a share of it, before that is an error."""


MAX_MARKED, MAX_MARKED_WITH_BORDER, MAX_BORDER = 0.9, 0.5, 0.8
"""A mask that marks a larger share of the image, or this share and most of the image's border, is taken for wrong."""

MAX_COLOURS = 64
"""A mask of colour has most of its marked pixels in so many of them."""

LOSSY_TOLERANCE = 32
"""Of 255; how far values in a JPEG may be from what was drawn, but at edges."""

MAX_EDGE_SHARE = 0.25
"""A lossy mask of few colours has at most so many pixels that are far from the mask's colour and the background's."""

MIN_PHOTO_SHARE = 0.02
"""A photo of a part on dark ground has more than that between dark and bright, and of what is lit at least half."""

MAX_LABEL = 64
"""Labels of defect types are at most that; 255 beside such, or 65535, may mean "not judged" (VOC, Cityscapes)."""
VOID_COLOUR = (224, 224, 192)
"""What VOC draws around objects and does not judge."""

MAX_PART_LABELS, MIN_PART_SHARE, MAX_SHARE_IN_PART = 8, 0.25, 0.25
"""Of so few labels, one with that share of the image around the others, which have that of it, may be the part."""
MAX_GROUND_BESIDE = 1 / 3
"""A defect in the part borders on the part; the dim rim of a defect as much on the ground."""
ONE_BRIGHTNESS = 0.9
"""Of white; values from there on, and colours that differ by no more, are one that was disturbed."""

SAID_BY = "data.mask_value (blemish evaluate: --set mask_value=...; data convert: --mask-value)"
"""Where a person says which value means defective."""

_PACK = np.array([1 << 16, 1 << 8, 1], np.uint32)

MAX_FAINT_VALUES, MAX_FAINT_SHARE = 16, 1 / 3
"""A white mask has at most so many darker values, or so many darker pixels for each of at least half the brightness."""
MAX_THIN_VALUES = 2
"""As many darker values, where their pixels have more neighbours of other values than of their own: rims, no labels."""


def load_mask(
    paths: Path | Sequence[Path],
    size_px: tuple[int, int],
    image_size_px: tuple[int, int] | None = None,
    mask_value: MaskValue = None,
    ignore_value: MaskValue = None,
) -> NDArray[np.bool_]:
    """A ground-truth mask `(h, w)`, True where defective, resized by nearest neighbour; several are united.

    Defective is what has the `mask_value`; without one, every visible value above 0 but the `ignore_value`, palettes
    looked up. A JPEG or lossy WebP, which changes values, is taken to be drawn in white: above half of its highest
    value; or, with a `mask_value`, what is nearer to that than to the background.

    Raises:
        DataError: unreadable, of another size than its image (`image_size_px`, height and width), without a single
            defective pixel although it stands under a defect type, or, without a `mask_value`, nearly all defective,
            with blurred edges as large as what is marked, or with a value beside labels that may mean "not judged" or
            the part.
    """
    paths = [paths] if isinstance(paths, Path) else list(paths)
    masks = [_marked(path, image_size_px, mask_value, ignore_value) for path in paths]
    if other := next((path for path, mask in zip(paths, masks, strict=True) if mask.shape != masks[0].shape), None):
        raise DataError(f"{other}: of another size than {paths[0]}; all masks of an image must have its size")
    full = np.logical_or.reduce(masks)
    if not full.any():
        wanted = "" if mask_value is None else f"; no pixel is {mask_value} (data.mask_value)"
        if any(read_header(path).has_alpha for path in paths):
            wanted += "; is the drawing in its transparency? Save it as white on black"
        raise DataError(
            f"{paths[0]}: an empty mask under a defect type{wanted}; mark its defective pixels or move the image to "
            "good"
        )
    if mask_value is None:
        _refuse_nearly_all(full, paths[0])
    return _resize(full, size_px)


def load_ignored(
    paths: Sequence[Path], size_px: tuple[int, int], mask_value: MaskValue, ignore_value: MaskValue
) -> NDArray[np.bool_]:
    """The pixels `(h, w)` that any of an image's masks leaves unjudged and none calls defective, resized as those.

    Raises:
        DataError: as `load_mask`.
    """
    marked = load_mask(paths, size_px, None, mask_value, ignore_value)
    ignored = np.logical_or.reduce([_equal(open_mask(path), ignore_value) for path in paths])
    return _resize(ignored, size_px) & ~marked


def is_lossy(path: Path) -> bool:
    """Whether a mask is stored in a way that changes its values around edges.

    Raises:
        DataError: it cannot be read.
    """
    stored_as = read_header(path).image_format
    return stored_as == "JPEG" or (stored_as in ("WEBP", "TIFF") and bool(open_mask(path).info.get("lossy")))


def _resize(mask: NDArray[np.bool_], size_px: tuple[int, int]) -> NDArray[np.bool_]:
    resized = Image.fromarray(np.uint8(mask) * 255).resize((size_px[1], size_px[0]), Image.Resampling.NEAREST)
    return np.asarray(resized) > 0


def refuse_marks(path: Path, mask_value: MaskValue = None, ignore_value: MaskValue = None) -> None:
    """Refuse a good image's mask that marks anything.

    Raises:
        DataError: it does, or cannot be read.
    """
    if count := int(_marked(path, None, mask_value, ignore_value).sum()):
        raise DataError(
            f"{path}: marks {plural(count, 'pixel')} of a good image; move the image to its defect type's folder"
        )


def open_mask(path: Path) -> Image.Image:
    """A mask, upright; `info["lossy"]` says whether it is stored as JPEG or lossy WebP.

    Raises:
        DataError: it cannot be read, or has several pages.
    """
    content = read_content(path)
    mask = open_image(path, LARGEST_IMAGE_PX, content, is_drawn=True)
    if (pages := mask.info[PAGES]) > 1:
        raise DataError(
            f"{path}: a mask of {pages} pages or frames; save each defect as a mask of its own, _1, _2 ..., and a "
            "region as one image"
        )
    is_jpeg = mask.format in ("JPEG", "MPO") or mask.info.get("compression") == "jpeg"
    mask.info["lossy"] = is_jpeg or (mask.format == "WEBP" and b"VP8 " in _chunks(content))
    return mask


def _chunks(content: bytes) -> set[bytes]:
    """The kinds of chunks in a RIFF file, of which WebP is one."""
    found, at = set(), 12
    while at + 8 <= len(content):
        found.add(content[at : at + 4])
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return found


def _marked(
    path: Path, image_size_px: tuple[int, int] | None, mask_value: MaskValue, ignore_value: MaskValue
) -> NDArray[np.bool_]:
    mask = open_mask(path)
    size_px = (mask.height, mask.width)
    if image_size_px is not None and size_px != image_size_px:
        turned = "; was it drawn before the photo was turned (EXIF)?" if size_px == image_size_px[::-1] else ""
        raise DataError(
            f"{path}: mask of {mask.height} x {mask.width}, its image is {image_size_px[0]} x {image_size_px[1]} "
            f"(height x width); a mask must have its image's size{turned}"
        )
    if mask_value is None:
        return np.asarray(_visible(mask, ignore_value, path), np.bool_)
    return _nearest(mask, mask_value, path) if mask.info["lossy"] else _equal(mask, mask_value)


def _values(mask: Image.Image, wanted: MaskValue) -> NDArray[Any]:
    """As stored, palette indices for a number: `(h, w)`, or `(h, w, 3)` of colour."""
    is_coloured = isinstance(wanted, tuple)
    values = np.asarray(mask.convert("RGB" if is_coloured else "L") if is_coloured or mask.mode == "1" else mask)
    if values.ndim == 3 and mask.mode == "LA" and not is_coloured:
        return values[:, :, 0]
    return values if values.ndim == 2 else values[:, :, :3]


def _equal(mask: Image.Image, wanted: MaskValue) -> NDArray[np.bool_]:
    """Where a mask has a value or a colour."""
    if mask.mode == "1" and wanted == 1:  # which Pillow calls 255
        wanted = 255
    equal = np.asarray(_values(mask, wanted) == wanted)
    return np.asarray(equal if equal.ndim == 2 else equal.all(axis=2))


def _nearest(mask: Image.Image, wanted: MaskValue, path: Path) -> NDArray[np.bool_]:
    """Where a lossy mask is nearer to a value or a colour than to its background, the commonest of the others."""
    values = _values(mask, wanted).astype(np.int32)
    values = values.reshape(*values.shape[:2], -1)  # (h, w, c)

    def distance(to: Any) -> NDArray[np.floating]:
        return np.asarray(np.linalg.norm(values - to, axis=2))

    to_wanted = distance(wanted)
    others = values[to_wanted > LOSSY_TOLERANCE]
    if not len(others):
        return np.ones(values.shape[:2], np.bool_)
    found, counts = np.unique(others // 8, axis=0, return_counts=True)
    to_others = distance(found[counts.argmax()] * 8 + 4)
    near = to_wanted < to_others
    far = int((np.minimum(to_wanted, to_others) > LOSSY_TOLERANCE).sum())
    if isinstance(wanted, tuple) and far > MAX_EDGE_SHARE * near.size:
        raise DataError(
            f"{path}: a {mask.format} of many colours, whose edges have none of them exactly, so that what is {wanted} "
            "cannot be told; save the mask as PNG, before it was ever a JPEG"
        )
    return np.asarray(near)


def _visible(mask: Image.Image, ignore_value: MaskValue, path: Path) -> Any:
    """Where a mask is neither black nor transparent nor to be ignored."""
    if mask.mode in ("1", "L", "F", *SIXTEEN_BIT_MODES) and not mask.has_transparency_data:
        values, depth = np.asarray(mask), depth_of(mask)
        if depth is not None and depth.is_min_white:
            values = depth.white - values
        marked = values > 0
    else:
        colours = np.asarray(mask.convert("RGBA"))
        values = colours[:, :, :3].max(axis=2)
        marked = (values > 0) & (colours[:, :, 3] > 0)
        _refuse_black_labels(mask, (values == 0) & (colours[:, :, 3] > 0), path)
        advice = f"draw the defects alone, or say which colour marks them: {SAID_BY}"
        _refuse_picture(colours[marked], str(path), advice)
    if mask.info["lossy"]:
        if 0 < values.max() < MAX_LABEL:
            raise DataError(f"{path}: a {mask.format} of labels up to {values.max()}, which it changes; save it as PNG")
        return values > values.max() / 2
    if ignore_value is not None:
        marked &= ~_equal(mask, ignore_value)
    else:
        _refuse_void(mask, marked, path)
    _refuse_part(mask, marked, path)
    if float(marked.mean()) <= MAX_MARKED:  # else it is refused as that
        _refuse_blurred(np.where(marked, values, 0), path)
    return marked


def _refuse_black_labels(mask: Image.Image, is_black: NDArray[np.bool_], path: Path) -> None:
    """Refuse a palette that shows several of the labels that are there as black, of which one is the ground alone."""
    labels = np.unique(np.asarray(mask)[is_black]) if mask.mode == "P" else ()
    if len(labels) > 1:
        raise DataError(
            f"{path}: the palette shows the indices {join_names([str(label) for label in labels])} as black, which "
            f"counts as ground; say which index means defective: {SAID_BY}"
        )


def _refuse_void(mask: Image.Image, marked: NDArray[np.bool_], path: Path) -> None:
    """Refuse the highest value beside small labels, which in label masks means that nobody said what is there."""
    if mask.mode in ("1", "F") or not marked.any():
        return
    values = np.asarray(mask)
    void: MaskValue = VOID_COLOUR
    if values.ndim == 3 and (values[:, :, 0] == values[:, :, -1]).all():
        values = values[:, :, 0]
    if values.ndim == 2:
        found = np.unique(values[marked])
        void = 65_535 if mask.mode in SIXTEEN_BIT_MODES else 255
        is_found = len(found) > 1 and found[-1] == void and found[-2] <= MAX_LABEL
        others = join_names([str(value) for value in found[:-1]])
    else:
        is_void, others = _equal(mask, void), "other colours"
        is_found = bool(is_void.any()) and bool((marked & ~is_void).any())
    if is_found:
        told = list(void) if isinstance(void, tuple) else void
        raise DataError(
            f"{path}: {told} beside {others}, as label masks have it where nothing is to be judged (VOC, Cityscapes); "
            f"if so, say data.ignore_value={told} (blemish evaluate: --set ignore_value=...), else what means "
            f"defective: {SAID_BY}"
        )


def _refuse_part(mask: Image.Image, marked: NDArray[np.bool_], path: Path) -> None:
    """Refuse a label that lies around the others and is large, as that of the part around its defects."""
    if mask.mode in ("1", "F") or not marked.any():
        return
    values = np.asarray(mask)
    labels = values if values.ndim == 2 else np.asarray(mask.convert("RGB")).astype(np.uint32) @ _PACK
    found, counts = np.unique(labels[marked], return_counts=True)
    shown = values if values.ndim == 2 and mask.mode != "P" else np.asarray(mask.convert("RGB"))
    if _are_near(shown[marked], 65_535 if mask.mode in SIXTEEN_BIT_MODES else 255):
        return
    if not 1 < len(found) <= MAX_PART_LABELS or counts.sum() > (1 + MAX_SHARE_IN_PART) * counts.max():
        return
    if not MIN_PART_SHARE <= counts.max() / marked.size <= MAX_MARKED:
        return
    is_part = labels == found[counts.argmax()]
    others = marked & ~is_part
    if _borders(others, ~marked) <= MAX_GROUND_BESIDE * _borders(others, is_part):
        raise DataError(
            f"{path}: a value with {100 * counts.max() / marked.size:.0f} % of the image around the others, as that of "
            f"the part around its defects; found: {_describe_values(path)}. Say which value means defective: "
            f"{SAID_BY}, or save the mask in two values"
        )


def _are_near(marked: NDArray[Any], white: int) -> bool:
    """Whether marked values `(n,)` or colours `(n, 3)` are of full brightness, and one that was disturbed."""
    low, high, step = marked.min(axis=0), marked.max(axis=0), (1 - ONE_BRIGHTNESS) * white
    return bool(high.max() > white - step and (low > high - step).all())


def _borders(these: NDArray[np.bool_], those: NDArray[np.bool_]) -> int:
    """How often a pixel of these lies beside one of those."""
    beside = ((these[1:], those[:-1]), (these[:-1], those[1:]), (these[:, 1:], those[:, :-1]))
    return sum(int((one & other).sum()) for one, other in (*beside, (these[:, :-1], those[:, 1:])))


def _refuse_blurred(values: NDArray[Any], path: Path) -> None:
    """Refuse values `(h, w)`, 0 where nothing is marked, that are bright with a wide dark rim, as JPEG leaves it."""
    if values.dtype == np.bool_ or (values.max(initial=0) in range(2, 128) and _are_labels(values)):
        return
    is_faint = (values > 0) & (values <= values.max() / 2)
    faint, bright = int(is_faint.sum()), int((values > values.max() / 2).sum())
    count = len(np.unique(values[is_faint]))
    most = MAX_THIN_VALUES if _is_thin(values, is_faint) else MAX_FAINT_VALUES
    if count > most and faint > MAX_FAINT_SHARE * bright:
        raise DataError(
            f"{path}: bright pixels: {bright}, and faint ones: {faint}, of {count} values, as JPEG and smoothing leave "
            f"them around a drawing; save the mask in two values, or say which means defective: {SAID_BY}"
        )


def _are_labels(values: NDArray[Any]) -> bool:
    """Whether marked neighbours in `(h, w)` mostly share a value, as where each defect or type has one of its own."""
    pairs = ((values[1:], values[:-1]), (values[:, 1:], values[:, :-1]))
    found = [(one == other)[(one > 0) & (other > 0)] for one, other in pairs]
    return bool(2 * sum(int(pair.sum()) for pair in found) >= sum(pair.size for pair in found))


def _is_thin(values: NDArray[Any], these: NDArray[np.bool_]) -> bool:
    """Whether these pixels `(h, w)` have more neighbours of other values than of their own."""
    beside = ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1]))
    pairs = [(values[one] == values[other])[these[one] | these[other]] for one, other in beside]
    return bool(2 * sum(int(pair.sum()) for pair in pairs) < sum(pair.size for pair in pairs))


def refuse_photo(mask: Image.Image, values: NDArray[Any], name: str) -> None:
    """Refuse what no one has drawn: of many colours, or with much that is neither dark nor bright.

    `values` `(h, w)` are its brightness, of any scale; `name` is how it is called.

    Raises:
        DataError: it looks like a photo.
    """
    advice = "draw the area alone, white on black, and save it as PNG"
    if mask.mode not in ("1", "L", "F", *SIXTEEN_BIT_MODES):
        colours = np.asarray(mask.convert("RGBA")).reshape(-1, 4)
        _refuse_picture(colours[colours[:, :3].any(axis=1)], name, advice)
    share = values / (float(values.max()) or 1.0)
    tolerance = LOSSY_TOLERANCE / 255
    is_between = (share > tolerance) & (share < 1.0 - tolerance)
    between, lit = float(is_between.mean()), float((share > tolerance).mean())
    is_much = between > MAX_EDGE_SHARE or (between > MIN_PHOTO_SHARE and between > lit / 2)
    if is_much and len(np.unique(values[is_between])) > MAX_FAINT_VALUES:
        raise DataError(
            f"{name}: a photo, not a mask: {between:.0%} of it is neither dark nor bright; {advice}".replace("%", " %")
        )


def _refuse_picture(colours: NDArray[np.uint8], name: str, advice: str) -> None:
    """Refuse marked pixels `(n, 4)` of so many colours that they are no drawing."""
    packed = colours[:, :3].astype(np.uint32) @ _PACK
    found, counts = np.unique(packed, return_counts=True)
    if len(found) > MAX_COLOURS and np.sort(counts)[-MAX_COLOURS:].sum() < len(packed) / 2:
        raise DataError(f"{name}: a picture of {len(found)} colours, not a mask; {advice}")


def _refuse_nearly_all(marked: NDArray[np.bool_], path: Path) -> None:
    share = float(marked.mean())
    border = float(np.concatenate([marked[0], marked[-1], marked[:, 0], marked[:, -1]]).mean())
    if share <= MAX_MARKED and (share <= MAX_MARKED_WITH_BORDER or border <= MAX_BORDER):
        return
    raise DataError(
        f"{path}: nearly everything is marked defective, {100 * share:.0f} % of the mask and {100 * border:.0f} % "
        f"of its border, as every value above 0 counts; found: {_describe_values(path)}. Is it inverted, or a picture "
        f"of the part? Say which value means defective: {SAID_BY}"
    )


def _describe_values(path: Path) -> str:
    """The commonest values of a mask, as `data.mask_value` takes them, with their shares."""
    mask = open_mask(path)
    values = np.asarray(mask.convert("L") if mask.mode == "1" else mask)
    flat = values.reshape(-1, *values.shape[2:])
    found, counts = np.unique(flat, axis=0, return_counts=True)
    order = np.argsort(-counts)[:3]
    shares = [f"{np.asarray(found[one]).tolist()} ({100 * counts[one] / len(flat):.0f} %)" for one in order]
    more = f" and {len(found) - 3} others" if len(found) > 3 else ""
    return ("palette indices " if mask.mode == "P" else "values ") + ", ".join(shares) + more
