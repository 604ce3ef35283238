"""What the tests share: small image sets, a small trained model, and the way to the real image sets."""

import gc
import os
import random
import resource
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from jaxtyping import install_import_hook
from PIL import Image, ImageDraw

# The shapes in the signatures of models and maps are checked at every call of every test.
install_import_hook(["blemish.models", "blemish.models.maps"], "beartype.beartype")

settings.register_profile("thorough", derandomize=True, deadline=None)  # the same examples in every run
settings.register_profile("repeatable", settings.get_profile("thorough"), max_examples=25)
settings.load_profile("repeatable")

REAL_DATA = Path(__file__).parents[1].parent / "shared" / "data"

TINY = [
    "data.size_px=[64, 64]",
    "model.latent=8",
    "train.epochs=2",
    "train.batch_size=4",
    "augment.images_of_one=2",
]
"""Settings that make a run of the paper's auto-encoder take about a second."""


def seed_generators() -> None:
    """The global generators as at the start of every test."""
    import torch  # here, for the process that hands the tests out to workers needs none

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  # scipy and scikit-learn fall back to it
    torch.default_generator.manual_seed(0)  # a tenth of the time of torch.manual_seed, which seeds GPUs too


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Tiny networks and matrices are faster so, and tests do not fight over cores: threads that wait spin."""
    import torch
    from threadpoolctl import threadpool_limits  # of scikit-learn

    torch.set_num_threads(1)
    threadpool_limits(1)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What is imported stays until the end: no garbage is looked for in it, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)  # hypothesis measures every collection, and most find little
        gc.enable()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same, whatever ran before it."""
    seed_generators()


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """So does every fixture, whichever test asks for it first."""
    seed_generators()


def draw_part(rng: np.random.Generator, defect: bool = False, side: int = 64) -> tuple[Image.Image, Image.Image]:
    """A bright disc on a dark ground, perhaps with a dark bar across it; and the bar's mask."""
    picture = Image.fromarray(rng.integers(20, 40, (side, side, 3), dtype=np.uint8))
    mask = Image.new("L", (side, side))
    radius = side * rng.uniform(0.3, 0.38)
    centre = side / 2 + rng.uniform(-2, 2, 2)
    box = [*(centre - radius), *(centre + radius)]
    ImageDraw.Draw(picture).ellipse(box, fill=(200, 170, int(rng.integers(110, 130))))
    if defect:
        x, y = centre + rng.uniform(-6, 6, 2)
        for image, colour in ((picture, (30, 20, 10)), (mask, 255)):
            ImageDraw.Draw(image).rectangle([x - 8, y - 2, x + 8, y + 2], fill=colour)
    return picture, mask


def photo(path: Path, seed: int = 0) -> Path:
    """A file with such a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_part(np.random.default_rng(seed))[0].save(path)
    return path


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Beyond it the system refuses to write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def recorded(path: Path) -> list[dict[str, Any]]:
    """The decisions in a record of `watch` or `inspect`, as another program reads them, also meanwhile."""
    if not path.exists():
        return []
    with closing(sqlite3.connect(path, timeout=30.0)) as connection:
        connection.row_factory = sqlite3.Row
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'decisions'").fetchone():
            return []
        return [dict(row) for row in connection.execute("SELECT * FROM decisions ORDER BY id")]


def write_photos(folder: Path, count: int, defects: Collection[int] = ()) -> Path:
    """A flat folder of drawn parts: 0.png and so on, those numbered in `defects` with one."""
    folder.mkdir()
    for place in range(count):
        draw_part(np.random.default_rng(place), defect=place in defects)[0].save(folder / f"{place}.png")
    return folder


def write_parts(root: Path, good: int = 12, test: int = 4, seed: int = 0) -> Path:
    """An MVTec-style folder of drawn parts with one defect type, `bar`."""
    rng = np.random.default_rng(seed)
    for folder in ("train/good", "test/good", "test/bar", "ground_truth/bar"):
        (root / folder).mkdir(parents=True)
    for place in range(good):
        draw_part(rng)[0].save(root / f"train/good/{place:03}.png")
    for place in range(test):
        draw_part(rng)[0].save(root / f"test/good/{place:03}.png")
        picture, mask = draw_part(rng, defect=True)
        picture.save(root / f"test/bar/{place:03}.png")
        mask.save(root / f"ground_truth/bar/{place:03}_mask.png")
    return root


_OPENED: list[Counter[Path]] = []


def _count_opened(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _OPENED and isinstance(arguments[0], str):
        _OPENED[-1][Path(arguments[0])] += 1


@cache
def _add_hook() -> None:
    sys.addaudithook(_count_opened)  # one for all tests, when it is first needed: a hook cannot be taken away


@pytest.fixture
def opened() -> Iterator[Counter[Path]]:
    """How often each file was opened since the test began."""
    _add_hook()
    _OPENED.append(Counter())
    yield _OPENED[-1]
    _OPENED.pop()


@pytest.fixture(scope="module")
def undrawn() -> Iterator[None]:
    """Charts are laid out and not drawn, for tests of a module that look at no chart: drawing is half of a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("blemish.evaluation.report.figures.to_svg", lambda _figure: b"<svg></svg>")
        yield


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A real browser, for slow tests."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS.split())
        yield browser
        browser.close()


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A fresh small MVTec-style folder that a test may spoil."""
    return write_parts(tmp_path / "parts")


def draw_discs(count: int, side: int = 256, seed: int = 0) -> list[Image.Image]:
    """Smooth round parts in slightly different places, each photo with noise of its own."""
    rng, (rows, columns) = np.random.default_rng(seed), np.mgrid[:side, :side]
    discs = []
    for _ in range(count):
        row, column = rng.normal(side / 2, side / 50, 2)
        cover = 1 / (1 + np.exp(np.hypot(rows - row, columns - column) - 0.3 * side))
        values = 30 + 120 * cover + rng.normal(0, 2, (side, side))
        discs.append(Image.fromarray(np.uint8(values.clip(0, 255))))
    return discs


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A file or folder that the first worker to ask for it makes, and all workers of a run read."""
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    path = root / "shared" / name
    with FileLock(root / f"{name}.lock"):
        if not path.exists():
            making = root / "making" / name
            for folder in (path.parent, making.parent):
                folder.mkdir(exist_ok=True)
            make(making)
            making.rename(path)
    return path


@pytest.fixture(scope="session")
def shared_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MVTec-style folder; read only."""
    return make_once(tmp_path_factory, "parts", write_parts)


@pytest.fixture(scope="session")
def model_file(shared_parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small trained model; read only."""

    def train(path: Path) -> None:
        from blemish.training.settings import make_settings
        from blemish.training.train import train_model

        train_model(shared_parts, path, make_settings("conv_autoencoder", assignments=TINY))

    return make_once(tmp_path_factory, "model.safetensors", train)


@pytest.fixture(scope="session")
def onnx_file(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small trained model, exported; read only."""

    def export(path: Path) -> None:
        from blemish.training.export import export_model

        export_model(model_file, path)

    return make_once(tmp_path_factory, "model.onnx", export)


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """The folder of a real image set by name; the test is skipped where it is not at hand."""

    def find(name: str) -> Path:
        folder = REAL_DATA / name
        if not folder.is_dir():
            pytest.skip(f"the real image set {name} is not at hand: expected it in ../shared/data beside the checkout")
        return folder

    return find
