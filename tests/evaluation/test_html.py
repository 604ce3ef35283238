"""The report page: nothing from outside, nothing from a file name, and honest words."""

import copy
import dataclasses
import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from blemish.evaluation.measures import FOUND_AND_AUROC, MEASURES
from blemish.evaluation.report.close_up import cut_close_up
from blemish.evaluation.report.html import code, number, percent, render, span, verdict
from blemish.evaluation.report.pictures import Drawings, Example, panel, thresholds_in_use
from blemish.evaluation.results import Results

NASTY = "test/cut/<img src=x onerror=alert(1)>&\"'{{ 7*7 }}.png"
AT = {
    "threshold": 0.3,
    "counts": {"tp": 5, "fp": 4, "tn": 1234567, "fn": 2},
    "precision": 0.5,
    "recall": 0.25,
    "accuracy": 0.9,
    "f1": 1 / 3,
}
COUNT = {"images": 3, "good": 2, "defective": 1, "with_mask": 1, "flagged_good": 1, "flagged_defective": 0}


def example_results() -> dict[str, Any]:
    """As `results.json` has it, with a file name that means harm."""
    groups: dict[str, dict[str, float]] = {"image": {}, "pixel": {}}
    for measure in MEASURES.values():
        groups[measure.group][measure.name] = 0.75
    section = {
        "count": COUNT,
        **groups,
        "at_threshold": {name: dict(AT) for name in ("calibrated", "paper_tau", "oracle_f1")},
        "intervals": {group: {name: [0.5, 0.9] for name in part} for group, part in groups.items()},
    }
    row = {
        "path": NASTY,
        "defect_type": "cut",
        "score": 0.25,
        "p_value": 0.05,
        "is_anomalous": False,
        "counts": dict.fromkeys(("calibrated", "paper_tau", "oracle_f1")),
        "f1": {"calibrated": 0.5, "paper_tau": 0.25, "oracle_f1": 0.75},
    }
    good = {**row, "path": "test/good/1.png", "defect_type": "good", "f1": dict.fromkeys(row["f1"])}  # type: ignore[call-overload]
    return {
        **section,
        "by_type": {"cut": copy.deepcopy(section)},
        "images": [row, good, {**good, "path": "test/good/2.png", "is_anomalous": True}],
        "notes": {},
        "threshold": 0.3,
        "promise": {
            "max_false_alarm_rate": 0.05,
            "confidence": None,
            "kind": "average",
            "calibration_images": 19,
            "calibration_groups": None,
            "calibrated_threshold": 0.3,
            "sentence": "On average at most 5 % of new good images are flagged (from 19 good images).",
        },
        "realised_false_alarm_rate": {
            "rate": 0.5,
            "interval": [0.01, 0.99],
            "flagged": 1,
            "good_images": 2,
            "groups": None,
            "promised": 0.05,
            "chance": None,
            "verdict": "open",
        },
        "ladder": [
            {"max_false_alarm_rate": 0.01, "is_chosen": False, "needed": 99, "defective": 1, "good": 2},
            {
                "max_false_alarm_rate": 0.05,
                "is_chosen": True,
                "needed": 19,
                "threshold": 0.3,
                "defective": 1,
                "found": 0,
                "interval": [0.0, 0.975],
                "good": 2,
                "flagged": 1,
            },
        ],
        "next_steps": ["look at <b>train/good/0.png</b>"],
        "data": {
            "root": "data & <b>more</b>",
            "skipped": {"<i>.png": "<i>.png: damaged"},
            "fitted": [],
            "calibrated": [],
            "roi_share": 0.5,
        },
        "latency_ms": 4.25,
        "seconds": 1.5,
        "has_paper_tau": True,
        "settings": {},
        "model": {
            "detector": "conv_autoencoder",
            "parameters": 1000,
            "fit_seconds": 12.0,
            "max_false_alarm_rate": 0.05,
            "policy": {"size_px": [8, 12], "channels": 3},
            "run": {"detector": "conv_autoencoder", "model": {"note": "</pre><script>alert(2)</script>"}},
        },
        "data_card": {
            "root": "elsewhere",
            "fit_images": 80,
            "calibration_images": 19,
            "skipped": {},
            "notes": ["<u>note</u>"],
        },
        "versions": {"blemish": "0", "python": "3", "numpy": "2"},
    }


def typed(results: dict[str, Any]) -> Results:
    return Results.model_validate(results)


def example(name: str = NASTY, *, reconstruction: bool = True) -> Example:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (8, 12, 3), dtype=np.uint8)
    return Example(
        name=name,
        defect_type="cut",
        score=0.25,
        image=image,
        reconstruction=image if reconstruction else None,
        anomaly_map=rng.random((8, 12), dtype=np.float32),
        mask=rng.random((8, 12)) > 0.8,
    )


def example_drawings() -> Drawings:
    return Drawings(
        history={"loss": [0.5, 0.25]},
        calibration_scores=[0.1, 0.2],
        roc={"images": (np.array([0.0, 1.0]), np.array([0.0, 1.0]), 0.5)},
        threshold_curves={"threshold": [0.1, 0.2], "precision": [0, 1], "recall": [1, 0], "F1": [0, 1]},
        panels={"cut": [example(), example(reconstruction=False)]},
        three_thresholds=[example()],
        missed=[example()],
        false_alarms=[],
    )


@pytest.fixture(scope="module")
def page() -> str:
    return render(typed(example_results()), example_drawings())


class Elements(HTMLParser):
    """Every element of a page with its attributes, and whether all that was opened was closed again."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `undrawn`, for single tests: what they look at is text."""
    monkeypatch.setattr("blemish.evaluation.report.figures.to_svg", lambda _figure: b"<svg></svg>")


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    for _, attributes in Elements(page).found:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("data:image/", "#"))


def test_every_element_is_closed(page: str) -> None:
    assert Elements(page).open == []


def test_names_are_only_names(page: str) -> None:
    elements = Elements(page).found
    assert sum(tag == "script" for tag, _ in elements) == 2
    assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
    assert not any(tag in ("b", "i", "u") and "more" in str(attributes) for tag, attributes in elements)
    assert "{{ 7*7 }}" in page
    assert "<u>note" not in page


def test_a_policy_forbids_what_a_mistake_could_let_in(page: str) -> None:
    policies = [a["content"] for tag, a in Elements(page).found if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert "default-src 'none'" in str(policies[0])


def test_a_panel_has_the_photo_a_close_up_and_heat_on_two_scales(page: str) -> None:
    first = page[page.index("What the model sees") :]
    captions = re.findall(r"<span>(.*?)</span></div>", first)[:7]
    heats = ["heat, from the threshold", "heat, on its own scale"]
    assert captions == ["photo", "reconstruction", *heats, "photo", *heats]
    cut = cut_close_up(np.zeros((64, 96, 3), np.uint8), example().anomaly_map, None, 0.5)
    with_cut = panel(dataclasses.replace(example(), close_up=cut), typed(example_results()))
    assert [one.caption for one in with_cut["pictures"]][:2] == ["photo", "close-up, brightened"]


def test_images_found_and_false_alarms_lead_the_tiles(page: str) -> None:
    tiles = re.findall(r'<div class="tile[^"]*"><b>(.*?)</b><span>(.*?)</span>', page)
    assert tiles[0] == ("0 of 1", "defective images found")
    assert tiles[1] == ("1 of 2", "good images flagged; at most 5 % promised")
    assert "pixel AUROC" not in " ".join(text for _, text in tiles)


def test_it_says_why_an_auroc_of_1_finds_not_all(page: str) -> None:
    assert f"Each with all good test images; {FOUND_AND_AUROC}.</p>" in page


def test_the_ladder_and_the_next_steps_are_on_the_page(page: str) -> None:
    assert "not supported: needs 99 held out" in page
    assert "<li>Look at &lt;b&gt;train/good/0.png&lt;/b&gt;.</li>" in page
    assert "0 of 1" in page[page.index("by the false alarms allowed") :]
    assert "To use another" not in page  # there is none but the model's own


@pytest.mark.usefixtures("without_charts")
def test_the_rate_that_is_offered_is_not_the_models_own() -> None:
    results = example_results()
    results["ladder"].append({**results["ladder"][1], "max_false_alarm_rate": 0.1, "is_chosen": False})
    page = render(typed(results), example_drawings())
    assert "To use another: <code>--max-false-alarm-rate 0.1</code>" in page


def test_every_measure_is_explained(page: str) -> None:
    for measure in MEASURES.values():
        assert code(measure.explanation) in page


@pytest.mark.usefixtures("without_charts")
def test_what_was_not_computed_says_why() -> None:
    results = example_results()
    results["pixel"]["aupro"] = None
    results["intervals"]["pixel"]["aupro"] = None
    results["notes"]["pixel.aupro"] = "no <mask> at all"
    assert "Not computed: no &lt;mask&gt; at all." in render(typed(results), example_drawings())


def test_how_photos_were_read_stands_beside_the_verdict(without_charts: None) -> None:
    note = "the brightest value in the 16-bit photos is 4080 of 65535: 12 bits in 16?"
    page = render(typed(example_results() | {"notes": {"depth": note}}), example_drawings())
    assert note in page[page.index('<section class="verdict') : page.index('<div class="tiles">')]


def test_wrong_images_are_marked(page: str) -> None:
    assert page.count('<tr class="wrong">') == 2


def test_the_same_results_give_the_same_page(page: str) -> None:
    assert render(typed(example_results()), example_drawings()) == page


def test_a_page_without_any_picture_is_still_one() -> None:
    results = example_results()
    results |= {"by_type": {}, "images": results["images"][1:]}
    page = render(typed(results), Drawings({}, [], {}, {}, {}, [], [], []))
    assert Elements(page).open == []
    assert "No defective image was missed." in page


def test_the_verdict_names_misses_and_false_alarms() -> None:
    found, flagged = verdict(typed(example_results()))
    assert found == "Finds 0 of 1 defective image (75 %; 50 % to 90 % with 95 % confidence)."
    assert flagged.startswith("Flags 1 of 2 good images (50 %; 1 % to 99 %), where at most 5 % were promised")
    assert flagged.endswith("more than that, though so few good images prove nothing.")


def test_the_verdict_tells_the_types_apart_the_worst_first() -> None:
    results = example_results()
    found = copy.deepcopy(results["by_type"]["cut"])
    found["count"] |= {"flagged_defective": found["count"]["defective"]}
    results["by_type"] = {"hole": found} | results["by_type"]
    assert verdict(typed(results))[0].endswith("confidence). By type: cut 0 of 1, hole 1 of 1.")


@pytest.mark.parametrize(
    ("word", "rate", "ending"),
    [
        ("kept", 0.01, "it holds."),
        ("open", 0.05, "too few good images to be sure."),
        ("broken", 0.2, "calibrated on?"),
    ],
)
def test_the_verdict_on_the_promise_is_said(word: str, rate: float, ending: str) -> None:
    results = example_results()
    results["realised_false_alarm_rate"] |= {"verdict": word, "rate": rate}
    assert verdict(typed(results))[1].endswith(ending)


@pytest.mark.usefixtures("without_charts")
def test_a_threshold_set_by_hand_promises_nothing() -> None:
    results = example_results() | {"threshold": 0.4}
    assert "at most 5 % were to be expected" in verdict(typed(results))[1]
    page = render(typed(results), example_drawings())
    assert "set by hand; the calibrated one is 0.3" in page
    assert "set by hand" not in render(typed(example_results()), example_drawings())


def test_numbers_for_reading() -> None:
    assert number(0.5) == "0.500"
    assert percent(2 / 3) == "66.7 %"
    assert span(None) == ""


@pytest.mark.usefixtures("page", "without_charts")  # in this order: the page has its charts
def test_the_papers_tau_is_shown_only_on_its_own_scale(page: str) -> None:
    other = {**example_results(), "has_paper_tau": False}
    assert thresholds_in_use(typed(example_results())).keys() - thresholds_in_use(typed(other)).keys() == {"paper_tau"}
    without = render(typed(other), example_drawings())
    for words in ("F1 at tau", "the paper's tau", "F1 of each image", "at three thresholds"):
        assert words in html.unescape(page)
        assert words not in html.unescape(without)


@pytest.mark.slow
def test_four_pictures_share_a_row_and_nothing_leaves_a_narrow_page(chromium: Any, tmp_path: Path) -> None:
    """Photos of 3:2 with a square close-up at 1200 px; and at 420 px tables scroll in themselves, the page does not."""
    rng = np.random.default_rng(0)
    wide = dataclasses.replace(
        example(reconstruction=False),
        image=rng.integers(0, 255, (200, 300, 3), dtype=np.uint8),
        anomaly_map=rng.random((200, 300), dtype=np.float32),
        mask=None,
    )
    cut = cut_close_up(wide.image, wide.anomaly_map, None, threshold=2.0)
    drawings = dataclasses.replace(example_drawings(), missed=[dataclasses.replace(wide, close_up=cut)])
    (tmp_path / "report.html").write_text(render(typed(example_results()), drawings), encoding="utf-8")
    page = chromium.new_page(viewport={"width": 1200, "height": 900})
    page.goto((tmp_path / "report.html").as_uri())
    boxes = [one.bounding_box() for one in page.locator(".strip").first.locator("img").all()]
    assert len(boxes) == 4
    assert len({round(box["y"]) for box in boxes}) == 1
    assert max(box["height"] for box in boxes) - min(box["height"] for box in boxes) < 2
    assert boxes[-1]["x"] + boxes[-1]["width"] > 1100, "the row is filled"
    page.set_viewport_size({"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == 420
    assert len({round(one.bounding_box()["y"]) for one in page.locator(".strip").first.locator("img").all()}) == 2
