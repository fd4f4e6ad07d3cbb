# SPDX-License-Identifier: Apache-2.0
"""The dynamic-subject score with a tiny CLIP: boxes, features, and subjects that vanished."""

import pytest
import small_clip
import torch

from hydra_model.evaluation.dsc import (
    DynamicSubjectScore,
    best_box,
    mask_boxes,
    open_dsc,
    subject_features,
)
from hydra_model.evaluation.perceptual import Unavailable, open_lpips


@pytest.fixture(scope="module")
def dsc(tmp_path_factory) -> DynamicSubjectScore:
    found = open_dsc(small_clip.write_clip(tmp_path_factory.mktemp("clip")))
    assert isinstance(found, DynamicSubjectScore)
    return found


def clip(left: int, colour: tuple[int, int, int], frames: int = 4):
    video = torch.full((frames, 48, 80, 3), 90, dtype=torch.uint8)
    masks = torch.zeros(frames, 48, 80, dtype=torch.uint8)
    video[:, 10:30, left : left + 20] = torch.tensor(colour, dtype=torch.uint8)
    masks[:, 10:30, left : left + 20] = 1
    return video, masks


def test_boxes_enclose_masks_and_tiny_masks_have_none() -> None:
    masks = torch.zeros(3, 48, 80)
    masks[0, 10:30, 5:25] = 1
    masks[1, 4, 4] = 1
    boxes = mask_boxes(masks)
    assert boxes[0].tolist() == [5, 10, 25, 30]
    assert boxes[1:].isnan().all()


def test_features_are_taken_where_the_box_is_even_at_the_edge() -> None:
    """Where a centre crop would have cut the subject away."""
    patches = torch.zeros(2, 2, 8, 8)
    patches[:, 0] = 1
    patches[0, :, :, 6:] = torch.tensor([0.0, 1.0]).view(2, 1, 1)
    boxes = torch.tensor([[70.0, 0.0, 80.0, 48.0]] * 2)
    found = subject_features(patches, boxes, (48, 80))
    assert torch.allclose(found, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), atol=1e-6)


def test_the_same_subject_scores_one_and_another_less(dsc) -> None:
    video, masks = clip(30, (220, 40, 40))
    context, context_masks = clip(10, (220, 40, 40))
    same = dsc.score(video, video, context, masks, context_masks)
    other = dsc.score(clip(30, (40, 60, 220))[0], video, context, masks, context_masks)
    assert same.truth == pytest.approx(1, abs=1e-3)
    assert other.truth < same.truth and other.context < same.context


def test_a_vanished_subject_counts_as_nothing(dsc) -> None:
    video, masks = clip(30, (220, 40, 40))

    def half_of_them(frames, boxes):
        return torch.where(torch.arange(len(boxes))[:, None] % 2 == 0, boxes, torch.nan)

    with_detector = DynamicSubjectScore(dsc.network, half_of_them)
    assert with_detector.score(video, video, video, masks, masks).truth == pytest.approx(0.5)

    def nothing(frames, boxes):
        return torch.full_like(boxes, torch.nan)

    blind = DynamicSubjectScore(dsc.network, nothing)
    scores = blind.score(video, video, video, masks, masks)
    assert scores.truth == 0 and scores.context == 0


def test_a_clip_without_a_visible_subject_has_no_score(dsc) -> None:
    video, masks = clip(30, (220, 40, 40))
    assert dsc.score(video, video, video, 0 * masks, masks).truth is None
    assert dsc.score(video, video, video, masks, 0 * masks).context is None


def test_of_detections_the_one_that_overlaps_most_is_taken() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 15, 15], [40, 40, 50, 50]])
    assert best_box(boxes, torch.tensor([6.0, 6, 15, 15])).tolist() == [5, 5, 15, 15]
    assert best_box(boxes, torch.tensor([60.0, 60, 65, 65])).isnan().all()
    assert best_box(boxes[:0], boxes[0]).isnan().all()


def test_what_cannot_be_had_says_why(tmp_path) -> None:
    for found in (open_dsc(None), open_dsc(tmp_path), open_lpips()):
        if isinstance(found, Unavailable):
            assert found.reason
    assert "--clip-weights" in open_dsc(None).reason
    assert str(tmp_path) in open_dsc(tmp_path).reason
