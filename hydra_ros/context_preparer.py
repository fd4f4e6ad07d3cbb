# SPDX-License-Identifier: Apache-2.0
"""What worlds start from, made or read beside the world that runs."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

from hydra_ros.parameters import Settings
from hydra_ros.simulation_thread import Start, WorldFacts
from hydra_ros.starting_world import ContextFormat, starting_world
from hydra_ros.state_store import StateStore

STATE = "state:"  # before the name of a saved state, as a source


class ContextPreparer:
    """Reads or renders what worlds start from on a thread of its own, one after the other.

    Not on the simulation thread: there a bad clip would be found only after the chunk that is
    being simulated, and a good one would keep the running world waiting.
    """

    def __init__(self, states: StateStore) -> None:
        self._states = states
        self._worker = ThreadPoolExecutor(1, "starting-world", initializer=_use_one_core)

    def prepare(
        self, source: str, seed: int, prompt: str, settings: Settings, facts: WorldFacts
    ) -> Future[Start]:
        """Return what a source gives in future; what is empty comes from the parameters.

        An empty source with seed 0 takes the configured seed. A saved state has a seed and a
        prompt of its own.
        """
        if not source:
            source, seed = settings.start_source, seed or settings.seed
        if source.startswith(STATE):
            return self._worker.submit(self._states.load, source.removeprefix(STATE))
        return self._worker.submit(
            starting_world,
            source,
            ContextFormat(
                frames=facts.context_frames,
                height=facts.height,
                width=facts.width,
                fps=facts.fps,
                fov_x=facts.fov_x,
                world_style=facts.world_style,
            ),
            seed=seed,
            prompt=prompt or settings.prompt,
            family=settings.procedural_family,
            clips_folder=settings.clips_folder,
        )

    def close(self) -> None:
        """Forget what waits; what is being made is finished unseen."""
        self._worker.shutdown(wait=False, cancel_futures=True)


def _use_one_core() -> None:
    """Let this thread compute on one core: the others belong to the world that runs."""
    import torch

    torch.set_num_threads(1)
