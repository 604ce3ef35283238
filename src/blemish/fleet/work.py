"""Pieces of an archive judged with Ray until all are in a ledger, whatever is lost on the way."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from blemish.data.progress import Progress, Report
from blemish.errors import DataError
from blemish.fleet.archive import Archive
from blemish.fleet.cluster import wait_for_processors
from blemish.fleet.judge import FAILED, Job
from blemish.fleet.ledger import Ledger, read_results, result_schema
from blemish.fleet.pieces import Piece
from blemish.fleet.stream import LostWorkError, Pool, judged

WAVE = 4096
"""Pieces that Ray is told of at once: it keeps something of each. A million images; new workers then take seconds."""
ROUNDS = 3
"""So often in a row may everything be lost before a piece is finished."""


def make_pool(ray: Any, workers: int | None, threads: int, batch_size: int) -> Pool:
    """As many workers as are wanted and the cluster has processors for; waits for the first of these."""
    found = wait_for_processors(ray, threads)
    return Pool(min(workers or found // threads, found // threads), threads, batch_size)


@final
@dataclass
class Work:
    """Judges what is missing in a ledger."""

    archive: Archive
    ledger: Ledger
    job: Job
    what: str
    """A word for the progress."""
    images: int
    """Of the ledger in all."""
    report: Report
    say: Callable[[str], None]

    def finish(self, pieces: Sequence[Piece], pool: Pool) -> None:
        """Round by round, until every piece is in the ledger.

        Raises:
            DataError: lost work that cannot be made up for, or a worker that cannot do its work.
        """
        lost = 0
        while left := [piece for piece in pieces if piece.key not in self.ledger]:
            first = lost * len(left) // ROUNDS  # the one at which workers were lost may end them again, and comes later
            try:
                self._round(left[first:] + left[:first], pool)
            except LostWorkError as error:
                is_further = sum(piece.key not in self.ledger for piece in left) < len(left)
                lost = 1 if is_further else lost + 1
                if lost >= ROUNDS:
                    shard = left[first].shard
                    raise DataError(
                        f"{lost} times in a row workers were lost before they had finished anything, last at shard "
                        f"{shard.place} ({shard.product}): {error}; the same command goes on from here"
                    ) from None
                self.say(f"workers or machines were lost, what they had not finished is judged again ({error})")

    def _round(self, left: Sequence[Piece], pool: Pool) -> None:
        by_place = {piece.shard.place: piece for piece in left}
        waiting: dict[int, list[Any]] = defaultdict(list)
        done = self.images - sum(piece.rows for piece in left)
        self.report(Progress(self.what, done, self.images))
        for table in judged(self.archive, left[:WAVE], self.job, pool):
            for place, part in () if table is None else _by_shard(table):
                _refuse_failed(part)
                waiting[place].append(part)
                done += part.num_rows
                if sum(one.num_rows for one in waiting[place]) == by_place[place].rows:
                    self._keep(by_place[place], waiting.pop(place))
            self.report(Progress(self.what, done, self.images))

    def _keep(self, piece: Piece, tables: Sequence[Any]) -> None:
        import pyarrow

        found = pyarrow.concat_tables(tables).sort_by("number")
        schema = result_schema()
        if piece.finished is not None and piece.above is None:  # some of a shard that is finished but for them
            rows = read_results(piece.finished).to_pylist()
            for row in found.to_pylist():
                rows[row["number"]] = row
            found = pyarrow.Table.from_pylist(rows, schema=schema)
        self.ledger.add(piece.shard, piece.key, found.select(schema.names).cast(schema))


def _by_shard(table: Any) -> list[tuple[int, Any]]:
    import pyarrow.compute as pc

    places = table.column("shard").unique().to_pylist()
    return [(place, table.filter(pc.equal(table.column("shard"), place))) for place in places]


def _refuse_failed(table: Any) -> None:
    for row in table.select(["verdict", "message"]).to_pylist():
        if row["verdict"] == FAILED:
            raise DataError(row["message"])
