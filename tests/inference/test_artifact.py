"""The model file: what is written is read, and nothing else is."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from blemish.errors import ArtifactError
from blemish.inference.artifact import FORMAT, read_artifact, write_artifact
from blemish.inference.predictor import Predictor
from blemish.inference.tensor_file import write_tensors


def test_header_and_tensors_survive(model_file: Path, tmp_path: Path) -> None:
    header, tensors = read_artifact(model_file)
    write_artifact(tmp_path / "copy", header, tensors)
    again, copies = read_artifact(tmp_path / "copy")
    assert again == header
    assert all(np.array_equal(tensors[name], copies[name]) for name in tensors)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.safetensors: no such model file"):
        read_artifact(tmp_path / "none.safetensors")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(model_file: Path, tmp_path: Path, share: float) -> None:
    whole = model_file.read_bytes()
    (tmp_path / "m").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArtifactError, match=r"m: not a model file, or a truncated one"):
        Predictor.load(tmp_path / "m")


@pytest.mark.parametrize("place", ["weights", "threshold"])
def test_a_tampered_file_is_refused(model_file: Path, tmp_path: Path, place: str) -> None:
    content = bytearray(model_file.read_bytes())
    if place == "weights":
        content[-100] ^= 1
    else:
        at = content.index(b'threshold\\":') + len(b'threshold\\": ') + 1
        content[at : at + 1] = b"9" if content[at : at + 1] != b"9" else b"8"
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged or changed since it was written"):
        read_artifact(tmp_path / "m")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3)}, tmp_path / "foreign.safetensors")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG" + b"0" * 100)
    for name in ("foreign.safetensors", "photo.png"):
        with pytest.raises(ArtifactError, match=name):
            read_artifact(tmp_path / name)


@pytest.mark.parametrize(("found", "advice"), [(FORMAT + 1, "upgrade blemish"), (0, "train it again")])
def test_another_format_is_refused_with_advice(tmp_path: Path, found: int, advice: str) -> None:
    write_tensors(tmp_path / "m", "artifact", {"format": found}, {})
    with pytest.raises(ArtifactError, match=f"format {found}.*{advice}"):
        read_artifact(tmp_path / "m")


def test_a_header_that_does_not_fit_is_refused(model_file: Path, tmp_path: Path) -> None:
    header, tensors = read_artifact(model_file)
    content = {**header.model_dump(mode="json"), "threshold": "high"}
    write_tensors(tmp_path / "m", "artifact", content, tensors)
    with pytest.raises(ArtifactError, match="threshold"):
        read_artifact(tmp_path / "m")


def test_tensors_of_another_network_are_refused(model_file: Path, tmp_path: Path) -> None:
    header, tensors = read_artifact(model_file)
    write_artifact(tmp_path / "m", header, {name: value for name, value in tensors.items() if "0" in name})
    with pytest.raises(ArtifactError, match="its tensors do not fit detector 'conv_autoencoder'"):
        Predictor.load(tmp_path / "m")


def test_the_file_holds_no_pickle(model_file: Path) -> None:
    content = model_file.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"]["blemish"] == "artifact"
    assert len(content) == 8 + length + max(entry["data_offsets"][1] for k, entry in header.items() if k[0] != "_")
