# SPDX-License-Identifier: Apache-2.0
"""What a small transformer's training begins with: drawn weights, or those of one that had less."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydra_model.blocks import SelfAttention
from hydra_model.detail import Detail
from hydra_model.rays import camera_channels
from hydra_model.rope import ray_channels
from hydra_model.transformer import Transformer


@torch.no_grad()
def initialise(model: Transformer) -> None:
    """Start from scratch where the published model starts from Wan's weights.

    Blocks begin close to the identity with the same gate at every noise share, memory tokens
    begin as the mean of what they pool, and the prediction begins at zero, that of each scale.
    """
    _initialise(model)
    if model.detail is not None:
        _initialise(model.detail)
        for block in model.detail.layers:
            _look_the_same_way(block.self_attention)
    if model.scene_flow is not None:
        nn.init.zeros_(model.scene_flow.leave.weight)
        nn.init.zeros_(model.scene_flow.leave.bias)


def _initialise(model: Transformer | Detail) -> None:
    nn.init.zeros_(model.head.linear.weight)
    nn.init.zeros_(model.head.linear.bias)
    for parameter in model.time_projection.parameters():
        nn.init.zeros_(parameter)
    gate = (2 * len(model.blocks)) ** -0.5
    for block in model.layers:
        block.modulation.zero_()
        block.modulation[:, 2::3] = gate
        tokenizer = block.self_attention.tokenizer
        nn.init.normal_(tokenizer.weight, std=0.02)
        channel = torch.arange(tokenizer.out_channels, device=tokenizer.weight.device)
        own = channel % tokenizer.weight.shape[1]
        tokenizer.weight[channel, own] += 1 / tokenizer.weight[0, 0].numel()
        assert tokenizer.bias is not None
        nn.init.zeros_(tokenizer.bias)


def _look_the_same_way(own: SelfAttention) -> None:
    """Let queries and keys begin nearly alike in the channels that turn with viewing rays.

    So attention begins at what looked the same way, and what it brings can be learned at once.
    """
    rays = ray_channels(own.config.head_dim).repeat(own.config.num_heads)
    for layer in (own.query, own.key):
        layer.weight.mul_(0.25)
        layer.bias.copy_(rays)


def widened(weights: dict[str, Tensor], model: Transformer) -> dict[str, Tensor]:
    """Return the weights of a model that had less, for one that has more.

    What is new is multiplied by 0 at first, so both predict alike: weights for the camera
    "rays" are trained on with "sweep", weights without a detail scale with one, which begins as
    ``model``'s is. So does a scene flow: it says that nothing moves and everything is some metres
    away. All others stay as they are, to be refused where they do not fit.
    """
    own = model.state_dict()
    for part in ("detail.", "scene_flow."):
        if not any(name.startswith(part) for name in weights):
            weights = weights | {name: own[name] for name in own if name.startswith(part)}
    if model.config.camera != "sweep":
        return weights
    rays, sweep = camera_channels("rays"), camera_channels("sweep")

    def wide(name: str, value: Tensor) -> Tensor:
        encoder = name.endswith((".camera_context.weight", ".camera_target.weight"))
        return F.pad(value, (0, sweep - rays)) if encoder and value.shape[1] == rays else value

    return {name: wide(name, value) for name, value in weights.items()}
