"""Write docs/reference/ from the program itself; with --check, find what is out of date or leads nowhere.

Checked: the reference is what the program says; every source file stands in the README's tree and the tree names no
other; every relative link in the Markdown files leads to a file; no path of one machine is in them.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel

from blemish.cli import app
from blemish.models import DETECTORS, PRESETS
from blemish.settings import RunSettings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
NOTE = "<!-- Written by scripts/docs.py; run `make docs` after a change. -->\n"


def main() -> int:
    """Write the reference, or check everything; 1 where something is wrong."""
    pages = {"cli.md": commands_page(), "settings.md": settings_page()}
    if "--check" not in sys.argv:
        REFERENCE.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            (REFERENCE / name).write_text(text, encoding="utf-8")
        return 0
    problems = [*stale(pages), *tree_problems(), *link_problems()]
    print("\n".join(problems) or "docs: nothing out of date, every link leads somewhere")
    return int(bool(problems))


def commands_page() -> str:
    """Every command's --help."""
    parts = [NOTE, "# Commands\n"]
    for path, command in walk(typer.main.get_command(app), ("blemish",)):
        context = command.context_class(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)
        lines = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## `{' '.join(path)}`\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and those below it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


def settings_page() -> str:
    """Every setting with its default, and what each detector and preset sets otherwise."""
    parts = [NOTE, "# Settings\n", "In a TOML file for `--settings`, or one by one with `--set name=value`.\n"]
    parts.append(table(RunSettings, ""))
    parts.append("## Detectors (`model.*`)\n")
    for name, kind in DETECTORS.items():
        first = (kind.__doc__ or "").strip().partition("\n")[0]
        parts += [f"### `{name}`\n", f"{first}\n", table(kind.Settings, "model."), defaults(kind.defaults)]
    parts.append("## Presets\n")
    parts += [f"- `{name}`: {flat(preset)}" for name, preset in PRESETS.items()]
    return "\n".join(part for part in parts if part) + "\n"


def table(kind: type[BaseModel], prefix: str) -> str:
    """A Markdown table of one model's fields, those of nested models after it."""
    rows, nested = [], []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append(f"### `{prefix}{name}.*`\n\n{table(field.annotation, f'{prefix}{name}.')}")
        elif name != "model":
            text = (field.description or "").replace("|", "\\|")
            rows.append(f"| `{prefix}{name}` | `{field.get_default(call_default_factory=True)}` | {text} |")
    head = "| setting | default | meaning |\n|---|---|---|\n" if rows else ""
    return head + "\n".join(rows) + "\n" + "".join(f"\n{part}" for part in nested)


def defaults(values: object) -> str:
    """What a detector prefers to the general defaults."""
    return f"Unless set otherwise: {flat(values)}.\n" if values else ""


def flat(values: object, prefix: str = "") -> str:
    """Nested settings in one line."""
    if not isinstance(values, dict):
        return f"`{prefix}={values}`"
    return ", ".join(flat(value, f"{prefix}.{name}" if prefix else name) for name, value in values.items())


def stale(pages: dict[str, str]) -> Iterator[str]:
    """Reference pages that differ from what the program says."""
    for name, text in pages.items():
        path = REFERENCE / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield f"docs/reference/{name}: out of date; run: make docs"


def tree_problems() -> Iterator[str]:
    """Source files the README's tree forgets, and names in it that are no files."""
    tree = re.search(r"```text\nsrc/blemish/\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    if tree is None:
        yield "README.md: no tree of src/blemish/ in a ```text block"
        return
    named: set[str] = set()
    folders: list[str] = []
    for line in tree[1].splitlines():
        entry = re.match(r"( *)([\w.]+/?)", line)
        if entry is None:
            continue
        depth = len(entry[1]) // 2 - 1
        folders = folders[:depth]
        if entry[2].endswith("/"):
            folders.append(entry[2])
        else:
            named.add("".join(folders) + entry[2])
    source = ROOT / "src" / "blemish"
    there = {path.relative_to(source).as_posix() for path in source.rglob("*.py") if path.name != "__init__.py"}
    there |= {path.relative_to(source).as_posix() for path in source.rglob("*.j2")}
    yield from (f"README.md: the tree forgets src/blemish/{name}" for name in sorted(there - named))
    yield from (f"README.md: the tree names src/blemish/{name}, which is no file" for name in sorted(named - there))


def link_problems() -> Iterator[str]:
    """Relative links that lead nowhere."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in sorted(pages):
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not re.match(r"[a-z]+:|#", target) and not (page.parent / target.partition("#")[0]).exists():
                yield f"{page.relative_to(ROOT)}: the link {target} leads nowhere"


if __name__ == "__main__":
    sys.exit(main())
