# SPDX-License-Identifier: Apache-2.0
"""A forward recorded once as a CUDA graph, and replayed with other inputs."""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from hydra_model.fast.joint import FastJoint, Tables

logger = logging.getLogger(__name__)

# Forwards of a shape before it is recorded: kernels are compiled and backends chosen in them, and a
# shape that is met no oftener is not worth a recording.
BEFORE = 2
KEPT = 4  # recordings: guided and unguided, of two lengths


@dataclasses.dataclass
class _Recording:
    graph: torch.cuda.CUDAGraph
    target: Tensor
    sigma: Tensor
    tables: Tables  # the recording's own copies
    holds: Tables  # those whose contents are in the copies now
    velocity: Tensor
    selected: list[Tensor]


class Recorded:
    """Calls ``FastJoint.velocity`` by replaying; one recording per shape of the inputs.

    The first ``BEFORE`` forwards of a shape are launched one by one. Where a forward cannot be
    recorded (its recording needs memory of its own), all are, and a warning says so once.
    """

    def __init__(self, joint: FastJoint) -> None:
        self._joint = joint
        self._met: dict[tuple[Any, ...], int] = {}
        self._recordings: OrderedDict[tuple[Any, ...], _Recording] = OrderedDict()
        self._works = True
        # What is cached per stream (cuBLAS's workspace) is then there before the recording.
        self._stream: torch.cuda.Stream | None = None
        # One pool for all: they run one after another, and results are copied out of it.
        self._pool: Any = None

    def __call__(
        self,
        target: Tensor,
        sigma: Tensor,
        tables: Tables,
        *,
        shared: int = 1,
        selections: list[Tensor] | None = None,
    ) -> Tensor:
        shapes = tuple(tensor.shape for tensor in _tensors(tables))
        key = (target.shape, shared, shapes)
        own = self._recordings.get(key)
        if own is None:
            met = self._met.get(key, 0)
            self._met[key] = met + 1
            if self._works and met >= BEFORE:
                own = self._try(key, target, sigma, tables, shared)
            if own is None:
                return self._launch(target, sigma, tables, shared, selections)
        self._recordings.move_to_end(key)
        own.target.copy_(target)
        own.sigma.copy_(sigma)
        if own.holds is not tables:
            for mine, theirs in zip(_tensors(own.tables), _tensors(tables), strict=True):
                mine.copy_(theirs)
            own.holds = tables
        own.graph.replay()
        if selections is not None:
            selections.extend(selected.clone() for selected in own.selected)
        return own.velocity.clone()

    def _launch(
        self,
        target: Tensor,
        sigma: Tensor,
        tables: Tables,
        shared: int,
        selections: list[Tensor] | None,
    ) -> Tensor:
        """Run a forward as it is, on the stream that recordings are made on."""
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        found: list[Tensor] | None = None if selections is None else []
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            velocity = self._joint.velocity(
                target, sigma, tables, shared=shared, selections=found
            )
        torch.cuda.current_stream().wait_stream(self._stream)
        if selections is not None and found is not None:
            selections.extend(selected.clone() for selected in found)
        return velocity.clone()

    def _try(
        self, key: tuple[Any, ...], target: Tensor, sigma: Tensor, tables: Tables, shared: int
    ) -> _Recording | None:
        try:
            own = self._record(target, sigma, tables, shared)
        except RuntimeError as error:  # torch.OutOfMemoryError is one too
            self._works = False
            self._recordings.clear()
            torch.cuda.empty_cache()
            logger.warning(
                "forwards cannot be recorded as CUDA graphs and are launched one by one: %s",
                str(error).split("\n")[0],
            )
            return None
        self._recordings[key] = own
        while len(self._recordings) > KEPT:
            gone, _ = self._recordings.popitem(last=False)
            del self._met[gone]
        return own

    def _record(self, target: Tensor, sigma: Tensor, tables: Tables, shared: int) -> _Recording:
        own_target, own_sigma, own_tables = target.clone(), sigma.clone(), _copied(tables)
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        selected: list[Tensor] = []
        # What other threads do on the GPU meanwhile is no part of it, and may go on.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
        ):
            velocity = self._joint.velocity(
                own_target, own_sigma, own_tables, shared=shared, selections=selected
            )
        return _Recording(graph, own_target, own_sigma, own_tables, tables, velocity, selected)


def _tensors(value: Any) -> list[Tensor]:
    """Return all tensors of nested dataclasses and tuples, in order."""
    if isinstance(value, Tensor):
        return [value]
    if dataclasses.is_dataclass(value):
        value = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    if isinstance(value, tuple):
        return [tensor for part in value for tensor in _tensors(part)]
    return []


def _copied(value: Any) -> Any:
    """Return a copy of nested dataclasses and tuples with tensors of its own."""
    if isinstance(value, Tensor):
        return value.clone()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: _copied(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return type(value)(**parts)
    return tuple(_copied(part) for part in value) if isinstance(value, tuple) else value
