# SPDX-License-Identifier: Apache-2.0
"""Putting tensors into modules strictly, one copy at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from hydra_model.checkpoints.files import CheckpointError

ModuleType = TypeVar("ModuleType", bound=nn.Module)

# The type of each parameter in memory: one for all, by our name, or (None) as in the file.
Precision = torch.dtype | Callable[[str], torch.dtype] | None

# A tensor name that only one kind of file has, the first that is found decides.
KINDS = (
    ("blocks.0.self_attn.tokenizer.conv.weight", "HyDRA's transformer (hydra.ckpt)"),
    (
        "blocks.0.self_attn.q.weight",
        "the Wan base transformer (diffusion_pytorch_model.safetensors)",
    ),
    ("decoder.middle.0.residual.0.gamma", "the Wan autoencoder (Wan2.1_VAE.pth)"),
    ("decoder.3.conv.0.weight", "a TAEHV decoder (taew2_1.pth)"),
    ("token_embedding.weight", "the umT5 encoder (models_t5_umt5-xxl-enc-bf16.pth)"),
    ("blocks.0.self_attention.query.weight", "a hydra_ros transformer (transformer.safetensors)"),
    ("wan.decoder.conv_in.weight", "a hydra_ros autoencoder (autoencoder.safetensors)"),
    ("blocks.0.attn1.to_q.weight", "a Wan transformer in diffusers' form"),
    ("decoder.mid_block.resnets.0.conv1.weight", "an autoencoder in diffusers' form"),
    ("encoder.block.0.layer.0.SelfAttention.q.weight", "a T5 encoder in transformers' form"),
)


def recognise(names: Mapping[str, object]) -> str | None:
    """Say what a file with these tensor names looks like, or None."""
    return next((kind for name, kind in KINDS if name in names), None)


def check_tensors(
    tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], path: Path
) -> None:
    """Raise ``CheckpointError`` unless ``tensors`` have exactly the expected names and shapes."""
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected]
    both = [name for name in expected if name in tensors]
    misshapen = [
        f"{name} ({list(tensors[name].shape)}, expected {list(expected[name])})"
        for name in both
        if tensors[name].shape != expected[name]
    ]
    not_numbers = [
        f"{name} ({tensors[name].dtype})" for name in both if not tensors[name].is_floating_point()
    ]
    problems = [
        f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {what}, first {names[0]}"
        for names, what in (
            (missing, "missing"),
            (extra, "too many"),
            (misshapen, "of another shape"),
            (not_numbers, "not of floating point"),
        )
        if names
    ]
    if not problems:
        return
    found, wanted = recognise(tensors), recognise(expected)
    hint = f": this looks like {found}, not {wanted}" if found and found != wanted else ""
    raise CheckpointError(f"{path} does not fit the model{hint}; {'; '.join(problems)}")


def on_meta(build: Callable[[], ModuleType]) -> ModuleType:
    """Build a module whose parameters take no memory yet."""
    with torch.device("meta"):
        return build()


def assign(
    module: ModuleType,
    tensors: Mapping[str, Tensor],
    upstream_names: Mapping[str, str],
    path: Path,
    *,
    dtype: Precision = None,
    device: torch.device | str = "cpu",
) -> ModuleType:
    """Make ``tensors`` the parameters of ``module`` (built on the meta device) and return it.

    ``upstream_names`` gives the name in the file of each of our parameters that it has; the
    others stay on the meta device. Tensors are moved one by one, so that no second copy of the
    whole exists; those that need no conversion stay mapped to the file.
    """
    ours = module.state_dict()
    expected = {upstream: ours[name].shape for name, upstream in upstream_names.items()}
    check_tensors(tensors, expected, path)
    placed = {}
    for name, upstream in upstream_names.items():
        kind = dtype(name) if callable(dtype) else dtype
        placed[name] = tensors[upstream].to(device=device, dtype=kind)
    module.load_state_dict(placed, assign=True, strict=False)
    return module
