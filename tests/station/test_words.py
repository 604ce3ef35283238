"""The words of the pages: all of them German too, and one of a thing is never several."""

import re
from importlib.resources import files
from itertools import product

import pytest
from fastapi import FastAPI

from blemish.station import accounts
from blemish.station.app import Station
from blemish.station.render import NAVIGATION
from blemish.station.words import LANGUAGES, Say, catalogue
from station.browser import CHEAP, judge_all, visit
from station.line import Line, picture

TEXT = r"""(?:"([^"]+)"|'([^']+)')"""
SEVERAL = re.compile(r"\b1 (?!are\b)[a-z ]*?(?:images|entries|frames|hours|ones|times|parts|Bilder|Bildern|Einträge)\b")


def templates() -> str:
    folder = files("blemish.station").joinpath("templates")
    return "".join(one.read_text(encoding="utf-8") for one in folder.iterdir())


def used_texts() -> set[str]:
    """What is said once, whatever the numbers in it."""
    found = {name for _, name, _ in NAVIGATION} | {
        one or other for one, other in re.findall(rf"_\({TEXT}", templates())
    }
    state = files("blemish.station").joinpath("state.py").read_text(encoding="utf-8")
    troubles = state.partition("def troubles")[2].partition("\ndef ")[0]
    return found | set(re.findall(r'(?<!")"([A-Z][^"]* [^"]*)"(?!")', troubles))


def used_pairs() -> set[tuple[str, str]]:
    """What is said in two ways, of one and of several."""
    return {(pair[0], pair[2]) for pair in re.findall(rf"_\.many\({TEXT}, {TEXT}", templates())}


def test_every_text_of_the_pages_is_german_too() -> None:
    german = catalogue("de").messages
    wanted = dict.fromkeys(used_texts(), 1) | {one: 2 for one, _ in used_pairs()}
    assert set(wanted) - set(german) == set(), "not translated"
    assert set(german) - set(wanted) == set(), "translated, and used nowhere"
    for english, forms in german.items():
        assert len(forms) == wanted[english], english
        names = set(re.findall(r"\{\w+\}", english)) - {"{n}"}
        assert all(set(re.findall(r"\{\w+\}", form)) - {"{n}"} == names for form in forms), english
    for one, several in used_pairs():
        forms = german[one]
        assert forms[0] != forms[1], one
        assert ("{n}" in several, "{n}" in forms[1]) == (True, True), one
    header = files("blemish.station").joinpath("languages/de.po").read_text(encoding="utf-8")
    assert "nplurals=2; plural=(n != 1)" in header


def test_a_number_of_things_is_said_in_two_ways() -> None:
    things = r"\{\w+\} (?:good |defective )?(?:images|entries|frames|hours|parts|ones)\b"
    assert [text for text in used_texts() if re.search(things, text)] == []
    for language, (one, several) in product(LANGUAGES, used_pairs()):
        say = Say(language)
        names = dict.fromkeys(re.findall(r"\{(\w+)\}", several), "x")
        names.pop("n", None)
        texts = [say.many(one, several, n, **names) for n in (70, 1, 72)]
        assert SEVERAL.search(texts[1]) is None, texts[1]
        assert texts[2] == texts[0].replace("70", "72"), texts


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_station_with_one_image_says_one(
    station: Station, line: Line, app: FastAPI, monkeypatch: pytest.MonkeyPatch, language: str
) -> None:
    monkeypatch.setattr(accounts, "PASSWORDS", CHEAP)
    station.inbox.receive(line.source_id, "a.png", picture(1))
    judge_all(station)
    who = visit(station, app, "administrator")
    for path, _, _ in (*NAVIGATION, ("/images/1", "", ""), ("/recalibrate", "", ""), ("/shadow", "", "")):
        text = re.sub(
            r"\s+", " ", re.sub(r"<[^>]*>", " ", who.client.get(path, headers={"Accept-Language": language}).text)
        )
        assert SEVERAL.search(text) is None, (path, SEVERAL.search(text))
