# SPDX-License-Identifier: Apache-2.0
"""HyDRA's diffusion transformer (arXiv 2603.25716, section 3) with its hybrid memory.

One class holds both published forms (``TransformerConfig.memory_source``):

- "all", the released weights: context and noisy target run through the blocks together,
  memory is made from all frames, every frame retrieves.
- "context", the paper: the context attends to itself alone at time 0, its memory is made
  once per chunk, and only the target runs at every sampling step.

Shape legend: B batch, T latent frames, h and w rows and columns of tokens, N = h * w,
C width, J memory frames, M tokens a memory frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from hydra_model.blocks import Block, Head, Memory
from hydra_model.config import TransformerConfig
from hydra_model.detail import Detail, DetailConditioning
from hydra_model.foresight import Carried
from hydra_model.rope import Rotation, ray_rotation, rotation, value_rotation
from hydra_model.scene_flow import Flow, SceneFlow, Turns, memory_turns


@dataclass(frozen=True)
class Conditioning:
    """Everything that stays the same over the sampling steps of a chunk.

    Made by ``Transformer.prepare``. In the "context" form ``memories`` holds one entry per
    block and ``target_by`` the target tokens' rotation; in the "all" form the clean latents are
    kept and run again at every step.
    """

    context_camera: Tensor  # [B, Tc, 1 or N, channels]
    target_camera: Tensor  # [B, Tt, 1 or N, channels]
    context_times: Tensor  # [Tc]
    target_times: Tensor  # [Tt]
    text: Tensor | None  # [B, L, C], after the text embedding
    context_latents: Tensor | None = None  # [B, channels, Tc, H, W]
    memories: tuple[Memory, ...] = ()
    target_by: Rotation | None = None
    detail: DetailConditioning | None = None
    moves: Tensor | None = None  # [B, Tt, Tc, N, 2], of hydra_model.scene_flow


class Transformer(nn.Module):
    """Predicts the flow-matching velocity ``noise - sample`` of the target latents.

    Use: ``conditioning = prepare(...)`` once per chunk, ``forward(noisy, sigma, conditioning)``
    once per sampling step.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        patch = config.patch_size
        self.patch_embedding = nn.Conv3d(config.latent_channels, config.dim, patch, stride=patch)
        if config.text_dim:
            self.text_embedding = nn.Sequential(
                nn.Linear(config.text_dim, config.dim),
                nn.GELU(approximate="tanh"),
                nn.Linear(config.dim, config.dim),
            )
        self.time_embedding = nn.Sequential(
            nn.Linear(config.freq_dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(config.dim, 6 * config.dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_blocks))
        self.head = Head(config)
        self.detail = None if config.detail is None else Detail(config)
        self.scene_flow = None if config.scene_flow is None else SceneFlow(config)

    @property
    def layers(self) -> list[Block]:
        """The blocks, as what they are."""
        return cast("list[Block]", list(self.blocks))

    @property
    def all_layers(self) -> list[Block]:
        """The blocks of both scales."""
        return self.layers if self.detail is None else [*self.layers, *self.detail.layers]

    def prepare(
        self,
        context_latents: Tensor,
        context_camera: Tensor,
        target_camera: Tensor,
        *,
        context_times: Tensor,
        target_times: Tensor,
        text: Tensor | None = None,
        detail_camera: Tensor | None = None,
        features: list[Tensor] | None = None,
        corrected: Callable[[Flow, Flow | None], tuple[Flow, Flow | None]] | None = None,
        followed: Tensor | None = None,
    ) -> Conditioning:
        """Do once what every sampling step of a chunk shares.

        ``context_latents [B, channels, Tc, H, W]`` are clean; cameras are
        ``[B, T, 1 or N, channels]`` from ``hydra_model.rays.camera_conditioning``, best in
        float32 (the blocks get them in the latents' type); times are in latent-frame units since
        the first target frame (ignored by "slot" positions); ``text [B, L, text_dim]`` are prompt
        embeddings, needed when ``text_dim`` is not 0. ``detail_camera [B, Tc + Tt, H * W,
        channels]`` are the cameras of single latent positions, context first, needed where there
        is a detail scale (``hydra_model.rays.token_cameras`` makes both). ``features``, when
        given, receives what each block makes of the context, ``[B, Tc, h, w, C]`` (the "context"
        form alone has it). ``corrected``, when given, returns what is known better of the scene
        flow of tokens and positions than is told. Where there is foresight, it carries what it says
        of subjects, in all samples or in those ``followed``, bool [B].
        """
        config = self.config
        if (text is None) != (config.text_dim == 0):
            raise ValueError(f"text embeddings {'missing' if text is None else 'given'}, but the "
                             f"model's text_dim is {config.text_dim}")  # fmt: skip
        embedded = None if text is None else self.text_embedding(text)
        if config.time_positions == "slot":
            frames = context_latents.shape[2] + target_camera.shape[1]
            slots = torch.arange(frames, device=context_latents.device)
            context_times, target_times = slots.split(
                (context_latents.shape[2], target_camera.shape[1])
            )
        conditioning = Conditioning(
            context_camera=context_camera.to(context_latents.dtype),
            target_camera=target_camera.to(context_latents.dtype),
            context_times=context_times,
            target_times=target_times,
            text=embedded,
        )
        if config.memory_source == "all":
            return replace(conditioning, context_latents=context_latents)
        x = self.embed(context_latents)
        time, projected = self.embed_time(torch.zeros(x.shape[0], device=x.device), x.dtype)
        by, memory_by = self.rotations(context_times, x.shape[2:4], context_camera)
        camera = conditioning.context_camera
        memories, made = self._remember(x, projected, embedded, camera, by, memory_by)
        if features is not None:
            features.extend(made)
        target_by, _ = self.rotations(target_times, x.shape[2:4], target_camera)
        detail = None
        if self.detail is not None:
            if detail_camera is None:
                raise ValueError("detail_camera is missing, and the model has a detail scale")
            # What the last block was given: of what it makes of the context no memory is made.
            detail = self.detail.prepare(
                context_latents, [x, *made][-2], time, detail_camera,
                context_times=context_times, target_times=target_times,
            )  # fmt: skip
        moves = None
        if (own := self.scene_flow) is not None:
            tokens, positions = self._flow(made, context_camera)
            if corrected is not None:
                tokens, positions = corrected(tokens, positions)
            origins = target_camera[:, :, 0, 3:6].float()
            coarse = fine = None
            if own.foresight is not None and detail_camera is not None and positions is not None:
                rays = detail_camera[:, : context_camera.shape[1]].float()
                coarse, fine = own.foresight.carry(
                    context_latents, context_camera, rays, target_camera, context_times,
                    target_times, positions.points(rays)[..., ::2], made[own.after - 1], followed,
                )  # fmt: skip
            moves = own.moves(tokens, context_camera.float(), origins, target_times, coarse)
            first = own.first_block
            memories[first:] = [
                emphasised(own, memory, tokens, coarse) for memory in memories[first:]
            ]
            if detail is not None and detail_camera is not None and positions is not None:
                rays = detail_camera[:, : context_camera.shape[1]].float()
                detail = replace(
                    detail,
                    moves=own.moves(positions, rays, origins, target_times, fine),
                    memories=tuple(emphasised(own, m, positions, fine) for m in detail.memories),
                )
        return replace(
            conditioning, memories=tuple(memories), target_by=target_by, detail=detail, moves=moves
        )

    def _remember(
        self,
        x: Tensor,
        projected: Tensor,
        text: Tensor | None,
        camera: Tensor,
        by: Rotation,
        memory_by: Rotation,
        blocks: int | None = None,
    ) -> tuple[list[Memory], list[Tensor]]:
        """Return the memories of all or the first blocks, and what they make of the context."""
        memories, made = [], []
        for block in self.layers[:blocks]:
            x, memory = block.context(x, projected, text, camera, by, memory_by)
            memories.append(memory)
            made.append(x)
        return memories, made

    @torch.no_grad()
    def read_flow(
        self, context_latents: Tensor, context_camera: Tensor, context_times: Tensor
    ) -> tuple[Tensor, Flow, Flow | None]:
        """Return what the scene flow is read off, ``[B, Tc, h, w, C]``, and it, at each scale.

        The arguments are those of ``prepare``, of a model without text.
        """
        assert self.scene_flow is not None and not self.config.text_dim
        x = self.embed(context_latents)
        _, projected = self.embed_time(torch.zeros(x.shape[0], device=x.device), x.dtype)
        by, memory_by = self.rotations(context_times, x.shape[2:4], context_camera)
        _, made = self._remember(
            x, projected, None, context_camera.to(x.dtype), by, memory_by, self.scene_flow.after
        )
        return made[-1], *self._flow(made, context_camera)

    @torch.no_grad()  # it is learned from what is true of it, not through what is retrieved by it
    def _flow(self, features: list[Tensor], camera: Tensor) -> tuple[Flow, Flow | None]:
        """Read the scene flow off what the blocks made of the context, at each scale."""
        own = self.scene_flow
        assert own is not None and own.after <= len(features)
        flows: tuple[Flow, Flow | None] = own(features[own.after - 1], camera)
        return flows

    def forward(
        self,
        target_latents: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        *,
        selections: list[Tensor] | None = None,
    ) -> Tensor:
        """Return the velocity of ``target_latents [B, channels, Tt, H, W]`` at ``sigma [B]``.

        ``sigma`` in [0, 1] is the share of noise. ``selections``, when given, receives one
        ``[B, frames, K]`` tensor of selected memory frames per block, without the detail
        scale's.
        """
        cond = conditioning
        if self.config.memory_source == "all":
            prediction = self.joint_prediction(target_latents, sigma, cond, selections)
            return prediction[:, :, cond.context_camera.shape[1] :]
        x = self.embed(target_latents)
        time, projected = self.embed_time(sigma, x.dtype)
        by = cond.target_by
        assert by is not None, "conditioning was not made for this form"
        selected: Tensor | None = None
        turns: Turns | None = None
        still = len(self.blocks) if self.scene_flow is None else self.scene_flow.first_block
        for i, (block, memory) in enumerate(zip(self.layers, cond.memories, strict=True)):
            camera = cond.target_camera
            if i < still:
                x, selected = block.target(x, projected, cond.text, camera, by, memory)
            else:
                assert cond.moves is not None and selected is not None
                if turns is None:
                    turns = memory_turns(cond.moves, selected, by)
                x = block.refine(x, projected, cond.text, camera, by, memory, selected, turns)
            if selections is not None:
                selections.append(selected)
        velocity = self.unpatch(self.head(x, time))
        if self.detail is not None:
            assert cond.detail is not None and selected is not None
            velocity = velocity + self.detail(target_latents, x, time, cond.detail, selected)
        return velocity

    def pair(
        self,
        target_latents: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        negative: Conditioning,
        *,
        selections: list[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the velocities under two conditionings, as guidance needs them.

        Arguments as for ``forward``; ``selections`` are those under the first.
        """
        return (
            self(target_latents, sigma, conditioning, selections=selections),
            self(target_latents, sigma, negative),
        )

    def joint_prediction(
        self,
        target_latents: Tensor,
        sigma: Tensor,
        conditioning: Conditioning,
        selections: list[Tensor] | None = None,
    ) -> Tensor:
        """The released form over all frames, context first; only the target half is used."""
        cond = conditioning
        assert cond.context_latents is not None, "conditioning was not made for this form"
        x = self.embed(torch.cat((cond.context_latents, target_latents), dim=2))
        time, projected = self.embed_time(sigma, x.dtype)
        times = torch.cat((cond.context_times, cond.target_times))
        by, memory_by = self.rotations(times, x.shape[2:4])
        for block in self.layers:
            x, selected = block.joint(
                x, projected, cond.text, cond.context_camera, cond.target_camera, by, memory_by
            )
            if selections is not None:
                selections.append(selected)
        return self.unpatch(self.head(x, time))

    def unpatch(self, patches: Tensor) -> Tensor:
        """Patches ``[B, T, h, w, patch]`` back to latents ``[B, channels, T, H, W]``."""
        _, rows, columns = self.config.patch_size
        return rearrange(patches, "b t h w (p q c) -> b c t (h p) (w q)", p=rows, q=columns)

    def embed(self, latents: Tensor) -> Tensor:
        """Latents ``[B, channels, T, H, W]`` to tokens ``[B, T, h, w, C]``."""
        return self.patch_embedding(latents).permute(0, 2, 3, 4, 1)

    def embed_time(self, sigma: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the time embedding ``[B, C]`` and its projection ``[B, 6, C]``."""
        half = self.config.freq_dim // 2
        exponent = torch.arange(half, dtype=torch.float64, device=sigma.device) / half
        angle = 1000.0 * sigma.double()[:, None] * 10000.0**-exponent
        features = torch.cat((angle.cos(), angle.sin()), dim=-1).to(dtype)
        time = self.time_embedding(features)
        return time, self.time_projection(time).unflatten(1, (6, -1))

    def rotations(
        self, times: Tensor, grid: Sequence[int], camera: Tensor | None = None
    ) -> tuple[Rotation, Rotation]:
        """Return the rotations of all tokens and of the memory tokens of those frames.

        ``times [T]``, ``grid`` (h, w); ``camera [B, T, N, channels]`` are the frames' rays, of
        which "rays" positions need the directions.
        """
        config = self.config
        rows, columns = (torch.arange(n, device=times.device) for n in grid)
        # A memory frame stands in the middle of its frames' times and at its patch's first
        # row and column: so the released weights were trained.
        step, row_step, column_step = config.memory_stride
        enough = len(times) >= step
        middle = times.double().unfold(0, step, step).mean(-1) if enough else times
        memory_rows = rows[: len(rows) // row_step * row_step : row_step]
        memory_columns = columns[: len(columns) // column_step * column_step : column_step]
        size = (config.head_dim, config.rope_theta)
        if config.space_positions == "rays":
            assert camera is not None, "positions by rays need the cameras"
            looks = camera[..., :3].unflatten(2, (len(rows), len(columns))).float()
            by = self._ray_rotation(times, rows, columns, looks)
            if not enough:
                return by, by
            pooled = F.avg_pool3d(looks.movedim(-1, 1), config.memory_stride).movedim(1, -1)
            return by, self._ray_rotation(middle, memory_rows, memory_columns, pooled)
        by = rotation(times, rows, columns, *size)
        if not enough:
            return by, by
        return by, rotation(middle, memory_rows, memory_columns, *size)

    def _ray_rotation(
        self, times: Tensor, rows: Tensor, columns: Tensor, looks: Tensor
    ) -> Rotation:
        config = self.config
        by = ray_rotation(times, rows, columns, looks, config.head_dim, config.rope_theta)
        if config.value_positions == "none":
            return by
        return replace(by, value=value_rotation(times, looks, config.head_dim))


def emphasised(
    own: SceneFlow, memory: Memory, flow: Flow, carried: Carried | None = None
) -> Memory:
    """Return a block's memory in which what moves by itself stands out as ``own`` wants it."""
    return replace(memory, key=own.emphasise(memory.key, flow, carried))
