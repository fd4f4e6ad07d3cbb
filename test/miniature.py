# SPDX-License-Identifier: Apache-2.0
"""The released files in small: the same formats and names, other sizes, random weights."""

from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from hydra_model.autoencoder import Autoencoder
from hydra_model.checkpoints.upstream_names import (
    autoencoder_names,
    text_names,
    transformer_names,
    wan_base_names,
)
from hydra_model.config import AutoencoderConfig, ModelConfig, TextConfig, TransformerConfig
from hydra_model.text import build_text_model
from hydra_model.transformer import Transformer

CONFIG = ModelConfig(
    name="miniature",
    transformer=TransformerConfig(
        dim=16, num_heads=2, ffn_dim=32, num_blocks=2, freq_dim=8, text_dim=8, latent_channels=4
    ),
    autoencoder=AutoencoderConfig(
        latent_channels=4,
        base_dim=4,
        num_res_blocks=1,
        latents_mean=(0.0,) * 4,
        latents_std=(1.0,) * 4,
    ),
    text=TextConfig(
        vocab_size=12, dim=8, ffn_dim=16, num_heads=2, num_blocks=2, num_buckets=8, max_tokens=10
    ),
)
WORDS = ["<pad>", "</s>", "<unk>", "a", "dog", "walks", "away", "&"]


def transformer_tensors() -> dict[str, Tensor]:
    """What ``hydra.ckpt`` holds."""
    return _random(Transformer(CONFIG.transformer), transformer_names)


def wan_base_tensors() -> dict[str, Tensor]:
    """What ``diffusion_pytorch_model.safetensors`` holds."""
    return _random(Transformer(CONFIG.transformer), wan_base_names)


def autoencoder_tensors() -> dict[str, Tensor]:
    """What ``Wan2.1_VAE.pth`` holds."""
    model = Autoencoder(CONFIG.autoencoder)
    return _random(model, lambda names: autoencoder_names(names, CONFIG.autoencoder.num_res_blocks))


def text_tensors() -> dict[str, Tensor]:
    """What ``models_t5_umt5-xxl-enc-bf16.pth`` holds."""
    assert CONFIG.text is not None
    return _random(build_text_model(CONFIG.text), text_names)


def write_release(folder: Path) -> None:
    """Write all released files and the tokenizer to ``folder``, in their places."""
    wan = folder / "Wan2.1-T2V-1.3B"
    write_tokenizer(wan / "google" / "umt5-xxl")
    torch.save(transformer_tensors(), folder / "hydra.ckpt")
    torch.save(autoencoder_tensors(), wan / "Wan2.1_VAE.pth")
    bfloat16 = {name: value.bfloat16() for name, value in text_tensors().items()}
    torch.save(bfloat16, wan / "models_t5_umt5-xxl-enc-bf16.pth")
    save_file(wan_base_tensors(), wan / "diffusion_pytorch_model.safetensors")


def write_tokenizer(folder: Path) -> None:
    """Write a tokenizer of eight words that ends a text as umT5's does."""
    folder.mkdir(parents=True)
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def _random(model: nn.Module, names) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    ours = model.state_dict()
    return {
        upstream: 0.1 * torch.randn(ours[name].shape, generator=generator)
        for name, upstream in names(ours).items()
    }
