"""Dinomaly: its attention, its loss and its halves by hand, and that it takes transformers alone."""

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from blemish.errors import SettingsError
from blemish.models import make_detector, pin, side_multiple
from blemish.models.detector import ImageShape
from blemish.models.dinomaly import (
    Block,
    CountedBatches,
    Dinomaly,
    LinearAttention,
    NoisyBottleneck,
    linear_attention,
    loose_distance,
)
from blemish.settings import RunSettings, validate
from blemish.training.checkpoint import Checkpoint
from blemish.training.loop import GradientLoop
from reference.plain_loop import ListOfBatches, PlainLoop
from reference.tiny_encoders import FAMILIES, needed, save_tiny

pytest.importorskip("transformers")

SHAPE = ImageShape(3, 64, 96)


@cache
def model() -> dict[str, Any]:
    return pin("dinomaly", {**needed("dinomaly"), "smoothing_sigma_px": 0.0, "encoder_layers": [1, 2, 4]}).model


def detector() -> Dinomaly:
    made = make_detector("dinomaly", model(), SHAPE)
    assert isinstance(made, Dinomaly)
    made.encoder.prepare()
    for weight in [*made.bottleneck.parameters(), *made.decoder.parameters()]:
        weight.data += 0.02 * torch.randn_like(weight)
    return made.eval()


def kernel(x: float) -> float:
    return x + 1 if x > 0 else math.exp(x)


def test_linear_attention_is_that_of_plain_loops() -> None:
    queries, keys, values = 2 * torch.randn(3, 2, 5, 4, dtype=torch.float64)
    found = linear_attention(queries, keys, values)
    for b, i, c in np.ndindex(2, 5, 4):
        weights = [
            sum(kernel(float(q)) * kernel(float(k)) for q, k in zip(queries[b, i], key, strict=True)) for key in keys[b]
        ]
        mean = sum(w * float(v) for w, v in zip(weights, values[b, :, c], strict=True)) / sum(weights)
        assert found[b, i, c].item() == pytest.approx(mean)


def test_attention_that_no_key_answers_to_is_a_number() -> None:
    low = torch.full((1, 3, 2), -1e3)
    assert torch.isfinite(linear_attention(low, low, torch.ones(1, 3, 2))).all()


def test_heads_attend_apart() -> None:
    attention, tokens = LinearAttention(128), torch.randn(2, 6, 128)
    assert attention.heads == 2
    queries, keys, values = attention.qkv(tokens).chunk(3, dim=2)
    halves = [linear_attention(queries[..., i], keys[..., i], values[..., i]) for i in (slice(64), slice(64, 128))]
    torch.testing.assert_close(attention(tokens), attention.out(torch.cat(halves, dim=2)))


def test_a_block_is_attention_and_an_mlp_each_beside_a_shortcut() -> None:
    block, tokens = Block(8), torch.randn(2, 6, 8)
    (norm, attention), (norm2, first, _, second) = block.attention, block.mlp
    between = tokens + attention(norm(tokens))
    torch.testing.assert_close(block(tokens), between + second(F.gelu(first(norm2(between)))))


def test_the_bottleneck_is_noisy_in_training_alone() -> None:
    bottleneck, x = NoisyBottleneck(8, 0.2), torch.randn(4, 8)
    _, first, _, _, second, _ = bottleneck
    torch.testing.assert_close(bottleneck.eval()(x), second(F.gelu(first(x))))
    assert sum(isinstance(part, nn.Dropout) for part in bottleneck) == 3
    zeros = (bottleneck.train()(x.expand(500, 4, 8)) == 0).float().mean().item()
    assert zeros == pytest.approx(0.2, abs=0.02)


def halves_by_hand(made: Dinomaly, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Seen and given of both halves: of layers a, b, c and blocks 1, 2, 3, `a` with 3, and (b + c) / 2 with 1 and 2."""
    a, b, c = (one.flatten(2).mT for one in made.encoder(images))
    one = made.decoder[0](made.bottleneck((a + b + c) / 3))
    two = made.decoder[1](one)
    three = made.decoder[2](two)
    return [(a, three), ((b + c) / 2, (one + two) / 2)]


def test_the_shallow_half_is_matched_with_the_last_blocks() -> None:
    made, images = detector(), torch.rand(2, *SHAPE)
    with torch.no_grad():
        parts = [1 - F.cosine_similarity(seen, given, dim=2) for seen, given in halves_by_hand(made, images)]
        coarse = (sum(parts) / 2).reshape(2, 1, 4, 6)
        by_hand = F.interpolate(coarse, SHAPE[1:], mode="bilinear")[:, 0]
        assert by_hand.std() > 1e-3
        torch.testing.assert_close(made(images), by_hand, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_distance_of_all_places_together() -> None:
    made, images = detector(), torch.rand(2, *SHAPE)
    with torch.no_grad():
        found = made.loose_loss(made.halves_of_layers(images), share=0.5)
        by_hand = [
            1 - F.cosine_similarity(seen[image].flatten(), given[image].flatten(), dim=0)
            for seen, given in halves_by_hand(made, images)
            for image in range(2)
        ]
        torch.testing.assert_close(found, torch.stack(by_hand).mean())


@pytest.mark.parametrize(("share", "hard"), [(0.0, 24), (0.5, 12), (0.9, 2), (1.0, 1)])
def test_gradients_of_the_easiest_places_are_shrunk(share: float, hard: int) -> None:
    """Of 24 places in a batch of 2 images: those that stay as they are lie farthest, wherever they lie."""
    seen, given = torch.randn(2, 2, 5, 3, 4, dtype=torch.float64)
    plain = given.clone().requires_grad_()
    (1 - F.cosine_similarity(seen.flatten(1), plain.flatten(1))).mean().backward()
    loose = given.clone().requires_grad_()
    loose_distance(seen.float(), loose, share).backward()
    assert plain.grad is not None
    assert loose.grad is not None
    farthest = sorted(
        np.ndindex(2, 3, 4),
        key=lambda at: -(1 - F.cosine_similarity(seen[at[0], :, *at[1:]], given[at[0], :, *at[1:]], dim=0)).item(),
    )[:hard]
    for b, i, j in np.ndindex(2, 3, 4):
        factor = 1.0 if (b, i, j) in farthest else 0.1
        torch.testing.assert_close(loose.grad[b, :, i, j], factor * plain.grad[b, :, i, j], rtol=1e-4, atol=1e-7)


def test_batches_are_counted_over_epochs_and_after_a_resumption() -> None:
    counted = CountedBatches(ListOfBatches([torch.zeros(1), torch.ones(1)]))
    assert [counted.step for _ in counted] == [0, 1]
    counted.epoch = 3  # as a run that is taken up there
    assert [counted.step for _ in counted] == [6, 7]


def test_the_share_of_easy_places_rises_over_a_tenth_of_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []

    def note(_seen: Tensor, given: Tensor, share: float) -> Tensor:
        shares.append(share)
        return given.sum() * 0

    monkeypatch.setattr("blemish.models.dinomaly.loose_distance", note)
    made, batches = detector(), ListOfBatches([torch.rand(2, *SHAPE)] * 3)
    run = validate(RunSettings, {"train": {"epochs": 100, "max_steps": 40, "precision": "float32"}})
    made.fit(batches, GradientLoop(made, run, "cpu", Checkpoint(tmp_path / "state", {}, 1e9, False), lambda _: None))
    assert shares[::2] == pytest.approx([0.0, 0.225, 0.45, 0.675, *[0.9] * 36])  # of both halves


def test_the_encoder_does_not_learn() -> None:
    made = detector()
    before = {key: value.clone() for key, value in made.encoder.state_dict().items()}
    decoder = [weight.clone() for weight in made.decoder.parameters()]
    made.train().fit(ListOfBatches([torch.rand(2, *SHAPE)]), PlainLoop(made, steps=2))
    assert all(torch.equal(value, before[key]) for key, value in made.encoder.state_dict().items())
    assert not any(torch.equal(old, new) for old, new in zip(decoder, made.decoder.parameters(), strict=True))


@pytest.mark.parametrize("encoder", ["efficientnet_lite0", "resnet"])
def test_an_encoder_of_several_strides_is_refused_with_those_that_serve(encoder: str, tmp_path: Path) -> None:
    if encoder in FAMILIES:
        encoder = f"folder:{save_tiny(encoder, tmp_path / 'tiny')}"
    told = r"strides 4, 8, 16; dinomaly needs a vision transformer.*\(DINOv2, .*blemish encoders fetch hf:.*folder:PATH"
    for refused in (
        lambda: side_multiple("dinomaly", {"encoder": encoder}),
        lambda: make_detector("dinomaly", {"encoder": encoder}, ImageShape(3, 64, 64)),
    ):
        with pytest.raises(SettingsError, match=f"model.encoder: '{encoder}' has maps of {told}"):
            refused()


def test_a_single_layer_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"model\.encoder_layers: dinomaly needs at least two layers, found one"):
        make_detector("dinomaly", {**needed("dinomaly"), "encoder_layers": [2]}, SHAPE)


def test_without_its_encoder_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLEMISH_ENCODERS", str(tmp_path))
    with pytest.raises(
        SettingsError, match=r"blemish encoders fetch hf:facebook/dinov2-with-registers-base; .*folder:"
    ):
        pin("dinomaly", {})
