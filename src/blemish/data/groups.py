"""Groups of images that belong together, such as several photos of one part."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from blemish.data.csv_cells import read_table
from blemish.data.layouts import composed, folded
from blemish.errors import DataError, SettingsError

COLUMNS = ("image", "group")
_NUMBER = re.compile(r"0*(\d+)(?:[.,]0*)?")


def read_groups(groups: str, names: Sequence[str], known: Collection[str] = ()) -> tuple[str, ...]:
    r"""The group of each named image.

    `groups` is a regular expression with one group in brackets, searched for in the name, or a CSV file (its name ends
    in `.csv`) with the columns `image` and `group`. The file may also name the images that are `known`, but no others.

    Raises:
        SettingsError: no regular expression, or not with one group in brackets.
        DataError: the file cannot be read; it names an image twice, or one there is not; an image without a group; one
            group written in two ways.

    >>> read_groups(r"part(\d+)_", ["part7_a.png", "part7_b.png", "part12_a.png"])
    ('7', '7', '12')
    >>> read_groups(r"part(\d+)_", ["odd.png"])
    Traceback (most recent call last):
    blemish.errors.DataError: data.groups: 'part(\d+)_' is not found in odd.png; every good image needs a group
    """
    found = _from_file(Path(groups), names, known) if is_file(groups) else _from_names(groups, names)
    missing = [name for name in names if name not in found]
    if missing:
        what = f"{groups}: says nothing of" if is_file(groups) else f"data.groups: '{groups}' is not found in"
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{what} {missing[0]}{more}; every good image needs a group")
    _refuse_two_spellings([found[name] for name in names], groups)
    return tuple(found[name] for name in names)


def spelling_of(group: str) -> str:
    """The same of groups that a person would take for one: a number as a spreadsheet writes it, another case.

    >>> [spelling_of(group) for group in ("7", "07", "7.0", "Lot  A", "lot a", "7.5")]
    ['7', '7', '7', 'lot a', 'lot a', '7.5']
    """
    number = _NUMBER.fullmatch(group)
    return number[1] if number else " ".join(folded(group).split())


def _refuse_two_spellings(found: Sequence[str], groups: str) -> None:
    known: dict[str, str] = {}
    for group in found:
        if (other := known.setdefault(spelling_of(group), group)) != group:
            where = groups if is_file(groups) else f"data.groups: '{groups}'"
            raise DataError(
                f"{where}: '{other}' and '{group}' would be two groups; write them alike, or, where they are two, so "
                "that they differ in more than zeros, spaces or case"
            )


def is_file(groups: str) -> bool:
    """Whether groups are read from a file, and not from the images' names."""
    return groups.lower().endswith(".csv")


def pattern_of(groups: str | None) -> str | None:
    """What tells the groups of other images, too; None where a file names each, or there are no groups."""
    return None if groups is None or is_file(groups) else groups


def _from_names(pattern: str, names: Sequence[str]) -> Mapping[str, str]:
    try:
        expression = re.compile(composed(pattern))
    except re.error as error:
        raise SettingsError(f"data.groups: '{pattern}' is no regular expression ({error})") from None
    if expression.groups != 1:
        raise SettingsError(
            f"data.groups: '{pattern}' has {expression.groups} groups in brackets; expected one, as in 'part(\\d+)', "
            "or the name of a CSV file with the columns image and group"
        )
    matches = {name: expression.search(composed(name)) for name in names}
    return {name: match[1] for name, match in matches.items() if match is not None and match[1] is not None}


def _from_file(path: Path, names: Sequence[str], known: Collection[str]) -> Mapping[str, str]:
    there = {*names, *known}
    by_look = {composed(name): name for name in there} | {name: name for name in there}
    found: dict[str, str] = {}
    header, rows = read_table(path, "the groups")
    if not set(COLUMNS) <= set(header):
        raise DataError(f"{path}: found the columns {', '.join(header) or 'none'}; expected image and group")
    for line, row in rows:
        given, group = row["image"], row["group"]
        name = by_look.get(given) or by_look.get(composed(given))
        if name is None:
            example = f"; images are named like {min(there)}" if there else ""
            raise DataError(f"{path}, line {line}: there is no image {given}{example}")
        if name in found:
            raise DataError(f"{path}, line {line}: {name} is named twice")
        if not group:
            raise DataError(f"{path}, line {line}: {name} has no group")
        found[name] = group
    return found
