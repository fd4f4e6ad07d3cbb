# SPDX-License-Identifier: Apache-2.0
"""The published decoder for Wan 2.1: its tensors with made-up values, and its plain form.

Names and shapes are those of taew2_1.pth (github.com/madebyollin/taehv).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from hydra_model.config import AutoencoderConfig
from small_models import CONFIG, write_model

# Layer by its number: a convolution [out, in, kernel] with or without bias, or a memory block.
CONVOLUTIONS = {
    1: (256, 16, 3, True),
    8: (128, 256, 3, False),
    14: (64, 128, 3, False),
    20: (64, 64, 3, False),
    22: (3, 64, 3, True),
}
GROWING = {7: (256, 256, 1), 13: (256, 128, 2), 19: (128, 64, 2)}  # the last: frames of one
MEMORY_BLOCKS = {3: 256, 4: 256, 5: 256, 9: 128, 10: 128, 11: 128, 15: 64, 16: 64, 17: 64}


def tensors(seed: int = 0) -> dict[str, Tensor]:
    """Return values that keep the size of what goes through, with two of the encoder's."""
    shapes: dict[str, tuple[int, ...]] = {}
    for number, (out, into, kernel, bias) in CONVOLUTIONS.items():
        shapes[f"decoder.{number}.weight"] = (out, into, kernel, kernel)
        if bias:
            shapes[f"decoder.{number}.bias"] = (out,)
    for number, (out, into, _) in GROWING.items():
        shapes[f"decoder.{number}.conv.weight"] = (out, into, 1, 1)
    for number, width in MEMORY_BLOCKS.items():
        for place, into in ((0, 2 * width), (2, width), (4, width)):
            shapes[f"decoder.{number}.conv.{place}.weight"] = (width, into, 3, 3)
            shapes[f"decoder.{number}.conv.{place}.bias"] = (width,)
    shapes |= {"encoder.0.weight": (64, 3, 3, 3), "encoder.17.bias": (16,)}
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        scale = (1.3 / torch.Size(shape[1:]).numel()) ** 0.5 if len(shape) > 1 else 0.1
        made[name] = scale * torch.randn(shape, generator=generator)
    made["decoder.22.weight"] *= 0.3
    made["decoder.22.bias"] += 0.5  # mid grey
    return made


def decode(weights: dict[str, Tensor], latents: Tensor) -> Tensor:
    """Decode ``[1, 16, k, h, w]`` one picture after another, layer by layer in their order."""
    memory: dict[int, Tensor] = {}

    def conv(name: str, x: Tensor) -> Tensor:
        weight = weights[f"{name}.weight"]
        return F.conv2d(x, weight, weights.get(f"{name}.bias"), padding=weight.shape[-1] // 2)

    def run(x: Tensor, number: int) -> list[Tensor]:
        if number > 22:
            return [x]
        if number in MEMORY_BLOCKS:
            y = torch.cat((x, memory.get(number, torch.zeros_like(x))), 1)
            memory[number] = x
            y = conv(f"decoder.{number}.conv.0", y).relu()
            y = conv(f"decoder.{number}.conv.2", y).relu()
            x = (conv(f"decoder.{number}.conv.4", y) + x).relu()
        elif number in GROWING:
            frames = conv(f"decoder.{number}.conv", x).chunk(GROWING[number][2], 1)
            return [picture for frame in frames for picture in run(frame, number + 1)]
        elif number in CONVOLUTIONS:
            x = conv(f"decoder.{number}", x)
        elif number == 0:
            x = 3 * torch.tanh(x / 3)
        elif number in (2, 21):
            x = x.relu()
        else:  # 6, 12, 18
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        return run(x, number + 1)

    pictures = [picture for latent in latents.unbind(2) for picture in run(latent, 0)]
    return torch.stack(pictures, 2).clamp(0, 1)[:, :, 3:] * 2 - 1


def write_world(folder: Path) -> Path:
    """Write a small model with latents of Wan 2.1, and the decoder's file; return its path."""
    autoencoder = AutoencoderConfig(base_dim=4, num_res_blocks=1)
    transformer = {**vars(CONFIG.transformer), "latent_channels": 16}
    write_model(
        folder / "model",
        autoencoder=autoencoder,
        transformer=type(CONFIG.transformer)(**transformer),
    )
    path = folder / "taew2_1.pth"
    torch.save({name: value.half() for name, value in tensors().items()}, path)
    return path
