"""Is a model file the one that was meant? Told by its SHA-256, or by an ed25519 signature beside it.

The checksum inside a model file shows damage; whoever changes the file can write a new one. These two cannot be renewed
by others: the hash comes with the command, and the signature needs the private key. Both are checked on the bytes that
are then used, before anything in them is believed.
"""

import base64
import hashlib
from pathlib import Path
from typing import Any, NamedTuple, final

from blemish.data.files import atomic_write
from blemish.data.outputs import refuse_foreign
from blemish.errors import ArtifactError, SettingsError

MAX_MODEL_BYTES = 4 << 30
"""A larger file is not read as a model."""


@final
class Trust(NamedTuple):
    """What a model file must match, beside its own checksum."""

    sha256: str | None = None
    """Of the file, 64 hexadecimal digits."""
    signed_by: Path | None = None
    """The public key (PEM, ed25519) that its signature, the file MODEL.sig, must be of."""


def read_model_file(path: Path, trust: Trust = Trust()) -> bytes:  # noqa: B008  # immutable
    """The bytes of a model file, which are those that `trust` asks for.

    Raises:
        ArtifactError: missing, no file, too large; another hash; no signature, or one of another key or content.
        SettingsError: no such hash or key.
    """
    check_is_file(path)
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ArtifactError(f"{path}: {size >> 20} MiB; a model file has {MAX_MODEL_BYTES >> 20} MiB at most")
        content = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}") from None
    if trust.sha256 is not None:
        _check_sha256(content, trust.sha256, path)
    if trust.signed_by is not None:
        _check_signature(content, trust.signed_by, path)
    return content


def check_is_file(path: Path) -> None:
    """What is read next is a file, at least.

    Raises:
        ArtifactError: it is missing, a folder, a device or a pipe.
    """
    if path.is_dir():
        raise ArtifactError(f"{path}: a folder, where a model file belongs; the model comes first, then the images")
    if not path.is_file():
        what = "a device or a pipe, not a model file" if path.exists() else "no such model file"
        raise ArtifactError(f"{path}: {what}")


def signature_path(model: Path) -> Path:
    """Where the signature of a model is kept."""
    return model.with_name(model.name + ".sig")


def signature_notes(model: Path) -> tuple[str, ...]:
    """What is said of a model file that was written again; nothing where no signature lies beside it."""
    path = signature_path(model)
    told = f"{path}: signs the file that was there before; sign it again: blemish sign {model} --key KEY"
    return (told,) if path.exists() else ()


def sign_model(model: Path, key: Path) -> Path:
    """Write the signature of a model file beside it; `key` is a private ed25519 key in PEM, without a password.

    Raises:
        ArtifactError: no such model file.
        SettingsError: not such a key, or the package that signs is not installed.
        DataError: the signature cannot be written, or is in the place of another tool's.
    """
    content = read_model_file(model)
    serialization, ed25519 = _cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        private = serialization.load_pem_private_key(_key_bytes(key), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{key}: no private key in PEM without a password ({error})") from None
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise SettingsError(f"{key}: not an ed25519 key; make one with: openssl genpkey -algorithm ed25519 -out KEY")
    path = signature_path(model)
    refuse_foreign(path)
    with atomic_write(path) as temporary:
        temporary.write_text(base64.b64encode(private.sign(_message(content))).decode() + "\n", encoding="ascii")
    return path


def _check_sha256(content: bytes, wanted: str, path: Path) -> None:
    wanted = str(wanted).strip().lower()
    if len(wanted) != 64 or not set(wanted) <= set("0123456789abcdef"):
        raise SettingsError(f"--sha256 {wanted[:80]}: expected 64 hexadecimal digits, as `sha256sum MODEL` prints them")
    found = hashlib.sha256(content).hexdigest()
    if found != wanted:
        raise ArtifactError(f"{path}: its SHA-256 is {found}, expected {wanted}; this is another file")


def _check_signature(content: bytes, key: Path, path: Path) -> None:
    serialization, ed25519 = _cryptography()
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        public = serialization.load_pem_public_key(_key_bytes(key))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SettingsError(f"{key}: no public key in PEM ({error})") from None
    if not isinstance(public, ed25519.Ed25519PublicKey):
        raise SettingsError(f"{key}: not an ed25519 key; make one with: openssl pkey -in KEY -pubout -out PUBLIC")
    beside = signature_path(path)
    try:
        with beside.open("rb") as file:
            signature = base64.b64decode(file.read(200).strip(), validate=True)
    except (OSError, ValueError):
        raise ArtifactError(
            f"{beside}: no signature there; sign the model with: blemish sign MODEL --key KEY"
        ) from None
    try:
        public.verify(signature, _message(content))
    except InvalidSignature:
        raise ArtifactError(f"{path}: not signed by {key}, or changed since; do not use it") from None


def _message(content: bytes) -> bytes:
    """What is signed: the digest under a name of its own, so that the signature serves nothing else."""
    return b"blemish model " + hashlib.sha256(content).hexdigest().encode()


def _key_bytes(key: Path) -> bytes:
    try:
        with key.open("rb") as file:
            return file.read(10_000)
    except OSError as error:
        raise SettingsError(f"{key}: the key cannot be read: {error.strerror}") from None


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ModuleNotFoundError:
        raise SettingsError(
            "signatures need the package 'cryptography'; install it with: pip install 'blemish[sign]'"
        ) from None
    return serialization, ed25519
