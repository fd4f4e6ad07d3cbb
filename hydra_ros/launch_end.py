# SPDX-License-Identifier: Apache-2.0
"""How a launch ends with its first process, so that `ros2 launch` says whether that failed."""

from __future__ import annotations

from launch.actions import EmitEvent
from launch.events import Shutdown
from launch.events.process import ProcessExited

from launch import LaunchContext


def end_all(event: ProcessExited, context: LaunchContext) -> EmitEvent | None:
    """End the launch because a process ended; for ``OnProcessExit(on_exit=end_all)``.

    Raises:
        RuntimeError: the process failed. The launch then ends the others in good order, and
            `ros2 launch` with exit code 1: only an exception changes that code.
    """
    if context.is_shutdown:  # Ctrl-C, or another process was the first
        return None
    if event.returncode:
        raise RuntimeError(f"{event.process_name} failed with exit code {event.returncode}")
    return EmitEvent(event=Shutdown(reason=f"{event.process_name} has ended"))
