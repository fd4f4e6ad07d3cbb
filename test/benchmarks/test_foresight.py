# SPDX-License-Identifier: Apache-2.0
"""The benchmark of foresight: what its network is told, and that it measures as evaluation does."""

import dataclasses

import pytest
import torch

from benchmarks.foresight import CONTEXT, Foresight, Tracks, main, make_tracks, perceive
from hydra_model.evaluation.worlds import EVALUATION_SEEDS_START
from hydra_model.procedural.motion import PLAIN, RICH


@pytest.fixture(scope="module")
def tracks() -> Tracks:
    return make_tracks(range(40), RICH, exact=False)


def answers(tracks: Tracks, *, noisy: bool) -> torch.Tensor:
    torch.manual_seed(0)
    net = Foresight().eval()
    frames = torch.tensor([3, 40, 76]).expand(len(tracks), -1)
    with torch.no_grad():
        seen = perceive(tracks, torch.full((len(tracks),), noisy))
        return seen.world(net(seen, frames).mean)


@pytest.mark.parametrize("noisy", [False, True])
def test_it_is_told_no_position_of_a_frame_that_does_not_show_the_subject(tracks, noisy):
    hidden = ~tracks.visible
    hidden[:, CONTEXT:] = True
    assert hidden[:, :CONTEXT].any()
    elsewhere = dataclasses.replace(
        tracks,
        path=torch.where(hidden[..., None], tracks.path + 5.0, tracks.path),
        visible=torch.cat([tracks.visible[:, :CONTEXT], ~tracks.visible[:, CONTEXT:]], 1),
        event=torch.zeros_like(tracks.event),
        size=tracks.size + 1,
        kind=tracks.kind + 1,
    )
    told = answers(tracks, noisy=noisy)
    assert told.isfinite().all()
    assert torch.equal(answers(elsewhere, noisy=noisy), told)


def test_a_line_through_what_was_seen_of_a_straight_walker_is_its_path(tracks):
    seen = perceive(tracks, torch.zeros(len(tracks), dtype=torch.bool))
    well_seen = (tracks.kind == 0) & (tracks.visible[:, :CONTEXT].sum(1) >= 10)
    times = torch.tensor([1.0, 4.0])
    line = seen.world(seen.line(times))[well_seen]
    truth = tracks.path[well_seen][:, CONTEXT + torch.tensor([14, 59])]
    assert len(line) >= 5
    torch.testing.assert_close(line, truth, rtol=0, atol=0.01)


def test_visibility_without_pictures_is_nearly_that_of_pictures():
    seeds = range(EVALUATION_SEEDS_START, EVALUATION_SEEDS_START + 3)
    nearly, exactly = (make_tracks(seeds, RICH, exact=exact) for exact in (False, True))
    assert len(nearly) == len(exactly)
    assert (nearly.visible == exactly.visible).float().mean() > 0.9


def test_it_prints_what_it_measured(capsys):
    main(["--style", PLAIN, "--worlds", "4", "--training-worlds", "96", "--minutes", "0.02"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert rows == [
        "", "straight continuation", "foresight", "straight continuation, noisy",
        "foresight, noisy",
    ]  # fmt: skip
