# SPDX-License-Identifier: Apache-2.0
"""What a batch knows of subjects beside the pictures, against pictures of real worlds."""

import dataclasses
import math

import torch
from torch import Tensor

from hydra_model.config import DEFAULT, SceneFlowConfig
from hydra_model.procedural import render, sample_worlds
from hydra_model.procedural.motion import MAX_SUBJECTS
from hydra_model.rays import camera_channels
from hydra_model.scene_flow import KNOTS, Flow, SceneFlow
from hydra_model.training.layouts import with_gaps
from hydra_model.training.whereabouts import (
    Forecast,
    Forecaster,
    Met,
    bearings,
    come_back,
    count_pixels,
    flow_loss,
    forecast_times,
    known_flow,
    missed,
    nearness,
    over_latent_frames,
    places,
)

FPS = 15.0


def test_places_are_told_for_the_moments_of_the_flows_knots() -> None:
    assert forecast_times(DEFAULT) == [0.0, 1.25, 2.5, 3.75, 5.0]
    flow = SceneFlowConfig(reach=10.0)
    form = dataclasses.replace(DEFAULT.transformer, scene_flow=flow)
    video = dataclasses.replace(DEFAULT.video, fps=10.0)
    assert forecast_times(dataclasses.replace(DEFAULT, transformer=form, video=video))[-1] == 4.0
    still = dataclasses.replace(DEFAULT.transformer, scene_flow=None)
    assert forecast_times(dataclasses.replace(DEFAULT, transformer=still))[-1] == 5.0


def test_pixels_are_counted_by_subject_and_cell() -> None:
    ids = torch.zeros(1, 2, 16, 24, dtype=torch.uint8)
    ids[0, 1, 9:11, 3:6] = 2
    counts = count_pixels(ids, 3, 8)
    assert counts.shape == (1, 3, 2, 2, 3)
    assert counts.nonzero().tolist() == [[0, 1, 1, 1, 0]]
    assert counts.sum() == 6


def test_a_subject_that_was_away_for_long_enough_comes_back_and_stays_so() -> None:
    frames = torch.arange(10)
    counts = torch.zeros(1, 4, 10, 1, 2, dtype=torch.int64)
    counts[0, 0, [0, 1, 6, 7, 9], :, 0] = 20  # away from 2 to 5
    counts[0, 1, [4, 7], :, 1] = 20  # away for two frames
    counts[0, 2, [8, 9], :, 1] = 20  # never seen before
    counts[0, 3, [1, 9], :, 1] = 5  # too few pixels
    back = come_back(counts, frames, 5, least=12, shortest=3.0)
    assert back.shape == (1, 1, 5, 1, 2)
    assert back[0, 0, :, 0, 0].tolist() == [False, True, True, False, True]
    assert not back[..., 1].any()


def test_what_was_not_looked_at_was_out_of_sight() -> None:
    frames = torch.tensor([-40, -39, 0, 1])
    counts = torch.full((1, 1, 4, 1, 1), 20)
    assert come_back(counts, frames, 2, least=12, shortest=15.0).all()
    assert not come_back(counts, torch.arange(4), 2, least=12, shortest=15.0).any()


def test_pixels_are_added_up_as_latent_frames_stand_for_them() -> None:
    layout = with_gaps(((2, 7),), 2, 3)  # two runs that were cut from longer ones
    frames = layout.context_frames()
    counts = torch.tensor(frames).view(1, 1, -1, 1, 1)
    added = over_latent_frames(counts, layout).flatten().tolist()
    assert added == [sum(range(f - 3, f + 1)) for f in layout.context_latent_frames()]


def test_subjects_are_where_their_places_say() -> None:
    worlds = sample_worlds(range(12), style="rich")
    times = torch.tensor(forecast_times(DEFAULT), dtype=torch.float64) + 1 / FPS
    start = worlds.trajectories.poses(times[:1])[:, 0].double()
    told = places(worlds, times, torch.linalg.inv(start))
    seen_so = bearings(told)
    # The camera stays where it stood at first: what is in its view is at the place told of.
    width, fov = 160, math.radians(70)
    focal = width / 2 / math.tan(fov / 2)
    checked = 0
    feet: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    _, ids = render(
        worlds.scenes, start[:, None].expand(-1, len(times), -1, -1), times, 96, width, fov
    )
    for world, subject, k in (ids.new_ones(12, MAX_SUBJECTS, len(times))).nonzero().tolist():
        rows, columns = (ids[world, k] == subject + 1).nonzero().double().unbind(1)
        cosine, sine, log_distance, _ = seen_so[world, subject, k].double()
        # Not where the edge of the picture or a wall hides a part of it.
        if len(columns) < 60 or columns.min() == 0 or columns.max() == width - 1:
            continue
        column = width / 2 + focal * sine / cosine
        half = focal * 0.6 / log_distance.exp()  # no subject is 1.2 m wide
        assert columns.min() - half < column < columns.max() + half
        checked += 1
        if rows.max() < 90:
            depth = float(cosine * log_distance.exp())
            lowest = (float(rows.max()) + 0.5 - 48) / focal * depth
            feet.setdefault((world, subject), []).append(
                (lowest, float(told[world, subject, k, 1]), 2 * depth / focal)
            )
    assert checked > 10
    # Feet lie as much lower or higher in the camera's frame as is told, to two pixels.
    compared = [(seen[0], later) for seen in feet.values() for later in seen[1:]]
    assert len(compared) > 5
    for (low, down, unsure), (later_low, later_down, later_unsure) in compared:
        assert abs((later_low - low) - (later_down - down)) < unsure + later_unsure


def test_forecasts_are_learned_and_asked_of_tokens_that_show_a_subject() -> None:
    torch.manual_seed(0)
    forecaster = Forecaster(DEFAULT.transformer)
    assert forecaster.after == [4, 8]
    features = [torch.randn(2, 4, 2, 3, DEFAULT.transformer.dim) for _ in range(12)]
    shown = torch.zeros(2, 3, 4, 2, 3)
    shown[:, 1, :2] = 30.0
    wanted = some_forecast(shown)
    rule = torch.optim.AdamW(forecaster.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = forecaster.loss(features, wanted)
        rule.zero_grad()
        loss.backward()
        rule.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    # What is asked of other tokens, or of subjects that they do not show, changes nothing.
    known = forecaster.loss(features, wanted)
    wanted.places[:, [0, 2]] += 1
    features[3][:, 2:] += 1
    features[0] += 1
    torch.testing.assert_close(forecaster.loss(features, wanted), known)
    assert forecaster.loss(features, wanted._replace(shown=torch.zeros_like(shown))) == 0


def some_forecast(shown: Tensor) -> Forecast:
    """Where subjects stand and will stand is drawn, everything is 10 m away."""
    stands, places = (
        5 * torch.randn(2, 3, count, 3) + torch.tensor([0.0, 1.0, 12.0])
        for count in (shown.shape[2], KNOTS)
    )
    return Forecast(shown, stands, places, torch.full((2, *shown.shape[2:]), 0.1), pixels=1024)


def some_rays(*shape: int) -> Tensor:
    camera = torch.randn(*shape, camera_channels("sweep"))
    camera[..., :3] = torch.nn.functional.normalize(camera[..., :3], dim=-1)
    camera[..., 1] *= 0.1  # no ray is steep
    return camera


def test_the_true_flow_has_no_loss_and_every_other_has() -> None:
    torch.manual_seed(0)
    shown = torch.zeros(2, 3, 4, 2, 3)
    shown[:, 1, :2] = 40.0
    shown[:, 2, 2] = 9.0  # too few pixels to be a token of the subject, too many to be still
    known = some_forecast(shown)
    camera = some_rays(2, 4, 6)
    flow = Flow(torch.full((2, 4, 6), math.log(10.0)), torch.zeros(2, 4, 6, KNOTS, 3))
    # Of the subject every token shows a part, on the token's ray: as far as the subject, and as
    # far to its side as it goes on being.
    ray, origin = camera[:, :2, :, :3], camera[:, :2, :, 3:6]
    stands = known.stands[:, 1, :2, None]
    metres = (stands - origin)[..., ::2].norm(dim=-1) / ray[..., ::2].norm(dim=-1)
    gone = known.places[:, 1, None, None] - stands[..., None, :]
    flow.log_distance[:, :2] = metres.log()
    flow.displacement[:, :2] = gone / metres[..., None, None]
    assert flow_loss(flow, camera, known) < 1e-5
    flow.displacement[:, 2] += 1  # asked of nobody
    assert flow_loss(flow, camera, known) < 1e-5
    for part in (
        flow.displacement[:, :2, ..., 0], flow.displacement[:, :2, ..., 1],
        flow.displacement[:, 3], flow.log_distance[:, 3],
    ):  # fmt: skip
        before = part.clone()
        part += 0.1
        assert flow_loss(flow, camera, known) > 1e-3
        part.copy_(before)


def test_what_is_seen_left_of_a_subjects_middle_stays_left_of_it() -> None:
    """A subject ten metres ahead goes five to the right and ten away, seen by two tokens."""
    shown = torch.full((1, 1, 1, 1, 2), 40.0)
    stands = torch.tensor([0.0, 1.2, 10]).view(1, 1, 1, 3)
    gone = torch.tensor([5.0, 0, 10]) * torch.linspace(0, 1, KNOTS)[:, None]
    known = Forecast(shown, stands, stands[:, :, 0, None] + gone, torch.ones(1, 1, 1, 2), 1024)
    camera = torch.zeros(1, 1, 2, camera_channels("sweep"))
    sides = torch.tensor([-0.4, 0.3])
    camera[..., :3] = torch.stack((sides / 10, torch.zeros(2), torch.ones(2)), -1)
    seen = 10 * torch.hypot(sides / 10, torch.ones(2)).reciprocal()  # its distance, along the axis
    there = torch.stack((sides / 10 * seen, torch.zeros(2), seen), -1)
    flow = Flow(seen.log().view(1, 1, 2), (gone / seen[:, None, None]).view(1, 1, 2, KNOTS, 3))
    torch.testing.assert_close(flow.points(camera)[0, 0, :, -1], there + gone[-1])
    assert flow_loss(flow, camera, known) < 1e-6
    # In its middle, where it stands, both would be in the wrong place.
    middle = (stands[0, 0, 0] + gone - there[:, None]) / seen[:, None, None]
    middle[..., 1] = 0
    assert flow_loss(flow._replace(displacement=middle[None, None]), camera, known) > 1e-3


def test_nearness_is_that_of_a_wall_ahead() -> None:
    """A wall across the optical axis: farther along rays that go aside."""
    near = nearness(torch.full((1, 1, 16, 16), 10.0), math.radians(90), 8)
    assert near.shape == (1, 1, 2, 2)
    column, row = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="xy")
    ray = (1 + (column / 8) ** 2 + (row / 8) ** 2).sqrt()
    torch.testing.assert_close(near[0, 0, 1, 1], (0.1 / ray).mean())


def test_what_tokens_tell_is_that_of_their_positions() -> None:
    positions = some_forecast(torch.ones(2, 3, 4, 2, 6))
    tokens = positions.over_tokens(2, 3)
    assert tokens.positions is positions and tokens.pixels == 6 * positions.pixels
    assert tokens.shown.shape == (2, 3, 4, 1, 2) and (tokens.shown == 6).all()
    torch.testing.assert_close(tokens.near, torch.full((2, 4, 1, 2), 0.1))


def test_what_is_known_of_subjects_replaces_what_is_told_in_the_worlds_named() -> None:
    torch.manual_seed(0)
    shown = torch.zeros(2, 3, 4, 2, 3)
    shown[:, 1, :2] = 40.0
    known = some_forecast(shown)
    camera = some_rays(2, 4, 6)
    told = Flow(torch.full((2, 4, 6), math.log(10.0)), torch.randn(2, 4, 6, KNOTS, 3))
    flow = known_flow(told, camera, known, torch.tensor([False, True]))
    assert torch.equal(flow.log_distance, told.log_distance)
    assert torch.equal(flow.displacement[0], told.displacement[0])
    assert torch.equal(flow.displacement[1, 2:], told.displacement[1, 2:])  # shows nobody
    # Where each part of the subject is when the subject has gone to its places.
    ray, origin = camera[1, :2, :, :3], camera[1, :2, :, 3:6]
    stands = known.stands[1, 1, :2, None]
    metres = (stands - origin)[..., ::2].norm(dim=-1) / ray[..., ::2].norm(dim=-1)
    part = origin + metres[..., None] * ray
    gone = known.places[1, 1] - stands[..., None, :]
    torch.testing.assert_close(flow.points(camera)[1, :2], part[..., None, :] + gone)


def test_what_is_missed_counts_where_the_target_meets_a_subject() -> None:
    """A subject ten metres ahead goes five to the right; the camera stands still."""
    own = SceneFlow(DEFAULT.transformer)
    times, reach = torch.tensor([0.0, 5.0, 15.0]), own.reach
    shown = torch.full((1, 2, 1, 1, 1), 40.0)
    shown[:, 1] = 0.0  # nobody sees the other
    way = torch.tensor([5.0, 0, 0])
    stands = torch.tensor([0.0, 0, 10]).expand(1, 2, 1, 3)
    places, met = (stands + share[:, None] * way for share in
                   (torch.linspace(0, 1, KNOTS), times / reach))  # fmt: skip
    in_view = torch.tensor([[[True, False, True], [True, True, True]]])
    known = Forecast(shown, stands, places, torch.ones(1, 1, 1, 1), 64, met=Met(met, in_view))
    camera = torch.zeros(1, 1, 1, camera_channels("sweep"))
    camera[..., 2] = 1
    origins = torch.zeros(1, 3, 3)

    def off(flow: Flow, forecast: Forecast = known) -> float:
        return missed(own, flow, camera, origins, times, forecast).item()

    told = Flow(torch.full((1, 1, 1), math.log(10.0)), torch.zeros(1, 1, 1, KNOTS, 3))
    right = known_flow(told, camera, known, torch.tensor([True]))
    assert off(right) < 1e-9
    # Who is told to stay is right at first, and at the end 0.38 radians off.
    away = 4 * math.sin(math.atan2(4, 10) / 2) ** 2
    assert abs(off(told) - away / (away + 0.01) / 2) < 1e-4
    # The frame in between does not show it, and what is far off is not worse than missed.
    assert off(told, known._replace(met=Met(met, torch.ones_like(in_view)))) != off(told)
    behind = told._replace(displacement=torch.tensor([0.0, 0, -2]).expand(1, 1, 1, KNOTS, 3))
    assert 0.99 < off(behind) < 1
    nobody = known._replace(met=Met(met, torch.zeros_like(in_view)))
    assert off(told, nobody) == 0 == off(told, known._replace(shown=torch.zeros_like(shown)))
    # It is learned from: towards the subject.
    displacement = told.displacement.clone().requires_grad_()
    missed(own, told._replace(displacement=displacement), camera, origins, times, known).backward()
    assert displacement.grad is not None and displacement.grad[..., -1, 0].item() < 0
