# SPDX-License-Identifier: Apache-2.0
"""The fast path computes what the readable one does, with every switch."""

import copy
import sys
from importlib.util import find_spec

import pytest
import torch
from small_transformers import Inputs, random_model

from hydra_model.config import SamplerConfig
from hydra_model.fast import attention
from hydra_model.fast.acceleration import Acceleration
from hydra_model.fast.engine import accelerate
from hydra_model.sampler import sample

PLAIN = {"fusion": "none", "attention": "gather"}
SWITCHES = {
    "one by one": Acceleration(merged=False, prompt_once=False, **PLAIN),
    "merged": Acceleration(**PLAIN),
    "split": Acceleration(fusion="none", attention="split-cpu"),
}
SHAPES = {
    "6 + 6 frames": ({}, 1, 6, 6),
    "a batch of 2": ({}, 2, 4, 6),
    "wide window": ({"window": 5, "top_k": 1}, 1, 8, 4),
    "no projector, no text": ({"projector": False, "text_dim": 0}, 1, 4, 4),
    "frames with little memory": ({"window": 4, "top_k": 3}, 1, 4, 2),
    "a frame and columns over": ({"memory_stride": (2, 2, 4)}, 2, 5, 4),
}


@torch.no_grad()
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_velocities_and_selections_are_those_of_the_readable_path(shape, switches):
    changes, batch, context, target = shape
    model = random_model(**changes)
    inputs = Inputs(model, batch, context, target)
    conditioning = inputs.conditionings(model)[0]
    chosen, fast_chosen = [], []
    expected = model(inputs.target, inputs.sigma, conditioning, selections=chosen)
    fast = copy.deepcopy(model)
    accelerate(fast, switches)
    velocity = fast(inputs.target, inputs.sigma, conditioning, selections=fast_chosen)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    # In the last block, only what the target selects is of use to anyone.
    chosen[-1] = chosen[-1][:, context:]
    assert all(torch.equal(a, b) for a, b in zip(chosen, fast_chosen, strict=True))


@torch.no_grad()
def test_the_feed_forward_goes_through_its_rows_part_by_part(monkeypatch):
    monkeypatch.setattr("hydra_model.fast.residual.AT_ONCE", 7)
    model = random_model()
    inputs = Inputs(model, 1, 6, 6)
    conditioning = inputs.conditionings(model)[0]
    expected = model(inputs.target, inputs.sigma, conditioning)
    accelerate(model, SWITCHES["merged"])
    velocity = model(inputs.target, inputs.sigma, conditioning)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 2])
def test_guidance_as_one_batch_gives_both_velocities(batch):
    model = random_model()
    inputs = Inputs(model, batch, 6, 4)
    pair = inputs.conditionings(model)
    expected = model.pair(inputs.target, inputs.sigma, *pair)
    fast = copy.deepcopy(model)
    engine = accelerate(fast, Acceleration(paired=True, **PLAIN))
    assert engine.joint.pair_tables(*pair) is not None
    chosen = []
    for velocity, own in zip(
        fast.pair(inputs.target, inputs.sigma, *pair, selections=chosen), expected, strict=True
    ):
        torch.testing.assert_close(velocity, own, rtol=0, atol=1e-5 * own.abs().max().item())
    assert all(len(selected) == batch for selected in chosen)


@torch.no_grad()
def test_guidance_with_another_camera_is_two_forwards():
    model = random_model()
    inputs = Inputs(model, 1, 6, 4)
    pair = inputs.conditionings(model)
    inputs.cameras = tuple(-camera for camera in inputs.cameras)
    pair[1] = inputs.conditionings(model)[1]
    expected = model.pair(inputs.target, inputs.sigma, *pair)
    fast = copy.deepcopy(model)
    engine = accelerate(fast, Acceleration(paired=True, **PLAIN))
    assert engine.joint.pair_tables(*pair) is None
    for velocity, own in zip(fast.pair(inputs.target, inputs.sigma, *pair), expected, strict=True):
        torch.testing.assert_close(velocity, own, rtol=0, atol=1e-5 * own.abs().max().item())


@torch.no_grad()
def test_a_sampled_chunk_is_the_same():
    model = random_model()
    inputs = Inputs(model, 1, 6, 4)
    pair = inputs.conditionings(model)
    config = SamplerConfig(steps=3, guidance_scale=3.0)
    expected = sample(model, inputs.target, pair[0], config, negative=pair[1])
    fast = copy.deepcopy(model)
    accelerate(fast, Acceleration(paired=True, **PLAIN))
    latents = sample(fast, inputs.target, pair[0], config, negative=pair[1])
    assert (latents - expected).norm() < 1e-5 * expected.norm()


@torch.no_grad()
def test_the_readable_weights_still_work_beside_it():
    model = random_model()
    inputs = Inputs(model, 1, 4, 4)
    conditioning = inputs.conditionings(model)[0]
    expected = model.joint_prediction(inputs.target, inputs.sigma, conditioning)
    accelerate(model, Acceleration(**PLAIN))
    assert torch.equal(model.joint_prediction(inputs.target, inputs.sigma, conditioning), expected)


@torch.no_grad()
def test_in_bfloat16_it_is_as_near_to_the_float32_velocity():
    model = random_model(top_k=1, window=5)
    inputs = Inputs(model, 1, 4, 4)
    exact = model(inputs.target, inputs.sigma, inputs.conditionings(model)[0])
    narrow = copy.deepcopy(model).bfloat16()
    for name in ("clean", "target", "texts"):
        setattr(inputs, name, getattr(inputs, name).bfloat16())
    inputs.cameras = tuple(camera.bfloat16() for camera in inputs.cameras)
    conditioning = inputs.conditionings(narrow)[0]
    reference = (narrow(inputs.target, inputs.sigma, conditioning) - exact).norm()
    accelerate(narrow, Acceleration(**PLAIN))
    error = (narrow(inputs.target, inputs.sigma, conditioning) - exact).norm()
    assert 0 < error < 1.2 * reference
    assert error < 0.05 * exact.norm()


def test_the_papers_form_is_left_as_it_is():
    model = random_model(memory_source="context", relevance="positionwise", projector=False)
    assert accelerate(model, Acceleration(**PLAIN)) is None
    assert "forward" not in vars(model)


@pytest.mark.parametrize("tile", [1, 5, 7, 128])
@torch.no_grad()
def test_flash_attention_3_is_asked_for_what_merging_needs(tmp_path, monkeypatch, tile):
    # Its package runs on Hopper GPUs alone; this one takes and gives the same, on the CPU.
    (tmp_path / f"{attention.FLASH3}.py").write_text(
        "from hydra_model.fast.attention import call_cpu\n"
        "def flash_attn_func(q, k, v, softmax_scale=None, *, return_attn_probs=False):\n"
        "    out, lse = call_cpu(q, k, v)\n"
        "    return (out.contiguous(), lse) if return_attn_probs else out\n"
        "def flash_attn_with_kvcache(q, k_cache, v_cache, *, cache_batch_idx, num_splits=0,\n"
        "                            return_softmax_lse=False):\n"
        "    entries = cache_batch_idx.long()\n"
        "    out, lse = call_cpu(q, k_cache[entries], v_cache[entries])\n"
        "    return (out.contiguous(), lse) if return_softmax_lse else out\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(attention, "TILE", tile)
    model = random_model()
    inputs = Inputs(model, 2, 6, 6)
    conditioning = inputs.conditionings(model)[0]
    expected = model(inputs.target, inputs.sigma, conditioning)
    accelerate(model, Acceleration(fusion="none", attention="split-flash3"))
    velocity = model(inputs.target, inputs.sigma, conditioning)
    torch.testing.assert_close(velocity, expected, rtol=0, atol=1e-5 * expected.abs().max().item())
    sys.modules.pop(attention.FLASH3)


@pytest.mark.skipif(find_spec(attention.FLASH3) is not None, reason="its package is installed")
def test_without_its_package_flash_attention_3_says_so():
    model = random_model()
    inputs = Inputs(model, 1, 6, 6)
    conditioning = inputs.conditionings(model)[0]
    accelerate(model, Acceleration(fusion="none", attention="split-flash3"))
    with pytest.raises(ModuleNotFoundError, match=attention.FLASH3):
        model(inputs.target, inputs.sigma, conditioning)


def engine_that_agrees(model, inputs, pair):
    """Return the fast path's engine, whose velocities of a pair are the readable path's."""
    expected = model.pair(inputs.target, inputs.sigma, *pair)
    fast = copy.deepcopy(model)
    engine = accelerate(fast, Acceleration(paired=True, **PLAIN))
    velocities = fast.pair(inputs.target, inputs.sigma, *pair)
    for velocity, exact in zip(velocities, expected, strict=True):
        torch.testing.assert_close(velocity, exact, rtol=0, atol=1e-5 * exact.abs().max().item())
    return engine


@torch.no_grad()
def test_a_prompts_padding_is_one_key_that_counts_as_often():
    model = random_model()
    inputs = Inputs(model, 2, 4, 4)
    texts = torch.randn(2, 2, 12, model.config.text_dim)
    for prompts, own in zip(texts, ((3, 5), (8, 0)), strict=True):
        for prompt, length in zip(prompts, own, strict=True):
            prompt[length:] = 0  # as a shorter prompt's embedding is filled up
    inputs.texts = texts
    pair = inputs.conditionings(model)
    engine = engine_that_agrees(model, inputs, pair)
    counts = engine.joint.tables(pair[0]).text_keys[0].counts
    assert counts.shape == (2, 16)
    padding = counts.isfinite().sum(1) - 1
    assert padding.tolist() == [3, 5]
    torch.testing.assert_close(counts.exp().sum(1), torch.full((2,), 12.0))


@torch.no_grad()
def test_a_long_prompt_is_attended_to_token_by_token():
    model = random_model()
    inputs = Inputs(model, 1, 4, 4)
    short, long = torch.zeros(2, 1, 300, model.config.text_dim)
    short[:, :9] = torch.randn(9, model.config.text_dim)
    long[:] = torch.randn(300, model.config.text_dim)
    inputs.texts = (short, long)
    pair = inputs.conditionings(model)
    engine = engine_that_agrees(model, inputs, pair)
    kept = [bool(engine.joint.tables(conditioning).text_keys) for conditioning in pair]
    assert kept == [True, False]
