"""A line that makes something, for the tests of a station."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sqlalchemy import func, select

from blemish.inference.overlay import encode
from blemish.inference.parity import verify
from blemish.inspection.decisions import now
from blemish.station.database import Database
from blemish.station.folder import StationFolder, keep_content, sha256_of
from blemish.station.products import add_product, header_json, make_live
from blemish.station.tables import Hook, Model, Product, Source
from blemish.station.trail import append


class Line(NamedTuple):
    """A product with a live model and a source for uploads."""

    product_id: int
    model_id: int
    source_id: int


def set_up_line(database: Database, folder: StationFolder, onnx_file: Path, name: str = "disc") -> Line:
    """A line; its model is checked once a session only, and no image is drawn for the audit lane by chance."""
    product_id, content = add_product(database, "test", name), onnx_file.read_bytes()
    sha256 = sha256_of(content)
    keep_content(folder.model_path(sha256), content)
    model = Model(product_id=product_id, sha256=sha256, name=onnx_file.name, created_at=now(), created_by="test")
    model.header, model.parity = checked_header(onnx_file), "checked before"
    with database.write() as session:
        session.get_one(Product, product_id).audit_rate = 0.0
        session.add(model)
        session.flush()
        append(session, "test", "model", onnx_file.name, {"model_id": model.id, "sha256": sha256})
        source_id = session.scalars(select(Source.id).where(Source.product_id == product_id)).one()
    make_live(database, "test", model.id, "a test", model.parity)
    return Line(product_id, model.id, source_id)


@cache
def checked_header(onnx_file: Path) -> str:
    verify(onnx_file, "cpu")
    return header_json(onnx_file)


def picture(seed: int, side: int = 64) -> bytes:
    """An image file of noise: every seed gives another one."""
    rng = np.random.default_rng(seed)
    return encode(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), "PNG")


def count(database: Database, table: type) -> int:
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def the_hook(database: Database) -> Hook:
    with database.read() as session:
        return session.scalars(select(Hook)).one()
