# SPDX-License-Identifier: Apache-2.0
"""The transformer's released form, arranged for a GPU; ``Transformer`` is what it has to equal.

Exact up to rounding: products are merged, what lies between them is one pass over memory each,
keys are read where they lie, and in the last block only the target runs behind the keys.

Shape legend: B batch, T frames (context, then target), N tokens a frame, C width, H heads, J
memory frames, M tokens a memory frame.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from hydra_model import attention as readable
from hydra_model.config import TransformerConfig
from hydra_model.fast.acceleration import ATTENTION, FP8_PARTS, Acceleration
from hydra_model.fast.attention import BACKENDS, NARROW_BACKENDS, Retrieval
from hydra_model.fast.attention_trial import TRIED, TRIED_IN_8_BITS, fastest
from hydra_model.fast.passes import choose_passes
from hydra_model.fast.product_trial import worthwhile
from hydra_model.fast.products import AnyProduct, Product, Quantised
from hydra_model.fast.residual import Residual
from hydra_model.fast.spread import ALL_FRAMES, Frames
from hydra_model.fast.text import TextKeys, prompt_rows, text_keys
from hydra_model.fast.weights import BlockWeights
from hydra_model.rope import Rotation
from hydra_model.transformer import Conditioning, Transformer

KEPT = 6  # tables that are kept: two prompts and their pair, of this chunk and of the last


@dataclass(frozen=True)
class Tables:
    """What all forwards of a conditioning share."""

    latents: Tensor  # [B, channels, Tc, H, W], the clean context
    rotation: Rotation  # [T, N, pairs]
    memory_rotation: Rotation  # [J, M, pairs]
    cameras: Tensor  # [blocks, B, T, 1 or N, C], encoded
    text: Tensor | None  # [B, L, C]
    text_keys: tuple[TextKeys, ...]  # per block; () if not kept so
    text_key_value: tuple[tuple[Tensor, Tensor], ...]  # per block [B, H, L, D]; () if not kept


class FastJoint:
    """Runs the forwards of one ``Transformer`` in the released form; weights are read once, now."""

    def __init__(self, model: Transformer, switches: Acceleration) -> None:
        self.model = model
        self.config = model.config
        self.switches = switches
        self.attention = switches.attention
        self.trial: dict[str, float] = {}  # milliseconds by backend, where it was measured
        weight = model.head.linear.weight
        self.passes = choose_passes(switches.fusion, weight.device)
        if switches.fp8 == FP8_PARTS:  # a chosen few are what somebody wants to look at
            kept = worthwhile(FP8_PARTS, self.config, self.passes, weight.device, weight.dtype)
            self.switches = switches = replace(switches, fp8=kept)
        self.blocks = [BlockWeights.of(block, switches) for block in model.layers]
        self.modulation = torch.stack([block.modulation.detach() for block in model.layers])
        patch = model.patch_embedding
        assert patch.bias is not None
        self.patches = Product(patch.weight.flatten(1), patch.bias)
        self._tables: OrderedDict[int, tuple[tuple[Conditioning, ...], Tables]] = OrderedDict()

    def tables(self, conditioning: Conditioning) -> Tables:
        """Return the tables of a conditioning, made when it is first seen."""
        key = id(conditioning)
        if key not in self._tables:
            self._keep(key, (conditioning,), self._make_tables(conditioning))
        return self._tables[key][1]

    def pair_tables(self, conditioning: Conditioning, negative: Conditioning) -> Tables | None:
        """Return tables for both at once, None where they differ in more than the text."""
        key = hash((id(conditioning), id(negative)))
        if key not in self._tables:
            first, second = self.tables(conditioning), self.tables(negative)
            if first.text is None or second.text is None or not _same_but_text(first, second):
                return None
            text = torch.cat((first.text, second.text))
            joined = replace(
                first,
                cameras=torch.cat((first.cameras, second.cameras), dim=1),
                **self._prompt(text),
            )
            self._keep(key, (conditioning, negative), joined)
        return self._tables[key][1]

    def _keep(self, key: int, of: tuple[Conditioning, ...], tables: Tables) -> None:
        # Together with what they belong to: the key of something that is gone may come back.
        self._tables[key] = (of, tables)
        while len(self._tables) > KEPT:
            self._tables.popitem(last=False)

    def _make_tables(self, cond: Conditioning) -> Tables:
        model = self.model
        assert cond.context_latents is not None, "conditioning was not made for this form"
        _, patch_rows, patch_columns = self.config.patch_size
        height, width = cond.context_latents.shape[-2:]
        grid = torch.Size((height // patch_rows, width // patch_columns))
        times = torch.cat((cond.context_times, cond.target_times))
        by, memory_by = model.rotations(times, grid)
        tokens = grid[0] * grid[1]
        memory_frames = len(times) // self.config.memory_stride[0]
        cameras = [
            torch.cat(
                (
                    block.camera_context(cond.context_camera),
                    block.camera_target(cond.target_camera),
                ),
                dim=1,
            )
            for block in model.layers
        ]
        return Tables(
            latents=cond.context_latents,
            rotation=_framed(by, len(times), tokens),
            memory_rotation=_framed(memory_by, memory_frames, -1),
            cameras=torch.stack(cameras),
            **self._prompt(cond.text),
        )

    def _prompt(self, text: Tensor | None) -> dict[str, Any]:
        """Return what ``Tables`` keep of a batch's prompts."""
        kept: dict[str, Any] = {"text": text, "text_keys": (), "text_key_value": ()}
        if text is None or not self.switches.prompt_once:
            return kept
        rows = prompt_rows(text) if self.switches.folded_text else None
        if rows is None:
            kept["text_key_value"] = tuple(self._text_key_value(b, text) for b in self.blocks)
        else:
            heads = self.config.num_heads
            kept["text_keys"] = tuple(
                text_keys(layer.cross_attention, heads, text, rows) for layer in self.model.layers
            )
        return kept

    def _text_key_value(self, block: BlockWeights, text: Tensor) -> tuple[Tensor, Tensor]:
        cross = block.cross
        assert cross is not None
        key = self.passes.normalise(cross.key(text), cross.gain_key, cross.eps)
        return self._heads(key), self._heads(cross.value(text))

    def _heads(self, x: Tensor) -> Tensor:
        """``[B, L, C]`` to ``[B, H, L, D]``."""
        return x.unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)

    def velocity(
        self,
        target: Tensor,
        sigma: Tensor,
        tables: Tables,
        *,
        shared: int = 1,
        frames: Frames = ALL_FRAMES,
        selections: list[Tensor] | None = None,
    ) -> Tensor:
        """Return the velocity of ``target [B, channels, Tt, H, W]``.

        ``shared`` texts of a pair stand in ``tables`` one after another, for the same latents:
        the result has ``shared`` times the batch, and what does not depend on the text is done
        once. ``selections`` receive ``[B, T, K]`` per block, in the last one of the target alone.
        """
        model, config, passes = self.model, self.config, self.passes
        own = frames.own(tables.latents.shape[2] + target.shape[2])
        x, grid = self._embed(torch.cat((tables.latents, target), dim=2)[:, :, own])
        batch = len(x)
        stream = Residual(x, passes, config.eps, in_place=self.switches.in_place)
        time, projected = model.embed_time(sigma, x.dtype)
        # [blocks, 6, B, 1, 1, C]; float32, as the passes compute.
        steps = (self.modulation + projected).float().transpose(1, 2)[:, :, :, None, None]
        for i, block in enumerate(self.blocks):
            shift, scale, gate = steps[i][:3]
            bias = shift + tables.cameras[i][:batch, own].float()
            y: Tensor | None
            rows: Tensor | Quantised
            if block.qkv.quantised:
                y, rows = stream.norm_quantised(1 + scale, bias, keep=True)
                assert y is not None
            else:
                rows = y = stream.norm(1 + scale, bias)
            last = i + 1 == len(self.blocks) and frames.whole
            first = tables.latents.shape[2] if last else 0
            attended, selected = self._self_attention(i, y, rows, tables, frames, grid, first)
            if first:
                stream.keep(first)
            if selections is not None:
                selections.append(frames.gather(selected)[: target.shape[0]])
            stream.add(block.projector or block.output, attended, gate)
            if i == 0 and shared > 1:
                stream.repeat(shared)
                steps = steps if steps.shape[2] == 1 else _repeat(steps, shared, axis=2)
                batch *= shared
            self._add_text(i, stream, tables)
            self._feed_forward(block, stream, *steps[i][3:])
        head = model.head
        shift, scale = (head.modulation + time[:, None]).float()[:, :, None, None].unbind(1)
        if shared > 1 and len(shift) > 1:
            shift, scale = _repeat(shift, shared), _repeat(scale, shared)
        y = stream.norm(1 + scale, shift)
        patches = frames.gather(head.linear(y).unflatten(2, grid))
        return model.unpatch(patches[:, -target.shape[2] :])

    def _embed(self, latents: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Latents to tokens ``[B, T, N, C]`` and rows and columns of tokens."""
        _, rows, columns = self.config.patch_size
        patches = rearrange(latents, "b c t (h p) (w q) -> b t h w (c p q)", p=rows, q=columns)
        return self.patches(patches).flatten(2, 3), (patches.shape[2], patches.shape[3])

    def _self_attention(
        self, i: int, y: Tensor, rows: Tensor | Quantised, tables: Tables, frames: Frames,
        grid: tuple[int, int], first: int,
    ) -> tuple[Tensor | Quantised, Tensor]:  # fmt: skip
        """Attend from the frames of ``y`` from ``first`` on; also return what they selected.

        ``rows`` are those of ``y`` as the product takes them, as the first result is for the
        product that follows.
        """
        block, config, passes = self.blocks[i], self.config, self.passes
        by = tables.rotation
        own = frames.own(len(by.cosine))
        cosine, sine = by.cosine[own], by.sine[own]
        query, key, value = self._project(block, rows, first)
        query, query_mean = passes.normalise_rotate(
            query, block.gain_query, cosine[first:], sine[first:], block.eps
        )
        key, _ = passes.normalise_rotate(key, block.gain_key, cosine, sine, block.eps, mean=False)
        memory = self._memorise(i, y, tables, own, grid)
        key, value = frames.neighbours(key), frames.neighbours(value)
        memory_key, memory_value, memory_mean = (frames.gather(t) for t in memory)
        plan = frames.plan(config, len(by.cosine), memory_mean.shape[1], first, y.device)
        assert query_mean is not None
        scores = query_mean @ memory_mean.transpose(1, 2)
        selected = readable.select_memory(scores, plan.count, plan.excluded)
        heads = (config.num_heads, config.head_dim)
        out: Tensor | Quantised
        if plan.ragged:
            valid = ~plan.excluded[None].expand_as(scores).gather(-1, selected)
            out = readable.retrieval_attention(
                query, key, value, memory_key, memory_value, plan.windows, selected, heads[0],
                valid,
            )  # fmt: skip
            selected = selected.masked_fill(~valid, -1)
        else:
            out = self._attend(
                Retrieval(
                    query.unflatten(-1, heads), key.unflatten(-1, heads),
                    value.unflatten(-1, heads), memory_key.unflatten(-1, heads),
                    memory_value.unflatten(-1, heads), selected, plan.windows, plan.starts,
                ),
                narrow=block.output.quantised,
            )  # fmt: skip
        out = out if isinstance(out, Quantised) else self._ready(block.output, out)
        return out if block.projector is None else block.output(out), selected

    def _attend(self, at: Retrieval, *, narrow: bool) -> Tensor | Quantised:
        """Return ``[B, T, N, C]``; with ``narrow`` in 8 bits, where the backend does it itself."""
        if self.attention == "measured":
            tried = TRIED + (TRIED_IN_8_BITS if ATTENTION in self.switches.fp8 else ())
            self.attention, self.trial = fastest(at, tried)
        if narrow and self.attention in NARROW_BACKENDS:
            return NARROW_BACKENDS[self.attention](at)
        return BACKENDS[self.attention](at).flatten(-2)

    def _project(
        self, block: BlockWeights, rows: Tensor | Quantised, first: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        if self.switches.merged and not first:
            query, key, value = block.qkv(rows).chunk(3, -1)
            return query, key, value
        later = rows
        if first:
            later = (
                Quantised(rows.values[:, first:].contiguous(), rows.scales[:, first:].contiguous())
                if isinstance(rows, Quantised)
                else rows[:, first:]
            )
        to_query, to_key, to_value = block.parts
        return to_query(later), to_key(rows), to_value(rows)

    def _ready(self, product: AnyProduct, x: Tensor) -> Tensor | Quantised:
        return self.passes.quantise(x) if product.quantised else x

    def _memorise(
        self, i: int, y: Tensor, tables: Tables, own: slice, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return rotated keys and values ``[B, J, M, C]`` and mean keys ``[B, J, C]``."""
        block, config, passes = self.blocks[i], self.config, self.passes
        if block.tokenizer is None:
            frames = y.unflatten(2, grid)
            tokens = self.model.layers[i].self_attention.tokenizer(frames).flatten(2, 3)
        else:
            tokens = block.tokenizer(passes.gather_patches(y, grid, config.memory_stride))
        key, value = block.memory_key_value(tokens).chunk(2, -1)
        start = own.start // config.memory_stride[0]
        by = tables.memory_rotation
        cosine, sine = (t[start : start + key.shape[1]] for t in (by.cosine, by.sine))
        key, mean = passes.normalise_rotate(key, block.gain_key, cosine, sine, block.eps)
        assert mean is not None
        return key, value, mean

    def _add_text(self, i: int, stream: Residual, tables: Tables) -> None:
        """Add what the tokens take from the text."""
        cross, passes = self.blocks[i].cross, self.passes
        if cross is None or tables.text is None:
            return
        weight, bias = (t.view(1, 1, 1, -1) for t in (cross.norm_weight, cross.norm_bias))
        rows: Tensor | Quantised
        if cross.query.quantised:
            _, rows = stream.norm_quantised(weight, bias)
        else:
            rows = stream.norm(weight, bias)
        query = cross.query(rows)
        if tables.text_keys:
            own = tables.text_keys[i]
            share = passes.text_weights(query, own.keys, own.counts, cross.eps)
            stream.add_batched(share, own.values, cross.output.bias)
            return
        kept = tables.text_key_value
        key, value = kept[i] if kept else self._text_key_value(self.blocks[i], tables.text)
        query = passes.normalise(query, cross.gain_query, cross.eps)
        out = F.scaled_dot_product_attention(self._heads(query.flatten(1, 2)), key, value)
        out = out.transpose(1, 2).flatten(2).view(query.shape)
        stream.add(cross.output, self._ready(cross.output, out), None)

    def _feed_forward(
        self, block: BlockWeights, stream: Residual, shift: Tensor, scale: Tensor, gate: Tensor
    ) -> None:
        hidden: Tensor | Quantised
        if block.up.quantised:
            _, hidden = stream.norm_quantised(1 + scale, shift)
        else:
            hidden = stream.norm(1 + scale, shift)
        if block.down.quantised:
            stream.add(block.down, self.passes.gelu_quantised(block.up(hidden)), gate)
        elif isinstance(hidden, Tensor):
            stream.add_made(block.down, partial(_widen, block.up), hidden, gate)
        else:
            stream.add(block.down, _widen(block.up, hidden), gate)


def _widen(up: AnyProduct, rows: Tensor | Quantised) -> Tensor:
    if isinstance(up, Product) and isinstance(rows, Tensor) and rows.is_cuda:
        # The GELU (of the tanh form on a GPU) is part of the product's last step.
        return torch._addmm_activation(up.bias, rows, up.weight.T, use_gelu=True)
    return F.gelu(up(rows), approximate="tanh")


def _same_but_text(first: Tables, second: Tables) -> bool:
    pairs = (
        (first.latents, second.latents),
        (first.cameras, second.cameras),
        (first.rotation.cosine, second.rotation.cosine),
    )
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def _framed(by: Rotation, frames: int, tokens: int) -> Rotation:
    return Rotation(*(t.unflatten(0, (frames, tokens)) for t in (by.cosine, by.sine)))


def _repeat(x: Tensor, times: int, axis: int = 0) -> Tensor:
    return torch.cat([x] * times, dim=axis)


def suits(config: TransformerConfig) -> bool:
    """Whether a model is in the form that this path runs."""
    plain = config.tokenizer_groups == 1 and config.relevance == "pooled"
    return config.memory_source == "all" and plain
