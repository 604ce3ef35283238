"""Passwords that the station needs elsewhere: known by a name, kept in a variable of the environment or in a file of
`secrets/`, and in neither the database nor a backup.
"""

import os
import re
from pathlib import Path

from blemish.errors import SettingsError
from blemish.station.folder import StationFolder

LARGEST_BYTES = 64 * 1024


def check_name(name: str, what: str) -> str:
    """A name that a password may have: it leads to no other file or variable.

    Raises:
        SettingsError: it is none.
    """
    if re.fullmatch(r"[a-z0-9_]{1,64}", name) is None:
        raise SettingsError(f"{what} '{name[:64]}': give a name of 1 to 64 small letters, digits and _")
    return name


def variable_of(name: str) -> str:
    """The variable that it may be in.

    >>> variable_of("broker")
    'BLEMISH_SECRET_BROKER'
    """
    return f"BLEMISH_SECRET_{name.upper()}"


def secret_path(folder: StationFolder, name: str) -> Path:
    """The file that it may be in."""
    return folder.root / "secrets" / name


def read_secret(folder: StationFolder, name: str) -> str:
    """The password of that name; the variable comes first.

    Raises:
        SettingsError: there is neither the variable nor the file, or it cannot be read.
    """
    found = os.environ.get(variable_of(name))
    if found is not None:
        return found
    path = secret_path(folder, name)
    try:
        return path.read_bytes()[:LARGEST_BYTES].decode().rstrip("\r\n")
    except FileNotFoundError:
        raise SettingsError(f"secret '{name}': neither the variable {variable_of(name)} nor the file {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"secret '{name}': {path} cannot be read ({type(error).__name__})") from None
