"""How long every page of a station takes with many decisions in its store. Usage: station_pages.py MODEL.onnx [N]"""

import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from machine import describe

from blemish.inference.overlay import encode
from blemish.inspection.decisions import now
from blemish.station import accounts
from blemish.station.app import Station, make_app
from blemish.station.database import Database, open_database
from blemish.station.folder import open_folder, sha256_of
from blemish.station.intake import Inbox
from blemish.station.products import add_model, add_product, go_live
from blemish.station.tables import Decision, Entry, Image, Model, Product, Shadow, Tally, Verdict
from blemish.station.trail import FIRST, canonical, decision_detail, entry_sha256, verdict_detail

WEEK = f"start={datetime.now(UTC) - timedelta(days=8):%Y-%m-%dT%H:%M}&end={datetime.now(UTC):%Y-%m-%dT%H:%M}"
PAGES = (
    "/",
    "/review",
    "/audit",
    "/threshold",
    "/report",
    f"/report?{WEEK}",
    "/products",
    "/recalibrate",
    "/shadow",
    "/trail",
    "/trail?everything=true",
    "/trail/head",
    "/storage",
    "/users",
    "/hooks",
    "/account",
)
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
        go_live(database, folder, "benchmark", added.id, "a benchmark")
        content = encode(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8), "PNG")
        Inbox(database, folder).receive(1, "first.png", content)
        put_shadow(database, product_id, added)
        fill(database, (product_id, added.id, added.sha256, sha256_of(content)), n)
        accounts.add_user(database, "benchmark", "boss", PASSWORD, "administrator")
        client = TestClient(make_app(Station(database, folder)))
        client.post("/login", data={"name": "boss", "password": PASSWORD})
        print(f"{describe()}; {n} decisions\n\n| page | median ms | of them computing | kB |\n|---|---|---|---|")
        for page in (*PAGES, *OTHERS):
            took, computed, size = median_ms(client, page)
            page = "/report (8 days)" if WEEK in page else page
            print(f"| `{page}` | {took:.0f} | {computed:.0f} | {size / 1000:.0f} |")
        database.close()
    return 0


def put_shadow(database: Database, product_id: int, live: Model) -> None:
    """A second model, in the shadow of the first."""
    with database.write() as session:
        other = Model(id=live.id + 1, product_id=product_id, sha256="f" * 64, name="next.onnx", header=live.header)
        other.parity, other.created_at, other.created_by = "", now(), "benchmark"
        session.add(other)
        session.get_one(Product, product_id).shadow_model_id = other.id


def median_ms(client: TestClient, page: str) -> tuple[float, float, int]:
    """The median of five, after one that fills caches; the same of processor time; and the size."""
    took, computed = [], []
    for _ in range(6):
        started, computing = time.perf_counter(), time.process_time()
        answer = client.get(page)
        took.append(1000.0 * (time.perf_counter() - started))
        computed.append(1000.0 * (time.process_time() - computing))
        assert answer.status_code == 200, (page, answer.status_code, answer.text[:200])
    return float(np.median(took[1:])), float(np.median(computed[1:])), len(answer.content)


def fill(database: Database, ids: tuple[int, int, str, str], n: int) -> None:
    """Images of the last seven days, decisions, one verdict for each hundredth, one image in fifty in the audit lane.

    With their trail and tallies; every tenth was judged by a model in the shadow, too.
    """
    product_id, model_id, model_sha256, sha256 = ids
    rng, began = np.random.default_rng(1), datetime.now(UTC) - timedelta(days=7)
    tallies: Counter[tuple[str, str]] = Counter()
    with database.write() as session:
        previous = session.query(Entry).order_by(Entry.seq.desc()).first()
        seq, head = (0, FIRST) if previous is None else (previous.seq, previous.sha256)
        for begin in range(0, n, 5000):
            rows: list[object] = []
            for place in range(begin, min(n, begin + 5000)):
                image_id, at = place + 2, began + timedelta(days=7 * place / n)
                at = at.isoformat(timespec="microseconds")
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
                tallies[at[:13], decision.verdict] += 1
                if place % 10 == 0:
                    other = "anomalous" if score > 2.4 else "good"
                    rows.append(
                        Shadow(image_id=image_id, model_id=model_id + 1, score=score, threshold=2.4, verdict=other)
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
            for kind in (Image, Entry, Decision, Verdict, Shadow):
                session.bulk_save_objects([row for row in rows if isinstance(row, kind)])
        for (hour, verdict), images in tallies.items():
            session.add(Tally(product_id=product_id, hour=hour, verdict=verdict, images=images))


if __name__ == "__main__":
    sys.exit(main())
