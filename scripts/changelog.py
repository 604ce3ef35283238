"""What is new in a version, from CHANGELOG.md: changelog.py v0.2.0. A version without a section is an error."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path

PLACE = Path(__file__).parents[1] / "CHANGELOG.md"
UNRELEASED = "Unreleased"
HEADING = re.compile(r"(\d+\.\d+\.\d+\S*), \d{4}-\d{2}-\d{2}")


def sections(text: str) -> Mapping[str, str]:
    """The lines below each heading, by version, newest first; not yet released ones under `Unreleased`.

    Raises:
        ValueError: a heading that names neither a version with its date nor what is unreleased, two equal headings, or
            one below which stands nothing, or something else than bullets.
    """
    found: dict[str, str] = {}
    for part in re.split(r"(?m)^## ", text)[1:]:
        heading, _, below = part.partition("\n")
        named = HEADING.fullmatch(heading)
        name = named[1] if named else heading
        if not named and (heading != UNRELEASED or found):
            raise ValueError(f"## {heading}: write ## 0.2.0, 2026-12-31, or first of all ## {UNRELEASED}")
        if name in found:
            raise ValueError(f"## {heading}: the second section of {name}")
        odd = [line for line in below.strip().splitlines() if line and not line.startswith(("- ", "  "))]
        if odd or not below.strip():
            raise ValueError(
                f"## {heading}: {odd[0] if odd else 'nothing'} below it; a bullet for each change is needed"
            )
        found[name] = below.strip()
    return found


def main() -> int:
    """Print the section of a version, with or without a v before it; 1 where it has none."""
    version = sys.argv[1].removeprefix("v")
    found = sections(PLACE.read_text(encoding="utf-8"))
    if version not in found:
        known = ", ".join(found)
        print(f"{PLACE.name}: no section '## {version}, DATE'; there are: {known}", file=sys.stderr)
        return 1
    print(found[version])
    return 0


if __name__ == "__main__":
    sys.exit(main())
