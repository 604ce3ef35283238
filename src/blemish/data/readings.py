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
    is_grey: bool = False
    """Whether it is stored with one channel, whatever the network sees."""

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
    """How photos were read, for a model of colour or not; of many only counts and the first names are kept."""

    def __init__(self, white_level: int | None, in_colour: bool = False) -> None:
        self.deep = DeepPhotos(white_level)
        self._in_colour = in_colour
        self._count = self._transparent = self._grey = 0
        self._names: list[str] = []
        self._grey_names: list[str] = []

    def add(self, name: str, reading: Reading) -> None:
        """Count a photo."""
        self._count += 1
        self.deep.add(name, reading.brightest)
        if reading.is_transparent:
            self._transparent += 1
            self._names = [*self._names, name][:_SHOWN]
        if reading.is_grey:
            self._grey += 1
            self._grey_names = [*self._grey_names, name][:_SHOWN]

    @property
    def grey(self) -> str:
        """What is said of grey photos where the model is one of colour; else empty.

        >>> readings = Readings(None, in_colour=True)
        >>> for name in ("a.png", "b.png"): readings.add(name, Reading(is_grey=name == "b.png"))
        >>> readings.grey.partition(",")[0]
        '1 of 2 photos is grey (b.png)'
        """
        if not self._in_colour or not self._grey:
            return ""
        who = "all these photos are grey" if self._count > 1 else "the photo is grey"
        if self._grey < self._count:
            names = join_names(self._grey_names, self._grey)
            who = f"{self._grey} of {self._count} photos {'is' if self._grey == 1 else 'are'} grey ({names})"
        return (
            f"{who}, and the model was trained on colour: what it says of that means little, unless it saw grey ones, "
            "too; train on grey photos, or look for what has changed in the camera"
        )

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
        return [note for note in (self.grey, self.deep.note, self.transparency) if note]
