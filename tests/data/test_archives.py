"""Data sets by name: small archives like the published ones, unpacked within bounds, fetched from a local server."""

import hashlib
import io
import json
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from blemish.cli import app
from blemish.data import archives
from blemish.data.archives import check_archive, download, unpack_dataset
from blemish.data.catalogue import CATALOGUE, DataSet
from blemish.data.folder import read_folder
from blemish.errors import DataError
from conftest import files_of_at_most

PLAIN = DataSet("A set", "page", "licence")


def picture(level: int = 90, marked: bool = False) -> bytes:
    pixels = np.full((16, 16, 3), level, np.uint8)
    if marked:
        pixels[4:8, 4:8] = 255
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


MVTEC = {
    f"mvtec/{kind}/{name}": picture(level, marked)
    for kind in ("bolt", "nut")
    for name, level, marked in (
        ("train/good/0.png", 80, False),
        ("test/good/0.png", 81, False),
        ("test/cut/0.png", 82, False),
        ("ground_truth/cut/0_mask.png", 0, True),
    )
} | {"mvtec/license.txt": b"terms", "mvtec/bolt/readme.txt": b"of bolts"}

VISA = {
    "VisA/split_csv/1cls.csv": b"object,split,label,image,mask\ncandle,test,normal,candle/Data/Images/Normal/1.png,\n",
    "LICENSE": b"of all",
    "VisA/LICENSE": b"of one",
    "VisA/candle/Data/Images/Normal/0.png": picture(),
    "VisA/candle/Data/Images/Normal/1.png": picture(91),
    "VisA/candle/Data/Images/Anomaly/0.png": picture(92),
    "VisA/candle/Data/Masks/Anomaly/0.png": picture(0, True),
}
KSDD2 = {
    "train/10000.png": picture(),
    "train/10000_GT.png": picture(0),
    "test/20000.png": picture(92),
    "test/20000_GT.png": picture(0, True),
    "test/20001.png": picture(93),
    "test/20001_GT.png": picture(0),
}


BTAD = {f"BTech/01/{part}/ok/{n}.bmp": picture(90 + n) for part in ("train", "test") for n in range(2)} | {
    "BTech/01/test/ko/0.bmp": picture(99),
    "BTech/01/ground_truth/ko/0.png": picture(0, True),
}
LOCO = {f"box/{part}/good/{n}.png": picture(90 + n) for part in ("train", "validation", "test") for n in range(1)} | {
    "box/test/logical_anomalies/0.png": picture(99),
    "box/ground_truth/logical_anomalies/0/000.png": picture(0, True),
}
_JACK = "realiad_1024/jack"
REAL_IAD = {
    f"{_JACK}/OK/S0001/a.jpg": picture(91),
    f"{_JACK}/OK/S0002/b.jpg": picture(92),
    f"{_JACK}/NG/BX/S0001/c.jpg": picture(93),
    f"{_JACK}/NG/BX/S0001/c.png": picture(0, True),
    "realiad_jsons/realiad_jsons/jack.json": json.dumps(
        {
            "meta": {"prefix": "jack/", "normal_class": "OK"},
            "train": [{"image_path": "OK/S0001/a.jpg", "mask_path": None, "anomaly_class": "OK"}],
            "test": [
                {"image_path": "OK/S0002/b.jpg", "mask_path": None, "anomaly_class": "OK"},
                {"image_path": "NG/BX/S0001/c.jpg", "mask_path": "NG/BX/S0001/c.png", "anomaly_class": "BX"},
            ],
        }
    ).encode(),
}


def tar(path: Path, files: Mapping[str, bytes], mode: str = "w:xz") -> Path:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return path


def test_categories_of_an_archive_are_read_as_they_are(tmp_path: Path) -> None:
    folders = unpack_dataset(tar(tmp_path / "mvtec.tar.xz", MVTEC), tmp_path / "out", PLAIN)
    assert [folder.name for folder in folders] == ["bolt", "nut"]
    for folder in folders:
        found = read_folder(folder)
        assert (len(found.train), len(found.test)) == (1, 2)
    assert (tmp_path / "out" / "license.txt").read_bytes() == b"terms"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bolt", "license.txt", "nut"]


@pytest.mark.parametrize(
    ("files", "layout", "name", "tested"),
    [(VISA, "visa", "candle", 2), (KSDD2, "ksdd2", "set", 2), (REAL_IAD, "real_iad", "jack", 2)],
)
def test_other_layouts_are_converted(
    files: Mapping[str, bytes], layout: str, name: str, tested: int, tmp_path: Path
) -> None:
    archive = zipped(tmp_path / "set.zip", files)
    (folder,) = unpack_dataset(archive, tmp_path / "out", PLAIN._replace(layout=layout))
    assert folder.name == name
    assert layout != "visa" or (tmp_path / "out" / "LICENSE").read_bytes() == b"of all"
    found = read_folder(folder)
    assert (len(found.train), len(found.test)) == (1, tested)


@pytest.mark.parametrize(("files", "fitted", "tested"), [(BTAD, 2, 3), (LOCO, 2, 2)], ids=["btad", "loco"])
def test_sets_near_mvtecs_come_out_of_an_archive_as_they_are(
    files: Mapping[str, bytes], fitted: int, tested: int, tmp_path: Path
) -> None:
    (folder,) = unpack_dataset(zipped(tmp_path / "set.zip", files), tmp_path / "out", PLAIN)
    found = read_folder(folder)
    assert (len(found.train), len(found.test)) == (fitted, tested)
    assert all(sample.mask_paths for sample in found.test if sample.label)


@pytest.mark.parametrize("place", ["../out.png", "/tmp/out.png", "a/../../out.png", "..\\out.png", "C:/out.png"])
@pytest.mark.parametrize("pack", [tar, zipped])
def test_a_place_outside_of_the_archive_is_refused(place: str, pack: object, tmp_path: Path) -> None:
    archive = (tar if pack is tar else zipped)(tmp_path / "bad", {"x/train/good/0.png": picture(), place: picture()})
    with pytest.raises(DataError, match="a place outside of the archive"):
        unpack_dataset(archive, tmp_path / "out", PLAIN)
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.png").exists()


def test_links_to_what_is_there_are_copied_and_others_and_devices_left_out(tmp_path: Path) -> None:
    archive = tmp_path / "links.tar"
    with tarfile.open(archive, "w") as file:
        for name, kind in (("x/train/good/l.png", tarfile.SYMTYPE), ("x/train/good/f.png", tarfile.FIFOTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            file.addfile(member)
        member = tarfile.TarInfo("x/train/good/0.png")
        member.size = len(picture())
        file.addfile(member, io.BytesIO(picture()))
        member = tarfile.TarInfo("x/train/good/1.png")
        member.type, member.linkname = tarfile.LNKTYPE, "x/train/good/0.png"
        file.addfile(member)
    notes: list[str] = []
    (folder,) = unpack_dataset(archive, tmp_path / "out", PLAIN, on_note=notes.append)
    assert notes == ["links and devices in the archive, left out: x/train/good/l.png, x/train/good/f.png"]
    found = sorted((folder / "train" / "good").iterdir())
    assert [(path.name, path.read_bytes()) for path in found] == [("0.png", picture()), ("1.png", picture())]


def test_files_or_sets_of_one_name_are_named(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "twins.zip", MVTEC | {f"copy/{name}": content for name, content in MVTEC.items()})
    with pytest.raises(DataError, match=r"twins\.zip: two data sets in it are called bolt; unpack it yourself"):
        unpack_dataset(archive, tmp_path / "out", PLAIN)
    with tarfile.open(tmp_path / "again.tar", "w") as file:
        for _ in range(2):
            file.addfile(tarfile.TarInfo("x/train/good/0.png"), io.BytesIO())
    with pytest.raises(DataError, match=r"^0\.png: in the archive twice"):
        unpack_dataset(tmp_path / "again.tar", tmp_path / "out", PLAIN)
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_is_named_by_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, link = zipped(tmp_path / "a.zip", MVTEC), zipfile.ZipInfo("nut/train/good/l.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(link, "0.png")
    monkeypatch.setitem(CATALOGUE, "mvtec_ad", CATALOGUE["mvtec_ad"]._replace(sha256=""))
    code, said = run("get", "mvtec_ad", "-o", tmp_path / "out", "--archive", archive, "--accept-licence")
    assert (code, "note: links and devices in the archive, left out: nut/train/good/l.png" in said) == (0, True)
    assert [path.name for path in (tmp_path / "out/nut/train/good").iterdir()] == ["0.png"]


@pytest.mark.parametrize("way", ["bit", "zeros", "cut in a header", "cut before one", "remarks"])
def test_a_tar_that_is_damaged_between_its_files_is_refused(way: str, tmp_path: Path) -> None:
    whole = tar(tmp_path / "a.tar", BTAD, "w")
    with tarfile.open(whole) as file:
        at = file.getmembers()[3].offset
    remarks = tarfile.TarInfo("x")
    remarks.type, remarks.size = tarfile.XHDTYPE, 1 << 30
    content = whole.read_bytes()
    whole.write_bytes(
        {
            "bit": content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :],
            "zeros": content[:at] + bytes(512) + content[at + 512 :],
            "cut in a header": content[: at + 300],
            "cut before one": content[:at],
            "remarks": content[:at] + remarks.tobuf() + content[at:],
        }[way]
    )
    with pytest.raises(DataError, match="not a whole tar or zip archive"):
        unpack_dataset(whole, tmp_path / "out", PLAIN)


def test_an_archive_that_is_too_large_or_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tar(tmp_path / "a.tar.xz", MVTEC).read_bytes()
    (tmp_path / "cut.tar.xz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.zip").write_bytes(b"not an archive")
    for name in ("cut.tar.xz", "text.zip"):
        with pytest.raises(DataError, match="not a whole tar or zip archive"):
            unpack_dataset(tmp_path / name, tmp_path / "out", PLAIN)
    monkeypatch.setattr(archives, "MAX_BYTES", 200)
    for archive in (tmp_path / "a.tar.xz", zipped(tmp_path / "a.zip", MVTEC)):
        with pytest.raises(DataError, match="at most"):
            unpack_dataset(archive, tmp_path / "out", PLAIN)
    assert not (tmp_path / "out").exists()


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "a.zip", {"a.txt": b"a"}).read_bytes()
    archive = tar(tmp_path / "a.tar", {**BTAD, "a.zip": inner}, "w")
    (folder,) = unpack_dataset(archive, tmp_path / "out", PLAIN)
    assert read_folder(folder).train


def test_a_hash_that_is_not_the_known_one_is_refused(tmp_path: Path) -> None:
    archive = tar(tmp_path / "a.tar.xz", MVTEC)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert check_archive(archive, found) == check_archive(archive, "") == found
    with pytest.raises(DataError, match=f"SHA-256 {found} where 00 is known"):
        check_archive(archive, "00")


class Handler(BaseHTTPRequestHandler):
    """Serves `content`; the first answer ends in the middle, later ones honour a range."""

    content = b""
    cuts = True
    asked: tuple[str | None, ...] = ()

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        type(self).asked += (asked,)
        if self.path == "/missing":
            self.send_error(404)
            return
        if self.path in ("/elsewhere", "/moved"):
            self.send_response(302)
            self.send_header("Location", "ftp://127.0.0.1:9/set" if self.path == "/elsewhere" else "/untold")
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        self.send_response(206 if asked else 200)
        if self.path != "/untold":
            self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        end = len(self.content) if asked or not self.cuts else len(self.content) // 2
        self.wfile.write(self.content[start:end])

    def log_message(self, *_args: object) -> None:
        """Quiet."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    Handler.content, Handler.asked = tar(tmp_path / "served.tar.xz", MVTEC).read_bytes(), ()
    found = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{found.server_address[1]}"
    found.shutdown()
    thread.join()
    found.server_close()


def test_a_fetch_that_was_cut_off_goes_on(server: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"goes on from"):
        download(f"{server}/set", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    download(f"{server}/set", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == Handler.content
    assert Handler.asked == (None, f"bytes={len(Handler.content) // 2}-")
    assert not (tmp_path / "a.part").exists()
    with pytest.raises(DataError, match="answers 404"):
        download(f"{server}/missing", tmp_path / "b")


def test_a_fetch_goes_nowhere_unsafe_and_ends_at_a_size(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="a redirect from http to ftp, which is not followed"):
        download(f"{server}/elsewhere", tmp_path / "a")
    monkeypatch.setattr(archives, "MAX_ARCHIVE_BYTES", 100)
    for path in ("set", "untold"):
        with pytest.raises(DataError, match="more than 0 GiB; fetch it by hand"):
            download(f"{server}/{path}", tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_a_redirect_is_followed_and_a_proxy_is_asked(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "cuts", False)
    download(f"{server}/moved", tmp_path / "a")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", server)
    download("http://sets.invalid/set", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == Handler.content


def test_a_server_that_is_not_there_and_a_full_disk_are_said(server: str, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot be fetched \(.*refused.*\); .* goes on from 0 bytes, or fetch it by hand"
    ):
        download("http://127.0.0.1:9/set", tmp_path / "a")
    with (
        files_of_at_most(100),
        pytest.raises(DataError, match=r"cannot be fetched \(.*too large.*goes on from 100 bytes"),
    ):
        download(f"{server}/set", tmp_path / "a")
    archive = zipped(tmp_path / "set.zip", {"x/train/good/0.png": picture() + bytes(1000)})
    with files_of_at_most(500), pytest.raises(DataError, match="cannot be unpacked: File too large"):
        unpack_dataset(archive, tmp_path / "out", PLAIN)
    assert not (tmp_path / "out").exists()


def run(*arguments: object) -> tuple[int, str]:
    ran = CliRunner().invoke(app, ["data", *map(str, arguments)])
    return ran.exit_code, ran.output


def test_the_command_asks_for_the_licence_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tar(tmp_path / "a.tar.xz", MVTEC)
    monkeypatch.setitem(CATALOGUE, "mvtec_ad", CATALOGUE["mvtec_ad"]._replace(sha256=""))
    code, said = run("get", "mvtec_ad", "-o", tmp_path / "out", "--archive", archive)
    assert code == 2
    assert "CC BY-NC-SA 4.0" in said
    assert not (tmp_path / "out").exists()
    code, said = run("get", "mvtec_ad", "-o", tmp_path / "out", "--archive", archive, "--accept-licence")
    assert code == 0, said
    assert archive.exists()
    assert (tmp_path / "out" / "nut" / "train" / "good" / "0.png").is_file()
    code, said = run("get", "mvtec_a", "-o", tmp_path / "o2", "--accept-licence")
    assert (code, "mvtec_ad" in said) == (2, True)
    code, said = run("get", "real_iad", "-o", tmp_path / "o2", "--accept-licence")
    assert (code, "ask for access on" in said, "--archive" in said) == (2, True, True)


def test_the_command_fetches_goes_on_and_leaves_no_archive(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOGUE, "btad", CATALOGUE["btad"]._replace(address=f"{server}/set", sha256=""))
    arguments = ("get", "btad", "-o", tmp_path / "btad", "--accept-licence")
    assert run(*arguments)[0] == 2
    code, said = run(*arguments)
    assert code == 0, said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["btad", "served.tar.xz"]


def test_what_was_fetched_and_is_another_is_not_kept(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "cuts", False)
    known = CATALOGUE["btad"]._replace(address=f"{server}/set")
    monkeypatch.setitem(CATALOGUE, "btad", known)
    arguments = ("get", "btad", "-o", tmp_path / "btad", "--accept-licence")
    code, said = run(*arguments)
    assert (code, known.sha256 in said.replace("\n", "")) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["served.tar.xz"]
    monkeypatch.setitem(CATALOGUE, "btad", known._replace(sha256=hashlib.sha256(Handler.content).hexdigest()))
    code, said = run(*arguments)
    assert (code, "as known" in said) == (0, True)


def test_a_folder_with_something_in_it_is_refused_before_anything_is_fetched(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOGUE, "btad", CATALOGUE["btad"]._replace(address=f"{server}/set"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.png").write_bytes(picture())
    code, said = run("get", "btad", "-o", tmp_path / "mine", "--accept-licence")
    assert (code, "with something in it" in said.replace("\n", " ")) == (2, True)
    assert Handler.asked == ()


def test_every_known_set_has_a_licence_and_a_page() -> None:
    assert all(one.licence and one.page.startswith("https://") for one in CATALOGUE.values())
    assert all(len(one.sha256) == (64 if one.address else 0) for one in CATALOGUE.values())
    assert all(bool(one.address) != bool(one.how) for one in CATALOGUE.values())
    code, said = run("list")
    assert code == 0
    assert all(name in said for name in CATALOGUE)
