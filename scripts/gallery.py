"""Make one real page of every kind from drawn hazelnuts, and its picture in docs/img/: gallery.py [OUT] [--pictures]

The pages stay in OUT, build/gallery if nothing is said; what is there already is not made again. `--pictures` opens
each in Chromium and writes docs/img/gallery-NAME.jpg, and at a narrow width OUT/NAME-narrow.jpg to look at.
docs/gallery.md has the same commands beside the pictures.
"""

import io
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image

ROOT = Path(__file__).parents[1]
WIDE, NARROW, SHOWN_PX = 1280, 420, 1500


class Page(NamedTuple):
    """A page below OUT, and the commands that make it, run in OUT."""

    path: str
    commands: tuple[str, ...]


MODEL = (
    "blemish data synth hazelnuts nuts --good 60 --defects 5",
    "blemish train nuts -o model.safetensors",
)
PAGES = {
    "check": Page("check/check.html", ("blemish data check nuts -o check",)),
    "report": Page("report/report.html", ("blemish evaluate model.safetensors nuts -o report",)),
    "threshold": Page("threshold/threshold.html", ("blemish sweep threshold report -o threshold",)),
    "challenge": Page(
        "challenge/challenge.html",
        ("blemish challenge model.safetensors nuts/test/good -o challenge --types crack,stain --defects 12",),
    ),
    "compare": Page(
        "compare/comparison.html",
        ("blemish compare nuts -o compare --detectors padim,patchcore --seeds 2",),
    ),
    "inspect": Page("inspected/index.html", ("blemish inspect model.safetensors nuts/test -o inspected",)),
}
"""By the name of the picture."""


def main() -> int:
    """Make what is missing; the exit code."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    out = Path(words[0] if words else "build/gallery")
    out.mkdir(parents=True, exist_ok=True)
    steps = list(zip((out / "nuts", out / "model.safetensors"), MODEL, strict=True))
    steps += [(out / page.path, command) for page in PAGES.values() for command in page.commands]
    for made, command in steps:
        if made.exists():
            continue
        print(f"\n$ {command}", flush=True)
        code = subprocess.run([sys.executable, "-m", *command.split()], cwd=out, check=False).returncode
        if code not in (0, 1) or not made.exists():  # 1: something stands out, or is anomalous
            return code or 2
    if "--pictures" in sys.argv:
        take_pictures(out)
    return 0


def take_pictures(out: Path) -> None:
    """The upper part of each page, wide for the documentation and narrow to be looked at."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        for width in (WIDE, NARROW):
            page = browser.new_page(viewport={"width": width, "height": SHOWN_PX * width // WIDE})
            for name, (path, _) in PAGES.items():
                page.goto((out / path).resolve().as_uri(), timeout=120_000)
                picture = Image.open(io.BytesIO(page.screenshot(timeout=120_000))).convert("RGB")
                wide = ROOT / "docs" / "img" / f"gallery-{name}.jpg"
                target = wide if width == WIDE else out / f"{name}-narrow.jpg"
                picture.resize((min(width, 900), round(picture.height * min(width, 900) / width))).save(
                    target, quality=80, optimize=True
                )
                overrun = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if overrun > 0:
                    print(f"{path}: runs {overrun} px past the edge at {width} px")
        browser.close()


if __name__ == "__main__":
    sys.exit(main())
