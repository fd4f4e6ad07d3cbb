# SPDX-License-Identifier: Apache-2.0
"""What the node says of itself on /diagnostics."""

from __future__ import annotations

from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from std_msgs.msg import Header

# Below this a realtime simulator is behind the wall clock rather than unlucky once.
SLOW = 0.9


@dataclass(kw_only=True)
class Counters:
    """What became of commands and observations, since the node started."""

    refused: int = 0  # bad input, or at the wrong time
    dropped: int = 0  # good, but the queue was full or the world was replaced
    observations_taken: int = 0
    observations_refused: int = 0
    observations_skipped: int = 0  # good, but faster than observation_rate


@dataclass(frozen=True, kw_only=True)
class Status:
    """One look at the simulator; times in seconds."""

    state: str  # unconfigured, inactive, starting, running, no world
    mode: str
    counters: Counters
    model: str = ""
    device: str = ""
    world: str = ""
    real_time_factor: float | None = None  # None before the first chunk
    latency: float = 0.0
    chunk_seconds: float = 0.0
    simulated_time: float = 0.0
    memory_size: int = 0  # latent frames
    memory_bytes: int = 0  # of the live world, wherever they are
    memory_device_bytes: int = 0  # of it and of all kept states, by place
    memory_host_bytes: int = 0
    memory_disk_bytes: int = 0
    frames_published: int = 0
    frames_waiting: int = 0
    frames_commanded: int = 0
    problem: str = ""  # the last failure, "" after the next success


def diagnostic_level(status: Status) -> tuple[bytes, str]:
    """Return the level and the one line that sums the status up."""
    if status.problem:
        return DiagnosticStatus.ERROR, status.problem
    if status.state == "no world":
        return DiagnosticStatus.WARN, "no world was started: call ~/reset"
    factor = status.real_time_factor
    if status.mode == "realtime" and factor is not None and factor < SLOW:
        return DiagnosticStatus.WARN, f"slower than real time: {factor:.2f}"
    return DiagnosticStatus.OK, status.state


def diagnostic_message(status: Status, name: str, header: Header) -> DiagnosticArray:
    """Return the message for /diagnostics; ``name`` is the node's."""
    level, message = diagnostic_level(status)
    factor = status.real_time_factor
    values = {
        "state": status.state,
        "mode": status.mode,
        "world": status.world,
        "device": status.device,
        "real_time_factor": "unknown" if factor is None else f"{factor:.2f}",
        "latency_s": f"{status.latency:.3f}",
        "chunk_s": f"{status.chunk_seconds:.3f}",
        "simulated_time_s": f"{status.simulated_time:.3f}",
        "memory_latent_frames": str(status.memory_size),
        "memory_megabytes": f"{status.memory_bytes / 1e6:.1f}",
        "memory_device_megabytes": f"{status.memory_device_bytes / 1e6:.1f}",
        "memory_host_megabytes": f"{status.memory_host_bytes / 1e6:.1f}",
        "memory_disk_megabytes": f"{status.memory_disk_bytes / 1e6:.1f}",
        "frames_published": str(status.frames_published),
        "frames_waiting": str(status.frames_waiting),
        "frames_commanded": str(status.frames_commanded),
        "commands_refused": str(status.counters.refused),
        "commands_dropped": str(status.counters.dropped),
        "observations_taken": str(status.counters.observations_taken),
        "observations_refused": str(status.counters.observations_refused),
        "observations_skipped": str(status.counters.observations_skipped),
    }
    return DiagnosticArray(
        header=header,
        status=[
            DiagnosticStatus(
                level=level,
                name=f"{name}: simulator",
                message=message,
                hardware_id=status.model,
                values=[KeyValue(key=key, value=value) for key, value in values.items()],
            )
        ],
    )
