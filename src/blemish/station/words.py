"""The languages of the pages: English in the templates, others in gettext catalogues beside them."""

import ast
from functools import cache
from importlib.resources import files

LANGUAGES = ("en", "de")


@cache
def catalogue(language: str) -> dict[str, str]:
    """What each English text is in a language; read from its .po file, nothing for English."""
    if language == "en":
        return {}
    text = files("blemish.station").joinpath("languages", f"{language}.po").read_text(encoding="utf-8")
    return parse_po(text)


def parse_po(text: str) -> dict[str, str]:
    """The messages of a gettext catalogue, without contexts and plurals.

    >>> parse_po('msgid "a "\\n"b"\\nmsgstr "c"\\n')
    {'a b': 'c'}
    """
    found: dict[str, str] = {}
    parts: dict[str, str] = {}
    keyword = ""
    for line in [*text.splitlines(), 'msgid ""']:
        word, _, rest = line.strip().partition(" ")
        if word in ("msgid", "msgstr"):
            if word == "msgid" and parts.get("msgid") and parts.get("msgstr"):
                found[parts["msgid"]] = parts["msgstr"]
            keyword, parts[word] = word, ast.literal_eval(rest)
        elif line.startswith('"') and keyword:
            parts[keyword] += ast.literal_eval(line.strip())
    return found


def translate(language: str, text: str) -> str:
    """A text in a language; as it is where there is no translation."""
    return catalogue(language).get(text, text)


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
