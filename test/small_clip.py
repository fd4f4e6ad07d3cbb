# SPDX-License-Identifier: Apache-2.0
"""A CLIP vision model of random weights that runs in a moment."""

from pathlib import Path

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel


def write_clip(folder: Path) -> Path:
    """Write the model to ``folder``, as transformers keeps it, and return the folder."""
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        image_size=64, patch_size=8,
    )  # fmt: skip
    CLIPVisionModel(config).save_pretrained(folder)
    return folder
