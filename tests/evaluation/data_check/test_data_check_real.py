"""A data check of photographs: a hidden defect comes out on top, real copies are found, clean sets are left alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.data.folder import read_folder
from blemish.data.images import prepare
from blemish.evaluation.data_check.data_check import check_data
from blemish.evaluation.data_check.leave_one_out import FeatureExtractor, leave_one_out
from blemish.training.policy import resolve_policy
from blemish.training.settings import make_settings


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "every", "least_first"), [("hazelnut_toy", 2, 9), ("mvtec_toothbrush", 3, 9), ("kolektorsdd", 6, 8)]
)
def test_a_real_defect_hidden_among_fifty_good_images_is_the_strangest(
    name: str, every: int, least_first: int, real_data: Callable[[str], Path]
) -> None:
    folder = read_folder(real_data(name))
    good = [*folder.train, *(sample for sample in folder.test if not sample.label)][:50]
    bad = [sample for sample in folder.test if sample.label][::every]
    policy = resolve_policy(good, make_settings(assignments=["data.speed=fast"]))
    extractor = FeatureExtractor(policy)
    grids = [extractor.extract(prepare(sample.path, policy)) for sample in good]
    first = 0
    for sample in bad:
        grid = extractor.extract(prepare(sample.path, policy))
        scores = leave_one_out(extractor, [*grids, grid], range(len(good) + 1)).max(axis=1)
        first += int(scores.argmax()) == len(good)
    assert len(bad) >= 9
    assert first >= least_first


@pytest.mark.data
def test_clean_sets_of_photographs_pass_but_for_a_brush_photographed_twice_and_one_that_is_hardly_odd(
    real_data: Callable[[str], Path],
) -> None:
    hazelnuts = check_data(real_data("hazelnut_toy"), make_settings())
    assert [finding.kind for finding in hazelnuts.findings] == ["size"]
    assert not hazelnuts.must_look
    brushes = check_data(real_data("mvtec_toothbrush"), make_settings())
    odd, twice = brushes.findings
    assert (odd.kind, odd.paths) == ("odd one", ("test/good/039.png",))
    assert brushes.oddness["test/good/039.png"] < 1.1 * brushes.oddness["train/good/016.png"]  # nearly one of the rest
    assert (twice.kind, twice.paths) == ("near duplicate", ("train/good/006.png", "train/good/015.png"))
