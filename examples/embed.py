"""Judge a 24-bit BMP photo with numpy and onnxruntime alone: python embed.py model.onnx photo.bmp"""

import sys
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


def weights(found: int, wanted: int) -> np.ndarray:
    scale = found / wanted
    support, centre, x = max(scale, 1.0), (np.arange(wanted)[:, None] + 0.5) * scale, np.arange(found)
    first, last = np.maximum(centre - support + 0.5, 0).astype(int), (centre + support + 0.5).astype(int)
    tent = np.where((x >= first) & (x < last), np.maximum(1 - np.abs((x - centre + 0.5) * (1 / support)), 0), 0)
    return np.floor(tent / tent.sum(axis=1, keepdims=True) * 2**22 + 0.5)


def judge(model: str, photo: str) -> tuple[float, bool]:
    session = onnxruntime.InferenceSession(model)
    told = session.get_modelmeta().custom_metadata_map
    assert not {"blemish.tile_px", "blemish.fit"} & told.keys(), "judged in tiles or padded: use blemish itself"
    (height, width), k = map(int, told["blemish.size_px"].split()), int(told["blemish.min_defect_px"])
    pixels = read_bmp(photo).astype(np.float64).transpose(2, 0, 1)  # (3, rows, columns)
    aspect = pixels.shape[1] / pixels.shape[2]
    assert abs(aspect / float(told.get("blemish.aspect", aspect)) - 1) <= 0.05, "not the aspect of the model's images"
    if told["blemish.channels"] == "1":
        pixels = np.floor((np.tensordot([[19595.0, 38470, 7471]], pixels, 1) + 32768) / 65536)
    for matrix in (weights(pixels.shape[2], width), weights(pixels.shape[1], height)):
        pixels = np.clip(np.floor((pixels @ matrix.T + 2**21) / 2**22), 0, 255).transpose(0, 2, 1)
    runs = [int(length) for length in told.get("blemish.roi_runs", f"0 {height * width}").split()]
    roi = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width).astype(np.float32)
    image = (pixels.astype(np.float32) / np.float32(255) * roi)[None]  # (1, channels, height, width)
    anomaly_map = session.run(["maps"], {"images": image})[0][0] * roi
    least = windows(anomaly_map, (k, k)).min(axis=(2, 3))
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
