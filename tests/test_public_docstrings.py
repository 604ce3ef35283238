"""What is public says what it takes and what it refuses: the reference page of Python is made of it."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import blemish
import blemish.stats

SHAPE = re.compile(r"\((?:[a-z]+(?:, [a-z0-9]+)*,?|\.\.\.)\)|np\.array\(|\[\[")
"""(h, w), (n,), or an example with an array."""


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, str):
            continue
        yield f"{module.__name__}.{name}", thing
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            for key, member in vars(thing).items():
                plain = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
                if not key.startswith("_") and inspect.isfunction(plain):
                    yield f"{module.__name__}.{name}.{key}", plain


NAMES = {name: thing for module in (blemish, blemish.stats) for name, thing in public(module)}


def test_names_are_looked_at() -> None:
    assert len(NAMES) > 80
    assert {"blemish.Predictor.predict", "blemish.stats.PixelScores.add"} <= NAMES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_it_says_what_it_takes_and_what_it_refuses(name: str) -> None:
    thing, told = NAMES[name], inspect.getdoc(NAMES[name]) or ""
    assert told
    if not inspect.isfunction(thing):
        return
    program = inspect.getsource(thing).rpartition('"""')[2]
    assert "Raises:" in told or not re.search(r"(?m)^ +raise \w", program)
    taken = " ".join(str(one) for one in inspect.signature(thing).parameters.values())
    assert SHAPE.search(told) or not re.search(r"ndarray|NDArray|_array_like", taken)


def test_completion_shows_all_names() -> None:
    program = "import blemish; print(set(blemish.__all__) - set(dir(blemish)))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout == "set()\n"
