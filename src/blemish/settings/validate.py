"""Settings from nested values, and what is said of those that will not do."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from blemish.errors import SettingsError, nearest
from blemish.settings.base import Settings

MAX_SHOWN = 200
"""Characters of a value that a message shows."""

S = TypeVar("S", bound=Settings)


def validate(kind: type[S], values: Mapping[str, Any], prefix: str = "") -> S:
    """Settings of `kind` from nested `values`.

    Raises:
        SettingsError: naming the first setting at fault, what was found and what would do; unknown names
            come with the nearest known one.

    >>> from blemish.settings import TrainSettings
    >>> validate(TrainSettings, {"epoch": 3}, prefix="train.")
    Traceback (most recent call last):
    blemish.errors.SettingsError: train.epoch: unknown setting; did you mean 'train.epochs'?
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_message_of(kind, error, prefix)) from None


def _message_of(kind: type[BaseModel], error: ValidationError, prefix: str) -> str:
    """What is wrong with the first setting at fault, without the words of the library that found it."""
    found = error.errors()
    of_one = [one for one in found if _setting(_where(one)) == _setting(_where(found[0]))]
    first = max(of_one, key=lambda one: _where(one).count("."))  # the kind that fits but for a number in its list
    where = _where(first)
    if first["type"] == "refused":
        return first["msg"]
    if first["type"] == "extra_forbidden":
        where = ".".join(map(str, first["loc"]))
        return f"{prefix}{shortened(where)}: unknown setting; {_suggest(kind, first['loc'], prefix)}"
    expected = dict.fromkeys(_expected(one) for one in of_one if _where(one) == where)
    text = f"{prefix}{where}: should be {' or '.join(expected)}"
    if any(_LIST in one for one in expected):
        count, example = _list_like(kind, where, first["input"])
        text = text.replace(_LIST, f"{count}{_LIST}") + f", e.g. {prefix}{_setting(where)}={example}"
    return f"{text}; found {shortened(repr(first['input']))}"


def _setting(where: str) -> str:
    """Its name, without the place in a list."""
    return re.sub(r"(\.\d+)+$", "", where)


def _list_like(kind: type[BaseModel], where: str, found: object) -> tuple[str, str]:
    """How many numbers a setting takes, empty where any number of them will do, and such a list as it is written.

    It is made of the number that was found, else of the default, or of what is usual.
    """
    *above, name = _setting(where).split(".")
    group = _group_at(kind, above)
    field = group.model_fields[name]
    args = _tuple_in(field.annotation)
    count = 0 if Ellipsis in args else len(args)
    values: Sequence[object] = field.default if isinstance(field.default, tuple) else _EXAMPLES.get(count, (1, 2))
    if isinstance(found, int | float):
        with suppress(ValidationError):
            group.model_validate({name: (same := [found] * (count or 1))})
            values = same
    return f"{count} " if count else "", f"[{','.join(map(str, values))}]"


def _tuple_in(annotation: object) -> tuple[object, ...]:
    """What a tuple among the kinds that a setting may have is of."""
    if get_origin(annotation) is tuple:
        return get_args(annotation)
    return next((found for one in get_args(annotation) if (found := _tuple_in(one))), ())


def _where(error: ErrorDetails) -> str:
    """The setting's name and the place in a list, but not which of several kinds was tried, nor what is missing."""
    names = [part for part in error["loc"] if isinstance(part, int) or not _IS_KIND.search(part)]
    if error["type"] == "missing":
        names = [part for part in names if isinstance(part, str)]
    return ".".join(map(str, names))


def shortened(text: str) -> str:
    """What a message shows of a value.

    >>> shortened("9" * 6000)
    '99999999999999999999... (6000 characters)'
    """
    return text if len(text) <= MAX_SHOWN else f"{text[:20]}... ({len(text)} characters)"


def first_problem(error: ValidationError) -> str:
    """Where a file that blemish wrote does not fit, and why, in the words of the library that found it.

    >>> from blemish.settings import TrainSettings
    >>> try:
    ...     TrainSettings.model_validate({"epochs": 0})
    ... except ValidationError as error:
    ...     print(first_problem(error))
    epochs: Input should be greater than or equal to 1
    """
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'all of it'}: {first['msg']}"


_IS_KIND = re.compile(r"^(str|int|float|bool|constrained-\w+)$|\[")
"""What pydantic calls one of several kinds that a setting may have."""

_LIST = "numbers in brackets with commas between"

_EXAMPLES = {2: (256, 256), 3: (255, 0, 0)}
"""Height and width; a colour."""

_EXPECTED = {
    "tuple": _LIST,
    "dict": "names and numbers in braces, e.g. {hole=0.25}",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "model": "settings with names of their own after a dot",
}
"""By the first word of what pydantic calls the error."""


def _expected(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return _LIST if isinstance(error["loc"][-1], int) else "given"
    if error["type"] in ("too_long", "too_short"):
        return _LIST
    return _EXPECTED.get(error["type"].partition("_")[0], error["msg"].removeprefix("Input should be "))


def _suggest(kind: type[BaseModel], path: Sequence[int | str], prefix: str) -> str:
    """The nearest name as it must be written: one of the same group, else of the groups below."""
    *above, name = map(str, path)
    known = _fields_at(kind, above)
    group = "".join(f"{part}." for part in (*([prefix[:-1]] if prefix.endswith(".") else []), *above))
    leaves = {} if above else {leaf: f"{group}{one}.{leaf}" for one in known for leaf in _fields_below(kind, one)}
    hint = nearest(name, [*known, *leaves])
    if not hint.startswith("did"):
        return nearest(name, known)
    found = hint.split("'")[1]
    return f"did you mean '{group + found if found in known else leaves[found]}'?"


def _fields_below(kind: type[BaseModel], name: str) -> list[str]:
    annotation = kind.model_fields[name].annotation
    is_group = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return _fields_at(kind, [name]) if is_group else []


def _fields_at(kind: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    return list(_group_at(kind, path).model_fields)


def _group_at(kind: type[BaseModel], path: Sequence[int | str]) -> type[BaseModel]:
    """The settings that stand under a name."""
    for part in path:
        annotation = kind.model_fields[str(part)].annotation
        kind = next(
            option
            for option in (annotation, *get_args(annotation))
            if isinstance(option, type) and issubclass(option, BaseModel)
        )
    return kind
