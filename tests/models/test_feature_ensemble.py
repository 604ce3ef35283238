"""FeatureEnsemble: its metric, bank, Gaussians and mean against the plainest code."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from blemish.errors import SettingsError
from blemish.inference.onnx_check import check_graph
from blemish.inference.runtime import graph_runtime
from blemish.inference.torch_runtime import TorchRuntime
from blemish.models import alignment, feature_ensemble, patch_bank
from blemish.models.background import Background, background_of
from blemish.models.detector import ImageShape
from blemish.models.encoders import ENCODERS, EfficientNetLite, FrozenEncoder
from blemish.models.feature_ensemble import FeatureEnsemble
from blemish.models.feature_ensemble_settings import FeatureEnsembleSettings
from blemish.models.feature_maps import concat_scales, local_mean
from blemish.models.gaussians import CellGaussians, place_gaussians
from blemish.models.maps import gaussian_blur, reducing
from blemish.models.neighbours import RIDGE, distances_between, relative_distances
from blemish.models.patch_bank import PatchBank, residual_metric
from blemish.settings import validate
from blemish.training.onnx_graph import to_graph
from blemish.training.settings import make_settings
from reference.blocks_encoder import BlocksEncoder
from reference.brute_force import relative_nearest, residuals, shrink_gaussians, spacings
from reference.plain_loop import ListOfBatches, PlainLoop

SHAPE = ImageShape(channels=3, height=64, width=96)


def images(count: int, seed: int = 0, shape: ImageShape = SHAPE) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def fit(batches: list[Tensor], shape: ImageShape = SHAPE, **settings: object) -> FeatureEnsemble:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = FeatureEnsemble(FeatureEnsembleSettings.model_validate(settings), shape)
        detector.fit(ListOfBatches(batches), PlainLoop(detector, steps=0))
    return detector.eval()


@pytest.fixture(scope="module")
def fitted() -> FeatureEnsemble:
    return fit([images(4), images(3, seed=1)], rows=40)


def test_relative_distances_equal_all_distances() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(50, 7, generator=generator), torch.randn(1100, 7, generator=generator)
    spacing = torch.rand(1100, generator=generator) + 0.1
    expected = relative_nearest(queries.double().numpy(), bank.double().numpy(), spacing.double().numpy())
    np.testing.assert_allclose(relative_distances(queries, bank, spacing).numpy(), expected, rtol=1e-4)


def test_distances_between_rows_equal_the_smallest_found_one_query_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    queries, bank = torch.randn(20, 7, generator=generator), torch.randn(60, 5, generator=generator)
    spacing, beyond = torch.rand(60, generator=generator) + 0.5, torch.rand(60, generator=generator)
    found = distances_between(queries, bank, spacing, beyond, count=4)
    for query, distance in zip(queries.double().numpy(), found.tolist(), strict=True):
        # Each row has a direction of its own beyond the main ones, at right angles to all else.
        rows = np.hstack([bank.double().numpy(), np.zeros((60, 1)), np.diag(beyond.double().sqrt().numpy())])
        apart = rows - np.concatenate([query[:5], [np.linalg.norm(query[5:])], np.zeros(60)])
        squares = ((apart / spacing.double().numpy()[:, None]) ** 2).sum(axis=1)
        first = np.argsort(squares)[:5]
        units = spacing.double().numpy()[first[:4]]
        held = RIDGE * np.square(units).mean() / (1 - squares[first[:4]] / squares[first[4]])
        weights = np.linalg.solve(apart[first[:4]] @ apart[first[:4]].T + np.diag(held), np.ones(4))
        weights /= weights.sum()
        assert distance == pytest.approx(np.linalg.norm(weights @ apart[first[:4]]) / (weights @ units), rel=1e-4)


def test_distances_between_rows_do_not_jump_where_another_row_becomes_one_of_the_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    bank, spacing = torch.randn(600, 3, generator=generator), torch.rand(600, generator=generator) + 0.5
    start, end = torch.randn(2, 3, generator=generator)
    path = start + torch.linspace(0, 1, 20_001)[:, None] * (end - start)
    nearest = ((path[:, None] - bank) / spacing[:, None]).norm(dim=2).topk(3, largest=False).indices.sort().values
    assert len(nearest.unique_consecutive(dim=0)) > 10
    steps = distances_between(path, bank, spacing, None, count=3).diff().abs()
    assert steps.max() < 9 * float((end - start).norm()) / 20_000


def all_distances(bank: PatchBank, patches: Tensor) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Relative distances to a bank of short rows: lengths beyond the main directions lie at right angles."""
    points = ((patches - bank.centre) @ bank.metric).double().numpy()
    kept = bank.rows.shape[1] - 1
    rows = bank.rows.double().numpy()
    beyond = np.linalg.norm(points[:, kept:], axis=1)[:, None]
    queries = np.hstack([points[:, :kept], beyond, np.zeros_like(beyond)])
    bank_rows = np.hstack([rows[:, :kept], np.zeros((len(rows), 1)), np.sqrt(rows[:, kept:])])
    return relative_nearest(queries, bank_rows, bank.spacing.double().numpy())


def test_patches_and_rows_are_told_apart_in_the_main_directions_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    patches, image = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)), torch.arange(300) % 3
    banks = {}
    for directions in (4, 6):
        monkeypatch.setattr(patch_bank, "DIRECTIONS", directions)
        banks[directions] = PatchBank(6)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            banks[directions].fit(patches, image, rows=50)
    short, full = banks[4], banks[6]
    np.testing.assert_allclose(short(patches).numpy(), all_distances(short, patches), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(short.rows[:, :4], full.rows[:, :4])
    torch.testing.assert_close(short.rows[:, 4], full.rows[:, 4:].square().sum(dim=1))
    variances = full.rows.var(dim=0)
    assert torch.equal(variances, variances.sort(descending=True).values)


def test_rows_of_earlier_model_files_are_compared_in_all_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    detector = FeatureEnsemble(FeatureEnsembleSettings(), SHAPE)
    rows, patches = torch.randn(40, 176, generator=generator), torch.randn(30, 176, generator=generator)
    detector.restore({**detector.state_dict(), "bank.rows": rows, "bank.spacing": torch.ones(40)})
    expected = torch.cdist(patches.double(), rows.double()).min(dim=1).values.float()
    torch.testing.assert_close(detector.bank(patches), expected, rtol=1e-4, atol=1e-4)


def test_metric_whitens_the_residuals_with_their_mean_variance_for_a_ridge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_bank, "METRIC_ROWS", 60)
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(200, 5, generator=generator) * torch.tensor([1.0, 2.0, 30.0, 0.1, 5.0])
    image = torch.arange(200) % 4
    metric = residual_metric(patches, image).double().numpy()
    scale = patches.double().numpy().std(axis=0, ddof=1)
    left = residuals(patches.double().numpy() / scale, image.tolist(), rows=60)
    scatter = left.T @ left / len(left)
    ridged = np.eye(5) + scatter / np.trace(scatter) * 5
    expected = np.linalg.inv(ridged * np.outer(scale, scale))
    np.testing.assert_allclose(metric @ metric.T, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_bank_is_of_the_patches_and_knows_its_spacing() -> None:
    patches, bank = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)), PatchBank(6)
    bank.fit(patches, torch.arange(300) % 3, rows=50)
    assert bank.rows.shape == (50, 6)
    points = (patches - bank.centre) @ bank.metric
    assert (bank.rows[:, None] - points).norm(dim=2).min(dim=1).values.max() < 1e-4
    np.testing.assert_allclose(bank.spacing.numpy(), spacings(bank.rows.double().numpy()), rtol=1e-3)


def test_gaussians_are_those_of_standardised_features_drawn_together() -> None:
    maps = (
        torch.randn(5, 3, 4, 6, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 9.0, 0.3])[:, None, None]
    )
    cells = CellGaussians(3, (4, 6), most=6)
    cells.take(place_gaussians(cells.observations(part) for part in maps.split(2)))
    mean, std = maps.mean(dim=(0, 2, 3)), maps.std(dim=(0, 2, 3), correction=0)
    standard = (maps - mean[:, None, None]) / std[:, None, None]
    observed = cells.observations(standard).permute(0, 2, 1).double().numpy()
    means, covariances = shrink_gaussians(observed, weight=3)
    found = cells(maps)
    for place in range(6):
        rows, columns = slice(2 * (place // 3), 2 * (place // 3) + 2), slice(2 * (place % 3), 2 * (place % 3) + 2)
        apart = standard[:, :, rows, columns].double().numpy() - means[place][:, None, None]
        precision = np.linalg.inv(covariances[place] + 0.01 * np.eye(3))
        expected = np.sqrt(np.einsum("bcij,cd,bdij->bij", apart, precision, apart) / 3)
        np.testing.assert_allclose(found[:, rows, columns].numpy(), expected, rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize(
    ("mean_at", "level_at"), [("places", "places"), ("places", "image"), ("pixels", "image")], ids=str
)
def test_map_is_the_weighted_geometric_mean_of_the_three_terms_over_the_level(
    mean_at: str, level_at: str, fitted: FeatureEnsemble
) -> None:
    settings = FeatureEnsembleSettings.model_validate({"mean_at": mean_at, "level_at": level_at})
    detector = FeatureEnsemble(settings, SHAPE)
    detector.restore(fitted.state_dict())
    batch = images(2, seed=5)
    maps = detector.features(batch)
    patches = concat_scales(maps[:3]).permute(0, 2, 3, 1).reshape(-1, 176)
    nearest = torch.from_numpy(all_distances(detector.bank, patches)).float().reshape(2, 8, 12)
    fine, coarse = detector.fine(local_mean(maps[1])), detector.coarse(maps[3])

    def enlarge(grid: Tensor, size: tuple[int, int], sigma: float) -> Tensor:
        return gaussian_blur(F.interpolate(grid[:, None], size=size, mode="bilinear")[:, 0], sigma)

    if mean_at == "pixels":
        terms = [enlarge(term, (64, 96), 4.0) for term in (nearest, fine, coarse)]
    else:
        terms = [nearest, fine, enlarge(coarse, (8, 12), 0.5)]
    mean = terms[0] ** 0.8 * terms[1] ** 0.1 * terms[2] ** 0.1
    if level_at == "image":
        mean /= terms[0].log().mean(dim=(1, 2), keepdim=True).exp() ** 0.25
    else:
        mean /= gaussian_blur(terms[0].log(), 6.0).exp() ** 0.5
    expected = mean if mean_at == "pixels" else enlarge(mean, (64, 96), 4.0)
    torch.testing.assert_close(detector(batch), expected, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def with_and_without_excess() -> list[FeatureEnsemble]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_ensemble, "WHOLE_SIDE_PX", 32)
        return [fit([images(6)], rows=40, mean_at="places", excess=power) for power in (8.0, 0.0)]


def wrong_whole() -> Tensor:
    wrong = images(1, seed=8)
    wrong[:, :, 16:48, 32:64] = 0.0  # as good ones never are, each part of it plain
    return wrong


@torch.no_grad()
def test_a_wrong_whole_is_lifted_and_good_images_are_not(with_and_without_excess: list[FeatureEnsemble]) -> None:
    good, wrong, (with_excess, without) = images(6)[:2], wrong_whole(), with_and_without_excess
    assert torch.equal(with_excess.bank.rows, without.bank.rows)  # the other terms are not touched
    assert torch.equal(with_excess(good), without(good))
    lifted = with_excess(wrong) / without(wrong)
    assert lifted.min() > 1 - 1e-5
    assert lifted[0, 16:48, 32:64].max() > 2


@torch.no_grad()
def test_maps_of_good_images_end_where_they_are_compared_with_others(
    with_and_without_excess: list[FeatureEnsemble],
) -> None:
    with_excess, without = with_and_without_excess
    own = without(images(6)).amax(dim=(1, 2)).log()  # to rows of their own, too
    unseen = without(images(6, seed=3)).amax(dim=(1, 2)).log()
    assert with_excess.excess is not None
    assert own.max() < with_excess.excess.end < unseen.max() + 0.5


@pytest.fixture(scope="module")
def with_background() -> FeatureEnsemble:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(feature_ensemble, "WHOLE_SIDE_PX", 32)
        return fit([images(6)], rows=40, mean_at="places", excess=8.0, background=0.5)


@torch.no_grad()
def test_scores_do_not_depend_on_the_background(
    with_background: FeatureEnsemble, with_and_without_excess: list[FeatureEnsemble]
) -> None:
    batch = torch.cat([images(2, seed=3), wrong_whole()])
    found, before = (detector(batch) for detector in (with_background, with_and_without_excess[0]))
    assert torch.equal(found.amax(dim=(1, 2)), before.amax(dim=(1, 2)))
    assert not torch.allclose(found, before)


@torch.no_grad()
def test_the_usual_background_is_that_of_good_images_compared_with_others(
    with_background: FeatureEnsemble, with_and_without_excess: list[FeatureEnsemble]
) -> None:
    without = with_and_without_excess[1]

    def level(batch: Tensor) -> Tensor:
        terms = [term.log() for term in without.terms(without.look(batch))]
        return background_of(without.mean(torch.stack(terms)).flatten(1)).mean()

    assert with_background.background is not None
    assert level(images(6)) < with_background.background.usual < level(images(6, seed=3)) + 0.2


@pytest.mark.slow
def test_excess_and_background_are_exported_as_they_are(with_background: FeatureEnsemble) -> None:
    batch = torch.cat([images(1), wrong_whole()]).numpy()
    wanted = TorchRuntime(with_background).maps(batch)
    graph = to_graph(with_background, 18)
    check_graph(graph)  # nothing in it that is refused in a model file
    np.testing.assert_allclose(graph_runtime(graph).maps(batch), wanted, rtol=1e-4, atol=1e-4 * float(wanted.max()))


def test_earlier_files_have_neither_excess_nor_background_and_the_level_of_the_image(fitted: FeatureEnsemble) -> None:
    assert (fitted.settings.level_at, FeatureEnsemble.defaults["model"]["level_at"]) == ("image", "places")
    for name in ("excess", "background"):
        assert FeatureEnsemble.defaults["model"][name] > 0
        assert not [key for key in fitted.state_dict() if key.startswith(name)]


@torch.no_grad()
def test_a_region_is_kept_and_a_file_of_before_has_none(
    with_background: FeatureEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_ensemble, "WHOLE_SIDE_PX", 32)
    assert with_background.settings.background_of == "image"
    assert [name for name in with_background.state_dict() if name.startswith("background.")] == ["background.usual"]
    settings = with_background.settings.model_copy(update={"background_of": "region"})
    region, judged = Background(0.5), torch.zeros(64, 96, dtype=torch.bool)
    judged[:, :40] = True
    region.look_only_at(judged, with_background.grid)
    state = {f"background.{name}": tensor for name, tensor in region.state_dict().items()}
    now = FeatureEnsemble(settings, SHAPE).eval()
    now.restore(state | with_background.state_dict())
    assert torch.equal(now.state_dict()["background.judged"], judged)
    batch = images(2, seed=3)
    found = now(batch)
    assert not torch.equal(found, with_background(batch))
    assert torch.equal(found[:, :, :40].amax(dim=(1, 2)), unmoved(now, batch)[:, :, :40].amax(dim=(1, 2)))
    now.background = Background(0.5)
    now.background.usual = with_background.state_dict()["background.usual"]
    assert torch.equal(now(batch), with_background(batch))  # where there is no region


def unmoved(detector: FeatureEnsemble, batch: Tensor) -> Tensor:
    """The maps without their backgrounds moved."""
    background, detector.background = detector.background, None
    maps = detector(batch)
    detector.background = background
    return maps


def test_in_tiles_backgrounds_stay_unless_they_are_asked_for() -> None:
    tiles = "data.tile_px=[64, 64]"
    for assignments, share in (([], 0.5), ([tiles], 0.0), ([tiles, "model.background=0.25"], 0.25)):
        assert make_settings("feature_ensemble", assignments=assignments).model["background"] == share


@pytest.mark.parametrize(("side_px", "counts"), [(256, False), (352, False), (384, True), (512, True)])
def test_excess_counts_where_the_image_is_made_small(side_px: int, counts: bool) -> None:
    settings = FeatureEnsembleSettings.model_validate({"mean_at": "places", "excess": 1.0})
    assert (FeatureEnsemble(settings, ImageShape(3, side_px, 512)).excess is not None) == counts


@pytest.mark.parametrize(
    ("height", "width", "new", "older"),
    [(256, 256, (2, 2), (2, 2)), (512, 512, (2, 2), (4, 4)), (512, 768, (4, 4), (4, 4)), (640, 256, (2, 2), (4, 4))],
)
def test_fine_gaussians_are_as_many_as_the_settings_say_and_in_older_files_fewer(
    height: int, width: int, new: tuple[int, int], older: tuple[int, int]
) -> None:
    shape = ImageShape(channels=3, height=height, width=width)
    with torch.device("meta"):
        of_older_files = FeatureEnsemble(FeatureEnsembleSettings(), shape)
        of_new_ones = FeatureEnsemble(FeatureEnsembleSettings.model_validate(FeatureEnsemble.defaults["model"]), shape)
    assert (of_new_ones.fine.cell, of_older_files.fine.cell) == (new, older)


@pytest.mark.parametrize(("name", "value"), [("excess", 1.0), ("background", 0.5), ("level_at", "places")])
def test_what_is_taken_at_places_needs_the_mean_there(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=rf"model\.{name}: found {value}; .*mean_at=places"):
        FeatureEnsemble(FeatureEnsembleSettings.model_validate({name: value}), SHAPE)


def test_all_that_needs_the_mean_at_places_is_named_at_once() -> None:
    with pytest.raises(SettingsError, match=r"or set model\.excess=0\.0 model\.background=0\.0 model\.level_at=image$"):
        FeatureEnsemble(FeatureEnsembleSettings(**{**FeatureEnsemble.defaults["model"], "mean_at": "pixels"}), SHAPE)


@torch.no_grad()
def test_the_coarsest_features_see_a_large_image_small() -> None:
    shape = ImageShape(3, 512, 320)
    detector = FeatureEnsemble(FeatureEnsembleSettings(), shape)
    batch = images(1, shape=shape)
    patches, _, whole = detector.look(batch)
    small = F.interpolate(batch, (416, 256), mode="bilinear", antialias=True)
    torch.testing.assert_close(whole, detector.features(small)[-1], rtol=1e-3, atol=1e-4)
    assert (patches.shape, whole.shape) == ((1, 176, 64, 40), (1, 320, 13, 8))


def test_a_side_is_reduced_as_pillow_does() -> None:
    image = Image.fromarray(np.random.default_rng(0).random((8, 50), dtype=np.float32))
    expected = np.asarray(image.resize((16, 8), Image.Resampling.BILINEAR))
    found = torch.from_numpy(np.asarray(image).copy()) @ reducing(50, 16).mT
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_gaussians_do_not_depend_on_batches(fitted: FeatureEnsemble) -> None:
    together = fit([torch.cat([images(4), images(3, seed=1)])])
    for one, other in ((fitted.fine, together.fine), (fitted.coarse, together.coarse)):
        torch.testing.assert_close(one.usual, other.usual, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(one.whitening, other.whitening, rtol=1e-2, atol=1e-2)


def test_large_images_have_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_ensemble, "MAX_PRODUCTS", 96 * 25)
    assert len(fit([images(4)]).bank.rows) == 25
    assert len(fit([images(4)], rows=10).bank.rows) == 10


@pytest.mark.parametrize("same", [torch.zeros(4, *SHAPE), images(1).repeat(4, 1, 1, 1)], ids=["black", "one image"])
def test_good_images_that_do_not_differ_give_a_finite_map(same: Tensor) -> None:
    detector = fit([same])
    with torch.no_grad():
        good, bad = detector(same[:1]), detector(images(1, seed=9))
    assert torch.isfinite(good).all()
    assert torch.isfinite(bad).all()
    assert bad.max() > good.max()


def test_the_deep_encoder_is_the_other_and_more() -> None:
    deep, plain = FrozenEncoder(FeatureEnsembleSettings()), EfficientNetLite()
    deep.prepare()
    plain.load_pretrained()
    batch = images(1).contiguous(memory_format=torch.channels_last)
    found = deep(batch)
    assert [maps.shape[1] for maps in found] == [24, 40, 112, 320]
    for one, other in zip(found, plain(batch), strict=False):
        assert torch.equal(one, other)
    assert len(deep(batch, scales=3)) == 3


def test_coarse_maps_that_are_not_asked_for_are_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = FrozenEncoder(FeatureEnsembleSettings())
    monkeypatch.setattr(deep.encoder.stage_32, "forward", pytest.fail)
    deep(images(1), scales=3)


@pytest.mark.slow
@torch.no_grad()
def test_a_graph_compares_with_points_between_rows_and_places_count_as_without() -> None:
    batches = [images(4), images(3, seed=1)]
    to_rows, between = fit(batches, rows=40), fit(batches, rows=40, near=4)
    assert torch.equal(to_rows.shares, between.shares)
    torch.testing.assert_close(to_rows.bank.rows, between.bank.rows)
    found = between(images(2, seed=5))
    assert (found < to_rows(images(2, seed=5))).float().mean() > 0.9
    graph = to_graph(between, 18)
    check_graph(graph)  # nothing in it that is refused in a model file
    np.testing.assert_allclose(graph_runtime(graph).maps(images(2, seed=5).numpy()), found.numpy(), rtol=1e-4)


@pytest.mark.parametrize("same", [torch.zeros(4, *SHAPE), images(1).repeat(4, 1, 1, 1)], ids=["black", "one image"])
def test_points_between_rows_that_lie_on_each_other_are_finite(same: Tensor) -> None:
    assert torch.isfinite(fit([same], near=8)(images(1, seed=9))).all()


def test_an_encoder_of_two_scales_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENCODERS, "blocks", BlocksEncoder)
    detector = fit([images(4)], encoder="blocks")
    assert detector.bank.metric.shape == (6, 6)
    assert detector(images(2)).shape == (2, 64, 96)


def test_weights_that_are_no_weights_are_refused() -> None:
    for weights in ((0.0, 0.0, 0.0), (1.0, -1.0, 1.0)):
        with pytest.raises(SettingsError, match="weights"):
            validate(FeatureEnsembleSettings, {"weights": weights})


def test_what_lies_between_very_many_rows_is_refused() -> None:
    for rows, near in ((4096, 8), (100_000, 1)):
        FeatureEnsemble(FeatureEnsembleSettings(rows=rows, near=near), SHAPE)
    with pytest.raises(SettingsError, match=r"model\.rows: found 4097; model\.near of more than 1 needs 4096 at most"):
        FeatureEnsemble(FeatureEnsembleSettings(rows=4097, near=2), SHAPE)


@pytest.mark.slow
def test_dark_photos_are_brightened_and_others_are_left() -> None:
    bright = images(4)
    assert fit([bright]).gain.item() == 1.0
    dark = fit([0.2 * bright])
    assert dark.gain.item() == pytest.approx(0.75 / (0.2 * 0.99), rel=0.01)
    assert fit([torch.zeros_like(bright)]).gain.item() == pytest.approx(7.5)
    half = fit([0.2 * bright + 0.3])
    assert half.gain.item() == pytest.approx(0.75 / (0.2 * 0.99 + 0.3), rel=0.01)
    with torch.no_grad():
        patches, *_ = dark.look(0.2 * bright[:1])
        expected = concat_scales(dark.features(0.2 * bright[:1] * dark.gain)[:3])
    torch.testing.assert_close(patches, expected)


def test_places_count_more_where_they_explain_the_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    anywhere = fit([images(4), images(4, seed=1)], rows=40)
    assert anywhere.shares.tolist() == pytest.approx([8 / 10, 1 / 10, 1 / 10])
    assert anywhere.notes == []
    monkeypatch.setattr(feature_ensemble, "explained_by_place", lambda _: 0.4)
    monkeypatch.setattr(feature_ensemble, "narrowness", lambda *_: torch.zeros(()))
    aligned = fit([images(4), images(4, seed=1)], rows=40)
    assert aligned.shares.tolist() == pytest.approx([8 / 13.5, 4.5 / 13.5, 1 / 13.5])
    assert aligned.notes == [
        "as far as 8 good images tell, parts always lie in the same place: what is odd at its place counts 4.5 times "
        "as much"
    ]
    assert aligned.fine.usual.std(dim=0).mean() > 1.5 * anywhere.fine.usual.std(dim=0).mean()


def test_places_count_no_more_where_their_gaussians_take_good_images_for_odd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_ensemble, "explained_by_place", lambda _: 0.9)
    for narrow, fine in ((0.3, 4.5), (0.4, 1.0)):
        monkeypatch.setattr(feature_ensemble, "narrowness", lambda *_, narrow=narrow: torch.tensor(narrow))
        shares = fit([images(4), images(4, seed=1)], rows=40).shares
        assert (shares / shares[0]).tolist() == pytest.approx([1, fine / 8, 1 / 8])


@torch.no_grad()
def test_gaussians_of_places_are_too_narrow_where_each_part_lies_elsewhere() -> None:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for reach in (1, 6):
        maps = 0.1 * torch.randn(20, 2, 8, 8, generator=generator)
        for image, (row, column) in enumerate(torch.randint(reach, (20, 2), generator=generator).tolist()):
            maps[image, :, row : row + 2, column : column + 2] += 3  # a part, somewhere within reach
        cells = CellGaussians(2, (8, 8), most=16)
        half = place_gaussians([cells.observations(maps[::2])])
        own, alike = (cells.drawn(half, share)(maps[1::2]) for share in (0.0, feature_ensemble.ALIKE))
        found[reach] = alignment.narrowness(own, alike)
    assert found[1] < alignment.NARROW_LITTLE
    assert found[6] > alignment.NARROW_MUCH


def test_no_image_is_looked_at_with_gaussians_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def spy(own: Tensor, alike: Tensor) -> Tensor:
        seen.append(float(own.mean()))
        return (own / alike).mean()

    monkeypatch.setattr(feature_ensemble, "narrowness", spy)
    batch = images(6)
    batch[1::2] = 0.2 * batch[:1]  # each half is as usual to itself as can be, and odd to the other
    fit([batch[:3], batch[3:]], rows=40)
    assert len(seen) == 6
    assert min(seen) > 2


@torch.no_grad()
def test_a_part_where_none_was_fitted_is_usual_unless_parts_lie_where_they_always_lie() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = 0.1 * torch.randn(24, 2, 8, 8, generator=generator)
    for image, (row, column) in enumerate([(0, 0), (2, 4), (4, 2), (6, 6)] * 6):
        maps[image, :, row : row + 2, column : column + 2] += 3  # a part, somewhere in each good image
    elsewhere = 0.1 * torch.randn(1, 2, 8, 8, generator=generator)
    elsewhere[:, :, 2:4, 2:4] += 3
    cells = CellGaussians(2, (8, 8), most=16)
    found = {}
    for alike in (0.0, 0.8):
        cells.take(place_gaussians([cells.observations(maps)]), alike)
        found[alike] = cells(elsewhere)[0, 2:4, 2:4].mean() / cells(maps).flatten(1).amax(dim=1).median()
    assert found[0.0] > 2
    assert found[0.8] < 2


def test_places_explain_what_lies_where_it_always_lies_and_nothing_of_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    places, noise = torch.randn(200, generator=generator), torch.randn(10, 200, generator=generator)
    assert alignment.explained_by_place(places + 0.1 * noise) > 0.9
    assert alignment.explained_by_place(noise) < 0.1  # 0 on average; 2,000 draws deviate by .03
    assert alignment.explained_by_place(noise[:3]) == 0.0
    assert alignment.explained_by_place(noise) == pytest.approx(alignment.explained_by_place(noise.flip(0)))  # halves


def test_no_row_of_an_image_itself_explains_its_distances(fitted: FeatureEnsemble) -> None:
    whose = torch.zeros(len(fitted.bank.rows), dtype=torch.long)
    whose[len(whose) // 2 :] = 1
    patches = images(1)
    points = fitted.look(patches)[0].flatten(2).squeeze(0).T
    some = fitted.bank.distances_to_others(points, whose != 0)
    assert (some >= fitted.bank(points) - 1e-6).all()
    assert (fitted.bank.distances_to_others(points, whose < 0) == fitted.bank(points)).all()


def test_features_that_were_kept_are_those_that_would_be_taken_again(
    fitted: FeatureEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_ensemble, "KEPT_BYTES", 0)
    again = fit([images(4), images(3, seed=1)], rows=40).state_dict()
    assert all(torch.equal(one, again[name]) for name, one in fitted.state_dict().items())
