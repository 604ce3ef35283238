"""The name of a colour profile (ICC) in an image file; profiles are named and never applied."""

import struct
from collections.abc import Mapping
from typing import Any, cast

SRGB = "srgb"
_SAME_GAMMA = 0.02
_SRGB_COLOURS = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""x and y of white, red, green and blue."""


def profile_name(content: bytes | None) -> str:
    """The description that an ICC profile has of itself, 'unnamed' where it cannot be followed, '' without a profile.

    Specification ICC.1: the tag `desc`, a textDescriptionType (version 2) or a multiLocalizedUnicodeType (version 4).
    """
    if not content:
        return ""
    try:
        count = struct.unpack(">I", content[128:132])[0]
        for place in range(min(count, 100)):
            tag, offset, size = struct.unpack(">4sII", content[132 + 12 * place : 144 + 12 * place])
            if tag == b"desc":
                return _text(content[offset : offset + size]) or "unnamed"
    except (struct.error, UnicodeDecodeError):
        pass
    return "unnamed"


def gamma_name(info: Mapping[Any, Any]) -> str:
    """What a PNG without a profile says of its gamma and colours, where they are not sRGB's; `info` is Pillow's.

    >>> gamma_name({"gamma": 1.0}), gamma_name({"gamma": 0.45455}), gamma_name({})
    ('gamma 1', '', '')
    >>> gamma_name({"chromaticity": (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)})
    'other primary colours'
    """
    if "srgb" in info:
        return ""
    gamma, colours = info.get("gamma"), info.get("chromaticity")
    is_own = isinstance(gamma, float) and gamma > 0 and abs(gamma * 2.2 - 1) >= _SAME_GAMMA
    is_other = isinstance(colours, tuple) and any(
        abs(found - usual) > _SAME_GAMMA for found, usual in zip(colours, _SRGB_COLOURS, strict=False)
    )
    names = (f"gamma {1 / cast(float, gamma):.3g}" if is_own else "", "other primary colours" if is_other else "")
    return ", ".join(filter(None, names))


def _text(data: bytes) -> str:
    if data[:4] == b"mluc":
        length, offset = struct.unpack(">II", data[20:28])
        text = data[offset : offset + length].decode("utf-16-be")
    else:
        length = struct.unpack(">I", data[8:12])[0]
        text = data[12 : 12 + length].decode("ascii")
    return "".join(letter for letter in text if letter.isprintable()).strip()[:60]


def is_plain(name: str) -> bool:
    """Whether a file of this profile is shown as one without a profile is: there is none, or it is sRGB."""
    return not name or SRGB in name.lower()
