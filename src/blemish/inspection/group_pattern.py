"""The group pattern that a model file holds: used only where it cannot take for ever on a file's name."""

import re

from blemish.errors import SettingsError
from blemish.inference.calibration import CalibrationCard

MAX_LENGTH = 200
MAX_REPEATS = 3
"""Each repeat multiplies the time by the length of a name."""

_REPEAT = re.compile(r"(?<!\\)(?:\\\\)*[*+?{]")
_REPEATED_GROUP = re.compile(r"(?<!\\)(?:\\\\)*\)\s*[*+{]")
_REFERENCE = re.compile(r"\\\d|\(\?P=|\(\?\(")


def pattern_in_model(card: CalibrationCard) -> str | None:
    r"""The regular expression that told the groups of the images calibrated on; None where there was none.

    Raises:
        SettingsError: it could take for ever. Given with `--groups` it is taken as it is.

    >>> pattern_in_model(CalibrationCard(by_group=True, group_pattern=r"part(\d+)_"))
    'part(\\d+)_'
    >>> pattern_in_model(CalibrationCard(by_group=True, group_pattern="(a+)+$"))
    Traceback (most recent call last):
    blemish.errors.SettingsError: --groups: the pattern '(a+)+$' in the model file could take for ever; ...
    """
    pattern = card.group_pattern
    if pattern is None:
        return None
    plain = re.sub(r"\(\?[:P<=!]", "(", pattern)  # marks of a group, no repeats
    is_slow = len(pattern) > MAX_LENGTH or len(_REPEAT.findall(plain)) > MAX_REPEATS
    if is_slow or _REPEATED_GROUP.search(plain) or _REFERENCE.search(pattern):
        raise SettingsError(
            f"--groups: the pattern '{pattern[:MAX_LENGTH]}' in the model file could take for ever; give it yourself "
            "with --groups if you trust it"
        )
    return pattern
