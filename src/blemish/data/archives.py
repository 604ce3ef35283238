"""Archives of data sets: fetched where asked for, unpacked within bounds, and brought into MVTec's layout."""

import bz2
import gzip
import hashlib
import lzma
import shutil
import stat
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self, cast

from blemish.data.catalogue import DataSet
from blemish.data.convert import convert_dataset
from blemish.data.layouts import find_layout, recognise, subfolders
from blemish.data.outputs import new_folder
from blemish.data.progress import OnStep, tell_nobody
from blemish.errors import DataError, join_names, reason
from blemish.hub.download import append_answer, ask
from blemish.settings import open_regular

MAX_MEMBERS = 1_000_000
MAX_BYTES = 1 << 38
"""Of an archive unpacked, 256 GiB."""
MAX_DEPTH = 4
"""Folders above those of a data set's categories."""
MAX_ARCHIVE_BYTES = 1 << 36
"""Of an archive that is fetched, 64 GiB."""
MAX_REMARK_BYTES = 1 << 20
"""Of a member's name and other remarks, which are read at once."""
_CHUNK = 1 << 20
_BY_HAND = "unpack it yourself and use `blemish data convert`"

_REMARKS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
)
"""What the readers of archives raise, OSError aside."""


def check_archive(path: Path, known: str, on_bytes: OnStep = tell_nobody) -> str:
    """The SHA-256 of an archive.

    Raises:
        DataError: it cannot be read, or is not the one that is `known`, where one is.
    """
    try:
        digest, total, done = hashlib.sha256(), path.stat().st_size, 0
        with open_regular(path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                done += len(chunk)
                on_bytes(done, total)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if known and digest.hexdigest() != known:
        raise DataError(
            f"{path}: SHA-256 {digest.hexdigest()} where {known} is known; cut off, or another version; fetch it "
            f"again, or {_BY_HAND}"
        )
    return digest.hexdigest()


def unpack_dataset(
    archive: Path,
    out: Path,
    data_set: DataSet,
    on_file: OnStep = tell_nobody,
    on_note: Callable[[str], None] = lambda _: None,
) -> list[Path]:
    """The categories of an archive's data set, each a folder below `out` in a layout that `read_folder` takes.

    `out` appears complete or not at all. `on_note` is told what is left out.

    Raises:
        DataError: no archive, one with places outside of itself, or too large; no data set in it; `out` is not empty,
            or the disk is full.
    """
    with new_folder(out) as folder:
        raw = folder / ".unpacked"
        raw.mkdir()
        left_out: list[str] = []
        for done, total in _unpack(archive, raw, left_out):
            on_file(done, total)
        if left_out:
            on_note(f"links and devices in the archive, left out: {join_names(left_out)}")
        for category in find_categories(raw, MAX_DEPTH):
            name = category.name if category != raw else archive.name.partition(".")[0]
            if (folder / name).exists():
                raise DataError(f"{archive}: two data sets in it are called {name}; {_BY_HAND}")
            if data_set.layout:
                convert_dataset(category, folder / name, data_set.layout, on_note=on_note)
            else:
                category.rename(folder / name)
        _keep_terms(raw, folder)
        shutil.rmtree(raw, ignore_errors=True)
        names = [path.name for path in subfolders(folder)]
        if not names:
            raise DataError(f"{archive}: no folder in it looks like a data set ({data_set.title})")
    return [out / name for name in names]


def find_categories(folder: Path, depth: int) -> list[Path]:
    """The folders at or below this one that are a data set, none inside another."""
    if find_layout(folder) or recognise(folder):
        return [folder]
    return [found for below in subfolders(folder) for found in find_categories(below, depth - 1)] if depth else []


def _keep_terms(raw: Path, folder: Path) -> None:
    """Licence and readme of the archive go along; of several with one name the outermost."""
    for path in [*sorted(raw.glob("*")), *sorted(raw.glob("*/*"))]:
        if (
            path.is_file()
            and not (folder / path.name).exists()
            and path.name.lower().startswith(("license", "licence", "readme"))
        ):
            shutil.copyfile(path, folder / path.name)


def download(address: str, path: Path, on_bytes: OnStep = tell_nobody) -> None:
    """Fetch an archive to `path`, from where an earlier call was interrupted; what is on the way ends with `.part`.

    Raises:
        DataError: the address cannot be reached, refuses, has too much, or was cut off; what came is kept.
    """
    part = path.with_name(f"{path.name}.part")
    got, total = _size_of(part), None

    def tell(done: int) -> None:
        _check_fetched(address, done)
        on_bytes(done, total or done)

    try:
        with ask(urllib.request.Request(address), got) as answer:
            total = _size_told(answer, got)
            _check_fetched(address, total or 0)
            got = append_answer(answer, part, got, total, tell)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:  # else all of it is there already
            raise DataError(f"{address}: answers {error.code}; fetch it by hand and give --archive") from None
        total = got
    except (HTTPException, OSError, ValueError) as error:
        why = getattr(error, "reason", None) or (reason(error) if isinstance(error, OSError) else error)
        raise DataError(
            f"{address}: cannot be fetched ({why}); the same command goes on from {_size_of(part)} bytes, or fetch it "
            "by hand and give --archive"
        ) from None
    if total is not None and got < total:
        raise DataError(f"{address}: cut off after {got} of {total} bytes; the same command goes on from there")
    part.replace(path)


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _size_told(answer: HTTPResponse, start: int) -> int | None:
    """How large the file is; None where the server does not say."""
    length = answer.headers.get("Content-Length")
    return None if length is None else int(length) + (start if answer.status == HTTPStatus.PARTIAL_CONTENT else 0)


def _check_fetched(address: str, size: int) -> None:
    if size > MAX_ARCHIVE_BYTES:
        raise DataError(f"{address}: more than {MAX_ARCHIVE_BYTES >> 30} GiB; fetch it by hand and give --archive")


def _unpack(archive: Path, out: Path, left_out: list[str]) -> Iterator[tuple[int, int]]:
    """Write all files, and say after each how many bytes of how many are done; `left_out` gets the names of others."""
    try:
        with archive.open("rb") as file:
            is_zip = file.read(2) == b"PK" and zipfile.is_zipfile(archive)  # a tar may end with a zip in it
        if is_zip:
            yield from _unpack_zip(archive, out, left_out)
        else:
            yield from _unpack_tar(archive, out, left_out)
    except _DAMAGED as error:
        raise DataError(f"{archive}: not a whole tar or zip archive ({error})") from None
    except OSError as error:
        raise DataError(f"{error.filename or archive}: cannot be unpacked: {reason(error)}") from None


def _unpack_zip(archive: Path, out: Path, left_out: list[str]) -> Iterator[tuple[int, int]]:
    with zipfile.ZipFile(archive) as file:
        members = list[zipfile.ZipInfo]()
        for member in file.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                left_out.append(member.filename)
            elif not member.is_dir():
                members.append(member)
        total = sum(member.file_size for member in members)
        _check_size(archive, len(members), total)
        done = 0
        for member in members:
            with file.open(member) as content:
                done += _write(content, _inside(archive, out, member.filename), member.file_size)
            yield done, total


class _Member(tarfile.TarInfo):
    """A damaged header is an error, where tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            found = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if not buf or buf.strip(b"\0"):  # else it is the end
                raise tarfile.ReadError(str(error)) from None
            raise
        if found.type in _REMARKS and found.size > MAX_REMARK_BYTES:
            raise tarfile.ReadError(f"{found.size >> 20} MiB of remarks on a member")
        return found


def _unpack_tar(archive: Path, out: Path, left_out: list[str]) -> Iterator[tuple[int, int]]:
    """A tar archive is read once, from its beginning; how much is done is where in the packed file it is."""
    packed, count, done = archive.stat().st_size, 0, 0
    with (
        archive.open("rb") as source,
        _unpacked(source) as plain,
        tarfile.open(fileobj=plain, mode="r|", tarinfo=_Member) as file,
    ):
        for member in file:
            linked = _inside(archive, out, member.linkname) if member.islnk() else None  # to a file before it
            if linked is None and not member.isfile():
                if not member.isdir():
                    left_out.append(member.name)
                continue
            size = linked.stat().st_size if linked else member.size
            count, done = count + 1, done + size
            _check_size(archive, count, done)
            with linked.open("rb") if linked else cast("IO[bytes]", file.extractfile(member)) as content:
                _write(content, _inside(archive, out, member.name), size)
            yield min(source.tell(), packed), packed
        behind = cast("IO[bytes]", file.fileobj)
        while rest := behind.read(_CHUNK):  # an end that was cut off only a decompressor misses
            if rest.strip(b"\0"):
                raise tarfile.ReadError("more than zeros behind its end")


def _unpacked(source: IO[bytes]) -> IO[bytes]:
    """What a packed file holds, by its first bytes."""
    begin = source.read(6)
    source.seek(0)
    openers: dict[bytes, Callable[..., Any]] = {b"\xfd7zXZ": lzma.open, b"\x1f\x8b": gzip.open, b"BZh": bz2.open}
    for magic, opener in openers.items():
        if begin.startswith(magic):
            return cast("IO[bytes]", opener(source))
    return source


def _inside(archive: Path, out: Path, name: str) -> Path:
    """Where a member is written. Links and devices are left out before; this keeps names inside the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
        raise DataError(f"{archive}: {name}: a place outside of the archive; not unpacked")
    target = out.joinpath(*path.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _write(content: IO[bytes], target: Path, size: int) -> int:
    if target.exists():
        raise DataError(f"{target.name}: in the archive twice; {_BY_HAND}")
    written = 0
    with target.open("xb") as file:
        while chunk := content.read(min(_CHUNK, size - written + 1)):
            written += len(chunk)
            if written > size:
                raise DataError(f"{target.name}: longer than its archive says; not unpacked")
            file.write(chunk)
    if written < size:
        raise DataError(f"{target.name}: shorter than its archive says; the archive is cut off")
    return written


def _check_size(archive: Path, members: int, total: int) -> None:
    if members > MAX_MEMBERS or total > MAX_BYTES:
        raise DataError(f"{archive}: {members} files of {total >> 30} GiB; {MAX_MEMBERS} of {MAX_BYTES >> 30} at most")
