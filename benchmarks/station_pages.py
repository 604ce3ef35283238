"""How long every page of a station takes with many decisions in its store. Usage: station_pages.py MODEL.onnx [N]"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from machine import describe

from blemish.inference.overlay import encode
from blemish.station import accounts
from blemish.station.app import Station, make_app
from blemish.station.database import Database, open_database
from blemish.station.folder import open_folder, sha256_of
from blemish.station.intake import Inbox
from blemish.station.products import add_model, add_product, go_live
from blemish.station.tables import Decision, Entry, Image, Verdict, now
from blemish.station.trail import FIRST, canonical, decision_detail, entry_sha256, verdict_detail

PAGES = ("/", "/review", "/audit", "/threshold", "/report", "/products", "/trail", "/trail?everything=true", "/users")
OTHERS = ("/images/7", "/images/7/map.jpg?side=small", "/api/v1/images?limit=100", "/metrics")
PASSWORD = "correct horse battery"


def main() -> int:
    """Fill a store, ask for each page five times, print the median."""
    model, n = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000
    with tempfile.TemporaryDirectory() as root:
        folder = open_folder(Path(root) / "station", create=True)
        database = open_database(folder.default_database, folder.id)
        product_id = add_product(database, "benchmark", "part")
        added = add_model(database, folder, "benchmark", product_id, (model.name, model.read_bytes()))
        go_live(database, "benchmark", added.id, "a benchmark")
        content = encode(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8), "PNG")
        Inbox(database, folder).receive(1, "first.png", content)
        fill(database, (product_id, added.id, added.sha256, sha256_of(content)), n)
        accounts.add_user(database, "benchmark", "boss", PASSWORD, "administrator")
        client = TestClient(make_app(Station(database, folder)))
        client.post("/login", data={"name": "boss", "password": PASSWORD})
        print(f"{describe()}; {n} decisions\n\n| page | median ms | kB |\n|---|---|---|")
        for page in (*PAGES, *OTHERS):
            took, size = median_ms(client, page)
            print(f"| `{page}` | {took:.0f} | {size / 1000:.0f} |")
        database.close()
    return 0


def median_ms(client: TestClient, page: str) -> tuple[float, int]:
    """The median of five, after one that fills caches; and the size."""
    took = []
    for _ in range(6):
        started = time.perf_counter()
        answer = client.get(page)
        took.append(1000.0 * (time.perf_counter() - started))
        assert answer.status_code == 200, (page, answer.status_code, answer.text[:200])
    return float(np.median(took[1:])), len(answer.content)


def fill(database: Database, ids: tuple[int, int, str, str], n: int) -> None:
    """Images, decisions, one verdict for each hundredth, one image in fifty in the audit lane; and their trail."""
    product_id, model_id, model_sha256, sha256 = ids
    rng = np.random.default_rng(1)
    with database.write() as session:
        previous = session.query(Entry).order_by(Entry.seq.desc()).first()
        seq, head = (0, FIRST) if previous is None else (previous.seq, previous.sha256)
        for begin in range(0, n, 5000):
            rows: list[object] = []
            for place in range(begin, min(n, begin + 5000)):
                image_id, at = place + 2, now()
                rows.append(
                    Image(
                        id=image_id,
                        product_id=product_id,
                        source_id=1,
                        name=f"{place:06}.png",
                        sha256=sha256,
                        suffix=".png",
                        size_bytes=1,
                        received_at=at,
                        is_audit=place % 50 == 0,
                    )
                )
                score = float(rng.gamma(2.0, 0.5))
                decision = Decision(
                    id=image_id,
                    image_id=image_id,
                    product_id=product_id,
                    image_path=f"{place:06}.png",
                    image_sha256=sha256,
                    model_id=model_id,
                    model_sha256=model_sha256,
                    score=score,
                    p_value=float(np.exp(-score)),
                    threshold=2.5,
                    verdict="anomalous" if score > 2.5 else "good",
                    message="",
                    regions="[]",
                    latency_ms=10.0,
                    decided_at=at,
                )
                told: list[tuple[Decision | Verdict, str, dict[str, object]]] = [
                    (decision, "decision", decision_detail(decision))
                ]
                if place % 100 == 0:
                    verdict = Verdict(
                        id=image_id,
                        image_id=image_id,
                        user_name="eva",
                        lane="audit",
                        judgement="defective" if score > 3 else "good",
                        defect_type="crack" if score > 3 else "",
                        given_at=at,
                    )
                    told.append((verdict, "verdict", verdict_detail(verdict)))
                for row, action, detail in told:
                    seq += 1
                    entry = Entry(
                        seq=seq,
                        at=at,
                        actor="benchmark",
                        action=action,
                        subject=str(image_id),
                        detail=canonical(detail),
                        previous=head,
                    )
                    entry.sha256 = head = entry_sha256(entry)
                    row.trail_seq = seq
                    rows += [entry, row]
            for kind in (Image, Entry, Decision, Verdict):
                session.bulk_save_objects([row for row in rows if isinstance(row, kind)])


if __name__ == "__main__":
    sys.exit(main())
