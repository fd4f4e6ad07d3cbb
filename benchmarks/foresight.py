# SPDX-License-Identifier: Apache-2.0
"""How well anybody could foresee where subjects walk: what hit rates are held against.

    python -m benchmarks.foresight --style rich --worlds 256 --minutes 20      # on one core

A small network learns from tracks of the worlds of training, without pictures. It is told a
subject's true positions in the context frames that show it (or with errors, as perception has
them) and all cameras, but no blocks, walls or other subjects, and is asked for frames in which the
subject is in view: others do not count. Held-out worlds are scored as the evaluation scores them.
Rates are those of one network, so the ceiling is above them, the more the less it was trained.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from dataclasses import astuple, dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from hydra_model.config import DEFAULT
from hydra_model.evaluation.events import find_events, stayed_in_view
from hydra_model.evaluation.reference_motion import SEEN_POSITIONS, Camera, visible_centre
from hydra_model.evaluation.scores import Record, summarise
from hydra_model.evaluation.subjects import HIT_SHARE, visible_subjects
from hydra_model.evaluation.worlds import EVALUATION_SEEDS_START
from hydra_model.procedural.episodes import FOV_X, FPS, Worlds, sample_worlds
from hydra_model.procedural.motion import MAX_SUBJECTS, MOTION_NAMES, RICH, STYLES
from hydra_model.procedural.renderer import render
from hydra_model.procedural.tensors import TensorBatch
from hydra_model.procedural.trajectories import FAMILIES
from hydra_model.training.walks import in_sight

CONTEXT = TARGET = 77
CAMERA = Camera(96, 160, FOV_X)
TIMES = torch.arange(1 - CONTEXT, TARGET + 1, dtype=torch.float64) / FPS
BEARING_ERROR, DISTANCE_ERROR = math.radians(0.4), 0.05  # of noisy perception, in each frame anew
FASTEST = 1.2  # metres a second; nobody is
TOKEN = 7  # frames
BLUR = 0.15  # metres; a hit needs no better, and likelihood would strive for it
BATCH, QUERIES, RATE = 128, 8, 1e-3  # tracks, target frames asked of each, of learning
SAMPLES = 512  # of where a subject may be
ROWS = ("straight continuation", "foresight")


@dataclass(frozen=True)
class Tracks(TensorBatch):
    """Subjects [N] that are in view in the context and in the target, T = both, world frame.

    ``path`` [N, T, 2] in metres, ``camera`` [N, T, 4, 4] optical, ``visible`` bool [N, T].
    ``event`` int64 [N, Tt] numbers the re-entries that target frames belong to, from 1; frames of
    subjects that never left are -1, others 0. ``size`` [N, 2] is height and half width.
    """

    path: Tensor
    camera: Tensor
    visible: Tensor
    event: Tensor
    size: Tensor
    kind: Tensor


def exactly_visible(worlds: Worlds, poses: Tensor) -> Tensor:
    """Return bool [B, S, T], read off the masks of pictures as the evaluation does."""
    drawn = render(worlds.scenes, poses, TIMES, *astuple(CAMERA), supersample=1)
    return torch.as_tensor(visible_subjects(drawn[1], MAX_SUBJECTS))


@torch.no_grad()
def make_tracks(seeds: range, style: str, *, exact: bool) -> Tracks:
    """Draw worlds, a few at a time, and look when their subjects are in view."""
    parts = []
    for start in range(0, len(seeds), 32):
        worlds = sample_worlds(seeds[start : start + 32], style=style)
        poses, scenes = worlds.trajectories.poses(TIMES), worlds.scenes
        if exact:
            visible = exactly_visible(worlds, poses)
        else:  # 500 times as fast
            visible = in_sight(DEFAULT, worlds, poses, TIMES)
        stayed = torch.as_tensor(stayed_in_view(visible.numpy(), CONTEXT).all(-1))
        event = -stayed[..., None].to(torch.int64).repeat(1, 1, TARGET)
        for number, found in enumerate(find_events(visible.numpy(), CONTEXT, FPS), 1):
            event[found.world, found.subject, list(found.frames)] = number
        own = visible[..., :CONTEXT].any(-1) & visible[..., CONTEXT:].any(-1)
        height, radius = scenes.subject_size.unbind(-1)
        size = torch.stack([height, radius.maximum(scenes.subject_shape[..., -1])], -1).float()
        path = scenes.motion.position(TIMES).transpose(1, 2).float()
        camera = poses[:, None].expand(-1, MAX_SUBJECTS, -1, -1, -1).float()
        parts.append([v[own] for v in (path, camera, visible, event, size, scenes.motion.kind)])
    return Tracks(*(torch.cat(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Seen:
    """All that a predictor is told: where each subject [N] was while in view, and the cameras.

    A line is fitted to the last positions seen. ``position`` [N, Tc, 2] (0 where not ``visible``,
    bool [N, Tc]) and ``camera`` [N, T, 3] (x, y, yaw) are in the frame of its end: ``origin``
    [N, 2] with ``axes`` [N, 2, 2] ahead and aside (columns), reached at ``time`` [N] at ``speed``.
    """

    position: Tensor
    visible: Tensor
    camera: Tensor
    noisy: Tensor
    time: Tensor
    speed: Tensor
    origin: Tensor
    axes: Tensor

    def local(self, position: Tensor) -> Tensor:
        return (position - self.origin[:, None]) @ self.axes

    def world(self, local: Tensor) -> Tensor:
        return local @ self.axes.transpose(1, 2) + self.origin[:, None]

    def line(self, times: Tensor) -> Tensor:
        """Continue the line to times [M] or [N, M]: [N, M, 2]."""
        ahead = self.speed[:, None] * (times - self.time[:, None])
        return torch.stack([ahead, torch.zeros_like(ahead)], -1)

    def looks(self, camera: Tensor, times: Tensor) -> Tensor:
        """Describe cameras [N, M, 3] and where they would see the line's end: [N, M, 8]."""
        place, facing = camera[..., :2], _unit(camera[..., 2])
        offset = self.line(times) - place
        depth = (offset * facing).sum(-1)
        aside = offset[..., 1] * facing[..., 0] - offset[..., 0] * facing[..., 1]
        bearing = torch.atan2(aside, depth)
        more = torch.stack([depth / 4, aside / 4, bearing, (bearing / 0.3).tanh()], -1)
        return torch.cat([place / 4, facing, more], -1)


def perceive(tracks: Tracks, noisy: Tensor) -> Seen:
    """Show the context, with errors where ``noisy`` bool [N]; half of it is mirrored."""
    visible, pose = tracks.visible[:, :CONTEXT], tracks.camera
    camera = torch.cat([pose[..., :2, 3], pose[..., 1:2, 2].atan2(pose[..., 0:1, 2])], -1)
    offset = tracks.path[:, :CONTEXT] - camera[:, :CONTEXT, :2]
    error = torch.randn(offset.shape) * noisy[:, None, None]
    bearing = torch.atan2(offset[..., 1], offset[..., 0]) + BEARING_ERROR * error[..., 0]
    distance = offset.norm(dim=-1) * (1 + DISTANCE_ERROR * error[..., 1])
    found = camera[:, :CONTEXT, :2] + distance[..., None] * _unit(bearing)
    found = torch.where(visible[..., None], found, 0.0)

    times = TIMES[:CONTEXT].float()
    recent = visible & (visible.flip(1).cumsum(1).flip(1) <= SEEN_POSITIONS)
    weight = recent.float()[..., None] / recent.sum(1)[:, None, None]
    mean_time, mean = (weight[..., 0] * times).sum(1), (weight * found).sum(1)
    elapsed = weight * (times - mean_time[:, None])[..., None]
    spread = (elapsed[..., 0] * times).sum(1).clamp(min=1e-6)
    slope = (elapsed * (found - mean[:, None])).sum(1) / spread[:, None]
    slope = slope * (FASTEST / slope.norm(dim=-1, keepdim=True).clamp(min=FASTEST))
    speed = slope.norm(dim=-1)
    last = torch.where(visible, times, -math.inf).amax(1)
    origin = mean + slope * (last - mean_time)[:, None]
    ahead = torch.where((speed > 0.02)[:, None], slope, origin - camera[:, CONTEXT - 1, :2])
    angle = torch.atan2(ahead[:, 1], ahead[:, 0])
    side = torch.randint(2, (len(tracks), 1)) * 2 - 1
    axes = torch.stack([_unit(angle), side * _unit(angle + math.pi / 2)], -1)
    yaw = side * (camera[..., 2] - angle[:, None])
    seen = Seen(found, visible, camera, noisy, last, speed, origin, axes)
    camera = torch.cat([seen.local(camera[..., :2]), yaw[..., None]], -1)
    position = torch.where(visible[..., None], seen.local(found), 0.0)
    return Seen(position, visible, camera, noisy, last, speed, origin, axes)


def _unit(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], -1)


class Foresight(nn.Module):
    """Ask the context where a subject is at each of some target frames: Gaussians on the ground."""

    def __init__(self, width: int = 128, parts: int = 16) -> None:
        super().__init__()
        self.parts = parts
        self.token = nn.Sequential(
            nn.Linear(TOKEN * 15 + 4, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.place = nn.Parameter(0.02 * torch.randn(CONTEXT // TOKEN, width))
        self.query = nn.Sequential(nn.Linear(5 * 8 + 9, width), nn.GELU(), nn.Linear(width, width))
        self.transformer = nn.Transformer(
            width, 4, 4, 3, 2 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.answer = nn.Linear(width, parts * 6)

    def forward(self, seen: Seen, frames: Tensor) -> MixtureSameFamily:
        """Answer for target frames [N, Q], in the frame of ``seen``; queries do not mix."""
        times, shown = TIMES[:CONTEXT].float(), seen.visible.float()[..., None]
        facts = [seen.time / 5, seen.speed, shown.mean((1, 2)), seen.noisy.float()]
        given = torch.stack(facts, -1)[:, None]
        beside = (4 * (seen.position - seen.line(times))).clamp(-6, 6)
        step = seen.position.diff(dim=1, prepend=seen.position[:, :1]) * FPS
        step = step * shown.roll(1, 1) * torch.where(seen.noisy, 0.2, 1.0)[:, None, None]
        told = torch.cat([seen.position / 2, beside, step, torch.ones_like(shown)], -1) * shown
        told = torch.cat([told, seen.looks(seen.camera[:, :CONTEXT], times)], -1)
        told = told.unflatten(1, (-1, TOKEN)).flatten(2)
        told = self.token(torch.cat([told, given.expand(-1, told.shape[1], -1)], -1))

        moments = TIMES[CONTEXT:].float()[frames]
        elapsed, line = moments - seen.time[:, None], seen.line(moments)
        known = [moments / 5, elapsed / 5, elapsed.log(), 1 / (0.5 + elapsed), line[..., 0] / 4]
        asked = [torch.stack(known, -1), given.expand(-1, frames.shape[1], -1)]
        # Where the camera is then, and before and after: it may be sent where subjects are.
        for shift in (0, -20, -8, 8, TARGET):
            index = (CONTEXT + frames + shift).clamp(max=len(TIMES) - 1)
            pose = seen.camera.gather(1, index[..., None].expand(-1, -1, 3))
            asked.append(seen.looks(pose, moments))
        alone = ~torch.eye(frames.shape[1], dtype=torch.bool)
        query = self.query(torch.cat(asked, -1))
        found = self.transformer(told + self.place, query, tgt_mask=alone)
        answer = self.answer(found).unflatten(-1, (self.parts, 6))
        growth = (0.3 + elapsed)[..., None, None]
        mean = line[..., None, :] + growth * 0.5 * answer[..., 1:3]
        scale = BLUR + growth * (answer[..., 3:5].clamp(-8, 3) - 1.5).exp()
        across = answer[..., 5:] * scale[..., 1:]
        rows = torch.cat([scale[..., :1], torch.zeros_like(across), across, scale[..., 1:]], -1)
        parts = MultivariateNormal(mean, scale_tril=rows.unflatten(-1, (2, 2)), validate_args=False)
        return MixtureSameFamily(Categorical(logits=answer[..., 0]), parts, validate_args=False)


def _importance(tracks: Tracks) -> Tensor:
    """Weigh target frames [N, Tt]: 0 where not visible, most where they are measured."""
    weight = torch.tensor([0.1, 1.0, 0.6])  # others, re-entries, never left
    return weight[tracks.event.sign()] * tracks.visible[:, CONTEXT:]


def _log_likelihood(net: Foresight, tracks: Tracks) -> Tensor:
    frames = torch.multinomial(_importance(tracks), QUERIES, replacement=True)
    seen = perceive(tracks, torch.arange(len(tracks)) % 2 == 0)
    truth = tracks.path.gather(1, (CONTEXT + frames)[..., None].expand(-1, -1, 2))
    return net(seen, frames).log_prob(seen.local(truth)).mean()


def train(tracks: Tracks, minutes: float) -> Foresight:
    """Train by log likelihood, on true and on noisy positions by halves."""
    torch.manual_seed(0)
    net, check, tracks = Foresight(), tracks[: len(tracks) // 40], tracks[len(tracks) // 40 :]
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.02)
    share = _importance(tracks).amax(1)
    began, step = time.monotonic(), 0
    while (done := (time.monotonic() - began) / 60 / minutes) < 1:
        optimiser.param_groups[0]["lr"] = RATE * min(1, (step + 1) / 100) * (1 - done)
        loss = -_log_likelihood(net, tracks[torch.multinomial(share, BATCH, replacement=True)])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step += 1
        if step % 500 == 0:
            with torch.no_grad():
                print(f"step {step}: log likelihood {_log_likelihood(net, check):.3f}", flush=True)
    return net.eval()


@torch.no_grad()
def measure(net: Foresight, tracks: Tracks, noisy: bool) -> list[Record]:
    """Sum up a straight continuation and foresight, as the evaluation does with predictors."""
    torch.manual_seed(1)
    told = perceive(tracks, torch.full((len(tracks),), noisy))
    records: list[Record] = [{"family": FAMILIES[0], "events": [], "in_view": []} for _ in ROWS]
    for t in tracks.event.any(1).nonzero()[:, 0]:
        seen = Seen(*(value[t : t + 1] for value in vars(told).values()))
        for event in tracks.event[t].unique():
            if event != 0:
                frames = (tracks.event[t] == event).nonzero()[:, 0]
                more = {"motion": MOTION_NAMES[tracks.kind[t]], "whole": True}
                more |= {"wrong_colour": [], "times": ((frames + 1) / FPS).tolist()}
                for record, hit in zip(
                    records, _hits(net, seen, tracks[t : t + 1], frames), strict=True
                ):
                    group = record["events" if event > 0 else "in_view"]
                    group.append({"hits": hit.tolist(), **more})
    return [summarise([record]) for record in records]


def _hits(net: Foresight, seen: Seen, track: Tracks, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Say of target frames [Q] whether the line hits, and the place that is likeliest to."""
    at = CONTEXT + frames
    guesses = net(seen, frames[None]).sample((SAMPLES,))[:, 0]  # [samples, Q, 2]
    guesses = torch.cat([seen.line(TIMES[at].float()), guesses]).transpose(0, 1)
    guesses = seen.world(guesses.flatten(0, 1)[None]).unflatten(1, (len(at), -1))[0]
    places = torch.cat([track.path[0, at, None], guesses], 1)
    poses = track.camera[0, at].repeat_interleave(places.shape[1], 0)
    centres = visible_centre(places.flatten(0, 1), track.size[0], poses, CAMERA)
    truth, straight, *found = centres.unflatten(0, places.shape[:2]).unbind(1)
    foreseen = torch.stack(found, 1)  # what is not in the picture is NaN, and near nothing
    near = _near(foreseen[:, : SAMPLES // 4, None], foreseen[:, None]).sum(-1)
    chosen = foreseen[torch.arange(len(at)), near.argmax(1)]
    return _near(straight, truth), _near(chosen, truth)


def _near(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).norm(dim=-1) <= HIT_SHARE * CAMERA.width


def row(name: str, summary: Record) -> str:
    """Return a row of the table: re-entries of all and by motion, by frames (and events)."""
    groups = [summary["reentry"], *summary["reentry_by_motion"].values()]
    cells = [
        f"{g['hit_frames']} ({g['hit_events']}) of {g['events']}" if g["events"] else "-"
        for g in groups
    ]
    stayed = summary["never_left"]
    cells.append(f"{stayed['hit_whole_chunk']} of {stayed['whole_chunk_subjects']}")
    return f"| {name} | " + " | ".join(cells) + " |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.foresight", description=__doc__)
    parser.add_argument("--style", choices=STYLES, default=RICH)
    parser.add_argument("--worlds", type=int, default=256, help="held-out worlds to measure on")
    parser.add_argument("--training-worlds", type=int, default=60_000)
    parser.add_argument("--minutes", type=float, default=20, help="to train for")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", "enable_nested_tensor")
    training = make_tracks(range(options.training_worlds), options.style, exact=False)
    seeds = range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + options.worlds)
    held_out = make_tracks(seeds, options.style, exact=True)
    net = train(training, options.minutes)
    print(f"| | re-entries | {' | '.join(MOTION_NAMES)} | never left |\n|{'---|' * 7}")
    for noisy in ("", ", noisy"):
        for name, summary in zip(ROWS, measure(net, held_out, bool(noisy)), strict=True):
            print(row(name + noisy, summary))


if __name__ == "__main__":
    main()
