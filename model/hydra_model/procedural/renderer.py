# SPDX-License-Identifier: Apache-2.0
"""Turn scenes, camera poses and times into pictures, subject masks and depth."""

from __future__ import annotations

import functools
import importlib.util
import logging
import math
from collections.abc import Iterable

import torch
from torch import Tensor

from hydra_model.procedural.cores import Core, compile_core, render_core, render_pieces
from hydra_model.procedural.motion import PLAIN, RICH
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.scenes import Scenes, sample_scenes
from hydra_model.procedural.shading import Looks
from hydra_model.procedural.trajectories import optical_poses
from hydra_model.procedural.visibility import Geometry

logger = logging.getLogger(__name__)

TOLERATED = 0.01  # share of pixels at edges that renderers may draw differently
_HIDDEN = 1e6  # metres away: farther than any ray goes


def render(
    scenes: Scenes,
    camera_to_world: Tensor,
    times: Tensor,
    height: int,
    width: int,
    fov_x: float,
    *,
    supersample: int = 2,
    with_depth: bool = False,
    core: Core | None = None,
) -> tuple[Tensor, ...]:
    """Render worlds at camera poses and times.

    ``camera_to_world`` [B, T, 4, 4] is the optical frame (x right, y down, z forward) in metres,
    ``times`` [B, T] or [T] in seconds, ``fov_x`` in radians. Each pixel is the mean of
    ``supersample`` squared rays. ``core`` is None for the best that needs no preparation: the
    fused kernel on a GPU where Triton is there, else eager in small pieces; or ``render_core``, or
    what ``choose_core`` or ``compile_core`` returned.

    Returns frames uint8 [B, T, H, W, 3] RGB; subject ids uint8 [B, T, H, W], 0 for none or 1..S
    for the subject that the ray through the pixel's centre meets first; and, if asked for, the
    depth along the optical axis at that ray, float32 [B, T, H, W] metres (1e4 in the sky).
    """
    batch = len(scenes)
    if camera_to_world.ndim != 4 or camera_to_world.shape[0] != batch:
        raise ValueError(
            f"camera_to_world is {list(camera_to_world.shape)}; accepted is [{batch}, T, 4, 4]"
        )
    steps = camera_to_world.shape[1]
    if times.shape not in ((steps,), (batch, steps)):
        raise ValueError(
            f"times are {list(times.shape)}; accepted is [{steps}] or [{batch}, {steps}]"
        )
    if not 0 < fov_x < math.pi:
        raise ValueError(f"fov_x is {fov_x}; accepted is an angle in radians between 0 and pi")
    geometry = pack_geometry(scenes, times)
    looks = pack_looks(scenes, steps)
    camera = camera_to_world.to(torch.float32).flatten(0, 1)
    focal = width / 2 / math.tan(fov_x / 2)

    if core is None:
        core = fused_core(str(camera.device), scenes.style) or render_pieces
    images = core(camera, geometry, looks, height, width, focal, supersample, scenes.style == RICH)
    frames, subject_ids, depth = (image.unflatten(0, (batch, steps)) for image in images)
    return (frames, subject_ids, depth) if with_depth else (frames, subject_ids)


def choose_core(
    device: torch.device | str, style: str = PLAIN, *, compiled: bool = True
) -> Core | None:
    """Return the core to render many images of worlds of a style with, for ``render``.

    None (in pieces) on a CPU, the fused kernel on a GPU. Where that does not run, it is the
    compiled pieces, which take a minute to prepare, or those as they are if not ``compiled``.
    """
    if torch.device(device).type != "cuda":
        return None
    return fused_core(str(device), style) or (compile_core() if compiled else render_core)


@functools.cache
def fused_core(device: str, style: str) -> Core | None:
    """Return the fused kernel where Triton is there and it draws what the eager renderer does.

    That is tried on worlds of the style, once; the kernel is compiled for it in some seconds.
    """
    if torch.device(device).type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    try:
        from hydra_model.procedural.fused.renderer import render_fused

        off = differing(render_fused, device, style)
    except Exception as error:  # compilers fail in their own ways; there are other renderers
        logger.warning("the fused renderer does not run here: %s", error)
        return None
    if off > TOLERATED:
        logger.warning("the fused renderer is left out: a share of %.2g of the pixels is off", off)
        return None
    return render_fused


def differing(
    core: Core,
    device: torch.device | str,
    style: str = PLAIN,
    *,
    seeds: Iterable[int] = range(4),
    height: int = 24,
    width: int = 40,
    supersample: int = 2,
) -> float:
    """Return the share of pixels that ``core`` and the eager renderer draw differently.

    Differently is another subject, or a colour that is off by more than the last bit. Rays along
    an edge may fall on either side of it, so a few always do.
    """
    scenes = sample_scenes(as_seeds(seeds, device), style)
    times = torch.tensor([-4.0, 2.0], dtype=torch.float64, device=device)
    towards = torch.linspace(0, 5, 2 * len(scenes), dtype=torch.float64, device=device)
    yaw = towards.reshape(-1, 2)
    position = torch.tensor([0.3, -0.2, 1.5], dtype=torch.float64, device=device)
    poses = optical_poses(position.expand(*yaw.shape, 3), yaw, yaw / 20 - 0.2)
    own, reference = (
        render(scenes, poses, times, height, width, 1.2, supersample=supersample, core=used)
        for used in (core, render_core)
    )
    color = (own[0].int() - reference[0].int()).abs().amax(-1) > 1
    return float((color | (own[1] != reference[1])).double().mean())


def pack_geometry(scenes: Scenes, times: Tensor) -> Geometry:
    """Place the subjects at times [B, T] or [T] and round all shapes to float32, per frame."""
    position, velocity = scenes.motion.state(times)  # [B, T, S, 2]
    active = scenes.motion.active[:, None, :, None]
    heading = velocity / velocity.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    size = scenes.subject_size[:, None].expand_as(position)
    form = scenes.subject_shape[:, None].expand(*position.shape[:3], -1)
    subjects = torch.cat([torch.where(active, position, _HIDDEN), heading, size, form], -1)
    yaw = scenes.block_yaw[..., None]
    blocks = torch.cat([scenes.block_centre, scenes.block_half, yaw.cos(), yaw.sin()], -1)
    blocks = blocks.repeat_interleave(position.shape[1], 0)
    return Geometry(blocks.to(torch.float32), subjects.flatten(0, 1).to(torch.float32))


def pack_looks(scenes: Scenes, steps: int) -> Looks:
    """Round all colours and patterns to float32 and repeat them for each of ``steps`` frames."""
    pattern = torch.stack([scenes.block_pattern.to(scenes.block_cell), scenes.block_cell], -1)
    blocks = torch.cat([scenes.block_colors.flatten(2), pattern], -1)
    same = [getattr(scenes, name) for name in Looks._fields[2:]]
    colors = [scenes.subject_color, scenes.subject_second_color, scenes.subject_pattern]
    values = (blocks, torch.cat(colors, -1), *same)
    return Looks(*(value.to(torch.float32).repeat_interleave(steps, 0) for value in values))
