"""Cores that a process may use, as Linux's control groups limit them."""

from pathlib import Path

import pytest

from blemish.inference.processors import time_limit, usable_cores


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


FIRST = "4:memory:/a\n3:cpu,cpuacct:/docker/abc\n0::/\n"
LIMITS = {
    "container": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2),
    "no limit": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
    "no file": ({"proc/self/cgroup": "0::/system.slice\n"}, None),
    "service in a slice": (
        {
            "proc/self/cgroup": "0::/line.slice/a.service\n",
            "sys/fs/cgroup/line.slice/a.service/cpu.max": "max 100000\n",
            "sys/fs/cgroup/line.slice/cpu.max": "150000 100000\n",
        },
        1.5,
    ),
    "the host's name in a container": (
        {
            "proc/self/cgroup": FIRST,
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "300000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        3,
    ),
    "first kind without a limit": (
        {
            "proc/self/cgroup": FIRST,
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us": "100000\n",
        },
        None,
    ),
    "nonsense": ({"proc/self/cgroup": "x\n", "sys/fs/cgroup/cpu.max": "\n"}, None),
}


@pytest.mark.parametrize("case", LIMITS)
def test_limits_of_control_groups_are_read(case: str, tmp_path: Path) -> None:
    files, wanted = LIMITS[case]
    assert time_limit(write(tmp_path, files)) == wanted


def test_a_part_of_a_processor_counts_as_one_and_a_large_limit_as_all(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = usable_cores()
    for limit, wanted in ((0.5, 1), (1.5, min(2, seen)), (1e9, seen), (None, seen)):
        monkeypatch.setattr("blemish.inference.processors.time_limit", lambda found=limit: found)
        assert usable_cores() == wanted
