"""Judge a 24-bit BMP photo with numpy and onnxruntime alone: python embed.py model.onnx photo.bmp"""

import json
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.lib.stride_tricks import sliding_window_view as windows


def read_bmp(path: str) -> np.ndarray:
    content = Path(path).read_bytes()
    start, width, height = (int.from_bytes(content[at : at + 4], "little") for at in (10, 18, 22))
    assert content[:2] == b"BM" and content[28:34] == b"\x18\0\0\0\0\0", "not a 24-bit BMP without compression"  # noqa: PT018
    rows = np.frombuffer(content, np.uint8, -(-width * 3 // 4) * 4 * height, start).reshape(height, -1)
    return rows[::-1, : width * 3].reshape(height, width, 3)[:, :, ::-1]


def weights(found: int, wanted: int, of: int, at: int) -> np.ndarray:  # pixels at to at + wanted of `of`
    begin, end = (np.float32(min(edge * (found / of), found)) for edge in (at, at + wanted))
    scale = float(end - begin) / wanted
    support, centre, x = max(scale, 1.0), float(begin) + (np.arange(wanted)[:, None] + 0.5) * scale, np.arange(found)
    first, last = np.maximum(centre - support + 0.5, 0).astype(int), (centre + support + 0.5).astype(int)
    tent = np.where((x >= first) & (x < last), np.maximum(1 - np.abs((x - centre + 0.5) * (1 / support)), 0), 0)
    return np.floor(tent / tent.sum(axis=1, keepdims=True) * 2**22 + 0.5)


def mask(runs: str, height: int, width: int) -> np.ndarray:
    lengths = [int(length) for length in runs.split()]
    return np.repeat(np.arange(len(lengths)) % 2, lengths).reshape(height, width).astype(np.float32)


def ramp(side: int, overlap: int, fades_in: bool, fades_out: bool) -> np.ndarray:  # weights along a tile's side
    middles, even = np.arange(side, dtype=np.float32) + np.float32(0.5), np.ones(side, np.float32)
    rising = np.clip((middles - overlap / 4) / (overlap / 2), 0, 1) if overlap else even
    return np.minimum(rising if fades_in else even, rising[::-1] if fades_out else even)


def joined(run: Callable[[np.ndarray], np.ndarray], image: np.ndarray, tile: list[int], overlap: int) -> np.ndarray:
    sides, total, shares = image.shape[1:], np.zeros(image.shape[1:], np.float32), np.zeros(image.shape[1:], np.float32)
    starts = [sorted({*range(0, side - own, own - overlap), side - own}) for side, own in zip(sides, tile, strict=True)]
    for first in product(*starts):
        box = tuple(slice(start, start + own) for start, own in zip(first, tile, strict=True))
        down, across = (
            ramp(own, overlap, start > 0, start + own < side)
            for start, own, side in zip(first, tile, sides, strict=True)
        )
        share = np.outer(down, across)
        total[box] += share * run(image[:, *box])
        shares[box] += share
    return total / shares


def judge(model: str, photo: str) -> tuple[float, bool]:
    session = onnxruntime.InferenceSession(model)
    told = session.get_modelmeta().custom_metadata_map
    (height, width), k = map(int, told["blemish.size_px"].split()), int(told["blemish.min_defect_px"])
    pixels = read_bmp(photo).astype(np.float64).transpose(2, 0, 1)  # (3, rows, columns)
    aspect = pixels.shape[1] / pixels.shape[2]
    assert abs(aspect / float(told.get("blemish.aspect", aspect)) - 1) <= 0.05, "not the aspect of the model's images"
    if told["blemish.channels"] == "1":
        pixels = np.floor((np.tensordot([[19595.0, 38470, 7471]], pixels, 1) + 32768) / 65536)
    rows, columns = map(int, told.get("blemish.map_px", told["blemish.size_px"]).split())
    top, left = map(int, told.get("blemish.at_px", "0 0").split())
    beside = ((0, 0), (0, 0))  # what is padded above and below, left and right
    if told.get("blemish.fit") == "pad":
        scale = min(height / pixels.shape[1], width / pixels.shape[2])
        rows, columns = (max(1, round(side * scale)) for side in pixels.shape[1:])
        beside = tuple((free // 2, free - free // 2) for free in (height - rows, width - columns))
    seen = [side - sum(pad) for side, pad in zip((height, width), beside, strict=True)]
    across, down = weights(pixels.shape[2], seen[1], columns, left), weights(pixels.shape[1], seen[0], rows, top)
    for matrix in (across, down):
        pixels = np.clip(np.floor((pixels @ matrix.T + 2**21) / 2**22), 0, 255).transpose(0, 2, 1)
    pixels = np.pad(pixels, ((0, 0), *beside), mode="edge")
    roi = mask(told.get("blemish.roi_runs", f"0 {height * width}"), height, width)
    shown = mask(told["blemish.shown_runs"], height, width) if "blemish.shown_runs" in told else roi
    image = pixels.astype(np.float32) / np.float32(255) * shown  # (channels, height, width)
    policy = json.loads(told["blemish"])["model"]["policy"]
    run = lambda part: session.run(["maps"], {"images": part[None]})[0][0]  # noqa: E731
    whole = joined(run, image, policy["tile_px"] or [height, width], policy["tile_overlap_px"]) * roi
    inside = whole[beside[0][0] : height - beside[0][1], beside[1][0] : width - beside[1][1]]
    least = windows(inside, (k, k)).min(axis=(2, 3))
    score = float(windows(np.pad(least, k - 1, constant_values=-np.inf), (k, k)).max())
    return score, score > float(told["blemish.threshold"])


if __name__ == "__main__":
    try:
        score, is_anomalous = judge(*sys.argv[1:])
    except Exception as error:
        print(f"{error}; usage: embed.py MODEL.onnx PHOTO.bmp", file=sys.stderr)
        sys.exit(2)
    print(f"{score:.9g} {'ANOMALOUS' if is_anomalous else 'good'}")
    sys.exit(int(is_anomalous))
