"""Which detector is better over several data sets, from the summary of a comparison."""

from typing import Any

from blemish.evaluation.compare.ranking import rank_detectors


def part(dataset: str, detector: str, auroc: float | None) -> Any:
    spread = None if auroc is None else {"mean": auroc, "std": None, "min": auroc, "max": auroc, "n": 1}
    return {
        "dataset": dataset,
        "detector": detector,
        "seeds": 1,
        "failed": 0,
        "scopes": {"all": {"image.auroc": spread}},
    }


def some(sets: int, **aurocs: float) -> list[Any]:
    return [part(f"set{i}", name, value + i / 100) for i in range(sets) for name, value in aurocs.items()]


def test_the_best_comes_first() -> None:
    (ranking,) = rank_detectors(some(4, poor=0.5, good=0.9), ["poor", "good"])
    assert (ranking["measure"], len(ranking["datasets"])) == ("image.auroc", 4)
    assert [(row["detector"], row["mean_rank"]) for row in ranking["detectors"]] == [("good", 1.0), ("poor", 2.0)]
    assert ranking["detectors"][0]["chance_better_than"] == {"poor": 0.9}  # 4.5 of 5: never surer than four sets allow
    assert ranking["critical_difference"] is not None


def test_two_sets_or_one_detector_say_nothing() -> None:
    assert rank_detectors(some(2, a=0.5, b=0.6), ["a", "b"]) == []
    assert rank_detectors(some(5, a=0.5), ["a"]) == []


def test_a_set_that_a_detector_failed_on_is_left_out() -> None:
    summary = [*some(3, a=0.5, b=0.6), part("odd", "a", 0.9), part("odd", "b", None)]
    (ranking,) = rank_detectors(summary, ["a", "b"])
    assert ranking["datasets"] == ["set0", "set1", "set2"]
