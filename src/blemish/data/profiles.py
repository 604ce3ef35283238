"""The name of a colour profile (ICC) in an image file; profiles are named and never applied."""

import struct
from collections.abc import Mapping
from typing import Any

SRGB = "srgb"
_SAME_GAMMA = 0.02


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
    """What a PNG without a profile says of its gamma, where that is not sRGB's; `info` is Pillow's.

    >>> gamma_name({"gamma": 1.0}), gamma_name({"gamma": 0.45455}), gamma_name({})
    ('gamma 1', '', '')
    """
    gamma = info.get("gamma")
    if not isinstance(gamma, float) or gamma <= 0 or "srgb" in info or abs(gamma * 2.2 - 1) < _SAME_GAMMA:
        return ""
    return f"gamma {1 / gamma:.3g}"


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
