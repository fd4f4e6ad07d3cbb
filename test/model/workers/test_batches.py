# SPDX-License-Identifier: Apache-2.0
from hydra_model.workers.batches import partition


def test_every_candidate_is_in_one_batch():
    batches = partition([18, 9, 18, 27, 9], samples=3, width=4)
    members = [member for batch in batches for member in batch]
    assert sorted(members) == [(path, sample) for path in range(5) for sample in range(3)]
    assert max(map(len, batches)) == 4


def test_only_paths_of_equal_length_share_a_batch_and_the_longest_come_first():
    lengths = [9, 18, 9, 27]
    batches = partition(lengths, samples=1, width=4)
    assert [[lengths[path] for path, _ in batch] for batch in batches] == [[27], [18], [9, 9]]


def test_paths_of_one_length_are_split_as_they_come():
    assert partition([9] * 5, samples=1, width=2) == [[(0, 0), (1, 0)], [(2, 0), (3, 0)], [(4, 0)]]
