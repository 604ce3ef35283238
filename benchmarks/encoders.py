"""Packaged encoders under detectors on pretrained features, on several image sets: one row a set, detector and encoder.

    python benchmarks/encoders.py DATA [DATA ...] --seeds 1 -o build/encoders

With `data.speed=fast`, so that encoders are compared at one size; columns and means as in default_detector.py. It goes
on where it was stopped, and writes OUT/encoders.json after each set.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from default_detector import Part, over_sets, run_set, to_markdown
from machine import describe

from blemish.data.files import atomic_write

ENCODERS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
DETECTORS = ("feature_ensemble", "patchcore")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--encoders", default=",".join(ENCODERS), help="names for model.encoder, with commas between")
    parser.add_argument("--detectors", default=",".join(DETECTORS), help="some detectors, with commas between")
    parser.add_argument("-o", "--out", type=Path, default=Path("build/encoders"))
    arguments = parser.parse_args()
    detectors = arguments.detectors.split(",")
    parts = [
        Part(name, tuple(detectors), ("data.speed=fast", f"model.encoder={name}"))
        for name in arguments.encoders.split(",")
    ]
    rows: list[dict[str, Any]] = []
    for data in arguments.data:
        rows += run_set(data, arguments.seeds, detectors, arguments.out, parts)
        content = {"machine": describe(), "seeds": arguments.seeds, "rows": rows, "means": over_sets(rows)}
        with atomic_write(arguments.out / "encoders.json") as temporary:
            temporary.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(f"{describe()}\n\n{to_markdown(rows)}")


if __name__ == "__main__":
    main()
