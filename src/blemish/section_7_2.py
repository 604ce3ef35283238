"""Section 7.2 of the seed paper, as claims that a sweep of the latent size can bear out or not.

"If the latent space is too small then the model will face difficulties to learn small details"; if it is too large,
it "will construct an image that has those [defective] parts due to its capacity".
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from blemish.results import Nested

Order = Literal["higher", "lower", "alike"]


def claims(summary: Sequence[Nested]) -> list[Nested]:
    """Each claim with `holds` (None: cannot be told) and its evidence in one sentence; none of fewer than three values.

    Two means differ where they lie further apart than their standard deviations over the seeds together. With one seed
    any difference counts, and the evidence says so.
    """
    known = [each for each in summary if each["seeds"] and isinstance(each["value"], int | float)]
    known.sort(key=lambda each: each["value"])
    if len(known) < 3:
        return []
    found = [_small(known), _large(known), _optimum(known)]
    if max(each["seeds"] for each in known) == 1:
        for claim in found:
            claim["evidence"] += " One seed: small differences may be chance."
    return found


def compared(one: Nested, other: Nested) -> Order:
    """How the mean of one spread stands to that of another.

    >>> compared({"mean": 0.5, "std": 0.1}, {"mean": 0.4, "std": 0.1})
    'alike'
    """
    margin = (one["std"] or 0.0) + (other["std"] or 0.0)
    if abs(one["mean"] - other["mean"]) <= margin:
        return "alike"
    return "higher" if one["mean"] > other["mean"] else "lower"


def _small(known: Sequence[Nested]) -> Nested:
    name = "good_held_out" if known[0]["map_means"]["good_held_out"] else "good_test"
    text = "Too small a latent cannot hold the details of good images: the error on good pixels rises."
    smallest, least = known[0], min(known[1:], key=_mean("map_means", name))
    return _judged(text, smallest, least, ("map_means", name), "higher", "error on good pixels")


def _large(known: Sequence[Nested]) -> Nested:
    text = "Too large a latent reproduces defects, too: the error on defective pixels falls."
    if any(each["map_means"]["defective_test"] is None for each in known):
        return {"claim": text, "holds": None, "evidence": "No defective pixels are known."}
    most = max(known[:-1], key=_mean("map_means", "defective_test"))
    return _judged(text, known[-1], most, ("map_means", "defective_test"), "lower", "error on defective pixels")


def _optimum(known: Sequence[Nested]) -> Nested:
    text = "In between lies the best size: F1 (oracle) is lower at both ends."
    path = ("measures", "pixel.oracle_f1")
    if any(each["measures"]["pixel.oracle_f1"] is None for each in known):
        return {"claim": text, "holds": None, "evidence": "There is no F1 without known defective pixels."}
    best = max(known[1:-1], key=_mean(*path))
    orders = [compared(_at(end, path), _at(best, path)) for end in (known[0], known[-1])]
    holds = None if "alike" in orders and "higher" not in orders else orders == ["lower", "lower"]
    values = ", ".join(f"{_at(each, path)['mean']:.3g} at {each['label']}" for each in (known[0], best, known[-1]))
    return {"claim": text, "holds": holds, "evidence": f"F1 {values}."}


def _judged(text: str, end: Nested, other: Nested, path: tuple[str, str], wanted: Order, what: str) -> Nested:
    order = compared(_at(end, path), _at(other, path))
    holds = None if order == "alike" else order == wanted
    values = ", ".join(f"{_at(each, path)['mean']:.3g} at {each['label']}" for each in (end, other))
    return {"claim": text, "holds": holds, "evidence": f"Mean {what}: {values}."}


def _at(point: Nested, path: tuple[str, str]) -> Any:
    return point[path[0]][path[1]]


def _mean(*path: str) -> Callable[[Nested], float]:
    return lambda point: float(point[path[0]][path[1]]["mean"])
