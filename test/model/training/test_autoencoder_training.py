# SPDX-License-Identifier: Apache-2.0
"""Training the autoencoder: what is weighed, what is decoded, and how latents are held."""

import dataclasses
import math
from pathlib import Path

import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import DEFAULT
from hydra_model.training.autoencoder import (
    AutoencoderTraining,
    ClipSource,
    loss_terms,
    reconstruct,
    train_autoencoder,
)
from hydra_model.training.data import to_video
from hydra_model.training.distributed import Process

SHORT = dataclasses.replace(
    DEFAULT,
    video=dataclasses.replace(DEFAULT.video, height=32, width=48),
    autoencoder=dataclasses.replace(DEFAULT.autoencoder, base_dim=8),
    context_latents=8,
    chunk_latents=8,
)


def test_the_autoencoder_weighs_pixels_and_edges_of_subjects() -> None:
    video = torch.zeros(1, 3, 1, 4, 4)
    subject, elsewhere = video.clone(), video.clone()
    subject[..., 0, 0] = elsewhere[..., 3, 3] = 1.0
    weight = torch.ones(1, 1, 1, 4, 4)
    weight[..., 0, 0] = 8.0
    mean = (15 + 8) / 16
    pixels, edges = loss_terms(video, subject, weight)
    torch.testing.assert_close(pixels, torch.tensor(8 / 16 / mean))
    torch.testing.assert_close(edges, torch.tensor(2 * 8 / 12 / ((11 + 8) / 12)))
    pixels, edges = loss_terms(video, elsewhere, weight)
    torch.testing.assert_close(pixels, torch.tensor(1 / 16 / mean))
    torch.testing.assert_close(edges, torch.tensor(2 * 1 / 12 / ((11 + 8) / 12)))


def test_the_autoencoder_is_trained_to_decode_what_the_simulator_decodes() -> None:
    """Weights gone on from have a mean and a deviation, which decoding undoes."""
    config = dataclasses.replace(
        SHORT.autoencoder, latents_mean=(0.3,) * 12, latents_std=(2.5,) * 12
    )
    torch.manual_seed(4)
    model = Autoencoder(config).prepare("cpu", torch.float32)
    video = torch.rand(1, 3, 5, 32, 48) * 2 - 1
    with torch.no_grad():
        decoded, mean, _ = reconstruct(model, video, torch.zeros(1, 12, 2, 4, 6))
    torch.testing.assert_close(model.normalise(mean), model.encode(video))
    expected = model.decode(model.encode(video))
    torch.testing.assert_close(decoded.clamp(-1, 1), expected, atol=1e-4, rtol=1e-4)


def test_clips_tell_where_their_subjects_are() -> None:
    training = AutoencoderTraining(clips=4, worlds=2)
    config = dataclasses.replace(SHORT, world_style="rich")
    source = ClipSource(config, training, Process(0, 1, torch.device("cpu")), None)
    for step in range(source.per_epoch):
        clips, subjects = source.clips(step)
        assert clips.shape[:-1] == subjects.shape == (4, 17, 32, 48)
        # Subjects alone are as colourful as this.
        colourful = (clips.amax(-1).int() - clips.amin(-1).int()) > 130
        assert subjects.dtype == torch.bool and subjects[colourful].float().mean() > 0.8


def test_an_anchor_keeps_latents_near_those_of_the_weights_begun_with(tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, context_latents=2, chunk_latents=2)  # little to render
    process = Process(0, 1, torch.device("cpu"))
    few = AutoencoderTraining(frames=5, clips=2, worlds=1, average_decay=0.0)
    torch.manual_seed(3)
    given = Autoencoder(SHORT.autoencoder).prepare("cpu", torch.float32)
    begin = {name: value.clone() for name, value in given.state_dict().items()}
    video = to_video(ClipSource(config, few, process, None).clips(0)[0])

    def moved(anchor: float) -> float:
        folder = tmp_path / str(anchor)
        folder.mkdir()
        weights, _ = train_autoencoder(
            config, dataclasses.replace(few, anchor=anchor), process, folder=folder,
            seconds=math.inf, total_steps=6, compiled=False, begin=begin, log=lambda line: None,
        )  # fmt: skip
        trained = Autoencoder(SHORT.autoencoder).prepare("cpu", torch.float32)
        trained.load_state_dict(weights)
        change = trained.encode_moments(video)[0] - given.encode_moments(video)[0]
        return change.square().mean().item()

    free, held = moved(0.0), moved(100.0)
    assert held < 0.5 * free, (held, free)


def test_a_decoder_alone_is_trained_and_latents_stay_what_they_were(tmp_path: Path) -> None:
    config = dataclasses.replace(SHORT, context_latents=2, chunk_latents=2)  # little to render
    training = AutoencoderTraining(frames=5, clips=2, worlds=1, decoder_only=True)
    torch.manual_seed(3)
    given = Autoencoder(SHORT.autoencoder).prepare("cpu", torch.float32)
    begin = {name: value.clone() for name, value in given.state_dict().items()}
    weights, _ = train_autoencoder(
        config, training, Process(0, 1, torch.device("cpu")), folder=tmp_path, seconds=math.inf,
        total_steps=2, compiled=False, begin=begin, log=lambda line: None,
    )  # fmt: skip
    changed = {name for name, value in begin.items() if not torch.equal(value, weights[name])}
    assert changed
    assert all(name.startswith(("wan.decoder.", "wan.post_quant_conv.")) for name in changed)
