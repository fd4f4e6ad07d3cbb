# SPDX-License-Identifier: Apache-2.0
"""The procedural world as a data set: endless, a clip per seed."""

from __future__ import annotations

from hydra_model.config import ModelConfig
from hydra_model.datasets.clips import Clip
from hydra_model.procedural import episode


class ProceduralClips:
    """``count`` procedural worlds from seed ``first_seed`` on, at the model's size and rate.

    Each world gets the camera family that training would give its seed, unless ``family``
    names one. Rendered where ``device`` says.
    """

    def __init__(
        self,
        config: ModelConfig,
        count: int,
        *,
        first_seed: int = 0,
        family: str | None = None,
        device: str = "cpu",
    ) -> None:
        if count < 1 or first_seed < 0:
            raise ValueError(
                f"count is {count} and first_seed {first_seed}; accepted: at least 1 and at least 0"
            )
        self.config, self.count, self.first_seed = config, count, first_seed
        self.family, self.device = family, device

    @property
    def title(self) -> str:
        return f"procedural worlds {self.first_seed} to {self.first_seed + self.count - 1}"

    def names(self) -> list[str]:
        return [f"world-{self.first_seed + i}" for i in range(self.count)]

    def survey(self, index: int) -> None:
        """Nothing can be wrong with a world that is made from its seed."""

    def captions(self) -> list[str]:
        return []

    def load(self, index: int) -> Clip:
        config, video = self.config, self.config.video
        shown = episode(
            self.first_seed + index, family=self.family, style=config.world_style,
            context_frames=config.context_frames, target_frames=config.chunk_frames,
            height=video.height, width=video.width, fov_x=video.fov_x, fps=video.fps,
            device=self.device,
        )  # fmt: skip
        return Clip(
            name=self.names()[index],
            fps=video.fps,
            fov_x=video.fov_x,
            context_frames=shown.context_frames,
            target_frames=shown.target_frames,
            context_poses=shown.context_poses,
            target_poses=shown.target_poses,
            context_masks=shown.context_masks,
            target_masks=shown.target_masks,
        )
