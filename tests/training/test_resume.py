"""A training run killed with SIGKILL and resumed ends with the weights of one that never was."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from blemish.inference.artifact import read_artifact
from conftest import TINY, write_parts

RUN = [sys.executable, "-m", "blemish", "train"]
SETTINGS = [*TINY, "train.epochs=40", "train.save_every_s=0"]


@pytest.mark.slow
def test_killed_twice_and_resumed(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    options = ["--detector", "conv_autoencoder", *words]
    subprocess.run([*RUN, parts, "-o", tmp_path / "whole", *options], check=True, capture_output=True)
    kills = 0
    for _ in range(2):
        process = subprocess.Popen(
            [*RUN, parts, "-o", tmp_path / "cut", "--resume", *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        state = tmp_path / "cut.state"
        before = state.stat().st_mtime_ns if state.exists() else 0
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if state.exists() and state.stat().st_mtime_ns > before:
                time.sleep(0.3)  # somewhere in the middle of a step
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += not (tmp_path / "cut").exists()
    assert kills == 2, "the run was over before it could be killed"
    subprocess.run([*RUN, parts, "-o", tmp_path / "cut", "--resume", *options], check=True, capture_output=True)
    expected, found = (read_artifact(tmp_path / name) for name in ("whole", "cut"))
    assert expected[0].history == found[0].history
    assert expected[0].calibration_scores == found[0].calibration_scores
    assert all(np.array_equal(expected[1][name], found[1][name]) for name in expected[1])
