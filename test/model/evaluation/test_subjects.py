# SPDX-License-Identifier: Apache-2.0
"""A subject counts as hit where it is drawn in its place and colour, and only there."""

import numpy as np
import pytest
import torch

from hydra_model.evaluation.events import find_events, stayed_in_view
from hydra_model.evaluation.subjects import SubjectTruth, score_subjects, subject_truth

HEIGHT, WIDTH = 96, 160
CONTEXT, TARGET, FPS = 20, 40, 15.0
RED, GREEN, BLUE, GREY = (230, 30, 30), (30, 220, 40), (40, 60, 235), (120, 126, 118)
RETURN = 10  # target frame in which the red subject is back
Box = tuple[int, int, int, int]  # left, top, width, height
RED_AT: Box = (70, 40, 10, 24)
GREEN_AT: Box = (20, 42, 9, 20)


def paint(frames: torch.Tensor, box: Box, colour: tuple[int, int, int]) -> torch.Tensor:
    left, top, width, height = box
    frames = frames.clone()
    frames[..., top : top + height, max(left, 0) : left + width, :] = torch.tensor(
        colour, dtype=torch.uint8
    )
    return frames


def blank(count: int) -> torch.Tensor:
    frames = torch.empty(1, count, HEIGHT, WIDTH, 3, dtype=torch.uint8)
    return frames.copy_(torch.tensor(GREY, dtype=torch.uint8).expand_as(frames))


def shift(box: Box, pixels: float) -> Box:
    return (box[0] + round(pixels), *box[1:])


def scene() -> tuple[torch.Tensor, torch.Tensor]:
    """Red is seen early, leaves, and is back in the target; green never leaves."""
    frames, ids = blank(CONTEXT + TARGET), torch.zeros(1, CONTEXT + TARGET, HEIGHT, WIDTH)
    ids = ids.to(torch.uint8)
    for times in (slice(0, 5), slice(CONTEXT + RETURN, None)):
        frames[:, times] = paint(frames[:, times], RED_AT, RED)
        ids[:, times, 40:64, 70:80] = 1
    frames = paint(frames, GREEN_AT, GREEN)
    ids[:, :, 42:62, 20:29] = 2
    return frames, ids


@pytest.fixture(scope="module")
def truth() -> SubjectTruth:
    return subject_truth(*scene(), context_frames=CONTEXT, subjects=3, fps=FPS)


def prediction(red: Box | None = RED_AT, colour: tuple[int, int, int] = RED) -> torch.Tensor:
    """The target with the red subject drawn elsewhere, in another colour, or not at all."""
    frames = paint(blank(TARGET), GREEN_AT, GREEN)
    if red is not None:
        frames[:, RETURN:] = paint(frames[:, RETURN:], red, colour)
    return frames


def red_scores(truth: SubjectTruth, frames: torch.Tensor) -> dict[str, float]:
    scores = score_subjects(frames, truth)
    red = (truth.subject == 0).numpy()
    assert red.sum() == TARGET - RETURN
    return {name: float(np.mean(value[red])) for name, value in vars(scores).items()}


def test_the_events_are_those_of_the_masks(truth):
    (event,) = truth.events
    assert (event.world, event.subject, event.frames) == (0, 0, tuple(range(RETURN, RETURN + 15)))
    assert event.unseen == pytest.approx((CONTEXT - 5 + RETURN) / FPS)
    assert truth.stayed[0, 1].all()
    assert not truth.stayed[0, 0].any()


def test_the_truth_is_hit_everywhere(truth):
    scores = score_subjects(scene()[0][:, CONTEXT:], truth)
    assert scores.hit.all()
    assert scores.distance.max() < 0.5
    assert not scores.wrong_colour.any()


@pytest.mark.parametrize("direction", [-1, 1])
def test_nine_percent_off_is_a_hit_and_eleven_is_none(truth, direction):
    near = red_scores(truth, prediction(shift(RED_AT, direction * 0.09 * WIDTH)))
    far = red_scores(truth, prediction(shift(RED_AT, direction * 0.11 * WIDTH)))
    assert (near["hit"], far["hit"]) == (1, 0)
    assert near["found"] == far["found"] == 1
    assert far["distance"] == pytest.approx(round(0.11 * WIDTH), abs=0.5)


def test_a_vanished_subject_is_not_found(truth):
    scores = red_scores(truth, prediction(None))
    assert (scores["hit"], scores["found"], scores["wrong_colour"]) == (0, 0, 0)


def test_a_subject_in_another_colour_is_a_miss_and_a_wrong_colour(truth):
    scores = red_scores(truth, prediction(colour=BLUE))
    assert (scores["hit"], scores["found"], scores["wrong_colour"]) == (0, 0, 1)


def test_subjects_that_swapped_colours_are_both_missed(truth):
    frames = paint(blank(TARGET), GREEN_AT, RED)
    frames[:, RETURN:] = paint(frames[:, RETURN:], RED_AT, GREEN)
    scores = score_subjects(frames, truth)
    both = (truth.frame >= RETURN).numpy()
    assert not scores.hit[both].any()
    assert scores.wrong_colour[both].all()


def test_a_stronger_copy_elsewhere_is_a_miss(truth):
    frames = prediction((RED_AT[0], RED_AT[1], 10, 10))
    frames[:, RETURN:] = paint(frames[:, RETURN:], (130, 40, 10, 24), RED)
    assert red_scores(truth, frames)["hit"] == 0


def test_a_few_specks_of_the_colour_are_not_the_subject(truth):
    assert red_scores(truth, prediction((*RED_AT[:2], 5, 6)))["found"] == 0


def test_a_half_faded_ghost_is_not_the_subject(truth):
    ghost = tuple((c + g) // 2 for c, g in zip(RED, GREY, strict=True))
    assert red_scores(truth, prediction(colour=ghost))["found"] == 0


def test_a_muted_background_of_the_same_hue_is_not_the_subject(truth):
    frames = prediction(None)
    frames = torch.where(
        (frames == torch.tensor(GREY)).all(-1, keepdim=True),
        torch.tensor((190, 105, 105), dtype=torch.uint8),
        frames,
    )
    scores = red_scores(truth, frames)
    assert (scores["hit"], scores["found"], scores["wrong_colour"]) == (0, 0, 0)


def test_what_the_context_never_showed_cannot_come_back():
    visible = np.zeros((1, 1, 60), dtype=bool)
    visible[0, 0, 30:] = True
    assert find_events(visible, 20, 15.0) == []
    assert not stayed_in_view(visible, 20).any()
    visible[0, 0, 3] = True
    (event,) = find_events(visible, 20, 15.0)
    assert event.frames == tuple(range(10, 25))


def test_a_gap_below_a_second_is_no_event():
    visible = np.ones((1, 1, 60), dtype=bool)
    visible[0, 0, 18:32] = False
    assert find_events(visible, 20, 15.0) == []
    visible[0, 0, 17] = False
    assert len(find_events(visible, 20, 15.0)) == 1


def test_no_subjects_give_no_scores():
    frames = blank(CONTEXT + TARGET)
    ids = torch.zeros(frames.shape[:-1], dtype=torch.uint8)
    truth = subject_truth(frames, ids, context_frames=CONTEXT, subjects=3, fps=FPS)
    assert len(score_subjects(frames[:, CONTEXT:], truth).hit) == 0
