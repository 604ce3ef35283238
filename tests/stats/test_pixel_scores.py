from itertools import pairwise

import numpy as np
import pytest
from sklearn import metrics as sk

from blemish.errors import DataError
from blemish.stats import Counts, Interval, PixelScores, accuracy, count, f1
from blemish.stats.intervals import percentile_intervals, resample
from reference.slow_areas import slow_aupimo, slow_aupro

Images = dict[str, tuple[np.ndarray, np.ndarray]]


def smooth(rng: np.random.Generator, side: int) -> np.ndarray:
    """Positive and spread over some powers of ten, as residuals are."""
    noise = rng.gamma(1.2, 0.1, (side, side))
    for axis in (0, 1):
        noise = (noise + np.roll(noise, 1, axis)) / 2
    return noise.astype(np.float32)


def parts(number: int, side: int, seed: int = 0, digits: int | None = None) -> Images:
    """Every third image has one or two defects with a higher map, in part."""
    rng = np.random.default_rng(seed)
    images = {}
    for index in range(number):
        anomaly_map, mask = smooth(rng, side), np.zeros((side, side), bool)
        for _ in range(rng.integers(1, 3) if index % 3 == 0 else 0):
            row, column = rng.integers(0, side - 6, 2)
            mask[row : row + 6, column : column + 5] = True
        anomaly_map[mask] += np.float32(rng.uniform(0.0, 0.6))
        images[f"{index:03}.png"] = (anomaly_map if digits is None else anomaly_map.round(digits), mask)
    return images


def scored(images: Images, **options: object) -> PixelScores:
    scores = PixelScores(**options)
    for name, (anomaly_map, mask) in images.items():
        scores.add(name, anomaly_map, mask)
    return scores


def flat(images: Images) -> tuple[np.ndarray, np.ndarray]:
    maps, masks = zip(*images.values(), strict=True)
    return np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])


def ranking(scores: PixelScores, fpr_range: tuple[float, float]) -> dict[str, float]:
    return {
        "auroc": scores.auroc(),
        "average_precision": scores.average_precision(),
        "aupro": scores.aupro(),
        "aupro to 5 %": scores.aupro(0.05),
        "aupimo": scores.aupimo(fpr_range),
        "oracle_f1": scores.oracle_f1()[0],
    }


@pytest.mark.slow
@pytest.mark.parametrize("digits", [1, 2, None])
def test_small_sets_are_exact(digits: int | None) -> None:
    images = parts(9, 20, digits=digits)
    maps, masks = (list(each) for each in zip(*images.values(), strict=True))
    scores = scored(images)
    values, truth = flat(images)
    assert scores.resolution == 0.0
    assert scores.auroc() == pytest.approx(sk.roc_auc_score(truth, values))
    assert scores.average_precision() == pytest.approx(sk.average_precision_score(truth, values))
    assert scores.aupro() == pytest.approx(slow_aupro(maps, masks, 0.3))
    each = [share for share in slow_aupimo(maps, masks, (1e-3, 1e-1)) if not np.isnan(share)]
    assert list(scores.aupimo_each((1e-3, 1e-1)).values()) == pytest.approx(each, abs=5e-5)
    assert scores.aupimo((1e-3, 1e-1)) == pytest.approx(np.mean(each), abs=5e-5)
    found, threshold = scores.oracle_f1()
    tried = [sk.f1_score(truth, values > each) for each in np.unique(values)[::20]]
    assert max(tried) <= found == pytest.approx(sk.f1_score(truth, values > threshold))


@pytest.mark.parametrize("offset", [0.0, 5.0, -0.2])
def test_streamed_values_are_within_a_thousandth_of_the_exact_ones(offset: float) -> None:
    images = {name: (m + np.float32(offset), mask) for name, (m, mask) in parts(30, 128).items()}
    exact, streamed = scored(images), scored(images, most_entries=30 * 4000)
    assert exact.resolution == 0.0
    assert 0.0 < streamed.resolution <= 2**-9
    expected = ranking(exact, (1e-4, 1e-2))
    assert ranking(streamed, (1e-4, 1e-2)) == pytest.approx(expected, abs=1e-3)


def test_memory_is_bounded_whatever_the_values() -> None:
    rng = np.random.default_rng(0)
    scores = PixelScores(most_entries=5000)
    for index in range(20):
        scores.add(str(index), np.exp(rng.normal(0.0, 15.0, (64, 64))).astype(np.float32))
        assert sum(image.entries for image in scores._images.values()) <= 5000


def test_thresholds_given_in_advance_stay_exact() -> None:
    images = parts(12, 64)
    threshold = 0.2
    scores = scored(images, thresholds=[threshold], most_entries=1000)
    expected = {name: count(m.astype(np.float64) > threshold, mask) for name, (m, mask) in images.items()}
    assert scores.resolution > 0.0
    assert scores.counts_each(threshold) == expected
    assert scores.counts_at(threshold) == sum(expected.values(), start=Counts(0, 0, 0, 0))


def test_other_thresholds_are_exact_while_all_is_and_near_after_that() -> None:
    images = parts(12, 64)
    values, truth = flat(images)
    exact, streamed = scored(images), scored(images, most_entries=12 * 1000)
    for threshold in (-1.0, 0.0, 0.1, float(values[7]), 0.9, 99.0):
        expected = count(values.astype(np.float64) > threshold, truth)
        assert exact.counts_at(threshold) == expected
        near = streamed.counts_at(threshold)
        moved = np.sum(np.abs(values - threshold) <= streamed.resolution * abs(threshold))
        assert abs(near.tp - expected.tp) + abs(near.fp - expected.fp) <= moved


@pytest.mark.parametrize("most_entries", [2**24, 3000])
def test_the_oracle_threshold_gives_the_oracle_f1(most_entries: int) -> None:
    images = parts(9, 48)
    values, truth = flat(images)
    scores = scored(images, most_entries=most_entries)
    best, threshold = scores.oracle_f1()
    assert f1(scores.counts_at(threshold)) == pytest.approx(best) == pytest.approx(f1(count(values > threshold, truth)))


def test_the_oracle_threshold_lies_below_zero_when_zero_is_to_be_called() -> None:
    scores = PixelScores()
    scores.add("a", np.zeros((2, 2), np.float32), np.ones((2, 2), bool))
    best, threshold = scores.oracle_f1()
    assert best == 1.0
    assert threshold < 0.0
    assert scores.counts_at(threshold) == Counts(tp=4, fp=0, tn=0, fn=0)


def test_pixels_outside_the_region_of_interest_never_count() -> None:
    images = parts(6, 24)
    rng = np.random.default_rng(1)
    scores, changed = PixelScores([0.3]), PixelScores([0.3])
    valid = [rng.random((24, 24)) < 0.7 for _ in images]
    for inside, (name, (anomaly_map, mask)) in zip(valid, images.items(), strict=True):
        scores.add(name, anomaly_map, mask, inside)
        elsewhere = np.where(inside, anomaly_map, np.float32(np.nan))
        changed.add(name, elsewhere, mask, inside)
    maps, masks = (list(each) for each in zip(*images.values(), strict=True))
    assert ranking(scores, (1e-3, 1e-1)) == ranking(changed, (1e-3, 1e-1))
    assert scores.counts_at(0.3) == changed.counts_at(0.3)
    assert scores.aupro() == pytest.approx(slow_aupro(maps, masks, 0.3, valid))
    values, truth = flat(images)
    inside = np.concatenate([each.ravel() for each in valid])
    assert scores.auroc() == pytest.approx(sk.roc_auc_score(truth[inside], values[inside]))


def test_an_image_whose_defect_is_out_of_view_is_not_a_good_one() -> None:
    left = np.array([[True, False]])
    scores = PixelScores()
    scores.add("good", np.array([[0.1, 0.1]]))
    scores.add("defective", np.array([[0.3, 0.9]]), ~left, valid=left)
    assert np.isnan(scores.aupimo_each()["defective"])
    assert np.isnan(scores.aupimo())
    assert scores.counts_at(0.2) == Counts(tp=0, fp=1, tn=2, fn=0)


def test_a_subset_is_what_its_images_alone_would_be() -> None:
    images = parts(12, 32)
    chosen = {name: image for name, image in images.items() if name[2] in "0124578"}
    part = scored(images).subset(chosen)
    assert part.names == list(chosen)
    assert ranking(part, (1e-3, 1e-1)) == ranking(scored(chosen), (1e-3, 1e-1))
    assert part.counts_each(0.2) == scored(chosen).counts_each(0.2)


@pytest.mark.parametrize("most_entries", [2**24, 3000])
def test_a_subset_and_its_origin_grow_apart(most_entries: int) -> None:
    images = parts(9, 32)
    whole = scored(images, most_entries=most_entries)
    before = ranking(whole, (1e-3, 1e-1))
    part = whole.subset(["000.png", "001.png"])
    part.add("new.png", smooth(np.random.default_rng(9), 32))
    assert part.names == ["000.png", "001.png", "new.png"]
    assert ranking(whole, (1e-3, 1e-1)) == before


def test_the_order_of_the_images_does_not_matter() -> None:
    images = parts(12, 24)
    turned = dict(reversed(images.items()))
    for most_entries in (2**24, 2000):
        first, second = (scored(each, most_entries=most_entries) for each in (images, turned))
        assert ranking(first, (1e-3, 1e-1)) == pytest.approx(ranking(second, (1e-3, 1e-1)))
        assert first.resolution == second.resolution


def test_adding_drops_what_was_computed_before() -> None:
    images = parts(6, 24)
    scores = PixelScores()
    for index, (name, (anomaly_map, mask)) in enumerate(images.items(), start=1):
        scores.add(name, anomaly_map, mask)
        values, truth = flat(dict(list(images.items())[:index]))
        assert scores.auroc() == pytest.approx(sk.roc_auc_score(truth, values))


def test_histogram_holds_every_pixel_where_numpy_puts_it() -> None:
    images = parts(6, 24)
    values, truth = flat(images)
    found = scored(images).histogram(bins=17)
    edges = np.linspace(values.min(), values.max(), 18)
    assert found.edges == pytest.approx(edges)
    assert found.good.tolist() == np.histogram(values[~truth], found.edges)[0].tolist()
    assert found.defective.tolist() == np.histogram(values[truth], found.edges)[0].tolist()


def test_roc_curve_is_monotone_and_has_the_area() -> None:
    scores = scored(parts(9, 48), most_entries=4000)
    curve = scores.roc_curve(max_points=200)
    assert len(curve.threshold) <= 200
    assert all(left >= right for left, right in pairwise(curve.threshold))
    assert sk.auc(curve.false_positive_rate, curve.true_positive_rate) == pytest.approx(scores.auroc(), abs=1e-3)


def resampled_by_hand(images: Images, repeats: int, seed: int) -> list[dict[str, float]]:
    """Measures of test sets in which each image is as often as it was drawn."""
    labels = np.array([mask.any() for _, mask in images.values()])
    rows = []
    for times in resample(labels, repeats, np.random.default_rng(seed)):
        copies = {
            f"{name} {copy}": image
            for (name, image), number in zip(images.items(), times, strict=True)
            for copy in range(number)
        }
        scores = scored(copies)
        measures = {name: getattr(scores, name)() for name in ("auroc", "average_precision", "aupro", "aupimo")}
        rows.append(measures | {"oracle_f1": scores.oracle_f1()[0], "f1": f1(scores.counts_at(0.3))})
    return rows


def intervals(scores: PixelScores, repeats: int, seed: int = 0, max_fpr: float = 0.3) -> dict[str, Interval]:
    """Intervals of the measures of the images drawn again, with pixels counted at the threshold 0.3."""
    rows = (
        {name: getattr(levels, name)() for name in ("auroc", "average_precision", "aupimo", "oracle_f1")}
        | {"aupro": levels.aupro(max_fpr), "f1": f1(counts), "accuracy": accuracy(counts)}
        for levels, counts in scores.resampled(np.random.default_rng(seed), 0.3, repeats)
    )
    return percentile_intervals(rows)


@pytest.mark.parametrize(("digits", "tolerance"), [(2, 1e-9), (None, 3e-3)])
def test_images_drawn_again_measure_like_those_drawn_by_hand(digits: int | None, tolerance: float) -> None:
    images = parts(12, 40, digits=digits)
    found = intervals(scored(images), 15, seed=6)
    for name, interval in percentile_intervals(resampled_by_hand(images, 15, seed=6)).items():
        assert found[name] == pytest.approx(interval, abs=tolerance)


def test_images_drawn_again_surround_the_measures() -> None:
    scores = scored(parts(30, 40))
    found = intervals(scores, 300)
    measures = ranking(scores, (1e-5, 1e-4)) | {"f1": f1(scores.counts_at(0.3))}
    for name, (low, high) in found.items():
        if name in measures:
            assert low < measures[name] < high


def test_images_drawn_again_know_the_limit_of_the_false_positive_rate() -> None:
    scores = scored(parts(30, 40))
    for max_fpr in (0.02, 1.0):
        low, high = intervals(scores, 100, max_fpr=max_fpr)["aupro"]
        assert low < scores.aupro(max_fpr) < high
    assert scores.aupro(0.02) < low


def test_good_images_alone_give_no_ranking_but_an_accuracy() -> None:
    scores = scored({name: (m, np.zeros_like(mask)) for name, (m, mask) in parts(4, 24).items()})
    assert all(np.isnan(value) for value in ranking(scores, (1e-5, 1e-4)).values())
    assert scores.aupimo_each() == {}
    assert np.isnan(scores.roc_curve().true_positive_rate).all()
    found = intervals(scores, 20)
    assert np.isnan(found["aupro"]).all()
    assert 0.5 < found["accuracy"].low <= found["accuracy"].high < 1.0


def test_masks_of_numbers_are_those_of_truths() -> None:
    anomaly_map, mask = np.array([[0.0, 3.0, 2.0, 1.0]]), np.array([[0, 255, 0, 1]], np.uint8)
    numbers, truths = PixelScores(), PixelScores()
    numbers.add("a.png", anomaly_map, mask, np.array([[1, 1, 1, 0]]))
    truths.add("a.png", anomaly_map, mask > 0, np.array([[True, True, True, False]]))
    assert numbers.counts_at(1.5) == truths.counts_at(1.5) == count(anomaly_map > 1.5, mask, np.array([[1, 1, 1, 0]]))
    assert numbers.auroc() == truths.auroc()


def test_what_is_wrong_is_said() -> None:
    scores = PixelScores()
    ones = np.ones((2, 3), np.float32)
    scores.add("a.png", ones)
    with pytest.raises(DataError, match=r"a\.png: added twice"):
        scores.add("a.png", ones)
    with pytest.raises(DataError, match=r"b\.png: the mask is \(3, 2\) and the anomaly map \(2, 3\)"):
        scores.add("b.png", ones, np.ones((3, 2), bool))
    with pytest.raises(DataError, match=r"b\.png: an anomaly map of shape \(1, 2, 3\); give that of one image"):
        scores.add("b.png", ones[None], np.ones((1, 2, 3), bool))  # a detector's maps (b, h, w)
    with pytest.raises(DataError, match=r"b\.png: no pixel is valid"):
        scores.add("b.png", ones, valid=np.zeros((2, 3), bool))
    with pytest.raises(DataError, match=r"b\.png: values of the anomaly map that are not finite: 1"):
        scores.add("b.png", np.array([[1.0, np.nan]]))
    with pytest.raises(DataError, match=r"z\.png: no such image"):
        scores.subset(["a.png", "z.png"])
    assert scores.names == ["a.png"]


@pytest.mark.parametrize("most_entries", [10**9, 300])
def test_many_thresholds_at_once_count_like_each_alone(most_entries: int) -> None:
    scores = scored(parts(6, 24), most_entries=most_entries)
    thresholds = [0.0, 0.05, 0.123, 0.4, 5.0]
    found = scores.counts_over(thresholds)
    assert list(found) == scores.names
    for place, threshold in enumerate(thresholds):
        alone = scores.counts_each(threshold)
        assert {name: Counts(*rows[place].tolist()) for name, rows in found.items()} == alone


def test_the_resolution_is_the_largest_difference_of_values_that_were_merged() -> None:
    """1024 neighbouring numbers as four: each of 256, the first and the last of which are 255 steps apart."""
    scores = PixelScores(most_entries=4)
    scores.add("good.png", (1.0 + np.arange(1024) * 2.0**-23).astype(np.float32).reshape(32, 32))
    assert 255 * 2**-23 <= scores.resolution <= 256 * 2**-23


def test_merging_values_keeps_regions_apart() -> None:
    """The highest value of the one is the lowest of the other."""
    anomaly_map, mask = np.linspace(0.0, 1.0, 400, dtype=np.float32).reshape(20, 20), np.zeros((20, 20), np.bool_)
    for row, values in ((5, (0.25, 0.5)), (9, (0.5, 1.0))):
        anomaly_map[row, 3:5], mask[row, 3:5] = values, True
    exact, merged = PixelScores(), PixelScores(most_entries=200)
    for scores in (exact, merged):
        scores.add("two.png", anomaly_map, mask)
    assert merged.resolution > 0.0
    assert merged.aupro(1.0) == pytest.approx(exact.aupro(1.0), abs=0.01)
