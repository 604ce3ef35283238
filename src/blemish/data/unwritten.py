"""Files that have their full length, but zeros where a copy that is under way has not written yet."""

from blemish.data.damage import end_of
from blemish.data.tiff import Tiff
from blemish.errors import DataError

PAGE_BYTES = 4096
"""Copies write in multiples of it, so what is written ends at one."""
MIN_LEVEL = 16
"""Pixels that are darker on average fade into black by themselves."""
_BEFORE_BYTES = 64


def refuse_unwritten(
    image_format: str | None, content: bytes, where: str, tiff: Tiff | None = None, is_drawn: bool = False
) -> None:
    """Refuse an image whose end is not written yet: Pillow decodes zeros in its place without a word.

    A PNG or JPEG has a mark at its end. Other kinds have none, and black pixels are zeros too: in a WebP, zeros must
    begin at a page of the file and last for one or more; in uncompressed pixels they must also follow on brighter
    ones within a row. What ends in less than a page of zeros is not noticed there, nor a drawing, such as a mask, which
    may end in black wherever it likes.

    Raises:
        DataError: the end is missing; `where` is what the error calls the file.
    """
    if image_format == "PNG":
        is_cut = b"IEND" not in content
    elif image_format == "JPEG":
        is_cut = content.endswith(bytes(16)) and end_of(content) < 0
    elif is_drawn or not content.endswith(bytes(PAGE_BYTES)):
        is_cut = False
    else:
        written = len(content.rstrip(b"\0"))
        is_cut = written % PAGE_BYTES == 0 and (
            image_format == "WEBP" or _ends_within_a_row(_rows(image_format, content, tiff), content, written)
        )
    if is_cut:
        raise DataError(f"{where}: a truncated image, its end is missing; copy it again")


def _rows(image_format: str | None, content: bytes, tiff: Tiff | None) -> tuple[int, int]:
    """Where uncompressed pixels begin, and how many bytes a row has: 0 of compressed ones, and of other kinds."""
    if image_format == "TIFF" and tiff is not None:
        samples = 1 if tiff.is_planar else tiff.samples
        is_plain = tiff.first(259, 1) == 1 and 273 in tiff.tags
        return tiff.first(273, 0), -(-tiff.size_px[1] * samples * tiff.bits // 8) if is_plain else 0
    if image_format != "BMP":
        return 0, 0
    start, width, bits, compression = (
        int.from_bytes(content[at : at + size], "little") for at, size in ((10, 4), (18, 4), (28, 2), (30, 4))
    )
    return start, (width * bits + 31) // 32 * 4 if compression in (0, 3) else 0


def _ends_within_a_row(rows: tuple[int, int], content: bytes, written: int) -> bool:
    start, row_bytes = rows
    before = content[max(start, written - _BEFORE_BYTES) : written]
    return bool(row_bytes and before) and (written - start) % row_bytes != 0 and sum(before) >= MIN_LEVEL * len(before)
