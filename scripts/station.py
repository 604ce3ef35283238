"""`make station`: a station for drawn hazelnuts, which come in one after the other. Usage: station.py [OUT]"""

import secrets
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

EVERY_S = 1.5
"""A hazelnut comes in this often."""


def main() -> int:
    """Make what is missing, and serve until Ctrl-C."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo")
    data, model, onnx = out / "hazelnuts", out / "model.safetensors", out / "model.onnx"
    station, incoming, password = out / "station", out / "incoming", out / "station-password"
    incoming.mkdir(parents=True, exist_ok=True)
    steps = [
        [] if data.exists() else ["data", "synth", "hazelnuts", data, "--good", "60", "--defects", "10"],
        [] if model.exists() else ["train", data, "-o", model],
        [] if onnx.exists() else ["export", model, "-o", onnx],
        []
        if station.exists()
        else ["station", "add", station, "--product", "hazelnut", "--model", onnx, "--watch", incoming],
    ]
    for step in filter(None, steps):
        words = list(map(str, step))
        print(f"\n$ blemish {' '.join(words)}", flush=True)
        code = subprocess.run([sys.executable, "-m", "blemish", *words], check=False).returncode
        if code:
            return code
    if not password.exists():
        password.write_text(secrets.token_urlsafe(12) + "\n", encoding="utf-8")
    print(f"\nlog in as admin with the password {password.read_text().strip()} (kept in {password})\n", flush=True)
    threading.Thread(target=bring_hazelnuts, args=(data, incoming), daemon=True).start()
    command = [sys.executable, "-m", "blemish", "station", str(station), "--admin-password-file", str(password)]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0


def bring_hazelnuts(data: Path, incoming: Path) -> None:
    """Copy the test images, which are no part of the training, again and again, under new names."""
    images = sorted((data / "test").rglob("*.png"), key=lambda path: path.stem[::-1])
    for number in range(1_000_000):
        source = images[number % len(images)]
        shutil.copy(source, incoming / f"{time.strftime('%H%M%S')}-{number:04}.png")
        time.sleep(EVERY_S)


if __name__ == "__main__":
    sys.exit(main())
