# SPDX-License-Identifier: Apache-2.0
"""What a latent channel weighs is how much of the picture hangs on it."""

import dataclasses

import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import DEFAULT
from hydra_model.training.channels import channel_weights

SHORT = dataclasses.replace(
    DEFAULT,
    video=dataclasses.replace(DEFAULT.video, height=32, width=48),
    autoencoder=dataclasses.replace(DEFAULT.autoencoder, base_dim=8),
    chunk_latents=2,
)


def test_a_channel_that_the_decoder_does_not_read_weighs_nothing() -> None:
    torch.manual_seed(1)
    autoencoder = Autoencoder(SHORT.autoencoder).prepare("cpu", torch.float32)
    weight = autoencoder.wan.post_quant_conv.weight
    weight[:, 3] = 0.0
    weight[:, 5] *= 3.0
    weights = channel_weights(SHORT, autoencoder, 1.0)
    assert weights.shape == (12,)
    torch.testing.assert_close(weights.mean(), torch.tensor(1.0))
    assert weights[3] == 0 and weights.argmax() == 5
    half = channel_weights(SHORT, autoencoder, 0.5)
    torch.testing.assert_close(half, weights.sqrt() / weights.sqrt().mean())
    torch.testing.assert_close(channel_weights(SHORT, autoencoder, 1.0), weights)
