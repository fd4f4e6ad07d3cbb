# SPDX-License-Identifier: Apache-2.0
"""Several GPUs of a host run one transformer: one process each, one of them leads.

With guidance, one half of the team predicts under the prompt and the other under the negative
one; within a half, and without guidance, the latent frames are split (``spread.SplitFrames``).
Each forward's operands go from the leader to the others, so that nobody outside the leader's
transformer knows of them. Results are the same up to rounding as on one GPU.
"""

from __future__ import annotations

import dataclasses
import datetime
import logging
import multiprocessing
import socket
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from hydra_model.config import TransformerConfig
from hydra_model.fast.engine import Engine
from hydra_model.fast.spread import ALL_FRAMES, Frames, SplitFrames
from hydra_model.transformer import Conditioning, Transformer

logger = logging.getLogger(__name__)

PATIENCE = datetime.timedelta(hours=12)  # followers wait that long for a forward to join in
KEPT = 4  # conditionings that followers remember

Load = Callable[[torch.device], Engine]


class Member:
    """One process of the team; all members call ``forward`` and ``pair`` together."""

    def __init__(self, engine: Engine) -> None:
        config = engine.joint.config
        self.engine = engine
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        reach = config.window // 2
        self.everyone = SplitFrames(None, reach)
        self.half: Frames | None = None
        if self.size % 2 == 0:
            middle = self.size // 2
            groups = [dist.new_group(list(range(a, a + middle))) for a in (0, middle)]
            self.half = ALL_FRAMES
            if middle > 1:
                self.half = SplitFrames(groups[self.rank // middle], reach)

    def forward(
        self, target: Tensor, sigma: Tensor, own: Conditioning, selections: list[Tensor] | None
    ) -> Tensor:
        return self.engine.forward(target, sigma, own, selections=selections, frames=self.everyone)

    def pair(
        self, target: Tensor, sigma: Tensor, first: Conditioning, second: Conditioning,
        selections: list[Tensor] | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        assert self.half is not None
        middle = self.size // 2
        own = first if self.rank < middle else second
        velocity = self.engine.forward(
            target, sigma, own, selections=selections, frames=self.half
        ).contiguous()
        found = [torch.empty_like(velocity) for _ in range(self.size)]
        dist.all_gather(found, velocity)
        return found[0], found[middle]


class Leader:
    """Takes the place of a transformer's ``forward`` and ``pair`` in the leading process."""

    def __init__(self, model: Transformer, member: Member) -> None:
        self._config: TransformerConfig = model.config
        self._member = member
        self._sent: OrderedDict[int, tuple[int, Conditioning]] = OrderedDict()
        self._count = 0
        model.forward = self.forward  # type: ignore[method-assign]
        model.pair = self.pair  # type: ignore[method-assign]

    def forward(
        self,
        target_latents: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        *,
        selections: list[Tensor] | None = None,
    ) -> Tensor:
        """See ``Transformer.forward``."""
        if not self._splits(target_latents, conditioning, self._member.everyone):
            return self._member.engine.forward(
                target_latents, sigma, conditioning, selections=selections
            )
        self._send("forward", target_latents, sigma, (conditioning,), selections is not None)
        return self._member.forward(target_latents, sigma, conditioning, selections)

    def pair(
        self,
        target_latents: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        negative: Conditioning,
        *,
        selections: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See ``Transformer.pair``."""
        half = self._member.half
        if half is None or not self._splits(target_latents, conditioning, half):
            return (
                self.forward(target_latents, sigma, conditioning, selections=selections),
                self.forward(target_latents, sigma, negative),
            )
        own = (conditioning, negative)
        self._send("pair", target_latents, sigma, own, selections is not None)
        return self._member.pair(target_latents, sigma, *own, selections)

    def stop(self) -> None:
        """Let the other processes end."""
        dist.broadcast_object_list([None], src=0)

    def _splits(self, target: Tensor, conditioning: Conditioning, frames: Frames) -> bool:
        if not isinstance(frames, SplitFrames):
            return True
        count = len(conditioning.context_times) + target.shape[2]
        try:
            frames.check(self._config, count)
        except ValueError as error:
            logger.info("%s; one GPU does it alone", error)
            return False
        return True

    def _send(
        self, what: str, target: Tensor, sigma: Tensor, own: tuple[Conditioning, ...], select: bool
    ) -> None:
        numbers, fresh = [], []
        for conditioning in own:
            key = id(conditioning)
            if key not in self._sent:
                self._count += 1
                self._sent[key] = (self._count, conditioning)
                fresh.append((self._count, conditioning))
                while len(self._sent) > KEPT:
                    self._sent.popitem(last=False)
            numbers.append(self._sent[key][0])
        tensors = {"target": target.contiguous(), "sigma": sigma.contiguous()}
        for number, conditioning in fresh:
            tensors |= {f"{number}.{name}": part for name, part in _parts(conditioning).items()}
        shapes = {name: (part.shape, part.dtype) for name, part in tensors.items()}
        dist.broadcast_object_list([(what, numbers, shapes, select)], src=0)
        for part in tensors.values():
            dist.broadcast(part, src=0)


def _parts(conditioning: Conditioning) -> dict[str, Tensor]:
    """Return the tensors of a conditioning in the released form."""
    values = {f.name: getattr(conditioning, f.name) for f in dataclasses.fields(conditioning)}
    return {name: part.contiguous() for name, part in values.items() if isinstance(part, Tensor)}


@torch.inference_mode()
def follow(member: Member, device: torch.device) -> None:
    """Join in the leader's forwards until it stops."""
    known: OrderedDict[int, Conditioning] = OrderedDict()
    while True:
        message: list[Any] = [None]
        dist.broadcast_object_list(message, src=0)
        if message[0] is None:
            return
        what, numbers, shapes, select = message[0]
        tensors = {}
        for name, (shape, dtype) in shapes.items():
            tensors[name] = torch.empty(shape, dtype=dtype, device=device)
            dist.broadcast(tensors[name], src=0)
        target, sigma = tensors.pop("target"), tensors.pop("sigma")
        fresh: dict[int, dict[str, Tensor]] = {}
        for name, part in tensors.items():
            number, _, field = name.partition(".")
            fresh.setdefault(int(number), {})[field] = part
        for number, parts in fresh.items():
            parts.setdefault("text", None)  # type: ignore[arg-type]
            known[number] = Conditioning(**parts)  # type: ignore[arg-type]
            while len(known) > KEPT:
                known.popitem(last=False)
        own = [known[number] for number in numbers]
        # What is selected is gathered from all members, or from none.
        selections: list[Tensor] | None = [] if select else None
        if what == "pair":
            member.pair(target, sigma, own[0], own[1], selections)
        else:
            member.forward(target, sigma, own[0], selections)


def lead(model: Transformer, engine: Engine, load: Load, devices: list[torch.device]) -> Leader:
    """Start one process for each further device and put the team in place of ``model``'s forwards.

    ``load(device)``, which must be picklable, gives each process its engine with the same weights.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    spawn = multiprocessing.get_context("spawn")
    for rank in range(1, len(devices)):
        arguments = (rank, address, load, devices)
        spawn.Process(target=_follower, args=arguments, daemon=True).start()
    _join(0, address, devices)
    return Leader(model, Member(engine))


def _follower(rank: int, address: str, load: Load, devices: list[torch.device]) -> None:
    _join(rank, address, devices)
    try:
        follow(Member(load(devices[rank])), devices[rank])
    finally:
        dist.destroy_process_group()


def _join(rank: int, address: str, devices: list[torch.device]) -> None:
    device = devices[rank]
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo", init_method=address, rank=rank,
        world_size=len(devices), timeout=PATIENCE,
    )  # fmt: skip
