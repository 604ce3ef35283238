"""The examples in the documentation run as they are printed."""

import math
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer

from blemish.cli import app
from blemish.data.synthetic.shapes import extent_px
from blemish.evaluation.measures import PixelSet
from blemish.models.detector import ImageShape
from blemish.settings import RunSettings
from blemish.stats import Counts, more_images_needed, smallest_rate
from blemish.training.job import flat_settings
from blemish.training.settings import make_settings
from reference.plain_loop import ListOfBatches

DOCS = Path(__file__).parents[1] / "docs"


CUT = re.compile(r"^(?!\||<!--|```)[^\n]*\S[^\n]*\n(\|[^\n]*)", re.MULTILINE)
"""A row of a table behind a line of text: a page shows both as one paragraph."""


def test_no_table_is_cut_by_a_paragraph() -> None:
    assert CUT.findall("| a |\ntext\n| b |\n") == ["| b |"]
    found = {str(page): CUT.findall(page.read_text(encoding="utf-8")) for page in sorted(DOCS.rglob("*.md"))}
    assert {name: rows for name, rows in found.items() if rows} == {}


def test_the_page_of_settings_has_the_defaults_that_a_new_model_gets() -> None:
    page = (DOCS / "reference/settings.md").read_text(encoding="utf-8")
    general, *sections = re.split(r"(?m)^### `(?=\w+`$)", page)
    for kind, part in [(RunSettings().detector, general), *((text.split("`")[0], text) for text in sections)]:
        usual = flat_settings(make_settings(kind).model_dump())
        told = re.findall(r"(?m)^\| `([\w.]+)` \| `(.*?)` \|", part)
        instead = re.search(r"(?m)^Instead of the defaults above: (.*)$", part)
        told += re.findall(r"`([\w.]+)=(.*?)`", instead[1]) if instead else []
        assert told
        assert [(name, value) for name, value in told if value.strip("()") != str(usual[name]).strip("[()]")] == []


def test_the_table_of_a_certificate_is_that_of_its_images() -> None:
    page = (DOCS / "howto/certify.md").read_text(encoding="utf-8")
    rate, images = re.findall(r"at most ([\d.]+) % of new good images are flagged \(from (\d+) good", page)[0]
    assert float(rate) / 100 >= smallest_rate(int(images))
    rows = re.findall(r"(?m)^([\d.]+) % +(\w+) +(\w+)$", page)
    assert len(rows) == 3
    for asked, *told in rows:
        missing = [more_images_needed(int(images), float(asked) / 100, sure) for sure in (None, 0.95)]
        assert told == [str(count or "enough") for count in missing]


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `blemish` command that a page has on a line of its own."""
    for block in re.findall(r"(?ms)^```\w*\n(.*?)^```", page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            if line.lstrip("$ ").startswith("blemish "):
                words = shlex.split(line.lstrip("$ "), comments=True)[1:]
                yield list(takewhile(lambda word: word not in ("|", ">", ";", "&&", "&"), words))


def test_help_is_in_words_of_the_command_line() -> None:
    """What Python calls a type, or no value, is nothing that can be typed."""
    page = (DOCS / "reference/cli.md").read_text(encoding="utf-8")  # of every command, kept true by scripts/docs.py
    assert re.findall(r"(?m)^.*(?:\blist\[|\bNone\b).*$", page) == []
    commands: list[Any] = [typer.main.get_command(app)]
    for command in commands:
        commands += getattr(command, "commands", {}).values()
    options = [
        (command.name, option) for command in commands for option in command.params if option.default is not None
    ]
    assert [(name, option.name) for name, option in options if "Default: " in (option.help or "")] == []


def test_every_command_of_the_pages_exists_with_its_options() -> None:
    root = typer.main.get_command(app)
    count = 0
    for page in (DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md"))):
        for words in commands(page):
            command: Any = root
            while hasattr(command, "commands"):
                name = words[0] if words[0] in command.commands or command is root else "serve"
                assert name in command.commands, f"{page.name}: blemish {' '.join(words)}"
                command, words = command.commands[name], words[name == words[0] :]
            known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
            given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
            assert given <= known, f"{page.name}: blemish {command.name}: {given - known}"
            count += 1
    assert count > 100


def test_what_pages_take_from_the_demo_is_what_it_writes() -> None:
    written = (DOCS.parent / "scripts/demo.py").read_text(encoding="utf-8")
    for page in (DOCS.parent / "README.md", *DOCS.rglob("*.md")):
        for name in re.findall(r"build/demo/([\w.]+)", page.read_text(encoding="utf-8")):
            assert f'"{name}"' in written, f"{page}: {name}"


def code_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("block", "name"), [(0, "MeanImage"), (1, "MeanFeatures")])
def test_a_detector_of_the_how_to_works(block: int, name: str) -> None:
    names: dict[str, Any] = {"__name__": name}
    exec(compile(code_blocks("howto/add-a-detector.md")[block], "add-a-detector.md", "exec"), names)
    kind, shape = names[name], ImageShape(3, 32, 48)
    detector, images = kind(kind.Settings(), shape).eval(), torch.rand(4, *shape)
    detector.fit(ListOfBatches([images[:2], images[2:]]), None)
    with torch.no_grad():
        maps = detector(images)
        assert maps.shape == (4, 32, 48)
        assert 0 <= maps.min() < maps.max()
        restored = kind(kind.Settings(), shape).eval()
        restored.restore(detector.state_dict())
        assert torch.equal(restored(images), maps)


@pytest.mark.parametrize("page", sorted(DOCS.glob("howto/add-a*.md")), ids=lambda page: page.stem)
def test_the_code_of_a_how_to_passes_make_check(page: Path) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for code in code_blocks(f"howto/{page.name}"):
        for command in (["check"], ["format", "--diff"]):
            stdin = ["--quiet", "--stdin-filename", "src/blemish/models/new.py", "-"]
            done = subprocess.run(
                [ruff, *command, *stdin], cwd=DOCS.parent, input=code, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr


def test_the_measure_of_the_how_to_works() -> None:
    names: dict[str, Any] = {"__name__": "false_positive_rate"}
    exec(compile(code_blocks("howto/add-a-measure.md")[0], "add-a-measure.md", "exec"), names)
    assert names["false_positive_rate"](Counts(tp=0, fp=1, tn=3, fn=0)) == 0.25
    assert math.isnan(names["false_positive_rate"](Counts(tp=1, fp=0, tn=0, fn=0)))
    pixels = PixelSet(levels=None, counts=Counts(tp=5, fp=2, tn=6, fn=0), aupro_limit=0.3)  # type: ignore[arg-type]
    assert (names["ROW"].function(pixels), names["ROW"].group) == (0.25, "pixel")


def test_the_defect_of_the_how_to_works() -> None:
    names: dict[str, Any] = {"__name__": "water_ring"}
    exec(compile(code_blocks("howto/add-a-defect.md")[0], "add-a-defect.md", "exec"), names)
    image = np.full((64, 64, 3), 0.5, np.float32)
    changed, mask = names["WATER_RING"](image, None, 24.0, 0.1, np.random.default_rng(0))
    assert np.abs(changed - image)[mask].mean() == pytest.approx(0.1, abs=1e-3)
    assert (changed == image)[~mask].all()
    assert extent_px(mask) == pytest.approx(24.0, abs=2.0)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as a site, built without a warning."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, folder / "docs")
    shutil.copy(DOCS.parent / "zensical.toml", folder)
    zensical = Path(sys.executable).with_name("zensical")
    built = subprocess.run([zensical, "build", "--strict", "--clean"], cwd=folder, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder / "build" / "site"


def check_links(site: Path) -> subprocess.CompletedProcess[str]:
    program = DOCS.parent / "scripts" / "docs.py"
    return subprocess.run([sys.executable, program, "--site", site], capture_output=True, text=True)


@pytest.mark.slow
def test_every_link_of_the_site_leads_somewhere(site: Path, tmp_path: Path) -> None:
    checked = check_links(site)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    shutil.copytree(site, tmp_path / "site")
    page = tmp_path / "site" / "tutorial.html"
    page.write_text(page.read_text().replace("</body>", '<a href="nowhere.html">x</a></body>'))
    assert "tutorial.html: the link nowhere.html leads nowhere" in check_links(tmp_path / "site").stdout


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Nothing of each request."""


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


PAGES = ("index", "tutorial", "gallery", "results", "reference/cli", "reference/api", "notebooks/first-model")


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_the_site_fits_a_telephone_and_a_desk_and_asks_nobody_else(width: int, served: str, chromium: Any) -> None:
    asked, wrong = [], []
    page = chromium.new_page(viewport={"width": width, "height": 900})
    page.on("request", lambda one: asked.append(one.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda one: wrong.append(f"{one.status} {one.url}") if one.status >= 400 else None)
    for name in PAGES:
        page.goto(f"{served}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)"), name
    assert len(asked) > len(PAGES)
    assert [url for url in asked if not url.startswith((served, "data:"))] == []
    assert wrong == []


@pytest.mark.slow
def test_the_site_is_searched_and_has_a_dark_side(served: str, chromium: Any) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{served}/index.html")
    field = page.get_by_placeholder("Search")
    for _ in range(60):  # the page listens to its keys a moment after it is there
        page.keyboard.press("Control+k")
        with suppress(sync_api.TimeoutError):
            field.wait_for(timeout=1000)
            break
    field.fill("certificate")
    page.get_by_text("Every model file carries a certificate").wait_for(timeout=60_000)
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = chromium.new_page(color_scheme="dark")
    dark.goto(f"{served}/index.html")
    assert page.evaluate(colour) == "rgb(255, 255, 255)" != dark.evaluate(colour)
