"""`make demo`: draw hazelnuts, train, evaluate, and say where the report is. Usage: demo.py [OUT]"""

import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    """Run the commands a user would, one after the other."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo")
    out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    data, model, report = out / "hazelnuts", out / "model.safetensors", out / "report"
    steps = [
        [] if data.exists() else ["data", "synth", "hazelnuts", str(data), "--good", "60", "--defects", "10"],
        ["train", str(data), "-o", str(model)],
        ["evaluate", str(model), str(data), "-o", str(report)],
    ]
    for step in filter(None, steps):
        print(f"\n$ blemish {' '.join(step)}", flush=True)
        code = subprocess.run([sys.executable, "-m", "blemish", *step], check=False).returncode
        if code:
            return code
    print(f"\ndone in {time.monotonic() - started:.0f} s; open {report / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
