import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from blemish.stats import PixelScores

pytestmark = pytest.mark.slow

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "metrics_memory.py"


def measures(scores: PixelScores) -> dict[str, float]:
    return {
        "auroc": scores.auroc(),
        "average_precision": scores.average_precision(),
        "aupro": scores.aupro(),
        "aupimo": scores.aupimo(),
        "oracle_f1": scores.oracle_f1()[0],
    }


def test_large_maps_streamed_at_the_resolution_of_a_thousand_agree_with_exact_counts() -> None:
    rng = np.random.default_rng(0)
    exact, streamed = PixelScores(most_entries=2**40), PixelScores(most_entries=12 * 2**13)
    for index in range(12):
        anomaly_map = rng.gamma(1.5, 0.05, (1024, 1024)).astype(np.float32)
        mask = np.zeros((1024, 1024), bool)
        if index % 2:
            mask[200:300, 400:460] = mask[700:710, 100:120] = True
            anomaly_map[mask] += np.float32(rng.uniform(0.2, 0.9))
        for scores in (exact, streamed):
            scores.add(str(index), anomaly_map, mask)
    assert exact.resolution == 0.0
    assert 0.0 < streamed.resolution <= 2**-9
    assert measures(streamed) == pytest.approx(measures(exact), abs=1e-3)


def test_the_benchmark_stays_far_below_two_gibibytes(tmp_path: Path) -> None:
    arguments = [str(BENCHMARK), "--images", "100"]
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, cwd=tmp_path)
    out = tmp_path / "build/benchmarks/metrics_memory.json"
    rows = json.loads(out.read_text(encoding="utf-8"))["rows"]
    assert max(row["peak_mib"] for row in rows) < 1024
