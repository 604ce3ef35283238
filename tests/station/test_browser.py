"""A real browser: log in, watch a verdict arrive, judge by keyboard, move the threshold, read the shift report."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.inference.predictor import Predictor
from blemish.station.database import open_database
from blemish.station.folder import open_folder
from blemish.station.products import set_audit_rate
from station.serving import PASSWORD, Running

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture
def page(running: Running) -> Iterator[Any]:
    """A page of the station, logged in as admin; what the browser refuses or trips over fails the test."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    assert running.ready()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        opened = browser.new_page(viewport={"width": 800, "height": 1280}, locale="en-GB")
        trouble: list[str] = []
        opened.on("pageerror", lambda error: trouble.append(str(error)))
        opened.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
        opened.set_default_timeout(30_000)
        opened.goto(running.address)
        opened.fill("[name=name]", "admin")
        opened.fill("[name=password]", PASSWORD)
        opened.press("[name=password]", "Enter")
        opened.wait_for_url(running.address)
        yield opened
        browser.close()
        assert trouble == []


def write_parts(camera: Path, onnx_file: Path, number: int) -> int:
    """Images that the model finds anomalous; how many."""
    predictor = Predictor.load(onnx_file, threads=1)
    rng, made = np.random.default_rng(5), 0
    for _ in range(50):
        image = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
        if predictor.predict(image).is_anomalous:
            image.save(camera / f"part-{made}.png")
            made += 1
        if made == number:
            break
    return made


def wait_for_number(page: Any, selector: str, number: int) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect(page.locator(selector)).to_have_count(number, timeout=60_000)


def test_a_shift_at_the_station(page: Any, running: Running, onnx_file: Path, tmp_path: Path) -> None:
    folder = open_folder(running.folder)
    database = open_database(folder.default_database, folder.id)
    set_audit_rate(database, "test", 1, 0.0, "every verdict is to be seen")
    database.close()
    made = write_parts(tmp_path / "camera", onnx_file, 3)
    assert made == 3

    wait_for_number(page, ".card.anomalous", 3)  # they arrive by themselves
    assert page.locator("[data-count=anomalous]").text_content() == "3"
    picture = page.locator(".card img").first
    assert "/map.jpg" in picture.get_attribute("src")
    page.keyboard.press("Space")
    assert "/photo.jpg" in picture.get_attribute("src")

    page.click("nav >> text=Review")
    page.wait_for_url("**/review", wait_until="load")
    first = page.locator("[data-here]").get_attribute("data-image")
    page.keyboard.press("j")
    assert page.locator("[data-here]").get_attribute("data-image") != first
    page.keyboard.press("k")
    page.keyboard.press("a")
    wait_for_number(page, ".card", 2)
    page.keyboard.press("f")
    wait_for_number(page, ".card", 1)

    page.click(".card a.picture")
    page.wait_for_url(re.compile(r"/images/\d+$"), wait_until="load")  # modules have run
    page.keyboard.press("Space")
    assert "/mask.jpg" in page.locator("[data-show]").get_attribute("src")
    page.keyboard.press("+")
    assert "scale(1.25)" in page.locator("[data-show]").get_attribute("style")

    page.click("nav >> text=Threshold")
    page.wait_for_url("**/threshold", wait_until="load")
    before = page.locator("[data-rate]").text_content()
    page.locator("[data-slider]").evaluate("one => { one.value = 0; one.dispatchEvent(new Event('input')); }")
    assert page.locator("[data-rate]").text_content() != before
    page.locator("[data-slider]").evaluate("one => { one.value = 1000; one.dispatchEvent(new Event('input')); }")
    wanted = page.locator("[data-value]").text_content()
    page.fill("[name=reason]", "the lamp was changed")
    page.fill(".sign [name=password]", PASSWORD)
    page.click("text=Sign and move")
    page.wait_for_selector("text=Threshold set by a person.")
    assert page.locator("[data-value]").text_content() == wanted

    page.click("nav >> text=Shift report")
    page.wait_for_url("**/report", wait_until="load")
    text = page.locator("main").text_content()
    assert re.search(r"anomalous\s*3", text)
    page.click("nav >> text=Audit trail")
    page.wait_for_url("**/trail", wait_until="load")
    page.click("text=Check the chain")
    assert "entries hold" in page.locator("[role=status]").text_content()
