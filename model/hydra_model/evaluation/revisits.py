# SPDX-License-Identifier: Apache-2.0
"""Which background pixels of the target show a place that was seen, lost and found again.

A pixel of a target frame is at a revisit when the point of the static world that it shows was
visible in the context, then not visible for at least a second (outside the view or hidden), and
is visible again. Pixels that never left the view since the context do not count, nor do
places that the context never showed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHORTEST_ABSENCE = 1.0  # seconds
PIXEL_STRIDE = 4  # every fourth pixel of every fourth row is asked: its centre stands for 4x4
FRAME_STRIDE = 4  # visibility is known at every fourth frame
_DEPTH_TOLERANCE = 0.1  # of the depth; another surface is farther away than that


def revisited(
    camera_to_world: Tensor,
    times: Tensor,
    depth: Tensor,
    ids: Tensor,
    *,
    context_frames: int,
    fov_x: float,
) -> tuple[Tensor, Tensor]:
    """Find the revisits in B worlds, context and target in one row.

    ``camera_to_world`` [B, T, 4, 4] optical, ``times`` [T] seconds, ``depth`` [B, T, H, W] along
    the optical axis, ``ids`` [B, T, H, W] (0 is static background). Returns the target frames
    that were asked int64 [F] and a bool mask [B, F, H, W], true at revisits among the sampled
    pixels and false at all others.
    """
    device = depth.device
    batch, total, height, width = depth.shape
    context = torch.arange(0, context_frames, FRAME_STRIDE, device=device)
    target = torch.arange(context_frames, total, FRAME_STRIDE, device=device)
    moments = torch.cat([context, target])
    rows, columns = sampled_pixels(height, width, device)
    mask = torch.zeros(batch, len(target), height, width, dtype=torch.bool, device=device)
    for b in range(batch):
        seen = visibility(
            camera_to_world[b, moments], depth[b, moments], ids[b, moments] == 0,
            targets=len(target), fov_x=fov_x,
        )  # fmt: skip
        back = back_after_absence(seen, times[moments], len(context))
        back &= (ids[b, target] == 0)[:, rows, columns].reshape(len(target), -1)
        mask[b][:, rows, columns] = back.reshape(len(target), *rows.shape)
    return target - context_frames, mask


def sampled_pixels(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the rows and the columns of the pixels that are asked, each [R, C]."""
    offset = PIXEL_STRIDE // 2
    rows = torch.arange(offset, height, PIXEL_STRIDE, device=device)
    columns = torch.arange(offset, width, PIXEL_STRIDE, device=device)
    grid_y, grid_x = torch.meshgrid(rows, columns, indexing="ij")
    return grid_y, grid_x


def visibility(
    poses: Tensor, depth: Tensor, static: Tensor, *, targets: int, fov_x: float
) -> Tensor:
    """Say at which of M moments the points that the last ``targets`` of them show are visible.

    ``poses`` [M, 4, 4], ``depth`` and bool ``static`` [M, H, W] of one world. Returns bool
    [M, targets, P] for the P sampled pixels of each target frame.
    """
    height, width = depth.shape[1:]
    focal = width / 2 / torch.tan(torch.tensor(fov_x / 2)).item()
    rows, columns = sampled_pixels(height, width, depth.device)
    poses, depth = poses.float(), depth.float()
    local = torch.stack(
        [
            (columns + 0.5 - width / 2) / focal,
            (rows + 0.5 - height / 2) / focal,
            torch.ones_like(columns, dtype=torch.float32),
        ],
        -1,
    ).reshape(1, -1, 3)
    ranges = depth[-targets:][:, rows, columns].reshape(targets, -1, 1)
    now = poses[-targets:]
    points = (local * ranges) @ now[:, :3, :3].mT + now[:, None, :3, 3]  # [F, P, 3]
    return torch.stack(
        [_visible(points, poses[i], depth[i], static[i], focal) for i in range(len(poses))]
    )


def _visible(points: Tensor, pose: Tensor, depth: Tensor, static: Tensor, focal: float) -> Tensor:
    """Say which points [F, P, 3] a camera shows, given its depth and static mask [H, W]."""
    height, width = depth.shape
    local = (points - pose[:3, 3]) @ pose[:3, :3]
    ahead = local[..., 2]
    safe = ahead.clamp(min=1e-3)
    column = torch.floor(focal * local[..., 0] / safe + width / 2)
    row = torch.floor(focal * local[..., 1] / safe + height / 2)
    inside = (ahead > 1e-3) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column = column.clamp(0, width - 1).long()
    row = row.clamp(0, height - 1).long()
    # Against the depths around the pixel: at edges and near the horizon half a pixel decides.
    farthest = F.max_pool2d(depth[None], 3, 1, 1)[0, row, column]
    nearest = -F.max_pool2d(-depth[None], 3, 1, 1)[0, row, column]
    same = (ahead <= farthest * (1 + _DEPTH_TOLERANCE)) & (
        ahead >= nearest * (1 - _DEPTH_TOLERANCE)
    )
    return inside & same & static[row, column]


def back_after_absence(seen: Tensor, times: Tensor, context: int) -> Tensor:
    """Walk through the moments of ``seen`` [M, F, P] up to each target frame's own moment.

    Target frame f is moment ``context + f``. Returns bool [F, P].
    """
    frames = seen.shape[1]
    own = context + torch.arange(frames, device=seen.device)[:, None]
    last = torch.full(seen.shape[1:], -torch.inf, dtype=times.dtype, device=seen.device)
    in_context = torch.zeros(seen.shape[1:], dtype=torch.bool, device=seen.device)
    back = torch.zeros_like(in_context)
    for moment, here in enumerate(seen):
        here = here & (moment <= own)
        if moment < context:
            in_context |= here
        else:
            absent = times[moment] - last >= SHORTEST_ABSENCE
            back |= here & in_context & absent
        last = torch.where(here, times[moment], last)
    return back
