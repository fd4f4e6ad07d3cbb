# SPDX-License-Identifier: Apache-2.0
"""The same weights have the same name however they are run, and others have another."""

import dataclasses

import torch

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import SceneFlowConfig, TransformerConfig
from hydra_model.fingerprint import fingerprint
from hydra_model.transformer import Transformer
from small_models import CONFIG


def modules(seed: int = 0) -> list[torch.nn.Module]:
    torch.manual_seed(seed)
    return [Autoencoder(CONFIG.autoencoder), Transformer(CONFIG.transformer)]


def test_number_type_memory_layout_sampler_and_worlds_do_not_matter() -> None:
    name = fingerprint(CONFIG, modules())
    autoencoder, transformer = modules()
    assert isinstance(autoencoder, Autoencoder)
    autoencoder.prepare("cpu", torch.bfloat16)
    sampler = dataclasses.replace(CONFIG.sampler, steps=7)
    faster = dataclasses.replace(CONFIG, sampler=sampler, world_style="rich")
    assert fingerprint(faster, [autoencoder, transformer.to(torch.bfloat16)]) == name


def test_how_much_moving_things_stand_out_does_not_matter() -> None:
    """It is about how memory is read, not what it holds."""
    rays = TransformerConfig(
        memory_source="context", relevance="attended", projector=False, camera="sweep",
        time_positions="time", space_positions="rays", value_positions="rays", dim=48, num_heads=2,
        ffn_dim=96, num_blocks=2, freq_dim=16, text_dim=0, memory_stride=(1, 1, 1),
        scene_flow=SceneFlowConfig(after=1, num_blocks=1),
    )  # fmt: skip
    other = dataclasses.replace(rays, scene_flow=SceneFlowConfig(after=1, num_blocks=1, emphasis=2))
    nearer = dataclasses.replace(rays, scene_flow=SceneFlowConfig(after=1, num_blocks=1, reach=9))
    own, same, another = (
        fingerprint(dataclasses.replace(CONFIG, transformer=form), [])
        for form in (rays, other, nearer)
    )
    assert own == same != another


def test_other_weights_or_sizes_have_other_names() -> None:
    name = fingerprint(CONFIG, modules())
    assert fingerprint(CONFIG, modules(1)) != name
    assert fingerprint(dataclasses.replace(CONFIG, context_latents=7), modules()) != name
    changed = modules()
    with torch.no_grad():
        list(changed[1].parameters())[3].add_(0.1)
    assert fingerprint(CONFIG, changed) != name


def test_a_model_without_a_detail_scale_keeps_the_name_it_had() -> None:
    """States that were saved before there was such a scale are still those of its weights."""
    form = dataclasses.replace(CONFIG.transformer, detail=None)
    config = dataclasses.replace(CONFIG, transformer=form)
    weights = [Autoencoder(config.autoencoder), Transformer(form)]
    with torch.no_grad():
        for module in weights:
            for parameter in module.parameters():
                parameter.fill_(0.5)
    assert fingerprint(config, weights) == "af80fa10e6ee293a"
