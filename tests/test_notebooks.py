"""The notebooks run from their first cell to their last, as they are printed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from blemish.models import DETECTORS
from blemish.models.encoders import ENCODERS

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.md"))


@pytest.fixture
def tables_as_before() -> Iterator[None]:
    """What a notebook adds to the tables of detectors and encoders goes again."""
    before = [(table, dict(table)) for table in (DETECTORS, ENCODERS)]
    yield
    for table, content in before:
        for name in set(table) - set(content):
            table.pop(name)  # type: ignore[attr-defined]


@pytest.mark.slow
@pytest.mark.usefixtures("tables_as_before")
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_it_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mpl.use("agg")
    names: dict[str, Any] = {"__name__": page.stem}
    cells = [cell.source for cell in jupytext.read(page).cells if cell.cell_type == "code"]
    assert len(cells) >= 3
    try:
        for number, cell in enumerate(cells, start=1):
            exec(compile(cell, f"{page.name}, cell {number}", "exec"), names)
    finally:
        plt.close("all")
    assert capsys.readouterr().out.strip()
