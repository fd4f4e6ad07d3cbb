# SPDX-License-Identifier: Apache-2.0
"""Compares the fused renderer with the eager one; exits with 1 where they differ."""

import math
import sys
from functools import partial

import torch

from hydra_model.procedural.fused.renderer import render_fused
from hydra_model.procedural.random import as_seeds
from hydra_model.procedural.renderer import render
from hydra_model.procedural.scenes import sample_scenes
from hydra_model.procedural.trajectories import optical_poses
from hydra_model.procedural.visibility import FAR, make_rays

# Style, seeds, image size, supersampling, tile. Sizes fill no tile, and tiles are larger than on a
# GPU: the interpreter takes its time by programs, not by pixels.
CASES = (
    ("plain", (0,), (29, 51), 2, (32, 32)),
    ("plain", (2,), (37, 29), 1, (16, 16)),
    ("rich", (0,), (29, 51), 2, (32, 32)),
    ("rich", (4,), (37, 29), 1, (16, 16)),
)
FOV_X = 1.2
MOST_OFF = 0.004  # share of pixels whose ray meets another surface at an edge
TIMES = torch.tensor([-3.0, 2.0], dtype=torch.float64)
failed = []


def bound(what, value, most):
    print(f"{what}: {value:.3g}")
    if not value <= most:
        failed.append(what)


def views(scenes):
    """One frame that looks at the first subject, one that looks down."""
    places = scenes.motion.position(TIMES)[:, :, 0]
    yaw = torch.atan2(places[..., 1], places[..., 0]) + 0.2
    camera = torch.tensor([0.2, -0.3, 1.5], dtype=torch.float64)
    pitch = torch.tensor([0.05, -0.45], dtype=torch.float64).expand_as(yaw)
    return optical_poses(camera.expand(*yaw.shape, 3), yaw, pitch)


def focal(width):
    return width / 2 / math.tan(FOV_X / 2)


def main() -> int:
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for style, seeds, size, supersample, tile in CASES:
        scenes = sample_scenes(as_seeds(seeds), style)
        poses = views(scenes)
        fused, eager = (
            render(
                scenes.to(used), poses.to(used), TIMES.to(used), *size, FOV_X,
                supersample=supersample, with_depth=True, core=core,
            )
            for used, core in ((device, partial(render_fused, tile=tile)), ("cpu", None))
        )  # fmt: skip
        frames, ids, depth = (image.cpu() for image in fused)
        case = f"{style} {seeds}, supersample {supersample}"
        off = (frames.int() - eager[0].int()).abs().amax(-1)
        bound(f"{case}, colours", (off > 1).double().mean().item(), MOST_OFF)
        bound(f"{case}, ids", (ids != eager[1]).double().mean().item(), MOST_OFF)
        apart = (depth / eager[2] - 1).abs() > 1e-3
        bound(f"{case}, depth", apart.double().mean().item(), MOST_OFF)
        rays = make_rays(poses.float().flatten(0, 1), *size, focal(size[1]), 1, (0, size[0]))
        above = (rays.oz + depth.flatten(0, 1).flatten(1) * rays.dz).reshape(ids.shape)
        sky = depth >= FAR
        block = (above > 0.05) & ~sky & (ids == 0)
        ground = (above < 0.01) & ~sky
        for name, surface in (
            ("sky", sky), ("ground", ground), ("block", block), ("subject", ids > 0)
        ):  # fmt: skip
            bound(f"{case}, {name} missing", 1 - surface.double().mean().item(), 0.999)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
