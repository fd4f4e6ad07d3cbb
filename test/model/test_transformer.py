# SPDX-License-Identifier: Apache-2.0
"""The transformer: agreement with the released modules, and what its parts promise."""

from typing import Any

import pytest
import torch
from parity import load_case, relative_error, seeding

from hydra_model.checkpoints.upstream_names import transformer_names
from hydra_model.config import SamplerConfig, TransformerConfig
from hydra_model.sampler import sample, schedule
from hydra_model.transformer import Transformer

TINY = TransformerConfig(
    dim=48, num_heads=2, ffn_dim=96, num_blocks=2, freq_dim=16, text_dim=8, latent_channels=4,
    window=3, top_k=2,
)  # fmt: skip


def released_transformer(case: dict[str, Any]) -> Transformer:
    """Build the transformer of a case with the weights that its seed gives the released names."""
    values = case["config"]
    config = TransformerConfig(
        dim=values["dim"], num_heads=values["num_heads"], ffn_dim=values["ffn_dim"],
        num_blocks=values["num_layers"], freq_dim=values["freq_dim"], text_dim=values["text_dim"],
        latent_channels=values["in_dim"], eps=values["eps"],
        patch_size=tuple(values["patch_size"]),
    )  # fmt: skip
    model = Transformer(config).eval()
    ours = model.state_dict()
    names = transformer_names(ours)
    shapes = {upstream: ours[name].shape for name, upstream in names.items()}
    weights = seeding().seeded_state_dict(shapes, case["seed"])
    model.load_state_dict({name: weights[upstream] for name, upstream in names.items()})
    return model


def sampled_error(got: torch.Tensor, case: dict[str, torch.Tensor], name: str) -> float:
    assert list(got.shape) == case[f"{name}.shape"].tolist()
    return relative_error(got.flatten()[case[f"{name}.positions"]], case[f"{name}.samples"])


def random_inputs(config: TransformerConfig, batch: int, context: int, target: int) -> dict:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "context": normal(batch, config.latent_channels, context, 8, 12),
        "target": normal(batch, config.latent_channels, target, 8, 12),
        "context_camera": normal(batch, context, 1, 12),
        "target_camera": normal(batch, target, 1, 12),
        "text": normal(batch, 5, config.text_dim) if config.text_dim else None,
        "sigma": torch.linspace(0.9, 0.3, batch),
    }


@torch.no_grad()
def predict(model: Transformer, inputs: dict, selections: list | None = None) -> torch.Tensor:
    context, target = inputs["context"], inputs["target"]
    conditioning = model.prepare(
        context, inputs["context_camera"], inputs["target_camera"],
        context_times=torch.arange(context.shape[2]) - float(context.shape[2]),
        target_times=torch.arange(target.shape[2]).float(), text=inputs["text"],
    )  # fmt: skip
    return model(target, inputs["sigma"], conditioning, selections=selections)


@torch.no_grad()
def test_one_forward_and_its_selected_memory_agree_with_the_released_modules() -> None:
    case, about = load_case("dit")
    seed, seeds = about["seed"], seeding()
    model = released_transformer(about)
    latents = seeds.seeded_input("latents", (1, 16, 40, 60, 104), seed)
    text = seeds.seeded_input("text", (1, 12, about["config"]["text_dim"]), seed)
    cameras = [
        0.3 * seeds.seeded_input(name, (1, 20, 12), seed)[:, :, None]
        for name in ("context_camera", "target_camera")
    ]
    times = torch.arange(20)
    conditioning = model.prepare(
        latents[:, :, :20], *cameras, context_times=times, target_times=times, text=text
    )
    selections: list[torch.Tensor] = []
    sigma = torch.tensor([about["timestep"] / 1000])
    prediction = model.joint_prediction(latents[:, :, 20:], sigma, conditioning, selections)
    error = sampled_error(prediction, case, "noise_pred")
    assert error < 1e-4
    for block, selected in enumerate(selections):
        assert torch.equal(selected, case[f"selected_memory.block{block}"].long())


@pytest.mark.slow
@torch.no_grad()
def test_three_guided_steps_agree_with_the_released_pipeline() -> None:
    case, about = load_case("denoise")
    forward_case = load_case("dit")[1]
    seed, seeds = about["seed"], seeding()
    model = released_transformer(about)
    shape = (1, 16, 20, 60, 104)
    cameras = [
        0.3 * seeds.seeded_input(name, (1, 20, 12), seed)[:, :, None]
        for name in ("context_camera", "target_camera")
    ]
    times = torch.arange(20)
    conditionings = [
        model.prepare(
            seeds.seeded_input("source_latents", shape, seed), *cameras,
            context_times=times, target_times=times,
            text=seeds.seeded_input(name, (1, 12, forward_case["config"]["text_dim"]), seed),
        )
        for name in ("text", "negative_text")
    ]  # fmt: skip
    config = SamplerConfig(
        steps=about["steps"], shift=about["shift"], guidance_scale=about["cfg_scale"]
    )
    latents = sample(
        model, seeds.seeded_input("noise", shape, seed), conditionings[0], config,
        negative=conditionings[1],
    )  # fmt: skip
    error = sampled_error(latents, case, "latents")
    assert error < 1e-4


def test_schedule_agrees_with_the_released_one() -> None:
    case, about = load_case("schedule")
    for steps in (4, 10, 50):
        got = schedule(steps, about["shift"])
        assert torch.allclose(got, case[f"sigmas.{steps}"], atol=1e-6, rtol=0)


@pytest.mark.parametrize("memory_source", ["all", "context"])
@pytest.mark.parametrize(("context", "target"), [(6, 6), (4, 2), (7, 3)])
def test_each_sample_of_a_batch_is_treated_as_if_alone(memory_source, context, target) -> None:
    torch.manual_seed(0)
    relevance = "pooled" if memory_source == "all" else "positionwise"
    values = {**TINY.__dict__, "memory_source": memory_source, "relevance": relevance}
    model = Transformer(TransformerConfig(**values))
    inputs = random_inputs(model.config, 3, context, target)
    together = predict(model, inputs)
    for i in range(3):
        alone = {k: v[i : i + 1] if v is not None else None for k, v in inputs.items()}
        assert torch.allclose(predict(model, alone), together[i : i + 1], atol=1e-5)


def test_a_frame_with_little_memory_attends_to_just_what_remains() -> None:
    # 6 frames in windows of 4: the windows swallow one or two of the three memory frames (each
    # stands for two frames), so frames differ in how many remain.
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(**{**TINY.__dict__, "top_k": 3, "window": 4}))
    selections: list[torch.Tensor] = []
    predict(model, random_inputs(model.config, 1, 4, 2), selections)
    window_starts = [max(0, min(f - 2, 2)) for f in range(6)]
    for selected in selections:
        for frame, start in enumerate(window_starts):
            inside = {j for j in range(3) if start <= 2 * j and 2 * j + 1 <= start + 3}
            kept = [int(j) for j in selected[0, frame] if j >= 0]
            assert sorted(kept) == sorted(set(range(3)) - inside)


def test_the_context_form_predicts_from_the_context_through_one_memory_per_block() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(
        **{**TINY.__dict__, "memory_source": "context", "relevance": "positionwise"}
    )
    model = Transformer(config)
    inputs = random_inputs(config, 2, 6, 4)
    changed = {**inputs, "context": inputs["context"] + 1}
    assert not torch.allclose(predict(model, inputs), predict(model, changed), atol=1e-4)
    times = torch.arange(6) - 6.0
    first = model.prepare(
        inputs["context"], inputs["context_camera"], inputs["target_camera"],
        context_times=times, target_times=torch.arange(4.0), text=inputs["text"],
    )  # fmt: skip
    assert len(first.memories) == config.num_blocks
    assert first.memories[0].key.shape == (2, 3, 2 * 3, config.dim)


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(
        **{**TINY.__dict__, "memory_source": "context", "relevance": "positionwise"}
    )
    model = Transformer(config)
    inputs = random_inputs(config, 2, 6, 4)
    conditioning = model.prepare(
        inputs["context"], inputs["context_camera"], inputs["target_camera"],
        context_times=torch.arange(6) - 6.0, target_times=torch.arange(4.0), text=inputs["text"],
    )  # fmt: skip
    model(inputs["target"], inputs["sigma"], conditioning).square().mean().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_text_that_is_missing_is_named() -> None:
    model = Transformer(TINY)
    inputs = random_inputs(TINY, 1, 4, 2)
    with pytest.raises(ValueError, match="text embeddings missing"):
        predict(model, {**inputs, "text": None})
