# SPDX-License-Identifier: Apache-2.0
"""Foresight: who is where in the context, and where they will be."""

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from hydra_model.config import DetailConfig, SceneFlowConfig, TransformerConfig
from hydra_model.foresight import KNOTS, Carried, Foreseer, Foresight, Mixture, Told, tell
from hydra_model.rays import camera_channels, central_rays
from hydra_model.scene_flow import Flow, SceneFlow
from hydra_model.spotting import Cameras, Spots, Spotter, Tracks
from hydra_model.transformer import Conditioning, Transformer

FORM = TransformerConfig(
    dim=48, num_heads=2, ffn_dim=96, num_blocks=3, freq_dim=16, text_dim=0, latent_channels=4,
    window=3, top_k=2, memory_source="context", relevance="attended", projector=False,
    camera="sweep", time_positions="time", space_positions="rays", value_positions="rays",
    memory_stride=(1, 1, 1),
    scene_flow=SceneFlowConfig(after=2, hidden=16, reach=4, num_blocks=1, tracks=2),
    detail=DetailConfig(dim=24, num_heads=2, ffn_dim=48, num_blocks=2, top_k=2),
)  # fmt: skip
AHEAD = Cameras(torch.zeros(1, 4, 2), torch.tensor([0.0, 1.0]).expand(1, 4, 2))
TIMES = torch.arange(-4.0, 0)


def rays(rows: int, columns: int, frames: int, samples: int = 1) -> Tensor:
    """The camera channels of a camera that looks ahead and stands still."""
    direction = F.normalize(
        central_rays((rows, columns), aspect=rows / columns, fov_x=1.2, device=torch.device("cpu")),
        dim=-1,
    )
    rest = torch.zeros(rows * columns, camera_channels("sweep") - 3)
    return torch.cat((direction, rest), -1).expand(samples, frames, -1, -1)


def spots(subject: Tensor, place: Tensor, kind: Tensor) -> Spots:
    """Spots ``[1, Tc, P]`` that err little, and look as their ``kind`` does."""
    look = F.one_hot(kind, 16).float()
    return Spots(torch.where(subject, 5.0, -5.0), place, torch.full_like(place, -4.0), look)


def test_positions_that_look_alike_make_a_track() -> None:
    # Two walk towards each other, five metres ahead; a third position shows nothing.
    there = torch.linspace(-2.0, -1.1, 4)
    place = torch.stack(
        [torch.stack((x, torch.full_like(x, 5.0)), -1) for x in (there, -there, 0 * there)], 1
    )[None]
    kind = torch.tensor([0, 1, 1]).expand(1, 4, 3)
    shown = torch.tensor([True, True, False]).expand(1, 4, 3)
    tracks = Spotter(4, 6).tracks(spots(shown, place, kind), AHEAD, TIMES, 3)
    assert tracks.part[0].tolist() == [[0, 1, -1]] * 4
    torch.testing.assert_close(tracks.place[0, :2], place[0, :, :2].transpose(0, 1))
    assert tracks.seen[0].tolist() == [[True] * 4, [True] * 4, [False] * 4]
    led = torch.rand(1, 4, 3, KNOTS, 2)
    torch.testing.assert_close(tracks.lead(led)[0, 1], led[0, :, 1])
    # A token of three positions; a track is told of those that show it.
    features = torch.rand(1, 4, 1, 1, 6)
    told = tracks.hints(features, (1, 3))
    torch.testing.assert_close(told[0, :2], features[:, :, 0, 0].repeat(2, 1, 1))


def test_one_body_is_in_one_place() -> None:
    place = torch.tensor([[0.0, 5], [0.3, 5], [4.0, 5]]).expand(1, 4, 3, 2)
    shown = torch.ones(1, 4, 3, dtype=torch.bool)
    # The second has another colour and stands where the first does, the third looks like it.
    kind = torch.tensor([0, 1, 0]).expand(1, 4, 3)
    told = spots(shown, place, kind)
    told = told._replace(subject=told.subject + torch.tensor([1.0, 0, 0]))
    tracks = Spotter(4, 6).tracks(told, AHEAD, TIMES, 3)
    assert tracks.part[0].tolist() == [[0, 0, 1]] * 4


def test_nobody_jumps() -> None:
    place = torch.tensor([0.0, 5]).repeat(1, 4, 1, 1)
    place[0, 2, 0, 0] = 9.0
    shown = torch.ones(1, 4, 1, dtype=torch.bool)
    tracks = Spotter(4, 6).tracks(
        spots(shown, place, torch.zeros(1, 4, 1, dtype=torch.int64)), AHEAD, TIMES, 2
    )
    assert tracks.seen[0].tolist() == [[True, True, False, True], [False, False, True, False]]


def a_walk(mirrored: Tensor | None = None) -> tuple[Tensor, Told]:
    """One who walks aside by 0.2 metres a frame, and what is told of it."""
    place = torch.tensor([1.0, 5.0]) + torch.tensor([0.2, 0.0]) * TIMES[:, None]
    cameras = Cameras(AHEAD.place, AHEAD.facing)
    seen = torch.ones(1, 4, dtype=torch.bool)
    error = torch.full((1, 4, 2), -4.0)
    led, hints = torch.zeros(1, 4, KNOTS, 2), torch.zeros(1, 4, 6)
    return place, tell(
        place[None], error, seen, TIMES[None], cameras, led, hints, mirrored=mirrored
    )


def test_a_line_goes_on_straight() -> None:
    place, told = a_walk()
    later = torch.tensor([[0.0, 10.0]])
    torch.testing.assert_close(
        told.world(told.line(later))[0], torch.tensor([[1.0, 5.0], [3.0, 5.0]])
    )
    torch.testing.assert_close(told.world(told.place)[0], place)
    _, mirrored = a_walk(torch.tensor([True]))
    torch.testing.assert_close(mirrored.place * torch.tensor([1.0, -1.0]), told.place)
    torch.testing.assert_close(mirrored.world(mirrored.place)[0], place)


def some_mixture() -> Mixture:
    torch.manual_seed(0)
    scale = torch.rand(2, 3, 4, 2) + 0.2
    return Mixture(
        torch.randn(2, 3, 4).log_softmax(-1), torch.randn(2, 3, 4, 2), scale, torch.randn(2, 3, 4)
    )


def test_a_mixture_is_one_of_gaussians() -> None:
    own = some_mixture()
    corner = torch.zeros(2, 3, 4, 2, 2)
    corner[..., 0, 0], corner[..., 1, 0], corner[..., 1, 1] = (
        own.scale[..., 0], own.across, own.scale[..., 1],
    )  # fmt: skip
    expected = MixtureSameFamily(
        Categorical(logits=own.share), MultivariateNormal(own.mean, scale_tril=corner)
    )
    place = torch.randn(2, 3, 2)
    torch.testing.assert_close(
        own.log_density(place), expected.log_prob(place), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize(("seen_from", "aside", "sure"), [(0.9, 20.0, 0.0), (0.1, 1.5, 0.4)])
def test_who_may_be_in_the_picture_is_told_to_be_there(
    seen_from: float, aside: float, sure: float
) -> None:
    _, told = a_walk()
    # With 60% it has gone far to the side; two parts of 20% are in the picture.
    there = torch.tensor([[20.0, 5.0], [1.5, 5.0], [1.5, 5.0]])
    share = torch.tensor([0.6, 0.2, 0.2]).log().view(1, 1, 3)
    own = Mixture(
        share, told.local(there[None])[:, None], torch.full((1, 1, 3, 2), 0.1), torch.zeros(1, 1, 3)
    )
    cameras = Cameras(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 1.0]]]))
    best, likely = own.best(told, cameras, torch.full((1, 1), 0.6), seen_from)
    torch.testing.assert_close(told.world(best)[0, 0], torch.tensor([aside, 5.0]))
    torch.testing.assert_close(likely, torch.tensor([[sure]]), atol=0.01, rtol=0)


def test_the_answer_does_not_depend_on_where_the_world_has_its_origin() -> None:
    torch.manual_seed(0)
    net = Foreseer(6, width=16, parts=3, hints=4).eval()
    place = torch.randn(1, 4, 2) + torch.tensor([0.0, 5])
    seen = torch.tensor([[True, True, False, True]])
    error, later = torch.full((1, 4, 2), -4.0), torch.arange(3.0)[None]
    led, hints = torch.randn(1, 4, KNOTS, 2), torch.randn(1, 4, 6)
    turn = torch.tensor([[math.cos(1), -math.sin(1)], [math.sin(1), math.cos(1)]])

    def answer(by: Tensor, shift: Tensor) -> Tensor:
        def moved(x: Tensor) -> Tensor:
            return x @ by.T + shift

        own, ahead = (
            Cameras(moved(torch.zeros(1, n, 2)), (torch.tensor([0.0, 1.0]) @ by.T).expand(1, n, 2))
            for n in (4, 3)
        )
        told = tell(moved(place), error, seen, TIMES[None], own, moved(led), hints)
        return told.world(net(told, ahead, later).mean)[0], moved

    with torch.inference_mode():
        there, _ = answer(torch.eye(2), torch.zeros(2))
        elsewhere, moved = answer(turn, torch.tensor([3.0, -2.0]))
    torch.testing.assert_close(elsewhere, moved(there), atol=1e-4, rtol=1e-4)


SURE = torch.tensor([[0.9, 0.5]])


def standing(part: Tensor) -> Tracks:
    """Tracks of which the first stands five metres ahead, in all frames."""
    place = torch.tensor([0.0, 5.0]).expand(1, 2, 4, 2)
    seen = torch.ones(1, 2, 4, dtype=torch.bool)
    return Tracks(place, 0 * place, seen, part, torch.zeros(1, 2, 4, part.shape[-1]))


def test_a_subject_carries_its_parts_along() -> None:
    own = Foresight(FORM)
    part = torch.full((1, 4, 24), -1)
    part[..., 8], part[..., 9] = 0, 1
    ahead = torch.tensor([[0.0, 5.0], [2.0, 5.0]])[None, None].expand(1, 2, 2, 2)
    carried = own.carried(standing(part), ahead, SURE, rays(4, 6, 4), (4, 6))
    assert carried.points.shape == (1, 2, 4, 24, 3)
    assert carried.told[0, 0].nonzero()[:, 0].tolist() == [8, 9]
    assert carried.moving[0, 0, 8]
    torch.testing.assert_close(carried.sure[0, 0, 8:10], SURE[0])
    before, after = carried.points[0, :, 0, 8]
    ray = rays(4, 6, 1)[0, 0, 8, :3]
    torch.testing.assert_close(F.normalize(before, dim=-1), ray)  # it stays on its own ray
    torch.testing.assert_close(after - before, torch.tensor([2.0, 0.0, 0.0]))
    # Coarse tokens are of the subject that they show most of.
    tokens = own.carried(standing(part), ahead, SURE, rays(2, 3, 4), (4, 6))
    assert tokens.told[0, 0].nonzero()[:, 0].tolist() == [1]


def test_keys_stand_out_as_far_as_it_is_sure_where_subjects_will_be() -> None:
    form = dataclasses.replace(FORM.scene_flow, emphasis=1.5, tracks=0)  # type: ignore[type-var]
    own = SceneFlow(dataclasses.replace(FORM, scene_flow=form))
    flow = Flow(torch.zeros(2, 1, 4), torch.ones(2, 1, 4, KNOTS, 3).cumsum(-2))
    told = torch.tensor([True, True, True, False]).expand(2, 1, 4)
    moving = torch.tensor([True, True, False, True]).expand(2, 1, 4)
    sure = torch.tensor([[0.9, 0.5, 0.9, 0.9], [0.2, 0.4, 0.9, 0.9]])[:, None]
    carried = Carried(torch.zeros(2, 1, 1, 4, 3), told, moving, sure)
    keys = own.emphasise(torch.ones(2, 1, 4, 6), flow, carried)
    expected = torch.tensor([[1.5, 1.25, 1.0, 1.0], [1.0, 1.125, 1.0, 1.0]])
    torch.testing.assert_close(keys[:, 0, :, 0], expected)
    # Where nobody is followed, what moves by the scene flow stands out.
    partly = carried._replace(followed=torch.tensor([True, False]))
    keys = own.emphasise(torch.ones(2, 1, 4, 6), flow, partly)
    torch.testing.assert_close(keys[:, 0, :, 0], torch.stack((expected[0], torch.full((4,), 1.5))))


def conditioned(model: Transformer, **more: Any) -> Conditioning:
    torch.manual_seed(1)
    fine = rays(4, 6, 7)
    with torch.inference_mode():
        return model.prepare(
            torch.randn(1, 4, 4, 4, 6), rays(2, 3, 4), rays(2, 3, 3), context_times=TIMES,
            target_times=torch.arange(3.0), detail_camera=fine, **more,
        )  # fmt: skip


def test_only_what_is_found_is_carried() -> None:
    torch.manual_seed(0)
    model = Transformer(FORM).eval()
    plain_flow = dataclasses.replace(FORM.scene_flow, tracks=0)  # type: ignore[type-var]
    plain = Transformer(dataclasses.replace(FORM, scene_flow=plain_flow)).eval()
    weights = {n: v for n, v in model.state_dict().items() if "foresight" not in n}
    plain.load_state_dict(weights)
    without = conditioned(plain).moves
    flow = model.scene_flow
    assert flow is not None and flow.foresight is not None and without is not None
    bias = flow.foresight.spot.leave[-1].bias
    with torch.no_grad():
        bias[0] = -20.0
        nobody = conditioned(model).moves
        bias[0] = 20.0
        everywhere = conditioned(model).moves
        unfollowed = conditioned(model, followed=torch.tensor([False])).moves
    torch.testing.assert_close(nobody, without)
    torch.testing.assert_close(unfollowed, without)
    assert everywhere is not None and not torch.allclose(everywhere, without, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tracks": -1}, "scene_flow.tracks is -1; accepted: 0 or more"),
        ({"seen_from": 1.5}, "scene_flow.seen_from is 1.5; accepted: 0 to 1"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, float], message: str) -> None:
    flow = dataclasses.replace(FORM.scene_flow, **change)  # type: ignore[type-var]
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FORM, scene_flow=flow)


def test_subjects_are_followed_at_a_detail_scale() -> None:
    with pytest.raises(ValueError, match="needs a detail scale"):
        dataclasses.replace(FORM, detail=None)
