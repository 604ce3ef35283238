"""Hostile files, names, settings and models, each given to the real command line; counts what must never happen.

    python benchmarks/hostile.py --count 2000 --seed 0 [--workers 2] [--kinds image,mask,...,stop,stream]

Each case is drawn from a seed of its own, (seed, number), and runs in a forked process with a time limit and a memory
limit; some are interrupted at a drawn moment, some have a closed or full standard stream. Wrong are: a traceback, more
than 20 s of processor time or 90 s of waiting, a death by a signal, an exit code that is not among those the case may
have, an error that is not one line, a control character on the terminal, a file that is left half written, and a file
of the user's that was changed or is gone. Prints a table, every failure with the way to repeat it (--only NUMBER), and
writes hostile.json. Ends with 1 where anything is wrong.
"""

import argparse
import hashlib
import io
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

# Before numpy and torch are imported: a forked process has none of its parent's threads, and waits or spins for them.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")

import numpy as np
import tifffile
from PIL import Image
from safetensors.numpy import load_file

CPU_S = 20
"""Processor time of a case; on a quiet machine the clock shows the same."""
WAIT_S = 90.0
"""By the clock of a quiet machine, more on a busy one: what waits for ever, as on a pipe, uses no processor."""
MEMORY_BYTES = 12 * 2**30
TINY = ("data.size_px=[64, 64]", "model.latent=4", "train.epochs=1", "train.max_steps=2", "train.batch_size=4")
SEAL_BYTES = 84
"""At the end of an exported file; the last 64 are a SHA-256 of all before it."""

VALUES = (
    None,
    True,
    -1,
    0,
    3,
    0.5,
    1e308,
    10**9,
    10**30,
    "",
    "x",
    "x" * 3000,
    "(.*)*x",
    "../../secret",
    [],
    {},
    [1, 2, 3],
)

# fmt: off
NUMBERS = (
    "0", "1", "-1", "-0.0", "1e-320", "1e-100", "1e-7", "0.5", "0.05", "3", "7", "64", "1e6", "1e13", "1e308", "1e400",
    "inf", "-inf", "nan", "true", "false", "None", "''", "[1]", "{}", "9" * 30, "9" * 6000, "[" * 4000, "0x10", "1_0",
    "[64, 64]", "[0, 64]", "[[0, 0], [1, 0], [1, 1]]", "2020-01-01", "\x1b[31m", "é", "x" * 3000, '"\\u0000"',
)
NAMES = (
    "\x1b[2J", "[bold]", ":smile:", "\u202e", "\r", "\n", "\t", "\x07", "\x9b31m", "=1+2", "+", "-", "@", "'", '"', ",",
    "ü", "漢", "🙂", " ", "  ", ".", "..", "%s", "{0}", "$(x)", "`x`", "*", "?", "\\", "~", "x" * 60, "ü" * 60,
    "\udcff",
)
# fmt: on


@dataclass
class Case:
    """A command, the exit codes it may have, and whether its error must be a line that says whose it is."""

    arguments: list[str]
    allowed: tuple[int, ...] = (0, 1, 2)
    kept: dict[Path, str] = field(default_factory=dict)
    """Files that must stay as they are, by their SHA-256."""
    replaced: Path | None = None
    """An export that the command may write again, as the tool wrote it; it must be whole in the end."""
    stop_s: float | None = None
    """When Ctrl-C comes."""
    streams: tuple[str, ...] = ()
    """What the standard output and error are: "closed", "full", or "unread", a pipe whose reader has gone."""


@dataclass
class Outcome:
    """What a case did."""

    number: int
    kind: str
    arguments: list[str]
    code: int
    seconds: float
    faults: list[str]
    said: str


@dataclass(frozen=True)
class Material:
    """What cases are made of."""

    photos: Path
    trained: Path
    exported: Path


Draw = Callable[[np.random.Generator, Path, Material], Case]


def main() -> int:
    """Make the material, run the cases, say what went wrong."""
    options = parse()
    root = Path(tempfile.mkdtemp(prefix="hostile-"))
    print(f"seed {options.seed}, {options.count} cases, in {root}", flush=True)
    material = make_material(root / "material")
    import_everything()
    numbers = [options.only] if options.only is not None else range(options.count)
    outcomes: list[Outcome] = []
    running: dict[int, tuple[int, str, Case, Path, float]] = {}
    kinds = options.kinds.split(",")
    started = time.monotonic()
    for number in numbers:
        rng = np.random.default_rng([options.seed, number])
        kind = kinds[number % len(kinds)]
        folder = root / f"{number:05}"
        folder.mkdir()
        case = KINDS[kind](rng, folder, material)
        while len(running) >= options.workers:
            collect(running, outcomes, options.keep)
        running[start(case, folder)] = (number, kind, case, folder, time.monotonic())
        if number and number % 100 == 0:
            wrong = sum(bool(one.faults) for one in outcomes)
            print(f"{number} begun, {wrong} wrong, {time.monotonic() - started:.0f} s", flush=True)
    while running:
        collect(running, outcomes, options.keep)
    if not (options.keep or options.only is not None or any(one.faults for one in outcomes)):
        shutil.rmtree(root, ignore_errors=True)  # folders of failures are kept, and the material with them
    return report(outcomes, options)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--only", type=int, help="one case by its number, its folder kept")
    parser.add_argument("--keep", action="store_true", help="keep the folders of all cases, not only of failures")
    parser.add_argument("--out", type=Path, default=Path("hostile.json"))
    return parser.parse_args()


# Material ------------------------------------------------------------------------------------------------------------


def make_material(folder: Path) -> Material:
    """A small MVTec-style folder of drawn discs, a model trained on it, and its export."""
    rng = np.random.default_rng(0)
    photos = folder / "photos"
    for name in ("train/good", "test/good", "test/bar", "ground_truth/bar"):
        (photos / name).mkdir(parents=True)
    for place in range(14):
        Image.fromarray(part(rng)).save(photos / f"train/good/{place:03}.png")
    for place in range(2):
        Image.fromarray(part(rng)).save(photos / f"test/good/{place:03}.png")
        mask = np.zeros((64, 64), np.uint8)
        mask[28:34, 20:44] = 255
        photo = part(rng)
        photo[mask > 0] = 20
        Image.fromarray(photo).save(photos / f"test/bar/{place:03}.png")
        Image.fromarray(mask).save(photos / f"ground_truth/bar/{place:03}_mask.png")
    trained, exported = folder / "model.safetensors", folder / "model.onnx"
    blemish = [sys.executable, "-m", "blemish"]
    sets = [word for one in TINY for word in ("--set", one)]
    command = [*blemish, "train", str(photos), "-o", str(trained), "--detector", "conv_autoencoder", *sets]
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run([*blemish, "export", str(trained), "-o", str(exported)], check=True, capture_output=True)
    return Material(photos, trained, exported)


def part(rng: np.random.Generator) -> np.ndarray:
    """A bright disc with some noise on a dark ground, (64, 64, 3)."""
    rows, columns = np.mgrid[:64, :64] - 31.5 + rng.uniform(-2, 2)
    disc = (rows**2 + columns**2 < rng.uniform(20, 24) ** 2)[..., None]
    noise = rng.integers(0, 20, (64, 64, 3))
    return np.where(disc, 180 + noise, 20 + noise).astype(np.uint8)


def import_everything() -> None:
    """So that the forked cases need not.

    Raises:
        RuntimeError: a thread was started by it, which the forked cases would lack.
    """
    import blemish.cli
    import blemish.evaluation.data_check.data_check
    import blemish.evaluation.evaluate
    import blemish.inspection.certify
    import blemish.inspection.inspect
    import blemish.inspection.watch
    import blemish.training.train  # noqa: F401

    if threads := sum(1 for _ in Path("/proc/self/task").iterdir()) - 1:
        raise RuntimeError(f"{threads} threads run beside the first; cases forked from here would wait for them")


# Kinds of cases ------------------------------------------------------------------------------------------------------


def pick(rng: np.random.Generator, things: tuple | list):  # type: ignore[no-untyped-def,type-arg]
    return things[int(rng.integers(len(things)))]


def image_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """A file that may be an image, inspected, checked or trained on among good ones."""
    photos = folder / "photos"
    shutil.copytree(material.photos / "train/good", photos)
    hostile_image(rng, photos / f"x.{pick(rng, ('png', 'jpg', 'bmp', 'tif', 'webp', 'PNG', 'jpeg', 'tiff'))}", material)
    return pick(rng, commands_on(folder, photos, material, rng))  # type: ignore[no-any-return]


def commands_on(folder: Path, photos: Path, material: Material, rng: np.random.Generator) -> list[Case]:
    model = str(pick(rng, (material.trained, material.exported)))
    skip = ["--skip-bad"] if rng.random() < 0.5 else []
    out = ["-o", str(folder / "out")] if rng.random() < 0.5 else []
    form = ["--format", pick(rng, ("table", "json", "csv"))]
    sets = [word for one in TINY for word in ("--set", one)]
    watch = ["watch", model, str(photos), "--until-idle", "0", "--settle", "0", "--patience", "0"]
    return [
        *[Case(["inspect", model, str(photos), *skip, *out, *form], (0, 1, 2, 3))] * 4,
        Case([*watch, "--to", str(folder / "record.csv"), "--move-anomalous", str(folder / "moved")]),
        Case([*watch, "--to", str(folder / "record.jsonl")]),
        Case(["data", "check", str(photos), *out]),
        Case(["certify", model, "--good", str(photos), "--dry-run", *skip]),
        Case(["train", str(photos), "-o", str(folder / "m"), "--detector", "conv_autoencoder", *skip, *sets]),
    ]


def hostile_image(rng: np.random.Generator, path: Path, material: Material) -> None:
    """One file, or something else under its name."""
    odd = int(rng.integers(17))
    if odd > 13:
        content = odd_tiff(rng) if odd < 16 else animation(rng)
        path.write_bytes(damaged(rng, content) if rng.random() < 0.3 else content)
    elif odd == 0:
        path.write_bytes(rng.bytes(int(rng.integers(0, 3000))))
    elif odd == 1:
        path.mkdir()
    elif odd == 2:
        path.symlink_to(pick(rng, (path.name, "/dev/zero", "/dev/null", "nowhere", str(material.photos), "..")))
    elif odd == 3:
        os.mkfifo(path)
    elif odd == 4:
        path.write_bytes(claimed_png(int(rng.integers(1, 2**31)), int(rng.integers(1, 2**31)), rng.bytes(40)))
    elif odd == 5:
        path.write_bytes(claimed_png(int(rng.integers(1, 9000)), int(rng.integers(1, 9000)), b""))
    else:
        content = encoded_image(rng, path.suffix.lower())
        path.write_bytes(damaged(rng, content) if odd < 11 else content)


def odd_tiff(rng: np.random.Generator) -> bytes:
    """A TIFF of a drawn type, photometric interpretation, order of channels and bytes, compression and orientation."""
    kind = pick(rng, (np.uint8, np.uint16, np.int8, np.int16, np.uint32, np.int32, np.float16, np.float32, np.float64))
    channels, is_planar = int(pick(rng, (1, 1, 2, 3, 3, 4, 5))), bool(rng.random() < 0.3)
    values = rng.integers(0, 128, (64, 64, channels))
    pixels = (values / 127 if np.issubdtype(kind, np.floating) else values).astype(kind)
    grey = ("minisblack", "miniswhite", "cfa") if channels == 1 else ("minisblack", "miniswhite")  # a CFA is one plane
    photometric = pick(rng, grey) if channels < 3 else pick(rng, ("rgb", "minisblack"))
    options = {
        "photometric": photometric,
        "byteorder": pick(rng, "<>"),
        "bigtiff": bool(rng.random() < 0.3),
        "compression": pick(rng, (None, None, "zlib")),
        "tile": pick(rng, (None, None, (16, 32))),
        "subfiletype": int(pick(rng, (0, 0, 0, 0, 1))),
        "extratags": [(274, "H", 1, int(rng.integers(0, 10)), True)],
    }
    if channels > 1:
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1)) if is_planar else pixels
        options["planarconfig"] = "separate" if is_planar else "contig"
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels if channels > 1 else pixels[:, :, 0], **options)
    return stream.getvalue()


def animation(rng: np.random.Generator) -> bytes:
    """Several frames in one file."""
    frames = [Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)) for _ in range(3)]
    stream = io.BytesIO()
    form = pick(rng, ("PNG", "WEBP", "TIFF", "GIF", "MPO"))
    frames[0].save(stream, format=form, save_all=True, append_images=frames[1:])
    return stream.getvalue()


def encoded_image(rng: np.random.Generator, suffix: str) -> bytes:
    """A picture of an odd mode and size in the format of this ending, or in another where it cannot hold it."""
    side = (1, 2, 3, 16, 63, 64, 64, 64, 100, 400, 3000)
    size = (pick(rng, side), pick(rng, side))
    mode = pick(rng, ("L", "RGB", "RGB", "RGBA", "LA", "P", "I;16", "I", "F", "1", "CMYK", "YCbCr", "LAB", "HSV"))
    grey = rng.integers(0, 256, (size[1], size[0]), dtype=np.uint8)
    if rng.random() < 0.3:
        grey[:] = int(rng.integers(0, 256))
    try:
        image = Image.fromarray(grey.astype(np.uint16) * 16) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    except ValueError:
        image = Image.fromarray(grey).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(0, 12))
    more = {"save_all": True, "append_images": [image]} if suffix.startswith(".tif") and rng.random() < 0.3 else {}
    for form in (Image.registered_extensions()[suffix], "PNG", "TIFF"):
        stream = io.BytesIO()
        try:
            image.save(stream, format=form, exif=exif, **more)
            return stream.getvalue()
        except (OSError, ValueError, KeyError, TypeError, SystemError, struct.error):
            continue
    return stream.getvalue()


def damaged(rng: np.random.Generator, content: bytes) -> bytes:
    """Bytes turned, cut off, left out, doubled or filled with zeros."""
    changed = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        if len(changed) < 4:
            break
        at, length = int(rng.integers(len(changed))), int(rng.integers(1, 60))
        way = int(rng.integers(6))
        if way == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif way == 1:
            del changed[at:]
        elif way == 2:
            del changed[at : at + length]
        elif way == 3:
            changed[at:at] = changed[at : at + length] * int(rng.integers(1, 5))
        elif way == 4:
            changed[at : at + length] = bytes(length)
        else:
            changed[at : at + 4] = struct.pack("<I", int(pick(rng, (0, 1, 2**31 - 1, 2**32 - 1, 65536, 10**9))))
    return bytes(changed)


def claimed_png(width: int, height: int, data: bytes) -> bytes:
    """A PNG whose header says so many pixels; without data, so many zeros in little room where that is possible."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    if not data and width * height < 40_000_000:
        data = zlib.compress(bytes((width + 1) * height), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def mask_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """An evaluation with one odd mask, missing mask, odd test image or odd place."""
    photos = folder / "photos"
    shutil.copytree(material.photos, photos)
    mask = photos / "ground_truth/bar/000_mask.png"
    mask.unlink()
    odd = int(rng.integers(10))
    if odd > 7:
        odd_mask(rng, mask)
    elif odd == 0:
        Image.fromarray(np.full((64, 64), int(pick(rng, (0, 1, 127, 255))), np.uint8)).save(mask)
    elif odd == 1:
        Image.fromarray(rng.integers(0, 256, (int(rng.integers(1, 90)), 64), dtype=np.uint8)).save(mask)
    elif odd == 2:
        mask.with_name(pick(rng, ("000.png", "x_mask.png", "000_mask.jpg", "000_mask_1.png"))).write_bytes(
            rng.bytes(99)
        )
    elif odd < 6:
        hostile_image(rng, mask, material)
    else:
        (photos / "test/bar/000.png").unlink()
        hostile_image(rng, photos / "test/bar/000.png", material)
    skip = ["--skip-bad"] if rng.random() < 0.5 else []
    model = str(pick(rng, (material.trained, material.exported)))
    evaluate = Case(["evaluate", model, str(photos), "-o", str(folder / "out"), *skip], (0, 2))
    return pick(rng, [evaluate, Case(["data", "check", str(photos)])])  # type: ignore[no-any-return]


def odd_mask(rng: np.random.Generator, mask: Path) -> None:
    """A right mask in an odd encoding, or where no mask is looked for."""
    marked = np.zeros((64, 64), bool)
    marked[28:34, 20:44] = True
    marked ^= bool(rng.random() < 0.3)
    image = Image.fromarray(np.uint8(marked) * np.uint8(pick(rng, (1, 127, 255))))
    mode = pick(rng, ("L", "1", "P", "RGB", "RGBA", "LA", "I;16", "CMYK", "F"))
    image = image.convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    place = pick(rng, (mask, mask, mask, mask.parent.parent / "good/000_mask.png", mask.parent.parent / "000_mask.png"))
    place.parent.mkdir(exist_ok=True)
    for form in (pick(rng, ("PNG", "JPEG", "TIFF", "BMP", "WEBP")), "PNG", "TIFF"):
        try:
            image.save(place, format=form, quality=int(pick(rng, (20, 75, 95))))
            return
        except OSError:
            continue


def name_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """Good photos under names that nobody means, some of them damaged."""
    photos = folder / "".join(pick(rng, NAMES[:20]) for _ in range(2)).replace("\n", "n").strip(". ")
    photos = photos if photos != folder and photos.parent == folder else folder / "photos"
    shutil.copytree(material.photos / "train/good", photos)
    for _ in range(int(rng.integers(1, 4))):
        stem = "".join(pick(rng, NAMES) for _ in range(int(rng.integers(1, 6)))).replace("/", "")
        name = os.fsencode(stem)[: int(rng.integers(1, 252))] + b".png"
        content = (material.photos / "train/good/000.png").read_bytes()
        if rng.random() < 0.3:
            content = damaged(rng, content)
        try:
            (photos / os.fsdecode(name)).write_bytes(content)
        except OSError:
            continue
    return pick(rng, commands_on(folder, photos, material, rng))  # type: ignore[no-any-return]


def setting_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """Training with a few drawn settings, from assignments or from a file."""
    names = setting_names()
    drawn = [(pick(rng, names), pick(rng, NUMBERS)) for _ in range(int(rng.integers(1, 4)))]
    command = ["train", str(material.photos), "-o", str(folder / "m"), "--detector", "conv_autoencoder"]
    sets = [word for one in TINY for word in ("--set", one)]
    if rng.random() < 0.6:
        return Case(
            [*command, *sets, *(word for name, value in drawn for word in ("--set", f"{name}={value}"))], (0, 2)
        )
    toml = folder / "run.toml"
    text = "\n".join(f"{name} = {value}" for name, value in drawn).encode("utf-8", "ignore")
    if rng.random() < 0.3:
        words = text.decode()
        text = pick(
            rng, (words.encode("utf-16"), b"\xef\xbb\xbf" + text, text + b"\n" + text, text.replace(b"\n", b"\r"))
        )
    toml.write_bytes(damaged(rng, text) if rng.random() < 0.3 else text)
    if rng.random() < 0.1:
        toml.unlink()
        os.mkfifo(toml)
    return Case([*command, "--settings", str(toml), *sets], (0, 2))


def setting_names() -> list[str]:
    from blemish.models import DETECTORS
    from blemish.settings import RunSettings

    groups = {name: field.default for name, field in RunSettings.model_fields.items() if name not in ("model",)}
    general = [f"{group}.{name}" for group, one in groups.items() for name in getattr(type(one), "model_fields", ())]
    own = [f"model.{name}" for name in DETECTORS["conv_autoencoder"].Settings.model_fields]
    return sorted({*general, *own, "seed", "detector", "train", "nope", "train.x"} - {"train.compile"})


def option_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """Options of inspection and certification with drawn values."""
    model, value = str(pick(rng, (material.trained, material.exported))), pick(rng, NUMBERS)
    photos = str(material.photos / "test")
    name = pick(
        rng, ("--threshold", "--max-false-alarm-rate", "--fdr", "--threads", "--device", "--format", "--sha256")
    )
    rate = ["--max-false-alarm-rate", value, "--confidence", pick(rng, NUMBERS)]
    image = str(material.photos / "test/bar/000.png")
    cases = [
        Case(["inspect", model, photos, name, value]),
        Case(["inspect", model, image, image, name, value]),
        Case(["certify", model, "--dry-run", *rate[: 2 * int(rng.integers(1, 3))]], (0, 2)),
        Case(["challenge", model, photos, "-o", str(folder / "c"), "--defects", "2", "--contrasts", value], (0, 2)),
        Case(
            ["watch", model, str(folder), "--until-idle", "0", "--to", str(folder / "r.csv"), "--poll", value], (0, 2)
        ),
    ]
    return pick(rng, cases)  # type: ignore[no-any-return]


def model_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """A model file that is damaged, foreign, no file, or changed and given a right checksum again."""
    source = pick(rng, (material.trained, material.exported))
    model, content = folder / source.name, source.read_bytes()
    odd = int(rng.integers(12))
    if odd == 0:
        model.write_bytes(rng.bytes(int(rng.integers(0, 5000))))
    elif odd == 1:
        model.write_bytes(struct.pack("<Q", int(rng.integers(0, 2**40))) + rng.bytes(200))
    elif odd == 2:
        os.mkfifo(model)
    elif odd == 3:
        model.symlink_to(pick(rng, (model.name, "/dev/zero", "/dev/null", "/", "nowhere")))
    elif odd == 4:
        text = b'{"__metadata__": {"blemish": "' + b"[" * int(rng.integers(1, 9000)) + b'"}}'
        model.write_bytes(struct.pack("<Q", len(text)) + text)
    elif odd < 8:
        model.write_bytes(damaged(rng, content))
    elif source == material.exported:
        body = damaged(rng, content[:-SEAL_BYTES])
        model.write_bytes(body + content[-SEAL_BYTES:-64] + hashlib.sha256(body).hexdigest().encode())
    else:
        change_and_seal(rng, source, model)
    photo = str(material.photos / "test/bar/000.png")
    commands = (["inspect", str(model), photo], ["verify", str(model)], ["certify", str(model)])
    is_refused = odd < 8 and not (model.is_file() and model.read_bytes() == content)
    return Case(pick(rng, commands), (2,) if is_refused else (0, 1, 2))


def change_and_seal(rng: np.random.Generator, source: Path, model: Path) -> None:
    """A trained model with one value of its header, or one tensor, replaced; its checksum is right."""
    from blemish.inference.tensor_file import write_tensors

    length = int.from_bytes(source.read_bytes()[:8], "little")
    metadata = json.loads(source.read_bytes()[8 : 8 + length])["__metadata__"]
    content, tensors = json.loads(metadata["content"]), load_file(source)
    if rng.random() < 0.75:
        at = content
        while True:
            key = pick(rng, list(at) if isinstance(at, dict) else list(range(len(at))))
            if not isinstance(at[key], dict | list) or not at[key] or rng.random() < 0.2:
                break
            at = at[key]
        at[key] = pick(rng, VALUES)
    else:
        name = pick(rng, sorted(tensors))
        shape = [int(pick(rng, (0, 1, 2, 3, 64, 1000))) for _ in range(int(rng.integers(0, 5)))]
        kind = pick(rng, (np.float32, np.float64, np.int64, np.uint8, np.float16))
        value = pick(rng, (0.0, 1.0, -1.0, 1e30, np.nan, np.inf)) if np.issubdtype(kind, np.floating) else 1
        with np.errstate(over="ignore"):
            tensors[name] = np.full(shape if np.prod(shape) < 1e7 else [1], value).astype(kind)
    write_tensors(model, metadata["blemish"], content, tensors)


def place_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """Output into, onto and beside what a user has, none of which may change."""
    photos, model, exported = folder / "photos", folder / "m.safetensors", folder / "m.onnx"
    shutil.copytree(material.photos, photos)
    shutil.copy(material.trained, model)
    shutil.copy(material.exported, exported)
    mine = folder / "mine"
    for name in ("masks", "maps", "heatmaps", "overlays", "runs", "test/bar"):
        (mine / name / "test/bar").mkdir(parents=True)
        (mine / name / "000.png").write_bytes(b"mine")
        (mine / name / "test/bar/000.png").write_bytes(b"mine")
    reports = ("inspect", "results", "check", "challenge", "comparison", "sweep", "threshold", "report", "index", "run")
    for name in reports:
        for ending in ("csv", "json", "jsonl", "html"):
            if rng.random() < 0.5:
                (mine / f"{name}.{ending}").write_text("mine")
    for name in ("a.txt", "a.csv", "a.jsonl", "a.html", "a.onnx", "a.safetensors", "a.png", "a.toml"):
        (folder / name).write_text("mine, 1\n")
    (folder / "link").symlink_to("mine")
    (folder / "onto").symlink_to("a.txt")
    (folder / "nothing").symlink_to("gone/x")
    os.mkfifo(folder / "pipe")
    kept = {path: hashed(path) for path in folder.rglob("*") if path.is_file()}
    out = str(folder / pick(rng, PLACES)) if rng.random() < 0.95 else pick(rng, ("", ".", "/dev/null", "/proc/x"))
    sets = [word for one in TINY for word in ("--set", one)]
    watch = ["watch", str(model), str(photos / "test"), "--until-idle", "0", "--settle", "0", "--patience", "0"]
    commands = [
        ["train", str(photos), "-o", out, "--detector", "conv_autoencoder", *sets],
        ["export", str(model), "-o", out],
        ["inspect", str(model), str(photos / "test"), "-o", out, "--format", pick(rng, ("table", "json", "csv"))],
        ["evaluate", str(model), str(photos), "-o", out],
        ["data", "check", str(photos), "-o", out],
        ["data", "convert", str(photos), "-o", out],
        ["data", "synth", "hazelnuts", out, "--good", "2", "--defects", "1", "--size", "64"],
        ["challenge", str(model), str(photos / "train/good"), "-o", out, "--defects", "10", "--contrasts", "0.5"],
        ["compare", str(photos), "--detectors", "conv_autoencoder", "--seeds", "1", "-o", out, *sets],
        ["sweep", "threshold", str(mine), "-o", out],
        ["monitor", str(model), str(photos / "train/good"), "--state", out],
        ["sign", str(model), "--key", out],
        [*watch, "--to", out],
        [*watch, "--to", str(folder / "new.csv"), "--out", out],
    ]
    case = Case(pick(rng, commands), (0, 1, 2, 3), kept)
    if case.arguments[0] == "export" and out == str(exported):  # its own export of the same model
        del kept[exported]
        case.replaced = exported
    return case


def long_commands(folder: Path, material: Material, rng: np.random.Generator) -> list[list[str]]:
    """Each command that takes a while, writing into a folder."""
    model, exported, photos = str(material.trained), str(material.exported), str(material.photos)
    sets = [word for one in TINY for word in ("--set", one)]
    out, test, own = str(folder / "out"), f"{photos}/test", folder / "own.onnx"
    shutil.copy(exported, own)
    watch = ["watch", str(pick(rng, (model, exported))), test, "--until-idle", "0", "--settle", "0", "--patience", "0"]
    plan = ["--detectors", "conv_autoencoder", *sets]
    return [
        ["train", photos, "-o", f"{out}.safetensors", "--detector", "conv_autoencoder", *sets],
        ["evaluate", model, photos, "-o", out],
        [
            "inspect",
            str(pick(rng, (model, exported))),
            test,
            "-o",
            out,
            "--format",
            pick(rng, ("table", "csv", "json")),
        ],
        ["challenge", model, f"{photos}/train/good", "-o", out, "--defects", "10", "--contrasts", "0.5"],
        ["compare", photos, "-o", out, *plan],
        [
            "sweep",
            "setting",
            photos,
            "--detector",
            plan[1],
            "-o",
            out,
            *sets[2:],
            "--set",
            "data.size_px=[32,32],[64,64]",
        ],
        ["export", model, "-o", f"{out}.onnx"],
        ["verify", exported],
        ["data", "check", photos, "-o", out],
        ["data", "synth", "hazelnuts", out, "--good", "6", "--defects", "1", "--size", "64"],
        ["certify", str(own), "--good", f"{photos}/train/good", "--max-false-alarm-rate", "0.3"],
        ["monitor", model, f"{photos}/train/good"],
        [*watch, "--to", f"{out}.csv"],
        [*watch, "--to", f"{out}.jsonl", "--out", out],
        ["doctor"],
    ]


def stop_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """Ctrl-C at a drawn moment, most often early."""
    arguments = pick(rng, long_commands(folder, material, rng))
    kept = {path: hashed(path) for path in material.photos.parent.rglob("*") if path.is_file()}
    return Case(arguments, (0, 1, 2, 3, 130), kept, folder / "own.onnx", float(rng.random() ** 2 * 6))


def stream_case(rng: np.random.Generator, folder: Path, material: Material) -> Case:
    """A closed, full or unread standard stream."""
    streams = pick(
        rng, (("closed", ""), ("", "closed"), ("closed", "closed"), ("unread", ""), ("full", ""), ("", "full"))
    )
    arguments = pick(rng, long_commands(folder, material, rng))
    return Case(arguments, (0, 1, 2, 3, 141), replaced=folder / "own.onnx", streams=streams)


def hashed(path: Path) -> str:
    """A file's SHA-256; nothing of one that is gone."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def is_sealed(path: Path) -> bool:
    """Whether an exported file is there with the checksum of its content at its end."""
    content = path.read_bytes() if path.is_file() else b""
    return hashlib.sha256(content[:-SEAL_BYTES]).hexdigest().encode() == content[-64:]


# fmt: off
PLACES = (
    "mine", "mine", "mine", "mine", "link", "onto", "nothing", "pipe", "a.txt", "a.csv", "a.jsonl", "a.html", "a.onnx",
    "a.safetensors", "a.png", "a.toml", "photos", "photos/train", "photos/train/good", "photos/train/good/x",
    "photos/train/good/000.png", "photos/test", "photos/test/bar", "photos/ground_truth", "m.safetensors", "m.onnx",
    "a.txt/x", "gone/deep/x", "x" * 255, "new", "new.csv", "new.onnx", "new.safetensors",
)
# fmt: on


KINDS: dict[str, Draw] = {
    "image": image_case,
    "mask": mask_case,
    "name": name_case,
    "setting": setting_case,
    "option": option_case,
    "model": model_case,
    "place": place_case,
    "stop": stop_case,
    "stream": stream_case,
}


# Running -------------------------------------------------------------------------------------------------------------


def start(case: Case, folder: Path) -> int:
    """Fork a process that runs the command in `folder`; its number."""
    sys.stdout.flush()
    usual = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the command itself says what it does then
    child = os.fork()
    if child:
        signal.signal(signal.SIGINT, usual)
        return child
    code = 99
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            handle = os.open(folder / f".{name}", os.O_WRONLY | os.O_CREAT)
            os.dup2(handle, number)
        for number, what in enumerate(case.streams, start=1):
            lead(number, what)
        if case.streams:  # as a new process would find them
            sys.stdout, sys.stderr = (open_stream(number) for number in (1, 2))
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["blemish", *case.arguments]
        from blemish.__main__ import main as blemish

        blemish()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    finally:
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        finally:
            os._exit(code)


def lead(number: int, what: str) -> None:
    """Close a standard stream, or lead it where nothing can be written."""
    if what == "closed":
        os.close(number)
    elif what == "unread":
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, number)
    elif what == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)


def open_stream(number: int) -> TextIO | None:
    """A standard stream as Python opens it; None of one that is closed."""
    try:
        os.fstat(number)
    except OSError:
        return None
    return open(number, "w", buffering=1 if number == 2 else -1, closefd=False, encoding="utf-8")


def collect(running: dict[int, tuple[int, str, Case, Path, float]], outcomes: list[Outcome], keep: bool) -> None:
    """Wait for a little, take in what has ended, and end what takes too long."""
    time.sleep(0.01)
    for child, (number, kind, case, folder, began) in list(running.items()):
        seconds = time.monotonic() - began
        ended, status = os.waitpid(child, os.WNOHANG)
        if not ended and case.stop_s is not None and seconds > case.stop_s:
            os.kill(child, signal.SIGINT)
            case.stop_s = None
        if not ended and seconds <= WAIT_S * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)):
            continue
        if not ended:
            os.kill(child, 9)
            os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status) if ended else -9
        faults = judge(case, folder, code, is_late=not ended or code in (-signal.SIGXCPU, -signal.SIGKILL))
        said = (folder / ".stderr").read_text(encoding="utf-8", errors="replace")[-2000:]
        outcomes.append(Outcome(number, kind, case.arguments, code, round(seconds, 2), faults, said))
        if faults:
            tell(outcomes[-1], folder)
        del running[child]
        if not faults and not keep:
            shutil.rmtree(folder, ignore_errors=True)


ERROR = re.compile(r"\w+Error: |standard output: |blemish \w+: |Usage: |Error: Invalid value: |interrupted")


def judge(case: Case, folder: Path, code: int, is_late: bool) -> list[str]:
    """What is wrong with how a case ended."""
    if is_late:
        return ["hang"]
    err = (folder / ".stderr").read_bytes()
    out = (folder / ".stdout").read_bytes() if "csv" not in case.arguments else b""
    faults = []
    if b"Traceback (most recent call last)" in err:
        faults.append("traceback")
    if code not in case.allowed:
        faults.append("signal" if code < 0 else "exit code")
    changed = [path.name for path, known in case.kept.items() if hashed(path) != known]
    if case.replaced is not None and not is_sealed(case.replaced):
        changed.append(case.replaced.name)
    if changed:
        faults.append(f"changed {changed[0]}")
    if any(folder.rglob("*.part")):
        faults.append("half written")
    lines = err.decode("utf-8", "replace").splitlines()
    if (
        code == 2
        and not any(case.streams[1:])
        and "traceback" not in faults
        and not any(ERROR.match(line) for line in lines)
    ):
        faults.append("error without a name")
    if re.search(rb"[\x00-\x08\x0b-\x1f\x7f]", out + err):
        faults.append("control character")
    return faults


def tell(one: Outcome, folder: Path) -> None:
    """One failure, as it happens."""
    last = one.said.strip().splitlines()[-1:] or [""]
    what = f"{', '.join(one.faults)} (exit {one.code}, {one.seconds} s)"
    print(
        f"{one.number} {one.kind} {what}: {one.arguments!r:.300}\n   {ascii(last[0])[:300]}   in {folder}", flush=True
    )


def report(outcomes: list[Outcome], options: argparse.Namespace) -> int:
    """Print the table, write the JSON file."""
    kinds = sorted({one.kind for one in outcomes})
    for one in outcomes:
        one.faults = [fault.partition(" ")[0] if fault.startswith("changed") else fault for fault in one.faults]
    faults = sorted({fault for one in outcomes for fault in one.faults} | {"traceback", "hang", "exit code"})
    print(f"\n{'kind':<10}{'cases':>7}" + "".join(f"{fault:>22}" for fault in faults) + f"{'slowest':>10}")
    for kind in kinds:
        mine = [one for one in outcomes if one.kind == kind]
        counts = Counter(fault for one in mine for fault in one.faults)
        row = "".join(f"{counts[fault]:>22}" for fault in faults)
        print(f"{kind:<10}{len(mine):>7}{row}{max(one.seconds for one in mine):>9.1f}s")
    wrong = sum(bool(one.faults) for one in outcomes)
    codes = {str(code): count for code, count in sorted(Counter(one.code for one in outcomes).items())}
    content = {"seed": options.seed, "count": len(outcomes), "wrong": wrong, "exit_codes": codes}
    content["kinds"] = dict(Counter(one.kind for one in outcomes))
    content["failures"] = [asdict(one) for one in outcomes if one.faults]
    options.out.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"\n{len(outcomes)} cases, {wrong} wrong; exit codes {codes}; written: {options.out}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
