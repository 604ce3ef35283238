"""16-bit photos by the bits that their values fill: whether white is what it is taken for."""

from dataclasses import dataclass, field
from typing import NamedTuple, final

from blemish.errors import join_names, plural

_BITS = (8, 10, 12, 14)
"""What cameras store in 16 bits, and files of 8 bits that became ones of 16."""

_TIMES_BELOW = 3
"""A photo is far below others when their brightest value is so many times its own."""

_WHITE = 65_535

_SHOWN = 3


class DepthDoubt(NamedTuple):
    """Photos whose white may be another than it is taken for, and why."""

    names: tuple[str, ...]
    message: str


@dataclass
class NamedPhotos:
    """How many photos there are of some kind, and the first names."""

    count: int = 0
    names: list[str] = field(default_factory=list)

    def add(self, name: str, shown: int | None = _SHOWN) -> None:
        """Count one; `shown` names are kept, None: all."""
        self.count += 1
        if shown is None or len(self.names) < shown:
            self.names.append(name)

    def of(self, total: int, noun: str) -> str:
        """How many of all, and which."""
        return f"{self.count} of {plural(total, noun)}, {join_names(self.names, self.count)}"


@final
@dataclass
class _Alike(NamedPhotos):
    brightest: int = 0


@final
@dataclass
class DeepPhotos:
    """16-bit photos, told apart by the bits that their brightest value takes.

    >>> photos = DeepPhotos(None)
    >>> photos.add("a.tif", 4080)
    >>> photos.note[:73]
    'the brightest value in the 16-bit photos is 4080 of 65535: 12 bits in 16?'
    >>> photos.add("b.tif", 65_000)
    >>> photos.note[:78]
    '1 of 2 16-bit photos, a.tif, has no value above 4095, while others reach 65000'

    Nothing is asked where the settings say that white is 65535: dark photos are dark, then.

    >>> photos = DeepPhotos(65_535)
    >>> photos.add("a.tif", 4080), photos.add("b.tif", 65_000), photos.note
    (None, None, '')
    """

    white_level: int | None
    """The value of white, where the settings say it."""
    shown: int | None = _SHOWN
    """How many names are kept of each kind, as there may be millions; None: all."""

    def __post_init__(self) -> None:
        self._by_bits: dict[int, _Alike] = {}
        self._over = _Alike()
        self.count = 0  # of photos of 16 bits

    def add(self, name: str, brightest: int | None) -> None:
        """Count a photo; one whose `brightest` is None has not 16 bits (see `Prepared`)."""
        if brightest is None:
            return
        self.count += 1
        is_over = self.white_level is not None and brightest > self.white_level
        alike = self._over if is_over else self._by_bits.setdefault(bits_of(brightest), _Alike())
        alike.add(name, self.shown)
        alike.brightest = max(alike.brightest, brightest)

    @property
    def note(self) -> str:
        """All doubts in one text; empty where there is none."""
        return "; ".join(doubt.message for doubt in self.doubts())

    def doubts(self) -> list[DepthDoubt]:
        """Photos that are brighter than white, all that fill less than 16 bits, and those far below others."""
        highest = max((one.brightest for one in (self._over, *self._by_bits.values())), default=0)
        found = []
        if self._over.count:
            message = (
                f"the brightest value in the 16-bit photos is {highest}, above data.white_level={self.white_level}: it "
                f"is cut, in {self._over.of(self.count, '16-bit photo')}"
            )
            found.append(DepthDoubt(tuple(self._over.names), message))
        elif self.white_level is None and self._by_bits and (bits := bits_of(highest)) < 16:
            names = tuple(name for one in self._by_bits.values() for name in one.names)
            message = (
                f"the brightest value in the 16-bit photos is {highest} of 65535: {bits} bits in 16? If "
                f"so, train with data.white_level={(1 << bits) - 1}; or, where they are only dark, with "
                "data.white_level=65535"
            )
            found.append(DepthDoubt(names, message))
        kinds = [] if self.white_level == _WHITE else sorted(self._by_bits.items())  # they are said to be only dark
        for bits, one in kinds:
            if bits < bits_of(highest) and highest >= _TIMES_BELOW * one.brightest:
                found.append(DepthDoubt(tuple(one.names), self._far_below(one, bits, highest)))
        return found

    def _far_below(self, one: _Alike, bits: int, highest: int) -> str:
        times = ((self.white_level or _WHITE) + 1) / (1 << bits)
        return (
            f"{one.of(self.count, '16-bit photo')}, {'has' if one.count == 1 else 'have'} no value above "
            f"{(1 << bits) - 1}, while others reach {highest}: {bits} bits in 16 beside photos of more, or dark "
            f"photos? If {bits} bits, they are seen {times:.3g} times too dark: multiply their values, or keep them "
            "apart, as data.white_level is one for all"
        )


def bits_of(brightest: int) -> int:
    """How many bits a camera may have filled with values up to this one.

    >>> [bits_of(value) for value in (255, 256, 4095, 16_384)]
    [8, 10, 12, 16]
    """
    return next((bits for bits in _BITS if brightest < 1 << bits), 16)


def depth_message(brightest: int | None, white_level: int | None) -> str:
    """What is said of one photo whose white may be another than it is taken for.

    >>> depth_message(4080, None), depth_message(4080, 4095), depth_message(None, None)
    ('16-bit values up to 4080 of 65535: 12 bits in 16?', '', '')
    """
    if brightest is None:
        return ""
    if white_level is not None:
        is_over = brightest > white_level
        return f"values up to {brightest}, above data.white_level={white_level}, were cut" if is_over else ""
    bits = bits_of(brightest)
    return "" if bits == 16 else f"16-bit values up to {brightest} of 65535: {bits} bits in 16?"
