"""Photos in files, upright and turned."""

from pathlib import Path

from PIL import Image

TURNED = 6
"""EXIF's number for a photo that was stored lying on its left side."""


def write_photo(path: Path, size: tuple[int, int], turned: bool = False) -> Path:
    """Grey, and white in the first quarter of its first row as it is stored."""
    image, exif = Image.new("RGB", size, (90, 90, 90)), Image.Exif()
    image.paste((255, 255, 255), (0, 0, size[0] // 2, size[1] // 2))
    if turned:
        exif[0x0112] = TURNED
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=95, exif=exif)
    return path
