"""The exported file: a valid ONNX file whose metadata and checksum need no ONNX library to be checked."""

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from blemish.errors import ArtifactError
from blemish.inference.onnx_file import FORMAT, HEADER_KEY, check_seal, plain_metadata, run_lengths, seal
from blemish.inference.predictor import Predictor
from blemish.inference.runtime import open_onnx

HERE = Path("model.onnx")


def small_graph() -> bytes:
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 8, 8])
    maps = helper.make_tensor_value_info("maps", TensorProto.FLOAT, ["batch", 8, 8])
    node = helper.make_node("ReduceMax", ["images"], ["maps"], axes=[1], keepdims=0)
    model = helper.make_model(
        helper.make_graph([node], "g", [images], [maps]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    return model.SerializeToString()


@given(metadata=st.dictionaries(st.text(), st.text(max_size=400), max_size=4))
@pytest.mark.slow
def test_onnx_reads_what_was_appended(metadata: dict[str, str]) -> None:
    content = seal(small_graph(), metadata)
    model = onnx.load_from_string(content)
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found.pop("blemish.sha256") == hashlib.sha256(content[:-84]).hexdigest()
    assert found == metadata
    del model.metadata_props[:]
    assert model.SerializeToString() == small_graph()


@given(data=st.data())
def test_any_changed_byte_is_noticed(data: st.DataObject) -> None:
    content = bytearray(seal(small_graph(), {"a": "b"}))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ArtifactError, match=r"damaged or changed|not an ONNX file that blemish exported"):
        check_seal(bytes(content), HERE)


@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(onnx_file: Path, tmp_path: Path, share: float) -> None:
    whole = onnx_file.read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ArtifactError, match=r"m\.onnx: damaged or changed since it was exported .* export it again"):
        Predictor.load(tmp_path / "m.onnx")


def test_a_moved_threshold_is_noticed(onnx_file: Path, tmp_path: Path) -> None:
    content = onnx_file.read_bytes()
    threshold = repr(open_onnx(onnx_file).header.model.threshold).encode()
    (tmp_path / "m.onnx").write_bytes(content.replace(threshold, threshold[:-1] + b"0"))
    assert content.count(threshold) >= 2
    with pytest.raises(ArtifactError, match=r"m\.onnx: damaged or changed"):
        Predictor.load(tmp_path / "m.onnx")


@pytest.mark.parametrize("content", [b"", b"GIF89a", small_graph()])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.onnx").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"other\.onnx: not an ONNX file that blemish exported; make one with"):
        Predictor.load(tmp_path / "other.onnx")


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.onnx: no such model file"):
        Predictor.load(tmp_path / "none.onnx")


def test_a_trained_model_is_not_an_exported_one(model_file: Path) -> None:
    with pytest.raises(ArtifactError, match="not an ONNX file that blemish exported; make one with: blemish export"):
        open_onnx(model_file)


@pytest.mark.parametrize(("found", "advice"), [(FORMAT - 1, "export it again"), (FORMAT + 1, "upgrade blemish")])
def test_another_format_comes_with_advice(tmp_path: Path, found: int, advice: str) -> None:
    (tmp_path / "m.onnx").write_bytes(seal(small_graph(), {HEADER_KEY: json.dumps({"format": found})}))
    with pytest.raises(
        ArtifactError, match=f"exported in format {found}, this version reads format {FORMAT}; {advice}"
    ):
        Predictor.load(tmp_path / "m.onnx")


def test_a_header_that_does_not_fit_is_said(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(seal(small_graph(), {HEADER_KEY: json.dumps({"format": FORMAT, "model": {}})}))
    with pytest.raises(
        ArtifactError, match=r"does not fit this version \(model\.detector: Field required\); export it"
    ):
        Predictor.load(tmp_path / "m.onnx")


def test_a_graph_beyond_this_onnxruntime_comes_with_advice(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key != "blemish.sha256"}
    del model.metadata_props[:]
    model.opset_import[0].version = 999
    (tmp_path / "m.onnx").write_bytes(seal(model.SerializeToString(), metadata))
    with pytest.raises(ArtifactError, match=r"m\.onnx: onnxruntime .* cannot load it .* lower --opset"):
        Predictor.load(tmp_path / "m.onnx")


def test_onnx_is_known_without_its_suffix(onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(onnx_file.read_bytes())
    assert Predictor.load(tmp_path / "model").header == Predictor.load(onnx_file).header


def test_plain_metadata_says_what_an_embedder_needs(onnx_file: Path) -> None:
    header = open_onnx(onnx_file).header.model
    assert plain_metadata(header) == {
        "blemish.size_px": "64 64",
        "blemish.channels": "3",
        "blemish.min_defect_px": "1",
        "blemish.threshold": repr(header.threshold),
    }


@given(bits=st.lists(st.booleans(), min_size=1, max_size=40))
def test_run_lengths_can_be_undone(bits: list[bool]) -> None:
    runs = run_lengths(np.array(bits))
    assert [place % 2 == 1 for place, length in enumerate(runs) for _ in range(length)] == bits
