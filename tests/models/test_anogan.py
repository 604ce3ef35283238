"""The adversarial pair, the search, and the word about mode collapse."""

import pytest
import torch
from torch import Tensor

from blemish.models.anogan import AnoGan, AnoGanSettings
from blemish.models.detector import ImageShape
from reference.plain_loop import ListOfBatches, PlainLoop

SHAPE = ImageShape(channels=3, height=16, width=32)


def build(**settings: object) -> AnoGan:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        values = {"latent": 8, "width": 4, "search_steps": 20, **settings}
        return AnoGan(AnoGanSettings.model_validate(values), SHAPE)


def images(count: int, spread: float = 0.3) -> Tensor:
    """Plain images in different colours."""
    colours = torch.rand(count, 3, 1, 1, generator=torch.Generator().manual_seed(1))
    return (0.5 + spread * (colours - 0.5)).expand(-1, *SHAPE).contiguous()


def vivid(detector: AnoGan) -> AnoGan:
    """The detector with a generator that draws something else from every latent; untrained ones do not."""
    with torch.no_grad():
        for weight in detector.generator.parameters():
            weight *= 20 if weight.ndim > 1 else 1
    return detector


def total(detector: AnoGan, batch: Tensor) -> Tensor:
    found, weight = detector.search(batch), detector.settings.feature_weight
    return (1 - weight) * found.residual_losses + weight * found.feature_losses


@pytest.mark.slow
def test_search_brings_the_total_loss_down() -> None:
    batch = images(4)
    few, many = (total(build(search_steps=steps).eval(), batch) for steps in (1, 60))
    assert (many < few).all()


@pytest.mark.slow
def test_search_finds_what_the_generator_can_draw() -> None:
    detector = vivid(build(search_steps=150)).eval()
    with torch.no_grad():
        latents = torch.randn(3, 8, 1, 1, generator=torch.Generator().manual_seed(7))
        drawable = detector.generator(latents)
        assert detector(drawable).max() < 0.3 * detector(1 - drawable).max()


def test_search_reports_both_losses() -> None:
    detector, batch = build().eval(), images(2)
    with torch.no_grad():
        found = detector.search(batch)
        generated = detector.generator(found.latents)
        features = detector.discriminator[0]
        torch.testing.assert_close(found.residual_losses, (batch - generated).abs().sum((1, 2, 3)))
        difference = features(batch) - features(generated)
        torch.testing.assert_close(found.feature_losses, difference.abs().sum((1, 2, 3)))


def test_both_losses_of_good_images_are_noted() -> None:
    detector, batch = build(), images(6)
    detector.fit(ListOfBatches([batch]), PlainLoop(detector, steps=2))
    found = detector.eval().search(batch)
    means = (losses.mean().item() for losses in (found.residual_losses, found.feature_losses))
    assert "residual loss {:.4g}, feature loss {:.4g} an image".format(*means) in detector.notes[0]


def test_search_leaves_the_networks_without_gradients() -> None:
    detector = build().eval()
    with torch.no_grad():
        detector(images(2))
    assert all(weight.grad is None for weight in detector.parameters())


def test_each_loss_is_the_cross_entropy_of_its_side() -> None:
    detector, batch = build().eval(), images(4)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        losses = detector.discriminator_loss(batch), detector.generator_loss(batch)
        torch.manual_seed(3)
        first, second = (detector.generator(torch.randn(4, 8, 1, 1)) for _ in range(2))
    real, fake = torch.sigmoid(detector.discriminator(batch)), torch.sigmoid(detector.discriminator(first))
    torch.testing.assert_close(losses[0], -real.log().mean() - (1 - fake).log().mean())
    torch.testing.assert_close(losses[1], -torch.sigmoid(detector.discriminator(second)).log().mean())


def test_fit_trains_both_sides() -> None:
    detector = build()
    before = {name: weight.clone() for name, weight in detector.named_parameters()}
    loop = PlainLoop(detector, steps=4)
    detector.fit(ListOfBatches([images(6)]), loop)
    assert len(loop.curves) == 2
    assert all(not torch.equal(weight, before[name]) for name, weight in detector.named_parameters())
    assert detector.training


@pytest.mark.parametrize("collapsed", [False, True])
def test_mode_collapse_is_noted(collapsed: bool) -> None:
    detector = build() if collapsed else vivid(build())
    assert detector.notes == []
    detector.fit(ListOfBatches([images(6)]), PlainLoop(detector, steps=0))
    heads = [note.partition(":")[0] for note in detector.notes]
    assert heads == ["search for good images", *["mode collapse"] * collapsed]
    restored = build()
    restored.restore(detector.state_dict())
    assert restored.notes == detector.notes
