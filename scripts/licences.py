"""Write the licences of all packages of an environment, as each says itself: licences.py OUT.md [PYTHON]."""

import json
import subprocess
import sys
from email.message import Message
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import cast


def licence_of(package: Distribution) -> str:
    """The licence expression, else the classifiers, else the first line of the licence field."""
    metadata = cast("Message", package.metadata)  # it is one, under another type
    if expression := metadata.get("License-Expression"):
        return expression
    classifiers = [
        line.split("::")[-1].strip() for line in metadata.get_all("Classifier") or () if "License ::" in line
    ]
    return ", ".join(classifiers) or (metadata.get("License") or "not said").strip().partition("\n")[0][:80]


def rows() -> list[tuple[str, str, str]]:
    """Name, version and licence of each package of this environment, by name."""
    found = {package.name.lower(): (package.name, package.version, licence_of(package)) for package in distributions()}
    return [found[name] for name in sorted(found)]


def main() -> int:
    """Write the table; of another environment by running this script with its Python."""
    if len(sys.argv) > 2:
        listed = subprocess.run([sys.argv[2], __file__], capture_output=True, text=True, check=True).stdout
        packages = [tuple(row) for row in json.loads(listed)]
    else:
        packages = list(rows())
    if len(sys.argv) == 1:
        print(json.dumps(packages))
        return 0
    lines = ["| package | version | licence |", "|---|---|---|"]
    lines += [f"| {name} | {version} | {licence} |" for name, version, licence in packages]
    Path(sys.argv[1]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
