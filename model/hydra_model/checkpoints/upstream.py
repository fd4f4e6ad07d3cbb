# SPDX-License-Identifier: Apache-2.0
"""Loading the released files (HyDRA, the Wan base, autoencoders, umT5), strictly."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from hydra_model.checkpoints.assign import Precision, assign, on_meta
from hydra_model.checkpoints.files import read_tensors
from hydra_model.checkpoints.upstream_names import (
    autoencoder_names,
    text_names,
    tiny_decoder_names,
    transformer_names,
    wan_base_names,
)
from hydra_model.config import AutoencoderConfig, TextConfig, TransformerConfig
from hydra_model.text import build_text_model
from hydra_model.tiny_decoder import TinyDecoder
from hydra_model.transformer import Transformer

if TYPE_CHECKING:
    from hydra_model.autoencoder import Autoencoder

Device = torch.device | str


def load_upstream_transformer(
    path: str | Path,
    config: TransformerConfig,
    *,
    dtype: Precision = None,
    device: Device = "cpu",
) -> Transformer:
    """Load ``hydra.ckpt``; a wrong, missing or misshapen tensor is a ``CheckpointError``.

    ``dtype`` is a type, a function from our parameter's name to one, or None to keep the file's.
    """
    model = on_meta(lambda: Transformer(config))
    names = transformer_names(model.state_dict())
    return assign(model, read_tensors(Path(path)), names, Path(path), dtype=dtype, device=device)


def load_wan_base(
    path: str | Path,
    config: TransformerConfig,
    *,
    dtype: torch.dtype | None = None,
    device: Device = "cpu",
) -> Transformer:
    """Load the Wan base (``diffusion_pytorch_model.safetensors``) to train HyDRA from.

    What HyDRA adds starts as it was trained from: camera encoders at zero, projector at
    identity, tokenizer at PyTorch's convolution default (from the global random state).
    """
    model = on_meta(lambda: Transformer(config))
    names = wan_base_names(model.state_dict())
    tensors = read_tensors(Path(path))
    assign(model, tensors, names, Path(path), dtype=dtype, device=device)
    kind = dtype or tensors["patch_embedding.weight"].dtype
    for name, module in model.named_modules():
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            _initialise(name, module)
            module.to(device=device, dtype=kind)
    return model


def load_upstream_autoencoder(
    path: str | Path,
    config: AutoencoderConfig,
    *,
    dtype: Precision = None,
    device: Device = "cpu",
) -> Autoencoder:
    """Load ``Wan2.1_VAE.pth``; a wrong, missing or misshapen tensor is a ``CheckpointError``."""
    from hydra_model.autoencoder import Autoencoder  # takes seconds: only where needed

    model = on_meta(lambda: Autoencoder(config))
    names = autoencoder_names(model.state_dict(), config.num_res_blocks)
    return assign(model, read_tensors(Path(path)), names, Path(path), dtype=dtype, device=device)


def load_tiny_decoder(
    path: str | Path,
    *,
    dtype: Precision = None,
    device: Device = "cpu",
) -> TinyDecoder:
    """Load ``taew2_1.pth`` or ``.safetensors``; a wrong tensor is a ``CheckpointError``.

    The file holds an encoder too, which is not used: its tensors are left unread.
    """
    model = on_meta(TinyDecoder)
    names = tiny_decoder_names(model.state_dict())
    tensors = read_tensors(Path(path))
    decoder = {name: own for name, own in tensors.items() if not name.startswith("encoder.")}
    return assign(model, decoder, names, Path(path), dtype=dtype, device=device)


def load_upstream_text_model(
    path: str | Path,
    config: TextConfig,
    *,
    dtype: Precision = None,
    device: Device = "cpu",
) -> nn.Module:
    """Load ``models_t5_umt5-xxl-enc-bf16.pth`` into the model of ``text.build_text_model``."""
    model = on_meta(lambda: build_text_model(config))
    names = text_names(model.state_dict())
    assign(model, read_tensors(Path(path)), names, Path(path), dtype=dtype, device=device)
    return tie_embeddings(model)


def tie_embeddings(model: nn.Module) -> nn.Module:
    """Give the encoder the token embedding that the files hold once."""
    either: Any = model
    either.encoder.embed_tokens = either.shared
    return model


def _initialise(name: str, module: Any) -> None:
    """Give a module that only HyDRA has its starting weights."""
    module.to_empty(device="cpu")
    with torch.no_grad():
        if name.endswith("projector"):
            nn.init.eye_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith("tokenizer"):
            nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            bound = module.weight[0].numel() ** -0.5
            nn.init.uniform_(module.bias, -bound, bound)
        else:
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
