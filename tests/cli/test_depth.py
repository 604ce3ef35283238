"""16-bit photos that fill fewer bits than those beside them: every command that reads photos says which they are."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from blemish.data.deep_photos import DeepPhotos, depth_message
from blemish.inspection.record import read_record
from conftest import draw_part
from reference.command import run

pytestmark = pytest.mark.usefixtures("undrawn")


def said(result: Result) -> str:
    assert result.exit_code in (0, 1), result.output
    return " ".join(result.output.split())


def write_deep(path: Path, bits: int, seed: int) -> Path:
    """A good part in 16-bit grey, its values stretched over so many bits."""
    grey = np.asarray(draw_part(np.random.default_rng(seed))[0].convert("L"), np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint16(grey / grey.max() * ((1 << bits) - 1))).save(path)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Five photos, one of them with 12 bits in 16."""
    for place in range(5):
        write_deep(tmp_path / f"in/{place}.png", 12 if place == 3 else 16, seed=place)
    return tmp_path / "in"


NOTE = (
    "1 of 5 16-bit photos, {}, has no value above 4095, while others reach 65535: 12 bits in 16 beside photos of more"
)


@pytest.mark.parametrize(
    "command",
    [
        ("inspect", "{model}", "{in}"),
        ("evaluate", "{model}", "{in}", "-o", "{out}"),
        ("certify", "{model}", "--good", "{in}", "--dry-run", "--max-false-alarm-rate", "0.5"),
        ("monitor", "{model}", "{in}", "--state", "{out}.json"),
        ("data", "check", "{in}", "-o", "{out}", "--set", "data.size_px=[64,64]"),
    ],
    ids=lambda command: command[0],
)
def test_photos_of_fewer_bits_beside_full_ones_are_named(
    command: tuple[str, ...], model_file: Path, mixed: Path, tmp_path: Path
) -> None:
    places = {"model": model_file, "in": mixed, "out": tmp_path / "out"}
    text = said(run(*(word.format(**places) for word in command)))
    assert NOTE.format("3.png") in text or NOTE.format(mixed / "3.png") in text
    assert "If 12 bits, they are seen 16 times too dark" in text


def test_each_row_says_it_and_json_of_certify(model_file: Path, mixed: Path) -> None:
    rows = json.loads(run("inspect", model_file, mixed, "--format", "json").stdout)
    grey = "grey, and the model was trained on colour"
    assert [row["message"] for row in rows] == [grey, grey, grey, f"{grey}; {depth_message(4095, None)}", grey]
    found = run(
        "certify", model_file, "--good", mixed, "--dry-run", "--max-false-alarm-rate", "0.5", "--format", "json"
    )
    assert any(note.startswith(NOTE.format("3.png")) for note in json.loads(found.stdout)["notes"])


def test_a_watch_says_it_once_and_its_record_of_each(model_file: Path, tmp_path: Path) -> None:
    for place in range(3):
        write_deep(tmp_path / f"in/{place}.png", 12, seed=place)
    watched = run("watch", model_file, tmp_path / "in", "--to", tmp_path / "r.csv", "--settle", 0, "--until-idle", 0)
    assert " ".join(watched.stderr.split()).count("12 bits in 16? If so, train with data.white_level=4095") == 1
    assert "this is said once" in watched.stderr
    messages = {decision.message for decision in read_record(tmp_path / "r.sqlite")}
    assert messages == {"grey, and the model was trained on colour; 16-bit values up to 4095 of 65535: 12 bits in 16?"}


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_every_depth_beside_full_ones_is_told_apart(bits: int) -> None:
    photos = DeepPhotos(None, shown=None)
    for name, brightest in {"a": 65_535, "b": 60_000, "c": (1 << bits) - 1, "d": (1 << bits) - 9, "e": None}.items():
        photos.add(name, brightest)
    [doubt] = photos.doubts()
    assert doubt.names == ("c", "d")
    assert doubt.message.startswith(f"2 of 4 16-bit photos, c, d, have no value above {(1 << bits) - 1}")
    assert f"{bits} bits in 16 beside photos of more, or dark photos?" in doubt.message


@pytest.mark.parametrize(
    ("white_level", "brightest", "words"),
    [
        (None, [65_535, 30_000], ""),  # not so far below
        (None, [17_000, 16_000], ""),  # on two sides of a power of two, and as bright
        (65_535, [4095, 4000], ""),  # the settings say that photos are dark
        (4095, [4095, 4000], ""),
        (4095, [65_535, 4000], "above data.white_level=4095: it is cut, in 1 of 2 16-bit photos, 0"),
        (4095, [4000, 1000], "1 of 2 16-bit photos, 1, has no value above 1023"),
        (None, [4000, 3900], "4000 of 65535: 12 bits in 16?"),
    ],
)
def test_photos_as_bright_as_the_others_are_not_doubted(
    white_level: int | None, brightest: list[int], words: str
) -> None:
    photos = DeepPhotos(white_level)
    for place, value in enumerate(brightest):
        photos.add(str(place), value)
    assert words in photos.note
    assert bool(photos.note) == bool(words)


def test_names_are_counted_and_not_all_kept() -> None:
    photos = DeepPhotos(None)
    for place in range(1000):
        photos.add(str(place), 4000)
    photos.add("full", 65_535)
    assert photos.note.startswith("1000 of 1001 16-bit photos, 0, 1, 2 and 997 more, have")
