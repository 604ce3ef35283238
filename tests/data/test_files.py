"""Files: one process at a time holds a lock, and a process that dies holds none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from blemish.data.files import atomic_write, exclusive_lock, replace_file
from blemish.errors import DataError

HOLD = """
import sys, time
from pathlib import Path
from blemish.data.files import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), "holding"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.slow
def test_a_lock_is_held_by_one_process_and_by_none_that_was_killed(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DataError, match=r"a\.lock: another process is writing"), exclusive_lock(lock, "writing"):
            pass
        holder.kill()
    with exclusive_lock(lock, "writing"):
        assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_another_process_has_made_meanwhile_is_left(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with exclusive_lock(lock, "writing"):
        lock.unlink()
        lock.touch()
    assert lock.exists()


COUNT = """
import sys
from pathlib import Path
from blemish.data.files import exclusive_lock
from blemish.errors import DataError
counter, left = Path(sys.argv[1]), 200
while left:
    try:
        with exclusive_lock(counter.with_name("a.lock"), "counting"):
            counter.write_text(str(int(counter.read_text()) + 1))
            left -= 1
    except DataError:
        pass
"""


@pytest.mark.slow
def test_a_lock_that_is_taken_away_at_the_end_is_never_held_twice(tmp_path: Path) -> None:
    counter = tmp_path / "count"
    counter.write_text("0")
    counting = [subprocess.Popen([sys.executable, "-c", COUNT, str(counter)]) for _ in range(3)]
    assert [process.wait() for process in counting] == [0, 0, 0]
    assert counter.read_text() == "600"
    assert list(tmp_path.iterdir()) == [counter]


def test_a_file_has_the_mode_that_the_process_gives_which_is_never_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment: another thread would make its file meanwhile, or put the wrong one back."""
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patched, atomic_write(tmp_path / "a") as temporary:
            patched.setattr(os, "umask", lambda _: pytest.fail("changed"))
            temporary.touch()
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_a_lock_in_a_folder_that_is_missing_is_an_error(tmp_path: Path) -> None:
    lock = tmp_path / "missing/a.lock"
    with pytest.raises(DataError, match=r"a\.lock: cannot be written"), exclusive_lock(lock, "writing"):
        pass
    assert not lock.parent.exists()


def test_on_windows_a_name_that_is_held_open_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "new", tmp_path / "old"
    real, refused = Path.replace, 3

    def replace(self: Path, other: Path) -> Path:
        nonlocal refused
        refused -= 1
        if refused >= 0:
            raise PermissionError(13, "the file is used by another process")
        return real(self, other)

    source.write_text("new")
    target.write_text("old")
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(PermissionError):  # elsewhere a refusal is final
        replace_file(source, target)
    monkeypatch.setattr("blemish.data.files._IS_WINDOWS", True)
    replace_file(source, target)
    assert (target.read_text(), refused) == ("new", -1)
    source.write_text("newer")
    refused = 1_000_000
    monkeypatch.setattr("blemish.data.files.REPLACE_S", 0.05)
    with pytest.raises(PermissionError):
        replace_file(source, target)
