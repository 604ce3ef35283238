"""The ledger and the page: the worst product first, and what is not known said plainly."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from blemish.fleet.overview import LEDGER, PAGE, read_ledger, write_overview
from blemish.fleet.product import RECORD, Challenged, Checked, Model, Record
from blemish.fleet.registry import read_entries
from blemish.fleet.train import _write_registry
from blemish.inference.monitor_state import Alarm, MonitorState, write_state

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
GOOD = Challenged(defects=80, found=70, a90_px=9.0)


def model(**changed: Any) -> Model:
    settings: dict[str, Any] = {
        "file": "model.onnx",
        "sha256": "0" * 64,
        "bytes": 2_500_000,
        "trained_at": (NOW - timedelta(days=3)).isoformat(),
        "detector": "padim",
        "encoder": "efficientnet_lite0",
        "size_px": (64, 64),
        "fit_images": 100,
        "calibration_images": 99,
        "max_false_alarm_rate": 0.01,
        "promise": "On average at most 1 % of new good images are flagged (from 99 good images).",
        "threshold": 0.5,
        "still_needed": 0,
        "parity": 1e-7,
        "calibration_id": "c" * 16,
        "model_id": "m" * 16,
        "fit_seconds": 2.0,
    }
    return Model(**{**settings, **changed})


def record(product: str, the_model: Model | None, **changed: Any) -> Record:
    settings = {"job": "j", "model_job": "j", "status": "trained", "model": the_model, **changed}
    return Record(product=product, **settings)


def watched(root: Path, product: str, alarms: tuple[Alarm, ...] = (), calibration_id: str = "c" * 16) -> None:
    state = MonitorState(
        model_id="m" * 16,
        calibration_id=calibration_id,
        max_false_alarm_probability=0.01,
        images=40,
        streams={},
        alarms=alarms,
    )
    (root / product).mkdir(exist_ok=True)
    write_state(root / product / "model.onnx.monitor.json", state)


ALARM = Alarm(stream="brightness", images=30, image="d.png", usual=0.5, now=0.4)


def test_the_worst_product_comes_first(tmp_path: Path) -> None:
    watched(tmp_path, "changed", (ALARM,))
    watched(tmp_path, "steady")
    watched(tmp_path, "earlier", (ALARM,), calibration_id="e" * 16)
    records = [
        record("steady", model(), challenge=GOOD),
        record("old", model(trained_at=(NOW - timedelta(days=300)).isoformat()), challenge=GOOD),
        record("earlier", model(), challenge=GOOD),
        record("coarse", model(), challenge=Challenged(defects=80, found=70, a90_px=20.0)),
        record("blind", model(), challenge=Challenged(defects=80, found=0, a90_px=None, note="none found, up to 9 px")),
        record("short", model(still_needed=20), challenge=GOOD),
        record("weak", model(max_false_alarm_rate=0.2, still_needed=95), challenge=GOOD),
        record("changed", model(), challenge=GOOD),
        record("kept", model(), status="failed", error="TrainingError: the loss is not a number", job="k"),
        record("none", None, status="failed", error="DataError: too few images"),
    ]
    write_overview(tmp_path, records, NOW)
    rows = {row["product"]: row for row in read_ledger(tmp_path)["products"]}
    assert list(rows) == ["none", "kept", "changed", "weak", "short", "blind", "coarse", "old", "earlier", "steady"]
    assert [rows[name]["drift"]["status"] for name in ("changed", "steady", "earlier")] == ["changed", "steady", "none"]
    assert rows["old"]["age_days"] == 300.0
    assert not rows["kept"]["is_current"]
    assert rows["none"]["model"] is None


def test_the_page_says_plainly_what_is_not_known(tmp_path: Path) -> None:
    watched(tmp_path, "changed", (ALARM,))
    records = [
        record("changed", model(still_needed=93, max_false_alarm_rate=1 / 7), check=Checked(to_look_at=4)),
        record("<b>", model(), challenge=Challenged(defects=80, found=3, a90_px=None, note="larger than all tried")),
        record("none", None, status="failed", error="DataError: <script>"),
    ]
    write_overview(tmp_path, records, NOW)
    page = (tmp_path / PAGE).read_text(encoding="utf-8")
    for said in (
        "With a model: 2 of 3 products.",
        "Not trained because of an error: 1.",
        "The line has changed, and the guarantee is withdrawn: 1.",
        "up to 93 more good images must be held out",
        "14.3 %",
        "not challenged",
        "larger than all tried; 3 of 80 found",
        "brightness has changed after 30 images, at d.png",
        "not watched",
        "not checked",
        "&lt;b&gt;",
        "failed: DataError: &lt;script&gt;",
    ):
        assert said in page, said
    assert "<b>" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_a_damaged_watch_is_told_and_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "nut").mkdir()
    (tmp_path / "nut/model.onnx.monitor.json").write_text("{")
    write_overview(tmp_path, [record("nut", model())], NOW)
    (row,) = json.loads((tmp_path / LEDGER).read_text())["products"]
    assert row["drift"]["status"] == "unreadable"
    assert "delete it to start the watch over" in row["drift"]["message"]


def test_a_copy_of_a_products_folder_is_no_product_and_does_no_harm(tmp_path: Path) -> None:
    for name in ("nut", "nut-before"):
        (tmp_path / name).mkdir()
        (tmp_path / name / RECORD).write_text(record("nut", model()).model_dump_json())
    _write_registry(tmp_path)
    assert [entry.product for entry in read_entries(tmp_path)] == ["nut"]
