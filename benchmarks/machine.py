"""What every benchmark says about the machine it ran on, and where it leaves its figures."""

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("blemish", "torch", "onnxruntime", "openvino", "numpy", "pillow")
FOLDER = Path("build/benchmarks")


def describe() -> str:
    """Processor, cores, load and versions in one line."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = names[0] if names else name
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    found = ", ".join(f"{package} {number}" for package in PACKAGES if (number := _version(package)))
    return f"{name}, {os.cpu_count()} cores{load}; Python {platform.python_version()}, {found}"


def write_json(name: str, result: Mapping[str, Any]) -> None:
    """The figures of a benchmark as build/benchmarks/<name>.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written: {path}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
