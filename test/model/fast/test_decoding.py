# SPDX-License-Identifier: Apache-2.0
"""The compiled decoder gives the stream's pictures, and a machine that cannot compile goes on."""

import logging

import pytest
import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import AutoencoderConfig, VideoConfig
from hydra_model.fast import decoding
from hydra_model.fast.decoding import CompiledBlocks, compile_decoding

CONFIG = AutoencoderConfig(
    latent_channels=4, base_dim=4, dim_mult=(1, 2), num_res_blocks=1, temporal_downsample=(True,),
    latents_mean=(0.0,) * 4, latents_std=(1.0,) * 4,
)  # fmt: skip
VIDEO = VideoConfig(height=8, width=12)


def make() -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(CONFIG).prepare("cpu", torch.float32)


def random_latents(count: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 4, count, 4, 6, generator=torch.Generator().manual_seed(1))


def decode(autoencoder: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat(list(autoencoder.decode_stream(latents)), dim=2)


@pytest.mark.slow
def test_the_compiled_stream_is_the_same_and_compiles_once():
    autoencoder, latents = make(), random_latents(5)
    expected = decode(autoencoder, latents)
    blocks = compile_decoding(autoencoder, VIDEO.height, VIDEO.width)
    assert not blocks.failed
    with torch.compiler.set_stance("fail_on_recompile"):
        video = decode(autoencoder, latents)
    assert video.shape == expected.shape == (1, 3, 9, 8, 12)
    assert (video - expected).abs().max() < 1e-5


@pytest.fixture
def traced(monkeypatch):
    """Compile as far as the graph: whether the blocks can be compiled, without a toolchain."""

    def compiled(function):
        seen = torch.compile(function, dynamic=False, fullgraph=True, backend="eager")

        def run(*arguments):
            calls.append(arguments[1].shape)
            return seen(*arguments)

        return run

    calls = []
    torch.compiler.reset()
    monkeypatch.setattr(decoding, "compiled", compiled)
    return calls


def test_all_pieces_after_the_first_run_compiled(traced):
    autoencoder, latents = make(), random_latents(4)
    expected = decode(autoencoder, latents)
    compile_decoding(autoencoder, VIDEO.height, VIDEO.width)
    blocks = len(traced)  # the warm-up has one such piece
    traced.clear()
    assert (decode(autoencoder, latents) - expected).abs().max() < 1e-6
    assert blocks == 6 and len(traced) == 3 * blocks


def test_streams_of_another_size_or_of_a_batch_are_not_compiled_anew(traced):
    autoencoder = make()
    compile_decoding(autoencoder, VIDEO.height, VIDEO.width)
    traced.clear()
    for latents in (random_latents(4, batch=2), random_latents(4)[..., :3]):
        expected = decode(make(), latents)
        assert torch.allclose(decode(autoencoder, latents), expected, atol=1e-6)
    assert not traced


def test_a_decoder_that_is_compiled_wrongly_is_not_used(monkeypatch, caplog):
    def wrong(function):
        return lambda block, *tensors: (-function(block, *tensors)[0], *tensors[1:])

    monkeypatch.setattr(decoding, "compiled", wrong)
    autoencoder, latents = make(), random_latents(4)
    expected = decode(autoencoder, latents)
    with caplog.at_level(logging.WARNING):
        compile_decoding(autoencoder, VIDEO.height, VIDEO.width)
    assert torch.equal(decode(autoencoder, latents), expected)
    assert len(caplog.records) == 1 and "the compiled decoder is off by" in caplog.text


def test_where_compiling_fails_it_runs_step_by_step_with_one_warning(monkeypatch, caplog):
    def broken(function):
        def run(*arguments):
            raise RuntimeError("no compiler here")

        return run

    monkeypatch.setattr(decoding, "compiled", broken)
    autoencoder, latents = make(), random_latents(4)
    expected = decode(autoencoder, latents)
    with caplog.at_level(logging.WARNING):
        blocks = compile_decoding(autoencoder, VIDEO.height, VIDEO.width)
        assert torch.equal(decode(autoencoder, latents), expected)
    assert isinstance(autoencoder.decoder_block, CompiledBlocks) and blocks.failed
    assert [record.getMessage() for record in caplog.records] == [
        "the decoder runs step by step on cpu: no compiler here"
    ]
