"""A registry: a folder with one model a product, which the fleet trains into, inspects with and serves from."""

import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, final

from pydantic import Field, ValidationError, model_validator

from blemish.data.files import atomic_write
from blemish.data.product_names import first_twice, refused_name
from blemish.errors import DataError, nearest
from blemish.settings import Settings, first_problem, hash_file
from blemish.settings.files import read_text

NAME = "registry.json"
WRITTEN_BY: Literal["blemish fleet"] = "blemish fleet"
MODELS: tuple[Literal["model.onnx", "model.safetensors"], ...] = ("model.onnx", "model.safetensors")
"""What a product's model may be called; the first that is there is taken."""


@final
class RegistryModel(NamedTuple):
    """The model of a product, and the SHA-256 that its file must have."""

    product: str
    path: Path
    sha256: str


@final
class Entry(Settings):
    """A product in `registry.json`."""

    product: str
    file: Literal["model.onnx", "model.safetensors"]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@final
class Content(Settings):
    """`registry.json`."""

    written_by: Literal["blemish fleet"] = WRITTEN_BY
    format: Literal[1] = 1
    products: tuple[Entry, ...] = ()

    @model_validator(mode="after")
    def _names_are_folders(self) -> Self:
        names = [entry.product for entry in self.products]
        for name in names:
            if why := refused_name(name):
                raise ValueError(f"product '{name}' {why}")
        if twice := first_twice(names):
            raise ValueError(f"product '{twice}' is there twice")
        return self


@final
class Registry:
    """The models of a folder, by product."""

    def __init__(self, path: Path, files: dict[str, tuple[Path, str | None]]) -> None:
        self.path, self._files = path, files

    @property
    def products(self) -> tuple[str, ...]:
        """Their names, sorted."""
        return tuple(sorted(self._files))

    def model(self, product: str) -> RegistryModel:
        """The model of a product. Its file is opened by whoever judges with it, with this SHA-256.

        Raises:
            DataError: there is no such product; its model is missing.
        """
        if product not in self._files:
            raise DataError(f"{self.path}: no product '{product}'; {nearest(product, self._files)}")
        path, sha256 = self._files[product]
        try:
            found = path.stat()
        except OSError:
            raise DataError(f"{path}: the model of product '{product}' is missing; train it again") from None
        return RegistryModel(product, path, sha256 or _hash(path, found.st_mtime_ns, found.st_size))


def open_registry(path: Path) -> Registry:
    """The registry in a folder: of `blemish fleet train`, or one of `PRODUCT/model.onnx` or `PRODUCT.onnx`.

    Raises:
        DataError: no such folder; no models in it; `registry.json` is damaged or of another program or version.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; a registry is what `blemish fleet train PLAN -o REGISTRY` writes")
    if (path / NAME).exists():
        entries = read_entries(path)
        return Registry(path, {one.product: (path / one.product / one.file, one.sha256) for one in entries})
    files: dict[str, tuple[Path, str | None]] = {one.stem: (one, None) for one in sorted(path.glob("*.onnx"))}
    for below in sorted(one for one in path.iterdir() if one.is_dir() and not refused_name(one.name)):
        if found := next((below / name for name in MODELS if (below / name).is_file()), None):
            if below.name in files:
                raise DataError(f"{path}: two models of product '{below.name}': {found} and {files[below.name][0]}")
            files[below.name] = (found, None)
    if not files:
        raise DataError(f"{path}: no models; expected {NAME}, PRODUCT/model.onnx or PRODUCT.onnx")
    return Registry(path, files)


def read_entries(path: Path) -> tuple[Entry, ...]:
    """The products in a registry's `registry.json`.

    Raises:
        DataError: it cannot be read, or is not what `blemish fleet train` wrote.
    """
    file = path / NAME
    text = read_text(file, "the list of products", DataError)
    try:
        return Content.model_validate_json(text).products
    except ValidationError as error:
        raise DataError(f"{file}: not a registry that this version wrote: {first_problem(error)}") from None


def write_entries(path: Path, entries: Iterable[Entry]) -> None:
    """Write `registry.json`, completely or not at all.

    Raises:
        DataError: it cannot be written there.
    """
    content = Content(products=tuple(sorted(entries, key=lambda entry: entry.product)))
    with atomic_write(path / NAME) as temporary:
        temporary.write_text(json.dumps(content.model_dump(), indent=2) + "\n", encoding="utf-8")


@lru_cache(maxsize=4096)
def _hash(path: Path, _mtime_ns: int, _size: int) -> str:
    """Of a file's content, while it is the same file."""
    return hash_file(path)
