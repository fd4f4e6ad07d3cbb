# SPDX-License-Identifier: Apache-2.0
"""The autoencoder agrees with diffusers however a video is cut into passes."""

import numpy as np
import pytest
import torch

from hydra_model.autoencoder import Autoencoder, frames_to_video, video_to_frames
from hydra_model.config import AutoencoderConfig

SMALL = AutoencoderConfig(
    latent_channels=4,
    base_dim=8,
    dim_mult=(1, 2, 2),
    num_res_blocks=1,
    temporal_downsample=(True, True),
    patch_size=2,
    latents_mean=(0.1, -0.2, 0.3, 0.0),
    latents_std=(0.5, 2.0, 1.0, 1.5),
)
RELEASED_FORM = AutoencoderConfig(base_dim=8)  # strides (2, 2, 2), the first without time


def make(config: AutoencoderConfig = SMALL) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(config)


def make_video(frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    return (
        torch.rand(2, 3, frames, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    )


@pytest.mark.parametrize("config", [SMALL, RELEASED_FORM], ids=["small", "released"])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("frames", [1, 5, 9, 17])
def test_agrees_with_diffusers(config, channels_last, frames):
    model = make(config)
    if channels_last:
        model.prepare("cpu", torch.float32)
    video = make_video(frames)
    with torch.no_grad():
        expected = model.normalise(model.wan.encode(video).latent_dist.mean)
        decoded = model.wan.decode(model.denormalise(expected)).sample
        encoded = {"whole": model.encode(video), "parallel": model.encode_parallel(video)}
        videos = {
            "whole": model.decode(expected),
            "parallel": model.decode_parallel(expected),
            "stream": torch.cat(list(model.decode_stream(expected)), dim=2),
            "by twos": torch.cat(list(model.decode_stream(expected, latents_per_piece=2)), dim=2),
        }
    for way, latents in encoded.items():
        assert (latents - expected).abs().max() < 1e-4, way
    for way, result in videos.items():
        assert result.shape == video.shape
        assert (result - decoded).abs().max() < 1e-4, way


def test_gradients_agree_with_diffusers():
    video = make_video(9)
    gradients = []
    for parallel in (True, False):
        model = make()
        if parallel:
            mean, log_variance = model.encode_moments(video)
            result = model.decode_parallel(model.normalise(mean))
        else:
            posterior = model.wan.encode(video).latent_dist
            mean, log_variance = posterior.mean, posterior.logvar
            result = model.wan.decode(mean).sample
        ((result - video).square().mean() + log_variance.square().mean()).backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient is not None and gradient.abs().max() > 0, name
        assert (gradient - gradients[1][name]).abs().max() < 1e-4, name


def test_parallel_passes_compile_into_one_graph():
    model = make()
    video = make_video(5)
    encode = torch.compile(model.encode_moments, fullgraph=True, backend="aot_eager")
    decode = torch.compile(model.decode_parallel, fullgraph=True, backend="aot_eager")
    latents = model.normalise(encode(video)[0])
    assert torch.allclose(decode(latents), model.decode_parallel(latents), atol=1e-5)


def test_stream_starts_with_one_frame_and_then_gives_one_latent_frame_each():
    model = make()
    latents = torch.randn(1, 4, 4, 2, 3)
    assert [piece.shape[2] for piece in model.decode_stream(latents)] == [1, 4, 4, 4]


def test_a_stream_leaves_its_consumers_gradients_on():
    for piece in make().decode_stream(torch.randn(1, 4, 2, 2, 3)):
        assert torch.is_grad_enabled() and not piece.requires_grad


def test_streams_that_run_side_by_side_do_not_disturb_each_other():
    model = make()
    first, second = torch.randn(2, 1, 4, 3, 2, 3).unbind()
    pairs = zip(model.decode_stream(first), model.decode_stream(second), strict=True)
    pieces = [torch.cat(stream, dim=2) for stream in zip(*pairs, strict=True)]
    assert torch.allclose(pieces[0], model.decode(first), atol=1e-5)
    assert torch.allclose(pieces[1], model.decode(second), atol=1e-5)


def test_a_video_never_depends_on_later_latents():
    model = make()
    latents = torch.randn(1, 4, 4, 2, 3)
    shortened = model.decode(latents[:, :, :2])
    assert torch.allclose(model.decode(latents)[:, :, :5], shortened, atol=1e-5)


def test_bfloat16_stays_close_to_float32():
    latents = torch.randn(1, 4, 3, 4, 6)
    exact = make().decode(latents)
    rounded = make().prepare("cpu", torch.bfloat16).decode(latents)
    assert rounded.dtype == torch.float32
    assert (rounded - exact).square().mean().sqrt() < 0.02 * exact.square().mean().sqrt()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 4, 32, 48), "4 video frames; accepted: 1 \\+ 4\\*n"),
        ((1, 3, 0, 32, 48), "0 video frames"),
        ((1, 3, 5, 36, 48), "video of 48x36 pixels; width and height must be multiples of 8"),
        ((1, 1, 5, 32, 48), "accepted: float \\[B, 3, T, H, W\\]"),
        ((3, 5, 32, 48), "accepted: float \\[B, 3, T, H, W\\]"),
    ],
)
def test_encode_names_what_is_wrong_with_a_video(shape, message):
    for encode in (make().encode, make().encode_parallel):
        with pytest.raises(ValueError, match=message):
            encode(torch.zeros(shape))


def test_decode_names_what_is_wrong_with_latents():
    with pytest.raises(ValueError, match=r"accepted: float \[B, 4, k, h, w\]"):
        make().decode(torch.zeros(1, 5, 2, 2, 2))
    with pytest.raises(ValueError, match="empty"):
        make().decode(torch.zeros(1, 4, 0, 2, 2))


def test_frames_survive_the_way_to_a_video_and_back():
    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    video = frames_to_video(frames)
    assert video.shape == (1, 3, 5, 4, 6)
    assert video.min() >= -1 and video.max() <= 1
    assert np.array_equal(video_to_frames(video), frames)
    with pytest.raises(ValueError, match="uint8"):
        frames_to_video(frames.astype(np.float32))
    with pytest.raises(ValueError, match=r"accepted: \[1, 3, T, H, W\]"):
        video_to_frames(torch.zeros(2, 3, 1, 4, 6))
