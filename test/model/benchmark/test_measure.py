# SPDX-License-Identifier: Apache-2.0
"""What is compared is timed in turn, and each by its own path."""

import torch
from small_transformers import random_model

from hydra_model.benchmark.measure import measure_in_turn
from hydra_model.benchmark.variants import applied, readable, variants

CPU = torch.device("cpu")


def calls_in_turn(repeats: int) -> str:
    calls: list[str] = []
    found = measure_in_turn(lambda: calls.append("a"), lambda: calls.append("b"), CPU,
                            repeats=repeats, warm_up=1)  # fmt: skip
    assert [m.repeats for m in found] == [repeats, repeats]
    return "".join(calls)


def test_two_pieces_of_work_take_turns_after_warming_up():
    assert calls_in_turn(1) == "ab" + "ab"
    assert calls_in_turn(2) == "ab" + "abab"
    assert calls_in_turn(7) == "ab" + "aabb" + "aabb" + "aaabbb"


def test_a_variant_is_put_aside_for_the_readable_path_and_taken_again():
    for form in ({}, {"memory_source": "context", "text_dim": 0}):
        model = random_model(**form)
        plain = [vars(module).copy() for module in model.modules()]
        variant = variants(model, CPU)[1]
        with applied(variant, model):
            fast = [vars(module).copy() for module in model.modules()]
            assert fast != plain
            with readable(model):
                assert [vars(module) for module in model.modules()] == plain
            assert [vars(module) for module in model.modules()] == fast
        assert [vars(module) for module in model.modules()] == plain
