# SPDX-License-Identifier: Apache-2.0
"""Where a device's memory does not suffice, less is done at once, and that is said once."""

import copy
import logging

import torch
from small_transformers import Inputs, random_model

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import AutoencoderConfig
from hydra_model.fast.acceleration import Acceleration
from hydra_model.fast.engine import accelerate


def without_memory(function, fits):
    """The function, on a device that holds only arguments for which ``fits``."""

    def run(*arguments, **options):
        if not fits(*arguments, **options):
            raise torch.OutOfMemoryError("no memory")
        return function(*arguments, **options)

    return run


@torch.no_grad()
def test_guidance_goes_on_with_two_forwards(caplog):
    model = random_model()
    inputs = Inputs(model, 1, 6, 4)
    pair = inputs.conditionings(model)
    expected = model.pair(inputs.target, inputs.sigma, *pair)
    fast = copy.deepcopy(model)
    engine = accelerate(fast, Acceleration(paired=True, fusion="none", attention="gather"))
    engine.joint.velocity = without_memory(
        engine.joint.velocity, lambda *_, shared=1, **options: shared == 1
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            got = fast.pair(inputs.target, inputs.sigma, *pair)
            assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(got, expected, strict=True))
    assert len(caplog.records) == 1 and "two forwards" in caplog.text


def test_the_autoencoder_goes_on_latent_by_latent(caplog, monkeypatch):
    config = AutoencoderConfig(
        latent_channels=4, base_dim=4, dim_mult=(1, 2), num_res_blocks=1,
        temporal_downsample=(True,), latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4,
    )  # fmt: skip
    torch.manual_seed(0)
    autoencoder = Autoencoder(config).eval()
    video = torch.rand(1, 3, 9, 16, 16) * 2 - 1
    latents = autoencoder.encode(video)
    decoded = autoencoder.decode(latents)

    def one_by_one(_, latents_per_piece: int) -> bool:
        return latents_per_piece == 1

    for name in ("_encode", "decode_stream"):
        whole = getattr(autoencoder, name)
        monkeypatch.setattr(autoencoder, name, without_memory(whole, one_by_one))
    with caplog.at_level(logging.WARNING):
        assert torch.allclose(autoencoder.encode(video), latents, atol=1e-5)
        assert torch.allclose(autoencoder.decode(latents), decoded, atol=1e-5)
    assert caplog.text.count("one by one") == 2
