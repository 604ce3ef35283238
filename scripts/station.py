"""`make station`: a station for drawn hazelnuts, which come in one after the other. Usage: station.py [OUT]"""

import secrets
import subprocess
import sys
import threading
import time
from itertools import count
from pathlib import Path

from PIL import Image

from blemish.data.synthetic.dataset import KINDS, draw_hazelnut

EVERY_S = 1.5
"""A hazelnut comes in this often."""

SIZE_PX = 256
"""As large as those trained on."""

DEFECTIVE_EVERY = 12
"""One in so many is defective: few enough that the watch over the line sees no change."""


def main() -> int:
    """Make what is missing, and serve until Ctrl-C."""
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo")
    station, incoming, password = out / "station", out / "incoming", out / "station-password"
    if code := set_up(out):
        return code
    if not password.exists():
        password.write_text(secrets.token_urlsafe(12) + "\n", encoding="utf-8")
    print(f"\nlog in as admin with the password {password.read_text().strip()} (kept in {password})\n", flush=True)
    seed = secrets.randbelow(2**32)  # others than those trained on, and than those of the start before
    threading.Thread(target=bring_hazelnuts, args=(incoming, seed), daemon=True).start()
    command = [sys.executable, "-m", "blemish", "station", str(station), "--admin-password-file", str(password)]
    try:
        return subprocess.run(command, check=False).returncode
    except KeyboardInterrupt:
        return 0


def set_up(out: Path) -> int:
    """Draw, train, export and add what is missing; the exit code."""
    data, model, onnx = out / "hazelnuts", out / "model.safetensors", out / "model.onnx"
    station, incoming = out / "station", out / "incoming"
    incoming.mkdir(parents=True, exist_ok=True)
    missing: list[tuple[Path, list[Path | str]]] = [
        (data, ["data", "synth", "hazelnuts", data, "--good", "60", "--defects", "10"]),
        (model, ["train", data, "-o", model]),
        (onnx, ["export", model, "-o", onnx]),
        (station, ["station", "add", station, "--product", "hazelnut", "--model", onnx, "--watch", incoming]),
    ]
    return next((code for made, words in missing if not made.exists() and (code := run(*words))), 0)


def run(*words: Path | str) -> int:
    """Run a command of blemish, shown; its exit code."""
    print(f"\n$ blemish {' '.join(map(str, words))}", flush=True)
    return subprocess.run([sys.executable, "-m", "blemish", *map(str, words)], check=False).returncode


def kind_of(number: int) -> str:
    """Good as those trained on; about one in twelve is defective, of one type after the other."""
    defects = [kind for kind in KINDS if not kind.endswith("/good")]
    turn, place = divmod(number, DEFECTIVE_EVERY)
    return defects[turn % len(defects)] if place == DEFECTIVE_EVERY // 2 else "train/good"


def bring_hazelnuts(incoming: Path, seed: int) -> None:
    """Draw hazelnuts one after the other, none of them twice."""
    for number in count():
        bring_hazelnut(incoming, f"{time.strftime('%H%M%S')}-{number:04}.png", number, seed)
        time.sleep(EVERY_S)


def bring_hazelnut(incoming: Path, name: str, number: int, seed: int) -> None:
    """Draw one."""
    image, _ = draw_hazelnut(kind_of(number), number, SIZE_PX, seed)
    Image.fromarray(image).save(incoming / name)


if __name__ == "__main__":
    sys.exit(main())
