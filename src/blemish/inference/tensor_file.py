"""A safetensors file of ours: content as JSON and a SHA-256 in its header. No pickle, no torch."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue
from safetensors import SafetensorError
from safetensors.numpy import load, save

from blemish.data.files import atomic_write
from blemish.errors import ArtifactError
from blemish.inference.trust import read_model_file

Tensors = Mapping[str, NDArray[np.generic]]
_KINDS = {
    "artifact": ("a model file", "blemish train and blemish export write them"),
    "evaluation": ("the maps of an evaluation", "evaluate again"),
    "state": ("the state of a training", "train without --resume"),
}
"""What a file is, and what to do where it is not."""


def write_tensors(path: Path, kind: str, content: Mapping[str, JsonValue], tensors: Tensors) -> None:
    """A safetensors file of ours: `content` as JSON and a checksum in its header.

    Raises:
        DataError: it cannot be written there.
    """
    text = json.dumps(content, allow_nan=False, sort_keys=True)
    solid = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    metadata = {"blemish": kind, "content": text, "sha256": _checksum(text, solid)}
    with atomic_write(path) as temporary:
        temporary.write_bytes(save(solid, metadata))  # safetensors' own writing hides why a disk refuses


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `write_tensors` wrote.

    Raises:
        ArtifactError: missing, foreign, truncated, or changed since it was written.
    """
    if not path.exists():
        raise ArtifactError(f"{path}: no such file; {_KINDS[kind][1]}")
    return parse_tensors(read_model_file(path), path, kind)


def parse_tensors(file: bytes, path: Path, kind: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What `write_tensors` wrote, from its bytes.

    Raises:
        ArtifactError: as `read_tensors`.
    """
    try:
        tensors = load(file)
        length = int.from_bytes(file[:8], "little")
        metadata = json.loads(file[8 : 8 + length]).get("__metadata__", {})
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = str(error).removeprefix("Error while deserializing: ")
        what, advice = _KINDS[kind]
        raise ArtifactError(f"{path}: not {what}, or a truncated one ({reason}); {advice}") from None
    if metadata.get("blemish") != kind:
        wanted = "a model that blemish train wrote" if kind == "artifact" else f"blemish's {kind}"
        raise ArtifactError(f"{path}: a safetensors file of something else; {wanted} is needed")
    text = metadata.get("content", "")
    if metadata.get("sha256") != _checksum(text, tensors):
        raise ArtifactError(f"{path}: damaged or changed since it was written (its checksum does not match)")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: its header is missing or damaged")
    return content, tensors


def _checksum(text: str, tensors: Tensors) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        tensor = np.ascontiguousarray(tensors[name])
        digest.update(f"{name} {tensor.dtype} {tensor.shape}".encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
