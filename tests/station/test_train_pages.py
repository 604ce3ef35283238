"""The page on which a model is trained: which photos it shows to whom, and which regions it takes."""

import io
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from PIL import Image
from sqlalchemy import select

from blemish.station import runs
from blemish.station.app import Station
from blemish.station.products import add_folder
from blemish.station.tables import Run
from station.browser import visit
from station.line import Line
from station.photos import write_photo


@pytest.fixture
def watched(station: Station, line: Line, tmp_path: Path) -> Path:
    """Photos below a folder that a source watches, four of one size as they are shown, one turned."""
    camera = tmp_path / "camera"
    write_photo(camera / "good" / "0.jpg", (30, 20))
    for place in (1, 2):
        write_photo(camera / "good" / f"{place}.jpg", (60, 40))
    write_photo(camera / "good" / "3.jpg", (40, 60), turned=True)
    (camera / "good" / "4.jpg").write_bytes(b"no image")
    write_photo(camera / "good" / "5.jpg", (60, 40))
    add_folder(station.database, "test", line.product_id, camera)
    return camera / "good"


def test_one_draws_on_photos_of_the_size_that_counts_as_they_are_shown(
    station: Station, app: FastAPI, line: Line, watched: Path
) -> None:
    who = visit(station, app, "engineer")
    page = who.client.get(f"/train?product={line.product_id}&path={watched}").text
    assert 'viewBox="0 0 60 40"' in page
    assert re.findall(r"<option [^>]*>(.*?\.jpg)<", page) == ["1.jpg", "2.jpg", "3.jpg", "5.jpg"]
    assert re.search("4 good images of 60 . 40 px, 1 of another size", page)
    shown = Image.open(io.BytesIO(who.client.get(f"/train/photo.jpg?path={watched / '3.jpg'}").content))
    assert shown.size == (60, 40)
    assert [shown.getpixel(at)[0] > 200 for at in ((5, 5), (50, 5), (50, 35))] == [False, True, False]  # type: ignore[index]
    assert shown.getexif() == {}
    assert who.client.get("/train?product=99").status_code == 404


def test_no_photo_is_shown_that_one_may_not_train_on(
    station: Station, app: FastAPI, line: Line, watched: Path, tmp_path: Path
) -> None:
    secret = write_photo(tmp_path / "other" / "secret.jpg", (60, 40))
    (watched / "link.jpg").symlink_to(secret)
    (watched / "photo").write_bytes(secret.read_bytes())
    who, boss = visit(station, app, "engineer"), visit(station, app, "administrator")
    for path in (secret, watched / "link.jpg", watched / ".." / ".." / "other" / "secret.jpg", watched / "photo", ""):
        assert who.client.get(f"/train/photo.jpg?path={path}").status_code == 422, path
    assert who.client.get(f"/train?product={line.product_id}&path={secret.parent}").status_code == 422
    assert boss.client.get(f"/train/photo.jpg?path={secret}").headers["content-type"] == "image/jpeg"
    for path in (watched / "4.jpg", watched / "none.jpg", watched, "/etc/passwd"):
        assert boss.client.get(f"/train/photo.jpg?path={path}").status_code == 422, path
    operator = visit(station, app, "operator")
    assert operator.client.get(f"/train/photo.jpg?path={watched / '1.jpg'}").status_code == 403


@pytest.mark.parametrize("path", ["/a\0b", "~nobody-of-that-name/x", "/" + "x" * 300, "/" + "x/" * 3000])
def test_a_path_that_can_be_none_is_refused(station: Station, app: FastAPI, line: Line, path: str) -> None:
    boss = visit(station, app, "administrator")
    form = {"csrf": boss.csrf, "product_id": line.product_id, "name": "new", "path": path}
    for address in (f"/train?product={line.product_id}&path={quote(path)}", f"/train/photo.jpg?path={quote(path)}.jpg"):
        assert boss.client.get(address).status_code == 422, address
    for address in ("/products/train", "/products/folder"):
        assert boss.client.post(address, data=form).status_code == 422, address


def test_a_region_goes_into_the_run_and_one_that_training_refuses_does_not(
    station: Station, app: FastAPI, line: Line, watched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "start", lambda *_: None)
    who = visit(station, app, "engineer")
    form = {"csrf": who.csrf, "product_id": line.product_id, "name": "new", "path": str(watched)}
    refused = {
        "roi": ["/etc/passwd", str(watched / "1.jpg"), "[1, 2]", "[5, 5, 61, 30]", "[[0,0],[9,9],[9,0],[0,9]]", "[1,"],
        "ignore": ["auto", "[[0, 0, 0, 9]]", "[1, 2, 3, 4]\nskip_bad = true"],
    }
    for name, texts in refused.items():
        for text in texts:
            answer = who.client.post("/products/train", data={**form, name: text})
            assert (answer.status_code, f"data.{name}: " in answer.text) == (422, True), text
    areas = {"roi": " [5, 5, 60, 40]", "ignore": "[[10, 10], [20, 10], [15, 20]]\n"}
    assert who.client.post("/products/train", data={**form, **areas}).status_code == 303
    twice = who.client.post("/products/train", data={**form, **areas})
    assert twice.headers["location"] == "/runs/1"
    assert who.client.post("/products/train", data={**form, **areas, "name": "other"}).status_code == 422
    with station.database.read() as session:
        asked = json.loads(session.scalars(select(Run)).one().asked)
    assert (asked["roi"], asked["ignore"]) == (areas["roi"].strip(), areas["ignore"].strip())
    monkeypatch.setattr(runs, "START_S", -1.0)  # its process has died
    again = re.search(r'href="(/train\?[^"]*)"', who.client.get("/runs/1").text)
    assert again is not None
    page = who.client.get(again[1].replace("&amp;", "&")).text
    assert all(text in page for text in (">[5, 5, 60, 40]<", ">[[10, 10], [20, 10], [15, 20]]<", 'value="new"'))
