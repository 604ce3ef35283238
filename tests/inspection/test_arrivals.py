"""Which files are complete: told by stamps and times alone, so nothing here waits."""

import os
from pathlib import Path

import pytest

from blemish.inspection.arrivals import Arrivals, Stamp, scan


def stamp(size: int, changed_ns: int = 0) -> Stamp:
    return Stamp(size, changed_ns, changed_ns, 7)


def test_a_growing_file_is_left_alone_until_it_has_settled() -> None:
    arrivals = Arrivals(settle_s=1.0, patience_s=10.0)
    for now in range(5):
        assert arrivals.look({"a.png": stamp(now)}, now * 0.9) == []
    assert [one.name for one in arrivals.look({"a.png": stamp(4)}, 4 * 0.9 + 1.0)] == ["a.png"]
    assert arrivals.waiting == 1
    arrivals.done("a.png", stamp(4))
    assert arrivals.waiting == 0
    assert arrivals.look({"a.png": stamp(4)}, 99.0) == []


def test_the_first_to_be_written_comes_first() -> None:
    arrivals = Arrivals(0.0, 1.0)
    found = {"b": stamp(1, 5), "c": stamp(1, 4), "a": stamp(1, 5)}
    assert [one.name for one in arrivals.look(found, 0.0)] == ["c", "a", "b"]


def test_a_broken_file_is_tried_when_it_settles_and_once_more_when_patience_ends() -> None:
    arrivals = Arrivals(1.0, 10.0)
    found = {"a.png": stamp(5)}
    arrivals.look(found, 0.0)
    (first,) = arrivals.look(found, 1.0)
    assert not first.is_last_try
    arrivals.try_last("a.png")
    assert arrivals.look(found, 9.9) == []
    (last,) = arrivals.look(found, 10.0)
    assert last.is_last_try


@pytest.mark.parametrize("changed", [stamp(6), stamp(5, 1), Stamp(5, 0, 1, 7), Stamp(5, 0, 0, 8)])
def test_any_change_makes_a_file_new(changed: Stamp) -> None:
    """Its size, its time, a time that was set back, or another file of the same size and time."""
    arrivals = Arrivals(0.0, 1.0)
    arrivals.done("a.png", stamp(5))
    assert [one.stamp for one in arrivals.look({"a.png": changed}, 0.0)] == [changed]


def test_what_is_gone_is_forgotten_and_trouble_can_wait() -> None:
    arrivals = Arrivals(0.0, 1.0)
    found = {"a.png": stamp(5)}
    arrivals.look(found, 0.0)
    arrivals.try_again("a.png", 3.0)
    assert arrivals.look(found, 2.0) == []
    assert len(arrivals.look(found, 3.0)) == 1
    arrivals.look({}, 4.0)
    assert arrivals.waiting == 0


def test_a_scan_finds_images_below_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "day/.hidden").mkdir(parents=True)
    for name in ("a.PNG", "day/b.jpg", ".c.png", "d.txt", "day/.hidden/e.png", "f.png.part"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "nowhere.png").symlink_to(tmp_path / "none.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff.png")).write_bytes(b"x")
    odd: list[str] = []
    assert set(scan(tmp_path, lambda name, _why: odd.append(name))) == {"a.PNG", "day/b.jpg"}
    assert sorted(odd) == [r"'odd\udcff.png'", "nowhere.png"]
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "none")


def test_thumbnails_of_a_nas_do_not_arrive(tmp_path: Path) -> None:
    for name in ("a.png", "@eaDir/a.png/SYNOFILE_THUMB_M.jpg", "day/#recycle/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(scan(tmp_path)) == ["a.png"]
