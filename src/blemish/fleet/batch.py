"""An archive judged as one batch (`--fdr`): a threshold a product from all p-values, then regions of what is above it.

The scores come first, the threshold follows from all of them, and only the images above it are looked at once more:
their regions and masks are those of that threshold, in a ledger of their own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np

from blemish.fleet.archive import Shard, hash_text
from blemish.fleet.ledger import Ledger, result_schema
from blemish.fleet.manifest import load_pyarrow
from blemish.fleet.models import FleetModel
from blemish.fleet.pieces import Piece, choose
from blemish.inference.calibration import BatchPart, batch_thresholds


def thresholds_of(tables: Iterable[Any], models: Mapping[str, FleetModel], rate: float) -> dict[str, float]:
    """The threshold of each product where the archive is one batch: exact, from counts of the few p-values there are.

    Raises:
        CalibrationError: too few calibration images for that rate.
    """
    p_values = {product: Counter[float]() for product in models}
    highest = dict.fromkeys(models, 0.0)
    for table in tables:
        product = table.column("product")[0].as_py()
        read = table.filter(table.column("score").is_valid())
        values, counts = np.unique(read.column("p_value").to_numpy(), return_counts=True)
        p_values[product].update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        highest[product] = max([highest[product], *read.column("score").to_pylist()])
    parts = [
        BatchPart(model.header.calibration_scores, model.header.calibration, p_values[product], highest[product])
        for product, model in models.items()
    ]
    return dict(zip(models, batch_thresholds(parts, rate), strict=True))


@final
class Batch:
    """Finished shards and the thresholds of their batch; what is above them is in a second ledger."""

    def __init__(
        self, ledger: Ledger, shards: Sequence[tuple[Shard, str]], above: Ledger, thresholds: Mapping[str, float]
    ) -> None:
        self._ledger, self._shards, self._above = ledger, shards, above
        self.thresholds = thresholds

    def pieces(self, masks: bool) -> list[Piece]:
        """Of each shard what is above its threshold, finished or not; of those that have something there alone."""
        found = []
        for (shard, key), table in zip(self._shards, self._ledger.tables(self._shards), strict=True):
            threshold = self.thresholds[shard.product]
            if rows := sum(choose(table, threshold)):
                path = self._ledger.path(key)
                found.append(Piece(shard, hash_text([key, threshold, masks])[:24], rows, path, threshold))
        return found

    def tables(self, pieces: Sequence[Piece]) -> Iterator[Any]:
        """All results in order, as this batch has them; `pieces` are finished.

        Raises:
            DataError: a shard is damaged.
        """
        by_place = {piece.shard.place: piece for piece in pieces}
        for (shard, _), table in zip(self._shards, self._ledger.tables(self._shards), strict=True):
            piece = by_place.get(shard.place)
            seen = () if piece is None else [(piece.shard._replace(rows=piece.rows), piece.key)]
            again = [row for found in self._above.tables(seen) for row in found.to_pylist()]
            yield _rejudged(table, self.thresholds[shard.product], again)


def _rejudged(table: Any, threshold: float, again: Sequence[Mapping[str, Any]]) -> Any:
    """Results with another threshold; `again` are the results at it of those above it, in order."""
    rows, seen = table.to_pylist(), iter(again)
    for row in rows:
        if (score := row["score"]) is None:
            continue
        row |= {"verdict": "good", "threshold": threshold, "region_count": 0, "regions": "[]"}
        if score > threshold:
            row |= {"verdict": "anomalous"} | _regions(row, next(seen))
    return load_pyarrow().Table.from_pylist(rows, schema=result_schema())


def _regions(row: Mapping[str, Any], again: Mapping[str, Any]) -> dict[str, Any]:
    """What a second look adds to a row; only a message where it found another file, or none."""
    if again["image_sha256"] == row["image_sha256"]:
        return {name: again[name] for name in ("region_count", "regions")}
    why = f"no regions, as looked at again: {again['message'] or 'the file has changed'}"
    message = "; ".join(filter(None, [row["message"], why]))
    return {"region_count": None, "regions": None, "message": message}
