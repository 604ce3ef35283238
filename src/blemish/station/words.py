"""The languages of the pages: English in the templates, others in gettext catalogues beside them."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from gettext import NullTranslations
from importlib.resources import files
from string import Formatter
from typing import NamedTuple, final

LANGUAGES = ("en", "de")
NESTED = frozenset(
    {"advice", "fixture", "groups", "images", "more", "own", "parts", "role", "rule", "source", "stream", "sure"}
    | {"unit", "what", "where", "why"}
)
"""What stands for these names in a form is a text of ours again; for others it is a number, or the name of a thing."""

NUMBER = re.compile(r"\d+\.\d+(e[+-]\d+)?( ?%)?")


@final
class Catalogue(NullTranslations):
    """What each English text is in a language; of one that depends on a number, one form for 1 and another for others.

    So it is in English and in German, `nplurals=2; plural=(n != 1)`; a language with other rules needs another class.
    """

    def __init__(self, messages: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self.messages = messages

    def gettext(self, message: str) -> str:
        """A text in the language; as it is where there is no translation."""
        return self.messages.get(message, (message,))[0]

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        """A text for one or for several, in the language."""
        return self.messages.get(msgid1, (msgid1, msgid2))[n != 1]


@cache
def catalogue(language: str) -> Catalogue:
    """The words of a language, read from its .po file; English is in the templates."""
    return Catalogue({} if language == "en" else _read_po(f"{language}.po"))


def _read_po(name: str) -> dict[str, tuple[str, ...]]:
    return parse_po(files("blemish.station").joinpath("languages", name).read_text(encoding="utf-8"))


def parse_po(text: str) -> dict[str, tuple[str, ...]]:
    """The messages of a gettext catalogue without contexts; two where they depend on a number.

    >>> parse_po('msgid "a "\\n"b"\\nmsgstr "c"\\nmsgid "1 x"\\nmsgid_plural "{n} xs"\\nmsgstr[0] "y"\\nmsgstr[1] "z"')
    {'a b': ('c',), '1 x': ('y', 'z')}
    """
    found: dict[str, tuple[str, ...]] = {}
    parts: dict[str, str] = {}
    keyword = ""
    for line in [*text.splitlines(), 'msgid ""']:
        word, _, rest = line.strip().partition(" ")
        if word.startswith("msg"):
            forms = tuple(parts[name] for name in ("msgstr", "msgstr[0]", "msgstr[1]") if parts.get(name))
            if word == "msgid" and parts.get("msgid") and forms:
                found[parts["msgid"]] = forms
            parts = {} if word == "msgid" else parts
            keyword, parts[word] = word, ast.literal_eval(rest)
        elif line.startswith('"') and keyword:
            parts[keyword] += ast.literal_eval(line.strip())
    return found


@final
class Form(NamedTuple):
    """A text with names in it, as the program makes it, and what it is in another language."""

    pieces: tuple[str, ...]
    """What stands between the names, with that before the first and after the last."""
    names: tuple[str, ...]
    other: str

    def values(self, text: str) -> dict[str, str] | None:
        """What stands for the names in a text; None where it is of another form. In time linear in the text.

        >>> Form(("", " of ", " left"), ("n", "all"), "").values("3 of 12 left")
        {'n': '3', 'all': '12'}
        """
        first, *between = self.pieces
        if not text.startswith(first) or not text.endswith(self.pieces[-1]):
            return None
        at, found = len(first), []
        for place, piece in enumerate(between, 1):
            end = text.find(piece, at + 1) if place < len(between) else len(text) - len(piece)
            if end <= at:
                return None
            found.append(text[at:end])
            at = end + len(piece)
        values = dict(zip(self.names, found, strict=True))
        return values if at == len(text) and values.get("n", "0").isdecimal() else None


@cache
def told_forms(language: str) -> tuple[Form, ...]:
    """The forms of texts that the program makes and keeps, the most special first; none in English."""
    if language == "en":
        return ()
    forms = []
    for english, others in _read_po(f"{language}.told.po").items():
        for text, other in zip(_both(english) if len(others) > 1 else [english], others, strict=True):
            parts = [(literal, name) for literal, name, _, _ in Formatter().parse(text)]
            pieces = [literal for literal, _ in parts] + ([""] if parts[-1][1] is not None else [])
            forms.append(Form(tuple(pieces), tuple(name for _, name in parts if name is not None), other))
    return tuple(sorted(forms, key=lambda form: -len("".join(form.pieces))))


def _both(one: str) -> list[str]:
    """What `errors.plural` says of one and of several."""
    return [one, f"{{n}}{one.removeprefix('1')}s"]


def _translate(text: str, forms: tuple[Form, ...], deepest: int = 4) -> str:
    """By the form of all of it; else of what follows a colon, or of what stands between semicolons."""
    if not text or not forms or not deepest:
        return text
    for form in forms:
        values = form.values(text)
        if values is not None:
            return form.other.format(
                **{name: _value(name, value, forms, deepest - 1) for name, value in values.items()}
            )
    first, sign, rest = text.partition(": ")  # what stands before it is the name of a thing
    if sign and (other := _translate(rest, forms, deepest - 1)) != rest:
        return first + sign + other
    first, sign, rest = text.partition("; ")
    return _translate(first, forms, deepest - 1) + sign + _translate(rest, forms, deepest - 1) if sign else text


def _value(name: str, value: str, forms: tuple[Form, ...], deepest: int) -> str:
    if name in NESTED:
        return _translate(value, forms, deepest)
    return value.replace(".", ",") if NUMBER.fullmatch(value) else value


@final
class Say:
    """How a page says something in its language: a text with its names, or one of two by a number."""

    def __init__(self, language: str) -> None:
        self.language, self._words = language, catalogue(language)

    def __call__(self, text: str, **names: object) -> str:
        found = self._words.gettext(text)
        return found.format(**names) if names else found

    def told(self, text: str) -> str:
        """A text that the program has made and kept, in this language where its form is known; else as it is.

        >>> Say("de").told("a.png: a truncated image, its end is missing; copy it again")
        'a.png: ein abgeschnittenes Bild, das Ende fehlt; kopieren Sie es noch einmal'
        """
        return _translate(text, told_forms(self.language))

    def many(self, one: str, several: str, n: int, **names: object) -> str:
        """The form for `n`, which may stand in it.

        >>> Say("en").many("{n} image", "{n} images", 1), Say("en").many("{n} image", "{n} images", 0)
        ('1 image', '0 images')
        """
        return self._words.ngettext(one, several, n).format(n=n, **names)


def choose_language(accepted: str, default: str) -> str:
    """The language of an `Accept-Language` header that we have; `default` where it is set, or nothing fits.

    >>> choose_language("fr, de-DE;q=0.8, en;q=0.5", "auto"), choose_language("de", "en"), choose_language("", "auto")
    ('de', 'en', 'en')
    """
    if default in LANGUAGES:
        return default
    weighted = []
    for part in accepted.split(","):
        name, _, weight = part.partition(";q=")
        try:
            weighted.append((-float(weight or 1.0), name.strip().lower()[:2]))
        except ValueError:
            continue
    return next((name for _, name in sorted(weighted, key=lambda one: one[0]) if name in LANGUAGES), "en")
