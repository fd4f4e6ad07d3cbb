# SPDX-License-Identifier: Apache-2.0
"""What the retrieval chose, added up over blocks and steps."""

import numpy as np
import torch

from hydra_model.retrieval import retrieval_matrix


def test_shares_are_of_blocks_and_steps_and_pairs_share_their_value() -> None:
    first, second = torch.tensor([[[0, 2], [1, 2]]]), torch.tensor([[[0, 1], [1, 0]]])
    matrix = retrieval_matrix([first, second], context=6, target=2, memory_stride=2)
    assert matrix.tolist() == [[1, 1, 0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 1, 1, 0.5, 0.5]]


def test_the_released_form_leaves_out_what_is_no_context_and_no_target() -> None:
    # Four context and two target frames; memory frame 2 is made of the target.
    chosen = torch.tensor([[[0, 1], [0, 1], [0, 1], [0, 1], [2, 0], [2, -1]]])
    matrix = retrieval_matrix([chosen], context=4, target=2, memory_stride=2)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]


def test_a_context_frame_that_no_memory_frame_holds_was_never_chosen() -> None:
    matrix = retrieval_matrix([torch.tensor([[[0, 1]]])], context=5, target=1, memory_stride=2)
    assert matrix.shape == (1, 5) and matrix[0, 4] == 0 and np.all(matrix[0, :4] == 1)
