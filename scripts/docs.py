"""Write docs/reference/ and what the pages say of packages and modules; with --check, find what is out of date.

Checked: the reference is what the program says; the README's packages and the modules of docs/architecture.md are
what the docstrings' first lines say; every relative link in the Markdown files leads to a file.
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
from blemish.evaluation.measures import MEASURES
from blemish.evaluation.results import EvaluateSettings
from blemish.models import DETECTORS, PRESETS
from blemish.settings import RunSettings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
SOURCE = ROOT / "src" / "blemish"
PACKAGES = re.compile(r"(```text\nsrc/blemish/\n)(.*?)(```)", re.DOTALL)
MODULES = re.compile(r"(<!-- modules -->\n)(.*?)(<!-- end of modules -->)", re.DOTALL)
ASSETS = {".j2": "Template of a page.", ".css": "Style of all pages.", ".html": "Template of a page."}
NOTE = "<!-- Written by scripts/docs.py; run `make docs` after a change. -->\n"


def main() -> int:
    """Write the reference, or check everything; 1 where something is wrong."""
    pages = {
        REFERENCE / "cli.md": commands_page(),
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "results.md": results_page(),
        ROOT / "README.md": filled(ROOT / "README.md", PACKAGES, package_lines()),
        ROOT / "docs" / "architecture.md": filled(ROOT / "docs" / "architecture.md", MODULES, module_tables()),
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


def results_page() -> str:
    """docs/reference/results.md, with every measure and every setting of an evaluation between their markers."""
    rows = [
        f"| `{key}` | {measure.titled(EvaluateSettings())} | {measure.explanation} |"
        for key, measure in MEASURES.items()
    ]
    parts = {
        "measures": "| key | measure | what it means |\n|---|---|---|\n" + "\n".join(rows) + "\n",
        "settings": table(EvaluateSettings, ""),
    }
    text = (REFERENCE / "results.md").read_text(encoding="utf-8")
    for name, part in parts.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, after = text.partition(begin)[0], text.partition(end)[2]
        text = before + begin + part + end + after
    return text


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


def filled(page: Path, place: re.Pattern[str], text: str) -> str:
    """A page with what stands between two marks replaced.

    Raises:
        ValueError: the marks are not there.
    """
    written, found = place.subn(lambda match: match[1] + text + match[3], page.read_text(encoding="utf-8"))
    if found != 1:
        raise ValueError(f"{page}: {found} places match {place.pattern}; one is expected")
    return written


def package_lines() -> str:
    """A line for each entry of the top level: its name, and the first sentence of its docstring."""
    lines = {path.name: summary(path) for path in sorted(SOURCE.glob("*.py"))}
    lines |= {f"{path.parent.name}/": summary(path) for path in sorted(SOURCE.glob("*/__init__.py"))}
    return "".join(f"  {name:<14} {text}\n" for name, text in lines.items())


def module_tables() -> str:
    """A table for each package, every file of it a row."""
    parts = []
    for folder in sorted(path.parent for path in SOURCE.rglob("__init__.py")):
        name = folder.relative_to(SOURCE.parent).as_posix()
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and path.name != "__init__.py"]
        rows = "".join(f"| `{path.name}` | {file_summary(path)} |\n" for path in files)
        parts.append(f"### `{name}/`\n\n{summary(folder / '__init__.py')}\n\n| file | |\n|---|---|\n{rows}\n")
    return "".join(parts)


def file_summary(path: Path) -> str:
    """What a file is, in a sentence that can stand in a table."""
    return (summary(path) if path.suffix == ".py" else ASSETS.get(path.suffix, "")).replace("|", "\\|")


def summary(path: Path) -> str:
    """The first sentence of a module's docstring.

    Raises:
        ValueError: it has none.
    """
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not said:
        raise ValueError(f"{path.relative_to(ROOT)}: no docstring; its first line stands in docs/architecture.md")
    return re.split(r"\n\n|(?<=\.)\s", said, maxsplit=1)[0].replace("\n", " ")


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
