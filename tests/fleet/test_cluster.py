"""The connection to Ray."""

import subprocess
import sys

import pytest

pytest.importorskip("ray")


@pytest.mark.slow
def test_ray_is_not_started_by_itself() -> None:
    """What still reads when a command was interrupted would start another Ray, with a dashboard and all processors."""
    program = "from blemish.fleet.cluster import load_ray; load_ray().put(1)"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 1
    assert "Ray has not been started yet" in ran.stderr, ran.stderr
