"""Data sets in other layouts, and with annotations of other tools, written as MVTec-style folders."""

import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.data.annotated_names import match_images
from blemish.data.annotation_shapes import Shape, draw_shapes, refuse_other_size, refuse_shares
from blemish.data.annotations import read_annotations
from blemish.data.folder import Sample, folders_of, is_ok_nok, notes_of_types
from blemish.data.image_files import image_files, name_below
from blemish.data.layout_readers import READERS, good_samples, held_out, is_blank
from blemish.data.layouts import GOOD_NAMES, annotated, find_layout, recognise, sets_below
from blemish.data.outputs import new_folder
from blemish.data.progress import OnStep, tell_nobody
from blemish.data.stray_masks import refuse_masks_among
from blemish.errors import DataError, SettingsError, nearest, plural, reason
from blemish.settings import LARGEST_IMAGE_PX, MaskValue


def convert_dataset(
    source: Path,
    out: Path,
    layout: str | None = None,
    test_good: float = 0.2,
    mask_value: MaskValue = None,
    on_image: OnStep = tell_nobody,
    on_note: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Copy a data set into a new folder in MVTec's layout, and say how many images each of its folders got.

    Photos are copied as they are; masks are united and written as 0 and 255. `test_good` is the share of good images
    that are tested on where the set itself says nothing. `on_note` is told which images have no part in the set, and
    which types of defects have the name of good images. The folder appears complete or not at all.

    Raises:
        DataError: the layout is not known, an image or a mask cannot be read, a mask is among the photos, or `out` is
            not empty.
        SettingsError: there is no layout of that name.
    """
    source = Path(source)
    _check_folders(source, out)
    if layout is not None and layout not in READERS:
        raise SettingsError(f"--layout {layout}: unknown; {nearest(layout, READERS)}")
    found = "mvtec" if find_layout(source) else "ok_nok" if is_ok_nok(source) else None
    name = layout or recognise(source) or found
    if name is None:
        known = f"a layout that is not known; known are {', '.join(READERS)} (--layout)"
        raise DataError(f"{source}: {annotated(source) or sets_below(source) or known}")
    samples = READERS[name](source, test_good)
    if not samples:
        raise DataError(f"{source}: no images in the layout {name}")
    _refuse_one_target(samples, {sample.path for sample in samples if sample.mask_paths})
    refuse_masks_among([sample.path for sample in samples], [source], source)
    with new_folder(out) as folder:
        for done, sample in enumerate(samples, start=1):
            _copy(sample, folder, mask_value)
            on_image(done, len(samples))
    used = {path for sample in samples for path in (sample.path, *sample.mask_paths)}
    left_out = [path for path in image_files(source, unnamed=[]) if path not in used and not is_blank(path)]
    if places := folders_of(left_out, source):
        on_note(f"images that are neither photos of the set nor masks of its defects, left out: {places}")
    for note in notes_of_types(dict.fromkeys(sample.defect_type for sample in samples if sample.label)):
        on_note(note)
    return dict(Counter(sample.name.rpartition("/")[0] for sample in samples))


def _check_folders(source: Path, out: Path) -> None:
    if not source.is_dir():
        what = "a file, not a folder of images; unpack an archive first" if source.exists() else "no such folder"
        raise DataError(f"{source}: {what}")
    if source.resolve() in out.resolve().parents:
        raise DataError(f"{out}: inside {source}, which would then have its images twice; name a folder beside it")


def convert_annotated(
    images: Path,
    annotations: Path,
    out: Path,
    form: str | None = None,
    test_good: float = 0.2,
    on_image: OnStep = tell_nobody,
    on_note: Callable[[str], None] = lambda _: None,
) -> dict[str, int]:
    """Copy images into a new folder in MVTec's layout, with masks drawn from what another tool wrote of them.

    An image in which nothing is marked, or only what is labelled as good, is a good one; others belong to the defect
    type of their labels, `combined` where they have several. Images that the annotations say nothing of, or that they
    call bad as a whole, are left out, and `on_note` is told.
    `test_good` is the share of good images to test on. The folder appears complete or not at all.

    Raises:
        DataError: annotations that are not understood; an annotated image that is not there; nothing to train on.
        SettingsError: there is no format of that name.
    """
    _check_folders(images, out)
    _, found = read_annotations(annotations, form, on_note)
    paths = {name_below(path, images): path for path in image_files(images)}
    shapes = match_images(found, paths, annotations)
    good = [paths[name] for name in sorted(shapes) if not shapes[name]]
    left_out = sorted(paths.keys() - shapes.keys())
    unknown = (
        f"{plural(len(left_out), 'image')} of which the annotations say nothing, or only that they were skipped or "
        f"are bad, left out; the first: {left_out[0]}"
        if left_out
        else ""
    )
    if not good:
        raise DataError(
            f"{annotations}: something is marked in every image; good images are needed to train on"
            + (f" ({unknown}; images that are good must be in it, with nothing marked)" if unknown else "")
        )
    if unknown:
        on_note(unknown)
    samples = good_samples(good, set(held_out(good, test_good)), images)
    marked = {paths[name]: marks for name, marks in sorted(shapes.items()) if marks}
    samples += [
        Sample(path, f"test/{_defect_type(marks)}/{name_below(path, images)}") for path, marks in marked.items()
    ]
    _refuse_one_target(samples, marked)
    refuse_masks_among([sample.path for sample in samples], [images], images)
    with new_folder(out) as folder:
        for done, sample in enumerate(samples, start=1):
            _copy(sample, folder, None)
            if sample.path in marked:
                size_px = sample.size_px(LARGEST_IMAGE_PX)
                refuse_other_size(marked[sample.path], size_px, f"{annotations}: {sample.path}")
                refuse_shares(marked[sample.path], f"{annotations}: {sample.path}")
                mask = draw_shapes(marked[sample.path], size_px)
                if not mask.any():
                    raise DataError(f"{annotations}: {sample.path}: all that is marked lies outside of the image")
                _save_mask(folder, sample.name, mask)
            on_image(done, len(samples))
    return dict(Counter("/".join(sample.name.split("/")[:2]) for sample in samples))


def _defect_type(shapes: Sequence[Shape]) -> str:
    """A folder's name from the labels; letters that a file system may refuse become underscores."""
    labels = {re.sub(r"[^\w.-]+", "_", shape.label).strip("._").lower()[:100] or "defect" for shape in shapes}
    (one, *others) = sorted(labels)
    return "combined" if others else f"{one}_" if one in GOOD_NAMES else one


def _refuse_one_target(samples: Sequence[Sample], masked: Collection[Path]) -> None:
    """Refuse two images of which one would be written over the other, or its mask over the other's.

    Raises:
        DataError: naming both.
    """
    taken: dict[str, Path] = {}
    for sample in samples:
        for target in (sample.name, _mask_name(sample.name)) if sample.path in masked else (sample.name,):
            if (before := taken.setdefault(target, sample.path)) != sample.path:
                raise DataError(f"{sample.path}: would be written to {target}, as {before} would; rename one")


def _copy(sample: Sample, folder: Path, mask_value: MaskValue) -> None:
    target = folder / sample.name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(sample.path, target)
    except OSError as error:
        why = reason(error) if sample.path.exists() else "no such file, as of a link to nothing"
        raise DataError(f"{sample.path}: cannot be copied: {why}") from None
    if not sample.mask_paths:
        return
    size_px = sample.size_px(LARGEST_IMAGE_PX)
    mask = Sample(sample.path, sample.name, sample.defect_type, sample.mask_paths, mask_value).load_mask(
        size_px, size_px
    )
    assert mask is not None
    _save_mask(folder, sample.name, mask)


def _save_mask(folder: Path, name: str, mask: NDArray[np.bool_]) -> None:
    drawn = folder / _mask_name(name)
    drawn.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(mask) * 255).save(drawn)


def _mask_name(name: str) -> str:
    """
    >>> _mask_name("test/scratch/007.png")
    'ground_truth/scratch/007_mask.png'
    """
    below = PurePosixPath(name).relative_to("test")
    return str(PurePosixPath("ground_truth") / below.with_name(f"{below.stem}_mask.png"))
