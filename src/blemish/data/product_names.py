"""What a product may be called, by a station as by the fleet: its name becomes a folder's, on any system."""

from collections.abc import Iterable

from blemish.data.files import fit_name

LONGEST_PRODUCT = 80
"""Of its name, in characters."""

_FILES = ("registry.json", "ledger.json", "registry.html")
"""Of the fleet, beside the folders."""


def refused_name(product: str) -> str:
    """Why a product may not be called so; empty where it may.

    >>> refused_name("nut-7"), refused_name("a/b"), refused_name("..")
    ('', "has '/' in its name, which no folder may", 'begins with a dot')
    """
    odd = next((letter for letter in product if letter in '<>:"/\\|?*' or not letter.isprintable()), None)
    if odd is not None:
        return f"has {odd!r} in its name, which no folder may"
    if product.startswith("."):
        return "begins with a dot"
    if not product or product != product.strip() or product.endswith("."):
        return "is empty, or has a space or a dot at an end"
    if len(product) > LONGEST_PRODUCT:
        return f"has more than {LONGEST_PRODUCT} characters"
    if fit_name(product, room=32) != product:
        return "is too long for the name of a folder"
    return "is the name of a file of the registry" if product.lower() in _FILES else ""


def first_twice(names: Iterable[str]) -> str | None:
    """The first name that was there before, in any case of letters: on some systems one folder.

    >>> first_twice(["nut", "Nut"]), first_twice(["nut", "bolt"])
    ('Nut', None)
    """
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            return name
        seen.add(name.casefold())
    return None
