"""Write docs/reference/ and the README's tree from the program itself; with --check, find what is out of date.

Checked: the reference is what the program says; the tree is what the files' first lines say; every relative link in
the Markdown files leads to a file.
"""

import ast
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
TREE = re.compile(r"(```text\nsrc/blemish/\n)(.*?)(```)", re.DOTALL)
NOTE = "<!-- Written by scripts/docs.py; run `make docs` after a change. -->\n"


def main() -> int:
    """Write the reference, or check everything; 1 where something is wrong."""
    readme = ROOT / "README.md"
    pages = {
        REFERENCE / "cli.md": commands_page(),
        REFERENCE / "settings.md": settings_page(),
        readme: TREE.sub(lambda found: found[1] + tree(ROOT / "src" / "blemish") + found[3], readme.read_text("utf-8")),
    }
    if "--check" not in sys.argv:
        REFERENCE.mkdir(parents=True, exist_ok=True)
        for path, text in pages.items():
            path.write_text(text, encoding="utf-8")
        return 0
    problems = [*stale(pages), *link_problems()]
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


def tree(folder: Path, depth: int = 1) -> str:
    """A line for each file: its name, and the first line of its docstring."""
    lines = ""
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        indent = "  " * depth
        if path.is_dir() and path.name != "__pycache__":
            lines += f"{indent}{path.name}/\n{tree(path, depth + 1)}"
        elif path.suffix == ".py" and path.name != "__init__.py":
            said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            sentence = re.split(r"\n\n|(?<=\.)\s", said, maxsplit=1)[0].replace("\n", " ")
            lines += f"{indent}{path.name:<{26 - 2 * depth}} {sentence}\n"
        elif path.suffix in (".j2", ".css"):
            lines += f"{indent}{path.name:<{26 - 2 * depth}} what a page looks like\n"
    return lines


def stale(pages: dict[Path, str]) -> Iterator[str]:
    """Pages that differ from what the program says."""
    for path, text in pages.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            yield f"{path.relative_to(ROOT)}: out of date; run: make docs"


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
