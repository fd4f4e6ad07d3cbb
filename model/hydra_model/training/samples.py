# SPDX-License-Identifier: Apache-2.0
"""What a model in training makes of a held-out world, as a video and as a picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from hydra_model.autoencoder import Autoencoder
from hydra_model.config import ModelConfig
from hydra_model.evaluation.predictors import LoadedModel, ModelPredictor
from hydra_model.evaluation.worlds import EVALUATION_SEEDS_START
from hydra_model.pictures import contact_sheet, side_by_side
from hydra_model.procedural import episode
from hydra_model.training.journal import Journal
from hydra_model.transformer import Transformer
from hydra_model.video import write_video


@torch.inference_mode()
def show_world(
    config: ModelConfig,
    autoencoder: Autoencoder,
    weights: dict[str, Tensor],
    device: torch.device,
    folder: Path,
    step: int,
    journal: Journal,
) -> Path:
    """Predict the first held-out world; write truth beside prediction and return the path."""
    dtype = next(autoencoder.parameters()).dtype
    transformer = Transformer(config.transformer).to(device, dtype)
    transformer.load_state_dict({name: value.to(dtype) for name, value in weights.items()})
    model = LoadedModel(config, autoencoder, transformer.eval())
    video = config.video
    world = episode(
        EVALUATION_SEEDS_START, style=config.world_style, context_frames=config.context_frames,
        target_frames=config.chunk_frames, height=video.height, width=video.width,
        fov_x=video.fov_x, fps=video.fps, device=device,
    )  # fmt: skip
    predictor = ModelPredictor("model", model, config.sampler.steps)
    frames, context, target = (
        torch.from_numpy(values)[None].to(device)
        for values in (world.context_frames, world.context_poses, world.target_poses)
    )
    guess = predictor.predict(frames, context, target, [world.seed])[0].cpu().numpy()
    path = folder / "samples" / f"step-{step:08d}.mp4"
    write_video(path, side_by_side(world.target_frames, guess), video.fps)
    rows = [("truth", world.target_frames), ("prediction", guess)]
    journal.picture("sample", contact_sheet(rows, 6), step)
    journal.say(f"truth and prediction of world {world.seed}: {path}")
    return path
