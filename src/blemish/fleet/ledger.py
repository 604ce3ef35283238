"""The ledger of a fleet: which shards are finished. A finished shard is one Parquet file, complete or not there.

A file is named by the place of its shard and by a key of all that decides its content: the rows of the manifest, the
SHA-256 of the model, and the settings. So a shard whose rows, model or settings have changed counts as unfinished and
is judged again, the others are kept; and rows of two models can never come together in a product. A shard with images
that could not be fetched is finished for the run that met them; whoever opens the ledger again finds it in `kept`.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

from blemish.data.files import absolute_path, atomic_write, make_folder, remove_left_parts
from blemish.errors import DataError
from blemish.fleet.archive import Shard
from blemish.fleet.manifest import MADE_BY, load_pyarrow
from blemish.fleet.pieces import choose

FIELDS = {
    "id": "string",
    "path": "string",
    "product": "string",
    "verdict": "string",
    "score": "float64",
    "p_value": "float64",
    "threshold": "float64",
    "region_count": "int64",
    "regions": "string",
    "message": "string",
    "image_sha256": "string",
    "model_sha256": "string",
    "latency_ms": "float64",
}
"""The columns of a result, named as in a record; regions are a JSON list. Empty where there is no value."""

_AGAIN = "-again"
"""In the name of a finished shard with images that could not be fetched."""
_NAME = re.compile(rf"\d{{6,}}-([0-9a-f]{{24}})({_AGAIN})?\.parquet")


def result_schema(*more: str) -> Any:
    """Of finished shards and of all results; `more` are integers before them."""
    pyarrow = load_pyarrow()
    fields = [(name, pyarrow.int64()) for name in more]
    kinds = {"string": pyarrow.string(), "float64": pyarrow.float64(), "int64": pyarrow.int64()}
    return pyarrow.schema(fields + [(name, kinds[kind]) for name, kind in FIELDS.items()], MADE_BY)


@final
class Ledger:
    """The finished shards in a folder, by their keys."""

    def __init__(self, folder: Path) -> None:
        self.folder = absolute_path(make_folder(folder))
        remove_left_parts(folder)
        names = [found for entry in os.scandir(folder) if (found := _NAME.fullmatch(entry.name))]
        self._files = {found[1]: found[0] for found in names if found[2] is None}
        self._kept: dict[str, str] = {}
        for name, key in ((found[0], found[1]) for found in names if found[2]):
            if key in self._files:  # a run ended between writing one and deleting the other
                (folder / name).unlink(missing_ok=True)
            else:
                self._kept[key] = name

    def __contains__(self, key: str) -> bool:
        return key in self._files

    def path(self, key: str) -> Path:
        """Where the results of a finished shard are."""
        return self.folder / self._files[key]

    def kept(self, shard: Shard, key: str) -> Path | None:
        """The results of a shard, of whose images some could not be fetched by an earlier run."""
        path = self.folder / self._kept.get(key, "")
        if key not in self._kept or _read(path, shard.rows) is None:
            return None
        return path

    def add(self, shard: Shard, key: str, table: Any) -> None:
        """Keep the results of a shard, on the disk when this returns.

        Raises:
            DataError: it cannot be written; then nothing of it is.
        """
        pyarrow = load_pyarrow()
        name = f"{shard.place:06}-{key}{_AGAIN if any(choose(table, None)) else ''}.parquet"
        with atomic_write(self.folder / name) as temporary:
            pyarrow.parquet.write_table(table, temporary, compression="zstd")
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if (old := self._kept.pop(key, name)) != name:
            (self.folder / old).unlink(missing_ok=True)
        self._files[key] = name

    def tables(self, shards: Iterable[tuple[Shard, str]]) -> Iterator[Any]:
        """The results of finished shards, in the order given.

        Raises:
            DataError: one is damaged; its file is deleted, so that the shard counts as unfinished.
        """
        for shard, key in shards:
            path = self.folder / self._files[key]
            if (table := _read(path, shard.rows)) is None:
                path.unlink(missing_ok=True)
                raise DataError(f"{path}: damaged, and deleted; the same command judges these images again")
            yield table

    def forget_others(self, keys: Sequence[str]) -> int:
        """Delete finished shards that are not of these keys, of an earlier manifest, model or setting; how many."""
        known = self._kept | self._files
        others = known.keys() - set(keys)
        for key in others:
            (self.folder / known[key]).unlink(missing_ok=True)
            self._files.pop(key, None)
            self._kept.pop(key, None)
        return len(others)


def read_results(path: Path) -> Any:
    """The results in a file.

    Raises:
        OSError, pyarrow.ArrowException: it is damaged.
    """
    return load_pyarrow().parquet.read_table(path, schema=result_schema())


def _read(path: Path, rows: int) -> Any:
    """The results in a file; None where it is damaged."""
    try:
        table = read_results(path)
    except (OSError, load_pyarrow().ArrowException):
        return None
    return table if table.num_rows == rows else None
