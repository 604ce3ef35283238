"""benchmarks/gpu.py on a machine without a GPU: it says so, and shows that it works."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU it takes minutes")
def test_it_runs_without_a_gpu(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, ROOT / "benchmarks/gpu.py"], cwd=tmp_path, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "No GPU was found: not measured." in ran.stdout
    for name in ("default", "as large as ResNet-50", "as large as ViT-B"):
        assert f"{name}: judged; verdicts are not compared, as there is no GPU" in ran.stdout
        assert f"| {name}, fitted |" in ran.stdout
