# SPDX-License-Identifier: Apache-2.0
"""Lifecycle transitions that are asked for in the wrong state, refused with a message."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Let ``~/change_state`` answer with success false, where rclpy would raise and end the node.

    Looked up before, not caught after: whatever a possible transition raises is still raised.
    """
    # rclpy has no public way to them; the service's callback is read at every call.
    machine, service = node._state_machine, node._service_change_state
    change_state = service.callback

    def checked(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        wanted = request.transition
        possible = {label: number for number, label, *_ in machine.available_transitions}
        # As rclpy does, a label goes before an id.
        if wanted.label in possible if wanted.label else wanted.id in possible.values():
            return change_state(request, response)
        _, state = machine.current_state
        named = repr(wanted.label) if wanted.label else _name(machine, wanted.id)
        listed = ", ".join(f"{label!r} ({number})" for label, number in possible.items())
        node.get_logger().warning(
            f"transition {named} is not possible from the state {state!r}; "
            f"possible: {listed or 'none'}"
        )
        response.success = False
        return response

    service.callback = checked


def _name(machine: object, number: int) -> str:
    """Return a transition's label and id, its id alone where there is none of that id."""
    labels = [label for id, label, *_ in machine.transition_graph if id == number]
    return f"{labels[0]!r} ({number})" if labels else str(number)
