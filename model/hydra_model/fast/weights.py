# SPDX-License-Identifier: Apache-2.0
"""A block's weights as the fast path multiplies by them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hydra_model.blocks import Block, SelfAttention
from hydra_model.fast.acceleration import Acceleration
from hydra_model.fast.products import AnyProduct, Fp8Product, Product


@dataclass(frozen=True)
class CrossWeights:
    """Of the attention to the text."""

    query: AnyProduct
    key: Product
    value: Product
    output: AnyProduct
    gain_query: Tensor
    gain_key: Tensor
    norm_weight: Tensor
    norm_bias: Tensor
    eps: float


@dataclass(frozen=True)
class BlockWeights:
    """Of one block. ``parts`` are queries, keys and values by themselves.

    Rows of queries and keys are ordered so that a head's channels are the first members of all
    rotated pairs, then the second ones: scores are sums over channels and do not change, and the
    two halves are read and written whole.
    """

    qkv: AnyProduct
    parts: tuple[AnyProduct, AnyProduct, AnyProduct]
    memory_key_value: Product
    output: AnyProduct
    projector: Product | None  # None where it is folded into ``output``
    tokenizer: Product | None  # None where the convolution is used as it is
    gain_query: Tensor
    gain_key: Tensor
    eps: float
    up: AnyProduct
    down: AnyProduct
    cross: CrossWeights | None

    @staticmethod
    def of(block: Block, switches: Acceleration) -> BlockWeights:
        own = block.self_attention
        order = pairs_apart(own.config.num_heads, own.config.head_dim, own.query.weight.device)
        query = (own.query.weight[order], own.query.bias[order])
        key = (own.key.weight[order], own.key.bias[order])
        value = (own.value.weight, own.value.bias)
        weight, bias = (torch.cat(rows).detach() for rows in zip(query, key, value, strict=True))
        width = own.config.dim
        in_8_bits = "qkv" in switches.fp8
        qkv = _product(weight, bias, in_8_bits)
        parts = tuple(
            _product(weight[i : i + width], bias[i : i + width], in_8_bits)
            for i in range(0, 3 * width, width)
        )
        folded = switches.merged and isinstance(own.projector, nn.Linear)
        output = fold_projector(own) if folded else (own.output.weight, own.output.bias)
        separate = None if folded or isinstance(own.projector, nn.Identity) else own.projector
        up, down = block.ffn[0], block.ffn[2]
        assert isinstance(up, nn.Linear) and isinstance(down, nn.Linear)
        return BlockWeights(
            qkv=qkv,
            parts=(parts[0], parts[1], parts[2]),
            memory_key_value=Product(weight[width:], bias[width:]),
            output=_product(*output, "output" in switches.fp8),
            projector=None if separate is None else Product(separate.weight, separate.bias),
            tokenizer=tokenizer_product(own) if switches.merged else None,
            gain_query=own.norm_query.weight.detach()[order],
            gain_key=own.norm_key.weight.detach()[order],
            eps=own.norm_key.eps,
            up=_product(up.weight, up.bias, "up" in switches.fp8),
            down=_product(down.weight, down.bias, "down" in switches.fp8),
            cross=_cross(block, "text" in switches.fp8) if own.config.text_dim else None,
        )


def _product(weight: Tensor, bias: Tensor, in_8_bits: bool) -> AnyProduct:
    return Fp8Product(weight, bias) if in_8_bits else Product(weight, bias)


def _cross(block: Block, in_8_bits: bool) -> CrossWeights:
    own, norm = block.cross_attention, block.norm_cross
    return CrossWeights(
        _product(own.query.weight, own.query.bias, in_8_bits),
        Product(own.key.weight, own.key.bias),
        Product(own.value.weight, own.value.bias),
        _product(own.output.weight, own.output.bias, in_8_bits),
        own.norm_query.weight.detach(), own.norm_key.weight.detach(),
        norm.weight.detach(), norm.bias.detach(), own.norm_key.eps,
    )  # fmt: skip


def pairs_apart(heads: int, channels: int, device: torch.device) -> Tensor:
    """Return the order of channels that puts pairs' first members before their second ones."""
    pairs = torch.arange(heads * channels, device=device).view(heads, channels // 2, 2)
    return pairs.transpose(1, 2).flatten()


def fold_projector(own: SelfAttention) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the output product followed by the projector."""
    assert isinstance(own.projector, nn.Linear)
    after = own.projector.weight.double()
    weight = after @ own.output.weight.double()
    bias = after @ own.output.bias.double() + own.projector.bias.double()
    return weight.to(own.output.weight.dtype), bias.to(own.output.weight.dtype)


def tokenizer_product(own: SelfAttention) -> Product:
    """Return the tokenizer as a product of whole patches, channels innermost.

    The convolution's weight becomes a view of it: the gigabyte is there only once.
    """
    conv = own.tokenizer
    weight = conv.weight.detach().permute(0, 2, 3, 4, 1).contiguous()
    conv.weight.data = weight.permute(0, 4, 1, 2, 3)
    assert conv.bias is not None
    return Product(weight.flatten(1), conv.bias)
