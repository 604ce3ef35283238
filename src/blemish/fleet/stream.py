"""Pieces of shards through Ray Data: read where the command runs, judged by actors anywhere, rows back as they come."""

import logging
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, final

from blemish.errors import DataError
from blemish.fleet.archive import Archive
from blemish.fleet.cluster import load_ray
from blemish.fleet.judge import Job, Judge
from blemish.fleet.manifest import load_pyarrow
from blemish.fleet.pieces import Piece

POLL_S = 0.5
"""How often whoever waits is asked whether to go on."""
STALL_S = 3600.0
"""After so long without a row the cluster is taken for dead; Ray itself would wait for ever for machines to come."""


@final
class Pool(NamedTuple):
    """The actors that judge."""

    workers: int
    """At most; fewer where fewer processors are free."""
    threads: int = 1
    """Processors of each."""
    batch_size: int = 64


class LostWorkError(Exception):
    """An actor, a machine or an object of Ray's was lost; what is not in the ledger must be judged again."""


def judged(archive: Archive, pieces: Sequence[Piece], job: Job, pool: Pool) -> Iterator[Any]:
    """Tables of judged rows, in any order and size; None now and then where there is nothing yet.

    Raises:
        LostWorkError: see there.
        DataError: nothing came for too long.
    """
    came: queue.Queue[Any] = queue.Queue(maxsize=4)
    stop = threading.Event()

    def tables() -> Iterator[Any]:
        yield from _dataset(archive, pieces, job, pool).iter_batches(batch_size=None, batch_format="pyarrow")

    thread = threading.Thread(target=_pump, args=(tables(), came, stop), name="blemish-fleet", daemon=True)
    thread.start()
    waited = 0.0
    try:
        while True:
            try:
                got = came.get(timeout=POLL_S)
            except queue.Empty:
                waited += POLL_S
                if waited > STALL_S:
                    raise DataError(
                        f"no image was judged for {STALL_S / 60:.0f} min; see `ray status` for free processors and "
                        "dead machines; the same command goes on from here"
                    ) from None
                yield None
                continue
            if got is None:
                return
            if isinstance(got, Exception):
                raise LostWorkError(" ".join(str(got).split())[-300:]) from None
            waited = 0.0
            yield got
    finally:
        stop.set()
        while not came.empty():  # so that the thread need not wait for a place
            came.get_nowait()
        thread.join(timeout=5.0)


def _pump(tables: Iterator[Any], came: "queue.Queue[Any]", stop: threading.Event) -> None:
    """Put tables into a queue, then None, or the error that ended them; nothing more once told to stop."""
    try:
        for table in tables:
            while not stop.is_set():
                try:
                    came.put(table, timeout=POLL_S)
                    break
                except queue.Full:
                    continue
            if stop.is_set():
                return
        came.put(None)
    except Exception as error:  # handed to whoever iterates
        came.put(error)


def _dataset(archive: Archive, pieces: Sequence[Piece], job: Job, pool: Pool) -> Any:
    ray = load_ray()
    from ray import data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors are raised, too
    context = data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    here = {"ray.io/node-id": ray.get_runtime_context().get_node_id()}
    rows = data.read_datasource(
        _source(archive, pieces),
        override_num_blocks=len(pieces),
        num_cpus=0,
        label_selector=here,  # the archive is on this machine
    )
    return rows.map_batches(
        Judge,
        batch_size=pool.batch_size,
        batch_format="pyarrow",
        compute=data.ActorPoolStrategy(
            min_size=1, max_size=pool.workers, initial_size=pool.workers, max_tasks_in_flight_per_actor=2
        ),
        fn_constructor_args=(job,),
        num_cpus=pool.threads,
        max_restarts=0,  # a new actor may never find a processor; what is missing is judged again
        max_task_retries=0,
    )


def _source(archive: Archive, pieces: Sequence[Piece]) -> Any:
    """A data source with a block for each piece, read when its turn comes."""
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask

    def read(piece: Piece) -> Any:
        return [load_pyarrow().Table.from_pylist(piece.read(archive))]

    class Pieces(Datasource):  # type: ignore[misc]
        def estimate_inmemory_data_size(self) -> int:
            return 200 * sum(piece.rows for piece in pieces)

        def get_read_tasks(self, *_args: Any, **_kwargs: Any) -> list[Any]:
            return [
                ReadTask(lambda piece=piece: read(piece), BlockMetadata(piece.rows, 200 * piece.rows, None, None))
                for piece in pieces
            ]

    return Pieces()
