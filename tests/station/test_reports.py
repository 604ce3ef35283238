"""Guaranteed rates, shift reports and languages."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from sqlalchemy import update

import blemish
from blemish.errors import SettingsError
from blemish.inference.artifact import ArtifactHeader
from blemish.inference.calibration import calibrate
from blemish.inference.predictor import Predictor
from blemish.inspection.decisions import now
from blemish.station import queue, reviews
from blemish.station.app import Station
from blemish.station.database import Database
from blemish.station.folder import StationFolder
from blemish.station.intake import Inbox
from blemish.station.judge import Judge, Judged, commit
from blemish.station.products import add_product
from blemish.station.render import environment
from blemish.station.reports import SUMMARY_FIELDS, Share, audit_shares, hourly_chart, shift_report, summary_rows
from blemish.station.tables import Decision, DriftAlarm, Model, Product, Tally
from blemish.station.thresholds import choices, guaranteed_rate
from station.browser import judge_all, visit
from station.line import Line, picture, set_up_line


@pytest.fixture(scope="module")
def header(onnx_file: Path) -> ArtifactHeader:
    return Predictor.load(onnx_file).header


def calibrated(header: ArtifactHeader, confidence: float | None, folds: bool = False) -> ArtifactHeader:
    scores = np.random.default_rng(4).normal(1.0, 0.2, 80).tolist()
    made = calibrate(scores, 0.2, confidence, folds=[place % 5 for place in range(80)] if folds else None)
    return header.model_copy(
        update={
            "calibration_scores": made.calibration_scores,
            "max_false_alarm_rate": made.max_false_alarm_rate,
            "threshold": made.threshold,
            "calibration": made.calibration,
        }
    )


@pytest.mark.parametrize(("confidence", "folds"), [(None, False), (0.9, False), (None, True)])
def test_a_threshold_guarantees_the_rate_that_asks_for_it(
    header: ArtifactHeader, confidence: float | None, folds: bool
) -> None:
    made = calibrated(header, confidence, folds)
    for rate in (0.2, 0.35, 0.5, 0.8):
        threshold = made.certify(rate, confidence).threshold
        found = guaranteed_rate(made, threshold)
        assert found is not None
        assert found <= rate + 1e-9
        assert made.certify(found + 1e-9, confidence).threshold <= threshold
    highest = max(made.calibration_scores)
    assert guaranteed_rate(made, highest * 2) == guaranteed_rate(made, highest)  # more is not known
    assert guaranteed_rate(made, 0.0) is None


def test_the_choices_count_what_would_have_been_flagged(header: ArtifactHeader) -> None:
    made = calibrated(header, None)
    scores = [0.5, 1.0, 1.5, 2.5]
    found = choices(made, scores, current=made.threshold)
    assert [one.threshold for one in found] == sorted(one.threshold for one in found)
    assert made.threshold in [one.threshold for one in found]
    for one in found:
        assert one.flagged == sum(score > one.threshold for score in scores)
    rates = [one.rate or 1.0 for one in found]
    assert rates == sorted(rates, reverse=True)


def test_a_shift_report_by_hand(sqlite: Database, folder: StationFolder, onnx_file: Path) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    with sqlite.write() as session:
        session.execute(update(Product).values(audit_rate=1.0))
    inbox = Inbox(sqlite, folder)
    for seed in range(8):
        inbox.receive(line.source_id, f"{seed}.png", picture(seed, side=8))
    for task in queue.take(sqlite, "me"):
        commit(sqlite, "me", task, Judged(None, 1.0))
    # ours and what people say of it: one false alarm of three good parts, one miss of two defective ones
    said = [
        ("anomalous", "good"),
        ("good", "good"),
        ("good", "good"),
        ("good", "defective"),
        ("anomalous", "defective"),
        ("anomalous", "unsure"),
    ]
    with sqlite.write() as session:
        for image_id, (ours, _) in enumerate(said, 1):
            session.execute(update(Decision).where(Decision.image_id == image_id).values(verdict=ours))
    for image_id, (_, judgement) in enumerate(said, 1):
        kind = "crack" if judgement == "defective" else ""
        reviews.give_verdict(sqlite, "eva", image_id, judgement, defect_type=kind, is_audit=True)
    reviews.give_verdict(sqlite, "ben", 7, "defective", defect_type="dent")  # a review is no random sample
    reviews.give_verdict(sqlite, "ben", 1, "defective", defect_type="crack")  # changes the counts, not the audit
    reviews.give_verdict(sqlite, "eva", 8, "defective", defect_type="dent", is_audit=True)
    with sqlite.write() as session:  # the model was trained on it
        session.execute(update(Decision).where(Decision.image_id == 8).values(verdict="good", is_known=True))
        session.execute(update(Decision).where(Decision.image_id.in_([2, 4, 8])).values(is_doubtful=True))
    with sqlite.read() as session:
        report = shift_report(session, "2000-01-01", "2100-01-01")
        nothing = shift_report(session, "2000-01-01", "2001-01-01")
        assert audit_shares(session, line.product_id) == report.audit
    assert report.counts == {"good": 4, "anomalous": 3, "unreadable": 1, "audit": 0}
    assert report.audit == (6, Share(1, 3), Share(1, 2), Share(1, 3), 1)
    assert report.doubtful == (3, 3, 2)
    assert report.defect_types == [("crack", 3), ("dent", 2)]
    low, high = Share(1, 3).interval
    assert (low, high) == pytest.approx((0.00840, 0.90570), abs=1e-5)  # Clopper & Pearson's tables
    assert nothing.counts == {"good": 0, "anomalous": 0, "unreadable": 0, "audit": 0}
    assert nothing.audit.misses.interval == (0.0, 1.0)


def test_the_chart_takes_its_limits_from_the_week_and_shows_the_shift(sqlite: Database, folder: StationFolder) -> None:
    product_id = add_product(sqlite, "test", "disc")
    counts = {f"2026-11-{day:02}T{hour:02}": (2, 98) for day in (22, 23, 24) for hour in range(8)}
    counts |= {"2026-11-25T06": (3, 97), "2026-11-25T07": (40, 60), "2026-11-10T06": (90, 10)}
    with sqlite.write() as session:
        for hour, (bad, good) in counts.items():
            for verdict, images in (("anomalous", bad), ("good", good), ("unreadable", 5)):
                session.add(Tally(product_id=product_id, hour=hour, verdict=verdict, images=images))
        alarm = DriftAlarm(product_id=product_id, model_id=1, stream="brightness", usual=0.5, found=0.4, images=9)
        alarm.image, alarm.raised_at, alarm.trail_seq = "a.png", "2026-11-25T07:10:00.000000+00:00", 1
        with session.no_autoflush:
            made = Model(id=1, product_id=product_id, sha256="", name="", header="", parity="", created_by="")
            made.created_at = now()
            session.add(made)
            session.flush()
            session.add(alarm)
    with sqlite.read() as session:
        report = shift_report(session, "2026-11-25T06:00:00", "2026-11-25T14:00:00", product_id)
        later = shift_report(session, "2026-11-25T08:00:00", "2026-11-25T14:00:00", product_id)
        other = shift_report(session, "2026-11-25T06:00:00", "2026-11-25T14:00:00", product_id + 1)
    assert report.chart is not None
    assert report.chart.hours[0] == "2026-11-22T00"  # what is older than a week does not count
    assert report.chart.hours[report.chart.first_shown :] == ["2026-11-25T06", "2026-11-25T07"]
    assert report.chart.of[-1] == 100  # unreadable images are none of them
    outside = [
        hour for hour, point in zip(report.chart.hours, report.chart.chart.points, strict=True) if point[0] > point[2]
    ]
    assert outside == ["2026-11-25T07"]
    assert ([one.stream for one in report.alarms], later.alarms, other.alarms, other.chart) == (
        ["brightness"],
        [],
        [],
        None,
    )
    rows = list(summary_rows(report))
    assert {len(row) for row in rows} == {len(SUMMARY_FIELDS)}
    (drift,) = (dict(zip(SUMMARY_FIELDS, row, strict=True)) for row in rows if row[0] == "drift")
    assert (drift["value"], drift["usual"], drift["time"]) == (0.4, 0.5, alarm.raised_at)
    assert drift["low"] == drift["high"] == ""
    assert [row[1] for row in rows if row[0] == "share of rejects"] == [
        "2026-11-25T06:00+00:00",
        "2026-11-25T07:00+00:00",
    ]
    with sqlite.read() as session, pytest.raises(SettingsError, match="end"):
        shift_report(session, "2026-11-25T06:00:00", "no time")


def test_the_chart_counts_no_image_that_waits_in_the_audit_lane(
    sqlite: Database, folder: StationFolder, onnx_file: Path
) -> None:
    line = set_up_line(sqlite, folder, onnx_file)
    with sqlite.write() as session:
        session.execute(update(Product).values(audit_rate=1.0))
    for seed in range(3):
        Inbox(sqlite, folder).receive(line.source_id, f"{seed}.png", picture(seed))
    judge = Judge(folder)
    for task in queue.take(sqlite, "me"):
        commit(sqlite, "me", task, judge.judge(task))
    reviews.give_verdict(sqlite, "eva", 1, "good", is_audit=True)
    with sqlite.write() as session:  # two older hours, so that there is a chart
        for hour in ("2026-11-25T06", "2026-11-25T07"):
            session.add(Tally(product_id=line.product_id, hour=hour, verdict="good", images=9))
    with sqlite.read() as session:
        report = shift_report(session, "2026-11-20", "2100-01-01")
        chart = hourly_chart(session, "2026-11-20", "2100-01-01")
    assert report.counts["audit"] == 2
    assert chart is not None
    assert sum(chart.of) == 2 * 9 + 1


def test_numbers_are_written_as_the_language_does() -> None:
    text = "{{ 0.0244|percent }} {{ 0.02441|guarantee }} {{ 0.1235|figure }} {{ none|figure }}"
    assert environment("de").from_string(text).render() == "2,44\xa0% 2,45\xa0% 0,1235 -"
    assert environment("en").from_string(text).render() == "2.44\xa0% 2.45\xa0% 0.1235 -"


@pytest.mark.parametrize("package", ["station", "evaluation"])
def test_scores_and_thresholds_are_written_alike_on_all_pages(package: str) -> None:
    assert [environment(language).filters["score"](1.2) for language in ("en", "de")] == ["1.200", "1,200"]
    written = Counter[str]()
    for template in (Path(blemish.__file__).parent / package).rglob("*.j2"):
        written.update(re.findall(r"\.(?:score|threshold) ?\| ?(\w+)", template.read_text()))
    assert set(written) == {"score"}


def test_an_image_that_the_model_was_made_of_counts_for_nothing_in_the_audit_lane(
    station: Station, app: FastAPI, line: Line, shared_parts: Path
) -> None:
    station.inbox = Inbox(station.database, station.folder, draw=lambda: -1.0)  # all are drawn
    made_of = min((shared_parts / "train" / "good").iterdir())
    for name, content in (("a.png", made_of.read_bytes()), ("b.png", picture(1))):
        station.inbox.receive(line.source_id, name, content)
    judge_all(station)
    who = visit(station, app, "operator")
    for image_id in (1, 2):
        who.client.post("/audit", data={"csrf": who.csrf, "image_id": image_id, "judgement": "good"})
    for path in ("/audit", "/report"):
        assert "1 more image was judged there that the model was fitted" in who.client.get(path).text
    pages = [who.client.get(f"/images/{image_id}").text for image_id in (1, 2)]
    assert ["fitted or calibrated on this very image" in page for page in pages] == [True, False]
    with station.database.read() as session:
        assert audit_shares(session)[0::4] == (1, 1)
