# SPDX-License-Identifier: Apache-2.0
"""A block's two passes for inference on a CPU: the same arithmetic in fewer trips to memory.

On a CPU a small transformer spends most of its time not in matrix products but between them:
in gathering the attention's keys frame by frame, in norms and rotations that write a tensor
for every operation, and in the tanh of GELU. Here queries, keys and values are one product,
norm and rotation are done in place in float32, all keys of a frame are gathered in one copy,
and below float32 the tanh form of GELU is replaced by the exact one, which differs by less
than a tenth of bfloat16's rounding and is five times as fast.

Shape legend as in ``hydra_model.blocks``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hydra_model import attention as att
from hydra_model import cpu_attention
from hydra_model.blocks import Block, Memory
from hydra_model.rope import Rotation
from hydra_model.scene_flow import Turn, Turns
from hydra_model.transformer import Transformer


def use_cpu_blocks(model: Transformer) -> None:
    """Let the blocks of a model in the paper's form run their passes as here.

    For inference only: the weights are read once, now. A model in the released form is left
    as it is.
    """
    if model.config.memory_source == "context":
        for block in model.all_layers:
            fast = CpuBlock(block)
            block.context = fast.context  # type: ignore[method-assign]
            block.target = fast.target  # type: ignore[method-assign]
            block.refine = fast.refine  # type: ignore[method-assign]


class CpuBlock:
    """The passes ``context``, ``target`` and ``refine`` of one ``Block``, and their arguments."""

    def __init__(self, block: Block) -> None:
        own = block.self_attention
        self.block = block
        self.config = own.config
        parts = (own.query, own.key, own.value)
        self.weight = torch.cat([p.weight.detach() for p in parts])
        self.bias = torch.cat([p.bias.detach() for p in parts])
        narrow = self.weight.dtype != torch.float32
        self.gelu = "none" if narrow else "tanh"
        self.gains = [n.weight.detach().float() for n in (own.norm_query, own.norm_key)]

    def context(
        self, x: Tensor, time: Tensor, text: Tensor | None,
        camera: Tensor, by: Rotation, memory_by: Rotation,
    ) -> tuple[Tensor, Memory]:  # fmt: skip
        """See ``Block.context``."""
        mod = self.block.modulations(time)
        y = self._enter(x, mod, self.block.camera_context, camera)
        memory = self.block.self_attention.memorise(y, memory_by)
        query, key, value = self._place(*self._project(y), by)
        attended = cpu_attention.attend(
            query.flatten(1, 2), key.flatten(1, 2), value.flatten(1, 2), self.config.num_heads
        )
        attended = self._place_values(attended.view(value.shape), by.value and by.value.back)
        return self._finish(x, attended.view(y.shape), mod, text), memory

    def target(
        self, x: Tensor, time: Tensor, text: Tensor | None,
        camera: Tensor, by: Rotation, memory: Memory,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """See ``Block.target``."""
        mod = self.block.modulations(time)
        y = self._enter(x, mod, self.block.camera_target, camera)
        query, key, value = self._project(y)
        shared = self.config.relevance == "attended"
        if not shared:  # before the rotation, which is done in place
            scores = self._relevance(query.view(y.shape), memory.relevance_key)
        query, key, value = self._place(query, key, value, by)
        if shared:
            scores = att.attended_share(query.view(y.shape), memory.key, self.config.num_heads)
        selected = att.select_memory(scores, min(self.config.top_k, memory.key.shape[1]))
        attended = self._attend(query, key, value, memory, selected, by)
        return self._finish(x, attended.view(y.shape), mod, text), selected

    def refine(
        self, x: Tensor, time: Tensor, text: Tensor | None, camera: Tensor, by: Rotation,
        memory: Memory, chosen: Tensor, turns: Turns | None = None,
    ) -> Tensor:  # fmt: skip
        """See ``Block.refine``."""
        mod = self.block.modulations(time)
        y = self._enter(x, mod, self.block.camera_target, camera)
        query, key, value = self._place(*self._project(y), by)
        attended = self._attend(query, key, value, memory, chosen, by, turns)
        return self._finish(x, attended.view(y.shape), mod, text)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, memory: Memory, selected: Tensor,
        by: Rotation, turns: Turns | None = None,
    ) -> Tensor:  # fmt: skip
        """Attend from placed queries to the window and the selected memory ``[B, T, N, C]``."""
        index = self._rows(key, memory.key, selected)
        keys = gather_rows(key, memory.key, index)
        values = gather_rows(value, memory.value, index)
        if turns is not None:
            far = selected.shape[-1] * memory.key.shape[2]
            keys, values = (self._turn_rows(t, far, turn) for t, turn in
                            ((keys, turns.key), (values, turns.value)))  # fmt: skip
        attended = cpu_attention.attend(query, keys, values, self.config.num_heads)
        return self._place_values(attended, by.value and by.value.back)

    def _norm(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        # Not addcmul: with operands of different shapes it takes twice as long as these two.
        return F.layer_norm(x, x.shape[-1:], eps=self.block.eps).mul_(1 + scale).add_(shift)

    def _enter(self, x: Tensor, mod: list[Tensor], encoder: nn.Linear, camera: Tensor) -> Tensor:
        y = self._norm(x, mod[0], mod[1])
        y.flatten(2, 3).add_(encoder(camera))
        return y

    def _project(self, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return normed query and key, float32 and not rotated, and value: ``[B, T, N, C]``."""
        query, key, value = F.linear(y.flatten(2, 3), self.weight, self.bias).chunk(3, -1)
        wide = []
        for x, gain in zip((query, key), self.gains, strict=True):
            x = x.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
            length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            scale = length.square_().div_(x.shape[-1]).add_(self.block.eps).rsqrt_()
            wide.append(x.mul_(scale).mul_(gain))
        return wide[0], wide[1], value

    def _place(
        self, query: Tensor, key: Tensor, value: Tensor, by: Rotation
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Turn float32 query and key in place, and return all in the value's type."""
        turn = torch.complex(by.cosine, by.sine).unsqueeze(-2)
        query, key = (self._rotate(t, turn, value.dtype) for t in (query, key))
        return query, key, self._place_values(value, by.value)

    def _rotate(self, x: Tensor, turn: Tensor, dtype: torch.dtype) -> Tensor:
        """Turn float32 ``x [B, T, N, C]`` in place, and return it in ``dtype``."""
        pairs = x.view(x.shape[0], -1, self.config.num_heads, self.config.head_dim // 2, 2)
        torch.view_as_complex(pairs).mul_(turn)
        return x.to(dtype)

    def _turn_rows(self, x: Tensor, last: int, turn: Turn | None) -> Tensor:
        """Turn the ``last`` rows of ``x [B, T, L, C]``, in place."""
        if turn is not None:
            angles = torch.complex(turn.by.cosine, turn.by.sine)
            rows = x[:, :, -last:].unflatten(-1, (self.config.num_heads, -1))[..., turn.channels]
            wide = rows.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
            pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
            pairs.mul_(angles.view(*pairs.shape[:3], 1, -1))
            rows.copy_(wide)
        return x

    def _place_values(self, value: Tensor, by: Rotation | None) -> Tensor:
        """Turn ``value [B, T, N, C]`` where values have positions."""
        if by is None:
            return value
        turn = torch.complex(by.cosine, by.sine).unsqueeze(-2)
        wide = value.to(torch.float32, memory_format=torch.contiguous_format, copy=True)
        return self._rotate(wide, turn, value.dtype)

    def _relevance(self, query: Tensor, memory_key: Tensor) -> Tensor:
        config = self.config
        if config.relevance == "pooled":
            return att.relevance(query.to(memory_key.dtype), memory_key, config)
        rows, columns = memory_key.shape[2:4]
        high, wide = config.memory_stride[1:]
        # Sums of slices: the mean over two strided axes takes ten times as long.
        pooled = sum(
            query[:, :, i : rows * high : high, j : columns * wide : wide]
            for i in range(high)
            for j in range(wide)
        )
        assert isinstance(pooled, Tensor)
        scale = (rows * columns * high * wide) ** -1 * query.shape[-1] ** -0.5
        return scale * (pooled.flatten(2) @ memory_key.float().flatten(2).transpose(1, 2))

    def _rows(self, key: Tensor, memory_key: Tensor, selected: Tensor) -> Tensor:
        """Return the rows of ``gather_rows`` that every frame attends to, ``[B, T, L]``."""
        batch, frames, tokens, _ = key.shape
        unit = math.gcd(tokens, memory_key.shape[2])
        window = att.window_frames(frames, self.config.window, key.device)

        def rows(index: Tensor, size: int) -> Tensor:
            count = size // unit
            return (index[..., None] * count + torch.arange(count)).flatten(-2)

        near = rows(window, tokens).expand(batch, -1, -1)
        far = frames * (tokens // unit) + rows(selected, memory_key.shape[2])
        own = frames * (tokens // unit) + memory_key.shape[1] * (memory_key.shape[2] // unit)
        return torch.cat((near, far), -1) + torch.arange(batch)[:, None, None] * own

    def _finish(
        self, x: Tensor, attended: Tensor, mod: list[Tensor], text: Tensor | None
    ) -> Tensor:
        block = self.block
        attended = block.self_attention.projector(block.self_attention.output(attended))
        x = attended.mul_(mod[2]).add_(x)
        if text is not None:
            x = x + block.cross_attention(block.norm_cross(x), text)
        up, _, down = block.ffn
        hidden = F.gelu(up(self._norm(x, mod[3], mod[4])), approximate=self.gelu)
        return down(hidden).mul_(mod[5]).add_(x)


def gather_rows(x: Tensor, memory: Tensor, index: Tensor) -> Tensor:
    """Return ``[B, T, tokens, C]``: rows of ``x [B, T, N, C]``, then of ``memory [B, J, M, C]``.

    A row is the longest run of tokens of which frames and memory frames both are made;
    ``index [B, T, L]`` counts rows through the whole batch.
    """
    width = math.gcd(x.shape[2], memory.shape[2]) * x.shape[3]
    both = torch.cat([t.reshape(t.shape[0], -1, width) for t in (x, memory)], dim=1)
    rows = both.flatten(0, 1).index_select(0, index.flatten())
    return rows.view(*index.shape[:2], -1, x.shape[3])
