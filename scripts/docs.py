"""Write docs/reference/ and what the pages say of packages and modules; with --check, find what is out of date.

Checked: the reference is what the program says; the README's packages and the modules of docs/architecture.md are
what the docstrings' first lines say; the figures of the README and of docs/results.md are those of docs/figures/ where
scripts/figures.py writes them; every relative link in the Markdown files leads to a file. With --site FOLDER, the
built site gets the files beside docs/ that it links to, and what is wrong in it is found: links and anchors that lead
nowhere, anything loaded from elsewhere.
"""

import ast
import inspect
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from textwrap import dedent
from types import MappingProxyType, ModuleType
from typing import Any
from urllib.parse import unquote

import figures
import typer
from pydantic import BaseModel

import blemish
import blemish.stats
from blemish.cli import app
from blemish.evaluation.measures import MEASURES
from blemish.evaluation.results import EvaluateSettings
from blemish.models import DETECTORS, PRESETS
from blemish.models.detector import Detector
from blemish.settings import RunSettings, merge
from blemish.training.job import flat_settings

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
DECISIONS = ROOT / "docs" / "decisions"
SOURCE = ROOT / "src" / "blemish"
PACKAGES = re.compile(r"(```text\nsrc/blemish/\n)(.*?)(```)", re.DOTALL)
MODULES = re.compile(r"(<!-- modules -->\n)(.*?)(<!-- end of modules -->)", re.DOTALL)
ASSETS = {".j2": "Template of a page.", ".css": "Style of all pages.", ".html": "Template of a page."}
SIGNATURE_WIDTH = 76
"""So many characters of a signature stand beside the contents in a narrow window."""
NOTE = "<!-- Written by scripts/docs.py; run `make docs` after a change. -->\n"


def main() -> int:
    """Write the reference, or check everything; 1 where something is wrong."""
    if "--site" in sys.argv:
        site = Path(sys.argv[-1])
        bring_files(site)
        return report(list(site_problems(site)), "site: every link and anchor leads somewhere, within it")
    pages = {
        REFERENCE / "cli.md": commands_page(),
        REFERENCE / "settings.md": settings_page(),
        REFERENCE / "results.md": results_page(),
        REFERENCE / "api.md": api_page(),
        DECISIONS / "index.md": decisions_page(),
        ROOT / "README.md": figures.filled(filled(ROOT / "README.md", PACKAGES, package_lines())),
        ROOT / "docs" / "results.md": figures.filled((ROOT / "docs" / "results.md").read_text(encoding="utf-8")),
        ROOT / "docs" / "architecture.md": filled(ROOT / "docs" / "architecture.md", MODULES, module_tables()),
    }
    if "--check" not in sys.argv:
        REFERENCE.mkdir(parents=True, exist_ok=True)
        for path, text in pages.items():
            path.write_text(text, encoding="utf-8")
        return 0
    return report([*stale(pages), *link_problems()], "docs: nothing out of date, every link leads somewhere")


def report(problems: list[str], otherwise: str) -> int:
    """Print the problems, or that there are none; the exit code."""
    print("\n".join(problems) or otherwise)
    return int(bool(problems))


def commands_page() -> str:
    """Every command's --help."""
    parts = [NOTE, "# Commands\n"]
    for path, command in walk(typer.main.get_command(app), ("blemish",)):
        context = command.context_class(command, info_name=" ".join(path), terminal_width=100, max_content_width=100)
        lines = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
        parts.append(f"## `{' '.join(path)}`\n\n```text\n{lines}\n```\n")
    return "\n".join(parts)


def decisions_page() -> str:
    """A list of the decisions, by number."""
    titles = {
        path.name: path.read_text(encoding="utf-8").partition("\n")[0] for path in sorted(DECISIONS.glob("0*.md"))
    }
    lines = "".join(f"- [{title.lstrip('# ')}]({name})\n" for name, title in titles.items())
    return f"{NOTE}\n# Decisions\n\nWhy things are as they are, oldest first.\n\n{lines}"


def api_page() -> str:
    """Every public name with its signature, its docstring and those of its public methods."""
    parts = [
        NOTE,
        "# Python\n",
        "What `from blemish import ...` offers. Shapes are (height, width); images are RGB, masks True = defective.\n",
        *described_names(blemish),
        "# Numbers on arrays\n",
        "What `from blemish.stats import ...` offers, with numpy alone (a few with scipy). Maps and masks are (h, w), "
        "scores and labels (n,); higher is more anomalous, True is defective.\n",
        *described_names(blemish.stats),
    ]
    return "\n".join(parts)


def described_names(module: ModuleType) -> Iterator[str]:
    """The parts of a page for the public names of a module."""
    for name in module.__all__:
        thing = getattr(module, name)
        if isinstance(thing, str):
            yield f"## `{name}`\n\nThe version, text.\n"
            continue
        yield described(name, thing, "##")
        if inspect.isclass(thing) and not issubclass(thing, BaseException):
            yield from (described(f"{name}.{key}", member, "###") for key, member in public_members(thing))


def public_members(kind: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties that a class of ours defines, in the order of its source."""
    for name, member in vars(kind).items():
        plain = getattr(member, "__func__", member)
        is_ours = isinstance(plain, (property, cached_property)) or inspect.isfunction(plain)
        if not name.startswith("_") and is_ours and inspect.getdoc(plain):
            yield name, plain


def described(name: str, thing: Any, level: str) -> str:
    """A heading, the signature, the docstring, and where it stands in the source."""
    text = inspect.cleandoc(inspect.getdoc(thing) or "")
    text = re.sub(r"(?m)^(>>> .*(?:\n(?!\n).*)*)", r"```python\n\1\n```", text)
    text = re.sub(r"(?m)^(Args|Returns|Raises|Yields):\n((?:[ ]{4}.*\n?)+)", as_list, text)
    shown = signature_of(name, thing) if inspect.isfunction(thing) else ""
    source = f"*{thing.__module__}*\n" if level == "##" else ""
    return f"{level} `{name}`\n\n{shown}{text.rstrip()}\n\n{source}"


def signature_of(name: str, function: Any) -> str:
    """How a function is called, with types and defaults; a long one has a line for each parameter."""
    (node,) = ast.parse(dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    given = ast.unparse(node.returns).strip("'") if node.returns else "None"
    parameters = list(parameters_of(node.args))
    shown = f"{name}({', '.join(parameters)}) -> {given}"
    if len(shown) > SIGNATURE_WIDTH:
        shown = "\n".join([f"{name}(", *(f"    {one}," for one in parameters), f") -> {given}"])
    return f"```python\n{shown}\n```\n\n"


def parameters_of(args: ast.arguments) -> Iterator[str]:
    """Each parameter but self and cls, with its type and default."""
    plain = [*args.posonlyargs, *args.args]
    defaults = [*[None] * (len(plain) - len(args.defaults)), *args.defaults]
    for one, default in zip(plain, defaults, strict=True):
        if one.arg not in ("self", "cls"):
            yield parameter(one, default)
        if args.posonlyargs and one is args.posonlyargs[-1]:
            yield "/"
    if args.vararg is not None:
        yield f"*{ast.unparse(args.vararg)}"
    elif args.kwonlyargs:
        yield "*"
    for one, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield parameter(one, default)
    if args.kwarg is not None:
        yield f"**{ast.unparse(args.kwarg)}"


def parameter(one: ast.arg, default: ast.expr | None) -> str:
    """A parameter as one writes it."""
    return ast.unparse(one) + ("" if default is None else f" = {ast.unparse(default)}")


def as_list(match: re.Match[str]) -> str:
    """A section of a docstring as a list in Markdown."""
    lines = re.sub(r"\n {8}", " ", match[2]).splitlines()
    return f"**{match[1]}**\n\n" + "".join(f"- {line.strip()}\n" for line in lines)


def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """A command and those below it."""
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from walk(below, (*path, name))


def settings_page() -> str:
    """Every setting with its default, and what each detector and preset sets otherwise."""
    usual = RunSettings().detector
    parts = [
        NOTE,
        "# Settings\n",
        "In a TOML file for `--settings`, or one by one with `--set name=value`. Defaults are what a new model gets of "
        f"`{usual}`, the default detector; where another one takes something else, that stands below its own "
        "settings. `train` names those that were set and have no effect beside the others.\n",
        table(RunSettings, "", defaults_of(DETECTORS[usual])),
        "## Detectors (`model.*`)\n",
    ]
    for name, kind in DETECTORS.items():
        first = (kind.__doc__ or "").strip().partition("\n")[0]
        own = table(kind.Settings, "model.", defaults_of(kind))
        parts += [f"### `{name}`\n", f"{first}\n", own, unlike(kind, DETECTORS[usual])]
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


def table(kind: type[BaseModel], prefix: str, given: Mapping[str, object] = MappingProxyType({})) -> str:
    """A Markdown table of one model's fields, those of nested models after it; `given` replaces defaults."""
    rows, nested = [], []
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append(f"### `{prefix}{name}.*`\n\n{table(field.annotation, f'{prefix}{name}.', given)}")
        elif name != "model":
            text = (field.description or "").replace("|", "\\|")
            default = given.get(f"{prefix}{name}", field.get_default(call_default_factory=True))
            rows.append(f"| `{prefix}{name}` | `{default}` | {text} |")
    head = "| setting | default | meaning |\n|---|---|---|\n" if rows else ""
    return head + "\n".join(rows) + "\n" + "".join(f"\n{part}" for part in nested)


def defaults_of(kind: type[Detector]) -> dict[str, object]:
    """All that a new model of a detector gets unless it is set, by names with dots."""
    return flat_settings(merge(RunSettings().model_dump(exclude={"detector"}), kind.defaults))


def unlike(kind: type[Detector], usual: type[Detector]) -> str:
    """What a detector takes instead of what the general tables say, and what it takes in tiles."""
    own, others = defaults_of(kind), defaults_of(usual)
    instead = {name: value for name, value in own.items() if not name.startswith("model.") and others[name] != value}
    parts = {"Instead of the defaults above": instead, "In tiles": kind.defaults_in_tiles}
    return "".join(f"{what}: {flat(values)}.\n" for what, values in parts.items() if values)


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


class Page(HTMLParser):
    """What a page of the site links to, what it loads, and the anchors in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.loads, self.anchors = list[str](), list[str](), set[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect the attributes that name something."""
        named = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := named.get(key))}
        if tag == "a" and (link := named.get("href")):
            self.links.append(link)
        elif found := named.get("src") or (named.get("href") if tag == "link" else None):
            self.loads.append(found)


def bring_files(site: Path) -> None:
    """Copy files beside docs/ that pages link to into the site's `files/`, and lead the links there."""
    for path in sorted(site.rglob("*.html")):
        up = "../" * (len(path.relative_to(site).parts) - 1)
        text = path.read_text(encoding="utf-8")
        for link in re.findall(rf'href="({re.escape(up)}\.\./[^"#]+)"', text):
            source = ROOT / link.removeprefix(f"{up}../")
            if source.is_file():
                target = site / "files" / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
                text = text.replace(f'href="{link}"', f'href="{up}files/{source.relative_to(ROOT).as_posix()}"')
        path.write_text(text, encoding="utf-8")


def site_problems(site: Path) -> Iterator[str]:
    """Links and anchors that lead nowhere, and what would be loaded from elsewhere."""
    pages = {path.resolve(): Page(path) for path in sorted(site.resolve().rglob("*.html")) if path.name != "404.html"}
    if not pages:
        yield f"{site}: no pages; run: make docs"
    for path, page in pages.items():
        here = path.relative_to(site.resolve())
        yield from (f"{here}: loads {one}" for one in page.loads if re.match(r"[a-z]+:|//", one) and "data:" not in one)
        for link in page.links + page.loads:
            target, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:|//", link):
                continue
            where = (path.parent / unquote(target)).resolve() if target else path
            if not where.exists():
                yield f"{here}: the link {link} leads nowhere"
            elif anchor and where in pages and unquote(anchor) not in pages[where].anchors:
                yield f"{here}: the link {link} leads to no heading"


if __name__ == "__main__":
    sys.exit(main())
