# SPDX-License-Identifier: Apache-2.0
"""A short name for the weights of a model, to know whether a state was made with them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import torch
from torch import nn

from hydra_model.config import ModelConfig

_VALUES = 8  # sampled from every tensor


def fingerprint(config: ModelConfig, modules: Iterable[nn.Module]) -> str:
    """Return 16 hexadecimal digits that differ where the form or the weights of a model do.

    From a few values of every tensor, rounded to bfloat16: the number type that the weights
    are run in does not matter, nor do the sampler, the worlds it was trained on and other
    settings that no memory depends on.
    """
    other = ("sampler", "world_style")
    form = {name: part for name, part in config.to_dict().items() if name not in other}
    for part in ("detail", "scene_flow"):  # models without keep the name that they always had
        if form["transformer"][part] is None:
            del form["transformer"][part]
    if (flow := form["transformer"].get("scene_flow")) is not None:
        del flow["emphasis"], flow["seen_from"]
        if not flow["tracks"]:  # as above
            del flow["tracks"]
    digest = hashlib.sha256(json.dumps(form, sort_keys=True).encode())
    for module in modules:
        samples = []
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            flat = tensor.reshape(-1) if tensor.is_contiguous() else tensor.flatten()
            samples.append(flat[:: max(1, flat.numel() // _VALUES)][:_VALUES].to(torch.bfloat16))
        # One copy from the device for all of a module.
        digest.update(torch.cat(samples).float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
