"""The variational auto-encoder against torch's own distributions."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from blemish.models.detector import ImageShape
from blemish.models.vae import Gaussians, VaeSettings, VariationalAutoencoder, kl_to_prior
from reference.plain_loop import ListOfBatches, PlainLoop

SHAPE = ImageShape(channels=3, height=32, width=64)


def build(**settings: object) -> VariationalAutoencoder:
    return VariationalAutoencoder(VaeSettings.model_validate({"latent": 8, **settings}), SHAPE)


def images(count: int) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_divergence_equals_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(2, 5, 8, generator=generator)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_to_prior(Gaussians(mean, log_std)), expected)


def test_map_is_the_negative_log_probability_up_to_its_constant() -> None:
    detector, batch = build(samples=3, min_std=0.05).eval(), images(2)
    latents = detector.encode(batch)
    expected = torch.zeros(2, SHAPE.height, SHAPE.width)
    for noise in detector.noise:
        decoded = detector.decode(latents.mean + latents.log_std.exp() * noise)
        expected -= Normal(decoded.mean, 0.05 * decoded.log_std.exp()).log_prob(batch).sum(1) / 3
    constant = SHAPE.channels * math.log(0.05 * math.sqrt(2 * math.pi))
    torch.testing.assert_close(detector(batch), expected - constant, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_loss_is_reconstruction_plus_beta_times_divergence(beta: float) -> None:
    detector, batch = build(beta=beta, min_std=0.1).eval(), images(4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loss = detector.negative_elbo(batch)
        torch.manual_seed(0)
        latents = detector.encode(batch)
        decoded = detector.decode(Normal(latents.mean, latents.log_std.exp()).rsample())
    log_prob = Normal(decoded.mean, 0.1 * decoded.log_std.exp()).log_prob(batch).mean()
    constant = math.log(0.1 * math.sqrt(2 * math.pi))
    divergence = kl_to_prior(latents).mean() / batch[0].numel()
    torch.testing.assert_close(loss, -log_prob - constant + beta * divergence)


@pytest.mark.slow
def test_evidence_lower_bound_rises_in_training() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = build()
        loop = PlainLoop(detector, steps=24)
        detector.fit(ListOfBatches([images(6)]), loop)
    (curve,) = loop.curves
    assert sum(curve[-8:]) < sum(curve[8:16]) < sum(curve[:8])


def test_noise_is_the_same_for_every_model() -> None:
    assert torch.equal(build(samples=5).noise, build(samples=5).noise)
    assert build(samples=5).noise.shape == (5, 8, 1, 1)
