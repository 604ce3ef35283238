"""Real-IAD: one object's folder of `OK/S0001/*.jpg` and `NG/<defect>/S0001/*.jpg`, and the JSON file that splits it."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.data.folder import Sample
from blemish.data.layouts import find_real_iad_split
from blemish.errors import DataError
from blemish.settings import read_regular

MAX_BYTES = 1 << 26


def read_real_iad(root: Path, _test_good: float) -> list[Sample]:
    """Samples of one object (Wang et al. 2024), all sides of each part that its JSON file names, split as that says.

    The file has `meta` (`normal_class`, `prefix`) and `train` and `test`, lists of `image_path`, `mask_path` (or null)
    and `anomaly_class`. A part's side on which the defect is not seen counts as good there.

    Raises:
        DataError: there is no such file, it is not understood, or an image or a mask that it names is not there.
    """
    split = find_real_iad_split(root)
    if split is None:
        raise DataError(
            f"{root}: the file {root.resolve().name}.json of Real-IAD is not there; put realiad_jsons beside "
            f"{root.resolve().parent.name}, or the file into {root}"
        )
    try:
        content = json.loads(read_regular(split, MAX_BYTES).decode("utf-8-sig"))
        good, parts = content["meta"]["normal_class"], {part: list(content[part]) for part in ("train", "test")}
        samples = [_sample(root, part, one, good) for part, entries in parts.items() for one in entries]
    except (LookupError, OSError, RecursionError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{split}: not a split of Real-IAD: {type(error).__name__}: {error}") from None
    if lost := [path for sample in samples for path in (sample.path, *sample.mask_paths) if not path.is_file()]:
        raise DataError(f"{split}: {len(lost)} of the files that it names are not in {root}; the first: {lost[0]}")
    return [sample for sample in samples if not (sample.name.startswith("train/") and sample.label)]


def _sample(root: Path, part: str, entry: dict[str, Any], good: str) -> Sample:
    path, kind = _inside(root, entry["image_path"]), str(entry["anomaly_class"])
    if kind == good:
        return Sample(path, f"{part}/good/{path.name}")
    mask = entry.get("mask_path")
    kind = PurePosixPath(kind).name.lower()
    return Sample(path, f"{part}/{kind}/{path.name}", kind, (_inside(root, mask),) if mask else ())


def _inside(root: Path, text: str) -> Path:
    """A path below the object's folder, which the text may begin with.

    Raises:
        ValueError: it leads out of the folder.
    """
    below = PurePosixPath(text)
    if below.is_absolute() or ".." in below.parts or "\\" in text:
        raise ValueError(f"{text} leads out of the folder")
    if below.parts[0] == root.resolve().name:
        below = below.relative_to(below.parts[0])
    return root / below
