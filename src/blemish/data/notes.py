"""What is said of photos that are read, but perhaps not as they were meant: pages, depth, orientation, reduction."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from blemish.data.decode import read_header
from blemish.data.folder import Sample, commonest_size
from blemish.data.image_files import list_entries
from blemish.data.images import PixelPolicy
from blemish.data.layouts import is_named_bad
from blemish.data.masks import ASPECT_TOLERANCE, is_lossy
from blemish.data.profiles import is_plain
from blemish.data.readings import MIN_COARSER, Readings
from blemish.errors import DataError, join_names, plural
from blemish.settings import open_regular
from blemish.stats.regions import is_outline

MIN_REDUCTION = 4.0
"""From this many times smaller on, a reduction is said."""

MIN_ENLARGEMENT = 3.0
"""From this many times larger on, an enlargement of all photos is said."""

_TEXTS, _MAX_TEXT_BYTES = (".csv", ".tsv", ".txt", ".json", ".xml"), 1 << 22
_ANNOTATES = re.compile(
    rb"\b(shapes|annotat\w*|labels?|segment\w*|polygons?|b(nd)?box|class(es)?|categor\w+|defect\w*|anomal\w+|verdict|"
    rb"results?|judge?ment|nok|n\.?i\.?o|not[ _-]?ok|ng|bad|fail\w*|reject\w*|scrap)\b|^\d+( -?[\d.]+){4,}\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_LOOKED_AT = 20


def photo_notes(samples: Sequence[Sample], policy: PixelPolicy, readings: Readings) -> list[str]:
    """What to know of photos before a model of them is trusted; `readings` says how they were read."""
    sizes = [note(samples, policy) for note in (stretch_note, reduction_note, enlargement_note, coarse_note)]
    found = (page_note(samples), channel_note(samples), *readings.notes, profile_note(samples), *sizes)
    return [note for note in found if note]


def page_note(samples: Sequence[Sample]) -> str:
    """Photos of several pages or frames."""
    some = [sample for sample in samples if sample.header.pages > 1]
    if not some:
        return ""
    most = max(sample.header.pages for sample in some)
    return f"{join_names([one.name for one in some])}: up to {most} pages or frames in a file; the first page is used"


def channel_note(samples: Sequence[Sample]) -> str:
    """Photos of more channels than are read, such as infrared beside colour."""
    some = [sample for sample in samples if sample.header.unread_channels]
    if not some:
        return ""
    most = plural(max(sample.header.unread_channels for sample in some), "channel")
    return (
        f"{len(some)} of {plural(len(samples), 'photo')}, among them {some[0].name}: {most} more than grey or colour "
        "in a file, as of infrared; what only those show is not seen, so save them as photos of their own"
    )


def profile_note(samples: Sequence[Sample]) -> str:
    """Photos whose colour profile is another than sRGB."""
    some = [sample for sample in samples if not is_plain(sample.header.profile)]
    if not some:
        return ""
    names = sorted({repr(sample.header.profile) for sample in some})
    return (
        f"{len(some)} of {plural(len(samples), 'photo')}, among them {some[0].name}, with the colour profile "
        f"{join_names(names)}: values are taken as they are stored, so a photo with another profile looks different"
    )


def text_note(samples: Sequence[Sample], groups: str | None) -> str:
    """Text beside photos that names them, such as labels or annotations, which may call some of them defective.

    What is named like a photo must have words of annotations, or numbers as YOLO has them: a camera may write its
    settings beside each photo. Other text must name most photos. That of `data.groups` is read.
    """
    known = Path(groups or "").resolve()
    photos: dict[Path, list[Path]] = defaultdict(list)
    for sample in samples:
        photos[sample.path.parent].append(sample.path)
    found: list[Path] = []
    for folder, paths in sorted(photos.items()):
        stems = {one for path in paths for one in (path.stem, path.name)}
        others = [path for path in _texts(folder) if path.resolve() != known]
        found += [path for path in others if path.stem in stems and _ANNOTATES.search(_first_bytes(path))]
        found += [path for path in others[:_LOOKED_AT] if path.stem not in stems and _names_photos(path, paths)]
    if not found:
        return ""
    return (
        f"{join_names([path.name for path in found])}: text beside the photos that names them, and is not read: all "
        "of them count as good; take out those that it calls defective (annotations: blemish data convert)"
    )


def name_note(samples: Sequence[Sample]) -> str:
    """Good photos some of which are named, or lie in folders that are named, as defective ones are."""
    some = [sample.name for sample in samples if any(map(is_named_bad, sample.name.split("/")))]
    if not 0 < len(some) < len(samples):  # a word in all names tells nothing
        return ""
    return (
        f"{len(some)} of {len(samples)} photos, among them {join_names(some)}: named as defective ones are, but all of "
        "them count as good; take out those that are defective"
    )


def _texts(folder: Path) -> list[Path]:
    paths = (Path(entry.path) for entry in list_entries(folder, deep=False))
    return sorted(path for path in paths if path.suffix.lower() in _TEXTS)


def _names_photos(path: Path, photos: Sequence[Path]) -> bool:
    """Whether a text has the names of most of the first photos."""
    content, looked = _first_bytes(path), photos[:_LOOKED_AT]
    return sum(photo.name.encode() in content for photo in looked) > len(looked) / 2


def _first_bytes(path: Path) -> bytes:
    with suppress(OSError), open_regular(path) as file:
        return file.read(_MAX_TEXT_BYTES)
    return b""


def turned_note(samples: Sequence[Sample]) -> str:
    """Photos with masks of which EXIF turns or mirrors either: a mask may lie on the photo as it is stored."""
    masked = [sample for sample in samples if sample.mask_paths]
    some = [sample for sample in masked if sample.header.is_turned]
    if not some:
        others = [sample for sample in masked if _of_any_mask(sample, lambda path: read_header(path).is_turned)]
        if not others:
            return ""
        return (
            f"{plural(len(others), 'photo')}, among them {others[0].name}, not turned by EXIF orientation, but "
            f"{'its mask is' if len(others) == 1 else 'their masks are'}: masks are laid on as they are shown; look "
            "whether they mark the right place, else save them without EXIF"
        )
    return (
        f"{plural(len(some), 'photo')} with masks, among them {some[0].name}, "
        f"{'is' if len(some) == 1 else 'are'} turned or mirrored by EXIF orientation; masks are laid on the photo as "
        "it is shown, so a mask drawn on the stored pixels marks the wrong place"
    )


def lossy_note(samples: Sequence[Sample]) -> str:
    """Photos whose masks are stored in a way that changes values around edges."""
    some = [sample for sample in samples if _of_any_mask(sample, is_lossy)]
    if not some:
        return ""
    return (
        f"{plural(len(some), 'photo')}, among them {some[0].name}, {'has a mask' if len(some) == 1 else 'have masks'} "
        "stored as JPEG or lossy WebP, which blurs edges: a pixel there counts as what it is nearer to; PNG keeps them"
    )


def outline_note(samples: Sequence[Sample]) -> str:
    """Masks most of which are the outlines of areas, of which only the line is marked; a few of them are looked at."""
    some = [sample for sample in samples if sample.mask_paths]
    looked = some[:: -(-len(some) // _LOOKED_AT) or 1]
    found = [sample for sample in looked if _has_outline(sample)]
    if 2 * len(found) <= len(looked):
        return ""
    return (
        f"{len(found)} of {plural(len(looked), 'mask')} looked at, among them that of {found[0].name}: thin lines "
        "around areas, as outlines that are drawn and not filled; only the line counts as defective, so fill them, "
        "unless the defects are thin themselves"
    )


def _has_outline(sample: Sample) -> bool:
    with suppress(DataError):  # said where the mask is read
        mask = sample.load_mask(sample.header.size_px)
        return mask is not None and is_outline(mask)
    return False


def _of_any_mask(sample: Sample, question: Callable[[Path], bool]) -> bool:
    with suppress(DataError):  # said where the mask is read
        return any(map(question, sample.mask_paths))
    return False


def stretch_note(samples: Sequence[Sample], policy: PixelPolicy) -> str:
    """Photos of other aspects than most, which are stretched to one size and so show the same part in other shapes."""
    if policy.aspect is not None or policy.fit == "pad" or not samples:
        return ""
    height, width = Counter(sample.header.size_px for sample in samples).most_common(1)[0][0]
    ratios = {one.name: one.header.size_px[0] / one.header.size_px[1] / (height / width) for one in samples}
    others = [name for name, ratio in ratios.items() if abs(ratio - 1) > ASPECT_TOLERANCE]
    if not others:
        return ""
    return (
        f"{len(others)} of {plural(len(samples), 'photo')}, among them {others[0]}, of another aspect than {height} x "
        f"{width}: all are stretched to {_px(policy.size_px)}, so that the same part has other shapes in them; take "
        "out what is turned or cut otherwise, or train with data.fit=pad"
    )


def reduction_note(samples: Sequence[Sample], policy: PixelPolicy) -> str:
    """Photos that are seen much smaller than they are."""
    size_px, seen_px = max(_sizes(samples, policy), key=lambda sizes: _factor(*sizes))
    if (factor := _factor(size_px, seen_px)) < MIN_REDUCTION:
        return ""
    return (
        f"photos of up to {_px(size_px)} px are seen at {_px(seen_px)}, {factor:.1f} times smaller: "
        f"a defect of less than about {2 * factor:.0f} px may vanish; data.side_px or data.tile_px keep more"
    )


def enlargement_note(samples: Sequence[Sample], policy: PixelPolicy) -> str:
    """Photos that are all seen much larger than they are."""
    size_px, seen_px = min(_sizes(samples, policy), key=lambda sizes: _factor(sizes[1], sizes[0]))
    if (factor := _factor(seen_px, size_px)) < MIN_ENLARGEMENT:
        return ""
    return (
        f"photos of at most {_px(size_px)} px are seen at {_px(seen_px)}, {factor:.1f} times larger: "
        "that adds no detail, and real defects may not show; take larger photos where you can"
    )


def coarse_note(samples: Sequence[Sample], policy: PixelPolicy) -> str:
    """Photos that are seen larger than they are, and more so than most: they have less detail."""
    times = {one.name: policy.enlargement(one.header.size_px) for one in samples}
    usual = policy.enlargement(commonest_size(one.header.size_px for one in samples)) if samples else 1.0
    some = [name for name, factor in times.items() if factor >= MIN_COARSER * usual]
    if not some:
        return ""
    return (
        f"{len(some)} of {plural(len(samples), 'photo')}, among them {some[0]}, seen up to "
        f"{max(times.values()):.1f} times larger than they are, most {usual:.1f} times: they have less detail, and "
        "count as good all the same; take them out, or give them as the camera takes the others"
    )


def _sizes(samples: Sequence[Sample], policy: PixelPolicy) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Height and width of each photo, and those at which it is seen."""
    seen_px = policy.window.map_px
    return [(sample.header.size_px, seen_px) for sample in samples] or [(seen_px, seen_px)]


def _factor(larger_px: tuple[int, int], smaller_px: tuple[int, int]) -> float:
    """How many times larger the first size is, along the side where it is most.

    >>> _factor((8, 30), (4, 10))
    3.0
    """
    return max(larger / smaller for larger, smaller in zip(larger_px, smaller_px, strict=True))


def _px(size_px: tuple[int, int]) -> str:
    return f"{size_px[0]} x {size_px[1]}"
