"""Whether plain values, as a JSON file has them, are what a TypedDict says: no key more, none less, all of its kind."""

from types import NoneType, UnionType
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict


def misfits(value: Any, kind: Any, path: str = "") -> list[str]:
    """Where the values are not of this kind; an int is a float, too, but a bool is neither."""
    arguments, origin = get_args(kind), get_origin(kind)
    if is_typeddict(kind):
        if not isinstance(value, dict) or not kind.__required_keys__ <= value.keys() <= kind.__annotations__.keys():
            return [path]
        hints = get_type_hints(kind)
        return [one for name, part in value.items() for one in misfits(part, hints[name], f"{path}.{name}")]
    if origin in (Union, UnionType):
        return [] if any(not misfits(value, option) for option in arguments) else [path]
    if origin is NotRequired:
        return misfits(value, arguments[0], path)
    if origin is Literal:
        return [] if value in arguments else [path]
    if origin is list and isinstance(value, list):
        return [one for place, part in enumerate(value) for one in misfits(part, arguments[0], f"{path}.{place}")]
    if origin is dict and isinstance(value, dict):
        return [one for name, part in value.items() for one in misfits(part, arguments[1], f"{path}.{name}")]
    plain = {float: (int, float), None: NoneType}.get(kind, kind)
    fits = kind is Any or (origin is None and isinstance(value, plain) and isinstance(value, bool) <= (kind is bool))
    return [] if fits else [path]
