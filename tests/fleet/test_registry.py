"""Registries: what is one, what is not, and what a product may be called."""

import hashlib
import json
from pathlib import Path

import pytest

from blemish.data.product_names import refused_name
from blemish.errors import DataError
from blemish.fleet.registry import Entry, open_registry, read_entries, write_entries

SHA256 = hashlib.sha256(b"a model").hexdigest()


def write_models(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"a model")
    return root


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_models(tmp_path, "nut/model.onnx", "bolt/model.safetensors", "other/model.onnx")
    entries = [
        Entry(product="nut", file="model.onnx", sha256=SHA256),
        Entry(product="bolt", file="model.safetensors", sha256="0" * 64),
    ]
    write_entries(tmp_path, entries)
    registry = open_registry(tmp_path)
    assert registry.products == ("bolt", "nut")  # the list decides, not what lies there
    assert registry.model("nut") == ("nut", tmp_path / "nut/model.onnx", SHA256)
    assert registry.model("bolt").sha256 == "0" * 64  # as listed: whoever opens the file compares
    assert [entry.product for entry in read_entries(tmp_path)] == ["bolt", "nut"]


def test_a_plain_folder_of_models_is_one(tmp_path: Path) -> None:
    write_models(
        tmp_path, "nut/model.onnx", "nut/model.safetensors", "bolt.onnx", "pin/model.safetensors", ".x/model.onnx"
    )
    registry = open_registry(tmp_path)
    assert registry.products == ("bolt", "nut", "pin")
    assert registry.model("nut") == ("nut", tmp_path / "nut/model.onnx", SHA256)
    (tmp_path / "bolt.onnx").write_bytes(b"another model")
    assert registry.model("bolt").sha256 == hashlib.sha256(b"another model").hexdigest()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "registry.json: not a registry"),
        ('{"made_by": "someone"}', "registry.json: not a registry"),
        (json.dumps({"format": 2}), "registry.json: not a registry that this version wrote: format"),
        (json.dumps({"products": [{"product": "../x", "file": "model.onnx", "sha256": SHA256}]}), "'/' in its name"),
        (json.dumps({"products": [{"product": "x", "file": "../model.onnx", "sha256": SHA256}]}), "products.0.file"),
        (json.dumps({"products": [{"product": n, "file": "model.onnx", "sha256": SHA256} for n in "xX"]}), "twice"),
    ],
)
def test_another_file_of_that_name_is_refused(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "registry.json").write_text(content)
    with pytest.raises(DataError, match=said):
        open_registry(tmp_path)


def test_what_is_no_registry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone: no such folder; a registry is what"):
        open_registry(tmp_path / "gone")
    with pytest.raises(DataError, match=r"no models; expected registry\.json"):
        open_registry(tmp_path)
    write_models(tmp_path, "nut/model.onnx", "nut.onnx")
    with pytest.raises(DataError, match="two models of product 'nut'"):
        open_registry(tmp_path)


def test_a_product_that_is_not_there_is_named(tmp_path: Path) -> None:
    registry = open_registry(write_models(tmp_path, "hazelnut.onnx"))
    with pytest.raises(DataError, match="no product 'hazelnutt'; did you mean 'hazelnut'"):
        registry.model("hazelnutt")
    (tmp_path / "hazelnut.onnx").unlink()
    with pytest.raises(DataError, match=r"hazelnut.onnx: the model of product 'hazelnut' is missing"):
        registry.model("hazelnut")


@pytest.mark.parametrize(
    "name",
    [
        "",
        " nut",
        "nut.",
        "a/b",
        "a\\b",
        "..",
        ".nut",
        "a\nb",
        "a:b",
        "x" * 81,
        "螺" * 80,
        "ledger.json",
        "Registry.JSON",
    ],
)
def test_a_name_that_no_folder_may_have_is_refused(name: str) -> None:
    assert refused_name(name)


@pytest.mark.parametrize("name", ["nut", "nut 7", "Schraube-M4.2", "шайба", "螺母", "x" * 80])
def test_other_names_are_taken(name: str) -> None:
    assert not refused_name(name)
