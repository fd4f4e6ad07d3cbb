# SPDX-License-Identifier: Apache-2.0
"""A forward recorded once as a CUDA graph, and replayed with other inputs."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from hydra_model.fast.joint import FastJoint, Tables

WARM_UP = 2  # forwards before the recording: kernels are compiled and backends chosen in them


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
    """Calls ``FastJoint.velocity`` by replaying; one recording per shape of the inputs."""

    def __init__(self, joint: FastJoint) -> None:
        self._joint = joint
        self._recordings: dict[tuple[Any, ...], _Recording] = {}

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
        if key not in self._recordings:
            self._recordings[key] = self._record(target, sigma, tables, shared)
        own = self._recordings[key]
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

    def _record(self, target: Tensor, sigma: Tensor, tables: Tables, shared: int) -> _Recording:
        own_target, own_sigma, own_tables = target.clone(), sigma.clone(), _copied(tables)
        run = self._joint.velocity
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                run(own_target, own_sigma, own_tables, shared=shared)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        selected: list[Tensor] = []
        with torch.cuda.graph(graph):
            velocity = run(own_target, own_sigma, own_tables, shared=shared, selections=selected)
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
