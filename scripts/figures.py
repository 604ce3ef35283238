"""The figures of README.md and docs/results.md, written from the JSON files in docs/figures/.

Between `<!-- figures: NAME -->` and `<!-- end of figures -->` stands what the function of that name gives.
"""

import json
import re
import statistics
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from blemish.stats.conformal import promised_percent

FOLDER = Path(__file__).parents[1] / "docs" / "figures"
PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n)(.*?)(<!-- end of figures -->)", re.DOTALL)
DEFAULT = "feature_ensemble"
COLUMNS = (DEFAULT, "feature_autoencoder", "patchcore", "padim", "patchcore, own size", "padim, own size")
ENCODERS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
ENCODED = (DEFAULT, "padim", "patchcore")
DIGITS = {"image AUROC": 3, "AUPRO": 3, "found": 2, "false alarms": 2}

Row = Mapping[str, Any]
Rows = Mapping[tuple[str, str], Row]


def filled(text: str) -> str:
    """A page with what stands at its places written from the JSON files.

    Raises:
        KeyError: a place asks for figures that nothing here makes.
    """
    return PLACE.sub(lambda match: match[1] + FIGURES[match[2]]() + match[4], text)


def rows_of(name: str) -> dict[tuple[str, str], Row]:
    """The rows of a file by set and detector."""
    rows = json.loads((FOLDER / name).read_text(encoding="utf-8"))["rows"]
    return {(row["set"], row["detector"]): row for row in rows}


def _everything() -> Rows:
    return rows_of("default_detector.json")


def _sets(rows: Rows) -> list[str]:
    """The sets, that with the default's lowest image AUROC first."""
    mine = {name: row["figures"]["image AUROC"] for (name, detector), row in rows.items() if detector == DEFAULT}
    return sorted(mine, key=lambda name: float(mine[name]))


def table(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first line is its head."""
    head, *rest = (f"| {' | '.join(line)} |\n" for line in lines)
    return head + "|---" * len(lines[0]) + "|\n" + "".join(rest)


def default_detector() -> str:
    """One row a set: the default detector, with its counts in the middle and at both ends of its seeds."""
    rows = _everything()
    head = ["`feature_ensemble`, the default", "image AUROC", "AUPRO", "defective images found", "good images flagged"]
    lines = [[*head, "promised"]]
    for name in _sets(rows):
        figures, each = rows[name, DEFAULT]["figures"], rows[name, DEFAULT]["each"]
        aupro = "no masks" if figures["AUPRO"] is None else _number(figures["AUPRO"], 3)
        found, flagged = (_counts(each, kind) for kind in ("defective", "good"))
        promised = promised_percent(each[0]["promised"])
        lines.append([name, _number(figures["image AUROC"], 3), aupro, found, flagged, promised])
    return table(lines)


def _counts(each: Sequence[Mapping[str, float]], kind: str) -> str:
    """So many of how many were flagged: the median over the seeds, and the least and the most.

    >>> _counts([{"good": 60, "flagged_good": flagged} for flagged in (7, 5, 0)], "good")
    '5 of 60 (0 to 7)'
    """
    least, middle, most = (
        min(counts := [one[f"flagged_{kind}"] for one in each]),
        statistics.median(counts),
        max(counts),
    )
    spread = f" ({least:.0f} to {most:.0f})" if least < most else ""
    return f"{middle:.0f} of {each[0][kind]:.0f}{spread}"


def side_by_side() -> str:
    """One row a set, one column a detector: image AUROC / AUPRO / found / flagged; the means of the sets last."""
    rows = _everything()
    lines = [["", *map(_code, COLUMNS)]]
    lines += [[name, *(_cell([rows[name, column]]) for column in COLUMNS)] for name in _sets(rows)]
    lines.append(["mean", *(_cell([rows[name, column] for name in _sets(rows)]) for column in COLUMNS)])
    return table(lines)


def against_others() -> str:
    """What the default has more than each other detector, in the mean over the sets."""
    rows = _everything()
    lines = [["the default's mean, less that of", *list(DIGITS)[:3]]]
    for column in COLUMNS[1:]:
        pairs = [
            [_mean((rows[one, who] for one in _sets(rows)), name) for who in (DEFAULT, column)]
            for name in list(DIGITS)[:3]
        ]
        lines.append([_code(column), *(f"{mine - other:+.3f}" for mine, other in pairs)])
    return table(lines)


def weak_points() -> str:
    """What the default lets pass, which detector does better where, and how large the files are."""
    rows = _everything()
    each = {name: rows[name, DEFAULT]["each"] for name in _sets(rows)}
    count = {name: several[0]["defective"] for name, several in each.items()}
    passed = {
        name: count[name] - statistics.median(one["flagged_defective"] for one in several)
        for name, several in each.items()
    }
    worst = sorted(passed, key=lambda name: -passed[name] / count[name])[:3]
    told = ", ".join(f"{passed[name]:.0f} of {count[name]:.0f} on {name}" for name in worst)
    parts = [f"At its certified threshold the default misses defects: {told}."]
    parts.append(_alarms(each))
    verbs = {"AUPRO": "outlines defects better", "found": "finds more", "image AUROC": "ranks images better"}
    for figure, verb in verbs.items():
        if better := "; ".join(_better(rows, figure)):
            parts.append(f"Another detector {verb} by more than .01 on {better}.")
    mine, other = (_mean((rows[one, who] for one in _sets(rows)), "image AUROC") for who in (DEFAULT, "patchcore"))
    parts.append(f"The mean image AUROC is {mine:.3f}; `patchcore` at 256 px has {other:.3f}.")
    least, most = _sizes(rows, (DEFAULT,))
    parts.append(f"A model of the default detector is a file of {least:.0f} to {most:.0f} MB, encoder included; ")
    parts[-1] += "one of `padim`, {:.0f} to {:.0f} MB.".format(*_sizes(rows, ("padim", "padim, own size")))
    return textwrap.fill(" ".join(parts), 120, break_long_words=False, break_on_hyphens=False) + "\n"


def _alarms(each: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """How many good test images were flagged, and how many may be; the set where they are furthest apart."""
    good = {name: several[0]["good"] for name, several in each.items()}
    flagged = {name: statistics.median(one["flagged_good"] for one in several) for name, several in each.items()}
    may = {name: good[name] * several[0]["promised"] for name, several in each.items()}
    worst = max(good, key=lambda name: flagged[name] - may[name])
    return (
        f"Of {sum(good.values()):.0f} good test images, {sum(flagged.values()):.0f} are flagged; the promise, an "
        f"average over images like those trained on, allows {sum(may.values()):.0f}. The largest excess is on {worst}: "
        f"{flagged[worst]:.0f}, where {may[worst]:.0f} are allowed."
    )


def encoders() -> str:
    """One row a set and detector, one column an encoder: image AUROC / AUPRO / found / flagged, and megabytes."""
    rows, places = rows_of("encoders.json"), _sets(_everything())
    lines = [["set", "detector", *(f"`{name}`" for name in ENCODERS)]]
    for place in places:
        for detector in ENCODED:
            found = [rows.get((place, f"{detector}, {name}")) for name in ENCODERS]
            lines.append([place, f"`{detector}`", *map(_cell_of_encoder, found)])
    for detector in ENCODED:
        means = [[rows[place, f"{detector}, {name}"] for place in places] for name in ENCODERS]
        lines.append(["mean", f"`{detector}`", *map(_cell, means)])
    return table(lines)


def reverse_distillation() -> str:
    """One row a set and detector: image AUROC / AUPRO / found / flagged."""
    rows, beside = rows_of("reverse_distillation.json"), _everything()
    name, places = "reverse_distillation", _sets(beside)
    lines = [["", f"`{name}`", f"`{DEFAULT}`"]]
    lines += [[place, _cell([rows[place, name]]), _cell([beside[place, DEFAULT]])] for place in places]
    return table(
        [
            *lines,
            ["mean", *(_cell([of[place, who] for place in places]) for of, who in ((rows, name), (beside, DEFAULT)))],
        ]
    )


def _cell_of_encoder(row: Row | None) -> str:
    return f"{_cell([row])}; {row['figures']['file, MB']:.1f} MB" if row else "not run"


FIGURES: Mapping[str, Callable[[], str]] = {
    "default": default_detector,
    "side-by-side": side_by_side,
    "against-others": against_others,
    "weak-points": weak_points,
    "encoders": encoders,
    "reverse-distillation": reverse_distillation,
}
"""What a page can ask for."""


def _better(rows: Rows, figure: str) -> Iterator[str]:
    for name in _sets(rows):
        mine = rows[name, DEFAULT]["figures"][figure]
        others = {column: rows[name, column]["figures"][figure] for column in COLUMNS[1:]}
        if mine is None:
            continue
        best = max(others, key=lambda column: float(others[column]))
        if others[best] > mine + 0.01:
            yield f"{name} ({_code(best)}: {others[best]:.3f}, the default {mine:.3f})"


def _sizes(rows: Rows, detectors: Sequence[str]) -> tuple[float, float]:
    sizes = [row["figures"]["file, MB"] for (_, name), row in rows.items() if name in detectors]
    return min(sizes), max(sizes)


def _code(column: str) -> str:
    name, comma, more = column.partition(",")
    return f"`{name}`{comma}{more}"


def _cell(rows: Sequence[Row]) -> str:
    return " / ".join(_number(_mean(rows, name), places) for name, places in DIGITS.items())


def _mean(rows: Iterable[Row], name: str) -> float:
    """nan where no row has it."""
    known = [row["figures"][name] for row in rows if row["figures"][name] is not None]
    return statistics.fmean(known) if known else float("nan")


def _number(value: float, digits: int) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
