"""Take the pictures of docs/station.md: Chromium looks at a station of drawn hazelnuts. station_pictures.py [OUT]

OUT, build/station-pictures if nothing is said, keeps models and nuts; the station in it is made again.
"""

import io
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright
from sqlalchemy import delete, select

import station
from blemish.station.database import open_database
from blemish.station.folder import open_folder
from blemish.station.tables import Decision, Tally

IMG, PASSWORD, NUTS, AN_HOUR = Path(__file__).parents[1] / "docs" / "img", "as long as it must be", 240, 12


def main() -> None:
    """Make what is missing, serve, and look."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "build/station-pictures").resolve()
    shutil.rmtree(out / "station", ignore_errors=True)
    station.set_up(out)
    if not (out / "other.onnx").exists():
        station.run("train", out / "hazelnuts", "-o", out / "other.safetensors", "--detector", "patchcore")
        station.run("export", out / "other.safetensors", "-o", out / "other.onnx")
    for number in range(len(list((out / "incoming").iterdir())), NUTS):
        station.bring_hazelnut(out / "incoming", f"line-1-{number:04}.png", number, seed=7)
    (out / "secret").write_text(PASSWORD)
    command = [sys.executable, "-m", "blemish", "station", str(out / "station"), "--port", "0"]
    command += ["--admin-password-file", str(out / "secret")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stderr is not None
        address = re.findall(r"http://[\d.:]+/", server.stderr.readline())[0]
        found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-GB", base_url=address)
        try:
            take_pictures(context.new_page(), out)
        finally:
            server.terminate()


def take_pictures(page: Any, out: Path) -> None:
    """Log in, wait until all is judged, judge some, let the other model judge beside, and look at each page."""
    page.goto("/")
    page.fill("[name=name]", "admin")
    page.fill("[name=password]", PASSWORD)
    page.press("[name=password]", "Enter")
    until(page, lambda: sum(map(int, page.locator("[data-count]").all_text_contents())) >= NUTS)
    until(page, lambda: page.locator("[data-count=waiting]").text_content() == "0")
    spread_over_hours(out / "station")
    page.goto("/products")
    page.set_input_files("[name=model]", out / "other.onnx")
    page.click("form[action='/products/model'] button", timeout=60_000)
    page.goto("/shadow")
    page.select_option("[name=model_id]", index=1)
    page.fill("[name=reason]", "is it better?")
    page.click("form[action='/shadow'] button")
    page.goto("/review")
    for key in "aaaf":
        judged = page.locator(".card").first.get_attribute("data-image")
        page.keyboard.press(key)
        page.locator(f".card[data-image='{judged}']").wait_for(state="detached")
    worst = page.locator(".card a.picture").first.get_attribute("href")
    page.goto(worst)
    page.fill("[name=text]", "Not the light: it is seen on the belt, too. Part put aside.")
    page.click("form[action='/note'] button")
    until(page, lambda: page.goto("/shadow") and int(page.locator(".results dd").first.text_content()) > 0.9 * NUTS)
    train = (
        f"/train?product=1&path={out / 'hazelnuts'}&roi=[20,36,232,236]&ignore=[[84,112],[138,96],[152,138],[98,156]]"
    )
    for path in ("/live", "/review", worst, "/threshold", "/report", "/shadow", train):
        page.set_viewport_size({"width": 1280, "height": 900 if path in ("/review", worst) else 800})  # with notes
        page.goto(path.replace("/live", "/"), wait_until="networkidle" if path != "/live" else "load")
        if path == train:
            page.click("[data-tool=move]")
            page.click("[data-board]")
        page.wait_for_timeout(1000)
        name = "image" if path == worst else path[1:].partition("?")[0]
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        picture.save(IMG / f"station-{name}.jpg", quality=80, optimize=True)


def until(page: Any, is_so: Callable[[], bool]) -> None:
    """Wait for something on the page."""
    while not is_so():
        page.wait_for_timeout(500)


def spread_over_hours(folder: Path) -> None:
    """All but the latest decisions as if they were made hours ago."""
    kept = open_folder(folder)
    database = open_database(kept.default_database, kept.id)
    with database.write() as session:
        decisions = session.scalars(select(Decision).order_by(Decision.id.desc())).all()
        for place, one in enumerate(decisions[3 * AN_HOUR :]):
            one.decided_at = (datetime.now(UTC) - timedelta(hours=1 + place / AN_HOUR)).isoformat()
        session.execute(delete(Tally))
        hours = Counter((one.product_id, one.decided_at[:13], one.verdict) for one in decisions)
        session.add_all(Tally(product_id=of, hour=at, verdict=what, images=n) for (of, at, what), n in hours.items())
    database.close()


if __name__ == "__main__":
    main()
