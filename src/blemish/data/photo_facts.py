"""What an image file says of itself before it is decoded."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import final

from PIL import Image

_FORMAT_OF = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
_KINDS = {"1": "black and white", "L": "grey", "LA": "grey", "F": "grey, floats", "I": "grey, 16 bits"}


@final
@dataclass(frozen=True)
class PhotoFacts:
    """`kind` is grey, colour or such; `oddities` are plain words on what is unusual in the file."""

    size_px: tuple[int, int]
    kind: str
    oddities: tuple[str, ...]


def photo_facts(path: Path) -> PhotoFacts:
    """The facts of a file that can be decoded; its size is the one after EXIF orientation.

    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "photo.jpg"
    >>> Image.new("L", (4, 3)).save(file, format="PNG")
    >>> photo_facts(file)
    PhotoFacts(size_px=(3, 4), kind='grey', oddities=('named .jpg, but a PNG file',))
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path) as image:
            oddities = []
            if image.format != _FORMAT_OF[path.suffix.lower()]:
                oddities.append(f"named {path.suffix}, but a {image.format} file")
            frames = getattr(image, "n_frames", 1)
            if frames > 1:
                oddities.append(f"{frames} pages or frames, of which the first is used")
            orientation = image.getexif().get(0x0112, 1)
            if orientation not in (0, 1):
                oddities.append(f"turned or mirrored by its EXIF orientation, {orientation}")
            if image.has_transparency_data:
                oddities.append("transparent pixels or an alpha channel, laid over black")
            kind = "grey, 16 bits" if image.mode.startswith("I;") else _KINDS.get(image.mode, "colour")
            width, height = image.size
            size_px = (width, height) if orientation in (5, 6, 7, 8) else (height, width)
            return PhotoFacts(size_px, kind, tuple(oddities))
