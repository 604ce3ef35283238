"""How photos were read, where that may not be how they were meant: their white, and what is transparent."""

from typing import NamedTuple, final

from blemish.data.deep_photos import DeepPhotos, depth_message
from blemish.errors import join_names, plural

_SHOWN = 3


@final
class Reading(NamedTuple):
    """How one photo was read."""

    brightest: int | None = None
    """The highest value in a photo of 16 bits that are scaled by the value of white; None of others."""
    is_transparent: bool = False
    """Whether a pixel is transparent, wholly or in part."""

    def message(self, white_level: int | None) -> str:
        """What is said of the photo alone; empty of most.

        >>> Reading(4080, True).message(None)
        '16-bit values up to 4080 of 65535: 12 bits in 16?; transparent in part, and laid over black'
        """
        alpha = "transparent in part, and laid over black" if self.is_transparent else ""
        return "; ".join(filter(None, (depth_message(self.brightest, white_level), alpha)))


READ_AS_MEANT = Reading()


@final
class Readings:
    """How photos were read; of many only counts and the first names are kept."""

    def __init__(self, white_level: int | None) -> None:
        self.deep = DeepPhotos(white_level)
        self._count = self._transparent = 0
        self._names: list[str] = []

    def add(self, name: str, reading: Reading) -> None:
        """Count a photo."""
        self._count += 1
        self.deep.add(name, reading.brightest)
        if reading.is_transparent:
            self._transparent += 1
            self._names = [*self._names, name][:_SHOWN]

    @property
    def transparency(self) -> str:
        """What is said of photos with transparent pixels; empty where there is none.

        >>> readings = Readings(None)
        >>> readings.add("a.png", Reading(is_transparent=True))
        >>> readings.transparency
        '1 of 1 photo, a.png: transparent in part, and laid over black; save them as they are to be seen'
        """
        if not self._transparent:
            return ""
        names = join_names(self._names, self._transparent)
        return (
            f"{self._transparent} of {plural(self._count, 'photo')}, {names}: transparent in part, and laid over "
            "black; save them as they are to be seen"
        )

    @property
    def notes(self) -> list[str]:
        """All that is said of them."""
        return [note for note in (self.deep.note, self.transparency) if note]
