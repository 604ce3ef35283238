"""A real browser: log in, watch a verdict arrive, judge by keyboard, move the threshold, read the shift report."""

import io
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from blemish.inference.predictor import Predictor
from blemish.station.database import open_database
from blemish.station.folder import open_folder
from blemish.station.products import set_audit_rate
from blemish.station.render import NAVIGATION
from station.photos import write_photo
from station.serving import PASSWORD, Running, begin, set_up
from station.waiting import WITHIN_S, wait_until

pytestmark = pytest.mark.slow


@contextmanager
def logged_in(chromium: Any, running: Running, **options: Any) -> Iterator[Any]:
    """A page of the station, logged in as admin; what the browser refuses or trips over fails the test."""
    assert running.ready()
    context = chromium.new_context(**{"viewport": {"width": 800, "height": 1280}, "locale": "en-GB", **options})
    context.set_default_timeout(1000 * WITHIN_S)
    opened, trouble = context.new_page(), list[str]()
    opened.on("pageerror", lambda error: trouble.append(str(error)))
    opened.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    log_in(opened, running)
    yield opened
    context.close()
    assert trouble == []


def log_in(page: Any, running: Running) -> None:
    """Begin a session as admin."""
    page.goto(running.address)
    page.fill("[name=name]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    page.wait_for_url(running.address)


@pytest.fixture
def page(chromium: Any, running: Running) -> Iterator[Any]:
    """A page of the station, logged in as admin."""
    with logged_in(chromium, running) as opened:
        yield opened


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


def set_rate(running: Running, rate: float) -> None:
    """Draw this share of what comes for the audit lane."""
    folder = open_folder(running.folder)
    database = open_database(folder.default_database, folder.id)
    set_audit_rate(database, "test", 1, rate, "as the test needs it")
    database.close()


def wait_for_number(page: Any, selector: str, number: int) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect(page.locator(selector)).to_have_count(number, timeout=1000 * WITHIN_S)


def test_a_shift_at_the_station(page: Any, running: Running, onnx_file: Path, tmp_path: Path) -> None:
    set_rate(running, 0.0)
    made = write_parts(tmp_path / "camera", onnx_file, 3)
    assert made == 3

    wait_for_number(page, ".card.anomalous", 3)  # they arrive by themselves
    hide = "Object.defineProperty(document, 'hidden', {value: true, configurable: true})"
    page.evaluate(f"{hide}; document.dispatchEvent(new Event('visibilitychange'))")
    again = "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(f"document.documentElement.dataset.old = ''; {again}")
    wait_for_number(page, "html[data-old]", 0)  # it had let go of its connection, and has begun again
    wait_for_number(page, ".card.anomalous", 3)
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
    zone = page.evaluate("new Date().toLocaleTimeString('en', { timeZoneName: 'short' }).split(' ').pop()")
    assert set(page.locator("[data-zone]").all_text_contents()) == {zone}
    page.click("nav >> text=Audit trail")
    page.wait_for_url("**/trail", wait_until="load")
    page.click("text=Check the chain")
    assert re.search(r"entries hold|entry holds", page.locator("[role=status]").text_content())


PAGES = (
    *(path for path, _, _ in NAVIGATION),
    *("/recalibrate", "/shadow", "/train?product=1", "/trail/head", "/trail?everything=true&check=true", "/account"),
)


def focused(page: Any) -> str:
    """What a key would go to."""
    return str(page.evaluate("(document.activeElement.name || document.activeElement.textContent).trim()"))


def test_an_engineer_works_by_keyboard_and_no_page_complains(page: Any, running: Running, tmp_path: Path) -> None:
    policy = "default-src 'none'; script-src 'self'"
    for path in PAGES:
        answer = page.goto(running.address + path[1:])
        assert (answer.status, answer.headers["content-security-policy"].startswith(policy)) == (200, True), path
        page.wait_for_load_state("load")
        page.keyboard.press("Tab")  # the first stop leads past the navigation
        assert focused(page) == "To the content"
        for width in (800, 420):
            page.set_viewport_size({"width": width, "height": 1280})
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{path}: {wide} px wider than a window of {width} px"
        scrolled = "[...document.querySelectorAll('.scroll')].map(one => getComputedStyle(one).backgroundAttachment)"
        assert all("local" in shown and "scroll" in shown for shown in page.evaluate(scrolled)), "shows no more to come"
        page.set_viewport_size({"width": 800, "height": 1280})

    page.goto(running.address + "users")
    page.focus("form[action='/users'] [name=name]")
    page.keyboard.type("eva")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Tab")
    page.keyboard.type("operator")  # chooses in the list
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("th >> text=eva")
    assert page.locator("tr:has(th:text-is('eva')) select").input_value() == "operator"

    page.goto(running.address + "hooks")
    page.focus("form[action='/hooks'] [name=url]")
    page.keyboard.type("http://127.0.0.1:9/told?key=SECRET")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=status] code")  # what it is signed with, this once

    page.goto(running.address + "storage")
    page.fill("[name=days_rejects]", "365")
    page.fill("[name=days]", "30,5")
    page.fill("[name=reason]", "as agreed")
    page.focus("[name=password]")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_load_state("load")
    page.wait_for_selector("[name=days][value='30.5']")

    page.goto(running.address + "trail/head")
    assert page.locator("[data-print]").is_visible()
    with page.expect_download() as download:
        page.click("text=Save")
    assert '"sha256"' in Path(download.value.path()).read_text()
    page.goto(running.address + "trail")
    text = page.locator("main").text_content()
    assert "http://127.0.0.1:9/…" in text
    assert "SECRET" not in text

    page.goto(running.address + "products")
    page.locator("a", has_text="Train a model here").press("Enter")
    write_photo(tmp_path / "camera" / "good" / "0.jpg", (64, 64))
    page.fill("[name=path]", str(tmp_path / "camera" / "good"))
    page.press("[name=path]", "Enter")
    page.fill("[name=roi]", "[0, 0, 32, 64]")
    page.fill("[name=name]", "new")
    page.press("[name=name]", "Enter")
    page.wait_for_url(re.compile(r"/runs/1$"))
    page.wait_for_selector(".alarm >> text=1 good image found")  # it says so when it has ended
    page.goto(running.address + "recalibrate")
    assert "Not yet" in page.locator("main").text_content()
    page.goto(running.address + "shadow")
    assert "No model is in the shadow." in page.locator("main").text_content()


def test_words_without_end_make_no_page_wider(page: Any, running: Running, tmp_path: Path) -> None:
    set_rate(running, 0.0)
    name, width, word = f"{'n' * 120}.png", 1024, "x" * 80
    Image.new("RGB", (640, 40)).save(tmp_path / "camera" / name)  # of another aspect than the model is for
    wait_for_number(page, ".card.unreadable", 1)
    page.click(".card a.picture")
    assert name not in page.locator(".seen .panel").text_content()  # its title says it
    page.fill("[name=defect_type]", word)
    page.click("text=Defective")
    page.wait_for_selector(f"li >> text={word}")
    address = page.url.removeprefix(running.address)
    page.goto(running.address + "users")
    page.fill("form[action='/users'] [name=name]", word)
    page.fill("form[action='/users'] [name=password]", PASSWORD)
    page.click("form[action='/users'] button")
    page.wait_for_selector(f"th >> text={word}")
    page.set_viewport_size({"width": width, "height": 768})
    for path in ("", "images", address, "users", "report", "trail"):
        page.goto(running.address + path)
        parts = "[document.documentElement, ...document.querySelectorAll('.scroll')]"
        assert max(page.evaluate(f"{parts}.map(one => one.scrollWidth - one.clientWidth)")) <= 0, path


def test_no_verdict_is_lost_where_the_session_or_the_station_has_ended(
    chromium: Any, tmp_path: Path, onnx_file: Path
) -> None:
    folder, secret = set_up(tmp_path, onnx_file)
    with begin(folder, secret) as running:
        set_rate(running, 0.0)
        assert write_parts(tmp_path / "camera", onnx_file, 3) == 3
        context = chromium.new_context()
        context.set_default_timeout(1000 * WITHIN_S)
        page, live = context.new_page(), context.new_page()
        assert running.ready()
        log_in(page, running)
        live.goto(running.address)
        wait_for_number(live, ".card.anomalous", 3)
        page.goto(running.address + "review")
        cookies = context.cookies()
        context.clear_cookies()
        page.keyboard.press("f")
        page.wait_for_url(re.compile("/login"))
        context.add_cookies(cookies)
        page.goto(running.address + "review")
        wait_for_number(page, ".card", 3)  # it was not noted, and is there again
        page.keyboard.press("f")
        wait_for_number(page, ".card", 2)
        assert page.locator("[data-left]").text_content() == "2"
        live.keyboard.press("p")
        live.wait_for_selector("text=Paused")
    page.keyboard.press("f")
    page.wait_for_selector(".alarm >> text=does not answer")
    wait_for_number(page, ".card", 2)
    live.wait_for_selector("[data-lost]")  # however often it is tried again in between
    context.close()


def test_the_form_of_times_takes_and_shows_what_the_page_does(chromium: Any, running: Running) -> None:
    with logged_in(chromium, running, timezone_id="Asia/Kolkata") as page:  # 5.5 hours ahead
        page.goto(running.address + "report?start=2026-03-01T20:00&end=2026-03-02T04:00:30")
        names = ("start", "end")
        assert [page.input_value(f"[name={name}]") for name in names] == ["2026-03-02T01:30", "2026-03-02T09:30:30"]
        assert "02/03/2026, 01:30:00 - 02/03/2026, 09:30:30 GMT+5:30" in page.locator("main").text_content()
        page.fill("[name=end]", "2026-03-02T10:00:00")
        page.click("main form button")
        page.wait_for_url("**start=2026-03-01T20%3A00%3A00&end=2026-03-02T04%3A30%3A00*")
        page.goto(running.address + "images")
        page.click("main form button")  # nothing asked for
        page.wait_for_url("**start=&end=*")


def test_the_navigation_takes_one_row_on_a_telephone_with_the_page_in_sight(chromium: Any, running: Running) -> None:
    with logged_in(chromium, running, locale="de-DE", viewport={"width": 360, "height": 740}) as page:
        here, top = page.locator("nav [aria-current]"), page.locator(".top")
        for path, name in (("", "Live"), ("threshold", "Schwelle"), ("hooks", "Anschlüsse")):
            page.goto(running.address + path)
            assert (here.text_content(), top.bounding_box()["height"] < 120) == (name, True)
            assert wait_until(lambda: 0 <= here.bounding_box()["x"] <= 360 - here.bounding_box()["width"])


def test_pages_work_without_script(chromium: Any, running: Running, onnx_file: Path, tmp_path: Path) -> None:
    set_rate(running, 0.0)
    assert write_parts(tmp_path / "camera", onnx_file, 2) == 2
    with logged_in(chromium, running, java_script_enabled=False) as page:
        page.wait_for_selector(".card.anomalous")  # the page loads itself again
        for path in PAGES:
            assert page.goto(running.address + path[1:]).status == 200
        page.goto(running.address + "review")
        page.locator("button", has_text="False alarm").first.click()
        wait_for_number(page, ".card", 1)
        page.locator(".card a.picture").click()
        page.wait_for_url(re.compile(r"/images/\d+$"))
        page.fill("[name=defect_type]", "crack")
        page.locator("button", has_text="Defective").click()
        page.wait_for_selector("li >> text=crack")
        page.goto(running.address + "threshold")
        before = page.locator("[data-value]").text_content()
        page.locator("[data-slider]").focus()
        page.keyboard.press("End")
        page.locator("form[data-threshold] button").click()
        assert page.locator("[data-value]").text_content() != before
        page.goto(running.address + "report")
        assert re.search(r"anomalous\s*2", page.locator("main").text_content())
        set_rate(running, 1.0)
        shutil.copy(tmp_path / "camera/part-0.png", tmp_path / "camera/audited.png")
        load_until(page, running.address + "audit", "[data-audit]")
        assert page.locator("text=audited.png").is_visible()
        page.locator("button", has_text="Good").click()
        page.wait_for_selector("text=we said")


def load_until(page: Any, address: str, selector: str) -> None:
    """Load a page again until it has that."""

    def has_it() -> bool:
        page.goto(address)
        return bool(page.locator(selector).count())

    assert wait_until(has_it)


def test_on_a_telephone_the_audit_lane_is_judged_without_scrolling(
    chromium: Any, running: Running, onnx_file: Path, tmp_path: Path
) -> None:
    set_rate(running, 1.0)
    assert write_parts(tmp_path / "camera", onnx_file, 1) == 1
    with logged_in(chromium, running, viewport={"width": 390, "height": 844}) as page:
        buttons = page.locator("form[data-audit] button")
        assert wait_until(lambda: page.goto(f"{running.address}audit") and buttons.count() == 3)
        assert all(box["y"] + box["height"] <= 844 for box in (one.bounding_box() for one in buttons.all()))


def test_what_is_drawn_on_a_photo_is_what_the_setting_takes(chromium: Any, running: Running, tmp_path: Path) -> None:
    for place in range(3):  # stored lying, shown 300 wide and 400 high, white where x is from 150 on and y below 200
        write_photo(tmp_path / "camera" / "good" / f"{place}.jpg", (400, 300), turned=True)
    drawing = f"{running.address}train?product=1&path={tmp_path / 'camera' / 'good'}"
    for width in (1280, 390):
        with logged_in(chromium, running, viewport={"width": width, "height": 844}, has_touch=width == 390) as page:
            page.goto(drawing, wait_until="networkidle")
            board, roi, ignore = (page.locator(one) for one in ("[data-board]", "[name=roi]", "[name=ignore]"))
            board.scroll_into_view_if_needed()
            box = board.bounding_box()
            assert box["width"] / box["height"] == pytest.approx(3 / 4, rel=0.01)  # no bars beside it
            pointer = Pointer(page, board, has_touch=width == 390)
            pointer.drag((150, 1), (299, 200))
            one_px = 300 / box["width"]
            assert json.loads(roi.input_value()) == pytest.approx([150, 1, 299, 200], abs=1 + one_px)
            seen = np.asarray(Image.open(io.BytesIO(board.screenshot())).convert("L"))[2:-2, 2:-2] > 200
            sides = [np.flatnonzero(seen.mean(axis=axis) > 0.2)[[0, -1]] for axis in (0, 1)]  # white and not darkened
            assert np.ravel(sides) * one_px == pytest.approx([150, 299, 1, 200], abs=3 + 3 * one_px)

            page.click("[data-tool=polygon]")
            page.click("[data-kind=ignore]")  # also of the rectangle that is chosen
            assert (roi.input_value(), ignore.input_value() != "") == ("", True)
            page.click("[data-do=undo]")
            for at in ((170, 50), (250, 60), (220, 150), (170, 50)):
                pointer.press(at)
            assert [len(one) for one in json.loads(ignore.input_value())] == [2, 2, 2]
            pointer.drag((210, 55), (215, 20))  # a corner between two
            assert [len(one) for one in json.loads(ignore.input_value())] == [2, 2, 2, 2]
            page.click("[data-do=corner]")
            page.keyboard.press("Control+z")
            assert [len(one) for one in json.loads(ignore.input_value())] == [2, 2, 2, 2]
            page.click("[data-tool=move]")
            before = json.loads(ignore.input_value())
            pointer.drag((215, 90), (115, 500))  # as far as the photo goes
            moved = np.array(json.loads(ignore.input_value())) - before
            assert (np.ptp(moved, axis=0).tolist(), moved[0, 0] < 0) == ([0, 0], True)
            assert max(y for _, y in json.loads(ignore.input_value())) == 400
            page.click("[data-do=shape]")
            assert ignore.input_value() == ""

            roi.fill("[[0.25, 0.5, 0.75, 1], [[1, 1], [9, 1], [5, 9]]]")  # as one is above 1: pixels
            assert page.locator(".lines polygon").last.get_attribute("points") == "1,1,9,1,5,9"
            roi.fill("[0.25, 0.5, 0.75, 1]")
            assert page.locator(".lines polygon").get_attribute("points") == "75,200,225,200,225,400,75,400"
            roi.fill("[0.25, ")
            assert roi.get_attribute("aria-invalid") == "true"
            roi.fill("auto")
            page.click("[data-tool=box]")
            pointer.drag((10, 10), (50, 50))
            assert (roi.get_attribute("aria-invalid"), roi.input_value()) == ("false", "auto")
            assert ignore.input_value().startswith("[")
    with logged_in(chromium, running) as page:
        page.goto(drawing, wait_until="networkidle")
        page.fill("[name=roi]", "[0, 0, 99, 99]")
        page.fill("[name=name]", "new")
        page.click("nav >> text=Images")
        page.go_back()
        page.wait_for_selector(".lines polygon")  # what was typed is there again, and drawn
        page.click("form.train button.main")
        page.wait_for_url(re.compile(r"/runs/1$"))
        page.click("text=Train again, with other settings")
        assert page.locator(".lines polygon").get_attribute("points") == "0,0,99,0,99,99,0,99"


class Pointer(NamedTuple):
    """A mouse or a finger on a photo that is shown 300 wide and 400 high."""

    page: Any
    photo: Any
    has_touch: bool

    def place(self, at: tuple[float, float]) -> tuple[float, float]:
        self.photo.scroll_into_view_if_needed()
        box = self.photo.bounding_box()
        return box["x"] + at[0] * box["width"] / 300, box["y"] + at[1] * box["height"] / 400

    def press(self, at: tuple[float, float]) -> None:
        self.drag(at, at)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        (x, y), (u, v) = self.place(start), self.place(end)
        if not self.has_touch:
            self.page.mouse.move(x, y)
            self.page.mouse.down()
            self.page.mouse.move((x + u) / 2, (y + v) / 2)
            self.page.mouse.move(u, v)
            self.page.mouse.up()
            return
        devtools = self.page.context.new_cdp_session(self.page)
        halfway = ((x + u) / 2, (y + v) / 2)
        for kind, points in {"Start": [(x, y)], "Move": [halfway], "Move ": [(u, v)], "End": []}.items():
            touches = [{"x": one[0], "y": one[1]} for one in points]
            devtools.send("Input.dispatchTouchEvent", {"type": f"touch{kind.strip()}", "touchPoints": touches})


def test_on_a_telephone_a_photo_has_no_bars_and_tables_are_read_without_scrolling(
    chromium: Any, running: Running, tmp_path: Path
) -> None:
    set_rate(running, 1.0)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (62, 64, 3), dtype=np.uint8)).save(tmp_path / "camera" / "wide.png")
    with logged_in(chromium, running, viewport={"width": 390, "height": 844}) as page:
        stage = page.locator(".stage")
        assert wait_until(lambda: page.goto(f"{running.address}audit") and stage.count() == 1)
        box = stage.bounding_box()
        assert box["height"] == pytest.approx(box["width"] * 62 / 64, abs=1)
        for path in ("products", "users", "trail?everything=true"):
            page.goto(running.address + path)
            assert (
                max(
                    page.evaluate(
                        "[...document.querySelectorAll('.scroll')].map(one => one.scrollWidth - one.clientWidth)"
                    )
                )
                <= 0
            ), path


def test_a_form_that_is_sent_twice_is_taken_once(page: Any, running: Running) -> None:
    page.goto(f"{running.address}products")
    page.fill("[action='/products'] [name=name]", "nut")
    page.dblclick("[action='/products'] button")
    page.wait_for_selector(".promise[role=status]")  # and no page that says there is one of that name
    wait_for_number(page, "h2:text-is('nut')", 1)


def test_a_note_is_written_in_the_audit_lane_and_shown_beside_the_image(
    page: Any, running: Running, onnx_file: Path, tmp_path: Path
) -> None:
    set_rate(running, 1.0)
    write_photo(tmp_path / "camera" / "a.jpg", (64, 64))
    wait_for_number(page, ".card.audit", 1)
    page.goto(f"{running.address}audit")
    page.click("summary")
    page.fill("[name=note]", "dirt, and good")  # g and d judge, but not while one writes
    page.click("[value=good]")
    page.click(".promise a")
    wait_for_number(page, ".noted:has-text('dirt, and good'):has-text('admin')", 1)
    at = page.locator(".noted time")
    day = at.get_attribute("datetime")[:4]
    assert day not in at.text_content()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert day in at.text_content()
    page.fill("[name=defect_type]", "crack")
    page.click("[value=defective]")
    page.wait_for_selector("li >> text=crack")
    write_photo(tmp_path / "camera" / "b.jpg", (64, 64), turned=True)
    load_until(page, f"{running.address}audit", "[data-audit]")
    page.keyboard.press("1")
    page.click(".promise a")
    page.wait_for_selector("li:has-text('crack'):has-text('audit lane')")
    page.goto(f"{running.address}images?name=dirt")
    wait_for_number(page, ".card .noted", 1)
    assert not page.locator("details.more label").first.is_hidden()  # wide: all of the form is there
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.locator("details.more label").first.is_hidden()
    page.click("details.more summary")
    assert page.locator("details.more label").first.is_visible()
