# SPDX-License-Identifier: Apache-2.0
"""The tiny decoder gives the published pictures, however a video is cut, and a world uses it."""

import numpy as np
import published_tiny_decoder as published
import pytest
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints import load_tiny_decoder
from hydra_model.config import ModelConfig
from hydra_model.imagination import imagine, last_frames
from hydra_model.tiny_decoder import TinyDecoder, check_latent_space
from hydra_model.world import World


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return published.write_world(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def decoder(file):
    torch.save(published.tensors(), file.with_name("float32.pth"))
    return load_tiny_decoder(file.with_name("float32.pth")).prepare("cpu", torch.float32)


def random_latents(batch: int, count: int) -> torch.Tensor:
    return 2 * torch.randn(batch, 16, count, 3, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("count", [1, 2, 4])
@torch.no_grad()
def test_pictures_are_those_of_the_published_form(decoder, count):
    latents = random_latents(1, count)
    expected = published.decode(published.tensors(), latents)
    video = decoder.decode(latents)
    assert video.shape == (1, 3, 1 + 4 * (count - 1), 24, 32) and video.dtype == torch.float32
    assert expected.std() > 0.1 and (expected.abs() < 1).float().mean() > 0.5
    assert (video - expected).abs().max() < 1e-4


def test_every_way_to_cut_a_batch_gives_the_same(decoder):
    latents = random_latents(2, 5)
    whole = torch.cat([decoder.decode(own[None]) for own in latents])
    for together in (1, 2, 5):
        pieces = list(decoder.decode_stream(latents, latents_per_piece=together))
        assert pieces[0].shape[2] == 1 + 4 * (together - 1)
        assert (torch.cat(pieces, dim=2) - whole).abs().max() < 1e-4


def test_streams_side_by_side_do_not_disturb_each_other(decoder):
    first, second = random_latents(2, 3).split(1)
    pairs = zip(decoder.decode_stream(first), decoder.decode_stream(second), strict=True)
    for stream, latents in zip(zip(*pairs, strict=True), (first, second), strict=True):
        assert torch.equal(torch.cat(stream, dim=2), decoder.decode(latents))


def test_frames_are_counted_as_by_the_autoencoder(decoder):
    latents = random_latents(1, 4)
    autoencoder = Autoencoder(published.AutoencoderConfig(base_dim=4, num_res_blocks=1))
    ours, theirs = (
        [piece.shape for piece in model.decode_stream(latents)] for model in (decoder, autoencoder)
    )
    assert ours == theirs


def test_bfloat16_stays_close(file, decoder):
    latents = random_latents(1, 3)
    exact = decoder.decode(latents)
    rounded = load_tiny_decoder(file).prepare("cpu", torch.bfloat16).decode(latents)
    assert (rounded - exact).square().mean().sqrt() < 0.05 * exact.std()


def test_wrong_latents_are_named(decoder):
    with pytest.raises(ValueError, match=r"\(1, 12, 2, 3, 4\); accepted: \[B, 16, k, h, w\]"):
        decoder.decode(torch.zeros(1, 12, 2, 3, 4))


def test_only_latents_of_wan_21_are_accepted():
    released, default = (ModelConfig.from_name(name) for name in ("hydra-1.3b", "default"))
    check_latent_space(released.autoencoder, released.name)
    with pytest.raises(ValueError, match=r"'default' are others \(12 channels, 8x8 pixels, 4 fr"):
        check_latent_space(default.autoencoder, default.name)


def test_a_world_shows_what_it_decodes(file):
    world = World.load(file.parent / "model", device="cpu", dtype="float32", tiny_decoder=file)
    plain = World.load(file.parent / "model", device="cpu", dtype="float32")
    assert isinstance(world.decoder, TinyDecoder) and plain.decoder is plain.autoencoder
    chunks = []
    for own in (world, plain):
        own.reset(np.full((17, 48, 80, 3), 90, np.uint8), np.tile(np.eye(4), (17, 1, 1)))
        chunks.append(own.step(np.tile(np.eye(4), (9, 1, 1))))
    latents = [own.state().memory.segments[-1].latents.read() for own in (world, plain)]
    assert torch.equal(*latents)  # what is simulated does not depend on who shows it
    assert chunks[0].frames.shape == chunks[1].frames.shape == (9, 48, 80, 3)
    assert not np.array_equal(chunks[0].frames, chunks[1].frames)
    expected = published.decode(
        {name: value.half().float() for name, value in published.tensors().items()},
        latents[0][None],
    )
    levels = ((expected[0] + 1) * 127.5).permute(1, 2, 3, 0).numpy()
    assert np.abs(chunks[0].frames - levels).max() < 0.51  # rounded to whole levels
    assert np.array_equal(last_frames(world, world.state()), chunks[0].frames)


def test_imagined_futures_are_decoded_by_it_too(file):
    world = World.load(file.parent / "model", device="cpu", dtype="float32", tiny_decoder=file)
    world.reset(np.full((17, 48, 80, 3), 90, np.uint8), np.tile(np.eye(4), (17, 1, 1)))
    path = np.tile(np.eye(4), (5, 1, 1))
    future = imagine(world, world.state(), [path], every=1)[0]
    assert np.array_equal(future.frames, world.step(path).frames)


def test_a_world_of_other_latents_refuses_it(file):
    with pytest.raises(ValueError, match=r"decodes the latents of Wan 2\.1"):
        World.load("default", device="cpu", tiny_decoder=file)
