# SPDX-License-Identifier: Apache-2.0
"""Training's retrieval attention and its gradients are those of the readable form.

Without a GPU they run in Triton's interpreter, and are compiled for GPUs that are not there.
"""

from pathlib import Path

import pytest
import torch
from triton_process import CAPABILITIES, compile_only, interpret, needs_triton

from hydra_model import attention
from hydra_model.config import ModelConfig
from hydra_model.training.transformer import use_kernels
from hydra_model.transformer import Transformer

HERE = Path(__file__).parent


@needs_triton
def test_the_kernels_agree_with_the_readable_form() -> None:
    interpret(HERE / "retrieval_kernel_checks.py")


@needs_triton
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_kernels_compile_for_gpus(capability: int, tmp_path: Path) -> None:
    printed = compile_only(HERE / "retrieval_kernel_compilation.py", capability, tmp_path)
    for kernel in ("_forward", "_backward_query", "_backward_keys"):
        assert f"{kernel}: 2" in printed


@needs_triton
def test_other_sizes_are_refused() -> None:
    from hydra_model.training.retrieval_kernels import retrieval_attention

    frames, memory = torch.zeros(1, 3, 8, 32), torch.zeros(1, 2, 4, 32)
    window = attention.window_frames(3, 3, frames.device)
    selected = torch.zeros(1, 3, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match="memory tokens as many as tokens"):
        retrieval_attention(frames, frames, frames, memory, memory, window, selected, 2)


def test_a_model_on_a_cpu_keeps_the_readable_form() -> None:
    model = Transformer(ModelConfig.from_name("default").transformer)
    use_kernels(model)
    own = model.layers[0].self_attention
    assert own.attend_frames is attention.retrieval_attention
