"""`blemish encoders fetch`: a pretrained encoder from a model hub.

Safetensors and small text files alone. What is on the way lies in a folder that ends with .part, and becomes the
encoder's folder when every file is complete and has the hash that the hub tells.
"""

import hashlib
import json
import os
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple, final
from urllib.parse import quote, urlsplit

from filelock import FileLock, Timeout

from blemish.errors import DataError, SettingsError, reason
from blemish.hub.download import append_answer, ask
from blemish.hub.folder import CONFIG, PREPROCESSOR, SOURCE, WEIGHTS, check_folder, hash_weights, read_licence
from blemish.hub.licences import accept, check_accepted
from blemish.hub.store import ALIASES, Named, home, parse_name, place_of
from blemish.settings import hash_file

URL_VARIABLE, DEFAULT_URL = "BLEMISH_HUB_URL", "https://huggingface.co"
TOKEN_VARIABLE = "HF_TOKEN"

WANTED = (CONFIG, PREPROCESSOR, "README.md", "LICENSE", "LICENSE.md", "LICENSE.txt", WEIGHTS)
"""What is fetched where the hub has it; the weights last."""

MAX_LISTING_BYTES = 16 << 20
MAX_TEXT_BYTES = 4 << 20
MAX_WEIGHTS_BYTES = 16 << 30

OnBytes = Callable[[int, int], None]


@final
class Remote(NamedTuple):
    """A file of the hub: its size, and the hash that it must have."""

    name: str
    size: int
    sha256: str
    """Of a large file; empty where the hub tells `git_sha1` alone."""
    git_sha1: str


@final
class Listing(NamedTuple):
    """What the hub has of an encoder at one commit."""

    commit: str
    licence: str
    files: list[Remote]


def fetch(
    name: str,
    revision: str = "main",
    is_licence_accepted: bool = False,
    sha256: str | None = None,
    on_bytes: OnBytes = lambda _done, _total: None,
) -> Path:
    """The folder of an encoder, `hf:NAME` or `timm:NAME`, fetched unless it is there; goes on where it was interrupted.

    Raises:
        SettingsError: no such name; a licence that must be accepted first; the weights are not of this `sha256`.
        DataError: the hub cannot be reached, does not have it, or sends something else; the disk is full.
    """
    named = parse_name(name if ":" in name or name in ALIASES else f"hf:{name}")
    if named is None or named.kind == "folder":
        raise SettingsError(f"{name}: a folder needs no fetching; give hf:NAME or timm:NAME")
    place = place_of(named)
    if place.is_dir() and not (place / SOURCE).is_file():
        raise DataError(f"{place}: was not fetched, so it is left as it is; move it away, or use it: folder:{place}")
    with _only_one(place):
        listing = _list(named, revision, name)
        if place.is_dir() and _is_same(place, listing):
            _check_asked(place, name, sha256)
            return place
        part = place.with_name(f"{place.name}.part")
        try:
            _fetch_into(part, named, listing, name, (is_licence_accepted, sha256), on_bytes)
            shutil.rmtree(place, ignore_errors=True)
            part.replace(place)
        except OSError as error:
            raise DataError(f"{error.filename or part}: cannot be written: {reason(error)}") from None
    return place


def _fetch_into(
    part: Path, named: Named, listing: Listing, name: str, asked: tuple[bool, str | None], on_bytes: OnBytes
) -> None:
    """All files of a listing, each complete and as the hub tells; what is there already is not fetched again."""
    is_licence_accepted, sha256 = asked
    total = sum(file.size for file in listing.files)
    part.mkdir(parents=True, exist_ok=True)
    (part / SOURCE).write_text(json.dumps({"licence": listing.licence}) + "\n", encoding="utf-8")
    done = 0
    for file in listing.files:
        if file.name == WEIGHTS:  # all that tells the licence is there by now
            licence, _ = read_licence(part, name)
            if is_licence_accepted and licence == "dinov3-license":
                accept(licence, home())
            check_accepted(licence, name, home())
            _check_room(part, file)
        _fetch_file(named, listing.commit, file, part / file.name, partial(_tell, on_bytes, done, total))
        done += file.size
    try:
        found = _check_asked(part, name, sha256)
    except SettingsError as error:
        (part / WEIGHTS).unlink()
        raise SettingsError(f"{error}; nothing is kept") from None
    check_folder(part, name)
    noted = {
        "name": name,
        "url": _url(),
        "commit": listing.commit,
        "licence": listing.licence,
        "sha256": found,
    }
    (part / SOURCE).write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")


def _check_asked(folder: Path, name: str, sha256: str | None) -> str:
    """The SHA-256 of the weights, which is the one that was asked for, if one was."""
    found = hash_weights(folder)
    if sha256 is not None and found != sha256.lower():
        raise SettingsError(f"{name}: its weights have SHA-256 {found}, not {sha256}")
    return found


def _tell(on_bytes: OnBytes, before: int, total: int, got: int) -> None:
    on_bytes(before + got, total)


def _list(named: Named, revision: str, name: str) -> Listing:
    """What the hub has.

    Raises:
        DataError: it is not there, or has no safetensors.
    """
    path = f"api/models/{_repository(named)}/revision/{quote(revision, safe='')}?blobs=true"
    with _open(path, name) as answer:
        content = answer.read(MAX_LISTING_BYTES + 1)
    try:
        told: Any = json.loads(content)
        commit, card = str(told["sha"]), told.get("cardData") or {}
        files = {str(one["rfilename"]): one for one in told["siblings"]}
        found = [_remote(wanted, files[wanted]) for wanted in WANTED if wanted in files]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise DataError(f"{name}: {_url()} answers with something that is no list of files") from None
    for wanted in (CONFIG, WEIGHTS):
        if wanted not in files:
            raise DataError(
                f"{name}: {_url()} has no {wanted} of it; weights are fetched as safetensors alone, never as pickle"
            )
    named_so, other = card.get("license"), card.get("license_name")
    licence = other if named_so == "other" and other else named_so
    return Listing(commit, str(licence or "").lower(), found)


def _remote(name: str, told: Mapping[str, Any]) -> Remote:
    large = told.get("lfs") or {}
    size = int(large.get("size", told["size"]))
    if not 0 <= size <= (MAX_WEIGHTS_BYTES if name == WEIGHTS else MAX_TEXT_BYTES):
        raise DataError(f"{name}: {size >> 20} MiB, more than is fetched")
    remote = Remote(name, size, str(large.get("sha256", "")), str(told.get("blobId", "")))
    if not (remote.sha256 if name == WEIGHTS else remote.sha256 or remote.git_sha1):
        raise DataError(f"{name}: the hub does not tell its hash, so that nobody could say whether it came as it is")
    return remote


def _fetch_file(named: Named, commit: str, file: Remote, path: Path, on_bytes: Callable[[int], None]) -> None:
    """One file, from where it was interrupted.

    Raises:
        DataError: it cannot be had, was cut off (what came is kept), or is another (nothing is kept).
    """
    got = path.stat().st_size if path.is_file() else 0
    if got > file.size:
        path.unlink()
        got = 0
    if got < file.size or not path.is_file():
        url = f"{_repository(named)}/resolve/{quote(commit, safe='')}/{file.name}"
        with _open(url, file.name, got) as answer:
            got = append_answer(answer, path, got, file.size, on_bytes)
    if got < file.size:
        raise DataError(
            f"{file.name}: cut off after {got} of {file.size} bytes; what came is kept: "
            "the same command goes on from there"
        )
    if not _is_as_told(path, file):
        path.unlink()
        raise DataError(f"{file.name}: its hash is not the one that the hub tells; nothing is kept, fetch it again")
    on_bytes(file.size)


def _is_as_told(path: Path, file: Remote) -> bool:
    if file.sha256:
        return hash_file(path) == file.sha256
    blob = f"blob {file.size}\0".encode() + path.read_bytes()  # as git names its files
    return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == file.git_sha1


def _is_same(place: Path, listing: Listing) -> bool:
    try:
        return bool(json.loads((place / SOURCE).read_text(encoding="utf-8"))["commit"] == listing.commit)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_room(part: Path, file: Remote) -> None:
    there = (part / file.name).stat().st_size if (part / file.name).is_file() else 0
    free = shutil.disk_usage(part).free
    if free < file.size - there:
        raise DataError(
            f"{part}: {free / 1e6:.0f} MB free, {(file.size - there) / 1e6:.0f} MB needed; make room, or name another "
            "folder in BLEMISH_ENCODERS"
        )


def _repository(named: Named) -> str:
    inside = named.name if named.kind == "hf" or "/" in named.name else f"timm/{named.name}"
    return quote(inside)


def _url() -> str:
    url = os.environ.get(URL_VARIABLE, DEFAULT_URL).rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise SettingsError(f"{URL_VARIABLE}: '{url}' does not begin with https:// or http://")
    return url


@contextmanager
def _open(path: str, what: str, start: int = 0) -> Iterator[HTTPResponse]:
    """An answer of the hub, from byte `start` on.

    Raises:
        DataError: it cannot be reached, or refuses.
    """
    base = _url()
    request = urllib.request.Request(f"{base}/{path}")
    if token := os.environ.get(TOKEN_VARIABLE):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        answer = ask(request, start)
    except urllib.error.HTTPError as error:
        error.close()
        raise DataError(f"{what}: {base} {_refusal(error.code)}") from None
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        why = getattr(error, "reason", error)
        raise DataError(
            f"{what}: {base} cannot be reached ({why}); where there is no internet, fetch it elsewhere and carry "
            "the folder over: model.encoder=folder:PATH"
        ) from None
    with answer:
        yield answer


def _refusal(code: int) -> str:
    if code in (401, 403):
        return (
            f"refuses it ({code}): it does not exist, or its terms must be accepted on its page there; then name your "
            f"token in {TOKEN_VARIABLE}"
        )
    if 300 <= code < 400:
        return f"leads elsewhere than to http or https ({code}): a redirect that is not followed"
    return (
        "does not have it (404); is the name right?" if code == 404 else f"answers with error {code}; try again later"
    )


@contextmanager
def _only_one(place: Path) -> Iterator[None]:
    """One fetch of an encoder at a time.

    Raises:
        DataError: another is under way; the folder cannot be written.
    """
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.parent / f".{place.name}.lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise DataError(f"{place}: another fetch of it is under way") from None
    except OSError as error:
        raise DataError(
            f"{error.filename or place}: cannot be written: {reason(error)}; or name another in BLEMISH_ENCODERS"
        ) from None
    try:
        yield
    finally:
        lock.release()
