"""Fetching from a hub on this machine: whole, interrupted, redirected, refused, with a wrong hash, on a full disk."""

import errno
import hashlib
import json
import shutil
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request

import pytest

from blemish.data.archives import download
from blemish.errors import BlemishError, DataError, SettingsError
from blemish.hub import fetch as fetching
from blemish.hub.download import Redirects
from blemish.hub.fetch import fetch
from blemish.hub.folder import EncoderCard, hash_weights, read_licence
from blemish.hub.store import ALIASES, fetched, parse_name, place_of
from reference.hub import NAME, Hub, serving

WEIGHTS = bytes(range(256)) * 4000  # about a megabyte; nothing here opens it
FILES = {
    "config.json": b'{"model_type": "resnet"}',
    "preprocessor_config.json": b"{}",
    "README.md": b"---\nlicense: mit\n---\n",
    "LICENSE": b"MIT License\n",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a pickle",
}
NAMED = f"hf:{NAME}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("BLEMISH_ENCODERS", str(tmp_path / "encoders"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(Hub(dict(FILES))) as running:
        monkeypatch.setenv("BLEMISH_HUB_URL", running.url)
        yield running


def left(tmp_path: Path) -> list[str]:
    """The folders of encoders, complete or not."""
    return sorted(path.name for path in (tmp_path / "encoders/hf").glob("*") if path.is_dir())


def test_an_encoder_comes_with_its_licence_and_without_pickle(hub: Hub, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    place = fetch(NAMED, on_bytes=lambda done, total: told.append((done, total)))
    assert place == tmp_path / "encoders/hf/someone--tiny"
    assert sorted(path.name for path in place.iterdir()) == sorted(
        [*FILES.keys() - {"pytorch_model.bin"}, "blemish.json"]
    )
    assert all((place / name).read_bytes() == FILES[name] for name in FILES if name != "pytorch_model.bin")
    assert json.loads((place / "blemish.json").read_text())["sha256"] == hash_weights(place)
    assert read_licence(place, NAMED) == ("mit", "MIT License\n")
    assert list(fetched()) == [(NAMED, place)]
    assert told[-1][0] == told[-1][1]
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert not any("pytorch_model.bin" in path for path, _ in hub.asked)


def test_what_is_there_is_not_fetched_again(hub: Hub) -> None:
    fetch(NAMED)
    before = len(hub.asked)
    fetch(NAMED)
    assert [path for path, _ in hub.asked[before:]] == [f"/api/models/{NAME}/revision/main?blobs=true"]


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_an_interrupted_fetch_goes_on(hub: Hub, tmp_path: Path, takes_ranges: bool) -> None:
    hub.cut_after, hub.takes_ranges = 300_000, takes_ranges
    with pytest.raises(
        DataError, match=r"model\.safetensors: cut off after 300000 of 1024000 bytes; .* goes on from there"
    ):
        fetch(NAMED)
    assert left(tmp_path) == ["someone--tiny.part"]
    assert list(fetched()) == []
    hub.cut_after = None
    hub.asked.clear()
    place = fetch(NAMED)
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    ranges = [headers["Range"] for path, headers in hub.asked if path.startswith("/cdn/")]
    assert ranges == ["bytes=300000-"]
    assert not any("README" in path for path, _ in hub.asked)
    assert left(tmp_path) == ["someone--tiny"]


def test_a_killed_fetch_with_all_bytes_is_finished(hub: Hub, tmp_path: Path) -> None:
    part = tmp_path / "encoders/hf/someone--tiny.part"
    part.mkdir(parents=True)
    (part / "model.safetensors").write_bytes(WEIGHTS)
    place = fetch(NAMED)
    assert hub.asked
    assert not any(path.startswith("/cdn/") for path, _ in hub.asked)
    assert (place / "model.safetensors").read_bytes() == WEIGHTS
    assert left(tmp_path) == ["someone--tiny"]


def test_weights_with_another_hash_are_not_kept(hub: Hub, tmp_path: Path) -> None:
    hub.listed_sha256 = "0" * 64
    with pytest.raises(
        DataError, match=r"model\.safetensors: its hash is not the one that the hub tells; nothing is kept"
    ):
        fetch(NAMED)
    assert not list(tmp_path.rglob("model.safetensors"))
    assert left(tmp_path) == ["someone--tiny.part"]


def test_weights_with_another_hash_than_asked_for_are_not_kept(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"its weights have SHA-256 .*, not ffff; nothing is kept"):
        fetch(NAMED, sha256="ffff")
    assert not list(tmp_path.rglob("model.safetensors"))
    assert fetch(NAMED, sha256=hashlib.sha256(WEIGHTS).hexdigest()).is_dir()
    with pytest.raises(SettingsError, match="not ffff"):  # nor is what is there taken for it
        fetch(NAMED, sha256="ffff")


def test_a_small_file_with_another_hash_is_not_kept(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = hub.listing()
    monkeypatch.setattr(hub, "listing", lambda: listing)
    hub.files["config.json"] = b'{"model_type": "xxxxxx"}'
    with pytest.raises(DataError, match=r"config\.json: its hash is not"):
        fetch(NAMED)
    assert not list(tmp_path.rglob("config.json"))


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, r"does not have it \(404\); is the name right"),
        (401, "must be accepted .* HF_TOKEN"),
        (503, "error 503; try"),
    ],
)
def test_a_refusal_says_what_to_do(hub: Hub, tmp_path: Path, status: int, message: str) -> None:
    hub.status = status
    with pytest.raises(DataError, match=message):
        fetch(NAMED)
    assert left(tmp_path) == []


def test_a_hub_that_is_not_there_is_named_with_the_other_way(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_HUB_URL", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"127\.0\.0\.1:9 cannot be reached .*carry the folder over"):
        fetch(NAMED)
    monkeypatch.setenv("BLEMISH_HUB_URL", "file:///etc")
    with pytest.raises(SettingsError, match=r"BLEMISH_HUB_URL: .* does not begin with https"):
        fetch(NAMED)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_a_redirect_elsewhere_is_not_followed(hub: Hub, target: str) -> None:
    hub.redirect_to = target
    with pytest.raises(DataError, match=r"model\.safetensors: .*redirect"):
        fetch(NAMED)


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    with pytest.raises(URLError, match="a redirect from https to http"):
        Redirects().redirect_request(Request("https://a/x"), None, 302, "", {}, "http://a/x")


def test_a_token_goes_to_the_hub_alone(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    fetch(NAMED)
    with_token = {path.startswith("/cdn/"): headers.get("Authorization") for path, headers in hub.asked}
    assert with_token == {False: "Bearer secret", True: None}


def test_a_full_disk_is_said_before_and_meanwhile(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(fetching.shutil, "disk_usage", lambda _: usage(1, 1, 5000))
        with pytest.raises(DataError, match="0 MB free, 1 MB needed; make room"):
            fetch(NAMED)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(fetching.os, "fsync", full)
        with pytest.raises(DataError, match=r"tiny.part: cannot be written: no space left on the disk; free some$"):
            fetch(NAMED)
        with pytest.raises(DataError, match=r"cannot be fetched \(no space left on the disk; free some\); the same"):
            download(f"{hub.url}/api/models/someone/tiny/revision/main", tmp_path / "a.zip")
    (tmp_path / "a.zip.part").unlink()
    assert left(tmp_path) == ["someone--tiny.part"]
    fetch(NAMED)


@pytest.mark.parametrize("gone", ["model.safetensors", "config.json"])
def test_an_encoder_in_other_files_is_refused(hub: Hub, tmp_path: Path, gone: str) -> None:
    del hub.files[gone]
    with pytest.raises(
        DataError, match=f"has no {gone} of it; weights are fetched as safetensors alone, never as pickle"
    ):
        fetch(NAMED)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "told", "message"),
    [
        ("model.safetensors", {"lfs": None}, r"model\.safetensors: the hub does not tell its hash"),
        ("config.json", {"blobId": None}, r"config\.json: the hub does not tell its hash"),
        ("config.json", {"size": (4 << 20) + 1}, r"config\.json: 4 MiB, more than is fetched"),
        (
            "model.safetensors",
            {"lfs": {"size": (16 << 30) + 1}},
            r"model\.safetensors: 16384 MiB, more than is fetched",
        ),
        ("config.json", {"size": -1}, "more than is fetched"),
    ],
)
def test_what_could_be_anything_or_without_end_is_not_fetched(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, told: dict[str, Any], message: str
) -> None:
    listing = hub.listing()
    for row in listing["siblings"]:
        if row["rfilename"] == name:
            row.update(told)
            if told.get("blobId", "") is None:
                del row["blobId"]
    monkeypatch.setattr(hub, "listing", lambda: listing)
    with pytest.raises(DataError, match=message):
        fetch(NAMED)
    assert len(hub.asked) == 1  # for the listing alone


@pytest.mark.parametrize("answer", ["[]", "{", '{"sha": 1, "siblings": [{"rfilename": "config.json"}]}'])
def test_an_odd_listing_is_refused(hub: Hub, answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference.hub.json.dumps", lambda _: answer)
    with pytest.raises(DataError, match="answers with something that is no list of files"):
        fetch(NAMED)


def test_a_licence_of_its_own_is_accepted_once(hub: Hub) -> None:
    hub.licence = {"license": "other", "license_name": "dinov3-license"}
    with pytest.raises(
        SettingsError, match=r"must be accepted once; read https://ai\.meta\.com.*blemish encoders accept dinov3"
    ):
        fetch(NAMED)
    assert not any(path.startswith("/cdn/") for path, _ in hub.asked)
    place = fetch(NAMED, is_licence_accepted=True)
    shutil.rmtree(place)
    fetch(NAMED)  # accepted before


def test_a_folder_of_the_users_is_left_as_it_is(hub: Hub, tmp_path: Path) -> None:
    own = tmp_path / "encoders/hf/someone--tiny"
    own.mkdir(parents=True)
    (own / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="was not fetched, so it is left as it is"):
        fetch(NAMED)
    assert (own / "mine.txt").read_text() == "mine"


def test_names_of_timm_lead_to_its_repositories(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="404"):
        fetch("timm:wide_resnet50_2.racm_in1k")
    assert hub.asked[-1][0] == "/api/models/timm/wide_resnet50_2.racm_in1k/revision/main?blobs=true"
    named = parse_name("timm:resnet18.a1_in1k")
    assert named is not None
    assert place_of(named) == tmp_path / "encoders/timm/resnet18.a1_in1k"


@pytest.mark.parametrize(("name", "repository"), ALIASES.items())
def test_names_of_anomalib_lead_to_their_repositories(hub: Hub, name: str, repository: str) -> None:
    with pytest.raises(DataError, match="404"):
        fetch(name)
    wanted = repository.replace("timm:", "timm/").removeprefix("hf:")
    assert [path for path, _ in hub.asked] == [f"/api/models/{wanted}/revision/main?blobs=true"]
    table = (
        (Path(__file__).parents[2] / "docs/howto/encoders.md").read_text(encoding="utf-8").partition("What anomalib")[2]
    )
    assert any(f"`{name}`" in line and f"`{repository}`" in line for line in table.splitlines())


def test_an_encoder_of_timm_comes_from_its_repository(hub: Hub, tmp_path: Path) -> None:
    assert fetch(f"timm:{NAME}") == tmp_path / "encoders/timm/someone--tiny"
    assert [name for name, _ in fetched()] == [f"timm:{NAME}"]


def test_a_proxy_is_asked(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", hub.url)
    monkeypatch.setenv("BLEMISH_HUB_URL", "http://hub.invalid")
    with pytest.raises(DataError, match="does not have it"):
        fetch(NAMED)
    assert hub.asked[0][0] == f"http://hub.invalid/api/models/{NAME}/revision/main?blobs=true"


@pytest.mark.parametrize("name", ["folder:here", "hf:../x", "ftp:x", "hf:a/b/c"])
def test_other_names_are_refused(hub: Hub, name: str) -> None:
    with pytest.raises(BlemishError, match=r"folder needs no fetching|is followed by a name|is none of"):
        fetch(name)
    assert hub.asked == []


def test_a_card_is_bounded() -> None:
    card = {"name": "x", "sha256": "0" * 64, "licence": "mit"}
    assert EncoderCard.model_validate(card)
    for change in ({"licence_text": "x" * 50_001}, {"sha256": "0"}, {"licence": "x" * 201}):
        with pytest.raises(ValueError, match="validation error"):
            EncoderCard.model_validate({**card, **change})
