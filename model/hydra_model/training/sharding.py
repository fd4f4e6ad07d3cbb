# SPDX-License-Identifier: Apache-2.0
"""Sharded data-parallel training (FSDP2) with gradient checkpointing, and its checkpoints."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from hydra_model.training.distributed import Process
from hydra_model.training.hydra_objective import FlowObjective

_TRAINED_ONLY = StateDictOptions(ignore_frozen_params=True)


def join_alone(process: Process) -> None:
    """Make a process group of one where ``torchrun`` made none: one path for any number."""
    if not dist.is_initialized():
        backend = "nccl" if process.device.type == "cuda" else "gloo"
        store = HashStore()
        dist.init_process_group(backend, store=store, rank=0, world_size=1)


def shard(
    objective: FlowObjective, process: Process, *, dtype: torch.dtype, checkpointing: bool
) -> None:
    """Shard the objective's parameters over all processes, in place.

    Products run in ``dtype``, gradients are averaged in float32. In the released form every
    block is gathered by itself when it is needed; the small models of the paper's form are
    gathered whole. With ``checkpointing`` only the blocks' inputs are kept for the backward
    pass.
    """
    transformer = objective.transformer
    mesh = init_device_mesh(process.device.type, (process.ranks,))
    policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    passes = (
        ("joint",) if transformer.config.memory_source == "all" else ("context", "target")
    )  # fmt: skip
    for block in transformer.layers:
        if checkpointing:
            for name in passes:
                setattr(block, name, partial(checkpoint, getattr(block, name), use_reentrant=False))
        if transformer.config.memory_source == "all":
            fully_shard(block, mesh=mesh, mp_policy=policy)
            register_fsdp_forward_method(block, "joint")
    fully_shard(objective, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(objective, "sample")


def local(value: Tensor) -> Tensor:
    """Return the part of a sharded tensor that lies in this process."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """Return a sharded tensor put together; all processes must call it."""
    return value.full_tensor() if isinstance(value, DTensor) else value


class ShardedAverage:
    """Exponential moving average of the trained parameters, sharded as they are."""

    def __init__(self, parameters: dict[str, nn.Parameter], decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.parameters = parameters
        self.weights = {name: p.detach().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 9))
        own = [local(w) for w in self.weights.values()]
        torch._foreach_lerp_(own, [local(p) for p in self.parameters.values()], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the parameters have the averaged values for a while."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self.parameters.items():
            live, own = local(parameter), local(self.weights[name])
            kept = live.clone()
            live.copy_(own)
            own.copy_(kept)


class Checkpoints:
    """The last few checkpoints of a run: ``checkpoint-*`` folders, each whole or not there."""

    def __init__(self, folder: Path, process: Process, *, keep: int = 2) -> None:
        self.folder, self.process, self.keep = folder, process, keep

    def last(self) -> Path | None:
        found = sorted(self.folder.glob("checkpoint-*"))
        return found[-1] if found else None

    def save(
        self,
        objective: FlowObjective,
        optimizer: torch.optim.Optimizer,
        average: ShardedAverage,
        facts: dict[str, Any],
    ) -> None:
        """Write a checkpoint under the name of ``facts["step"]``; any number of processes."""
        path = self.folder / f"checkpoint-{facts['step']:08d}"
        unfinished = self.folder / "unfinished-checkpoint"
        if self.process.leads:
            shutil.rmtree(unfinished, ignore_errors=True)
        self._wait()
        state_dict_saver.save(_state(objective, optimizer, average), checkpoint_id=unfinished)
        if self.process.leads:
            facts = {**facts, "average_updates": average.updates}
            (unfinished / "run.json").write_text(json.dumps(facts, indent=1) + "\n")
            shutil.rmtree(path, ignore_errors=True)
            os.replace(unfinished, path)
            for old in sorted(self.folder.glob("checkpoint-*"))[: -self.keep]:
                shutil.rmtree(old)
        self._wait()

    def load(
        self, objective: FlowObjective, optimizer: torch.optim.Optimizer, average: ShardedAverage
    ) -> dict[str, Any] | None:
        """Restore the last checkpoint and return its facts, or None where there is none.

        It may have been written by another number of processes.
        """
        path = self.last()
        if path is None:
            return None
        try:
            facts: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
            state = _state(objective, optimizer, average)
            state_dict_loader.load(state, checkpoint_id=path)
        except (OSError, ValueError, KeyError, RuntimeError, CheckpointException) as error:
            raise ValueError(
                f"checkpoint {path} cannot be read ({' '.join(str(error).split())[:200]}); "
                "delete it to go on from the one before"
            ) from error
        set_model_state_dict(
            objective, state["model"],
            options=StateDictOptions(ignore_frozen_params=True, strict=False),
        )  # fmt: skip
        set_optimizer_state_dict(objective, optimizer, state["optimizer"], options=_TRAINED_ONLY)
        average.updates = facts["average_updates"]
        return facts

    def _wait(self) -> None:
        if self.process.ranks > 1:
            dist.barrier()


def _state(
    objective: FlowObjective, optimizer: torch.optim.Optimizer, average: ShardedAverage
) -> dict[str, Any]:
    # Frozen parameters are those of the base that the run started from.
    return {
        "model": get_model_state_dict(objective, options=_TRAINED_ONLY),
        "optimizer": get_optimizer_state_dict(objective, optimizer, options=_TRAINED_ONLY),
        "average": average.weights,
    }
