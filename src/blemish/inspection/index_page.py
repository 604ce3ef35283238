"""The index page of an inspection: plain HTML beside the pictures, the worst image first."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

from blemish.data.files import atomic_write
from blemish.errors import plural
from blemish.inspection.rows import Row

INDEX = "index.html"

MAX_IMAGES = 500
"""So many images are shown, the worst ones; all of them are in the file of the rows."""

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="blemish">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Inspected images</title><style>
body{font:15px/1.4 system-ui,sans-serif;margin:2rem;background:#f6f6f4;color:#222}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:1rem}
figure{margin:0;background:#fff;border:1px solid #ddd;border-top:4px solid #4a8;padding:.5rem}
figure.anomalous{border-top-color:#c33}figure.unreadable{border-top-color:#888}
img{width:100%;height:220px;object-fit:contain;background:#222}figcaption{overflow-wrap:anywhere}
</style></head><body>
"""


def write_index(rows: Iterable[tuple[str, Row]], out: Path) -> Path:
    """Write `index.html` under `out` from each row and the name of its pictures: what to look at first stands first.

    Unreadable images first, then by how far the score is above the threshold.

    Raises:
        DataError: it cannot be written there.
    """
    counts: Counter[str] = Counter()
    worst = heapq.nlargest(MAX_IMAGES, _counted(rows, counts), key=_badness)
    path = out / INDEX
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(_HEAD)
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("anomalous", "good", "unreadable"))
        file.write(f"<h1>{plural(counts.total(), 'image')}: {said}</h1>\n")
        if counts.total() > len(worst):
            file.write(f"<p>The worst {len(worst)} are shown; the others are in the file of the rows.</p>\n")
        file.write("<main>\n")
        file.writelines(_figure(name, row) for name, row in worst)
        file.write("</main></body></html>\n")
    return path


def _counted(rows: Iterable[tuple[str, Row]], counts: Counter[str]) -> Iterator[tuple[str, Row]]:
    for name, row in rows:
        counts[row["verdict"]] += 1
        yield name, row


def _badness(one: tuple[str, Row]) -> tuple[bool, float]:
    score, threshold = one[1]["score"], one[1]["threshold"]
    return score is None, 0.0 if score is None else score - (threshold or 0.0)


def _figure(name: str, row: Row) -> str:
    path, verdict = escape(row["path"]), row["verdict"]
    if row["score"] is None:
        text = f"UNREADABLE<br>{path}<br>{escape(row['message'])}"
        return f'<figure class="unreadable"><figcaption>{text}</figcaption></figure>\n'
    overlay, mask = (f"{folder}/{quote(name)}" for folder in ("overlays", "masks"))
    picture = f'<a href="{overlay}"><img src="{overlay}" alt="heat map of {path}" loading="lazy"></a>'
    regions = f"{plural(row['region_count'], 'region')}, " if row["region_count"] else ""
    text = f"{path}<br>score {row['score']:.5g} (threshold {row['threshold']:.5g}), p-value {row['p_value']:.4f}"
    return (
        f'<figure class="{verdict}">{picture}<figcaption><b>{verdict if verdict == "good" else verdict.upper()}</b> '
        f'{text}<br>{regions}<a href="{mask}">defect mask</a></figcaption></figure>\n'
    )
