"""One file an exported model: an ONNX graph, what surrounds it as metadata, and a checksum as its last entry.

An ONNX file is a protobuf message, and a message grows by appending to it. So the metadata follows the graph, and its
last entry is the SHA-256 of all bytes before that entry, whose length never changes. No library is needed to check it:

```
head -c -84 model.onnx | sha256sum
tail -c 64 model.onnx
```

It shows damage and tampering; it is no signature: someone who changes the file on purpose can also write a new sum.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from blemish.errors import ArtifactError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.onnx_check import read_varint
from blemish.settings import Settings, first_problem

FORMAT = 2
"""Version of what surrounds the graph; another one is refused, with the advice what to do."""

PRODUCER = "blemish"
"""Stands near the start of the file, so that even a truncated one is known for ours."""

HEADER_KEY = "blemish"
FIXTURES_KEY = "blemish.fixtures"

_SEAL = b"\x72\x52\x0a\x0eblemish.sha256\x12\x40"
"""What stands before the 64 hexadecimal digits: field 14 of 82 bytes, its key (field 1), its value (field 2)."""

_METADATA_FIELD, _VARINT, _SIZED = 14, 0, 2
"""The field of an entry, and two of the ways a field may be written."""

_ADVICE = "export it again from the trained model: blemish export MODEL -o FILE"


@final
class ExportCard(Settings):
    """How a graph was made, and how well it was found to agree with the trained model."""

    opset: int
    tolerance: float
    """Largest difference allowed, relative to the value or to the threshold, whichever is larger."""
    scale: float | None = None
    """The threshold that is meant; it may be moved later, and differences stay what they are."""
    checked: int
    """Images on which the export was compared with the trained model."""
    worst: float
    """The largest difference of maps among them, as `tolerance`."""
    worst_image: str
    ties: int = 0
    """Images whose p-value or verdict the tolerance leaves open, and which came out on the other side."""
    versions: dict[str, str] = Field(default_factory=dict)


@final
class OnnxHeader(Settings):
    """What surrounds the graph."""

    format: int = FORMAT
    model: ArtifactHeader
    export: ExportCard


def seal(graph: bytes, metadata: Mapping[str, str]) -> bytes:
    """An ONNX file from a graph (an ONNX file without metadata): the metadata and the checksum follow it.

    >>> content = seal(b"graph", {"blemish.channels": "3"})
    >>> check_seal(content, Path("model.onnx"))
    >>> check_seal(content.replace(b"3", b"1", 1), Path("model.onnx"))
    Traceback (most recent call last):
    blemish.errors.ArtifactError: model.onnx: damaged or changed since it was exported (its checksum ...
    """
    body = graph + b"".join(_entry(key, value) for key, value in metadata.items())
    return body + _SEAL + hashlib.sha256(body).hexdigest().encode()


def unseal(content: bytes) -> bytes:
    r"""The graph of a sealed file: what stands before the first field 14.

    >>> unseal(seal(b"\x08\x0a", {"blemish.channels": "3"}))
    b'\x08\n'
    """
    return content[: _graph_end(content)]


def _graph_end(content: bytes) -> int:
    """Where the first field 14 begins."""
    place = 0
    while place < len(content):
        key, after = read_varint(content, place)
        field, kind = key >> 3, key & 7
        if field == _METADATA_FIELD:
            break
        value, after = read_varint(content, after) if kind in (_VARINT, _SIZED) else (0, after)
        place = after + {_VARINT: 0, _SIZED: value, 1: 8, 5: 4}[kind]
    return place


def read_metadata(content: bytes, path: Path) -> tuple[OnnxHeader, str]:
    """The header and the fixtures (JSON) of a sealed file; nothing else but the graph may be in it.

    Raises:
        ArtifactError: damaged, of another format, or with something else in it.
    """
    entries: dict[str, str] = {}
    try:
        place = _graph_end(content)
        while place < len(content):
            key, place = read_varint(content, place)
            size, place = read_varint(content, place)
            if key != _METADATA_FIELD << 3 | _SIZED or place + size > len(content):
                raise IndexError
            name, value = _pair(content[place : place + size])
            if name in entries:
                raise IndexError
            entries[name], place = value, place + size
    except (IndexError, KeyError, UnicodeDecodeError):
        raise ArtifactError(f"{path}: what surrounds its graph is damaged; {_ADVICE}") from None
    header = _read_header(entries.get(HEADER_KEY, ""), path)
    plain = {name: value for name, value in entries.items() if name.startswith("blemish.")}
    if {**plain, **plain_metadata(header.model)} != plain:
        raise ArtifactError(f"{path}: its header and the plain numbers beside it disagree; {_ADVICE}")
    return header, entries.get(FIXTURES_KEY, "")


def _pair(content: bytes) -> tuple[str, str]:
    """A key and its value, as `_entry` wrote them after the field's own number and length."""
    size, place = read_varint(content, 1)
    key, place = content[place : place + size], place + size
    length, start = read_varint(content, place + 1)
    if content[0] != 0x0A or content[place] != 0x12 or start + length != len(content):
        raise IndexError
    return key.decode(), content[start:].decode()


def check_seal(content: bytes, path: Path) -> None:
    """Refuse a file that is not ours, or is no longer what was written.

    Raises:
        ArtifactError: foreign, truncated, or changed.
    """
    body, sealed, digest = content[: -len(_SEAL) - 64], content[-len(_SEAL) - 64 : -64], content[-64:]
    if sealed == _SEAL and hashlib.sha256(body).hexdigest().encode() == digest:
        return
    if sealed == _SEAL or (content[:1] == b"\x08" and PRODUCER.encode() in content[:64]):
        raise ArtifactError(
            f"{path}: damaged or changed since it was exported (its checksum does not match); {_ADVICE}"
        )
    raise ArtifactError(f"{path}: not an ONNX file that blemish exported; make one with: blemish export MODEL -o FILE")


def _read_header(text: str, path: Path) -> OnnxHeader:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raw = None
    if not isinstance(raw, dict):
        raise ArtifactError(f"{path}: its header is missing or damaged; {_ADVICE}")
    found = raw.get("format")
    if found != FORMAT:
        advice = "upgrade blemish" if isinstance(found, int) and found > FORMAT else _ADVICE
        raise ArtifactError(f"{path}: exported in format {found!r}, this version reads format {FORMAT}; {advice}")
    try:
        return OnnxHeader.model_validate_json(text)
    except ValidationError as error:
        problem = first_problem(error)
        raise ArtifactError(f"{path}: its header does not fit this version ({problem}); {_ADVICE}") from None


def plain_metadata(header: ArtifactHeader) -> dict[str, str]:
    """What a program without JSON and PNG readers needs to judge an image; see docs/howto/embed.md."""
    policy = header.policy
    plain = {
        "blemish.size_px": f"{policy.size_px[0]} {policy.size_px[1]}",
        "blemish.channels": str(policy.channels),
        "blemish.min_defect_px": str(header.run.score.min_defect_px),
        "blemish.threshold": repr(header.threshold),
    }
    if policy.fit != "stretch":
        plain["blemish.fit"] = policy.fit
    if policy.aspect is not None:
        plain["blemish.aspect"] = repr(policy.aspect)
    if policy.roi is not None:
        plain["blemish.roi_runs"] = " ".join(str(length) for length in run_lengths(policy.roi))
    if policy.map_px is not None or policy.shown_png not in (None, policy.roi_png):
        plain["blemish.fit"] = "part"  # so that a program that knows no parts refuses the file
        plain["blemish.map_px"] = "{} {}".format(*policy.window.map_px)
        plain["blemish.at_px"] = "{} {}".format(*policy.at_px)
        shown = np.ones(policy.size_px, np.bool_) if policy.shown is None else policy.shown
        plain["blemish.shown_runs"] = " ".join(str(length) for length in run_lengths(shown))
    if policy.tile_px is not None:
        plain["blemish.tile_px"] = f"{policy.tile_px[0]} {policy.tile_px[1]}"
    return plain


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """Row by row, how many pixels are outside, then inside, then outside, and so on.

    >>> run_lengths(np.array([[True, True, False], [False, True, True]]))
    [0, 2, 2, 2]
    """
    flat = np.concatenate([[False], mask.ravel()])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(length) for length in np.diff(np.concatenate([[0], changes, [mask.size]]))]


def _entry(key: str, value: str) -> bytes:
    """One `StringStringEntryProto` as field 14, `metadata_props`, of a `ModelProto`."""
    pair = b"\x0a" + _sized(key.encode()) + b"\x12" + _sized(value.encode())
    return b"\x72" + _sized(pair)


def _sized(content: bytes) -> bytes:
    """The content after its length as a protobuf varint: seven bits a byte, the lowest first."""
    length, size = bytearray(), len(content)
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([*length, size]) + content
