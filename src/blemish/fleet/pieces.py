"""What is to be judged of a shard: all images, those that could not be fetched before, or those above a threshold."""

from pathlib import Path
from typing import Any, NamedTuple, final

from blemish.fleet.archive import Archive, Shard
from blemish.fleet.fetch import was_not_fetched
from blemish.fleet.manifest import load_pyarrow


@final
class Piece(NamedTuple):
    """Images of one shard, and the key that their results get in a ledger."""

    shard: Shard
    key: str
    rows: int
    """How many of its images are judged."""
    finished: Path | None = None
    """Results of all its images, which say which of them are judged again; None: all are judged."""
    above: float | None = None
    """Those with a higher score are judged again; None: those that could not be fetched."""

    def read(self, archive: Archive) -> list[dict[str, Any]]:
        """The images, with their place in the shard."""
        rows = [
            {"shard": self.shard.place, "number": number, "id": name, "path": path, "product": self.shard.product}
            for number, (name, path) in enumerate(archive.rows(self.shard))
        ]
        if self.finished is None:
            return rows
        found = load_pyarrow().parquet.read_table(self.finished, columns=["verdict", "score", "message"])
        return [row for row, is_chosen in zip(rows, choose(found, self.above), strict=True) if is_chosen]


def choose(table: Any, above: float | None) -> list[bool]:
    """Of the rows of results, which have a score above a threshold; or, without one, could not be fetched."""
    if above is not None:
        return [score is not None and score > above for score in table.column("score").to_pylist()]
    verdicts, messages = (table.column(name).to_pylist() for name in ("verdict", "message"))
    return [v == "unreadable" and was_not_fetched(m or "") for v, m in zip(verdicts, messages, strict=True)]
