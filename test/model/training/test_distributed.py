# SPDX-License-Identifier: Apache-2.0
"""Where a process of a training run computes."""

import pytest
import torch

from hydra_model.training.distributed import join


def test_a_device_that_is_not_there_is_refused(monkeypatch) -> None:
    with pytest.raises(ValueError, match="device 'gpu'; accepted: auto, cpu, cuda"):
        join("gpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="'cuda:9'; accepted: auto, cpu, cuda:0 to cuda:1"):
        join("cuda:9")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="'cuda:2'; accepted: auto, cpu, cuda:0 to cuda:1"):
        join("cuda")
