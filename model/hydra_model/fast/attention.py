# SPDX-License-Identifier: Apache-2.0
"""Ways to compute the retrieval attention, for the device to choose among.

"gather": the keys of every query frame are copied side by side, then one attention call (what
the readable path does). "split": the local windows are read where they lie, as overlapping views;
only the selected memory is copied, a third of the keys; the two softmaxes are merged by their
normalisers, which is exact ("split-flash3" needs the package flash-attn-3 and a Hopper GPU, and
takes all windows in one call).
"triton": one kernel of our own that reads everything where it lies. "flex": PyTorch's FlexAttention
over all keys, which skips the blocks that nobody sees. "fp8-...": in 8 bits, in several tilings, as
no one knows which of them a compiler and a GPU do best.

Shape legend: B batch, T query frames, S key frames, N tokens a frame, J memory frames, M tokens a
memory frame, H heads, D channels a head, K selected.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from hydra_model import attention as readable
from hydra_model.fast.products import Quantised

aten = torch.ops.aten


@dataclass(frozen=True)
class Retrieval:
    """The operands of one retrieval attention, all rotated.

    ``query [B, T, N, H, D]``, ``key, value [B, S, N, H, D]`` (views with frames and tokens at one
    stride are fine), ``memory_* [B, J, M, H, D]``, ``selected [B, T, K]``, ``windows [T, W]`` are
    key frames; ``starts`` are their first ones, known without asking the device.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    memory_key: Tensor
    memory_value: Tensor
    selected: Tensor
    windows: Tensor
    starts: tuple[int, ...]


Backend = Callable[[Retrieval], Tensor]
FLASH3 = "flash_attn_interface"  # the module of the package flash-attn-3
TILE = 128  # queries that it takes at a time
Call = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
IndexedCall = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Windows = Callable[[Retrieval, int], Iterator[tuple[int, Tensor, Tensor]]]


def gather(at: Retrieval, *, backend: SDPBackend | None = None) -> Tensor:
    """Copy, then attend: returns ``[B, T, N, H, D]``, as all backends do."""
    operands = (at.query, at.key, at.value, at.memory_key, at.memory_value)
    query, key, value, memory_key, memory_value = (part.flatten(-2) for part in operands)

    def run() -> Tensor:
        out = readable.retrieval_attention(
            query, key, value, memory_key, memory_value, at.windows, at.selected,
            at.query.shape[-2],
        )  # fmt: skip
        return out.view(at.query.shape)

    if backend is None:
        return run()
    with sdpa_kernel([backend]):
        return run()


def windows(starts: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return runs of frames whose windows start at one frame or each one frame later.

    Each is (first frame, number of frames, step of the start: 0 or 1).
    """
    runs: list[tuple[int, int, int]] = []
    for equal, group in itertools.groupby(_steps(starts), key=lambda pair: pair[1]):
        frames = [frame for frame, _ in group]
        if equal[0] == "same":
            runs.append((frames[0], len(frames), 0))
        else:
            runs.append((frames[0], len(frames), 1))
    return runs


def _steps(starts: Sequence[int]) -> list[tuple[int, tuple[str, int]]]:
    """Label each frame: frames of one label share a start, or have starts that follow."""
    labels = []
    for frame, start in enumerate(starts):
        shared = starts.count(start) > 1
        labels.append((frame, ("same", start) if shared else ("next", start - frame)))
    return labels


def split(
    at: Retrieval, call: Call, windows: Windows | None = None, out: Tensor | None = None
) -> Tensor:
    """Attend to windows and to selected memory apart, and merge; ``call`` also gives weights.

    ``windows`` attends to the local ones as ``attend_windows`` does, which is the default.
    ``out``, where given, takes the result.
    """
    windows = windows or functools.partial(attend_windows, call=call)
    if out is None:
        out = torch.empty_like(at.query)
    key, value = (_chosen(memory, at.selected) for memory in (at.memory_key, at.memory_value))
    for b in range(len(at.query)):
        far, far_weight = call(at.query[b], key[b], value[b])
        for first, near, weight in windows(at, b):
            own = slice(first, first + len(near))
            merge_best(near, weight, far[own], far_weight[own], out[b, own])
    return out


def attend_windows(at: Retrieval, b: int, call: Call) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Attend to the local windows of batch entry ``b``, run by run of ``windows``.

    Yields the first frame, what its run's frames get ``[t, N, H, D]``, and weights ``[t, H, N]``.
    """
    _, _, tokens, heads, channels = at.query.shape
    for first, count, step in windows(at.starts):
        query = at.query[b, first : first + count]
        copies = count if step else 1
        key, value = (
            part[b, at.starts[first] :].as_strided(
                (copies, at.windows.shape[1] * tokens, heads, channels),
                (part.stride(1), part.stride(2), channels, 1),
            )
            for part in (at.key, at.value)
        )
        if step:
            out, weight = call(query, key, value)
        else:
            out, weight = call(query.reshape(1, count * tokens, heads, channels), key, value)
            out = out.view(count, tokens, heads, channels)
            weight = weight.view(heads, count, tokens).transpose(0, 1)
        yield first, out, weight


def attend_windows_at_once(
    at: Retrieval, b: int, call: IndexedCall
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Do it in one call, which is told each window's first frame."""
    _, frames, tokens, heads, channels = at.key.shape
    width = at.windows.shape[1]
    key, value = (
        part[b].as_strided(
            (frames - width + 1, width * tokens, heads, channels),
            (part.stride(1), part.stride(2), channels, 1),
        )
        for part in (at.key, at.value)
    )
    yield 0, *call(at.query[b], key, value, at.windows[:, 0].int())


def split_tiles(at: Retrieval, call: Call, indexed: IndexedCall) -> Tensor:
    """``split`` for a kernel that takes ``TILE`` queries at a time and can be told windows.

    Tokens of a frame that would leave most of a tile empty are attended to apart, key frame by
    key frame, with those of other frames that see it.
    """
    tokens = at.query.shape[2]
    left_over = tokens % TILE
    together = TILE // left_over if left_over else 0
    whole = tokens - left_over if together > 1 else tokens
    out = torch.empty_like(at.query)
    if whole:
        part = dataclasses.replace(at, query=at.query[:, :, :whole])
        windows = functools.partial(attend_windows_at_once, call=indexed)
        split(part, call, windows, out[:, :, :whole])
    if whole < tokens:
        near = _share_windows(at.starts, at.windows.shape[1], together, out.device)
        for b, query in enumerate(at.query[:, :, whole:]):
            far = _share_memory(at.selected[b], at.memory_key.shape[1])
            merge_best(
                *attend_together(query, at.key[b], at.value[b], near, indexed),
                *attend_together(query, at.memory_key[b], at.memory_value[b], far, indexed),
                out[b, :, whole:],
            )
    return out


@dataclass(frozen=True)
class Sharing:
    """Which query frames attend to a key frame together, A at a time, E times.

    ``keys [E]`` int32 are key frames, ``askers [E, A]`` query frames, and ``places [T, W]`` say
    which W of the E * A answers a query frame needs.
    """

    keys: Tensor
    askers: Tensor
    places: Tensor


@functools.cache  # never let go: recorded forwards read them where they lie
def _share_windows(
    starts: tuple[int, ...], width: int, together: int, device: torch.device
) -> Sharing:
    """Let up to ``together`` frames share each frame of their windows ``starts``, ``width``."""
    keys: list[int] = []
    askers: list[list[int]] = []
    places = [[0] * width for _ in starts]
    for key in range(max(starts) + width):
        asking = [frame for frame, start in enumerate(starts) if start <= key < start + width]
        for at in range(0, len(asking), together):
            group = asking[at : at + together]
            for slot, frame in enumerate(group):
                places[frame][key - starts[frame]] = len(keys) * together + slot
            keys.append(key)
            askers.append(group + group[:1] * (together - len(group)))
    return Sharing(
        torch.tensor(keys, dtype=torch.int32, device=device),
        torch.tensor(askers, device=device),
        torch.tensor(places, device=device),
    )


def _share_memory(selected: Tensor, count: int) -> Sharing:
    """Let all frames ask all of ``count`` memory frames, and keep what ``selected [T, K]`` says."""
    frames = torch.arange(len(selected), device=selected.device)
    return Sharing(
        torch.arange(count, dtype=torch.int32, device=selected.device),
        frames.expand(count, -1),
        selected * len(selected) + frames[:, None],
    )


def attend_together(
    query: Tensor, key: Tensor, value: Tensor, sharing: Sharing, call: IndexedCall
) -> tuple[Tensor, Tensor]:
    """Attend with few tokens of many frames, ``query [T, R, H, D]``, to whole key frames.

    ``key, value [S, N, H, D]``. Returns as a ``Call`` does, ``[T, R, H, D]`` and ``[T, H, R]``.
    """
    out, weight = call(query[sharing.askers].flatten(1, 2), key, value, sharing.keys)
    return join_best(out, weight, sharing.places, query.shape[1])


def join(out: Tensor, weight: Tensor, places: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Join attentions of the same queries over W sets of keys.

    ``out [E, A * R, H, D]`` with the logarithms of its sums ``[E, H, A * R]``, R = ``tokens``;
    ``places [T, W]`` count in the E * A. Returns ``[T, R, H, D]`` and ``[T, H, R]``.
    """
    parts = out.unflatten(1, (-1, tokens)).flatten(0, 1)[places]  # [T, W, R, H, D]
    weight = weight.unflatten(-1, (-1, tokens)).transpose(1, 2).flatten(0, 1)[places]
    total = weight.logsumexp(1)
    share = (weight - total[:, None]).exp().transpose(-1, -2)[..., None]
    return (parts * share).sum(1).to(out.dtype), total


def join_best(out: Tensor, weight: Tensor, places: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """``join``, in one pass where Triton is there."""
    if out.device.type == "cuda":
        from hydra_model.fast import kernels

        return kernels.join(out, weight, places, tokens)
    return join(out, weight, places, tokens)


def _chosen(memory: Tensor, selected: Tensor) -> Tensor:
    """Return the selected frames of ``memory [B, J, M, H, D]``: ``[B, T, K * M, H, D]``."""
    batch, count = memory.shape[:2]
    rows = memory.reshape(batch * count, -1)
    base = torch.arange(batch, device=memory.device)[:, None, None] * count
    chosen = rows.index_select(0, (selected + base).flatten())
    return chosen.view(*selected.shape[:2], -1, *memory.shape[3:])


def merge(first: Tensor, first_weight: Tensor, second: Tensor, second_weight: Tensor) -> Tensor:
    """Join two attentions of the same queries over different keys.

    ``[B, N, H, D]`` each, with the logarithms of their softmax's sums ``[B, H, N]``.
    """
    share = torch.sigmoid(first_weight - second_weight).transpose(1, 2)[..., None]
    return torch.lerp(second.float(), first.float(), share).to(first.dtype)


def merge_best(
    first: Tensor, first_weight: Tensor, second: Tensor, second_weight: Tensor, out: Tensor
) -> None:
    """``merge`` into ``out``, in one pass where Triton is there."""
    if first.device.type == "cuda":
        from hydra_model.fast import kernels

        kernels.merge(first, first_weight, second, second_weight, out)
    else:
        out.copy_(merge(first, first_weight, second, second_weight))


def _heads_first(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.transpose(1, 2) for tensor in tensors]


def _weights(weight: Tensor, query: Tensor) -> Tensor:
    """Bring a backend's logarithms of sums to ``[B, H, N]``."""
    return weight.reshape(query.shape[0], query.shape[2], -1)[..., : query.shape[1]]


def call_flash(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """FlashAttention on ``[B, N, H, D]``, with the logarithms of the sums."""
    found = aten._scaled_dot_product_flash_attention(*_heads_first((query, key, value)))
    return found[0].transpose(1, 2), _weights(found[1], query)


def call_cudnn(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """cuDNN's attention, likewise."""
    found = aten._scaled_dot_product_cudnn_attention(*_heads_first((query, key, value)), None, True)
    return found[0].transpose(1, 2), _weights(found[1], query)


def call_flash3(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """FlashAttention-3 (Hopper) where its package is installed, likewise.

    Versions before 3.0.0 cannot be asked for the logarithms, and raise ``TypeError``.
    """
    module = importlib.import_module(FLASH3)
    out, weight = module.flash_attn_func(query, key, value, return_attn_probs=True)
    return out, _weights(weight, query)


def call_flash3_indexed(
    query: Tensor, key: Tensor, value: Tensor, entries: Tensor
) -> tuple[Tensor, Tensor]:
    """The same of each query ``[B, N, H, D]`` with its entry ``[B]`` of the keys' batch."""
    module = importlib.import_module(FLASH3)
    out, weight, *_ = module.flash_attn_with_kvcache(
        query, key, value, cache_batch_idx=entries, num_splits=1, return_softmax_lse=True
    )
    return out, _weights(weight, query)


def call_cpu(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """FlashAttention of the CPU, likewise."""
    found = aten._scaled_dot_product_flash_attention_for_cpu(*_heads_first((query, key, value)))
    return found[0].transpose(1, 2), _weights(found[1], query)


def triton_in_place(at: Retrieval, **tiles: int) -> Tensor:
    """Our own kernel; ``tiles`` as it takes them."""
    from hydra_model.fast.triton_attention import retrieval_attention

    return retrieval_attention(
        at.query, at.key, at.value, at.memory_key, at.memory_value, at.selected, at.windows,
        **tiles,
    )  # fmt: skip


def in_8_bits(at: Retrieval, *, narrow: bool = False, **tiling: Any) -> Any:
    """Our own kernel in 8 bits; ``tiling`` as ``fp8_attention.Tiling`` takes it."""
    from hydra_model.fast import fp8_attention

    return fp8_attention.retrieval_attention(
        at.query, at.key, at.value, at.memory_key, at.memory_value, at.selected, at.windows,
        fp8_attention.Tiling(**tiling), narrow=narrow,
    )  # fmt: skip


def flex(at: Retrieval) -> Tensor:
    """FlexAttention with a block mask."""
    from hydra_model.fast.flex import retrieval_attention

    return retrieval_attention(at)


# What ``fp8_attention.Tiling`` is told: of 24 that were timed (benchmarks/fp8.py) the fastest,
# the fastest with exact sums, and one each of another kind for other cards.
TILINGS: dict[str, dict[str, Any]] = {
    "fp8-pairs": {"stages": 2, "rest": True},
    "fp8-small": {"queries": 64, "warps": 4, "stages": 2},
    "fp8-small-fast": {"queries": 64, "warps": 4, "stages": 3, "exact_sums": False},
    "fp8-plain": {"stages": 3, "rest": True, "descriptors": False, "exact_sums": False},
}
# These return rows in 8 bits, ``[B, T, N, C]``.
NARROW_BACKENDS: dict[str, Callable[[Retrieval], Quantised]] = {
    name: functools.partial(in_8_bits, narrow=True, **tiling) for name, tiling in TILINGS.items()
}
BACKENDS: dict[str, Backend] = {
    "gather": gather,
    "gather-flash": lambda at: gather(at, backend=SDPBackend.FLASH_ATTENTION),
    "gather-cudnn": lambda at: gather(at, backend=SDPBackend.CUDNN_ATTENTION),
    "split-flash": lambda at: split(at, call_flash),
    "split-cudnn": lambda at: split(at, call_cudnn),
    "split-flash3": lambda at: split_tiles(at, call_flash3, call_flash3_indexed),
    "split-cpu": lambda at: split(at, call_cpu),
    "flex": flex,
    "triton": triton_in_place,
    "triton-wide": lambda at: triton_in_place(at, keys=128, stages=2),
    **{name: functools.partial(in_8_bits, **tiling) for name, tiling in TILINGS.items()},
}
