"""A training run killed with SIGKILL and resumed ends with the weights of one that never was."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blemish.inference.artifact import read_artifact
from conftest import TINY, write_parts
from reference.command import sets

RUN = [sys.executable, "-m", "blemish", "train"]
KILLED = """
import os, signal, sys
from torch.optim.optimizer import register_optimizer_step_pre_hook
from blemish.__main__ import main

what, left = sys.argv.pop(1), int(sys.argv.pop(1))

def count_down(*_):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

if what == "step":
    register_optimizer_step_pre_hook(count_down)
else:
    sys.addaudithook(lambda event, given: count_down() if event == "os.rename" and "state" in str(given[1]) else None)
main()
"""
"""The command, killed before a step, or when a state is written and has not got its name yet."""

SETTINGS = [*TINY, "train.epochs=20", "train.save_every_s=0"]


@pytest.mark.slow
def test_killed_again_and_again_and_resumed(tmp_path: Path) -> None:
    parts = write_parts(tmp_path / "parts")
    options = ["--detector", "conv_autoencoder", *sets(SETTINGS)]
    subprocess.run([*RUN, parts, "-o", tmp_path / "whole", *options], check=True, capture_output=True)
    for what, count in (("step", 3), ("step", 23), ("state", 5), ("state", 1), ("step", 17)):
        command = [sys.executable, "-c", KILLED, what, str(count), "train", parts, "-o", tmp_path / "cut", "--resume"]
        killed = subprocess.run([*command, *options], capture_output=True, text=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert not (tmp_path / "cut").exists()
    subprocess.run([*RUN, parts, "-o", tmp_path / "cut", "--resume", *options], check=True, capture_output=True)
    expected, found = (read_artifact(tmp_path / name) for name in ("whole", "cut"))
    assert expected[0].history == found[0].history
    assert expected[0].calibration_scores == found[0].calibration_scores
    assert all(np.array_equal(expected[1][name], found[1][name]) for name in expected[1])
