"""Pages from templates: who asks, in which language, and how numbers are written."""

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from fastapi import Request
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from blemish.inference.score import score_text
from blemish.station.accounts import Identity
from blemish.station.words import Say, choose_language
from blemish.stats.conformal import promised_percent

NAVIGATION = (
    ("/", "Live", "viewer"),
    ("/review", "Review", "viewer"),
    ("/images", "Images", "viewer"),
    ("/audit", "Audit lane", "operator"),
    ("/threshold", "Threshold", "viewer"),
    ("/report", "Shift report", "viewer"),
    ("/products", "Products", "viewer"),
    ("/trail", "Audit trail", "viewer"),
    ("/storage", "Storage", "engineer"),
    ("/users", "Users", "administrator"),
    ("/hooks", "Hooks", "administrator"),
)
"""Address, name, and the role that sees it."""

SECTIONS = (
    ("/images/", "/images"),
    ("/recalibrate", "/products"),
    ("/shadow", "/products"),
    ("/runs/", "/products"),
    ("/train", "/products"),
    ("/trail/", "/trail"),
)
"""Pages that are reached by way of one in the navigation, and that one."""


@cache
def environment(language: str = "en") -> Environment:
    """Where all pages of a language come from; its filters write numbers as the language does."""
    made = Environment(
        loader=PackageLoader("blemish.station"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        **{one.__name__: _written_in(language, one) for one in (percent, guarantee, figure, volume)},
        "score": _written_in(language, score_text),
        "moment": moment,
        "next_hour": next_hour,
        "details": details,
        "as_json": json.dumps,
    }
    return made


def render(request: Request, template: str, **values: Any) -> HTMLResponse:
    """A page."""
    identity: Identity | None = getattr(request.state, "identity", None)
    say = say_of(request)
    seen = [(to, say(name)) for to, name, role in NAVIGATION if identity is not None and identity.may(role)]  # type: ignore[arg-type]
    section = next((to for start, to in SECTIONS if request.url.path.startswith(start)), "")
    page = (
        environment(say.language)
        .get_template(template)
        .render(
            {
                "_": say,
                "language": say.language,
                "identity": identity,
                "navigation": seen,
                "path": request.url.path,
                "section": section,
                "is_noted": "noted" in request.query_params,
            }
            | values
        )
    )
    return HTMLResponse(page)


def say_of(request: Request) -> Say:
    """How pages speak to whoever asks: in the station's language, or the browser's."""
    return Say(choose_language(request.headers.get("accept-language", ""), request.app.state.station.language))


def _written_in(language: str, write: Callable[..., str]) -> Callable[..., str]:
    return lambda *number: localise(write(*number), language)


def localise(number: str, language: str) -> str:
    """A number, with the decimal sign of a language, and never parted from its percent sign.

    >>> localise("2.44 %", "de"), localise("2.44 %", "en")
    ('2,44\\xa0%', '2.44\\xa0%')
    """
    return (number.replace(".", ",") if language == "de" else number).replace(" %", "\N{NO-BREAK SPACE}%")


def percent(share: float | None, digits: int = 2) -> str:
    """A share for a page.

    >>> percent(0.0244), percent(1.0), percent(None)
    ('2.44 %', '100 %', '-')
    """
    if share is None:
        return "-"
    text = f"{100 * share:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + " %"


def guarantee(rate: float | None) -> str:
    """A guaranteed rate for a page, never rounded to less than it is.

    >>> guarantee(1 / 41), guarantee(0.001234), guarantee(None)
    ('2.44 %', '0.124 %', '-')
    """
    return promised_percent(rate)


def figure(value: float | None) -> str:
    """A number for a page.

    >>> figure(0.123456), figure(None)
    ('0.1235', '-')
    """
    return "-" if value is None else f"{value:.4g}"


def volume(size_bytes: float) -> str:
    """So many bytes for a page.

    >>> volume(12_410_000), volume(20_550_000_000)
    ('12.4 MB', '20.6 GB')
    """
    unit, divisor = ("GB", 1e9) if size_bytes >= 1e9 else ("MB", 1e6)
    return f"{size_bytes / divisor:.1f} {unit}"


def details(text: str) -> list[tuple[list[str], str]]:
    """What an entry of the trail holds, for reading: names, of what is inside of what, and the value.

    The hash is over the text itself. One that was changed may be anything: it is shown as it is.

    >>> details('{"model_id":3,"reason":"gr\\u00fcn","to":{"days":null},"of":""}')
    [(['model_id'], '3'), (['reason'], 'grün'), (['to', 'days'], '-'), (['of'], '-')]
    >>> details('{cut')
    [([], '{cut')]
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        return [([], text)]
    return list(_named(found, []))


def _named(found: dict[str, Any], inside: list[str]) -> Iterator[tuple[list[str], str]]:
    for name, value in found.items():
        if isinstance(value, dict):
            yield from _named(value, [*inside, name])
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield [*inside, name], "-" if value in (None, "") else shown


def next_hour(hour: str) -> str:
    """The hour after one.

    >>> next_hour("2026-11-26T23")
    '2026-11-27T00'
    """
    return (datetime.fromisoformat(f"{hour}:00") + timedelta(hours=1)).isoformat()[:13]


def moment(text: str) -> str:
    """A time as pages without script have it; a script turns it into the time of the place.

    >>> moment("2026-11-26T07:05:12.123456+00:00")
    '2026-11-26 07:05:12'
    """
    return text[:19].replace("T", " ")
