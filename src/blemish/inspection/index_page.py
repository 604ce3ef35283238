"""The index page of an inspection: plain HTML beside the pictures, the worst image first."""

import heapq
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from urllib.parse import quote

from blemish.data.files import atomic_write
from blemish.errors import plural, printable
from blemish.inference.score import score_text
from blemish.inspection.decisions import DOUBTFUL
from blemish.inspection.rows import Row

INDEX = "index.html"

MAX_IMAGES = 500
"""So many images are shown, the worst ones; all of them are in the file of the rows."""

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="blemish">
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<title>Inspected images</title><style>
:root{--ink:#1b1f24;--paper:#f6f6f4;--card:#fff;--line:#d6dae0;--good:#1c7a4a;--bad:#b3331f;
--doubt:#8a5a00}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--paper:#14171b;--card:#1e2329;--line:#39414b;--good:#5ccb8f;
--bad:#ff8a70;--doubt:#f0b84a}a{color:#8ab8ff}a:visited{color:#c3a6ff}}
body{font:15px/1.4 system-ui,sans-serif;margin:clamp(.8rem,3vw,2rem);background:var(--paper);color:var(--ink)}
h1{font-size:1.5rem;line-height:1.25}p{max-width:75ch;overflow-wrap:anywhere}
main{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(240px,100%),1fr));gap:1rem}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-top:4px solid var(--good);padding:.5rem}
figure.anomalous{border-top-color:var(--bad)}figure.unreadable{border-top-color:#888}
figure.doubtful{border-top-color:var(--doubt)}
.anomalous b{color:var(--bad)}.doubtful b{color:var(--doubt)}.heat{display:inline-block;width:6em;height:.8em;
background:linear-gradient(90deg,#ffe14d,#fa8c14,#d62328,#78005a)}.line{display:inline-block;width:.8em;height:.8em;
border:2px solid #00e5ff;background:#555}
img{width:100%;height:220px;object-fit:contain}figcaption{overflow-wrap:anywhere}
figcaption span{white-space:nowrap}
</style></head><body>
"""

_LEGEND = """<p>Each photo is grey under the model's heat: <span class="heat"></span> from 0.8 of the threshold to
twice it.
<span class="line"></span> A cyan line runs around what is called defective. A score above the threshold makes an image
anomalous; the worst stands first. A click shows a picture at full size.</p>
"""


_DOUBTS = """<p>A doubtful image passes, but few good ones score as high: look at it again.</p>
"""

_KINDS = ("anomalous", DOUBTFUL, "good", "unreadable")


def write_index(rows: Iterable[tuple[str, Row]], out: Path, rows_file: str, model: str) -> Path:
    """Write `index.html` under `out` from each row and the name of its pictures: what to look at first is first.

    Unreadable images first, then by how far the score is above the threshold. `rows_file` is the name of the file of
    all rows beside it, `model` what the page calls the model.

    Raises:
        DataError: it cannot be written there.
    """
    counts: Counter[str] = Counter()
    worst = heapq.nlargest(MAX_IMAGES, _counted(rows, counts), key=_badness)
    path = out / INDEX
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write(_HEAD)
        kinds = [kind for kind in _KINDS if counts[kind] or kind in ("anomalous", "good")]
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in kinds)
        file.write(f"<header><h1>{plural(counts.total(), 'image')}: {said}</h1>\n")
        folder = _common_folder(row["path"] for _, row in worst)
        where = f" Names are those below {_text(folder)}." if folder else ""
        link = f'<a href="{quote(rows_file)}">{escape(rows_file)}</a>'
        left = f" The worst {len(worst)} are shown." if counts.total() > len(worst) else ""
        file.write(f"<p>Judged by {_text(model)}; all rows: {link}.{left}{where}</p>\n{_LEGEND}")
        file.write(_DOUBTS if counts[DOUBTFUL] else "")
        file.write("</header>\n<main>\n")
        file.writelines(_figure(name, row, folder) for name, row in worst)
        file.write("</main></body></html>\n")
    return path


def _counted(rows: Iterable[tuple[str, Row]], counts: Counter[str]) -> Iterator[tuple[str, Row]]:
    for name, row in rows:
        counts[_kind(row)] += 1
        yield name, row


def _kind(row: Row) -> str:
    return DOUBTFUL if row["is_doubtful"] else row["verdict"]


def _badness(one: tuple[str, Row]) -> tuple[bool, float]:
    score, threshold = one[1]["score"], one[1]["threshold"]
    return score is None, 0.0 if score is None else score - (threshold or 0.0)


def _common_folder(paths: Iterable[str]) -> str:
    """The folder that all images lie in or below; "" where there is none.

    >>> _common_folder(["in/a/1.png", "in/b/2.png"]), _common_folder(["1.png", "a/2.png"]), _common_folder([])
    ('in', '', '')
    """
    try:
        return os.path.commonpath([Path(path).parent for path in paths]).removeprefix(os.curdir)
    except ValueError:  # none, or some from the root and others not
        return ""


def _text(text: str) -> str:
    return escape(printable(text))


def _figure(name: str, row: Row, folder: str) -> str:
    path, verdict = _text(os.path.relpath(row["path"], folder) if folder else row["path"]), _kind(row)
    message = _text(row["message"].removeprefix(f"{row['path']}: "))
    if row["score"] is None:
        text = f"UNREADABLE<br>{path}<br>{message}"
        return f'<figure class="unreadable"><figcaption>{text}</figcaption></figure>\n'
    overlay, mask = (f"{folder}/{quote(name)}" for folder in ("overlays", "masks"))
    picture = f'<a href="{overlay}"><img src="{overlay}" alt="heat map of {path}" loading="lazy"></a>'
    said = message and f"<br>{message}"
    regions = (
        f'<br>{plural(row["region_count"], "region")}, <a href="{mask}">defect mask</a>' if row["region_count"] else ""
    )
    text = (
        f"{path}<br>score {score_text(row['score'], 5)} (threshold {score_text(row['threshold'], 5)}),"
        f" <span>p-value {row['p_value']:.3g}</span>{said}"
    )
    return (
        f'<figure class="{verdict}">{picture}<figcaption><b>{verdict if verdict == "good" else verdict.upper()}</b> '
        f"{text}{regions}</figcaption></figure>\n"
    )
