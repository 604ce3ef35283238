"""The languages of the pages: English in the templates, others in gettext catalogues beside them."""

import ast
from collections.abc import Mapping
from functools import cache
from gettext import NullTranslations
from importlib.resources import files
from typing import final

LANGUAGES = ("en", "de")


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
    if language == "en":
        return Catalogue({})
    text = files("blemish.station").joinpath("languages", f"{language}.po").read_text(encoding="utf-8")
    return Catalogue(parse_po(text))


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
class Say:
    """How a page says something in its language: a text with its names, or one of two by a number."""

    def __init__(self, language: str) -> None:
        self._words = catalogue(language)

    def __call__(self, text: str, **names: object) -> str:
        found = self._words.gettext(text)
        return found.format(**names) if names else found

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
