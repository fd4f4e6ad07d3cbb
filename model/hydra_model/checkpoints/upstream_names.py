# SPDX-License-Identifier: Apache-2.0
"""The tensor names of the released files; no other file knows them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Replace = Callable[[re.Match[str]], str]

# Our module -> the released one; a module that no rule matches has the same name in both.
TRANSFORMER_RULES = (
    (r"blocks\.(\d+)\.self_attention\.projector", r"blocks.\1.projector"),
    (r"blocks\.(\d+)\.self_attention\.tokenizer", r"blocks.\1.self_attn.tokenizer.conv"),
    (
        r"blocks\.(\d+)\.(self|cross)_attention\.(norm_)?([qkvo])(?:uery|ey|alue|utput)",
        r"blocks.\1.\2_attn.\3\4",
    ),
    (r"blocks\.(\d+)\.norm_cross", r"blocks.\1.norm3"),
    (r"blocks\.(\d+)\.camera_context", r"blocks.\1.cam_encoder_con"),
    (r"blocks\.(\d+)\.camera_target", r"blocks.\1.cam_encoder_tgt"),
    (r"head\.linear", r"head.head"),
)

# Modules that HyDRA adds to the Wan base, whose file does not have them.
HYDRA_ONLY = re.compile(
    r"blocks\.\d+\.(self_attention\.(tokenizer|projector)|camera_context|camera_target)\."
)

TEXT_RULES = (
    (r"shared", r"token_embedding"),
    (r"encoder\.final_layer_norm", r"norm"),
    (r"encoder\.block\.(\d+)\.layer\.0\.layer_norm", r"blocks.\1.norm1"),
    (r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.([qkvo])", r"blocks.\1.attn.\2"),
    (
        r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias",
        r"blocks.\1.pos_embedding.embedding",
    ),
    (r"encoder\.block\.(\d+)\.layer\.1\.layer_norm", r"blocks.\1.norm2"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0", r"blocks.\1.ffn.gate.0"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1", r"blocks.\1.ffn.fc1"),
    (r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo", r"blocks.\1.ffn.fc2"),
)

AUTOENCODER_RULES = (
    (r"wan\.quant_conv", r"conv1"),
    (r"wan\.post_quant_conv", r"conv2"),
    (r"wan\.(encoder|decoder)\.conv_in", r"\1.conv1"),
    (r"wan\.(encoder|decoder)\.norm_out", r"\1.head.0"),
    (r"wan\.(encoder|decoder)\.conv_out", r"\1.head.2"),
)

# Inside the autoencoder's blocks; what resampling and attention hold has the same names.
AUTOENCODER_BLOCK = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}

# The layers of the tiny decoder are numbered through; six make a level, three lead there.
TINY_DECODER_RULES: tuple[tuple[str, Replace], ...] = (
    (r"conv_in", lambda match: "decoder.1"),
    (
        r"levels\.(\d)\.blocks\.(\d)\.conv(\d)",
        lambda match: (
            f"decoder.{3 + 6 * int(match[1]) + int(match[2])}.conv.{2 * int(match[3]) - 2}"
        ),
    ),
    (r"levels\.(\d)\.grow", lambda match: f"decoder.{7 + 6 * int(match[1])}.conv"),
    (r"levels\.(\d)\.conv", lambda match: f"decoder.{8 + 6 * int(match[1])}"),
    (r"conv_out", lambda match: "decoder.22"),
)


def transformer_names(ours: Iterable[str]) -> dict[str, str]:
    """Return our parameter -> the one in ``hydra.ckpt``."""
    return {name: _rename(TRANSFORMER_RULES, name) for name in ours}


def wan_base_names(ours: Iterable[str]) -> dict[str, str]:
    """Return our parameter -> the one in the Wan base's file, for those that it has."""
    return transformer_names(name for name in ours if not HYDRA_ONLY.match(name))


def text_names(ours: Iterable[str]) -> dict[str, str]:
    """Return transformers' parameter -> the one in ``models_t5_umt5-xxl-enc-bf16.pth``.

    The encoder's second name of the token embedding is left out: it is the same tensor.
    """
    return {
        name: _rename(TEXT_RULES, name) for name in ours if name != "encoder.embed_tokens.weight"
    }


def autoencoder_names(ours: Iterable[str], num_res_blocks: int) -> dict[str, str]:
    """Return our parameter -> the one in ``Wan2.1_VAE.pth``."""
    return {name: _autoencoder_name(name, num_res_blocks + 2) for name in ours}


def tiny_decoder_names(ours: Iterable[str]) -> dict[str, str]:
    """Return our parameter -> the one in ``taew2_1.pth``, whose encoder's are left out."""
    return {name: _rename(TINY_DECODER_RULES, name) for name in ours}


def _autoencoder_name(name: str, blocks_per_level: int) -> str:
    block = re.match(r"wan\.(encoder|decoder)\.(mid|down|up)_blocks?\.", name)
    if block is None:
        return _rename(AUTOENCODER_RULES, name)
    coder, kind = block.groups()
    rest = name[block.end() :]
    if kind == "mid":
        module, number, inner = rest.split(".", 2)
        place = f"middle.{1 if module == 'attentions' else 2 * int(number)}"
    elif kind == "down":
        number, inner = rest.split(".", 1)
        place = f"downsamples.{number}"
    else:
        # The released decoder counts the residual blocks and the upsampler of all levels on.
        level, module, number, inner = rest.split(".", 3)
        last = blocks_per_level - 1
        position = last if module == "upsamplers" else int(number)
        place = f"upsamples.{int(level) * blocks_per_level + position}"
    module, leaf = inner.rsplit(".", 1)
    return f"{coder}.{place}.{AUTOENCODER_BLOCK.get(module, module)}.{leaf}"


def _rename(rules: Iterable[tuple[str, str | Replace]], name: str) -> str:
    module, dot, leaf = name.rpartition(".")
    for pattern, replacement in rules:
        match = re.fullmatch(pattern, module)
        if match:
            own = replacement(match) if callable(replacement) else match.expand(replacement)
            return own + dot + leaf
    return name
