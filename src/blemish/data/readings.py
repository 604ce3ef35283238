"""How photos were read, where that may not be how they were meant: their white, what is transparent, their turn."""

from typing import NamedTuple, final

from blemish.data.deep_photos import DeepPhotos, NamedPhotos, depth_message
from blemish.errors import join_names

MIN_COARSER = 1.5
"""A photo is said to be coarser than others if it is enlarged so many times as much."""
_OVER_BLACK = "transparent in part, and laid over black"
_AS_STORED = "damaged EXIF data, taken as not turned"


@final
class Reading(NamedTuple):
    """How one photo was read."""

    brightest: int | None = None
    """The highest value in a photo of 16 bits that are scaled by the value of white; None of others."""
    is_transparent: bool = False
    """Whether a pixel is transparent, wholly or in part."""
    is_grey: bool = False
    """Whether it is stored with one channel, whatever the network sees."""
    is_untold: bool = False
    """Whether its EXIF data are damaged, so that how it is turned is not known."""
    enlarged: float = 1.0
    """How many times larger than it is the network sees it; 1 where that is not larger."""

    def message(self, white_level: int | None, usual: float | None = None) -> str:
        """What is said of the photo alone; empty of most. `usual` is how many times others were enlarged, if known.

        >>> Reading(4080, True).message(None)
        '16-bit values up to 4080 of 65535: 12 bits in 16?; transparent in part, and laid over black'
        >>> Reading(enlarged=4).message(None, 1.0), Reading(enlarged=4).message(None, 3.0)
        ('enlarged 4.0 times to be seen, and the photos of the training were not: small defects may not show', '')
        """
        odd = (_OVER_BLACK if self.is_transparent else "", _AS_STORED if self.is_untold else "")
        coarse = coarse_message(self.enlarged, usual) if self.is_coarse(usual) else ""
        return "; ".join(filter(None, (depth_message(self.brightest, white_level), *odd, coarse)))

    def is_coarse(self, usual: float | None) -> bool:
        """Whether it is enlarged much more than others are, so that it has less detail."""
        return usual is not None and self.enlarged >= MIN_COARSER * usual


def coarse_message(enlarged: float, usual: float | None) -> str:
    """What is said of a photo that is enlarged more than those of the training."""
    if usual is None or usual == 1:
        return (
            f"enlarged {enlarged:.1f} times to be seen, and the photos of the training were not: small defects may not "
            "show"
        )
    return (
        f"enlarged {enlarged:.1f} times to be seen, the photos of the training {usual:.1f} times: small defects may "
        "not show"
    )


READ_AS_MEANT = Reading()


@final
class Readings:
    """How photos were read, for a model of colour or not that judges them, or is trained on them.

    Of many only counts and the first names are kept. `usual` is how many times photos are usually enlarged, if known.
    """

    def __init__(
        self, white_level: int | None, in_colour: bool = False, is_training: bool = False, usual: float | None = None
    ) -> None:
        self.deep = DeepPhotos(white_level)
        self._usual, self._coarsest = usual, 1.0
        self._in_colour, self._is_training = in_colour, is_training
        self._count = 0
        self._grey, self._transparent, self._untold, self._coarse = (NamedPhotos() for _ in range(4))

    def add(self, name: str, reading: Reading) -> None:
        """Count a photo."""
        self._count += 1
        self.deep.add(name, reading.brightest)
        kinds = (self._grey, reading.is_grey), (self._transparent, reading.is_transparent)
        is_coarse = reading.is_coarse(self._usual)
        for some, is_one in (*kinds, (self._untold, reading.is_untold), (self._coarse, is_coarse)):
            if is_one:
                some.add(name)
        self._coarsest = max(self._coarsest, reading.enlarged if is_coarse else 1.0)

    @property
    def grey(self) -> str:
        """What is said of grey photos where the model is one of colour, and trained on others; else empty.

        >>> readings = Readings(None, in_colour=True)
        >>> for name in ("a.png", "b.png"): readings.add(name, Reading(is_grey=name == "b.png"))
        >>> readings.grey.partition(",")[0]
        '1 of 2 photos is grey (b.png)'
        """
        is_among_others = 0 < self._grey.count < self._count
        if not self._in_colour or not self._grey.count or (self._is_training and not is_among_others):
            return ""
        who = "all these photos are grey" if self._count > 1 else "the photo is grey"
        if is_among_others:
            names = join_names(self._grey.names, grey := self._grey.count)
            who = f"{grey} of {self._count} photos {'is' if grey == 1 else 'are'} grey ({names})"
        if self._is_training:
            advice = "take out what is not from the line's camera, or train on grey: data.channels=1"
            return f"{who}, the others in colour; {advice}"
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
        return self._note(self._transparent, f"{_OVER_BLACK}; save them as they are to be seen")

    @property
    def turn(self) -> str:
        """What is said of photos of which is not known how they are turned; empty where there is none.

        >>> readings = Readings(None)
        >>> readings.add("a.png", Reading(is_untold=True))
        >>> readings.turn
        '1 of 1 photo, a.png: damaged EXIF data, taken as not turned; where one lies wrong, save it upright'
        """
        return self._note(self._untold, f"{_AS_STORED}; where one lies wrong, save it upright")

    @property
    def coarse(self) -> str:
        """What is said of photos that are enlarged much more than is usual; empty where there is none.

        >>> readings = Readings(None, usual=1.0)
        >>> readings.add("a.png", Reading(enlarged=4.0))
        >>> readings.coarse[:73]
        '1 of 1 photo, a.png: enlarged 4.0 times to be seen, and the photos of the'
        """
        return self._note(self._coarse, coarse_message(self._coarsest, self._usual))

    def _note(self, some: NamedPhotos, what: str) -> str:
        return f"{some.of(self._count, 'photo')}: {what}" if some.count else ""

    @property
    def notes(self) -> list[str]:
        """All that is said of them."""
        return [note for note in (self.grey, self.deep.note, self.transparency, self.turn, self.coarse) if note]
