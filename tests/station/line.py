"""A line that makes something, for the tests of a station."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from blemish.inference.overlay import encode
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.products import add_model, add_product, go_live
from blemish.station.tables import Source


class Line(NamedTuple):
    """A product with a live model and a source for uploads."""

    product_id: int
    model_id: int
    source_id: int


def set_up_line(database: Database, folder: StationFolder, onnx_file: Path, name: str = "disc") -> Line:
    product_id = add_product(database, "test", name)
    model = add_model(database, folder, "test", product_id, (onnx_file.name, onnx_file.read_bytes()))
    go_live(database, "test", model.id, "a test")
    with database.read() as session:
        source = session.query(Source).filter_by(product_id=product_id, kind="upload").one()
    return Line(product_id, model.id, source.id)


def picture(seed: int, side: int = 64) -> bytes:
    """An image file of noise: every seed gives another one."""
    rng = np.random.default_rng(seed)
    return encode(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), "PNG")
