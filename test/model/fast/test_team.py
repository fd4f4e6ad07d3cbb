# SPDX-License-Identifier: Apache-2.0
"""Several processes predict what one does."""

import multiprocessing

import pytest
from small_team import answer_largest_errors
from small_transformers import random_model

from hydra_model.fast.spread import SplitFrames


@pytest.mark.parametrize("processes", [2, 4])
def test_a_team_predicts_what_one_process_does(processes):
    # The leader in a process of its own, so that a test that fails leaves no group behind. Not
    # by fork: threads of PyTorch that earlier tests started do not come along, and the child
    # would wait for them for ever.
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=answer_largest_errors, args=(processes, answers))
    process.start()
    try:
        errors = answers.get(timeout=150)
    finally:
        process.join(5)
        process.kill()
    assert isinstance(errors, dict), errors
    assert set(errors) == {"forward", "pair", "sampling", "odd", "selections"}
    assert max(errors.values()) < 1e-5, errors


def test_frames_that_cannot_be_split_are_named():
    split = SplitFrames.__new__(SplitFrames)
    split.size, split.reach, split.rank, split.group = 4, 1, 0, None
    with pytest.raises(ValueError, match="10 latent frames cannot be split among 4 GPUs"):
        split.check(random_model().config, 10)
