# SPDX-License-Identifier: Apache-2.0
"""The autoencoder agrees with the released one for the same weights."""

import pytest
import torch
from parity import load_case, relative_error, seeding

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints.upstream_names import autoencoder_names
from hydra_model.config import AutoencoderConfig


@pytest.mark.parametrize("parallel", [False, True])
def test_agrees_with_the_released_autoencoder(parallel):
    reference, case = load_case("vae")
    make = seeding()
    config = AutoencoderConfig(base_dim=case["dim"], latent_channels=case["z_dim"])
    model = Autoencoder(config)
    names = autoencoder_names(model.state_dict(), config.num_res_blocks)
    shapes = {their: model.state_dict()[our].shape for our, their in names.items()}
    weights = make.seeded_state_dict(shapes, case["seed"])
    model.load_state_dict({our: weights[their] for our, their in names.items()})

    shape = tuple(reference["video.shape"].tolist())
    video = make.seeded_input("video", shape, case["seed"]).clamp(-1, 1)
    encode, decode = model.encode, model.decode
    if parallel:
        encode, decode = model.encode_parallel, model.decode_parallel
    with torch.no_grad():
        latents = encode(video)
        decoded = decode(latents)
    assert relative_error(latents, reference["latents"]) < 1e-4
    assert decoded.shape == shape
    samples = decoded.flatten()[reference["video.positions"]]
    assert relative_error(samples, reference["video.samples"]) < 1e-4
    assert decoded.square().mean().sqrt() == pytest.approx(reference["video.rms"].item(), rel=1e-4)
