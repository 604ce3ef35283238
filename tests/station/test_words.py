"""The words of the pages: all of them German too, and one of a thing is never several."""

import ast
import errno
import os
import re
from importlib.resources import files
from itertools import product
from pathlib import Path

import pytest
from fastapi import FastAPI

from blemish.inspection.decisions import now
from blemish.station.app import Station
from blemish.station.render import NAVIGATION
from blemish.station.tables import Model, Run
from blemish.station.words import LANGUAGES, NESTED, Say, catalogue, parse_po, told_forms
from station.browser import judge_all, visit
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


NOT_OURS = {os.strerror(code) for code in errno.errorcode} | {"timed out", "[Errno {}] {}"}
TOO_FEW = "at least {} are needed: 2 to fit, 1 to calibrate on"
EXPECTED = (
    "expected a mask image, a rectangle [left, top, right, bottom], a polygon of three or more corners [x, y], or a "
    "list of such"
)
PUT_TOGETHER = (
    {"{} good images in {}", "1 good image in {}", "{}, or ask for {} or more"}
    | {f"{{}} found{more}; {TOO_FEW}" for more in ("", ", copies and unreadable files left out")}
    | {f"found {{}}; {EXPECTED}"}
)
"""Of two texts, by `Certificate.promise`, by the errors of too few images and by that of a region."""


def made_texts() -> set[str]:
    """Every text that the program may make, with {} for what is put into it; of `plural` both forms."""
    found = set()
    for path in Path(str(files("blemish"))).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [one.value if isinstance(one, ast.Constant) else "{}" for one in node.values]
                found.add("".join(str(part) for part in parts))
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "plural":
                noun = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
                found |= {f"1 {noun}", f"{{}} {noun}s"}
    return found


@pytest.mark.slow
def test_texts_that_are_translated_when_they_are_shown_are_texts_that_the_program_makes() -> None:
    told = parse_po(files("blemish.station").joinpath("languages/de.told.po").read_text(encoding="utf-8"))
    plurals = {f"{{n}}{one.removeprefix('1')}s" for one, forms in told.items() if len(forms) > 1}
    forms = {re.sub(r"\{\w+\}", "{}", text) for text in {*told, *plurals}} - NOT_OURS - PUT_TOGETHER
    made = "\n".join(made_texts()).replace("{}{}", "{}")
    assert [form for form in sorted(forms) if form not in made] == []
    for text, others in told.items():
        names = set(re.findall(r"\{\w+\}", text)) - {"{n}"}
        assert all(set(re.findall(r"\{\w+\}", other)) - {"{n}"} <= names | {"{n}"} for other in others), text


@pytest.mark.parametrize(
    ("made", "german"),
    [
        (
            "C:/x: 2 good images found, copies and unreadable files left out; at least 3 are needed: 2 to fit, 1 to "
            "calibrate on",
            "C:/x: 2 gute Bilder gefunden, ohne Kopien und unlesbare Dateien; nötig sind mindestens 3: 2 zum Lernen, "
            "1 zum Kalibrieren",
        ),
        (
            "7 images, largest difference 1.2e-06 (seeded image of 97 x 49)",
            "7 Bilder, größte Abweichung 1,2e-06 (erzeugtes Bild mit 97 x 49)",
        ),
        (
            "On average at most 5 % of new good images are flagged (from 59 good images).",
            "Im Mittel werden höchstens 5 % neuer guter Bilder gemeldet (59 gute Bilder).",
        ),
        (
            "m.onnx 0123abcd, calibrated again on 1 image of the audit lane",
            "m.onnx 0123abcd, neu kalibriert, Auditspur: 1 Bild",
        ),
        (
            "only 1 photo: defects on the same photo share its luck, which the bounds do not know; give 20 or more",
            "nur mit 1 Bild geprüft: Fehler auf demselben Bild teilen dessen Glück, was die Grenzen nicht wissen; "
            "geben Sie 20 oder mehr",
        ),
        (
            "1 of 1 defect fell where the photo raises an alarm without them",
            "1 Fehler gesetzt, davon 1 dorthin, wo das Bild schon ohne sie gemeldet wird",
        ),
        (
            "5 good images are few: the threshold rests on 1 of them, and how much good parts differ can hardly be "
            "told, so that good parts may be flagged and defects missed; 30 or more are advised, 57 to promise 5 % of "
            "false alarms",
            "5 gute Bilder sind wenig: Die Schwelle beruht auf 1 davon, und wie verschieden gute Teile sind, lässt "
            "sich kaum sagen, sodass gute gemeldet und Fehler übersehen werden können; geraten sind 30 oder mehr, für "
            "eine Zusage von 5 % Fehlalarmen 57",
        ),
        (
            "12 good images hardly differ but for noise, as frames of a single part do. The promise on false alarms "
            "counts each image as a part of its own, so a new part may be flagged far more often; say which images "
            "belong together (data.groups), or keep one image of each part, and add images of other parts",
            "bei 12 guten Bildern ist kaum mehr verschieden als das Rauschen, wie bei Aufnahmen eines einzigen Teils. "
            "Die Zusage zu Fehlalarmen zählt jedes Bild als eigenes Teil, ein neues Teil kann also weit öfter gemeldet "
            "werden; sagen Sie, welche Bilder zusammengehören (data.groups), oder behalten Sie ein Bild je Teil, und "
            "fügen Sie Bilder anderer Teile hinzu",
        ),
        ("left out: print: a folder, not an image", "ausgelassen: print: ein Ordner, kein Bild"),
        ("/in/a: Permission denied", "/in/a: keine Berechtigung"),
        ("a: b; c {d} %s", "a: b; c {d} %s"),
        (
            "print is score saved again: one was fitted and the other calibrated on, which makes the threshold too low"
            "; keep one",
            "print ist score, noch einmal gespeichert: mit dem einen wurde trainiert, mit dem anderen kalibriert, das "
            "macht die Schwelle zu niedrig; behalten Sie eines",
        ),
        ("", ""),
    ],
)
def test_a_text_that_was_kept_is_shown_in_the_language_of_the_page(made: str, german: str) -> None:
    assert Say("de").told(made) == german
    assert Say("en").told(made) == made


def test_a_kept_text_that_was_made_to_be_slow_is_not() -> None:
    texts = ["seeded image of " + "1 x " * 9999, ": ".join("a" * 9999), "; ".join("a" * 9999), "a; b: " * 9999]
    for text in texts:
        assert len(Say("de").told(text)) > 9999
    used = {name for form in told_forms("de") for name in form.names}
    assert used >= NESTED


def test_pages_show_kept_texts_in_their_language(station: Station, line: Line, app: FastAPI) -> None:
    with station.database.write() as session:
        session.get_one(Model, line.model_id).parity = "7 images, largest difference 1.2e-06 (a.png)"
        session.add(
            Run(
                product_id=line.product_id,
                kind="train",
                asked="{}",
                state="failed",
                actor="test",
                created_at=now(),
                result="its process was ended: by hand, with the machine, or for want of memory; begin it again",
            )
        )
    who = visit(station, app, "engineer")
    german = {"Accept-Language": "de", "Accept": "text/html"}
    assert "sein Prozess wurde beendet: von Hand" in who.client.get("/runs/1", headers=german).text
    products = who.client.get("/products", headers=german).text
    assert "größte Abweichung" in products
    assert "largest difference" not in products
    assert "largest difference" in who.client.get("/products").text
    refused = who.client.post("/products", data={"name": "disc", "csrf": who.csrf}, headers=german)
    assert "den Namen gibt es schon" in refused.text
    trail = who.client.get("/trail", headers=german).text
    assert (">Urteil</td>" in trail, ">Modell</td>" in trail) == (False, True)
    assert "<i>Rolle</i> Ingenieur</span>" in trail
    assert re.findall(r"<i>[^<]*_[^<]*</i>", trail) == []
    assert "<i>role</i> engineer</span>" in who.client.get("/trail").text


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_station_with_one_image_says_one(station: Station, line: Line, app: FastAPI, language: str) -> None:
    station.inbox.receive(line.source_id, "a.png", picture(1))
    judge_all(station)
    who = visit(station, app, "administrator")
    for path, _, _ in (*NAVIGATION, ("/images/1", "", ""), ("/recalibrate", "", ""), ("/shadow", "", "")):
        text = re.sub(
            r"\s+", " ", re.sub(r"<[^>]*>", " ", who.client.get(path, headers={"Accept-Language": language}).text)
        )
        assert SEVERAL.search(text) is None, (path, SEVERAL.search(text))
