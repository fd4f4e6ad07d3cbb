# SPDX-License-Identifier: Apache-2.0
"""Training foresight: what is true of tracks, how they err, and a run that is resumed."""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from hydra_model.checkpoints import load_config, load_transformer, save_model_folder
from hydra_model.config import SceneFlowConfig
from hydra_model.evaluation.predictors import untrained_model
from hydra_model.foresight import Foresight
from hydra_model.procedural import render_worlds, sample_worlds
from hydra_model.procedural.motion import MAX_SUBJECTS
from hydra_model.spotting import Cameras, Spots
from hydra_model.training.command import read_settings
from hydra_model.training.distributed import Process
from hydra_model.training.foresight import ForesightTraining, told_of, whole_layout
from hydra_model.training.foresight_run import run_foresight
from hydra_model.training.journal import Journal
from hydra_model.training.procedural_run import Length, ProceduralRun
from hydra_model.training.seeing import found_walks, see
from hydra_model.training.state import load_run
from hydra_model.training.walks import (
    BACK,
    NEVER_LEFT,
    SEEN,
    UNSEEN,
    Errors,
    Walks,
    draw_walks,
    in_sight,
    kinds,
)
from small_trainings import DETAIL, SHORT

CPU = Process(0, 1, torch.device("cpu"))


def test_what_frames_see_of_a_subject() -> None:
    times, later = torch.arange(-6.0, 0), torch.arange(8.0)
    seen = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]]).bool()
    then = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 0], [1] * 8, [1, 1, 0, 1, 0, 0, 0, 0]]).bool()
    expected = [
        [UNSEEN, BACK, BACK, BACK, BACK, SEEN, UNSEEN, UNSEEN],
        [NEVER_LEFT] * 8,
        [SEEN, SEEN, UNSEEN, SEEN, UNSEEN, UNSEEN, UNSEEN, UNSEEN],
    ]
    assert kinds(seen, then, times, later, 15.0).tolist() == expected


def drawn(count: int = 32) -> Walks:
    seeds = torch.arange(700_000_000, 700_000_000 + count)
    return draw_walks(SHORT, seeds, whole_layout(0, 0, SHORT), "rich")


def test_drawn_tracks_are_true_and_seen() -> None:
    walks = drawn()
    assert len(walks) > 16  # of up to three in each world, whom two seconds see
    torch.testing.assert_close(walks.place, walks.stood)
    assert walks.seen.any(1).all() and not walks.leads.any()
    assert {UNSEEN, SEEN} <= set(walks.kind.unique().tolist())
    # Nobody walks faster than 1.2 metres a second.
    speed = walks.then.diff(dim=1).norm(dim=-1) * SHORT.video.fps / 4
    assert 0.2 < speed.max() < 1.3


def test_a_subject_is_in_sight_where_pictures_show_it() -> None:
    worlds = sample_worlds(range(700_000_000, 700_000_006), style="rich")
    times = torch.arange(0.0, 5.0, dtype=torch.float64)
    _, poses, ids = render_worlds(worlds, times, height=96, width=160, supersample=1)
    shown = torch.stack([(ids == s + 1).sum((-2, -1)) for s in range(MAX_SUBJECTS)], 1)
    told = in_sight(
        dataclasses.replace(
            SHORT, video=dataclasses.replace(SHORT.video, height=96, width=160)
        ), worlds, poses, times,
    )  # fmt: skip
    assert told[shown > 40].float().mean() > 0.95
    assert told[shown == 0].float().mean() < 0.05


def test_drawn_tracks_err_as_found_ones_do() -> None:
    walks, generator = drawn(64), torch.Generator().manual_seed(0)
    first = Errors(CPU.device)
    values = [[-4.0, -3.0], [0.3, 0.2], [0.2, 0.1], [1.5, 0.8], [0.6, 0.3]]
    first.values, first.weight = torch.tensor(values), 1.0
    again = Errors(CPU.device)
    for _ in range(4):
        again.update(first.disturb(walks, generator, 3))
    told, between, within, ratio, shared = again.values / again.weight
    torch.testing.assert_close(told, torch.tensor(values[0]), atol=0.1, rtol=0)
    torch.testing.assert_close(between, torch.tensor(values[1]), atol=0.15, rtol=0)
    torch.testing.assert_close(within, torch.tensor(values[2]), atol=0.15, rtol=0)
    torch.testing.assert_close(ratio, torch.tensor(values[3]), atol=0, rtol=0.25)
    torch.testing.assert_close(shared, torch.tensor(values[4]), atol=0.25, rtol=0)


def test_a_mirrored_track_is_told_mirrored() -> None:
    walks, generator = drawn(8), torch.Generator().manual_seed(0)
    plain, told = told_of(walks), told_of(walks, generator)
    sides = torch.linalg.det(told.axes)
    assert set(sides.round().int().tolist()) == {-1, 1}
    assert (torch.linalg.det(plain.axes) > 0).all()
    assert (told.seen <= walks.seen).all() and told.seen.any(1).all()
    # What blocks made of a sighting knows left from right.
    found = told_of(dataclasses.replace(walks, leads=torch.ones_like(walks.leads)), generator)
    assert (torch.linalg.det(found.axes) > 0).all()


def a_model(folder: Path) -> Path:
    """A miniature model with a scene flow, untrained."""
    flow = SceneFlowConfig(after=1, hidden=16, num_blocks=1)
    form = dataclasses.replace(SHORT.transformer, detail=DETAIL, scene_flow=flow)
    model = untrained_model(dataclasses.replace(SHORT, transformer=form))
    save_model_folder(
        folder, model.config, transformer=model.transformer, autoencoder=model.autoencoder
    )
    return folder


@pytest.fixture
def every_track(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained network takes everything for a subject: its tracks count all the same."""
    monkeypatch.setattr("hydra_model.training.seeing._ONE_SUBJECT", 0.0)
    monkeypatch.setattr("hydra_model.spotting._SUBJECT", 0.3)


def settings(folder: Path, source: Path, **more: Any) -> ProceduralRun:
    own = ForesightTraining(
        worlds=2, tracks=4, updates=1, kept=8, drawn=20, see_first=1, first_step=3
    )
    return ProceduralRun(
        output=str(folder), start_from=str(source), foresight=own, compiled=False, device="cpu",
        foresight_length=Length(steps=4), **more,
    )  # fmt: skip


@pytest.mark.usefixtures("every_track")
def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    source = a_model(tmp_path / "source")
    for name, legs in (("unbroken", (None,)), ("broken", (2, None))):
        for leg in legs:
            folder = tmp_path / name
            journal = Journal(folder, tensorboard=False)
            run_foresight(settings(folder, source, leg_steps=leg), CPU, journal)
            journal.close()
    one, other = (
        load_run(tmp_path / name / "foresight.run", CPU.device) for name in ("unbroken", "broken")
    )
    assert one is not None and other is not None and one["step"] == other["step"] == 4
    assert one["kept"]["count"] > 0
    for name, value in one["model"].items():
        torch.testing.assert_close(other["model"][name], value, atol=0, rtol=0)
    folder = tmp_path / "broken" / "with-foresight"
    assert load_config(folder).transformer.scene_flow.tracks == 3  # type: ignore[union-attr]
    model, was = load_transformer(folder), load_transformer(source)
    assert model.scene_flow is not None and model.scene_flow.foresight is not None
    torch.testing.assert_close(model.head.linear.weight, was.head.linear.weight)
    learned = model.scene_flow.foresight.foresee.answer.weight.float()
    torch.testing.assert_close(
        learned, one["average"]["weights"]["foresee.answer.weight"], atol=0, rtol=1e-2
    )
    # What reckons with metres stays float32 in a model that runs in half precision.
    half = load_transformer(folder, dtype=torch.bfloat16).scene_flow
    assert half is not None and half.foresight is not None
    assert half.foresight.foresee.answer.weight.dtype == torch.float32
    assert half.foresight.spot.enter.weight.dtype == torch.bfloat16


@pytest.mark.usefixtures("every_track")
def test_the_truth_of_tracks_that_are_found() -> None:
    model = untrained_model(SHORT)
    worlds = sample_worlds(range(700_000_000, 700_000_004), style="rich")
    layout = whole_layout(0, 0, SHORT)
    seen = see(SHORT, model.autoencoder, model.transformer, layout, worlds)
    subject, shown = seen.foremost()
    assert shown.any()
    place = seen.stood(subject)
    look = torch.nn.functional.one_hot(subject, 16).float()
    spots = Spots(
        torch.where(shown, 5.0, -5.0), place, torch.full_like(place, -4.0), look
    )
    foresight = Foresight(
        dataclasses.replace(
            SHORT.transformer,
            scene_flow=dataclasses.replace(SHORT.transformer.scene_flow, tracks=3),  # type: ignore[type-var]
        )
    )
    cameras = Cameras.of(seen.rays)
    tracks = foresight.spot.tracks(spots, cameras, seen.times, 3)
    walks = found_walks(seen, tracks, foresight.patch)
    assert len(walks) >= 2 and walks.leads.all()
    torch.testing.assert_close(walks.place[walks.seen], walks.stood[walks.seen])
    # The subject goes on from where it stood: a frame later it is not far away.
    last = walks.stood[:, -1]
    assert (walks.then[:, 0] - last).norm(dim=-1).max() < 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"output": "x", "foresight_length": {"steps": 1}}, "start_from is empty"),
        ({"output": "x", "start_from": "y"}, "foresight_length is empty"),
        ({"recipe": "finetune", "output": "x"}, "train foresight has no such recipe"),
        ({"output": "x", "foresight": {"subjects": 0}}, "subjects"),
    ],
)
def test_a_wrong_config_is_refused(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(values))
    options = argparse.Namespace(
        stage="foresight", config=path, preset=None, overrides=[], synthetic=None,
        world_style=None, output=None,
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        read_settings(options)


def test_a_model_without_scene_flow_has_no_foresight(tmp_path: Path) -> None:
    form = dataclasses.replace(SHORT.transformer, scene_flow=None)
    model = untrained_model(dataclasses.replace(SHORT, transformer=form))
    save_model_folder(
        tmp_path / "m", model.config, transformer=model.transformer, autoencoder=model.autoencoder
    )
    journal = Journal(tmp_path / "run", tensorboard=False)
    with pytest.raises(ValueError, match="no scene flow"):
        run_foresight(settings(tmp_path / "run", tmp_path / "m"), CPU, journal)
    journal.close()
