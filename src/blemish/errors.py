"""Every error that blemish raises on purpose.

```
BlemishError            anything below; the command line shows it as one line and exits with 2
├── DataError           an image, a mask or a folder is not what it should be
├── SettingsError       a setting is unknown, of the wrong kind, or out of range
├── ArtifactError       a model file is foreign, truncated, tampered with, or too old
├── CalibrationError    there are too few good images for what was promised
└── TrainingError       the training itself broke down, for example with a loss that is not a number
```

Messages say where, what was found, and what to do.
"""

import errno
import re
from collections.abc import Iterable, Sequence


class BlemishError(Exception):
    """The base of all errors that blemish raises on purpose."""

    @property
    def why(self) -> str:
        """The text, without what only helps on a command line."""
        return super().__str__()


class DataError(BlemishError):
    """An image, a mask or a folder is not what it should be."""


class SettingsError(BlemishError):
    """A setting is unknown, of the wrong kind, or out of range."""


class ArtifactError(BlemishError):
    """A model file is foreign, truncated, tampered with, or too old."""


class CalibrationError(BlemishError):
    """There are too few good images for what was promised."""


class TrainingError(BlemishError):
    """The training itself broke down."""


class WithdrawnWarning(UserWarning):
    """The certificate of the model that predicts is withdrawn: the line has changed since it was calibrated."""


LEAST_LIKENESS = 0.6
"""Of a mistyped name and a known one, by `difflib`, for the known one to be suggested."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Text in one line that can neither move the cursor nor turn the direction of what is read.

    Control characters, marks of direction and what is no character at all are written as escapes.

    >>> print(printable("a\x1b[2Jb.png\nc"))
    a\x1b[2Jb.png\nc
    """
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def plural(number: int, noun: str) -> str:
    """One of a kind, or several.

    >>> plural(1, "good image"), plural(20, "good image")
    ('1 good image', '20 good images')
    """
    return f"{number} {noun}" + ("" if number == 1 else "s")


def unread(count: int, images: int, what: str = "could not be read") -> str:
    """How many images could not be read, or what else befell them, and of how many.

    >>> unread(4, 9), unread(1, 1)
    ('of 9 images, 4 could not be read', 'of 1 image, 1 could not be read')
    """
    return f"of {plural(images, 'image')}, {count} {what}"


class BadFileError(DataError):
    """An image that cannot be used, where such images can be left out.

    >>> str(BadFileError("a.png: empty")), BadFileError("a.png: empty").why
    ('a.png: empty; --skip-bad leaves such files out', 'a.png: empty')
    """

    def __str__(self) -> str:
        return f"{self.why}; --skip-bad leaves such files out"


def none_readable(count: int, noun: str, first: str) -> str:
    """That not one of some images can be read, and why the first cannot.

    >>> none_readable(2, "test image", "a.png: empty"), none_readable(1, "image", "a.png: empty")
    ('none of the 2 test images can be read; the first: a.png: empty', 'the only image cannot be read: a.png: empty')
    """
    if count == 1:
        return f"the only {noun} cannot be read: {first}"
    return f"none of the {plural(count, noun)} can be read; the first: {first}"


def join_names(names: Sequence[str], count: int | None = None) -> str:
    """The first of many names; `count` is how many there are, where not all are given.

    >>> join_names(["a", "b", "c", "d", "e"]), join_names(["a", "b", "c"], 9)
    ('a, b, c and 2 more', 'a, b, c and 6 more')
    """
    more = (len(names) if count is None else count) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint for a mistyped name: the first in order of those that are as near.

    >>> nearest("patchcor", ["patchcore", "padim"])
    "did you mean 'patchcore'?"
    >>> nearest("x", ["patchcore", "padim"])
    'known: padim, patchcore'
    >>> nearest("net", ["net1", "net0"])
    "did you mean 'net0'?"
    """
    import difflib  # here: most runs end well

    known = sorted(known)
    likeness = {name: difflib.SequenceMatcher(None, name, word).ratio() for name in known}
    best = max(known, key=likeness.__getitem__, default="")
    return f"did you mean '{best}'?" if likeness.get(best, 0.0) >= LEAST_LIKENESS else f"known: {', '.join(known)}"


def reason(error: OSError) -> str:
    """Why the system refuses to write, and what to do.

    >>> reason(OSError(errno.ENOSPC, "No space left on device"))
    'no space left on the disk; free some'
    """
    if error.errno == errno.ENOENT:
        return "its folder does not exist; make it first"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "a file stands where a folder is needed"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left on the disk; free some"
    return error.strerror or str(error)
