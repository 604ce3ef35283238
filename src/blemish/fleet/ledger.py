"""The ledger of a fleet: which shards are finished. A finished shard is one Parquet file, complete or not there.

A file is named by the place of its shard and by a key of all that decides its content: the rows of the manifest, the
SHA-256 of the model, and the settings. So a shard whose rows, model or settings have changed counts as unfinished and
is judged again, the others are kept; and rows of two models can never come together in a product.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

from blemish.data.files import atomic_write, make_folder, remove_left_parts
from blemish.errors import DataError
from blemish.fleet.archive import Shard
from blemish.fleet.manifest import MADE_BY, load_pyarrow

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

_NAME = re.compile(r"\d{6,}-([0-9a-f]{24})\.parquet")


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
        self.folder = make_folder(folder)
        remove_left_parts(folder)
        names = (found for entry in os.scandir(folder) if (found := _NAME.fullmatch(entry.name)))
        self._files = {found[1]: found[0] for found in names}

    def __contains__(self, key: str) -> bool:
        return key in self._files

    def add(self, shard: Shard, key: str, table: Any) -> None:
        """Keep the results of a shard, on the disk when this returns.

        Raises:
            DataError: it cannot be written; then nothing of it is.
        """
        pyarrow = load_pyarrow()
        name = f"{shard.place:06}-{key}.parquet"
        with atomic_write(self.folder / name) as temporary:
            pyarrow.parquet.write_table(table, temporary, compression="zstd")
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        self._files[key] = name

    def tables(self, shards: Iterable[tuple[Shard, str]]) -> Iterator[Any]:
        """The results of finished shards, in the order given.

        Raises:
            DataError: one is damaged; its file is deleted, so that the shard counts as unfinished.
        """
        pyarrow = load_pyarrow()
        for shard, key in shards:
            path = self.folder / self._files[key]
            try:
                table = pyarrow.parquet.read_table(path, schema=result_schema())
                is_whole = table.num_rows == shard.rows
            except (OSError, pyarrow.ArrowException):
                is_whole = False
            if not is_whole:
                path.unlink(missing_ok=True)
                raise DataError(f"{path}: damaged, and deleted; the same command judges these images again")
            yield table

    def forget_others(self, keys: Sequence[str]) -> int:
        """Delete finished shards that are not of these keys, of an earlier manifest, model or setting; how many."""
        others = self._files.keys() - set(keys)
        for key in others:
            (self.folder / self._files.pop(key)).unlink(missing_ok=True)
        return len(others)
