"""The bytes of an image, wherever it lies: a path, or a URI of what fsspec reads (http, https, s3, gs, ...)."""

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from blemish.data.decode import MAX_FILE_BYTES, read_content
from blemish.errors import DataError, SettingsError

TIMEOUT_S = 60.0
"""Of one attempt over HTTP."""
ATTEMPTS = 3
_NOT_FETCHED = f", tried {ATTEMPTS} times"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs"}


def scheme_of(location: str) -> str:
    """Of a URI; empty for a path.

    >>> scheme_of("S3://bucket/a.png"), scheme_of("C:/a.png")
    ('s3', '')
    """
    found = _SCHEME.match(location)
    return "" if found is None else found[1].lower()


def check_scheme(scheme: str) -> None:
    """Refuse URIs that nothing installed here reads.

    Raises:
        SettingsError: as said.
    """
    if scheme not in ("", "file"):
        _file_system(scheme)


def resolve(location: str, folder: Path) -> str:
    """The location, a relative path taken from a folder.

    >>> resolve("http://a/b.png", Path("/x")), Path(resolve("b.png", Path("/x"))).as_posix()
    ('http://a/b.png', '/x/b.png')
    """
    scheme = scheme_of(location)
    if scheme == "file":
        return unquote(urlsplit(location).path)
    return location if scheme else str(folder / location)


def fetch(location: str) -> bytes:
    """The bytes of an image; what fails on the way is tried again, what is not there is not.

    Raises:
        DataError: it is missing, too large or cannot be read.
        SettingsError: nothing installed here reads such URIs.
    """
    if not (scheme := scheme_of(location)):
        return read_content(Path(location))
    files, location = _file_system(scheme), scheme + location[len(scheme) :]
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _read(files, location, in_one=attempt == 1)
        except DataError:
            raise
        except (FileNotFoundError, PermissionError) as error:
            what = "no such file" if isinstance(error, FileNotFoundError) else "no permission to read it"
            raise DataError(f"{location}: {what}") from None
        except Exception as error:  # every file system has errors of its own
            if attempt == ATTEMPTS:
                said = " ".join(str(error).split())[:200] or type(error).__name__
                raise DataError(f"{location}: cannot be fetched ({said}){_NOT_FETCHED}") from None
            time.sleep(0.2 * 4 ** (attempt - 1))
    raise AssertionError


def was_not_fetched(message: str) -> bool:
    """Whether an error of `fetch` may be gone another time: the address did not answer, or not with the image.

    >>> was_not_fetched("http://a/b.png: no such file")
    False
    """
    return message.endswith(_NOT_FETCHED)


def _read(files: Any, location: str, in_one: bool) -> bytes:
    """The bytes of a file; `in_one` request for a range of it, which of an empty file no store has."""
    content = bytearray()
    if scheme_of(location).startswith("http"):
        # One GET, without fsspec's question for the size, which takes a busy server's 503 for a missing file.
        options: dict[str, Any] = {"block_size": 0, "size": 1}
    else:
        options = {"cache_type": "none"}
        if in_one:
            content += files.cat_file(location, start=0, end=MAX_FILE_BYTES + 1)
    if not content:
        with files.open(location, "rb", **options) as file:
            while part := file.read(MAX_FILE_BYTES + 1 - len(content)):
                content += part
    if len(content) > MAX_FILE_BYTES:
        raise DataError(f"{location}: more than {MAX_FILE_BYTES} bytes; no image is so large")
    return bytes(content)


def _file_system(scheme: str) -> Any:
    """What reads such URIs; fsspec keeps one of each."""
    try:
        import fsspec

        options: dict[str, Any] = {}
        if scheme in ("http", "https"):
            import aiohttp

            options = {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=TIMEOUT_S, connect=10.0)}}
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        package = _PACKAGES.get(scheme) or error.name or "fsspec"
        raise SettingsError(f"{scheme}://: needs the package {package}; pip install {package}") from None
    except ValueError:
        raise SettingsError(f"{scheme}://: unknown; give a path, or a URI of http, https, s3, gs or az") from None
