# SPDX-License-Identifier: Apache-2.0
"""Rollouts beside a realtime stream: it keeps its pace, and they get done."""

import time

import numpy as np
from system.simulator import wait_until

import small_models
from hydra_ros.client import SimulatorClient

SECONDS = 4.0


def pace(client: SimulatorClient) -> float:
    """Return the stream's frames per second over some seconds."""
    frames = client.frames()
    wait_until(lambda: frames, "a frame")
    began, before = time.monotonic(), len(frames)
    time.sleep(SECONDS)
    return (len(frames) - before) / (time.monotonic() - began)


def test_the_stream_keeps_its_frame_rate_while_goals_run(start_simulator, tmp_path):
    small_models.write_model(tmp_path / "tiny")
    parameters = {"model": tmp_path / "tiny", "mode": "realtime", "seed": 5}
    with (
        start_simulator("/realtime_rollouts", **parameters),
        SimulatorClient("/realtime_rollouts") as client,
    ):
        client.wait_for_simulator()
        client.reset("procedural", seed=5)
        alone = pace(client)
        stay = np.tile(np.eye(4), (180, 1, 1))
        goal = client.start_imagining([stay] * 40, relative=True, frames="last")
        wait_until(lambda: goal.progress, "the first chunk of a goal")
        beside = pace(client)
        assert goal.progress.frames_done < goal.progress.frames_total, "too short a goal"
        done = goal.progress.frames_done
        wait_until(lambda: goal.progress.frames_done > done, "another chunk of it")
        goal.cancel()
    # Compared with itself, and loosely: other tests use the processors too, now more and now
    # less. A goal that has not to wait for the stream leaves it a tenth of its rate.
    assert beside > 0.5 * alone
