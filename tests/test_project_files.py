"""The files around the package: workflows, recipes and forms say what is true, and are read without an error."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
YAML = sorted(
    path
    for pattern in (".github/**/*.yml", ".pre-commit-config.yaml", "CITATION.cff", "deploy/**/*.yaml")
    for path in ROOT.glob(pattern)
)
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_it_is_read(path: Path) -> None:
    assert isinstance(read(path), dict)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_and_no_right_is_given_to_all_jobs(path: Path) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {}
    used = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one)] == []
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        assert all(
            step["with"]["persist-credentials"] is False
            for step in job["steps"]
            if step.get("uses", "").startswith("actions/checkout")
        )


def test_the_matrix_has_every_python_that_the_package_claims() -> None:
    jobs = read(ROOT / ".github/workflows/test.yml")["jobs"]
    claimed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if "Python :: 3." in line]
    assert jobs["everything"]["strategy"]["matrix"]["python"] == claimed


def test_the_recipe_needs_what_the_package_needs() -> None:
    needed = read(ROOT / "deploy/conda/recipe.yaml")["requirements"]["run"]
    assert [line.replace(" ", "") for line in needed[1:]] == PROJECT["dependencies"]
    assert needed[0].replace(" ", "") == f"python{PROJECT['requires-python']}"


def test_the_forms_ask_for_the_doctor() -> None:
    fault = read(ROOT / ".github/ISSUE_TEMPLATE/fault.yml")
    (asked,) = [part for part in fault["body"] if part["id"] == "doctor"]
    assert asked["validations"]["required"] is True


def test_hooks_run_what_make_check_runs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for hook in read(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]:
        tool = Path(hook["entry"].split()[0]).name
        assert f"$(BIN)/{tool}" in makefile, hook["id"]
