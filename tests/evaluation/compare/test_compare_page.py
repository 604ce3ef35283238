"""The comparison's page: published figures apart, caveats said, nothing from outside, honest gaps."""

import copy
import html
import re
from typing import Any

import numpy as np
import pytest

from blemish.cli.compare import _print_comparison
from blemish.evaluation.compare import published
from blemish.evaluation.compare.compare_page import amount, render, seconds, verdict
from blemish.evaluation.compare.ranking import rank_detectors
from blemish.evaluation.compare.summary import MEASURES, over_datasets, spread, summarise
from blemish.evaluation.report.pictures import photo

NASTY = '<img src=x onerror="alert(1)">'


def run(detector: str, seed: int = 0, dataset: str = "hazelnut", **changed: float | None) -> dict[str, Any]:
    measures: dict[str, float | None] = dict.fromkeys(MEASURES, 0.25 + 0.5 * seed) | changed
    return {
        "dataset": dataset,
        "detector": detector,
        "seed": seed,
        "status": "finished",
        "error": None,
        "scopes": {scope: dict(measures) for scope in ("all", "cut", "hole")},
        "count": {
            "all": {"images": 9, "good": 4, "defective": 5},
            "cut": {"defective": 2},
            "hole": {"defective": 3},
        },
        "notes": {"masks": f"{NASTY}: judged as images"},
        "false_alarms": {"flagged": 1, "good_images": 4, "promised": 0.05},
        "settings": {"model": {"note": "</pre><script>"}},
    }


def failed(detector: str, seed: int = 0, dataset: str = "hazelnut") -> dict[str, Any]:
    return run(detector, seed, dataset) | {
        "status": "failed",
        "error": f"DataError: {NASTY}",
        "scopes": {},
        "count": {},
    }


def content(*runs: dict[str, Any]) -> dict[str, Any]:
    return {
        "plan": {
            "datasets": list(dict.fromkeys(each["dataset"] for each in runs)),
            "detectors": list(dict.fromkeys(each["detector"] for each in runs)),
            "seeds": 2,
            "runs": len(runs),
            "evaluate": {"full_size": True, "paper_tau": 0.2, "paper_tau_by_type": {"hole": 0.25}},
        },
        "summary": summarise(runs),
        "rankings": rank_detectors(summarise(runs), list(dict.fromkeys(each["detector"] for each in runs))),
        "runs": list(runs),
        "published_caveats": list(published.CAVEATS),
        "versions": {"blemish": "0"},
    }


@pytest.fixture(scope="module")
def page() -> str:
    runs = [run(name, seed) for seed in (0, 1) for name in ("seed", "ae_l2")]
    picture = {
        "name": NASTY,
        "type": "cut",
        "pictures": [("ground truth", photo(np.zeros((2, 3, 3), np.uint8))), ("seed", None)],
    }
    return render(content(*runs, failed("vae")), {"hazelnut": [picture]})


def rows_of(page: str, detector: str) -> list[list[str]]:
    """The runs of a detector's rows in the first table, tags removed."""
    start = page.index(">" + detector, page.index("by defect type</h3>"))
    body = page[start : page.index('class="begin', start) if 'class="begin' in page[start:] else None]
    return [
        [" ".join(re.sub(r"<[^>]+>", " ", one).split()) for one in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)]
        for row in body.split("</tr>")
        if "<td" in row
    ]


def test_means_and_spread_stand_in_the_table(page: str) -> None:
    assert "0.50<small>± 0.35</small>" in page
    assert "0.25" in page
    assert 'title="0.25 to 0.75 over 2 seeds"' in page


def test_published_figures_have_columns_of_their_own(page: str) -> None:
    by_label = {row[0]: row for row in rows_of(page, "seed")}
    assert by_label["cut"][-5:] == ["0.80", "0.69", "0.57 d", "", ""]
    assert by_label["hole"][-5:] == ["0.61", "0.55", "0.75 d", "", ""]
    assert by_label["all images"][-5:] == [""] * 5
    others = {row[0]: row for row in rows_of(page, "ae_l2")}
    assert others["all images"][-5:] == ["0.93", "0.84", "0.88 c", "0.93", "0.84"]
    assert others["cut"][-5:] == [""] * 5


def test_every_caveat_and_source_is_said(page: str) -> None:
    text = html.unescape(page)
    resolution = "Pixels are compared with masks in full resolution."
    for words in (*published.CAVEATS, published.PAPER, published.MVTEC_AD, resolution):
        assert words in text


def test_caveats_are_those_of_the_figures_shown() -> None:
    text = html.unescape(render(content(run("padim")), {}))
    first, *of_the_paper = published.CAVEATS
    assert first in text
    assert not any(caveat in text for caveat in of_the_paper)
    assert "full resolution. Published figures" in " ".join(text.split())


def test_the_papers_slips_are_found_by_arithmetic() -> None:
    wrong = {key for key, row in published.PAPER_TABLE_3.items() if not row.agrees}
    assert wrong == {("paper", "cut"), ("paper", "hole")}


def test_another_category_has_no_published_columns() -> None:
    page = render(content(run("seed", dataset="toothbrush")), {})
    text = page.lower()
    assert "hazelnut" not in text
    assert "published" not in text
    assert '<td class="first"></td>' not in page


def test_there_is_no_column_of_dashes() -> None:
    """Nor a heading for what no detector has: here no map is on the paper's scale, and no mask is known."""
    nothing = {f"{prefix}paper_tau.{rate}": None for prefix in ("", "own.") for rate in ("precision", "recall", "f1")}
    page = render(content(run("padim", dataset="brush", **{**nothing, "pixel.aupro": None})), {})
    assert "tau" not in page
    assert ">AUPRO<" not in page
    assert "<td>-</td>" not in page[page.index("by defect type</h3>") : page.index("Every run")]


def test_the_first_table_leads_with_images_found_and_who_finds_most() -> None:
    found = {"image.defect_rate": 0.9, "found_at.0.05": 0.8}
    page = render(content(run("padim", dataset="brush"), run("patchcore", dataset="brush", **found)), {})
    table = page[page.index("<h2>brush</h2>") :]
    headings = re.findall(r'<th class="measure">(.*?)</th>', table)
    assert headings[:2] == ["found", "found, 5 % false alarms allowed"]
    assert re.findall(r'<tr><th scope="row">(\w+)', table)[:2] == ["patchcore", "padim"]
    assert "90 %" in table
    assert "2 of 8" not in table
    assert "1 of 4" in table


def test_names_and_errors_are_only_text(page: str) -> None:
    assert "<img src=x" not in page
    assert page.count("<script") == 1  # the one that enlarges pictures
    assert html.escape(f"DataError: {NASTY}") in page.replace("&#34;", "&quot;")


def test_the_page_needs_nothing_from_outside(page: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
    links = re.findall(r'href="([^"]*)"', page)
    assert [link for link in links if not link.startswith(("runs/", "#"))] == []


def test_what_failed_is_said_first(page: str) -> None:
    assert page.index("What failed") < page.index("by defect type</h3>")
    assert "4 of 5 runs finished, 1 failed." in page


def test_a_comparison_of_nothing_but_failures_is_a_page() -> None:
    assert "0 of 2 runs finished, 2 failed." in render(content(failed("seed"), failed("vae")), {})


def test_a_seed_that_failed_is_said_beside_the_others() -> None:
    page = render(content(run("seed", 0), failed("seed", 1)), {})
    assert "1 of 2 failed" in page


def test_gaps_are_dashes() -> None:
    page = render(content(run("seed", **{"paper_tau.f1": None, "pixel.aupro": None})), {})
    assert ">-</td>" in page


def test_one_mask_type_less_is_no_one_row_less() -> None:
    one = run("seed")
    del one["scopes"]["hole"], one["count"]["hole"]
    labels = [row[0] for row in rows_of(render(content(one), {}), "seed")]
    assert labels[:2] == ["cut", "all images"]


def test_means_over_datasets() -> None:
    both = content(run("seed", dataset="a"), run("seed", 1, dataset="b"), failed("vae", dataset="a"))
    means = over_datasets(both["summary"], ["image.auroc"])
    assert means == [
        {"detector": "seed", "datasets": 2, "image.auroc": 0.5},
        {"detector": "vae", "datasets": 1, "image.auroc": None},
    ]
    assert "Means over the datasets" in render(both, {})


def test_the_verdict_names_the_best_and_the_worst() -> None:
    found = verdict(content(run("seed"), run("vae", **{"found_at.0.05": 0.75})))
    assert found[1] == (
        "On hazelnut, vae finds most of the defective images with 5 % of false alarms allowed: 75 %; "
        "seed finds least, 25 %."
    )


def test_of_a_single_seed_the_verdict_says_that_it_may_be_chance() -> None:
    other = {"found_at.0.05": 0.75}
    assert "chance" in verdict(content(run("seed"), run("vae", **other)))[-1]
    two = [run(name, seed, **values) for seed in (0, 1) for name, values in (("seed", {}), ("vae", other))]
    assert "chance" not in " ".join(verdict(content(*two)))
    assert "chance" not in " ".join(verdict(content(run("seed")))), "there is no difference"


def test_where_all_find_the_same_nobody_is_ahead() -> None:
    assert verdict(content(run("seed"), run("vae")))[1].startswith("On hazelnut, all find 25 %")


def test_of_hazelnuts_only_the_published_columns_that_have_a_figure_are_shown() -> None:
    page = render(content(run("padim")), {})
    assert "published as pixels" not in page
    assert "published<br>AUPRO" in page


def test_a_failed_seed_does_not_count() -> None:
    summary = summarise([run("seed", 0), failed("seed", 1)])[0]
    assert (summary["seeds"], summary["failed"]) == (1, 1)
    assert summary["scopes"]["all"]["image.auroc"] == spread([0.25])


def test_numbers_for_reading() -> None:
    assert seconds({"mean": 9000.0, "std": None}) == "2.5 h"
    assert amount(18_800_000) == "18.8 M"


def test_the_same_content_gives_the_same_page() -> None:
    found = content(run("seed"), run("vae"))
    assert render(copy.deepcopy(found), {}) == render(found, {})


def test_three_datasets_are_ranked_on_the_page() -> None:
    runs = [run(name, 0) | {"dataset": f"set{number}"} for number in range(3) for name in ("seed", "ae_l2")]
    page = render(content(*runs), {})
    assert "image AUROC over 3 datasets" in page
    assert "better than ae_l2" in page
    assert "never beyond 88 %" in page
    assert "over 2 datasets" not in render(content(*runs[:4]), {})


def test_the_terminal_says_what_good_images_cost_and_has_no_column_of_dashes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs = [run("padim", seed, **{"found_at.0.05": None}) for seed in (0, 1)]
    _print_comparison(content(*runs, failed("vae")))
    told = capsys.readouterr().out
    assert "2 of 8" in told
    assert "5 %" not in told
