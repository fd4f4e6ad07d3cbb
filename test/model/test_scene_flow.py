# SPDX-License-Identifier: Apache-2.0
"""Scene flow: memory stands where what it shows will be seen."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from hydra_model.config import DetailConfig, SceneFlowConfig, TransformerConfig
from hydra_model.evaluation.ablations import attend_to_everything
from hydra_model.rays import camera_channels
from hydra_model.rope import ray_channels, ray_rotation, rotate, value_rotation
from hydra_model.scene_flow import KNOTS, Flow, SceneFlow, memory_turns
from hydra_model.transformer import Conditioning, Transformer

FORM = TransformerConfig(
    dim=48, num_heads=2, ffn_dim=96, num_blocks=3, freq_dim=16, text_dim=0, latent_channels=4,
    window=3, top_k=2, memory_source="context", relevance="attended", projector=False,
    camera="sweep", time_positions="time", space_positions="rays", value_positions="rays",
    memory_stride=(1, 1, 1), scene_flow=SceneFlowConfig(after=2, hidden=16, reach=4, num_blocks=1),
    detail=DetailConfig(dim=24, num_heads=2, ffn_dim=48, num_blocks=2, top_k=2),
)  # fmt: skip


def random_transformer(form: TransformerConfig = FORM) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(form).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def camera_along(directions: Tensor, origins: Tensor) -> Tensor:
    """Camera channels ``[B, T, N, channels]`` of which rays and origins alone are known."""
    shape = directions.shape[:-1]
    rest = torch.zeros(*shape, camera_channels("sweep") - 6)
    return torch.cat((directions, origins.expand(*shape, 3), rest), -1)


def still_flow(metres: float, *shape: int) -> Flow:
    return Flow(torch.full(shape, math.log(metres)), torch.zeros(*shape, KNOTS, 3))


def test_a_place_is_found_where_it_is_seen_from_elsewhere() -> None:
    own = SceneFlow(FORM)
    camera = camera_along(torch.tensor([0.0, 0.0, 1.0]).view(1, 1, 1, 3), torch.zeros(3))
    # Ten metres ahead; the camera goes ten to the left, and up by ten.
    origins = torch.tensor([[[0.0, 0, 0], [-10, 0, 0], [0, -10, 0]]])
    moves = own.moves(still_flow(10.0, 1, 1, 1), camera, origins, torch.arange(3.0))
    assert moves.shape == (1, 3, 1, 1, 2)
    eighth = math.pi / 4
    expected = torch.tensor([[0.0, 0], [0, eighth], [eighth, 0]])
    torch.testing.assert_close(moves[0, :, 0, 0], expected, atol=1e-5, rtol=0)


def test_what_walks_is_found_on_its_way() -> None:
    own = SceneFlow(FORM)  # reaches 4 latent frames: a knot a frame
    camera = camera_along(torch.tensor([0.0, 0.0, 1.0]).view(1, 1, 1, 3), torch.zeros(3))
    flow = still_flow(10.0, 1, 1, 1)
    flow.displacement[..., 0] = torch.tensor([0.0, 0.5, 1.0, 1.0, 2.0])
    times = torch.tensor([0.0, 0.5, 1.0, 2.5, 4.0, 4.5])
    moves = own.moves(flow, camera, torch.zeros(1, 6, 3), times)
    expected = torch.tensor([0.0, 0.25, 0.5, 1.0, 2.0, 2.5]).atan()
    torch.testing.assert_close(moves[0, :, 0, 0, 1], expected, atol=1e-5, rtol=0)
    assert moves[..., 0].abs().max() < 1e-6


def test_what_is_turned_on_is_as_if_it_had_been_seen_there() -> None:
    torch.manual_seed(0)
    head, rows, columns = 32, 3, 5
    there = torch.nn.functional.normalize(torch.randn(1, 4, rows, columns, 3), dim=-1)
    now = torch.nn.functional.normalize(torch.randn(1, 4, rows, columns, 3), dim=-1)
    grid = (torch.arange(4.0), torch.arange(rows), torch.arange(columns))

    def placed(directions: Tensor):
        by = ray_rotation(*grid, directions, head)
        return dataclasses.replace(by, value=value_rotation(grid[0], directions, head))

    def look(directions: Tensor) -> Tensor:
        x, y, z = directions.flatten(2, 3).unbind(-1)
        return torch.stack((torch.atan2(y, torch.hypot(x, z)), torch.atan2(x, z)), -1)

    before, after = placed(there), placed(now)
    moves = (look(now) - look(there))[:, None]  # of one target frame
    chosen = torch.tensor([[[2, 0]]])
    turns = memory_turns(moves, chosen, before)
    assert turns.value is not None and before.value is not None and after.value is not None
    x = torch.randn(1, 4 * rows * columns, 2, head)
    for own, other, turn in ((before, after, turns.key), (before.value, after.value, turns.value)):
        old, new = (
            rotate(x, by).unflatten(1, (4, -1))[:, [2, 0]].flatten(1, 2) for by in (own, other)
        )
        old_turned = old.clone()
        old_turned[..., turn.channels] = rotate(old[..., turn.channels], turn.by)
        torch.testing.assert_close(old_turned, new, atol=1e-4, rtol=1e-4)
        assert (old - new).abs().max() > 0.1
    # All channels that stand for rays are among those that turn, and not much more.
    rays = ray_channels(head)
    assert rays[turns.key.channels].sum() == rays.sum()
    assert turns.key.channels.stop - turns.key.channels.start < head


def run(model: Transformer, shift: float = 0.0) -> Tensor:
    """Return a prediction; the target's cameras stand ``shift`` metres aside."""
    generator = torch.Generator().manual_seed(1)

    def cameras(tokens: int) -> Tensor:
        camera = torch.randn(2, 8, tokens, camera_channels("sweep"), generator=generator)
        camera[..., :3] = torch.nn.functional.normalize(camera[..., :3], dim=-1)
        camera[..., 3:6] = 0
        camera[:, 5:, :, 3] = shift
        return camera

    camera, detail = cameras(15), cameras(60)
    latents = torch.randn(2, 4, 8, 6, 10, generator=generator)
    with torch.no_grad():
        conditioning = model.prepare(
            latents[:, :, :5], camera[:, :5], camera[:, 5:], context_times=torch.arange(-5.0, 0),
            target_times=torch.arange(3.0), detail_camera=detail,
        )  # fmt: skip
        return model(latents[:, :, 5:], torch.tensor([0.9, 0.4]), conditioning)


def test_where_nothing_moves_memory_stays_where_it_was_seen() -> None:
    model = random_transformer()
    own = model.scene_flow
    assert own is not None
    for layer in (own.enter, own.leave):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    plain = random_transformer(dataclasses.replace(FORM, scene_flow=None))
    plain.load_state_dict(model.state_dict(), strict=False)
    # The same block by the same chosen frames, without a word of where they are.
    last = plain.layers[-1]
    frames: list[Tensor] = []
    before = plain.layers[-2].target

    def keep(*given):
        x, selected = before(*given)
        frames.append(selected)
        return x, selected

    def take(x, time, text, camera, by, memory):
        return last.refine(x, time, text, camera, by, memory, frames[-1]), frames[-1]

    plain.layers[-2].target = keep  # type: ignore[method-assign]
    last.target = take  # type: ignore[method-assign]
    torch.testing.assert_close(run(model), run(plain), atol=1e-5, rtol=1e-4)
    assert (run(model, shift=3.0) - run(plain, shift=3.0)).abs().max() > 1e-4


@torch.no_grad()
def test_dense_attention_sees_all_target_frames_and_all_that_moved() -> None:
    model = random_transformer(dataclasses.replace(FORM, window=1))
    own = model.layers[-1].self_attention
    camera = camera_along(torch.randn(1, 6, 15, 3), torch.zeros(3))
    by, memory_by = model.rotations(torch.arange(6.0), (3, 5), camera)
    memory = own.memorise(torch.randn(1, 6, 3, 5, FORM.dim), memory_by)
    chosen = torch.arange(6).expand(1, 6, 6)
    turns = memory_turns(torch.randn(1, 6, 6, 15, 2), chosen, by)
    y = torch.randn(1, 6, 3, 5, FORM.dim)
    other = y.clone()
    other[:, 5] += 1

    def difference() -> float:
        first, second = (
            own.retrieve_chosen(x, by, memory, chosen, turns)[:, 0] for x in (y, other)
        )
        return float((first - second).abs().max())

    assert difference() == 0
    attend_to_everything(model)
    assert difference() > 1e-4


def test_models_without_scene_flow_have_no_weights_of_it() -> None:
    names = Transformer(dataclasses.replace(FORM, scene_flow=None)).state_dict()
    assert not any("scene_flow" in name for name in names)
    assert any("scene_flow" in name for name in Transformer(FORM).state_dict())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_stride": (2, 1, 1)}, "memory_stride"),
        ({"time_positions": "slot"}, "time_positions 'time'"),
        ({"scene_flow": SceneFlowConfig(after=4, num_blocks=1)}, "scene_flow.after is 4"),
        ({"scene_flow": SceneFlowConfig(after=1, num_blocks=3)}, "scene_flow.num_blocks is 3"),
        ({"scene_flow": SceneFlowConfig(after=1, num_blocks=1, reach=0)}, "scene_flow.reach"),
        ({"scene_flow": SceneFlowConfig(after=1, num_blocks=1, emphasis=0)}, "flow.emphasis is 0"),
    ],
)
def test_a_form_that_cannot_be_is_named(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(FORM, **changes)


def prepared(form: TransformerConfig) -> Conditioning:
    model = random_transformer(form)
    assert model.scene_flow is not None
    model.scene_flow.leave.weight.data *= 0.1  # so that some of it moves, and some does not
    model.scene_flow.leave.bias.data.zero_()
    generator = torch.Generator().manual_seed(1)
    channels = camera_channels("sweep")

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    with torch.no_grad():
        return model.prepare(
            normal(1, 4, 4, 4, 8), normal(1, 4, 8, channels), normal(1, 3, 8, channels),
            context_times=torch.arange(4.0) - 4, target_times=torch.arange(3.0),
            detail_camera=normal(1, 7, 32, channels),
        )  # fmt: skip


def test_keys_of_what_moves_by_itself_stand_out_where_memory_follows_it() -> None:
    assert FORM.scene_flow is not None
    more = dataclasses.replace(FORM.scene_flow, emphasis=1.5)
    plain, emphasised = prepared(FORM), prepared(dataclasses.replace(FORM, scene_flow=more))
    assert plain.detail is not None
    assert emphasised.detail is not None
    pairs = [*zip(plain.memories, emphasised.memories, strict=True)]
    for before, after in pairs[:-1]:  # the last block of three retrieves by the flow
        assert torch.equal(before.key, after.key)
    scales = [pairs[-1], *zip(plain.detail.memories, emphasised.detail.memories, strict=True)]
    for before, after in scales:
        ratio = after.key / before.key
        moves = (ratio - 1.5).abs() < 1e-5
        assert (moves | ((ratio - 1).abs() < 1e-5)).all()
        assert torch.equal(moves.any(-1), moves.all(-1))  # of whole tokens
        assert 0 < moves.float().mean() < 1
        assert torch.equal(before.value, after.value)


def test_what_moves_goes_a_tenth_of_its_distance_while_the_target_lasts() -> None:
    displacement = torch.zeros(1, 1, 3, KNOTS, 3)
    displacement[0, 0, 0, :, 0] = 0.5  # told a little aside, and stays there
    displacement[0, 0, 1, :, 2] = torch.linspace(0, 0.09, KNOTS)
    displacement[0, 0, 2, :, 2] = torch.linspace(0, -0.11, KNOTS)
    assert Flow(torch.zeros(1, 1, 3), displacement).moving.tolist() == [[[False, False, True]]]
